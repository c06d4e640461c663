"""Inverses of any transform, with the error they make and where there is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..io.itk_transform import is_linear, map_points
from ..physical import invert
from ..physical.general import sample_transform
from ..physical.transform import slab_ranges
from ..spaces import VolumeGrid
from .fields import affine_after_field, displacement, statistics

_MOST_CHECKED = 4_000_000
_SLAB_VOXELS = 2**18
# What an inverse may be off, as shares of the volume's diagonal and of a voxel, the larger of both.
_OF_DIAGONAL, _OF_VOXEL = 1 / 800, 1 / 4
_ITERATIONS = 60
_POINT_TOLERANCE = 1e-5  # of a voxel


@dataclass(frozen=True, eq=False)
class Inverse:
    """transform: the other way. report: figures, plain numbers. failed: label map, 1 where there is no inverse."""

    transform: sitk.Transform
    report: dict
    failed: sitk.Image | None = None


def inverse_of(
    transform: sitk.Transform,
    domain: VolumeGrid | None,
    target: VolumeGrid | None,
    *,
    spacing_mm: float | None = None,
    tolerance_mm: float | None = None,
    check: Callable[[], None] | None = None,
) -> Inverse:
    """The inverse of a transform from a volume's points (domain) to another's (target), on the target and a margin.

    Args:
        domain, target: InputError when one is None and the transform is not linear.
        spacing_mm: of the inverse field; None = the field's own. tolerance_mm: an error above it counts as "not
        inverted"; None = a share of the target's size or of its voxels, about 0.5 mm for a head or a trunk.
    Returns: Inverse; its report: `error_mm` (mean, p99, max of going there and back, over the target's points that come
        from the domain and were inverted), `not_inverted_percent` (of the points of the side where more are lost: no
        point maps to them, or several do), `not_inverted_box_lps` (two corners on the target's side, or None),
        `nodes`, `without_inverse` (nodes of the inverse field without a solution).
    """
    if is_linear(transform):
        inverse = sitk.CompositeTransform([transform.GetInverse()]).GetNthTransform(0)
        zero = {"mean": 0.0, "p99": 0.0, "max": 0.0}
        return Inverse(inverse, {"error_mm": zero, "not_inverted_percent": 0.0, "not_inverted_box_lps": None})
    domain, target = require_grids(domain, target, "Inverting a transform that is not linear")
    physical = affine_after_field(transform) or sample_transform(transform, domain)
    if check is not None:
        check()
    found, counts = invert(physical, target, spacing_mm=spacing_mm)
    result = found.to_sitk()
    if tolerance_mm is None:
        tolerance_mm = _tolerance(target)
    report, failed = _judged(transform, result, domain, target, tolerance_mm, check)
    return Inverse(result, {**report, "nodes": counts["nodes"], "without_inverse": counts["without_inverse"]}, failed)


def _tolerance(grid: VolumeGrid) -> float:
    voxel = float(np.exp(np.log(grid.spacing).mean()))
    return max(_OF_DIAGONAL * float(np.linalg.norm(grid.extent_mm)), _OF_VOXEL * voxel)


def _judged(transform, inverse, domain, target, tolerance_mm, check) -> tuple[dict, sitk.Image]:
    """Both ways round: from the target and back (no point maps there), from the domain and back (several do)."""
    grid = _coarsened(target)
    failed = np.zeros(grid.shape_dhw, dtype=np.uint8)
    errors = []
    for start, stop, _, _, error, inside in _round_trips(inverse, transform, grid, domain, check):
        failed[start:stop] = inside & (error > tolerance_mm)
        errors.append(error[inside].astype(np.float32))
    error = np.concatenate(errors)
    lost, count = 0, 0
    for _, _, _, mapped, apart, inside in _round_trips(transform, inverse, _coarsened(domain), target, check):
        bad = inside & (apart > tolerance_mm)
        lost, count = lost + int(bad.sum()), count + int(inside.sum())
        index = np.rint(grid.index(mapped[bad])).astype(int)
        i, j, k = np.clip(index, 0, np.asarray(grid.size_ijk) - 1).T
        failed[k, j, i] = 1
    shares = [float((error > tolerance_mm).mean()) if len(error) else 0.0, lost / max(count, 1)]
    report = {
        "error_mm": statistics(error[error <= tolerance_mm]),
        "tolerance_mm": float(tolerance_mm),
        "not_inverted_percent": 100.0 * max(shares),
        "not_inverted_box_lps": _box(failed, grid),
    }
    return report, grid.image(failed)


def _coarsened(grid: VolumeGrid) -> VolumeGrid:
    if grid.voxel_count <= _MOST_CHECKED:
        return grid
    return grid.with_spacing(grid.spacing * (grid.voxel_count / _MOST_CHECKED) ** (1 / 3))


def _round_trips(first, second, grid: VolumeGrid, between: VolumeGrid, check):
    """(start, stop, points, where `first` takes them, mm off after `second`, whether inside `between`) per slab."""
    there_and_back = sitk.CompositeTransform([second, first])
    for start, stop in slab_ranges(grid, _SLAB_VOXELS):
        if check is not None:
            check()
        part = grid.cropped((0, 0, start), (*grid.size_ijk[:2], stop))
        points = part.centers()
        mapped = points + displacement(first, part)
        apart = np.linalg.norm(displacement(there_and_back, part), axis=-1)
        yield start, stop, points, mapped, apart, between.contains(mapped)


def _box(mask: np.ndarray, grid: VolumeGrid) -> list[list[float]] | None:
    k, j, i = np.nonzero(mask)
    if not len(k):
        return None
    low, high = (np.array([f(i), f(j), f(k)], dtype=float) for f in (np.min, np.max))
    corners = grid.cropped(low.astype(int), high.astype(int) + 1).corners_lps()
    digits = max(2, 2 - math.floor(math.log10(float(grid.spacing.min()))))
    return [np.round(corners.min(axis=0), digits).tolist(), np.round(corners.max(axis=0), digits).tolist()]


def map_points_back(
    transform: sitk.Transform, inverse: sitk.Transform, points_lps, voxel_mm: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The points that a transform takes to the given ones, from a near inverse: (N x 3, remaining error in mm).

    Exact where the transform is one to one: each point is improved until the transform takes it to its target.
    voxel_mm: the length of which small shares do not matter.
    """
    target = np.asarray(points_lps, dtype=np.float64).reshape(-1, 3)
    x = map_points(inverse, target)
    miss = target - map_points(transform, x)
    error = np.linalg.norm(miss, axis=1)
    for _ in range(_ITERATIONS):
        going = np.nonzero(error > _POINT_TOLERANCE * voxel_mm)[0]
        if not len(going):
            break
        # The near inverse tells where a small miss on the far side lies on the near side.
        step = map_points(inverse, target[going] + miss[going]) - map_points(inverse, target[going])
        trial = x[going] + step
        trial_miss = target[going] - map_points(transform, trial)
        trial_error = np.linalg.norm(trial_miss, axis=1)
        better = trial_error < error[going]
        if not better.any():
            break
        kept = going[better]
        x[kept], miss[kept], error[kept] = trial[better], trial_miss[better], trial_error[better]
    return x, error


def require_grids(domain: VolumeGrid | None, target: VolumeGrid | None, what: str) -> tuple[VolumeGrid, VolumeGrid]:
    """Both grids, or InputError."""
    if domain is None or target is None:
        missing = " and ".join(f"--{side}" for side, grid in (("fixed", domain), ("moving", target)) if grid is None)
        raise InputError(f"{what} needs to know where both volumes lie: name them ({missing} VOLUME).")
    return domain, target
