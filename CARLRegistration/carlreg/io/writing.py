"""Images and transforms to files by SimpleITK, checked: what is written is whole, or an error is raised.

Libraries do not always tell when a disk is full: some leave a file that is cut off and report success. So what was
written is read again, which takes a small part of the time that writing takes.
"""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from .checks import reason
from .endings import check_image_name
from .nifti_header import DATA_OFFSET

_BLOCK = 2**22
_HEAD = 2**20
# Of a text file of a transform, whose numbers are rounded.
_TOLERANCE_MM = 1e-3
_MOST_PARAMETERS = 300_000


def write_image(image: sitk.Image, path: str | os.PathLike, compress: bool = True) -> None:
    """Write an image in the format of the path's ending (small letters).

    Raises InputError for an ending that is not in `endings.IMAGE_ENDINGS`, OSError when the disk does not take it.
    """
    target = Path(path)
    check_image_name(target)
    if not target.parent.is_dir():
        raise InputError(f"{target}: its folder does not exist. Make the folder first.")
    with _writing(target):
        sitk.WriteImage(image, str(target), compress)
    bytes_of_values = math.prod(image.GetSize()) * image.GetNumberOfComponentsPerPixel()
    with _checking(target):
        _check_whole(target, bytes_of_values * image.GetSizeOfPixelComponent())


def write_picture(pixels: np.ndarray, path: str | os.PathLike) -> None:
    """Write rows x columns x 3 bytes as PNG. Raises OSError when the disk does not take it."""
    target, image = Path(path), sitk.GetImageFromArray(np.ascontiguousarray(pixels), isVector=True)
    with _writing(target):
        sitk.WriteImage(image, str(target))
    with _checking(target):
        if sitk.Hash(sitk.ReadImage(str(target))) != sitk.Hash(image):
            raise EOFError


def write_transform(transform: sitk.Transform, path: str | os.PathLike) -> None:
    """Write a transform in ITK's format of the path's ending (small letters).

    Raises OSError when the disk does not take it.
    """
    target = Path(path)
    with _writing(target):
        sitk.WriteTransform(transform, str(target))
    with _checking(target):
        if target.suffix in (".h5", ".hdf5"):
            _check_hdf5(target)
        if transform.GetNumberOfParameters() <= _MOST_PARAMETERS:  # a large field would take as much memory again
            _check_transform(sitk.ReadTransform(str(target)), transform)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # SimpleITK does not tell what the system said
        raise failure(target, reason(error)) from error


@contextmanager
def _checking(target: Path) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, EOFError, OSError, zlib.error) as error:
        raise failure(target, "the file is incomplete") from error


def failure(target: Path, why: str) -> OSError:
    """As the system would tell it: a disk without room, where there is none; else what is known."""
    try:
        with open(target.with_name("probe"), "wb") as probe:
            probe.write(bytes(_BLOCK))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return OSError(error.errno, error.strerror, str(target))
    finally:
        target.with_name("probe").unlink(missing_ok=True)
    written = target.stat().st_size if target.is_file() else 0
    if shutil.disk_usage(target.parent).free < 2 * written:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
    return OSError(errno.EIO, why, str(target))


def _check_whole(target: Path, expected: int) -> None:
    """All bytes of the values are there; of compressed ones the checksum is right. Reads in pieces.

    Not read by SimpleITK, which fills up a short NIfTI file with zeros.
    """
    source, offset, packed = _values_of(target)
    with open(source, "rb") as stream:
        stream.seek(offset)
        length = _unpacked_length(stream) if packed else os.path.getsize(source) - offset
    if length < expected + (DATA_OFFSET if target.name.endswith(".nii.gz") else 0):
        raise EOFError


def _values_of(target: Path) -> tuple[Path, int, bool]:
    """The file that holds an image's values, where they begin in it, and whether they are compressed."""
    name = target.name
    if name.endswith((".nii.gz", ".nii", ".img", ".hdr")):
        if name.endswith(".nii"):
            return target, DATA_OFFSET, False
        return (target, 0, True) if name.endswith(".gz") else (target.with_suffix(".img"), 0, False)
    with open(target, "rb") as stream:
        head = stream.read(_HEAD)
    if name.endswith((".nrrd", ".nhdr")):
        beside, last, compressed = rb"^data ?file: (.+)$", b"\n\n", rb"^encoding: gz"
    else:
        beside, last = rb"^ElementDataFile = (?!LOCAL)(.+)$", b"ElementDataFile = LOCAL\n"
        compressed = rb"^CompressedData = True"
    found = re.search(beside, head, re.MULTILINE)
    packed = re.search(compressed, head, re.MULTILINE) is not None
    if found is not None:
        return target.with_name(found[1].decode().strip()), 0, packed
    return target, head.index(last) + len(last), packed


def _unpacked_length(stream) -> int:
    """Bytes that a zlib or gzip stream holds; raises when it is cut off or its checksum is wrong."""
    length, packed = 0, zlib.decompressobj(wbits=47)  # either kind
    while block := stream.read(_BLOCK):
        while block:
            if packed.eof:
                packed = zlib.decompressobj(wbits=47)
            length += len(packed.decompress(block, _BLOCK))  # not more at once, however well it was packed
            block = packed.unused_data if packed.eof else packed.unconsumed_tail
    if not packed.eof:
        raise EOFError
    return length


def _check_hdf5(target: Path) -> None:
    """As long as its own head says. Source: HDF5 File Format Specification, II.A, "Disk Format: Level 0A"."""
    with open(target, "rb") as stream:
        head = stream.read(64)
    at = {0: 40, 1: 44, 2: 28, 3: 28}.get(head[8] if len(head) > 8 else 255)
    if head[:8] != b"\x89HDF\r\n\x1a\n" or at is None:
        raise EOFError
    if os.path.getsize(target) < int.from_bytes(head[at : at + 8], "little"):
        raise EOFError


def _check_transform(found: sitk.Transform, transform: sitk.Transform) -> None:
    """It sends some points to the same places."""
    if found.GetDimension() != transform.GetDimension():
        raise EOFError
    points = np.random.default_rng(0).uniform(-200.0, 200.0, (64, found.GetDimension())).tolist()
    for point in points + _nodes(transform):
        expected, got = np.array(transform.TransformPoint(point)), np.array(found.TransformPoint(point))
        if not np.allclose(got, expected, rtol=1e-4, atol=_TOLERANCE_MM, equal_nan=True):
            raise EOFError


def _nodes(transform: sitk.Transform) -> list:
    """Some nodes of the fields in a transform, the last ones among them."""
    found = transform.Downcast() if hasattr(transform, "Downcast") else transform
    if isinstance(found, sitk.CompositeTransform):
        return [node for n in range(found.GetNumberOfTransforms()) for node in _nodes(found.GetNthTransform(n))]
    if not isinstance(found, sitk.DisplacementFieldTransform):
        return []
    field = found.GetDisplacementField()
    last = [n - 1 for n in field.GetSize()]
    index = np.random.default_rng(0).integers(0, np.array(last) + 1, (200, len(last))).tolist()
    return [field.TransformIndexToPhysicalPoint(one) for one in [*index, last]]
