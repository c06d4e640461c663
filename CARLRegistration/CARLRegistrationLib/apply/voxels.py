"""Volumes, label maps and segmentations on another grid: written for `carlreg apply`, run there, and read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..engine import dependencies
from ..engine.process import DONE, EngineProcess, engine_environment
from ..mrml.copies import newNode, withoutTransform
from ..mrml.geometry import arrayFrom, matrixFrom, rasFromIjk, rasFromImage
from ..mrml.transforms import flatTransform, writeNode
from ..mrml.volumes import fillVolume, placedImage, writeGrid
from .choices import ApplyGrid
from .maps import MappingDirection, Placed
from .nodes import Kind

# Of a node's attributes: they belong to the files it was read from, and what is made of it is something else.
_OF_FILES = ("DICOM.instanceUIDs",)
_MARGIN = 2  # voxels around the box of a segment, so that its own edge is seen as one


@dataclass
class ResampleItem:
    """One node, or one frame of a sequence, and its files. source: node of the scene that it is, or that shows it.

    files: of a volume one, of a segmentation one for each layer. made: the node that it became, outside the scene.
    """

    source: object
    frame: object
    kind: Kind
    files: list[str] = field(default_factory=list)
    made: object = None

    @property
    def labels(self) -> bool:
        return self.kind in (Kind.LABELS, Kind.SEGMENTATION)

    def isResampled(self) -> bool:
        """True for what has voxels; segments that are surfaces have none and are mapped point by point."""
        if self.kind is Kind.SEGMENTATION:
            return self.frame.GetSegmentation().GetSourceRepresentationName() == _binary()
        return self.kind in (Kind.VOLUME, Kind.LABELS)


def write(piece: ResampleItem, number: int, way: MappingDirection, placedBy, folder: Path) -> str:
    """Write a piece where it is in the world; returns a note or "". placedBy: node whose place it has."""
    import SimpleITK as sitk

    placed = Placed(placedBy, way.acting)
    notes = []
    for n, (voxels, own) in enumerate(_voxelsOf(piece)):
        image, note = placedImage(placed, voxels, own, _("volume"), piece.labels)
        notes += [note] if note else []
        piece.files.append(f"{number:04d}_{n}.mha")
        try:
            sitk.WriteImage(image, str(folder / piece.files[-1]))
        except RuntimeError as error:
            raise RegistrationError(
                _("{name} could not be written; the disk may be full. Free some space and try again.").format(
                    name=placedBy.GetName()
                ),
                log=str(error),
            ) from error
    return notes[0] if notes else ""


def _voxelsOf(piece: ResampleItem):
    """(vtkImageData, 4 x 4 of its indices to the node's RAS) of a volume, or of each layer of a segmentation."""
    if piece.kind is not Kind.SEGMENTATION:
        yield piece.frame.GetImageData(), rasFromIjk(piece.frame)
        return
    segmentation = piece.frame.GetSegmentation()
    for layer in range(segmentation.GetNumberOfLayers()):
        image = segmentation.GetLayerDataObject(layer)
        extent = np.array(image.GetExtent())
        if np.any(extent[1::2] < extent[::2]):  # nothing in it
            continue
        extent += np.tile([-_MARGIN, _MARGIN], 3)
        pad = vtk.vtkImageConstantPad()
        pad.SetInputData(image)
        pad.SetOutputWholeExtent(*extent.tolist())
        pad.Update()
        matrix = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        own = arrayFrom(matrix)
        own[:3, 3] += own[:3, :3] @ extent[::2]  # voxel numbers begin at the extent, arrays at 0
        yield pad.GetOutput(), own


def writeDirection(
    way: MappingDirection, gridVolume, pieces: list[ResampleItem], folder: Path
) -> tuple[list[str], list[str]]:
    """Write transform.h5 and the grid; (arguments of `carlreg apply`, notes). `pieces` are written already.

    Raises: RegistrationError.
    """
    target = writeGrid(gridVolume, folder / "target.mha", _("reference volume"))
    path = folder / "transform.h5"
    if way.matrix is not None:
        note = writeNode(flatTransform(None, way.matrix), path, target)
    elif way.acting is not None:
        note = writeNode(way.acting, path, target)
    else:
        # The engine inverts, and says how well it can; it has to know where the data's side is.
        source = way.sides.source
        if source is not None:
            with withoutTransform(source, way.acting) as placed:
                around = writeGrid(placed, folder / "source.mha", _("fixed volume"))
            name = "source.mha"
        else:
            import SimpleITK as sitk

            name = pieces[0].files[0]
            around = sitk.ReadImage(str(folder / name))
        note = writeNode(way.transform, path, around)
        return ["transform.h5", "--inverse", "--fixed", name, "--moving", "target.mha"], [note] if note else []
    return ["transform.h5", "--fixed", "target.mha"], [note] if note else []


def arguments(way: list[str], job, labels: bool, files: list[str], out: str) -> list[str]:
    """Of `carlreg apply` for files of one kind."""
    made = ["apply", way[0], *files, "--out", out, *way[1:]]
    made += ["--interpolation", "nearest" if labels else job.interpolation.value]
    if job.grid is ApplyGrid.OWN:
        made += ["--grid", "own"]
    if job.massPreserving and not labels:
        made.append("--mass-preserving")
    return [*made, "--progress", "json", "--control", "stdin"]


def startEngine(given: list[str], folder: Path, python: str | None) -> EngineProcess:
    environment = engine_environment(python, dependencies.startupEnvironment() if python else None)
    try:
        return EngineProcess(given, folder, python, environment)
    except OSError as error:
        raise RegistrationError(
            _("The engine could not be started: {error}. Is the disk full, or the engine Python no program?").format(
                error=error.strerror or error
            )
        ) from error


def checkEnd(process: EngineProcess, code: int, pieces: list[ResampleItem]) -> None:
    """Raise RegistrationError for an engine that could not do it, in the words of the panel."""
    if code == DONE:
        return
    log = process.log()
    said = [line.removeprefix("Error: ") for line in log.splitlines() if line.startswith("Error: ")]
    text = said[-1] if said else _("The engine stopped unexpectedly (code {code}).").format(code=code)
    for piece in pieces:
        for name in piece.files:
            text = text.replace(name, piece.source.GetName())
    raise RegistrationError(text, log, unexpected=not said)


# --- read back -------------------------------------------------------------------------------------------------------


def read(piece: ResampleItem, folder: Path) -> str:
    """Make the node of a piece from its resampled files, outside the scene; returns a note or ""."""
    import SimpleITK as sitk

    images = [sitk.ReadImage(str(folder / name)) for name in piece.files]
    if piece.kind is Kind.SEGMENTATION:
        piece.made, lost = _segmentation(piece.frame, images)
        keepMeaning(piece.made, piece.frame)
        if lost:
            return _("{name}: outside the new grid, and empty there: {segments}.").format(
                name=piece.source.GetName(), segments=", ".join(lost)
            )
        return ""
    piece.made = newNode(piece.frame.GetClassName())
    if piece.frame.IsA("vtkMRMLVectorVolumeNode"):
        piece.made.SetVoxelVectorType(piece.frame.GetVoxelVectorType())
    fillVolume(images[0], piece.made)
    keepMeaning(piece.made, piece.frame)
    return ""


def keepMeaning(made, source) -> None:
    """Give a node the attributes of another and a volume its quantity and units; not what tells its files."""
    for name in source.GetAttributeNames():
        if name not in _OF_FILES:
            made.SetAttribute(name, source.GetAttribute(name))
    for name in _OF_FILES:
        made.RemoveAttribute(name)
    if made.IsA("vtkMRMLScalarVolumeNode"):
        made.SetVoxelValueQuantity(source.GetVoxelValueQuantity())
        made.SetVoxelValueUnits(source.GetVoxelValueUnits())


def _segmentation(source, images: list) -> tuple[object, list[str]]:
    """A segmentation with the segments of `source` (IDs, names, colors, tags) and these layers; names of empty ones."""
    given = source.GetSegmentation()
    node = newNode("vtkMRMLSegmentationNode")
    made = node.GetSegmentation()
    made.SetSourceRepresentationName(_binary())
    layers = {}
    left = list(images)
    present: dict[str, set] = {}
    for layer in range(given.GetNumberOfLayers()):
        extent = given.GetLayerDataObject(layer).GetExtent()
        ids = given.GetSegmentIDsForLayer(layer)
        if extent[1] < extent[0] or extent[3] < extent[2] or extent[5] < extent[4]:
            image, values = slicer.vtkOrientedImageData(), set()
        else:
            image, values = _oriented(left.pop(0))
        for one in ids:
            layers[one], present[one] = image, values
    lost = []
    for one in given.GetSegmentIDs():
        segment = slicer.vtkSegment()
        segment.DeepCopyMetadata(given.GetSegment(one))
        segment.SetLabelValue(given.GetSegment(one).GetLabelValue())
        segment.AddRepresentation(_binary(), layers.get(one) or slicer.vtkOrientedImageData())
        made.AddSegment(segment, one)
        if given.GetSegment(one).GetLabelValue() not in present.get(one, ()) and _hasContent(given.GetSegment(one)):
            lost.append(given.GetSegment(one).GetName())
    return node, lost


def _hasContent(segment) -> bool:
    image = segment.GetRepresentation(_binary())
    scalars = image.GetPointData().GetScalars() if image is not None else None
    if scalars is None:
        return False
    from vtk.util.numpy_support import vtk_to_numpy

    return bool((vtk_to_numpy(scalars) == segment.GetLabelValue()).any())


def _oriented(image) -> tuple[object, set]:
    """vtkOrientedImageData of a label image, only as large as its content but on the same grid; the labels in it."""
    import SimpleITK as sitk
    from vtk.util.numpy_support import numpy_to_vtk

    array = sitk.GetArrayViewFromImage(image)
    found = slicer.vtkOrientedImageData()
    where = [np.flatnonzero(array.any(axis=axes)) for axes in ((0, 1), (0, 2), (1, 2))]
    matrix = matrixFrom(rasFromImage(image))
    if where[0].size == 0:
        found.SetImageToWorldMatrix(matrix)
        return found, set()
    low, high = [int(w[0]) for w in where], [int(w[-1]) for w in where]
    part = np.ascontiguousarray(array[low[2] : high[2] + 1, low[1] : high[1] + 1, low[0] : high[0] + 1])
    found.SetExtent(low[0], high[0], low[1], high[1], low[2], high[2])
    found.GetPointData().SetScalars(numpy_to_vtk(part.ravel(), deep=True))
    found.SetImageToWorldMatrix(matrix)
    return found, set(np.unique(part).tolist()) - {0}


def _binary() -> str:
    return slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()


__all__ = [
    "ResampleItem",
    "arguments",
    "checkEnd",
    "keepMeaning",
    "read",
    "startEngine",
    "write",
    "writeDirection",
]
