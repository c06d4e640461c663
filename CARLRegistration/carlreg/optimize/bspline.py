"""A displacement field as uniform cubic B-splines: few coefficients, smooth by construction, exact refinement."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..spaces import cubic_bspline


def control_count(extent_mm: float, spacing_mm: float) -> int:
    """Control points along an axis of this extent: one before it, two behind it."""
    return math.ceil(extent_mm / spacing_mm - 1e-9) + 3


def weights_at(positions_mm: Tensor, extent_mm: float, spacing_mm: float) -> tuple[Tensor, Tensor]:
    """n first controls (whole numbers) and n x 4 weights of them and the next three, float64, at positions.

    positions_mm: n, from the box's first face. Control j sits at (j - 1) * spacing. Positions outside the box take the
    value at its face.
    """
    count = control_count(extent_mm, spacing_mm)
    t = positions_mm.to(torch.float64).clamp(0, extent_mm) / spacing_mm
    cell = t.floor().clamp_max(count - 4)
    f = t - cell
    return cell.long(), cubic_bspline(torch.stack([1 + f, f, 1 - f, 2 - f], dim=1))


def evaluation_matrix(positions_mm: Tensor, extent_mm: float, spacing_mm: float) -> Tensor:
    """len(positions) x controls: B-spline weights at positions; see `weights_at`."""
    first, weights = weights_at(positions_mm, extent_mm, spacing_mm)
    matrix = torch.zeros(len(first), control_count(extent_mm, spacing_mm), dtype=torch.float64)
    matrix.scatter_(1, first[:, None] + torch.arange(4), weights)
    return matrix.float()


def subdivision_matrix(extent_mm: float, spacing_mm: float) -> Tensor:
    """Coefficients at half the spacing that give exactly the same spline: fine controls x coarse controls."""
    coarse, fine = control_count(extent_mm, spacing_mm), control_count(extent_mm, spacing_mm / 2)
    matrix = torch.zeros(fine, coarse)
    for j in range(fine):
        # fine control j sits at (j - 1) / 2 coarse spacings, i.e. at coarse control index (j + 1) / 2
        twice = j + 1
        stencil = {-1: 1 / 8, 0: 6 / 8, 1: 1 / 8} if twice % 2 == 0 else {0: 1 / 2, 1: 1 / 2}
        for offset, weight in stencil.items():
            matrix[j, min(twice // 2 + offset, coarse - 1)] += weight
    return matrix


def bending_energy(coefficients_b3dhw: Tensor, spacing_dhw_mm) -> Tensor:
    """Mean squared second derivative (1/mm^2) of the spline's control polygon, summed over pairs of axes."""
    total = coefficients_b3dhw.new_zeros(())
    for a in range(3):
        second = torch.diff(coefficients_b3dhw, n=2, dim=2 + a) / spacing_dhw_mm[a] ** 2
        total = total + second.square().mean()
        for b in range(a):
            mixed = torch.diff(torch.diff(coefficients_b3dhw, dim=2 + a), dim=2 + b)
            total = total + 2 * (mixed / (spacing_dhw_mm[a] * spacing_dhw_mm[b])).square().mean()
    return 3 * total


def diffusion_energy(coefficients_b3dhw: Tensor, spacing_dhw_mm, stiffness_11dhw: Tensor | None = None) -> Tensor:
    """Mean squared first derivative (mm per mm) of the spline's control polygon, summed over axes and components.

    stiffness_11dhw: a factor per control, averaged between neighbors; None = 1.
    """
    total = coefficients_b3dhw.new_zeros(())
    for a in range(3):
        squared = (torch.diff(coefficients_b3dhw, dim=2 + a) / spacing_dhw_mm[a]).square()
        if stiffness_11dhw is not None:
            n = stiffness_11dhw.shape[2 + a] - 1
            between = 0.5 * (stiffness_11dhw.narrow(2 + a, 0, n) + stiffness_11dhw.narrow(2 + a, 1, n))
            squared = squared * between
        total = total + squared.mean()
    return 3 * total


def fold_penalty(coefficients_b3dhw: Tensor, spacing_dhw_mm, least: float = 0.2) -> Tensor:
    """Mean squared shortfall below `least` of the determinant of x + d(x), from the control polygon's differences."""
    rows = []
    for a in range(3):
        difference = torch.diff(coefficients_b3dhw, dim=2 + a) / spacing_dhw_mm[a]
        for b in range(3):
            if b != a:  # average to the cell's center, so that all derivatives sit at one place
                n = difference.shape[2 + b]
                difference = 0.5 * (difference.narrow(2 + b, 0, n - 1) + difference.narrow(2 + b, 1, n - 1))
        rows.append(difference[0])
    xx, xy, xz = rows[0][0] + 1, rows[0][1], rows[0][2]
    yx, yy, yz = rows[1][0], rows[1][1] + 1, rows[1][2]
    zx, zy, zz = rows[2][0], rows[2][1], rows[2][2] + 1
    determinant = xx * (yy * zz - yz * zy) - xy * (yx * zz - yz * zx) + xz * (yx * zy - yy * zx)
    return (least - determinant).clamp_min(0).square().mean()
