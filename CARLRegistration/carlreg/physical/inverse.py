"""The numerical inverse of a delivered map, built the same way: a field on the moving grid, then an affine.

y = A(x + d(x)). With z = A^-1 y and v the solution of v = -d(z + v): x = z + v = A^-1(y + e(y)), e = A v (linear part).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..maps.exchange import array_from_tensor, tensor_from_array
from ..maps.separable import window_sums
from ..spaces import VolumeGrid, apply_affine
from .delivery import Fade, border_displacements, default_margins, sufficient_margins
from .interpolate import LatticeSampler, lattice_affine, trilinear_at
from .jacobian import determinant
from .transform import PhysicalTransform, slab_ranges
from .workers import in_threads

_CHUNK = 2**15
_COARSE = 4
_TOLERANCE = 1e-3  # of the forward field's spacing
_OWN_TOLERANCE = 0.03  # of it: up to which a map's own inverse is taken as it is
_STEPS = 40
_FILL_NODES = 12  # as far into a hole as its surroundings are heard
_ALIKE = 1.3  # images of about the same size
# Of a part of a map that changed: nodes around it, and the share of the inverse above which all of it is solved anew.
_AROUND, _MOST_RENEWED = 4, 0.7


def invert(
    transform: PhysicalTransform,
    moving_grid: VolumeGrid,
    *,
    spacing_mm: float | None = None,
    own: Callable[[np.ndarray], np.ndarray] | None = None,
    former: FormerInverse | None = None,
) -> tuple[PhysicalTransform, dict]:
    """The inverse of a forward map on the moving volume plus at least 10 %, fading to zero at the field's edge.

    Newton's method on every node, coarse to fine, with the exact derivatives of the interpolated field.

    Args:
        transform: fixed points to moving points. moving_grid: gives the inverse field's axes and extent.
        spacing_mm: of the inverse field; None = the forward field's.
        own: what the map itself says of its inverse: n x 3 points z = A^-1 y (LPS mm) -> v. It is taken where the
            forward map leads back from z + v to z within a few hundredths of a node, and elsewhere is the start.
        former: of a map that is the same but in a part: only what that part can reach is solved anew. The result is
            the same bit by bit (`residual_max_mm` is then that of this part).
    Returns: the inverse (moving points to fixed points) and a report: `nodes`, `without_inverse` (nodes where no
        point maps to within tolerance: there the field is filled from the neighbors and decays to zero),
        `residual_max_mm` over all others (in fixed space); with `own`, `own_percent` of the nodes within the moving
        volume at which it was taken. A linear map has an exact inverse, and no nodes.
    """
    if transform.kind is not None:
        return transform.linear_inverse(), {"nodes": 0, "without_inverse": 0, "residual_max_mm": 0.0}
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

    solver = _Solver(_in_indices(transform), transform.grid.shape_dhw)
    index_from_moving = transform.grid.ijk_from_lps @ inverse_affine

    coarse_fade = Fade(moving_grid, spacing * _COARSE, inner, default_margins(moving_grid, spacing), phase)
    coarse_v, coarse_failed = solver.solve(index_from_moving @ coarse_fade.grid.lps_from_ijk, coarse_fade.grid, None)
    coarse_v = _filled(coarse_v, coarse_failed)
    e_from_v = transform.affine_lps[:3, :3] @ transform.grid.lps_from_ijk[:3, :3]
    borders = border_displacements(_linear(e_from_v, coarse_v), coarse_fade.grid, coarse_fade.axis_weights)
    fade = Fade(moving_grid, spacing, inner, sufficient_margins(moving_grid, spacing, borders), phase)

    start: _Start = LatticeSampler(coarse_v, coarse_fade.grid, fade.grid, continued=True).slab
    if own is not None:
        solver.own = torch.zeros(fade.grid.shape_dhw, dtype=torch.bool)
        start = _own_start(own, inverse_affine @ fade.grid.lps_from_ijk, transform.grid.ijk_from_lps, fade.grid)
    index_from_ijk = index_from_moving @ fade.grid.lps_from_ijk
    if former is not None and own is None and not coarse_failed.any():
        renewed = _renewed(former, transform, solver, index_from_ijk, fade, start, e_from_v)
        if renewed is not None:
            return renewed
    v, failed = solver.solve(index_from_ijk, fade.grid, start)
    v = _filled(v, failed)
    e = _linear(e_from_v, v) * fade.weight_dhw
    report = {
        "nodes": fade.grid.voxel_count,
        "without_inverse": int(failed.sum()),
        "residual_max_mm": float(solver.worst * transform.grid.spacing.max()),
    }
    if solver.own is not None:
        inside = _nodes_inside(fade.grid, moving_grid)
        report["own_percent"] = round(100.0 * float(solver.own[inside].float().mean()), 1)
    return PhysicalTransform(inverse_affine, array_from_tensor(e.permute(1, 2, 3, 0)), fade.grid), report


@dataclass(frozen=True, eq=False)
class FormerInverse:
    """A map whose inverse is known. without_inverse: nodes of the inverse to which no point maps."""

    transform: PhysicalTransform
    inverse: PhysicalTransform
    without_inverse: int


def _renewed(
    former: FormerInverse,
    transform: PhysicalTransform,
    solver: _Solver,
    index_from_ijk: np.ndarray,
    fade: Fade,
    start: _Start,
    e_from_v: np.ndarray,
) -> tuple[PhysicalTransform, dict] | None:
    """The former inverse, solved anew where the change of the map reaches; None where that is not enough."""
    before, known = former.transform, former.inverse
    if former.without_inverse or not _same(before.grid, transform.grid) or not _same(known.grid, fade.grid):
        return None
    inverse_affine = np.linalg.inv(transform.affine_lps)
    if not np.array_equal(before.affine_lps, transform.affine_lps) or not np.allclose(known.affine_lps, inverse_affine):
        return None
    changed = np.argwhere((before.displacement_lps != transform.displacement_lps).any(axis=-1))
    if not torch.equal(solver.reach, _in_indices(before).abs().amax(dim=0)):  # which nodes are solved hangs on it
        return None
    report = {"nodes": fade.grid.voxel_count, "without_inverse": 0, "residual_max_mm": 0.0}
    if not len(changed):
        return replace(known, affine_lps=inverse_affine), report
    # All that leads to the changed cells, and to some around them, which the way to a solution may cross.
    low, high = changed.min(0) - _AROUND, changed.max(0) + 1 + _AROUND
    box = tuple(slice(max(int(a), 0), int(b)) for a, b in zip(low, high, strict=True))
    to_index = transform.grid.ijk_from_lps[:3, :3].T
    fields = (each.displacement_lps[box].reshape(-1, 3) @ to_index for each in (before, transform))
    reach = np.max([np.abs(field).max(0) for field in fields], axis=0)
    ends = np.stack([low[::-1] - reach, high[::-1] - 1 + reach])
    corners = np.array([[ends[c >> axis & 1, axis] for axis in range(3)] for c in range(8)])
    nodes = apply_affine(np.linalg.inv(index_from_ijk), corners)
    # Starts are interpolated between nodes so far apart.
    first = np.clip(np.floor(nodes.min(0)).astype(int) - _COARSE - 1, 0, fade.grid.size_ijk)
    last = np.clip(np.ceil(nodes.max(0)).astype(int) + _COARSE + 2, first, fade.grid.size_ijk)
    part = [(int(a), int(b)) for a, b in zip(first, last, strict=True)]
    if np.prod(last - first) > _MOST_RENEWED * fade.grid.voxel_count:
        return None
    field = known.displacement_lps
    if np.prod(last - first):
        v, failed = solver.solve(index_from_ijk, fade.grid, start, part)
        if failed.any():
            return None
        where = tuple(slice(a, b) for a, b in part[::-1])
        e = _linear(e_from_v, v) * fade.weight_dhw[where]
        field = field.copy()
        field[where] = array_from_tensor(e.permute(1, 2, 3, 0))
        report["residual_max_mm"] = float(solver.worst * transform.grid.spacing.max())
    return PhysicalTransform(inverse_affine, field, fade.grid), report


def _in_indices(transform: PhysicalTransform) -> Tensor:
    """A map's field in its own index units, as rows for scattered reading."""
    linear = torch.tensor(transform.grid.ijk_from_lps[:3, :3].T.tolist(), dtype=torch.float32)
    return tensor_from_array(transform.displacement_lps).reshape(-1, 3) @ linear


def _same(one: VolumeGrid, other: VolumeGrid) -> bool:
    return one.size_ijk == other.size_ijk and np.array_equal(one.lps_from_ijk, other.lps_from_ijk)


#: First and last plane of a slab -> 3 k j i, where to begin: f - target in the forward field's indices.
_Start = Callable[[int, int], Tensor]


def _own_start(
    own: Callable[[np.ndarray], np.ndarray], lps_from_ijk: np.ndarray, ijk_from_lps: np.ndarray, grid: VolumeGrid
) -> _Start:
    def slab(begin: int, end: int) -> Tensor:
        ijk = grid.indices(begin, end).reshape(-1, 3)
        v_lps = own(apply_affine(lps_from_ijk, ijk))
        v = np.ascontiguousarray((v_lps @ ijk_from_lps[:3, :3].T).T, dtype=np.float32)
        return tensor_from_array(v).reshape(3, end - begin, *grid.shape_dhw[1:])

    return slab


def _nodes_inside(grid: VolumeGrid, volume: VolumeGrid) -> tuple[slice, ...]:
    """The nodes of a grid along a volume's axes that lie within the volume, as slices k, j, i."""
    offset = volume.direction.T @ (grid.origin_lps - volume.origin_lps) + 0.5 * volume.spacing
    low = np.ceil(np.maximum(-offset, 0) / grid.spacing).astype(int)
    high = np.floor((volume.extent_mm - offset) / grid.spacing).astype(int) + 1
    return tuple(slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1], strict=True))


class _Solver:
    """Solves f + u(f) = target for many points; all in continuous indices of the forward field."""

    def __init__(self, rows: Tensor, shape_dhw) -> None:
        self.rows = rows
        self.shape_dhw = tuple(shape_dhw)
        self.reach = rows.abs().amax(dim=0)
        self.worst = 0.0
        self.own: Tensor | None = None  # k j i: where the start was good enough; None = it never is

    def solve(
        self,
        index_from_ijk: np.ndarray,
        grid: VolumeGrid,
        start: _Start | None,
        part: Sequence[tuple[int, int]] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(f - target as 3 k j i, failed as k j i) for all nodes of a lattice, or those of a part (i, j, k)."""
        along_i, along_j, (plane, stop) = part or [(0, n) for n in grid.size_ijk]
        depth, height, width = stop - plane, along_j[1] - along_j[0], along_i[1] - along_i[0]
        out = torch.empty((3, depth, height, width))
        failed = torch.zeros((depth, height, width), dtype=torch.bool)

        def begun(begin: int, end: int) -> Tensor:
            found = torch.zeros(1).expand(3, *failed.shape)[:, begin:end]
            if start is not None:
                found = start(begin + plane, end + plane)[:, :, slice(*along_j), slice(*along_i)]
            return found.reshape(3, -1).T

        def work(begin: int, end: int) -> float:
            ranges = [along_i, along_j, (begin + plane, end + plane)]
            target = lattice_affine(index_from_ijk, ranges).reshape(3, -1).T
            target, first = target.contiguous(), begun(begin, end).contiguous()
            good = None
            if self.own is not None:
                good = self._residual(first, target)[0].abs().amax(dim=1) <= _OWN_TOLERANCE
                self.own[begin:end] = good.reshape(end - begin, height, width)
            v, bad, worst = self._solve_points(target, first, good)
            out[:, begin:end] = v.T.reshape(3, end - begin, height, width)
            failed[begin:end] = bad.reshape(end - begin, height, width)
            return worst

        low, high = zip(along_i, along_j, (plane, stop), strict=True)
        self.worst = max(in_threads(work, slab_ranges(grid.cropped(low, high))))
        return out, failed

    def _solve_points(self, target: Tensor, start: Tensor, good: Tensor | None) -> tuple[Tensor, Tensor, float]:
        """good: points whose start stays as it is; None = none."""
        v = torch.zeros_like(target) if good is None else torch.where(good[:, None], start, 0.0)
        failed = torch.zeros(len(target), dtype=torch.bool)
        worst = 0.0
        size = torch.tensor(self.shape_dhw[::-1], dtype=target.dtype)
        near = ((target >= -0.5 - self.reach) & (target <= size - 0.5 + self.reach)).all(dim=1)
        near = (near if good is None else near & ~good).nonzero()[:, 0]
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
    out = field_3dhw.clone()
    places = failed.nonzero(as_tuple=True)
    reach = tuple(slice(max(int(found.min()) - 1, 0), int(found.max()) + 2) for found in places)
    hole = failed[reach]
    known = (~hole).float()
    values = out[(slice(None), *reach)] * known
    weight = known.clone()
    for _ in range(_FILL_NODES):
        sums = window_sums(torch.cat([values, weight[None]])[:, None], 3)[:, 0]
        mean = sums[:3] / sums[3].clamp(min=1e-6) * (sums[3] > 0)
        values = torch.where(hole, 0.9 * mean, values)
        weight = torch.where(hole, (sums[3] > 0).float(), weight)
    out[(slice(None), *reach)] = values
    return out
