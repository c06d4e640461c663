"""Displacement fields in NIfTI files: what their header tells, and writing them component after component."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..spaces import VolumeGrid
from .nifti_writing import nifti_header, write_gz

DISPLACEMENT, VECTOR, FSL_RELATIVE = 1006, 1007, 2006
FSL_COEFFICIENTS = (2007, 2008, 2009, 2016)
_DIM, _INTENT, _NAME = 40, 68, 328


def header_of(file: Path, name: str) -> tuple[tuple[int, ...], int]:
    """(sizes of all dimensions, intent code) of a NIfTI-1 file. Raises InputError."""
    try:
        with file.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
        with (gzip.open if packed else open)(file, "rb") as stream:
            raw = stream.read(348)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name}: cannot be read; it may be damaged or cut off.") from error
    for order in "<>":
        if len(raw) == 348 and struct.unpack_from(f"{order}i", raw)[0] == 348:
            sizes = struct.unpack_from(f"{order}8h", raw, _DIM)
            return sizes[1 : 1 + max(0, min(sizes[0], 7))], struct.unpack_from(f"{order}h", raw, _INTENT)[0]
    raise InputError(f"{name}: expected a NIfTI-1 file; this is not one, or it is cut off.")


def write_field(path: str | os.PathLike, field_dhw3: np.ndarray, grid: VolumeGrid, intent: int) -> None:
    """Write displacements (LPS mm) as 5-D NIfTI: RAS vectors for intent 1006, LPS vectors as ITK does for 1007."""
    signs = (-1.0, -1.0, 1.0) if intent == DISPLACEMENT else (1.0, 1.0, 1.0)
    header = _header(field_dhw3.dtype, grid, intent, (5, *grid.size_ijk, 1, 3, 1, 1))
    planes = (field_dhw3[k, ..., c] * field_dhw3.dtype.type(signs[c]) for c in range(3) for k in range(len(field_dhw3)))
    write_gz(path, header, planes)


def write_fsl_warp(path: str | os.PathLike, warp_3dhw: np.ndarray, grid: VolumeGrid) -> None:
    """Write an FSL warp: 4-D, one volume per component."""
    header = _header(warp_3dhw.dtype, grid, FSL_RELATIVE, (4, *grid.size_ijk, 3, 1, 1, 1))
    write_gz(path, header, (plane for component in warp_3dhw for plane in component))


def _header(dtype: np.dtype, grid: VolumeGrid, intent: int, sizes: tuple[int, ...]) -> bytes:
    header = nifti_header(dtype, grid, vectors=True, sizes=sizes)
    struct.pack_into("=h", header, _INTENT, intent)
    struct.pack_into("16s", header, _NAME, b"Displacement" if intent == DISPLACEMENT else b"")
    return bytes(header)
