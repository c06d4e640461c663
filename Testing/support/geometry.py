"""Grids in all usual orientations, points and images on them, by SimpleITK's geometry and never by the engine's own.

Directions are 3 x 3 with the voxel axes i, j, k as columns, in LPS. Grids are anything with `size_ijk`, `spacing`,
`origin_lps` and `direction`.
"""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk
from carlreg.spaces import VolumeGrid


def rotation(axis, degrees: float) -> np.ndarray:
    """3 x 3 about an axis, counterclockwise seen against it."""
    axis = [float(value) for value in axis]
    return np.reshape(sitk.VersorTransform(axis, math.radians(degrees)).GetMatrix(), (3, 3))


OBLIQUE = rotation((1.0, 2.0, -0.5), 33.0)
DIRECTIONS = {
    "LPS": np.eye(3),
    "RAS": np.diag([-1.0, -1.0, 1.0]),
    "LAS": np.diag([1.0, -1.0, 1.0]),
    "sagittal": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
    "oblique": OBLIQUE,
}
# How far results may be off by rounding: (relative, absolute; the absolute one for values around 1).
TOLERANCES = {"float16": (1e-3, 1e-3), "float32": (1e-5, 1e-5), "float64": (1e-9, 1e-9)}


def assert_close(found, expected, *, scale: float = 1.0) -> None:
    """Both arrays or tensors are equal up to the rounding of the less precise floating-point type of the two.

    scale: size of the numbers that the values were computed from, where it is not around 1 (mm: some 100).
    """
    # Tensors are read through lists: PyTorch may have been built against another NumPy.
    names = [str(getattr(side, "dtype", "float64")).removeprefix("torch.") for side in (found, expected)]
    relative, absolute = max(TOLERANCES.get(name, (0.0, 0.0)) for name in names)
    found, expected = (side.tolist() if hasattr(side, "tolist") else side for side in (found, expected))
    np.testing.assert_allclose(found, expected, rtol=relative, atol=absolute * scale)


def grid_around(center_lps, size_ijk, spacing, direction) -> VolumeGrid:
    """The grid whose middle lies at a point."""
    origin = np.asarray(center_lps) - direction @ ((np.asarray(size_ijk) - 1) / 2 * np.asarray(spacing))
    return VolumeGrid(size_ijk, spacing, origin, direction)


def positions(grid) -> np.ndarray:
    """(D, H, W, 3) LPS mm: every voxel's center."""
    size = [int(n) for n in grid.size_ijk]
    points = sitk.PhysicalPointSource(sitk.sitkVectorFloat64, size, *_placement(grid))
    return sitk.GetArrayFromImage(points)


def points_at(grid, index_ijk) -> np.ndarray:
    """(..., 3) LPS mm of continuous voxel indices."""
    return (np.asarray(index_ijk) * grid.spacing) @ np.asarray(grid.direction).T + grid.origin_lps


def index_at(grid, points_lps) -> np.ndarray:
    """(..., 3) continuous voxel indices of LPS points."""
    return (np.asarray(points_lps) - grid.origin_lps) @ np.asarray(grid.direction) / grid.spacing


def random_points(grid, count: int, margin: float = 0.0, seed: int = 0) -> np.ndarray:
    """count x 3 random points (LPS mm) in a grid's box, grown by `margin` voxels."""
    size = np.asarray(grid.size_ijk)
    index = np.random.default_rng(seed).uniform(-0.5 - margin, size - 0.5 + margin, (count, 3))
    return points_at(grid, index)


def to_image(array: np.ndarray, grid) -> sitk.Image:
    """A (D, H, W) array, or (D, H, W, C) of vectors, as an image on a grid."""
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    origin, spacing, direction = _placement(grid)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    return image


def lumpy_ball(points_lps, center_lps, radii, waves, rim: float) -> tuple[np.ndarray, np.ndarray]:
    """(share of tissue 0..1, texture of some 200) at points: a soft-edged ball with a pattern in it.

    radii: mm per axis. waves: mm over which the texture turns, per axis. rim: width of the edge, in radii.
    """
    x = np.asarray(points_lps) - center_lps
    radius = np.linalg.norm(x / np.asarray(radii), axis=-1)
    texture = 120 * np.sin(x[..., 0] / waves[0]) * np.cos(x[..., 1] / waves[1]) + 80 * np.sin(x[..., 2] / waves[2])
    return 0.5 + 0.5 * np.tanh((1 - radius) / rim), texture


def _placement(grid) -> tuple[list[float], list[float], list[float]]:
    return grid.origin_lps.tolist(), grid.spacing.tolist(), np.asarray(grid.direction).ravel().tolist()
