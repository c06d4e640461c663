"""Maps of one series seen together: smooth in time, composed from frame to frame, averaged, jumps found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from ..physical import PhysicalTransform, to_fixed_grid
from ..physical.general import sample_transform
from ..spaces import VolumeGrid

# A frame jumps where it moves from the one before by so many times the usual, and by a voxel more than usual.
_JUMP_Z, _LEAST_FRAMES = 5.0, 5
_POINTS = 4000


def smoothing_weights(count: int, strength: float, *, kept: int | None = None, cyclic: bool = False) -> np.ndarray:
    """count x count weights W: u = W v minimizes |u - v|^2 + strength |second differences of u in time|^2.

    kept: a frame whose displacement is 0 by definition and stays so; None = none. cyclic: the first frame follows the
    last one.
    """
    rows = range(count) if cyclic else range(1, count - 1)
    second = np.zeros((count, count))
    for row in rows:
        for at, weight in ((row - 1, 1.0), (row, -2.0), (row + 1, 1.0)):
            second[row, at % count] += weight
    system = np.eye(count) + strength * second.T @ second
    if kept is None:
        return np.linalg.inv(system)
    free = [n for n in range(count) if n != kept]
    weights = np.zeros((count, count))
    weights[np.ix_(free, free)] = np.linalg.inv(system[np.ix_(free, free)])
    return weights


def smoothed(
    maps: Sequence[PhysicalTransform],
    fixed_grid: VolumeGrid,
    strength: float,
    *,
    kept: int | None = None,
    cyclic: bool = False,
) -> list[PhysicalTransform]:
    """The maps of a series (fixed points to each frame's), smooth in time; see `smoothing_weights`."""
    grid = next((each.grid for each in maps if each.kind is None), fixed_grid)
    weights = smoothing_weights(len(maps), strength, kept=kept, cyclic=cyclic)
    found = displacements(maps, grid)
    flat = weights.astype(np.float32) @ found.reshape(len(maps), -1)
    return [
        each if n == kept else from_displacement(flat[n].reshape(*grid.shape_dhw, 3), grid, fixed_grid)
        for n, each in enumerate(maps)
    ]


def displacements(maps: Sequence[PhysicalTransform], grid: VolumeGrid) -> np.ndarray:
    """N x D x H x W x 3 float32 mm (L, P, S): where each map takes a grid's points, from them."""
    centers = grid.centers()
    return np.stack([(each.on_grid(grid) - centers).astype(np.float32) for each in maps])


def from_displacement(field_lps: np.ndarray, grid: VolumeGrid, fixed_grid: VolumeGrid) -> PhysicalTransform:
    """A map of displacements (D, H, W, 3), mm on a grid, in the form that is delivered; without folds."""
    return to_fixed_grid(np.eye(4), field_lps, grid, fixed_grid)


def composed(first: PhysicalTransform, second: PhysicalTransform, fixed_grid: VolumeGrid) -> PhysicalTransform:
    """The map that takes a point through the first map, then through the second one."""
    return sample_transform(sitk.CompositeTransform([second.to_sitk(), first.to_sitk()]), fixed_grid)


def jumps(maps: Sequence[PhysicalTransform], grid: VolumeGrid, inside: np.ndarray, cyclic: bool = False) -> list[int]:
    """Frames that jump: those between which and their neighbors the body moves far more than usual.

    inside: (D, H, W) bool, of the grid, where to look. Frame n jumps where its median distance from frame n - 1 is
    more than 5 robust standard deviations above the median of all such distances, and by more than a voxel. A frame
    that leaps out and comes back is named once, the first frame of a new place once. cyclic: the first frame follows
    the last one.
    """
    count = len(maps)
    if count < _LEAST_FRAMES or not inside.any():
        return []
    voxels = np.argwhere(inside)[:, ::-1]
    points = grid.points(voxels[:: max(1, len(voxels) // _POINTS)])
    places = np.stack([each.apply(points) for each in maps])
    steps = range(0 if cyclic else 1, count)  # of each frame from the one before
    moved = np.array([_apart(places, n, n - 1) for n in steps])
    middle = float(np.median(moved))
    spread = float(np.median(np.abs(moved - middle))) / 0.6745
    far = {n for n, one in zip(steps, moved, strict=True) if one - middle > max(_JUMP_Z * spread, grid.spacing.min())}
    # Of a cycle the search begins where nothing jumps, so that of a frame that leaps the way out comes first.
    begin = next(n for n in steps if n not in far) if cyclic else 1
    found: list[int] = []
    for n in ((begin + step) % count for step in range(len(steps))) if cyclic else steps:
        before, last = (n - 1) % count, (n - 2) % count
        back = before in found and _apart(places, n, last) <= 0.5 * _apart(places, n, before)
        if n in far and not back:
            found.append(n)
    return sorted(found)


def _apart(places: np.ndarray, one: int, other: int) -> float:
    return float(np.median(np.linalg.norm(places[one] - places[other], axis=1)))
