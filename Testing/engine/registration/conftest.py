"""The generated pair at two resolutions, its registration at the finer one, and errors against its known map."""

from __future__ import annotations

import carlreg
import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.phantom import make_pair
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid
from support.geometry import index_at, points_at

QUICK = RegistrationSettings(io_steps=40)
SPACING_MM, WIDE_SPACING_MM = 10.0, 6.0


@pytest.fixture(scope="module")
def pair():
    return make_pair(seed=0, spacing_mm=SPACING_MM)


@pytest.fixture(scope="session")
def wide_pair():
    return make_pair(seed=0, spacing_mm=WIDE_SPACING_MM)


@pytest.fixture(scope="session")
def wide_result(wide_pair):
    return carlreg.register(wide_pair.fixed, wide_pair.moving, QUICK)


@pytest.fixture
def right_way_round(request, monkeypatch):
    """No look at the mirrored volume, a quarter of a small registration: for tests of other things (test_mirrored.py).

    The slow tests do without nothing.
    """
    if not request.node.get_closest_marker("slow"):
        known = {"as_given": 1.0, "mirrored": None, "ratio": None}
        monkeypatch.setattr("carlreg.registration.run.orientation_of", lambda *_: known)


def body_points(pair) -> np.ndarray:
    """Fixed points (LPS mm) inside the body whose true counterpart lies inside the moving volume."""
    labels = sitk.GetArrayViewFromImage(pair.fixed_labels)
    kji = np.argwhere(labels > 0)[::37]
    grid = VolumeGrid.of(pair.fixed)
    points = points_at(grid, kji[:, ::-1])
    moving = VolumeGrid.of(pair.moving)
    index = index_at(moving, pair.moving_from_fixed(points))
    return points[((index > 1) & (index < np.asarray(moving.size_ijk) - 2)).all(1)]


def error_mm(transform, pair, points) -> np.ndarray:
    return np.linalg.norm(transform.apply(points) - pair.moving_from_fixed(points), axis=1)
