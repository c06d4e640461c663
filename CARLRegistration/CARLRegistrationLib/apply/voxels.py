"""Volumes, label maps and segmentations on another grid: written for `carlreg apply`, run there, and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ..mrml.copies import newNode, withoutTransform
from ..mrml.geometry import arrayFrom, matrixFrom, rasFromIjk, rasFromImage
from ..mrml.transforms import flatTransform, writeNode
from ..mrml.volumes import fillVolume, placedImage, writeGrid, writeImage
from .choices import ApplyGrid
from .items import ResampleItem, binaryLabelmap
from .maps import MappingDirection, Placement
from .nodes import Kind

# Of a node's attributes: they belong to the files it was read from, and what is made of it is something else.
_OF_FILES = ("DICOM.instanceUIDs",)
_MARGIN = 2  # voxels around the box of a segment, so that its own edge is seen as one


def write(item: ResampleItem, number: int, mapping: MappingDirection, folder: Path) -> str:
    """Write an item where it is in the world; returns a note or ""."""
    placed = Placement(item.placedBy, mapping.acting)
    notes = []
    for n, (voxels, own) in enumerate(_voxelsOf(item)):
        image, note = placedImage(placed, voxels, own, _("volume"), item.labels)
        notes += [note] if note else []
        item.files.append(f"{number:04d}_{n}.mha")
        writeImage(image, folder / item.files[-1])
    return notes[0] if notes else ""


def _voxelsOf(item: ResampleItem):
    """(vtkImageData, 4 x 4 of its indices to the node's RAS) of a volume, or of each layer of a segmentation."""
    if item.kind is not Kind.SEGMENTATION:
        yield item.frame.GetImageData(), rasFromIjk(item.frame)
        return
    segmentation = item.frame.GetSegmentation()
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
    mapping: MappingDirection, gridVolume, items: list[ResampleItem], folder: Path
) -> tuple[list[str], list[str]]:
    """Write transform.h5 and the grid; (arguments of `carlreg apply`, notes). `items` are written already.

    Raises: RegistrationError.
    """
    target = writeGrid(gridVolume, folder / "target.mha", _("reference volume"))
    path = folder / "transform.h5"
    if mapping.matrix is not None:
        note = writeNode(flatTransform(None, mapping.matrix), path, target)
    elif mapping.acting is not None:
        note = writeNode(mapping.acting, path, target)
    else:
        # The engine inverts, and says how well it can; it has to know where the data's side is.
        source = mapping.sides.source
        if source is not None:
            with withoutTransform(source, mapping.acting) as placed:
                around = writeGrid(placed, folder / "source.mha", _("fixed volume"))
            name = "source.mha"
        else:
            import SimpleITK as sitk

            name = items[0].files[0]
            around = sitk.ReadImage(str(folder / name))
        note = writeNode(mapping.transform, path, around)
        return ["transform.h5", "--inverse", "--fixed", name, "--moving", "target.mha"], [note] if note else []
    return ["transform.h5", "--fixed", "target.mha"], [note] if note else []


def arguments(mapping: list[str], job, labels: bool, files: list[str], out: str) -> list[str]:
    """Of `carlreg apply` for files of one kind."""
    made = ["apply", mapping[0], *files, "--out", out, *mapping[1:]]
    made += ["--interpolation", "nearest" if labels else job.interpolation.value]
    if job.grid is ApplyGrid.OWN:
        made += ["--grid", "own"]
    if job.massPreserving and not labels:
        made.append("--mass-preserving")
    return made


# --- read back -------------------------------------------------------------------------------------------------------


def read(item: ResampleItem, folder: Path) -> str:
    """Make the node of an item from its resampled files, outside the scene; returns a note or ""."""
    import SimpleITK as sitk

    images = [sitk.ReadImage(str(folder / name)) for name in item.files]
    if item.kind is Kind.SEGMENTATION:
        item.made, lost = _segmentation(item.frame, images)
        keepMeaning(item.made, item.frame)
        if lost:
            return _("{name}: outside the new grid, and empty there: {segments}.").format(
                name=item.source.GetName(), segments=", ".join(lost)
            )
        return ""
    item.made = newNode(item.frame.GetClassName())
    if item.frame.IsA("vtkMRMLVectorVolumeNode"):
        item.made.SetVoxelVectorType(item.frame.GetVoxelVectorType())
    fillVolume(images[0], item.made)
    keepMeaning(item.made, item.frame)
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
    made.SetSourceRepresentationName(binaryLabelmap())
    layers = {}
    left = list(images)
    present: dict[str, set] = {}
    for layer in range(given.GetNumberOfLayers()):
        extent = given.GetLayerDataObject(layer).GetExtent()
        ids = given.GetSegmentIDsForLayer(layer)
        if extent[1] < extent[0] or extent[3] < extent[2] or extent[5] < extent[4]:
            image, values = slicer.vtkOrientedImageData(), set()
        else:
            image, values = oriented(left.pop(0))
        for one in ids:
            layers[one], present[one] = image, values
    lost = []
    for one in given.GetSegmentIDs():
        segment = slicer.vtkSegment()
        segment.DeepCopyMetadata(given.GetSegment(one))
        segment.SetLabelValue(given.GetSegment(one).GetLabelValue())
        segment.AddRepresentation(binaryLabelmap(), layers.get(one) or slicer.vtkOrientedImageData())
        made.AddSegment(segment, one)
        if given.GetSegment(one).GetLabelValue() not in present.get(one, ()) and _hasContent(given.GetSegment(one)):
            lost.append(given.GetSegment(one).GetName())
    return node, lost


def _hasContent(segment) -> bool:
    image = segment.GetRepresentation(binaryLabelmap())
    scalars = image.GetPointData().GetScalars() if image is not None else None
    if scalars is None:
        return False
    from vtk.util.numpy_support import vtk_to_numpy

    return bool((vtk_to_numpy(scalars) == segment.GetLabelValue()).any())


def oriented(image) -> tuple[object, set]:
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


__all__ = ["arguments", "keepMeaning", "oriented", "read", "write", "writeDirection"]
