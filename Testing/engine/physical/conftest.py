"""Grids in all usual orientations, and smooth fields given by formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from carlreg.spaces import VolumeGrid


def turn(degrees: float, axis) -> np.ndarray:
    """Rotation matrix about an axis (Rodrigues)."""
    x, y, z = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = math.radians(degrees)
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


DIRECTIONS = {
    "LPS": np.eye(3),
    "RAS": np.diag([-1.0, -1.0, 1.0]),
    "LAS": np.diag([1.0, -1.0, 1.0]),
    "sagittal": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
    "oblique": turn(33.0, (1, 2, -0.5)),
}


@pytest.fixture(autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.fixture(params=list(DIRECTIONS))
def grid(request) -> VolumeGrid:
    """Odd sizes, anisotropic, away from the origin, in each orientation."""
    return VolumeGrid((33, 28, 21), (1.5, 1.25, 2.5), (-40.0, 25.0, 310.0), DIRECTIONS[request.param])


@pytest.fixture
def oblique() -> VolumeGrid:
    return VolumeGrid((33, 28, 21), (1.5, 1.25, 2.5), (-40.0, 25.0, 310.0), DIRECTIONS["oblique"])


@pytest.fixture
def make():
    """Builders that tests share."""

    class Make:
        @staticmethod
        def points(grid: VolumeGrid, count: int, margin: float = 0.0, seed: int = 0) -> np.ndarray:
            """Random LPS points in a grid's box, grown by `margin` voxels."""
            size = np.asarray(grid.size_ijk)
            index = np.random.default_rng(seed).uniform(-0.5 - margin, size - 0.5 + margin, (count, 3))
            return index @ grid.lps_from_ijk[:3, :3].T + grid.origin_lps

        @staticmethod
        def centers(grid: VolumeGrid) -> np.ndarray:
            """(D, H, W, 3) LPS voxel centers."""
            k, j, i = np.meshgrid(*(np.arange(n) for n in grid.shape_dhw), indexing="ij")
            return np.stack([i, j, k], axis=-1) @ grid.lps_from_ijk[:3, :3].T + grid.origin_lps

        @staticmethod
        def waves(points: np.ndarray, center: np.ndarray, amplitude: float = 2.0, length: float = 40.0) -> np.ndarray:
            """A smooth displacement, any shape (..., 3)."""
            x = (np.asarray(points) - center) * (2 * math.pi / length)
            return amplitude * np.stack(
                [np.sin(x[..., 1] + 0.3), np.sin(0.8 * x[..., 2]) * np.cos(x[..., 0]), np.cos(0.9 * x[..., 0])], axis=-1
            )

        @staticmethod
        def affine(degrees: float = 25.0, scale=(1.1, 0.95, 1.02), shift=(30.0, -12.0, 7.0), about=None) -> np.ndarray:
            matrix = np.eye(4)
            matrix[:3, :3] = turn(degrees, (0.3, -1.0, 0.6)) @ np.diag(scale)
            about = np.zeros(3) if about is None else np.asarray(about)
            matrix[:3, 3] = about + np.asarray(shift) - matrix[:3, :3] @ about
            return matrix

    return Make
