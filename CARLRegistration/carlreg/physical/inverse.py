"""The numerical inverse of a delivered map, built the same way: a field on the moving grid, then an affine.

y = A(x + d(x)). With z = A^-1 y and v the solution of v = -d(z + v): x = z + v = A^-1(y + e(y)), e = A v (linear part).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..maps.exchange import array_from_tensor, tensor_from_array
from ..maps.separable import window_sums
from ..spaces import VolumeGrid
from .delivery import Fade, border_displacements, default_margins, sufficient_margins
from .interpolate import LatticeSampler, lattice_affine, trilinear_at
from .jacobian import determinant
from .transform import PhysicalTransform, slab_ranges
from .workers import in_threads

_CHUNK = 2**15
_COARSE = 4
_TOLERANCE = 1e-3  # of the forward field's spacing
_STEPS = 40
_ALIKE = 1.3  # images of about the same size


def invert(
    transform: PhysicalTransform, moving_grid: VolumeGrid, *, spacing_mm: float | None = None
) -> tuple[PhysicalTransform, dict]:
    """The inverse of a forward map on the moving volume plus at least 10 %, fading to zero at the field's edge.

    Newton's method on every node, coarse to fine, with the exact derivatives of the interpolated field.

    Args:
        transform: fixed points to moving points. moving_grid: gives the inverse field's axes and extent.
        spacing_mm: of the inverse field; None = the forward field's.
    Returns: the inverse (moving points to fixed points) and a report: `nodes`, `without_inverse` (nodes where no
        point maps to within tolerance: there the field is filled from the neighbors and decays to zero),
        `residual_max_mm` over all others (in fixed space).
    """
    inverse_affine = np.linalg.inv(transform.affine_lps)
    if spacing_mm is None:
        spacing = np.full(3, float(np.exp(np.log(transform.grid.spacing).mean())))
        overlap = np.abs(moving_grid.direction.T @ transform.affine_lps[:3, :3] @ transform.grid.direction)
        best = overlap.argmax(axis=1)
        if len(set(best.tolist())) == 3:
            spacing = transform.grid.spacing[best]
        size = abs(float(np.linalg.det(transform.affine_lps[:3, :3]))) ** (1 / 3)
        if not 1 / _ALIKE < size < _ALIKE:  # the field's nodes are as far apart as in the other image's millimeters
            spacing = size * spacing
    else:
        spacing = np.full(3, float(spacing_mm))
    low = -0.5 * moving_grid.spacing
    high = low + moving_grid.extent_mm
    inner = np.stack([low - spacing, high + spacing], axis=1)
    phase = 0.5 * (low + high)

    # The forward field in its own index units, as rows for scattered reading.
    to_index = transform.grid.ijk_from_lps[:3, :3]
    linear = torch.tensor(to_index.T.tolist(), dtype=torch.float32)
    rows = tensor_from_array(transform.displacement_lps).reshape(-1, 3) @ linear
    solver = _Solver(rows, transform.grid.shape_dhw)
    index_from_moving = transform.grid.ijk_from_lps @ inverse_affine

    coarse_fade = Fade(moving_grid, spacing * _COARSE, inner, default_margins(moving_grid, spacing), phase)
    coarse_v, coarse_failed = solver.solve(index_from_moving @ coarse_fade.grid.lps_from_ijk, coarse_fade.grid, None)
    coarse_v = _filled(coarse_v, coarse_failed)
    e_from_v = transform.affine_lps[:3, :3] @ transform.grid.lps_from_ijk[:3, :3]
    borders = border_displacements(_linear(e_from_v, coarse_v), coarse_fade.grid, coarse_fade.axis_weights)
    fade = Fade(moving_grid, spacing, inner, sufficient_margins(moving_grid, spacing, borders), phase)

    start = LatticeSampler(coarse_v, coarse_fade.grid, fade.grid, continued=True)
    v, failed = solver.solve(index_from_moving @ fade.grid.lps_from_ijk, fade.grid, start)
    v = _filled(v, failed)
    e = _linear(e_from_v, v) * fade.weight_dhw
    report = {
        "nodes": fade.grid.voxel_count,
        "without_inverse": int(failed.sum()),
        "residual_max_mm": float(solver.worst * transform.grid.spacing.max()),
    }
    return PhysicalTransform(inverse_affine, array_from_tensor(e.permute(1, 2, 3, 0)), fade.grid), report


class _Solver:
    """Solves f + u(f) = target for many points; all in continuous indices of the forward field."""

    def __init__(self, rows: Tensor, shape_dhw) -> None:
        self.rows = rows
        self.shape_dhw = tuple(shape_dhw)
        self.reach = rows.abs().amax(dim=0)
        self.worst = 0.0

    def solve(
        self, index_from_ijk: np.ndarray, grid: VolumeGrid, start: LatticeSampler | None
    ) -> tuple[Tensor, Tensor]:
        """(f - target as 3 k j i, failed as k j i) for all nodes of a lattice."""
        depth, height, width = grid.shape_dhw
        out = torch.empty((3, depth, height, width))
        failed = torch.zeros((depth, height, width), dtype=torch.bool)

        def work(begin: int, end: int) -> float:
            target = lattice_affine(index_from_ijk, [(0, width), (0, height), (begin, end)]).reshape(3, -1).T
            first = torch.zeros_like(target) if start is None else start.slab(begin, end).reshape(3, -1).T
            v, bad, worst = self._solve_points(target.contiguous(), first.contiguous())
            out[:, begin:end] = v.T.reshape(3, end - begin, height, width)
            failed[begin:end] = bad.reshape(end - begin, height, width)
            return worst

        self.worst = max(in_threads(work, slab_ranges(grid)))
        return out, failed

    def _solve_points(self, target: Tensor, start: Tensor) -> tuple[Tensor, Tensor, float]:
        v = torch.zeros_like(target)
        failed = torch.zeros(len(target), dtype=torch.bool)
        worst = 0.0
        size = torch.tensor(self.shape_dhw[::-1], dtype=target.dtype)
        near = ((target >= -0.5 - self.reach) & (target <= size - 0.5 + self.reach)).all(dim=1).nonzero()[:, 0]
        for part in near.split(_CHUNK) if len(near) else ():
            part_v, error = self._newton(target[part], start[part])
            lost = (error > _TOLERANCE).nonzero()[:, 0]
            if len(lost):
                # A slow but steady way to a start for the few that Newton's method did not bring home.
                again, again_error = self._newton(target[part[lost]], self._relaxed(target[part[lost]]))
                better = again_error < error[lost]
                part_v[lost[better]] = again[better]
                error[lost[better]] = again_error[better]
            bad = error > _TOLERANCE
            v[part] = part_v
            failed[part] = bad
            if not bad.all():
                worst = max(worst, float(error[~bad].max()))
        return v, failed, worst

    def _relaxed(self, target: Tensor) -> Tensor:
        v = torch.zeros_like(target)
        for _ in range(60):
            v = torch.lerp(v, -trilinear_at(self.rows, self.shape_dhw, target + v), 0.35)
        return v

    def _newton(self, target: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """(v, largest component of the error) after damped Newton steps; points leave when they have converged."""
        v_out, error_out = start.clone(), torch.empty(len(target))
        active = torch.arange(len(target))
        v, residual, slope = start, *self._residual(start, target)
        error = residual.abs().amax(dim=1)
        step = _newton_step(residual, slope)
        for count in range(_STEPS):
            going = (error > 0.25 * _TOLERANCE).nonzero()[:, 0]
            if len(going) < len(active):
                v_out[active], error_out[active] = v, error
                active, target, v = active[going], target[going], v[going]
                error, step = error[going], step[going]
            if not len(active) or count == _STEPS - 1:
                break
            trial = v + step
            residual, slope = self._residual(trial, target)
            trial_error = residual.abs().amax(dim=1)
            better = trial_error < error
            v = torch.where(better[:, None], trial, v)
            step = torch.where(better[:, None], _newton_step(residual, slope), step * 0.5)
            error = torch.where(better, trial_error, error)
        v_out[active], error_out[active] = v, error
        return v_out, error_out

    def _residual(self, v: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = trilinear_at(self.rows, self.shape_dhw, target + v, gradient=True)
        return v + value, slope


def _newton_step(residual: Tensor, slope: Tensor) -> Tensor:
    """-(I + slope)^-1 residual by Cramer's rule, points x 3; the plain residual where the matrix folds."""
    columns = slope.permute(2, 1, 0).contiguous()
    for axis in range(3):
        columns[axis, axis] += 1.0
    a, b, c = columns
    r = -residual.T
    det = determinant(a, b, c)
    usable = det > 1e-3
    safe = torch.where(usable, det, torch.ones_like(det))
    step = torch.stack([determinant(r, b, c), determinant(a, r, c), determinant(a, b, r)]) / safe
    return torch.where(usable, step, r).clamp(-8.0, 8.0).T.contiguous()


def _linear(matrix: np.ndarray, field_3dhw: Tensor) -> Tensor:
    return torch.tensordot(torch.tensor(matrix.tolist(), dtype=field_3dhw.dtype), field_3dhw, dims=1)


def _filled(field_3dhw: Tensor, failed: Tensor) -> Tensor:
    """The field with its failed nodes filled from their neighbors, decaying to zero with the distance to them."""
    if not failed.any():
        return field_3dhw
    known = (~failed).float()
    values = field_3dhw * known
    weight = known.clone()
    hole = failed
    for _ in range(12):
        sums = window_sums(torch.cat([values, weight[None]])[:, None], 3)[:, 0]
        mean = sums[:3] / sums[3].clamp(min=1e-6) * (sums[3] > 0)
        values = torch.where(hole, 0.9 * mean, values)
        weight = torch.where(hole, (sums[3] > 0).float(), weight)
    return values
