"""NIfTI-1 and Analyze files: voxels as the standard says, and where they lie.

SimpleITK's reader makes zeros of voxels that are missing or not a number, adds an intercept where there is no slope,
and takes the voxel size that the sform overrules. It also cannot read what begins at odd places.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..io import nifti_field, nifti_geometry, nifti_header
from ..io.checks import existing_path, read_error
from ..io.nifti_header import DATA_OFFSET, HEADER_BYTES, NiftiHeader
from ..io.raw import as_array, check_claim, is_gzip, read_bytes
from ..spaces import VolumeGrid
from .accepted import Accepted
from .geometry import named

_EXTENSION_BYTES = 4


def read(file: Path, name: str, accepted: Accepted) -> tuple[sitk.Image, list[str]] | None:
    """Image and notes; None where the file is none of these formats, although it is called so.

    A fourth axis of several frames stays; a fifth becomes the components of vectors. Voxels that are not finite come
    as they are. Raises InputError, GeometryError, NotEnoughMemory.
    """
    head, body = _both(file, name)
    header = nifti_header.read_header(head, name)
    if header is None:
        return None
    sizes, components = _shape(header)
    kept = 2.0 + (4.0 / max(header.value_type.itemsize, 1) if header.value_type is not None and header.scales else 0.0)
    itemsize = 1 if header.value_type is None else header.value_type.itemsize
    check_claim(body.stat().st_size, header.data_bytes - header.data_offset, is_gzip(body), name)
    accepted.check(sizes, components, itemsize, name, kept)
    grid = named(name, nifti_geometry.grid_of, header, name)
    notes = nifti_geometry.notes_of(header, name)
    values = read_values(body, header, name, single=head == body)
    if header.intent == nifti_field.DISPLACEMENT and components == 3:  # vectors in RAS, by the standard
        values = np.concatenate([-values[..., :2], values[..., 2:]], axis=-1)
    return _image(values, sizes, components, grid, header), notes


def read_size(file: Path, name: str) -> tuple[tuple[int, ...], int] | None:
    """Sizes and values per voxel, from the header alone; None as `read`."""
    header = nifti_header.read_header(_both(file, name)[0], name)
    return None if header is None else _shape(header)


def read_values(file: Path, header: NiftiHeader, name: str, *, single: bool = True) -> np.ndarray:
    """Voxels, scaled as the header says: (..., k, j, i) with the header's sizes; colors (..., k, j, i, c).

    single: header and voxels are in one file. Components of vectors (a fifth axis) come last, too.
    Raises InputError: cut off, damaged, of a type or at a place that no file has.
    """
    kind = header.value_type
    if kind is None:
        raise InputError(
            f"{name}: expected voxels of whole numbers or floating point of 8 to 64 bits, got NIfTI's type code "
            f"{header.type_code}. Convert the file first."
        )
    if header.is_complex:
        raise InputError(f"{name}: expected real values, got complex ones, 2 per voxel. Store the magnitude image.")
    sizes, components = _shape(header)
    count = header.voxel_count * header.values_per_voxel * kind.itemsize
    data = read_bytes(file, _offset(file, header, count, name, single), count, name)
    # Colors lie voxel by voxel, vectors component by component.
    inner = () if header.values_per_voxel == 1 else (header.values_per_voxel,)
    outer = (components,) if components > 1 and not inner else ()
    values = as_array(data, kind, (*outer, *sizes[::-1], *inner))
    if outer:
        values = np.moveaxis(values, 0, -1)
    return _scaled(values, header, name) if header.scales else values


def _both(file: Path, name: str) -> tuple[Path, Path]:
    """The file that holds the header and the one that holds the voxels; the same for .nii."""
    lower = file.name.lower()
    for ending, other in ((".hdr", ".img"), (".img", ".hdr")):
        for packed in ("", ".gz"):
            if not lower.endswith(ending + packed):
                continue
            stem = file.name[: len(file.name) - len(ending + packed)]
            letters = other if file.name[len(stem) :].islower() else other.upper()
            found = [file.with_name(stem + letters + more) for more in (packed, "", ".gz", ".GZ")]
            beside = next((path for path in found if path.exists()), found[0])
            existing_path(beside, name)
            return (file, beside) if ending == ".hdr" else (beside, file)
    return file, file


def _shape(header: NiftiHeader) -> tuple[tuple[int, ...], int]:
    """Sizes of the axes in space and time, and the number of values per voxel."""
    sizes, components = header.sizes, header.values_per_voxel
    if components == 1 and len(sizes) > 4 and sizes[3] == 1 and math.prod(sizes[5:]) == 1:
        sizes, components = sizes[:3], sizes[4]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes = sizes[:-1]
    return sizes, components


def _offset(file: Path, header: NiftiHeader, count: int, name: str, single: bool) -> int:
    """Where the voxels begin; InputError where the header names a place that cannot be."""
    offset = header.offset
    if single != (header.magic == b"n+1"):
        said = "one file of header and voxels" if header.magic == b"n+1" else "a pair of .hdr and .img"
        raise InputError(
            f"{name}: expected {'one file' if single else 'a pair of .hdr and .img'}, its header says {said}: the file "
            "was renamed or damaged. Export it again."
        )
    least = DATA_OFFSET if single else 0
    if math.isfinite(offset) and offset == 0 and single and not is_gzip(file):
        # Left out by some writers; what follows the header says where the voxels are.
        rest = file.stat().st_size - HEADER_BYTES - count
        if rest in (0, _EXTENSION_BYTES):
            return HEADER_BYTES + rest
    if not math.isfinite(offset) or offset < least or offset != int(offset):
        raise InputError(
            f"{name}: its header says that the voxels begin at byte {offset:g}; expected a whole number of at least "
            f"{least}. The header is damaged: copy or export the file again."
        )
    return int(offset)


def _scaled(values: np.ndarray, header: NiftiHeader, name: str) -> np.ndarray:
    """slope * stored + intercept: float32 where that holds the stored values, else float64."""
    if not math.isfinite(header.intercept):
        raise InputError(
            f"{name}: its header scales values by {header.slope:g} and adds {header.intercept}: expected a number. "
            "Correct the header (scl_inter)."
        )
    small = values.dtype.itemsize <= 2 or values.dtype == np.float32
    out = np.empty(values.shape, np.float32 if small else np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # said later, as values that are not finite
        for plane, scaled in zip(values, out, strict=True):
            scaled[...] = plane * np.float64(header.slope) + np.float64(header.intercept)
    return out


def _image(values: np.ndarray, sizes, components: int, grid: VolumeGrid, header: NiftiHeader) -> sitk.Image:
    try:
        image = sitk.GetImageFromArray(values, isVector=components > 1)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise read_error(RuntimeError(str(error)), "image") from error
    if len(sizes) == 3:
        image.SetSpacing(grid.spacing.tolist())
        image.SetOrigin(grid.origin_lps.tolist())
        image.SetDirection(grid.direction.ravel().tolist())
    elif len(sizes) == 4:
        direction = np.eye(4)
        direction[:3, :3] = grid.direction
        image.SetSpacing([*grid.spacing.tolist(), header.seconds_between_frames])
        image.SetOrigin([*grid.origin_lps.tolist(), 0.0])
        image.SetDirection(direction.ravel().tolist())
    return image
