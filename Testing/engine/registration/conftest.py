"""The generated pair at two resolutions, its registration at the finer one, and errors against its known map."""

from __future__ import annotations

import contextlib
import functools

import carlreg
import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.phantom import make_pair
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid
from support.geometry import index_at, points_at
from support.mirrored import right_way_round

QUICK = RegistrationSettings(io_steps=40)
SPACING_MM, WIDE_SPACING_MM = 10.0, 6.0


@functools.cache
def pair_at(spacing_mm: float, seed: int = 0):
    """The generated pair, painted once for all files; nothing writes into its images (test_run.py)."""
    return make_pair(seed=seed, spacing_mm=spacing_mm)


@pytest.fixture(scope="session")
def pair():
    return pair_at(SPACING_MM)


@pytest.fixture(scope="session")
def wide_pair():
    return pair_at(WIDE_SPACING_MM)


@pytest.fixture(scope="session")
def wide_result(wide_pair):
    return carlreg.register(wide_pair.fixed, wide_pair.moving, QUICK)


@pytest.fixture(scope="module", autouse=True)
def _right_way_round(request):
    """No look at the mirrored volume but in the tests of it, and where the slow tests run too."""
    plain = (
        request.path.name not in ("test_mirrored.py", "test_preview.py")
        and request.config.option.markexpr == "not slow"
    )
    with right_way_round() if plain else contextlib.nullcontext():
        yield


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
