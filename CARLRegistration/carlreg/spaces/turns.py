"""A turn in numbers for people."""

from __future__ import annotations

import numpy as np


def rotation_vector(turn: np.ndarray) -> np.ndarray:
    """3: the axis of a proper rotation matrix (3 x 3) times its angle in radians, 0 to pi."""
    import SimpleITK as sitk  # here, so that grids need NumPy alone

    versor = sitk.VersorTransform()
    versor.SetMatrix(np.asarray(turn, dtype=np.float64).ravel().tolist())
    x, y, z, w = versor.GetVersor()
    sine = float(np.linalg.norm((x, y, z)))
    return np.array((x, y, z)) / max(sine, 1e-12) * 2 * float(np.arctan2(sine, w))


def euler_degrees(turn: np.ndarray) -> np.ndarray:
    """3: degrees about the fixed axes x, then y, then z, of a rotation matrix Rz Ry Rx; y within -90 to 90."""
    turn = np.asarray(turn, dtype=np.float64)
    flat = float(np.hypot(turn[0, 0], turn[1, 0]))
    y = np.arctan2(-turn[2, 0], flat)
    if flat < 1e-9:  # x and z turn about the same axis: all of it is told as x
        return np.degrees([np.arctan2(-turn[1, 2], turn[1, 1]), y, 0.0])
    return np.degrees([np.arctan2(turn[2, 1], turn[2, 2]), y, np.arctan2(turn[1, 0], turn[0, 0])])
