"""Masks and label maps that belong to a volume, on its grid."""

from __future__ import annotations

import logging
import math
import os

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..io.checks import check_kind, existing_path
from ..spaces.grid import VolumeGrid
from . import dicom
from .geometry import checked_grid, first_frame
from .reading import check_values, read_file
from .volume import Volume, read_volume

_FULL_INT32 = 2**31 - 1
log = logging.getLogger(__name__)


def read_mask(path: str | os.PathLike | sitk.Image, volume: Volume, name: str = "mask") -> Volume:
    """A mask as a `Volume` of 0 and 1 (uint8) on the volume's grid; voxels above 0 count.

    A mask on another grid is resampled onto the volume's, nearest neighbor.
    Raises InputError (unreadable, empty, off the volume) or GeometryError.
    """
    image, label, notes = _read(path, name)
    mask = image > 0
    if not _any(mask):
        raise InputError(f"{label}: expected a mask with voxels above 0, got an empty one. Give another mask, or none.")
    mask = _onto(mask, volume)
    if not _any(mask):
        raise InputError(
            f"{label}: no part of it lies on {volume.name}. Check that the mask was drawn on this volume, and that "
            "fixed and moving are not exchanged."
        )
    return Volume(mask, None if isinstance(path, sitk.Image) else str(path), label, warnings=tuple(notes))


def without_ignored(volume: Volume, mask: Volume | None, ignored: Volume | None) -> Volume | None:
    """The mask of what counts in a volume without what is to be ignored there; all on the volume's grid.

    Raises InputError where nothing is left.
    """
    if ignored is None:
        return mask
    left = (ignored.array == 0) if mask is None else (ignored.array == 0) & (mask.array > 0)
    if not left.any():
        raise InputError(
            f"{ignored.name}: expected to leave something of the {volume.name} to compare, got one that covers "
            f"{'all of it' if mask is None else 'all of its mask'}. Were the mask and what to ignore exchanged?"
        )
    notes = (*(() if mask is None else mask.warnings), *ignored.warnings)
    return Volume(volume.grid.image(left.astype(np.uint8)), None, f"{volume.name}: what counts", warnings=notes)


def read_labels(path: str | os.PathLike | sitk.Image, volume: Volume, name: str = "labels") -> sitk.Image:
    """A label map as an integer image on the volume's grid (nearest neighbor where it was on another); 0 = nothing.

    Raises InputError (unreadable, not whole numbers, no label, off the volume) or GeometryError.
    """
    image, label, notes = _read(path, name)
    for note in notes:
        log.warning(note)
    if image.GetPixelID() in (sitk.sitkFloat32, sitk.sitkFloat64):
        array = sitk.GetArrayFromImage(image)
        if np.any(array != np.rint(array)) or np.abs(array).max() > _FULL_INT32:
            raise InputError(f"{label}: expected whole numbers (a label map), got an image with other values.")
        whole = sitk.GetImageFromArray(array.astype(np.int32))
        whole.CopyInformation(image)
        image = whole
    if not _any(image != 0):
        raise InputError(f"{label}: expected a label map, got one without any label (all 0).")
    image = _onto(image, volume)
    if not _any(image != 0):
        raise InputError(f"{label}: none of its labels lies on {volume.name}. Are fixed and moving exchanged?")
    return image


def _read(path: str | os.PathLike | sitk.Image, name: str) -> tuple[sitk.Image, str, list[str]]:
    if isinstance(path, sitk.Image):
        image, label = path, name
        if math.prod(image.GetSize()[3:]) == 1:
            image = first_frame(image)
        check_kind(image.GetSize(), image.GetNumberOfComponentsPerPixel(), label)
        checked_grid(image, label)
        return image, label, []
    file = existing_path(path, name)
    label = f"{name} ({file.name})"
    if file.is_dir():
        raise InputError(f"{label}: expected a file, got a folder.")
    if dicom.is_dicom(file):
        found = read_volume(file, name, uniform=True)
        return found.image, label, list(found.warnings)
    image, notes = read_file(file, label)
    check_values(image, label, uniform=True)
    return image, label, notes


def _onto(image: sitk.Image, volume: Volume) -> sitk.Image:
    if VolumeGrid.of(image).same_as(volume.grid):
        found = sitk.Image(image)
        found.CopyInformation(volume.image)  # equal up to rounding; exactly equal from here on
    else:
        transform = sitk.Transform()
        found = sitk.Resample(image, volume.image, transform, sitk.sitkNearestNeighbor, 0.0, image.GetPixelID())
    for key in image.GetMetaDataKeys():  # the names of segments, for one
        found.SetMetaData(key, image.GetMetaData(key))
    return found


def _any(image: sitk.Image) -> bool:
    return bool(np.any(sitk.GetArrayViewFromImage(image)))
