"""The rigid, similarity or affine part of a transform: the nearest one over a volume, and what it leaves."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..io.itk_transform import affine_to_sitk, check_affine
from ..spaces import VolumeGrid, fit_linear
from .catalog import LINEAR_KINDS
from .fields import difference, displacement, lattice


def linear_part(transform: sitk.Transform, over: VolumeGrid, kind: str = "affine") -> tuple[np.ndarray, dict]:
    """(4x4 LPS mm, residual in mm: mean, p99, max) of the linear map that is nearest over a volume.

    kind: 'rigid' (turn and shift), 'similarity' (and one scale) or 'affine'. Least squares over points spread evenly.
    A transform that mirrors has no near turn; the nearest proper one is taken, the residual tells.
    """
    if kind not in LINEAR_KINDS:
        raise InputError(f"--kind: expected one of {', '.join(LINEAR_KINDS)}; got {kind!r}.")
    points = lattice(over, 32)
    x = points.centers().reshape(-1, 3)
    y = x + displacement(transform, points).reshape(-1, 3)
    matrix = fit_linear(x, y, kind=kind)
    check_affine(matrix)
    return matrix, difference(transform, affine_to_sitk(matrix), over)
