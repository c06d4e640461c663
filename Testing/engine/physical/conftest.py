"""A grid in each orientation, and smooth fields given by formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from carlreg.spaces import VolumeGrid
from support.geometry import DIRECTIONS, positions, random_points, rotation


@pytest.fixture(autouse=True)
def _thread_count_comes_back():
    """Whatever is tested leaves PyTorch's thread count as it was; two, so that a change to one is seen."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield
        assert torch.get_num_threads() == 2
    finally:
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
        points = staticmethod(random_points)
        centers = staticmethod(positions)

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
            matrix[:3, :3] = rotation((0.3, -1.0, 0.6), degrees) @ np.diag(scale)
            about = np.zeros(3) if about is None else np.asarray(about)
            matrix[:3, 3] = about + np.asarray(shift) - matrix[:3, :3] @ about
            return matrix

    return Make
