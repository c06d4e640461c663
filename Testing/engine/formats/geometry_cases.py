"""The same anatomy and the same map seen in volumes of several orientations, odd sizes and anisotropic spacing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from carlreg.physical import PhysicalTransform
from carlreg.spaces import VolumeGrid
from support.geometry import DIRECTIONS as ALL_DIRECTIONS
from support.geometry import grid_around, lumpy_ball, points_at, positions, rotation, to_image

# Columns: the axes i, j, k in LPS.
DIRECTIONS = {
    **{name: ALL_DIRECTIONS[name] for name in ("RAS", "LAS", "LPS")},
    "oblique": rotation((1, 2, 3), 25) @ np.diag([-1.0, -1.0, 1.0]),
}
CENTER = np.array([12.0, -35.0, 110.0])


@dataclass(frozen=True, eq=False)
class GeometryCase:
    """fixed and moving images, the map between them, and fixed points off the nodes."""

    name: str
    transform: PhysicalTransform
    fixed: sitk.Image
    moving: sitk.Image
    points: np.ndarray

    @property
    def fixed_grid(self) -> VolumeGrid:
        return VolumeGrid.of(self.fixed)

    @property
    def moving_grid(self) -> VolumeGrid:
        return VolumeGrid.of(self.moving)


def anatomy(points: np.ndarray) -> np.ndarray:
    """A lumpy ball around CENTER."""
    share, texture = lumpy_ball(points, CENTER, (17, 15, 16), (4, 5, 4.5), 0.25)
    return share * (300 + texture)


def geometry_case(name: str, coarser: float = 1.0) -> GeometryCase:
    """The case of a direction in `DIRECTIONS`; the moving volume has another one.

    coarser: factor on the voxels' sizes; the volumes keep their extent.
    """

    def grid(center, size, spacing, direction) -> VolumeGrid:
        return grid_around(
            center, np.rint(np.array(size) / coarser).astype(int), np.array(spacing) * coarser, direction
        )

    names = list(DIRECTIONS)
    other = DIRECTIONS[names[(names.index(name) + 1) % len(names)]]
    fixed = grid(CENTER, (33, 28, 23), (1.3, 1.6, 1.9), DIRECTIONS[name])
    affine = np.eye(4)
    affine[:3, :3] = rotation((3, 1, 2), 12) @ np.diag([1.03, 0.97, 1.01])
    shift = np.array([9.0, -6.0, 4.0])
    affine[:3, 3] = CENTER + shift - affine[:3, :3] @ CENTER
    field_grid = grid_around(CENTER, (21, 21, 21), (4.0, 4.0, 4.0), fixed.direction)
    x = (positions(field_grid) - CENTER) / 12.0
    edge = np.prod(np.cos(np.pi / 2 * np.linspace(-1, 1, 21))[np.indices((21, 21, 21))], axis=0)[..., None]
    field = 2.5 * edge * np.stack([np.sin(x[..., 1]), np.cos(x[..., 2]), np.sin(x[..., 0])], axis=-1)
    transform = PhysicalTransform(affine, field.astype(np.float32), field_grid)
    moving = grid(CENTER + shift, (35, 31, 29), (1.4, 1.5, 1.7), other)
    rng = np.random.default_rng(5)
    margin = 4 / coarser
    inside = rng.uniform([margin] * 3, np.array(fixed.size_ijk) - 1 - margin, (40, 3))
    points = points_at(fixed, inside)
    backward = (positions(moving) - affine[:3, 3]) @ np.linalg.inv(
        affine[:3, :3]
    ).T  # alike, not equal: fine for resampling
    return GeometryCase(
        name,
        transform,
        to_image(anatomy(positions(fixed)).astype(np.float32), fixed),
        to_image(anatomy(backward).astype(np.float32), moving),
        points,
    )
