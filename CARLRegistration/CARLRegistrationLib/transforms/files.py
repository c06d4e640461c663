"""Transform nodes as files that the engine reads, and its files as nodes.

A node stands for its map of world points (from parent): fixed to moving points, as the engine has it. Nodes that are
chained are flattened to the world.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..inspect.case import parents
from ..inspect.evaluation import standIn
from ..mrml import bridge, hierarchy

_SAMPLED_NODES = 96  # per axis, of a transform that files cannot hold as it is
_SINGULAR = 1e-9
_PROBES = 2000  # points where sampling is compared with the transform itself


@dataclass(frozen=True)
class TransformSelection:
    """What the section works on: nodes. Volumes may be missing where nothing asks for them.

    initial: what the moving volume was placed or resampled by before it was registered. inverse: the other way of this
    transform, where the registration made it.
    """

    transform: object = None
    fixed: object = None
    moving: object = None
    initial: object = None
    inverse: object = None

    def check(self) -> None:
        """Raise RegistrationError for what can be seen to be wrong at once."""
        checkTransform(self.transform)
        if self.fixed is not None:
            bridge.checkVolume(self.fixed, _("fixed volume"))
        if self.moving is not None:
            bridge.checkVolume(self.moving, _("moving volume"))
        if self.fixed is not None and self.fixed is self.moving:
            raise RegistrationError(_("Fixed and moving are the same volume. Choose two different ones."))
        if self.transform in parents(self.fixed):
            raise RegistrationError(
                _(
                    "{fixed} is itself placed under {name}. Choose the volume that stays as fixed, or take it out of "
                    "the transform."
                ).format(fixed=self.fixed.GetName(), name=self.transform.GetName())
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
        values = bridge.arrayFrom(matrix)
        if not np.all(np.isfinite(values)) or abs(np.linalg.det(values[:3, :3])) < _SINGULAR:
            raise RegistrationError(
                _("{name}: the transform is singular, it has no inverse. Choose another.").format(name=one.GetName())
            )


# --- nodes to files --------------------------------------------------------------------------------------------------


def writeSubject(subject: TransformSelection, folder: Path) -> tuple[list[str], list[str]]:
    """Write transform.h5 and both grids; (arguments of the engine's commands, notes in words).

    Raises: RegistrationError; the folder is the caller's to remove.
    """
    subject.check()
    images = {}
    for side, node, what in (
        ("fixed", subject.fixed, _("fixed volume")),
        ("moving", subject.moving, _("moving volume")),
    ):
        if node is not None:
            with standIn(node, subject.transform) as placed:
                images[side] = writeGrid(placed, folder / f"{side}.mha", what)
    notes = [writeNode(subject.transform, folder / "transform.h5", images.get("fixed"))]
    if subject.inverse is not None:
        notes.append(writeNode(subject.inverse, folder / "inverse_transform.h5", images.get("moving")))
    arguments = ["transform.h5"]
    for side in images:
        arguments += [f"--{side}", f"{side}.mha"]
    return arguments, [note for note in notes if note]


def writeInitial(subject: TransformSelection, folder: Path) -> list[str]:
    """Write initial.h5, after `writeSubject`; returns notes. Raises RegistrationError.

    moving.mha becomes the volume as it was before, where that is known.
    """
    import SimpleITK as sitk

    initial, moving = subject.initial, folder / "moving.mha"
    checkTransform(initial)
    if initial is subject.transform:
        raise RegistrationError(
            _("{name} is chosen as transform and as initial transform.").format(name=initial.GetName())
        )
    note = writeNode(initial, folder / "initial.h5", sitk.ReadImage(str(moving)) if moving.is_file() else None)
    if initial in parents(subject.moving):
        with standIn(subject.moving, initial) as before:
            writeGrid(before, moving, _("moving volume"))
    return [note] if note else []


def writeVolumes(subject: TransformSelection, folder: Path, without) -> None:
    """Put both volumes where `writeSubject` wrote their grids. without: a transform that is not part of their place."""
    if subject.fixed is not None:
        bridge.writeVolume(subject.fixed, folder / "fixed.mha", _("fixed volume"))
    if subject.moving is not None:
        with standIn(subject.moving, without) as placed:
            bridge.writeVolume(placed, folder / "moving.mha", _("moving volume"))


def writeGrid(node, path: Path, what: str, own: bool = False):
    """Write an image of a volume's geometry in the world, without its voxels; returns the image.

    own: the geometry without parent transforms, as in the volume's file.
    """
    import SimpleITK as sitk

    linear = np.eye(4) if own else bridge.linearWorldFromNode(node)
    matrix = None if linear is None else linear @ bridge.rasFromIjk(node)
    if matrix is not None and bridge.isPerpendicular(matrix):
        blank = sitk.Image(list(node.GetImageData().GetDimensions()), sitk.sitkUInt8)
        lps = bridge.LPS_FROM_RAS @ matrix
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        blank.SetSpacing(spacing.tolist())
        blank.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        blank.SetOrigin(lps[:3, 3].tolist())
    else:
        image, _note = bridge.worldImage(node, what)
        blank = sitk.Image(image.GetSize(), sitk.sitkUInt8)
        blank.CopyInformation(image)
    blank[0, 0, 0] = 1  # an image without any contrast is refused as broken
    sitk.WriteImage(blank, str(path), True)
    return blank


def writeNode(node, path: Path, around) -> str:
    """Write a transform node, checked before, as it acts on points of the world; returns a note where that changes it.

    What files can hold is written exactly: affines, displacement fields, B-splines, one after the other. The rest is
    sampled around an image (SimpleITK).
    Raises: RegistrationError without an image where one is needed.
    """
    import SimpleITK as sitk

    if node.IsTransformToWorldLinear():
        bridge.writeTransform(node, path, around)
        return ""
    chain = [node, *parents(node)]
    parts = []
    for one in chain:  # a point of the world meets the outermost first, the node last
        own = _written(one, path)
        if own is None:
            path.unlink(missing_ok=True)
            return _writeSampled(node, path, around)
        parts += own
    if len(chain) > 1:
        sitk.WriteTransform(sitk.CompositeTransform(parts), str(path))
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
    known = bridge.itkKinds()
    return parts if all(part.GetTransformEnum() in known for part in parts) else None


def _flat(transform) -> list:
    import SimpleITK as sitk

    found = transform.Downcast() if hasattr(transform, "Downcast") else transform
    if isinstance(found, sitk.CompositeTransform):
        return [part for n in range(found.GetNumberOfTransforms()) for part in _flat(found.GetNthTransform(n))]
    return [found]


def _writeSampled(node, path: Path, around) -> str:
    import SimpleITK as sitk

    if around is None:
        raise RegistrationError(
            _("{name} cannot be written as it is. Choose the volume around which it is sampled.").format(
                name=node.GetName()
            )
        )
    bridge.writeTransform(node, path, around, _SAMPLED_NODES)
    written = sitk.ReadTransform(str(path))
    index = np.random.default_rng(0).uniform(-0.5, np.array(around.GetSize()) - 0.5, (_PROBES, 3))
    points = [around.TransformContinuousIndexToPhysicalPoint(one) for one in index.tolist()]
    exact = vtk.vtkGeneralTransform()
    node.GetTransformFromWorld(exact)
    flip = np.array([-1.0, -1.0, 1.0])
    expected = bridge.transformPoints(exact, np.array(points) * flip) * flip
    error = np.linalg.norm(np.array([written.TransformPoint(one) for one in points]) - expected, axis=1)
    spacing = sitk.DisplacementFieldTransform(written).GetDisplacementField().GetSpacing()
    if not np.all(np.isfinite(error)):
        raise RegistrationError(
            _("{name} gives no finite points around its volume. Choose another transform.").format(name=node.GetName())
        )
    return _(
        "{name} was sampled every {mm:.1f} mm, since files cannot hold it as it is: {error:.2g} mm off at most."
    ).format(name=node.GetName(), mm=max(spacing), error=float(error.max()))


# --- files to nodes --------------------------------------------------------------------------------------------------


def addTransform(path: Path, name: str, fixed=None, moving=None):
    """A new transform node of an engine's file: linear where it is. fixed, moving: nodes it leads from and to, or None.

    Raises: RegistrationError when Slicer cannot read it; the scene is unchanged then.
    """
    reader = bridge.transformNodeOf(path)
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


def addLabelMap(path: Path, name: str):
    """A new label map node of an image file; None when no voxel is set."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    if not sitk.GetArrayViewFromImage(image).any():
        return None
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", slicer.mrmlScene.GenerateUniqueName(name))
    bridge.fillVolume(image, node)
    node.CreateDefaultDisplayNodes()
    return node


# --- what a file says of itself --------------------------------------------------------------------------------------


def directionOf(path: Path) -> tuple[str, str]:
    """('forward' or 'inverse', why) where a file, its sidecar or its name says which way it leads; ('', '') otherwise.

    forward: from fixed to moving points.
    """
    says = _sidecarOf(path).get("maps")
    if says == "fixed points to moving points":
        return "forward", _("its sidecar says so")
    if says == "moving points to fixed points":
        return "inverse", _("its sidecar says so")
    name = path.name.lower()
    if name.endswith(("inversewarp.nii.gz", "inverse_transform.h5")):
        return "inverse", _("its name says so")
    if name.endswith((*_ANTS_WARPS, _ANTS_AFFINE)):
        return "forward", _("ANTs' name says so")
    if name == "transform.h5" and (path.parent / "settings.json").is_file():
        return "forward", _("it is the result of a registration")
    head = _headOf(path)
    if b'(Transform "' in head and b"(NumberOfParameters" in head:
        return "forward", _("elastix' parameter files do")
    if b"dst volume info" in head:
        return "forward", _("FreeSurfer's files name both sides")
    if name.endswith((".nii", ".nii.gz")) and len(head) >= 70:
        order = "<" if int.from_bytes(head[:4], "little") == 348 else ">"
        if int(np.frombuffer(head, f"{order}i2", 1, 68)[0]) in _FSL_INTENTS:
            return "forward", _("FSL's warps do")
    return "", ""


_ANTS_WARPS, _ANTS_AFFINE = ("0warp.nii.gz", "1warp.nii.gz"), "0genericaffine.mat"
_FSL_INTENTS = range(2006, 2010)  # fslio's warps and FNIRT's coefficients


def _sidecarOf(path: Path) -> dict:
    """What carlreg wrote beside a file, or {}; of ANTs' pair the name without 1Warp and 0GenericAffine counts."""
    names = [path.name]
    for ending in (*_ANTS_WARPS, _ANTS_AFFINE):
        if path.name.lower().endswith(ending):
            names.append(f"{path.name[: -len(ending)]}.nii.gz")
    for name in names:
        try:
            found = json.loads(path.with_name(f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and path.name in found.get("files", []):
            return found
    return {}


def _headOf(path: Path, count: int = 4096) -> bytes:
    """The first bytes, unpacked; b"" when they cannot be read."""
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            return file.read(count)
    except (OSError, EOFError, zlib.error):
        return b""


def antsAffineBeside(path: Path) -> Path | None:
    """ANTs' affine that belongs to a warp of ANTs, where it lies beside it."""
    ending = "1Warp.nii.gz"
    if not path.name.endswith(ending):
        return None
    beside = path.with_name(path.name[: -len(ending)] + "0GenericAffine.mat")
    return beside if beside.is_file() else None


__all__ = [
    "TransformSelection",
    "addLabelMap",
    "addTransform",
    "antsAffineBeside",
    "checkTransform",
    "directionOf",
    "setSides",
    "sidesOf",
    "writeGrid",
    "writeInitial",
    "writeNode",
    "writeSubject",
    "writeVolumes",
]
