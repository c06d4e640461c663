"""A delivered map that passes exactly through points: a small, smooth correction of its field, without folds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..maps.exchange import tensor_from_array
from ..spaces import VolumeGrid, apply_affine
from .repair import smallest_determinants
from .transform import PhysicalTransform

# Reach of a correction: so many nodes, and so many times its length, which keeps its slope below 2.11 / 8.
_NODES, _TIMES = 6.0, 8.0
# It is tried with so many reaches, each twice the last, and solved so often: nodes are linear in between.
_WIDER, _ROUNDS = 4, 6
_LEAST_DETERMINANT = 0.02


def through_points(
    transform: PhysicalTransform,
    fixed_lps: np.ndarray,
    moving_lps: np.ndarray,
    *,
    tolerance_mm: float,
    region: VolumeGrid | None = None,
) -> tuple[PhysicalTransform, np.ndarray]:
    """The transform corrected so that it takes fixed points to moving points, and n bool: which are met.

    Each point pulls at a bump of limited reach (Wendland's C2 function) around it; beyond, the field stays bit for bit.
    Points whose correction would fold the map are left where they are, beginning with the one that is farthest off.

    Args:
        fixed_lps, moving_lps: n x 3, LPS mm. tolerance_mm: what is missed by less is met.
        region: box around the points whose outside must not change; None = all may.
    """
    wanted = apply_affine(np.linalg.inv(transform.affine_lps), moving_lps) - fixed_lps
    kept = np.arange(len(fixed_lps))
    folds = _folds(transform)
    while len(kept):
        corrected = _corrected(transform, fixed_lps[kept], wanted[kept], tolerance_mm, folds, region)
        if corrected is not None:
            transform = corrected
            break
        off = np.linalg.norm(_displacement(transform, fixed_lps[kept]) - wanted[kept], axis=1)
        kept = np.delete(kept, int(off.argmax()))
    missed = np.linalg.norm(transform.apply(fixed_lps) - moving_lps, axis=1)
    return transform, missed <= tolerance_mm


def _corrected(
    transform: PhysicalTransform,
    points: np.ndarray,
    wanted: np.ndarray,
    tolerance_mm: float,
    folds: int,
    region: VolumeGrid | None,
) -> PhysicalTransform | None:
    """The transform with all points met and no more folds; None where no reach gives that."""
    left = wanted - _displacement(transform, points)
    longest = float(np.linalg.norm(left, axis=1).max())
    if longest <= tolerance_mm:
        return transform
    reach = max(_NODES * float(transform.grid.spacing.max()), _TIMES * longest)
    widest = np.inf if region is None else _distance_to_faces(points, region)
    for _ in range(_WIDER):
        reach = min(reach, widest)
        found = _met(transform, points, wanted, reach, tolerance_mm)
        if found is not None and _folds(found) <= folds:
            return found
        if reach == widest:
            break
        reach *= 2
    return None


def _distance_to_faces(points: np.ndarray, region: VolumeGrid) -> float:
    """How far the nearest of some points is from the faces of a box, mm; at least a little."""
    normalized = apply_affine(region.normalized_from_lps, points)
    edges = region.extent_mm[::-1]
    return max(float((np.minimum(normalized, 1 - normalized) * edges).min()), 1e-3 * float(edges.max()))


def _met(
    transform: PhysicalTransform, points: np.ndarray, wanted: np.ndarray, reach: float, tolerance_mm: float
) -> PhysicalTransform | None:
    """The transform after corrections of one reach; None where they do not come to meet the points."""
    field = transform.displacement_lps.copy()
    bumps = [_bump(point, transform.grid, reach) for point in points]
    kernel = _wendland(np.linalg.norm(points[:, None] - points[None], axis=-1) / reach)
    found = transform
    for _ in range(_ROUNDS):
        left = wanted - _displacement(found, points)
        if np.linalg.norm(left, axis=1).max() <= 0.5 * tolerance_mm:
            return found
        strengths = np.linalg.lstsq(kernel, left, rcond=1e-9)[0]
        for (box, values), strength in zip(bumps, strengths, strict=True):
            field[box] += (values[..., None] * strength).astype(np.float32)
        found = replace(transform, displacement_lps=field)
        field = found.displacement_lps.copy()
    left = wanted - _displacement(found, points)
    return found if np.linalg.norm(left, axis=1).max() <= tolerance_mm else None


def _bump(point: np.ndarray, grid: VolumeGrid, reach: float) -> tuple:
    """The nodes around a point that its correction reaches, as slices of d, h, w, and its value there."""
    index = grid.index(point)
    low = np.maximum(np.floor(index - reach / grid.spacing), 0).astype(int)
    high = np.minimum(np.ceil(index + reach / grid.spacing) + 1, grid.size_ijk).astype(int)
    cropped = grid.cropped(low, np.maximum(high, low + 1))
    values = _wendland(np.linalg.norm(cropped.centers() - point, axis=-1) / reach)
    box = tuple(slice(start, start + size) for start, size in zip(low[::-1], cropped.shape_dhw, strict=True))
    return box, values


def _wendland(distance: np.ndarray) -> np.ndarray:
    """Wendland's C2 function of distances in reaches: 1 at 0, 0 from 1 on; its steepest slope is 2.11."""
    return np.clip(1 - distance, 0, None) ** 4 * (4 * distance + 1)


def _displacement(transform: PhysicalTransform, points: np.ndarray) -> np.ndarray:
    """n x 3 mm, before the affine."""
    return apply_affine(np.linalg.inv(transform.affine_lps), transform.apply(points)) - points


def _folds(transform: PhysicalTransform) -> int:
    field = tensor_from_array(transform.displacement_lps).permute(3, 0, 1, 2)
    smallest = smallest_determinants(field.contiguous(), transform.grid.spacing, transform.grid.direction)
    return int((smallest <= _LEAST_DETERMINANT).sum())
