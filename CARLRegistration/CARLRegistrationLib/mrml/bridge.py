"""Nodes to files and files to nodes. Files are in LPS, nodes in RAS, both in mm; the world is what the views show.

The engine sees every volume where the user sees it: under linear parent transforms the volume's geometry says so;
where a parent transform is not linear, or the voxel axes are not perpendicular (tilted gantry), which files cannot
hold, a copy is resampled onto a grid of perpendicular axes. Nodes that are inputs are never changed.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ..common.errors import RegistrationError

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# A file's direction matrix is stored in single precision by some formats; more than that is a real shear.
_PERPENDICULAR = 1e-4
_LARGEST_RESAMPLED_VOXELS = 600e6
_FIELD_NODES_PER_AXIS = 40


# --- checks ----------------------------------------------------------------------------------------------------------


def checkVolume(node, what: str) -> None:
    """Raise RegistrationError unless the node is a 3-D scalar volume with voxels.

    Args: what: "fixed volume" or "moving volume", for the message.
    """
    if node is None:
        raise RegistrationError(_("Choose a {what}.").format(what=what))
    name = node.GetName()
    if node.IsA("vtkMRMLVectorVolumeNode") or node.IsA("vtkMRMLTensorVolumeNode"):
        raise RegistrationError(
            _(
                "{name}: the {what} must have one value per voxel; this is a color or vector volume. "
                "Convert it with the Vector to Scalar Volume module."
            ).format(name=name, what=what)
        )
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        raise RegistrationError(
            _("{name}: the {what} must be a scalar volume, this is a {kind}.").format(
                name=name, what=what, kind=node.GetNodeTagName()
            )
        )
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        raise RegistrationError(_("{name}: the {what} has no voxels. Load it again.").format(name=name, what=what))
    if image.GetNumberOfScalarComponents() != 1:
        raise RegistrationError(
            _("{name}: the {what} must have one value per voxel, it has {count}.").format(
                name=name, what=what, count=image.GetNumberOfScalarComponents()
            )
        )
    size = image.GetDimensions()
    if min(size) < 2:
        raise RegistrationError(
            _("{name}: the {what} must be 3-D, its size is {size}. Load the whole series.").format(
                name=name, what=what, size=" x ".join(map(str, size))
            )
        )


def checkNotSequence(node, what: str) -> None:
    """Raise RegistrationError for a volume that shows one frame of a sequence: what it shows changes in mid run."""
    for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode"):
        if browser.GetSequenceNode(node) is not None:
            raise RegistrationError(
                _(
                    "{name}: the {what} shows one frame of a sequence. Clone the frame to register (right click in "
                    "the Data module, Clone) and choose the clone."
                ).format(name=node.GetName(), what=what)
            )


# --- geometry --------------------------------------------------------------------------------------------------------


def arrayFrom(matrix) -> np.ndarray:
    """4 x 4 of a vtkMatrix4x4."""
    return np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])


def matrixFrom(array: np.ndarray):
    """vtkMatrix4x4 of a 4 x 4."""
    matrix = vtk.vtkMatrix4x4()
    for i in range(4):
        for j in range(4):
            matrix.SetElement(i, j, float(array[i, j]))
    return matrix


def rasFromIjk(node) -> np.ndarray:
    """4 x 4 of the volume itself, parent transforms aside."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return arrayFrom(matrix)


def worldFromNode(node):
    """The transform from the node's own RAS to the world, a vtkGeneralTransform; identity without a parent."""
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(node.GetParentTransformNode(), None, transform)
    return transform


def linearWorldFromNode(node) -> np.ndarray | None:
    """4 x 4 to the world when all parents are linear, else None."""
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        return None
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return arrayFrom(matrix)


def isPerpendicular(matrix: np.ndarray) -> bool:
    """True when the voxel axes (columns) of a 4 x 4 are at right angles to each other."""
    axes = matrix[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not np.all(np.isfinite(matrix)) or np.any(lengths < 1e-9):
        return False
    cosines = (axes / lengths).T @ (axes / lengths) - np.eye(3)
    return bool(np.abs(cosines).max() < _PERPENDICULAR)


# --- nodes to files --------------------------------------------------------------------------------------------------


def worldImage(node, what: str, labels: bool = False):
    """The volume where the views show it, as a SimpleITK image (LPS), and a note when it had to be resampled.

    labels: nearest neighbor instead of linear interpolation. Raises RegistrationError for a singular geometry.
    """
    return placedImage(node, node.GetImageData(), rasFromIjk(node), what, labels)


def placedImage(node, voxels, own: np.ndarray, what: str, labels: bool):
    """As `worldImage`, for voxels (vtkImageData) with a geometry (4 x 4) in the node's RAS; vectors, too.

    node: whatever has a name and a parent transform.
    """
    import SimpleITK as sitk

    if abs(np.linalg.det(own[:3, :3])) < 1e-12 or not np.all(np.isfinite(own)):
        raise RegistrationError(
            _("{name}: the {what} has a geometry without volume. Set its spacing in the Volumes module.").format(
                name=node.GetName(), what=what
            )
        )
    linear = linearWorldFromNode(node)
    note = ""
    if linear is not None and isPerpendicular(linear @ own):
        array, matrix = _arrayOf(voxels), linear @ own
    else:
        array, matrix = _resampledInWorld(node, voxels, own, what, labels)
        reason = _("voxel axes are not perpendicular") if linear is not None else _("a parent transform is not linear")
        note = _("{name} was resampled onto a regular grid ({reason}).").format(name=node.GetName(), reason=reason)
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    lps = LPS_FROM_RAS @ matrix
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image, note


def _arrayOf(voxels) -> np.ndarray:
    """k, j, i values of vtkImageData, with a fourth axis for vectors; shares memory."""
    from vtk.util.numpy_support import vtk_to_numpy

    values = vtk_to_numpy(voxels.GetPointData().GetScalars())
    return values.reshape(*voxels.GetDimensions()[::-1], *values.shape[1:])


def _resampledInWorld(node, image, own, what: str, labels: bool) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (k, j, i) on a grid along the world's axes that holds the whole volume, and that grid's 4 x 4 in RAS."""
    size = np.array(image.GetDimensions())
    toWorld = worldFromNode(node)
    corners = [np.linspace(-0.5, n - 0.5, 9) for n in size]
    lattice = np.stack(np.meshgrid(*corners, indexing="ij"), axis=-1).reshape(-1, 3)
    points = transformPoints(toWorld, lattice @ own[:3, :3].T + own[:3, 3])
    low, high = points.min(axis=0), points.max(axis=0)
    # A voxel keeps its smallest edge, however the transform scales it.
    edges = np.linalg.norm(own[:3, :3], axis=0)
    spacing = np.full(3, edges.min())
    count = np.maximum(np.ceil((high - low) / spacing).astype(int), 2)
    if not np.all(np.isfinite(points)) or float(np.prod(count.astype(float))) > _LARGEST_RESAMPLED_VOXELS:
        raise RegistrationError(
            _(
                "{name}: the {what} cannot be resampled onto a regular grid of {size} voxels. Harden its transform, or "
                "crop it with the Crop Volume module."
            ).format(name=node.GetName(), what=what, size=" x ".join(map(str, count)))
        )
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = low + 0.5 * spacing
    background = 0.0 if labels else min(0.0, image.GetScalarRange()[0])
    values = resliced(image, own, toWorld.GetInverse(), matrix, count, background, labels=labels)
    return values, matrix


def resliced(
    image, own: np.ndarray, through, matrix: np.ndarray, size, background: float, *, labels=False, scalarType=None
) -> np.ndarray:
    """Voxels (k, j, i), a copy, of vtkImageData on another grid; linear interpolation, nearest neighbor for labels.

    Args: own: 4 x 4 of its voxels to its node's RAS. through: the grid's points (RAS mm) to the node's. matrix, size:
        of the grid (i, j, k). background: where the image does not reach. scalarType: of the result, VTK's constant
        (the image's own).
    """
    toIndex = vtk.vtkGeneralTransform()
    toIndex.PostMultiply()
    toIndex.Concatenate(matrixFrom(matrix))
    toIndex.Concatenate(through)
    toIndex.Concatenate(matrixFrom(np.linalg.inv(own)))
    last = [int(n) - 1 for n in image.GetDimensions()]
    plain = vtk.vtkImageData()
    plain.ShallowCopy(image)
    plain.SetExtent(0, last[0], 0, last[1], 0, last[2])
    plain.SetSpacing(1, 1, 1)
    plain.SetOrigin(0, 0, 0)
    plain.SetDirectionMatrix(1, 0, 0, 0, 1, 0, 0, 0, 1)
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(plain)
    reslice.SetResliceTransform(toIndex)
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputExtent(0, int(size[0]) - 1, 0, int(size[1]) - 1, 0, int(size[2]) - 1)
    if scalarType is not None:
        reslice.SetOutputScalarType(scalarType)
    reslice.SetBackgroundLevel(background)
    reslice.SetInterpolationModeToNearestNeighbor() if labels else reslice.SetInterpolationModeToLinear()
    reslice.Update()
    return _arrayOf(reslice.GetOutput()).copy()


def transformPoints(transform, points: np.ndarray) -> np.ndarray:
    """N x 3 points through a vtkAbstractTransform."""
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    given = vtk.vtkPoints()
    given.SetData(numpy_to_vtk(np.ascontiguousarray(points, dtype=np.float64), deep=True))
    found = vtk.vtkPoints()
    found.SetDataTypeToDouble()
    transform.TransformPoints(given, found)
    return vtk_to_numpy(found.GetData()).copy()


def writeVolume(node, path: Path, what: str) -> tuple[object, str]:
    """Write the volume where the views show it; returns (its SimpleITK image, a note or "")."""
    checkVolume(node, what)
    image, note = worldImage(node, what)
    _writeImage(image, path)
    return image, note


def writeMask(node, segmentId: str, path: Path, onto, what: str) -> None:
    """Write a mask on the grid of an image that `writeVolume` returned.

    Args: node: segmentation or label map; segmentId: one segment, or "" for all of them (or all labels).
    Raises: RegistrationError when it is empty or misses the volume.
    """
    import SimpleITK as sitk

    if node.IsA("vtkMRMLSegmentationNode"):
        image = segmentationImage(node, segmentId, what)
    elif node.IsA("vtkMRMLScalarVolumeNode"):
        checkVolume(node, what)
        image, _note = worldImage(node, what, labels=True)
    else:
        raise RegistrationError(
            _("{name}: the {what} must be a segmentation or a label map.").format(name=node.GetName(), what=what)
        )
    mask = sitk.Cast(image != 0, sitk.sitkUInt8)
    if not sitk.GetArrayViewFromImage(mask).any():
        raise RegistrationError(
            _("{name}: the {what} is empty. Choose another, or none.").format(name=node.GetName(), what=what)
        )
    mask = sitk.Resample(mask, onto, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    if not sitk.GetArrayViewFromImage(mask).any():
        raise RegistrationError(
            _("{name}: the {what} does not touch its volume. Choose another, or none.").format(
                name=node.GetName(), what=what
            )
        )
    _writeImage(mask, path)


def segmentationImage(node, segmentId: str, what: str):
    """One segment or all of them, in the world, as a SimpleITK image of zeros and others."""
    segmentation = node.GetSegmentation()
    if segmentId and segmentation.GetSegment(segmentId) is None:
        raise RegistrationError(
            _("{name}: the segment chosen as {what} is not there any more. Choose another.").format(
                name=node.GetName(), what=what
            )
        )
    ids = [segmentId] if segmentId else list(segmentation.GetSegmentIDs())
    if not ids:
        raise RegistrationError(_("{name}: the {what} has no segments.").format(name=node.GetName(), what=what))
    # On a copy outside the scene: making voxels of a surface would add them to the user's segmentation.
    copy = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentationNode")
    copy.UnRegister(None)
    copy.GetSegmentation().DeepCopy(segmentation)
    wanted = vtk.vtkStringArray()
    for one in ids:
        wanted.InsertNextValue(one)
    voxels = slicer.vtkOrientedImageData()
    union = slicer.vtkSegmentation.EXTENT_UNION_OF_EFFECTIVE_SEGMENTS
    made = copy.CreateBinaryLabelmapRepresentation() and copy.GenerateMergedLabelmapForAllSegments(
        voxels, union, None, wanted
    )
    if not made or min(voxels.GetDimensions()) < 1:
        raise RegistrationError(
            _("{name}: the {what} is empty. Choose another, or none.").format(name=node.GetName(), what=what)
        )
    matrix = vtk.vtkMatrix4x4()
    voxels.GetImageToWorldMatrix(matrix)
    own = arrayFrom(matrix)
    extent = np.array(voxels.GetExtent())[::2]
    own[:3, 3] += own[:3, :3] @ extent  # voxel numbers begin at the extent, arrays at 0
    image, _note = placedImage(node, voxels, own, what, labels=True)
    return image


def segmentInside(node, segmentId: str, onto, what: str) -> np.ndarray:
    """Bool (k, j, i): voxels of a SimpleITK image that lie in one segment, in the world.

    Raises: RegistrationError when the segment is empty.
    """
    import SimpleITK as sitk

    mask = sitk.Cast(segmentationImage(node, segmentId, what) != 0, sitk.sitkUInt8)
    return sitk.GetArrayFromImage(sitk.Resample(mask, onto, sitk.Transform(), sitk.sitkNearestNeighbor, 0)) > 0


def writeInitialTransform(node, path: Path, fixedImage, movingNode) -> None:
    """Write a transform node as the engine's start: fixed to moving points in the world, LPS mm.

    A linear transform is written as such; any other as a displacement field around the fixed volume.
    Args: fixedImage: what `writeVolume` returned. movingNode: must not be under the transform already.
    """
    parent = movingNode.GetParentTransformNode()
    while parent is not None:
        if parent is node:
            raise RegistrationError(
                _(
                    "The moving volume is already placed under {name}, so the registration starts from there. "
                    "Choose no initial transform, or take the volume out of it."
                ).format(name=node.GetName())
            )
        parent = parent.GetParentTransformNode()
    writeTransform(node, path, fixedImage)


def writeTransform(node, path: Path, fixedImage, nodesPerAxis: int = _FIELD_NODES_PER_AXIS) -> None:
    """Write a transform node: an affine, or a field of at most so many nodes per axis around the fixed volume."""
    import SimpleITK as sitk

    fromWorld = vtk.vtkGeneralTransform()
    node.GetTransformFromWorld(fromWorld)
    if node.IsTransformToWorldLinear():
        matrix = vtk.vtkMatrix4x4()
        node.GetMatrixTransformFromWorld(matrix)
        lps = LPS_FROM_RAS @ arrayFrom(matrix) @ LPS_FROM_RAS
        if not np.all(np.isfinite(lps)) or abs(np.linalg.det(lps[:3, :3])) < 1e-9:
            raise RegistrationError(_("{name}: the transform is singular.").format(name=node.GetName()))
        affine = sitk.AffineTransform(3)
        affine.SetMatrix(lps[:3, :3].ravel().tolist())
        affine.SetTranslation(lps[:3, 3].tolist())
        sitk.WriteTransform(affine, str(path))
        return
    field = _fieldAround(fixedImage, fromWorld, nodesPerAxis)
    sitk.WriteTransform(sitk.DisplacementFieldTransform(field), str(path))


def itkKinds() -> set:
    """SimpleITK's kinds of transforms that Slicer writes to files as what they are, and any tool reads."""
    import SimpleITK as sitk

    return {
        sitk.sitkTranslation,
        sitk.sitkScale,
        sitk.sitkEuler,
        sitk.sitkVersorRigid,
        sitk.sitkSimilarity,
        sitk.sitkAffine,
        sitk.sitkDisplacementField,
        sitk.sitkBSplineTransform,
    }


def _fieldAround(image, transformRas, nodesPerAxis: int):
    """Displacements (LPS mm) of a RAS transform on a coarse grid that covers an image and a tenth more."""
    import SimpleITK as sitk

    size, spacing = np.array(image.GetSize()), np.array(image.GetSpacing())
    direction = np.array(image.GetDirection()).reshape(3, 3)
    extent = size * spacing * 1.2
    count = np.minimum(size, nodesPerAxis)
    step = extent / (count - 1)
    origin = np.array(image.GetOrigin()) - direction @ (0.5 * spacing + 0.1 * size * spacing)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in count[::-1]], indexing="ij"), axis=-1)[..., ::-1]
    lps = (index * step) @ direction.T + origin
    flat = lps.reshape(-1, 3)
    flip = np.array([-1.0, -1.0, 1.0])
    moved = transformPoints(transformRas, flat * flip) * flip
    field = sitk.GetImageFromArray((moved - flat).reshape(lps.shape), isVector=True)
    field.SetSpacing(step.tolist())
    field.SetOrigin(origin.tolist())
    field.SetDirection(direction.ravel().tolist())
    return field


def _writeImage(image, path: Path) -> None:
    import SimpleITK as sitk

    try:
        sitk.WriteImage(image, str(path))
    except RuntimeError as error:
        raise RegistrationError(
            _("{path} could not be written; the disk may be full. Free some space and try again.").format(path=path),
            log=str(error),
        ) from error


# --- files to nodes --------------------------------------------------------------------------------------------------


def readVolumeInto(path: Path, node) -> None:
    """Fill a scalar volume node with an image file's voxels and geometry, in the world."""
    import SimpleITK as sitk

    fillVolume(sitk.ReadImage(str(path)), node)


def notANumber(path: Path) -> np.ndarray:
    """Bool (k, j, i): voxels of a .nii.gz of float32 that are NaN. ITK's reader, and so Slicer's, gives 0 for these."""
    with gzip.open(path) as file:
        content = file.read()
    order = "<" if int.from_bytes(content[:4], "little") == 348 else ">"
    size = np.frombuffer(content, f"{order}i2", 8, 40)
    kind = int(np.frombuffer(content, f"{order}i2", 1, 70)[0])
    offset = int(np.frombuffer(content, f"{order}f4", 1, 108)[0])
    if size[0] != 3 or kind != 16:
        raise RegistrationError(
            _("{path} could not be read. Please report this with the log.").format(path=path), unexpected=True
        )
    count = int(np.prod(size[1:4].astype(np.int64)))
    return np.isnan(np.frombuffer(content, f"{order}f4", count, offset)).reshape(size[3:0:-1])


def fillVolume(image, node) -> None:
    """Fill a scalar volume node with a SimpleITK image (LPS mm), placed in the world: without a parent transform."""
    import SimpleITK as sitk

    node.SetAndObserveTransformNodeID(None)
    node.SetIJKToRASMatrix(matrixFrom(rasFromImage(image)))
    slicer.util.updateVolumeFromArray(node, sitk.GetArrayFromImage(image))


def rasFromImage(image) -> np.ndarray:
    """4 x 4 of the voxels of a SimpleITK image (LPS mm) to RAS mm."""
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return LPS_FROM_RAS @ lps


def transformNodeOf(path: Path):
    """A transform file as a node that is in no scene. Raises RegistrationError when Slicer cannot read it."""
    reader = slicer.vtkMRMLTransformNode()
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(reader):
        raise RegistrationError(
            _("{path} could not be read. Please report this with the log.").format(path=path), unexpected=True
        )
    return reader


def readTransform(path: Path):
    """A transform file as a vtkAbstractTransform from parent (world) points to the node's points, RAS mm."""
    given = transformNodeOf(path).GetTransformFromParent()
    found = vtk.vtkGeneralTransform()
    if given.IsA("vtkGeneralTransform"):
        found.DeepCopy(given)
    else:  # one field alone: a general transform cannot be copied from it, but can hold it
        found.Concatenate(given)
    return found
