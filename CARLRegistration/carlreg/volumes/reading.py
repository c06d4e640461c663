"""One way in for image files of every format that is not DICOM, with one set of checks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..io.being_read import AS_VOLUME, being_read
from ..io.checks import READABLE, not_finite, read_error
from ..io.guarded import guarded
from . import metaimage, nifti, nrrd
from .accepted import ANY_IMAGE, SCALAR_VOLUME, Accepted
from .geometry import checked_grid, first_frame

# Beyond this the squares that similarity measures need leave float32.
_LARGEST_INTENSITY = 1e15
# Formats of pictures, which say nothing about patients.
_PICTURES = ("TIFF", "PNG", "JPEG", "BMP", "LSM")
_READING_MB = 512.0
# Formats that are read or judged here: what is called so, but is not so, is damaged.
_OWN_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".seg.nrrd", ".mha", ".mhd")
_OWN_READERS = ("NiftiImageIO", "NrrdImageIO", "MetaImageIO")


def read_file(file: Path, name: str, accepted: Accepted = SCALAR_VOLUME) -> tuple[sitk.Image, list[str]]:
    """Image and notes of one file that is not DICOM, of a kind that is accepted; its values unchecked.

    A further axis of length one is dropped. Raises InputError, GeometryError, NotEnoughMemory.
    """
    found = None
    with being_read(name, AS_VOLUME):
        if nrrd.is_nrrd(file):
            found = nrrd.read(file, name, accepted)
        elif metaimage.is_metaimage(file):
            found = metaimage.read(file, name, accepted)
        else:
            found = nifti.read(file, name, accepted)
        image, notes = found or _read_other(file, name, accepted)
    if image.GetDimension() > 3 and math.prod(image.GetSize()[3:]) == 1:
        image = first_frame(image)
    checked_grid(first_frame(image), name)
    return image, notes


def read_size(file: Path, name: str) -> tuple[tuple[int, ...], int]:
    """Sizes and values per voxel of one file that is not DICOM, from its header. Raises InputError."""
    with being_read(name, AS_VOLUME):
        if nrrd.is_nrrd(file):
            return nrrd.read_size(file, name)
        if metaimage.is_metaimage(file):
            return metaimage.read_size(file, name)
        found = nifti.read_size(file, name)
        if found is not None:
            return found
        image, _ = _read_other(file, name, ANY_IMAGE)  # nothing is known of its header here
        return image.GetSize(), image.GetNumberOfComponentsPerPixel()


def check_values(image: sitk.Image, name: str, uniform: bool = False) -> None:
    """Raise InputError for values that are not finite, too large for float32, or (unless `uniform`) all equal."""
    array = sitk.GetArrayViewFromImage(image)
    low, high, bad = math.inf, -math.inf, 0
    for slab in array:  # slab by slab: no second copy of a large volume
        if slab.dtype.kind == "f":
            finite = np.isfinite(slab)
            bad += int(slab.size - np.count_nonzero(finite))
            if bad:
                continue
        low, high = min(low, float(slab.min())), max(high, float(slab.max()))
    if bad:
        raise not_finite(bad, array.size, name)
    if low == high and not uniform:
        raise InputError(f"{name}: all voxels have the value {low:g}: there is nothing to register. Check the file.")
    if max(abs(low), abs(high)) > _LARGEST_INTENSITY:
        raise InputError(f"{name}: intensities reach {max(abs(low), abs(high)):.3g}; rescale them below 1e15.")


def _read_other(file: Path, name: str, accepted: Accepted) -> tuple[sitk.Image, list[str]]:
    """A file of another format that SimpleITK knows, in a child process: nothing is known of its header here."""
    if file.name.lower().endswith(_OWN_ENDINGS):
        raise InputError(f"{name}: not an image file that can be read. Expected {READABLE}.")
    size_mb = file.stat().st_size / 2**20
    try:
        kind, image = guarded(
            "carlreg.volumes.reading:read_whole",
            str(file.absolute()),
            name,
            accepted,
            name=name,
            seconds=60.0 + size_mb / 2.0,
            memory_mb=_READING_MB + 20.0 * size_mb,
        )
    except RuntimeError as error:
        raise read_error(error, name) from error
    if kind in _OWN_READERS:  # it believes a header that has been judged here as none
        raise InputError(f"{name}: not an image file that can be read. Expected {READABLE}.")
    notes = []
    if any(word in kind for word in _PICTURES):
        notes.append(f"{name}: a picture file, which does not say where the volume lies nor which way it is turned.")
    return image, notes


def read_whole(path: str, name: str, accepted: Accepted) -> tuple[str, sitk.Image]:
    """The name of SimpleITK's reader for a file, and what it reads."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    reader.ReadImageInformation()
    accepted.check(reader.GetSize(), reader.GetNumberOfComponents(), 1, name)
    return sitk.ImageFileReader.GetImageIOFromFileName(path), reader.Execute()


__all__ = ["ANY_IMAGE", "SCALAR_VOLUME", "Accepted", "check_values", "read_file"]
