"""Transform nodes as files that the engine reads, and its files as nodes.

A node stands for its map of world points (from parent): fixed to moving points, as the engine has it. Nodes that are
chained are flattened to the world.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
import vtk
from carlreg.spaces import VolumeGrid
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from . import hierarchy
from .geometry import LPS_FROM_RAS, arrayFrom, matrixFrom, parents, swapRasLps, transformPoints
from .undo import OUTPUT_KINDS, outputRole

_FIELD_NODES_PER_AXIS = 40
_SAMPLED_NODES = 96  # per axis, of a transform that files cannot hold as it is
_SINGULAR = 1e-9
_PROBES = 2000  # points where sampling is compared with the transform itself


def checkNotUnder(fixed, transform) -> None:
    """Raise RegistrationError when the fixed volume (or None) is itself placed under the transform."""
    if transform in parents(fixed):
        raise RegistrationError(
            _(
                "{fixed} is itself placed under {name}. Choose the volume that stays as fixed, or take it out of "
                "the transform."
            ).format(fixed=fixed.GetName(), name=transform.GetName())
        )


def checkTransform(node) -> None:
    """Raise RegistrationError unless the node is a transform with something in it."""
    if node is None:
        raise RegistrationError(_("Choose a transform, or register first."))
    if node.GetTransformFromParent() is None and node.GetTransformToParent() is None:
        raise RegistrationError(_("{name} is empty. Choose another transform.").format(name=node.GetName()))
    for one in [node, *parents(node)]:
        if not one.IsLinear():
            continue
        matrix = vtk.vtkMatrix4x4()
        one.GetMatrixTransformToParent(matrix)  # as it was set: VTK's inverse of a singular matrix is not singular
        values = arrayFrom(matrix)
        if not np.all(np.isfinite(values)) or abs(np.linalg.det(values[:3, :3])) < _SINGULAR:
            raise RegistrationError(
                _("{name}: the transform is singular, it has no inverse. Choose another.").format(name=one.GetName())
            )


def writeInitialTransform(node, path: Path, fixedImage, movingNode) -> None:
    """Write a transform node as the engine's start: fixed to moving points in the world, LPS mm.

    A linear transform is written as such; any other as a displacement field around the fixed volume.
    Args: fixedImage: what `writeVolume` returned. movingNode: must not be under the transform already.
    """
    if node in parents(movingNode):
        raise RegistrationError(
            _(
                "The moving volume is already placed under {name}, so the registration starts from there. "
                "Choose no initial transform, or take the volume out of it."
            ).format(name=node.GetName())
        )
    writeTransform(node, path, fixedImage)


def writeTransform(node, path: Path, fixedImage, nodesPerAxis: int = _FIELD_NODES_PER_AXIS) -> None:
    """Write a transform node: an affine, or a field of at most so many nodes per axis around the fixed volume."""
    import SimpleITK as sitk
    from carlreg.io.writing import write_transform

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
        write_transform(affine, path)
        return
    field = _fieldAround(fixedImage, fromWorld, nodesPerAxis)
    write_transform(sitk.DisplacementFieldTransform(field), path)


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
    covered = VolumeGrid.of(image)
    i, j, k = (min(n, nodesPerAxis) for n in covered.size_ijk)
    step = 1.2 * covered.extent_mm / np.array([i - 1, j - 1, k - 1])
    origin = covered.origin_lps - covered.direction @ (0.5 * covered.spacing + 0.1 * covered.extent_mm)
    grid = VolumeGrid((i, j, k), step, origin, covered.direction)
    lps = grid.centers().reshape(-1, 3)
    moved = swapRasLps(transformPoints(transformRas, swapRasLps(lps)))
    return grid.image((moved - lps).reshape(*grid.shape_dhw, 3))


def writeNode(node, path: Path, around, nodesPerAxis: int = _SAMPLED_NODES) -> str:
    """Write a transform node, checked before, as it acts on points of the world; returns a note where that changes it.

    What files can hold is written exactly: affines, displacement fields, B-splines, one after the other. The rest is
    sampled around an image (SimpleITK), at most so many nodes per axis.
    Raises: RegistrationError without an image where one is needed.
    """
    import SimpleITK as sitk
    from carlreg.io.writing import write_transform

    if node.IsTransformToWorldLinear():
        writeTransform(node, path, around)
        return ""
    chain = [node, *parents(node)]
    parts = []
    for one in chain:  # a point of the world meets the outermost first, the node last
        own = _written(one, path)
        if own is None:
            path.unlink(missing_ok=True)
            return _writeSampled(node, path, around, nodesPerAxis)
        parts += own
    if len(chain) > 1:
        write_transform(sitk.CompositeTransform(parts), path)
    return ""


def _written(node, path: Path) -> list | None:
    """Write a node's own transform (from parent); its parts, the last to act first, or None where ITK knows it not."""
    import SimpleITK as sitk

    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(path))
    try:
        if not storage.WriteData(node):
            return None
        parts = _flat(sitk.ReadTransform(str(path)))
    except RuntimeError:  # a kind that ITK does not know: it leads the other way, or is a spline of landmarks
        return None
    known = itkKinds()
    return parts if all(part.GetTransformEnum() in known for part in parts) else None


def _flat(transform) -> list:
    import SimpleITK as sitk

    found = transform.Downcast() if hasattr(transform, "Downcast") else transform
    if isinstance(found, sitk.CompositeTransform):
        return [part for n in range(found.GetNumberOfTransforms()) for part in _flat(found.GetNthTransform(n))]
    return [found]


def _writeSampled(node, path: Path, around, nodesPerAxis: int) -> str:
    import SimpleITK as sitk
    from carlreg.io.itk_transform import map_points

    if around is None:
        raise RegistrationError(
            _("{name} cannot be written as it is. Choose the volume around which it is sampled.").format(
                name=node.GetName()
            )
        )
    writeTransform(node, path, around, nodesPerAxis)
    written = sitk.ReadTransform(str(path))
    index = np.random.default_rng(0).uniform(-0.5, np.array(around.GetSize()) - 0.5, (_PROBES, 3))
    points = [around.TransformContinuousIndexToPhysicalPoint(one) for one in index.tolist()]
    exact = vtk.vtkGeneralTransform()
    node.GetTransformFromWorld(exact)
    expected = swapRasLps(transformPoints(exact, swapRasLps(np.array(points))))
    error = np.linalg.norm(map_points(written, points) - expected, axis=1)
    spacing = sitk.DisplacementFieldTransform(written).GetDisplacementField().GetSpacing()
    if not np.all(np.isfinite(error)):
        raise RegistrationError(
            _("{name} gives no finite points around its volume. Choose another transform.").format(name=node.GetName())
        )
    return _(
        "{name} was sampled every {mm:.1f} mm, since files cannot hold it as it is: {error:.2g} mm off at most."
    ).format(name=node.GetName(), mm=max(spacing), error=float(error.max()))


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


def readMatrix(path: Path):
    """A file of a linear transform as a vtkMatrix4x4 from parent (world) points to the node's points, RAS mm."""
    matrix = vtk.vtkMatrix4x4()
    transformNodeOf(path).GetMatrixTransformFromParent(matrix)
    return matrix


def addTransform(path: Path, name: str, fixed=None, moving=None):
    """A new transform node of an engine's file: linear where it is. fixed, moving: nodes it leads from and to, or None.

    Raises: RegistrationError when Slicer cannot read it; the scene is unchanged then.
    """
    reader = transformNodeOf(path)
    linear = bool(reader.IsLinear())
    className = "vtkMRMLLinearTransformNode" if linear else "vtkMRMLTransformNode"
    node = slicer.mrmlScene.AddNewNodeByClass(className, slicer.mrmlScene.GenerateUniqueName(name))
    if linear:
        matrix = vtk.vtkMatrix4x4()
        reader.GetMatrixTransformFromParent(matrix)
        node.SetMatrixTransformFromParent(matrix)
    else:
        node.SetAndObserveTransformFromParent(reader.GetTransformFromParent())
    setSides(node, fixed, moving)
    return node


def setSides(node, fixed, moving) -> None:
    """Say which volumes a transform leads from and to; DICOM spatial registration export asks for them."""
    kind = slicer.vtkMRMLTransformNode
    there = [volume is not None and slicer.mrmlScene.IsNodePresent(volume) for volume in (fixed, moving)]
    if all(there):
        hierarchy.addTransform(node, fixed, moving)
    elif there[0]:
        node.SetNodeReferenceID(kind.GetFixedNodeReferenceRole(), fixed.GetID())
    elif there[1]:
        node.SetNodeReferenceID(kind.GetMovingNodeReferenceRole(), moving.GetID())


def sidesOf(node) -> tuple:
    """(fixed, moving) volume nodes that a transform says it leads from and to; None where it does not."""
    kind = slicer.vtkMRMLTransformNode
    found = [
        node.GetNodeReference(role) for role in (kind.GetFixedNodeReferenceRole(), kind.GetMovingNodeReferenceRole())
    ]
    return tuple(one if one is not None and one.IsA("vtkMRMLScalarVolumeNode") else None for one in found)


def setOutputs(node, nodes: dict) -> None:
    """Say on a result's transform what was made with it; nodes: by kind."""
    for kind in OUTPUT_KINDS:
        if kind in nodes:
            node.SetNodeReferenceID(outputRole(kind), nodes[kind].GetID())


def outputsOf(node) -> dict:
    """What was made with a transform and is in the scene, by kind."""
    found = {kind: node.GetNodeReference(outputRole(kind)) for kind in OUTPUT_KINDS}
    return {kind: one for kind, one in found.items() if one is not None}


def lpsPointsThrough(node, points: np.ndarray) -> np.ndarray:
    """N x 3 points (LPS mm) through a transform node (from parent), as the engine takes them through its file."""
    return swapRasLps(transformPoints(node.GetTransformFromParent(), swapRasLps(points)))


def flatTransform(toParent, linear: np.ndarray | None = None):
    """A transform node outside the scene of a vtkAbstractTransform, or of its 4 x 4 when it has one."""
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLTransformNode")
    node.UnRegister(None)
    if linear is not None:
        node.SetMatrixTransformToParent(matrixFrom(linear))
    else:
        copy = vtk.vtkGeneralTransform()  # what the given one is made of may change later
        copy.DeepCopy(toParent)
        node.SetAndObserveTransformToParent(copy)
    return node
