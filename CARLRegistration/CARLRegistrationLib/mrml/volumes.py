"""Volume nodes to images and files, and back.

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
from carlreg.spaces import apply_affine
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from .geometry import (
    isPerpendicular,
    linearWorldFromNode,
    matrixFrom,
    rasFromIjk,
    rasFromImage,
    setGeometry,
    transformPoints,
    worldFromNode,
)

SETTINGS = "CARLRegistration.Settings"  # attribute of what a run made
_LARGEST_RESAMPLED_VOXELS = 600e6


def inputVolumes() -> list:
    """Scalar volumes that may be inputs, in the order of the scene; label maps and results aside."""
    return [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if node.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not node.GetHideFromEditors()
        and node.GetAttribute(SETTINGS) is None
    ]


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
    setGeometry(image, matrix)
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
    index = np.stack(np.meshgrid(*corners, indexing="ij"), axis=-1).reshape(-1, 3)
    points = transformPoints(toWorld, apply_affine(own, index))
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


def writeVolume(node, path: Path, what: str, replaceNotFinite: bool = False) -> tuple[object, str]:
    """Write the volume where the views show it; returns (its SimpleITK image, a note or "").

    replaceNotFinite: voxels that are NaN or infinite become background, the lowest value.
    """
    checkVolume(node, what)
    count = countNotFinite(node) if replaceNotFinite else 0
    image, note = worldImage(node, what)
    if count:
        image = _finite(image)
        replaced = _("{name}: {count} voxels that are NaN or infinite were taken as background.").format(
            name=node.GetName(), count=count
        )
        note = " ".join(filter(None, [note, replaced]))
    writeImage(image, path)
    return image, note


def countNotFinite(node) -> int:
    """Voxels of a volume node that are NaN or infinite."""
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        return 0
    values = _arrayOf(image)
    return int(values.size - np.isfinite(values).sum()) if values.dtype.kind == "f" else 0


def _finite(image):
    import SimpleITK as sitk

    values = sitk.GetArrayFromImage(image)
    good = np.isfinite(values)
    values[~good] = values[good].min() if good.any() else 0
    made = sitk.GetImageFromArray(values)
    made.CopyInformation(image)
    return made


def writeGrid(node, path: Path, what: str, own: bool = False):
    """Write an image of a volume's geometry in the world, without its voxels; returns the image.

    own: the geometry without parent transforms, as in the volume's file.
    """
    import SimpleITK as sitk

    linear = np.eye(4) if own else linearWorldFromNode(node)
    matrix = None if linear is None else linear @ rasFromIjk(node)
    if matrix is not None and isPerpendicular(matrix):
        blank = sitk.Image(list(node.GetImageData().GetDimensions()), sitk.sitkUInt8)
        setGeometry(blank, matrix)
    else:
        image, _note = worldImage(node, what)
        blank = sitk.Image(image.GetSize(), sitk.sitkUInt8)
        blank.CopyInformation(image)
    blank[0, 0, 0] = 1  # an image without any contrast is refused as broken
    writeImage(blank, path, compress=True)
    return blank


def writeImage(image, path: Path, compress: bool = False) -> None:
    """Write an image (SimpleITK), checked to be whole. Raises RegistrationError."""
    from carlreg.io.writing import write_image

    try:
        write_image(image, path, compress)
    except OSError as error:
        raise RegistrationError(
            _("{path} could not be written; the disk may be full. Free some space and try again.").format(path=path),
            log=str(error),
        ) from error


def readVolumeInto(path: Path, node) -> None:
    """Fill a scalar volume node with an image file's voxels and geometry, in the world."""
    import SimpleITK as sitk

    fillVolume(sitk.ReadImage(str(path)), node)


def notANumber(path: Path) -> np.ndarray:
    """Bool (k, j, i): voxels of a .nii.gz that are NaN. ITK's reader, and so Slicer's, gives 0 for these."""
    from carlreg.io.nifti_header import parse

    with gzip.open(path) as file:
        content = file.read()
    header = parse(content)
    if header is None or len(header.sizes) != 3 or header.float_type is None:
        raise RegistrationError(
            _("{path} could not be read. Please report this with the log.").format(path=path), unexpected=True
        )
    values = np.frombuffer(content, header.float_type, header.voxel_count, header.data_offset)
    return np.isnan(values).reshape(header.sizes[::-1])


def fillVolume(image, node) -> None:
    """Fill a scalar volume node with a SimpleITK image (LPS mm), placed in the world: without a parent transform."""
    import SimpleITK as sitk

    node.SetAndObserveTransformNodeID(None)
    node.SetIJKToRASMatrix(matrixFrom(rasFromImage(image)))
    slicer.util.updateVolumeFromArray(node, sitk.GetArrayFromImage(image))


def addLabelMap(path: Path, name: str):
    """A new label map node of an image file; None when no voxel is set."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    if not sitk.GetArrayViewFromImage(image).any():
        return None
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", slicer.mrmlScene.GenerateUniqueName(name))
    fillVolume(image, node)
    node.CreateDefaultDisplayNodes()
    return node
