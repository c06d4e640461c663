"""Segmentations as images and masks in the world; the user's nodes are never changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
import vtk
import vtk.util.numpy_support
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from .geometry import arrayFrom
from .volumes import checkVolume, placedImage, worldImage, writeImage


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
    writeImage(mask, path)


def checkMask(node, segmentId: str, what: str) -> None:
    """Raise RegistrationError for a mask that is seen to be empty without making an image of it; cheap."""
    empty = RegistrationError(
        _("{name}: the {what} is empty. Choose another, or none.").format(name=node.GetName(), what=what)
    )
    if not node.IsA("vtkMRMLSegmentationNode"):
        image = node.GetImageData()
        if image is None or (image.GetScalarRange()[1] <= 0 and image.GetScalarRange()[0] >= 0):  # kept by VTK
            raise empty
        return
    segmentation = node.GetSegmentation()
    chosen = [segmentId] if segmentId else list(segmentation.GetSegmentIDs())
    segments = [segment for segment in map(segmentation.GetSegment, chosen) if segment is not None]
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    if segmentation.GetSourceRepresentationName() != name and segments:
        return
    if not any(_hasVoxels(segment.GetRepresentation(name), segment.GetLabelValue()) for segment in segments):
        raise empty


_asked: dict[tuple[int, int], bool] = {}  # by the time of the last change, which VTK counts for all objects, and value


def _hasVoxels(labels, value: int) -> bool:
    """Whether a value is among the voxels, which several segments may share; looked for once."""
    if labels is None or min(labels.GetDimensions()) < 1:
        return False
    key = labels.GetMTime(), value
    if key not in _asked:
        if len(_asked) > 100:
            _asked.clear()
        voxels = vtk.util.numpy_support.vtk_to_numpy(labels.GetPointData().GetScalars())
        _asked[key] = bool((voxels == value).any())
    return _asked[key]


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
