"""A scene of balls as a function of position, its pictures on two unrelated grids, and known poses of it."""

from __future__ import annotations

import numpy as np
import torch
from carlreg.spaces import VolumeGrid
from scipy.spatial.transform import Rotation
from support.geometry import points_at

DIRECTION = Rotation.from_euler("xyz", [10, -20, 30], degrees=True).as_matrix()


def blobs(points_lps: np.ndarray) -> np.ndarray:
    """An asymmetric scene of soft-edged balls as an analytic function of position (mm)."""
    rng = np.random.default_rng(5)
    value = np.zeros(len(points_lps))
    for _ in range(14):
        center, radius = rng.uniform(-35, 35, 3), rng.uniform(7, 16)
        value += rng.uniform(0.2, 0.6) / (1 + np.exp((np.linalg.norm(points_lps - center, axis=1) - radius) / 1.5))
    return value / 1.5


def picture(grid: VolumeGrid, scene_from_lps: np.ndarray) -> torch.Tensor:
    ijk = np.indices(grid.size_ijk).reshape(3, -1).T
    lps = points_at(grid, ijk)
    values = blobs(lps @ scene_from_lps[:3, :3].T + scene_from_lps[:3, 3])
    return torch.from_numpy(values.reshape(grid.size_ijk).transpose(2, 1, 0).astype(np.float32))[None, None]


def corner_error(found: np.ndarray, truth: np.ndarray, radius: float = 40.0) -> float:
    probes = radius * np.concatenate([np.eye(3), -np.eye(3)])
    return np.abs(probes @ (found - truth)[:3, :3].T + (found - truth)[:3, 3]).max()


def pose(angles_deg, shift) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def grids(spacing: float, moving_center=(0.0, 0.0, 0.0)):
    n = round(110 / spacing)
    fixed = VolumeGrid((n, n, n), [spacing] * 3, -DIRECTION @ np.full(3, (n - 1) / 2 * spacing), DIRECTION)
    flipped = np.diag([-1.0, -1.0, 1.0])
    n = round(130 / spacing)
    origin = np.asarray(moving_center) - flipped @ np.full(3, (n - 1) / 2 * spacing)
    return fixed, VolumeGrid((n, n, n), [spacing] * 3, origin, flipped)
