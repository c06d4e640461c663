"""Displacement fields in NIfTI files: the codes of what they hold, and writing them component after component."""

from __future__ import annotations

import os

import numpy as np

from ..spaces import VolumeGrid
from .nifti_header import new_header, put
from .nifti_writing import write_gz

DISPLACEMENT, VECTOR, FSL_RELATIVE = 1006, 1007, 2006
FSL_COEFFICIENTS = (2007, 2008, 2009, 2016)


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
    header = new_header(dtype, grid, vectors=True, sizes=sizes)
    put(header, "intent_code", intent)
    put(header, "intent_name", b"Displacement" if intent == DISPLACEMENT else b"")
    return bytes(header)
