"""The figures by which any method's map from fixed to moving points is judged; all points are LPS mm."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING)]

from benchmarks.cases import Case, PointMap  # noqa: E402
from benchmarks.geometry import body_threshold, center_lps, inside, lps_from_ijk, to_ijk, voxel_centers_lps  # noqa: E402

_ROUND_TRIPS = 20_000  # points, about


def center_alignment(case: Case) -> sitk.TranslationTransform:
    """The map that puts the middle of fixed's box on the middle of moving's."""
    return sitk.TranslationTransform(3, tuple(center_lps(case.moving) - center_lps(case.fixed)))


def map_points(transform: sitk.Transform | PointMap, points_lps: np.ndarray) -> np.ndarray:
    """N x 3 fixed points through a map."""
    if isinstance(transform, sitk.Transform):
        return np.array([transform.TransformPoint(tuple(map(float, p))) for p in points_lps]).reshape(-1, 3)
    return np.asarray(transform(np.asarray(points_lps, dtype=np.float64)))


def map_on_grid(transform: sitk.Transform | PointMap, grid: sitk.Image) -> np.ndarray:
    """(D, H, W, 3) moving points of all voxels of a grid, LPS mm."""
    shape = (*grid.GetSize()[::-1], 3)
    points = voxel_centers_lps(grid)
    if isinstance(transform, sitk.Transform):
        field = sitk.TransformToDisplacementField(
            transform, sitk.sitkVectorFloat64, grid.GetSize(), grid.GetOrigin(), grid.GetSpacing(), grid.GetDirection()
        )
        return points.reshape(shape) + sitk.GetArrayViewFromImage(field)
    chunk = 1 << 20
    return np.concatenate([transform(points[a : a + chunk]) for a in range(0, len(points), chunk)]).reshape(shape)


def jacobian_determinant(map_dhw3: np.ndarray, grid: sitk.Image) -> np.ndarray:
    """Determinant of a dense map's derivative by patient position: central differences, one-sided at the edges."""
    columns = [np.gradient(map_dhw3, axis=2 - axis) for axis in range(3)]  # by i, j, k
    triple = np.einsum("...c,...c->...", columns[0], np.cross(columns[1], columns[2]))
    return triple / np.linalg.det(lps_from_ijk(grid)[:3, :3])


def fold_percent(map_dhw3: np.ndarray, grid: sitk.Image, body: np.ndarray) -> float:
    """Share of the body's voxels where the map folds (determinant <= 0), in percent."""
    folds = 0
    depth = len(map_dhw3)
    for start in range(0, depth, 32):  # slabs with one slice around them bound the memory
        low, high = max(0, start - 1), min(depth, start + 33)
        determinant = jacobian_determinant(map_dhw3[low:high], grid)
        stop = min(start + 32, depth)
        part = determinant[start - low : stop - low]
        folds += int(((part <= 0) & body[start:stop]).sum())
    return 100.0 * folds / max(int(body.sum()), 1)


def inverse_error_mm(case: Case, forward: sitk.Transform, inverse: sitk.Transform) -> float:
    """Mean distance (mm) of points of the fixed body from where the way to the moving image and back leads them.

    Only those that the moving image shows: beyond it the inverse is not known. NaN without any.
    """
    array = sitk.GetArrayViewFromImage(case.fixed)
    body = voxel_centers_lps(case.fixed)[(array > body_threshold(array)).ravel()]
    points = body[:: max(1, len(body) // _ROUND_TRIPS)]
    there = map_points(forward, points)
    seen = inside(case.moving, there)
    back = map_points(inverse, there[seen])
    return float(np.linalg.norm(back - points[seen], axis=1).mean()) if seen.any() else math.nan


def dice_of_labels(fixed_labels: np.ndarray, warped_labels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Dice overlap of each label."""
    count = int(max(fixed_labels.max(), warped_labels.max(), labels.max())) + 1
    fixed, warped = fixed_labels.ravel().astype(np.int64), warped_labels.ravel().astype(np.int64)
    in_fixed, in_warped = np.bincount(fixed, minlength=count), np.bincount(warped, minlength=count)
    in_both = np.bincount(fixed[fixed == warped], minlength=count)
    return 2.0 * in_both[labels] / np.maximum(in_fixed[labels] + in_warped[labels], 1)


def common_labels(case: Case) -> np.ndarray:
    """Labels, without 0, that occur in both label maps."""
    fixed = np.unique(sitk.GetArrayViewFromImage(case.fixed_labels))
    return np.setdiff1d(np.intersect1d(fixed, np.unique(sitk.GetArrayViewFromImage(case.moving_labels))), [0])


def evaluate(case: Case, transform: sitk.Transform | PointMap, *, dense: bool = True) -> dict:
    """Judge a map of fixed points to moving points against all the truth that a case has.

    Args:
        transform: a SimpleITK transform, or a callable N x 3 -> N x 3, LPS mm.
        dense: False leaves out what needs the map of every voxel (labels, known map, folds).
    Returns: `landmarks_mean_mm`, `landmarks_max_mm`, `landmarks_n`; `dice_mean`, `dice_n` (where the map is known, in
        the common field of view); `map_mean_mm`, `map_p95_mm` over the body in the common field of view;
        `fold_percent`. Only the keys for which the case has a truth.
    """
    metrics: dict[str, float] = {}
    if case.judged_every > 1:
        case = replace(case, fixed=case.fixed[tuple(slice(None, None, case.judged_every) for _ in range(3))])
    if case.landmarks_fixed_lps is not None:
        off = np.linalg.norm(map_points(transform, case.landmarks_fixed_lps) - case.landmarks_moving_lps, axis=1)
        metrics |= {"landmarks_mean_mm": off.mean(), "landmarks_max_mm": off.max(), "landmarks_n": len(off)}
    if not dense:
        return {key: float(value) for key, value in metrics.items()}

    moving_points = map_on_grid(transform, case.fixed)
    fixed_array = sitk.GetArrayViewFromImage(case.fixed)
    body = fixed_array > body_threshold(fixed_array)
    common = np.ones(fixed_array.shape, dtype=bool)
    if case.truth is not None:
        true_points = case.truth(voxel_centers_lps(case.fixed))
        common = inside(case.judged_in or case.moving, true_points).reshape(fixed_array.shape)
        judged = (body & common).ravel()
        off = np.linalg.norm(moving_points.reshape(-1, 3)[judged] - true_points[judged], axis=1)
        metrics |= {"map_mean_mm": off.mean(), "map_p95_mm": np.percentile(off, 95)}
    if case.fixed_labels is not None:
        warped = _nearest(case.moving_labels, moving_points.reshape(-1, 3)).reshape(fixed_array.shape)
        fixed_labels = sitk.GetArrayViewFromImage(case.fixed_labels)
        dice = dice_of_labels(fixed_labels[common], warped[common], common_labels(case))
        metrics |= {"dice_mean": dice.mean(), "dice_n": len(dice)}
    metrics["fold_percent"] = fold_percent(moving_points, case.fixed, body)
    return {key: float(value) for key, value in metrics.items()}


def _nearest(image: sitk.Image, points_lps: np.ndarray) -> np.ndarray:
    """Values of the voxels nearest to points; 0 outside."""
    array = sitk.GetArrayViewFromImage(image)
    index = np.floor(to_ijk(image, points_lps) + 0.5).astype(np.int64)
    valid = np.all((index >= 0) & (index < np.asarray(image.GetSize())), axis=1)
    values = np.zeros(len(points_lps), dtype=array.dtype)
    i, j, k = index[valid].T
    values[valid] = array[k, j, i]
    return values
