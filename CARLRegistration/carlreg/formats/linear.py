"""The rigid, similarity or affine part of a transform: the nearest one over a volume, and what it leaves."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..io.itk_transform import affine_to_sitk, check_affine
from ..spaces import VolumeGrid
from .catalog import LINEAR_KINDS
from .fields import difference, displacement, lattice


def linear_part(transform: sitk.Transform, over: VolumeGrid, kind: str = "affine") -> tuple[np.ndarray, dict]:
    """(4x4 LPS mm, residual in mm: mean, p99, max) of the linear map that is nearest over a volume.

    kind: 'rigid' (turn and shift), 'similarity' (and one scale) or 'affine'. Least squares over points spread evenly.
    Source of the first two: Umeyama, IEEE TPAMI 13(4), 1991.
    """
    if kind not in LINEAR_KINDS:
        raise InputError(f"--kind: expected one of {', '.join(LINEAR_KINDS)}; got {kind!r}.")
    points = lattice(over, 32)
    x = points.centers().reshape(-1, 3)
    y = x + displacement(transform, points).reshape(-1, 3)
    matrix = np.eye(4)
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    if kind == "affine":
        solution, *_ = np.linalg.lstsq(x - x_mean, y - y_mean, rcond=None)
        matrix[:3, :3] = solution.T
    else:
        u, s, vt = np.linalg.svd((y - y_mean).T @ (x - x_mean))
        # A transform that mirrors has no near turn; the nearest proper one is taken, the residual tells.
        sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
        scale = 1.0 if kind == "rigid" else float((s * sign).sum() / ((x - x_mean) ** 2).sum())
        matrix[:3, :3] = scale * (u * sign) @ vt
    matrix[:3, 3] = y_mean - matrix[:3, :3] @ x_mean
    check_affine(matrix)
    return matrix, difference(transform, affine_to_sitk(matrix), over)
