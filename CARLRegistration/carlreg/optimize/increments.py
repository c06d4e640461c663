"""Increments of a linear map: what they do to points, and the normal equations of patches in them.

An increment acts on points about a center: a shift, a turn (rotation vector), the logarithm of a scale, or that of a
linear map (nine numbers: turn, scales and shears), each in units of a length. So no increment mirrors or flattens.

Letters: n patches, k places of a patch, s spatial axes, p parameters.
Source: Evangelidis & Psarakis, IEEE TPAMI 30(10), 2008 (Gauss-Newton on a correlation coefficient); Golub & Pereyra,
SIAM J. Numer. Anal. 10(2), 1973 (the coefficient's scale and offset eliminated; Kaufman's approximation).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..losses.similarity import VARIANCE_FLOOR
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..spaces import Stretches, apply_affine
from .patch_places import LEAST_SHARE

# Of a normal equation's diagonal, added to it.
_DAMPING = 1e-3


def patch_normal(one_nk: Tensor, other_nk: Tensor, slope_nkp: Tensor, counts_nk: Tensor, squared: bool):
    """Of 1 - correlation (or its square): (sum of losses, hessian, gradient, patches that count).

    slope: derivative of the other image's values. With a the own values and b the others, each less its mean, what b
    times its best factor leaves of a is the residual; its derivative is that of b without its parts along 1 and b.
    """
    total = counts_nk.sum(1, keepdim=True)
    used = (total[:, 0] > LEAST_SHARE * counts_nk.shape[1]).to(one_nk.dtype)
    share = counts_nk / total.clamp_min(1e-6)
    a, b = (values - (share * values).sum(1, keepdim=True) for values in (one_nk, other_nk))
    variance_a, variance_b = ((share * x.square()).sum(1) + VARIANCE_FLOOR for x in (a, b))
    covariance = (share * a * b).sum(1)
    left = a - (covariance / variance_b)[:, None] * b
    coefficient = torch.rsqrt(variance_a * variance_b)
    if squared:
        value = covariance.square() / (variance_a * variance_b)
        curvature, pull = 2 * value / variance_b, 2 * covariance * coefficient.square()
    else:
        value = covariance * coefficient
        curvature, pull = torch.ones_like(value) / variance_b, coefficient
    curvature = used * curvature
    # Sums of the slopes over each patch: their mean, their part along b (which has mean zero), what pulls.
    sums = torch.stack([share, share * b, (used * pull)[:, None] * share * left], dim=1) @ slope_nkp
    mean, along, pulled = sums.unbind(1)
    # What is left of the slopes without their parts along 1 and b, squared, without making it.
    root = (curvature[:, None] * share).sqrt()[..., None] * slope_nkp
    root = root.reshape(-1, root.shape[-1])
    of_b = curvature * (2 - (variance_b - VARIANCE_FLOOR) / variance_b) / variance_b
    hessian = root.T @ root - (curvature[:, None] * mean).T @ mean - (of_b[:, None] * along).T @ along
    return float((used * (1 - value)).sum()), hessian, -pulled.sum(0), float(used.sum())


def of_increments(slope_nks: Tensor, points_nks: Tensor, dof: str, radius_mm: float) -> Tensor:
    """n k p: derivatives in the increments of values with these slopes, at points about the center.

    A unit of any increment moves far points by about `radius_mm`.
    """
    found = [radius_mm * slope_nks]
    if dof in ("rigid", "similarity"):
        found.append(torch.linalg.cross(points_nks, slope_nks))
    if dof == "similarity":
        found.append((points_nks * slope_nks).sum(-1, keepdim=True))
    if dof == "affine":  # row i of the linear part times coordinate j
        found.append((slope_nks[..., :, None] * points_nks[..., None, :]).flatten(-2))
    return torch.cat(found, dim=-1)


def increment(step: np.ndarray, dof: str, radius_mm: float) -> np.ndarray:
    """4x4 about the origin: the map that `of_increments` has the derivatives of."""
    out = np.eye(4)
    out[:3, 3] = radius_mm * step[:3]
    if dof in ("rigid", "similarity"):
        out[:3, :3] = rotation_of(step[3:6])
    if dof == "similarity":
        out[:3, :3] *= math.exp(float(np.clip(step[6], -0.3, 0.3)))
    if dof == "affine":
        out[:3, :3] = _exponential(step[3:].reshape(3, 3))
    return out


def stepped(
    matrix: np.ndarray,
    step: np.ndarray,
    dof: str,
    radius_mm: float,
    *,
    about_lps: np.ndarray,
    fixed_center_lps: np.ndarray,
    bounds: Stretches,
) -> np.ndarray:
    """The 4x4 after an increment about a moving point, within the bounds; the fixed center goes where it went."""
    about, back = np.eye(4), np.eye(4)
    about[:3, 3], back[:3, 3] = about_lps, -about_lps
    trial = about @ increment(step, dof, radius_mm) @ back @ matrix
    if dof in ("similarity", "affine") and not bounds.hold(trial):
        place = apply_affine(trial, fixed_center_lps)
        trial[:3, :3] = bounds.nearest(trial[:3, :3])
        trial[:3, 3] = place - trial[:3, :3] @ fixed_center_lps
    return trial


def inverse_of(hessian: np.ndarray) -> np.ndarray:
    """Of the normal equations, with parameters that the images say next to nothing about held."""
    scale = np.diag(hessian)
    return np.linalg.inv(hessian + np.diag(_DAMPING * scale + 1e-6 * max(float(scale.max()), 1e-12)))


def updated_inverse(inverse: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """What a step and the gradient's change along it tell of the curvature: the update of BFGS.

    Where the images differ, the normal equations see too much of it, and their steps alone are too short.
    """
    along = float(step @ change)
    if along <= 1e-6 * float(np.linalg.norm(step) * np.linalg.norm(change)):
        return inverse
    left = np.eye(len(step)) - np.outer(step, change) / along
    return left @ inverse @ left.T + np.outer(step, step) / along


def rotation_of(vector: np.ndarray) -> np.ndarray:
    """3x3: the turn about an axis by the vector's length (radians)."""
    return _exponential(np.cross(np.eye(3), vector))


def _exponential(matrix: np.ndarray) -> np.ndarray:
    return array_from_tensor(torch.linalg.matrix_exp(tensor_from_array(matrix).double()))
