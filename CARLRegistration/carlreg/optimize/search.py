"""Global search: the best translation by masked correlation over all shifts, for one or for many rotations.

For each rotation of the moving image (about its own center) the normalized cross-correlation of the two images over
their overlap is computed for every shift at once by Fourier transforms. It needs no start and no network, and it
cannot be trapped; its resolution is the lattice's.

Source: Padfield, Masked object registration in the Fourier domain, IEEE TIP 2012.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..maps import sample
from ..progress import Progress
from ..spaces import VolumeGrid
from .field import affine_map

#: Shifts that leave less than this share of the smaller image's structure in common are not considered.
LEAST_OVERLAP = 0.25
_BATCH = 8


@dataclass(frozen=True)
class Found:
    """matrix: 4x4 LPS, moving_from_fixed, rigid. correlation: masked NCC there. overlap: share of the smaller image."""

    matrix: np.ndarray
    correlation: float
    overlap: float


@dataclass(frozen=True)
class SearchImage:
    """An image at search resolution: values_dhw and weight_dhw (0..1, where it has data) on an isotropic grid."""

    values_dhw: Tensor
    weight_dhw: Tensor
    grid: VolumeGrid


def rotations(count: int) -> np.ndarray:
    """count x 3 x 3 rotation matrices spread evenly over all rotations; the first is the identity.

    Source: Alexa, Super-Fibonacci spirals, CVPR 2022.
    """
    phi, psi = math.sqrt(2.0), 1.533751168755204288118041
    s = np.arange(count - 1) + 0.5
    t = s / max(count - 1, 1)
    d = 2 * math.pi * s
    r, big_r = np.sqrt(t), np.sqrt(1 - t)
    q = np.stack([r * np.sin(d / phi), r * np.cos(d / phi), big_r * np.sin(d / psi), big_r * np.cos(d / psi)], axis=1)
    q = np.concatenate([[[0.0, 0.0, 0.0, 1.0]], q])
    x, y, z, w = q.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def small_rotations(count: int, degrees: float) -> np.ndarray:
    """Those of `rotations(count)` that turn by up to so many degrees; the first is the identity."""
    every = rotations(count)
    turned = np.degrees(np.arccos(np.clip((np.trace(every, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    return every[turned <= degrees]


def search(
    fixed: SearchImage,
    moving: SearchImage,
    rotation_matrices: np.ndarray,
    *,
    keep: int = 1,
    least_overlap: float = LEAST_OVERLAP,
    progress: Progress | None = None,
) -> list[Found]:
    """The best shift for each rotation, the `keep` best of them first.

    Args:
        fixed, moving: at the same isotropic spacing, each on its own grid.
        rotation_matrices: n x 3 x 3, fixed_from_moving turns about the moving image's center, in LPS.
        least_overlap: shifts that leave less than this share of the smaller image in common are not considered.
    Returns matrices that map fixed points to moving points.
    """
    spacing = float(fixed.grid.spacing[0])
    radius = 0.5 * float(np.linalg.norm(moving.grid.extent_mm))
    turned_everywhere = len(rotation_matrices) > 1
    side = 2 * math.ceil(radius / spacing)
    turned_shape = (side,) * 3 if turned_everywhere else moving.grid.shape_dhw
    shape = [_fast_length(f + t - 1) for f, t in zip(fixed.grid.shape_dhw, turned_shape, strict=True)]
    fixed_parts = _spectra(fixed.values_dhw[None] * fixed.weight_dhw, fixed.weight_dhw[None], shape)
    both = torch.stack([moving.values_dhw * moving.weight_dhw, moving.weight_dhw])[None]
    smaller = min(float(fixed.weight_dhw.sum()), float(moving.weight_dhw.sum()))
    least = least_overlap * smaller
    # Turned images are laid out along the fixed image's axes, centered on the moving image's center.
    depth, height, width = turned_shape
    turned_grid = VolumeGrid((width, height, depth), np.full(3, spacing), np.zeros(3), fixed.grid.direction)
    turned_grid = VolumeGrid(
        turned_grid.size_ijk, turned_grid.spacing, moving.grid.center_lps - turned_grid.center_lps, fixed.grid.direction
    )
    found = []
    for begin in range(0, len(rotation_matrices), _BATCH):
        batch = rotation_matrices[begin : begin + _BATCH]
        turned = torch.cat([sample(both, _turned_map(r, moving.grid, turned_grid), padding="zeros") for r in batch])
        ncc, overlap = _masked_correlation(fixed_parts, turned[:, 0], turned[:, 1], shape, least)
        # a larger overlap makes a given correlation more credible
        score = ncc * (overlap / overlap.amax().clamp_min(1e-6)).clamp(0, 1) ** 0.25
        for b, rotation in enumerate(batch):
            place = int(score[b].argmax())
            shift = [
                (p if p < f else p - n)
                for p, f, n in zip(np.unravel_index(place, shape), fixed.grid.shape_dhw, shape, strict=True)
            ]
            found.append(
                (
                    float(score[b].flatten()[place]),
                    _found(rotation, shift, fixed.grid, moving.grid, turned_grid, ncc[b], overlap[b], place, smaller),
                )
            )
        if progress is not None:
            progress.update(min(1.0, (begin + _BATCH) / len(rotation_matrices)), "searching poses")
    found.sort(key=lambda pair: -pair[0])
    return [entry for _, entry in found[:keep]]


def _turned_map(rotation: np.ndarray, moving: VolumeGrid, turned: VolumeGrid) -> Tensor:
    """Where each voxel of the turned image lies in the moving image, moving normalized coordinates."""
    backward = np.eye(4)
    backward[:3, :3] = rotation.T
    backward[:3, 3] = moving.center_lps - rotation.T @ moving.center_lps
    return affine_map(moving.normalized_from_lps @ backward @ turned.lps_from_normalized, turned.shape_dhw)


def _found(rotation, shift_dhw, fixed, moving, turned, ncc, overlap, place, smaller) -> Found:
    # correlation at shift s: fixed voxel p + s lies on turned voxel p
    offset_lps = fixed.direction @ (np.asarray(shift_dhw[::-1], dtype=np.float64) * fixed.spacing)
    turned_from_fixed = np.eye(4)
    turned_from_fixed[:3, 3] = turned.origin_lps - fixed.origin_lps - offset_lps
    moving_from_turned = np.eye(4)
    moving_from_turned[:3, :3] = rotation.T
    moving_from_turned[:3, 3] = moving.center_lps - rotation.T @ moving.center_lps
    share = float(overlap.flatten()[place]) / max(smaller, 1e-6)
    return Found(moving_from_turned @ turned_from_fixed, float(ncc.flatten()[place]), min(1.0, share))


def _fast_length(count: int) -> int:
    """The next length of the form 2^a 3^b 5^c, which Fourier transforms like."""
    while True:
        rest = count
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return count
        count += 1


def _spectra(weighted: Tensor, weight: Tensor, shape) -> Tensor:
    """3 x batch spectra of w, w x and w x^2 (weighted = w x)."""
    square = torch.where(weight > 1e-6, weighted.square() / weight.clamp_min(1e-6), 0.0)
    return torch.fft.rfftn(torch.stack([weight, weighted, square]), s=shape, dim=(-3, -2, -1))


def _masked_correlation(fixed: Tensor, turned_weighted: Tensor, turned_weight: Tensor, shape, least: float):
    """Correlation over the overlap and the overlap itself, for all shifts: batch x shape each."""
    moving = _spectra(turned_weighted, turned_weight, shape).conj()
    f_w, f_x, f_xx = fixed
    m_w, m_x, m_xx = moving
    products = torch.stack([f_w * m_w, f_x * m_w, f_xx * m_w, f_w * m_x, f_w * m_xx, f_x * m_x])
    n, sum_f, sum_ff, sum_m, sum_mm, sum_fm = torch.fft.irfftn(products, s=shape, dim=(-3, -2, -1))
    enough = n > max(least, 1.0)
    n = n.clamp_min(1.0)
    covariance = sum_fm - sum_f * sum_m / n
    variance_f = sum_ff - sum_f.square() / n
    variance_m = sum_mm - sum_m.square() / n
    # Overlaps of blank background have no variance of their own: ask for a share of the images' full variance.
    floor = 1e-3 * n
    ncc = covariance * torch.rsqrt((variance_f.clamp_min(0) + floor) * (variance_m.clamp_min(0) + floor))
    return torch.where(enough, ncc, -1.0), torch.where(enough, n, 0.0)
