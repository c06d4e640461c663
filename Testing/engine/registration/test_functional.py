"""The map as a function, in the whole registration: as good as the spline field, inverted by what it says itself."""

import dataclasses
import time

import carlreg
import numpy as np
import pytest
from benchmarks.known_pairs import anatomy
from carlreg.errors import InputError
from carlreg.phantom import make_pair
from carlreg.physical import invert, jacobian_determinant
from carlreg.registration.finishing import finish
from carlreg.registration.functional import frame_from_lps
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid, apply_affine

from .conftest import body_points, error_mm
from .test_run import repainted

FUNCTIONAL = RegistrationSettings(io_method="functional", io_steps=16, grid=64)


@pytest.fixture(scope="module")
def result(pair):
    return carlreg.register(pair.fixed, pair.moving, FUNCTIONAL)


def test_known_map_is_recovered_without_folds(pair, result):
    points = body_points(pair)
    assert error_mm(result.transform, pair, points).mean() < 3.3  # a third of a voxel, and the best affine's
    assert np.abs(result.transform.displacement_lps).max() > 2.0
    assert jacobian_determinant(result.transform, VolumeGrid.of(pair.fixed)).min() > 0
    assert result.info["folded_nodes"] == 0 and result.info["repaired_nodes"] == 0


def test_its_own_inverse_is_taken_only_where_it_leads_back(pair, result):
    """(What is taken may be off by 0.03 nodes of the field along each axis; Newton's method by a thousandth.)"""
    grid = VolumeGrid.of(pair.moving)
    own, report = invert(result.transform, grid, own=result.own_inverse)
    nowhere, refused = invert(result.transform, grid, own=lambda points: result.own_inverse(points) + 2.0)
    plain, _ = invert(result.transform, grid)
    points = apply_affine(result.transform.affine_lps, body_points(pair))
    node_mm = float(result.transform.grid.spacing.max())
    assert 1 < report["own_percent"] <= 100 and refused["own_percent"] < report["own_percent"] / 2
    for inverse, found in ((own, report), (nowhere, refused)):
        assert np.linalg.norm(inverse.apply(points) - plain.apply(points), axis=1).max() < 0.1 * node_mm
        assert found["without_inverse"] == 0
    finished = finish(result).finished
    assert finished.quality["notes"]["inverse_own_percent"] == report["own_percent"]
    assert np.array_equal(finished.inverse.displacement_lps, own.displacement_lps)


def test_the_frame_is_a_box_about_the_content():
    grid = VolumeGrid((40, 30, 20), [2, 3, 1.5], [10, -20, 30], np.diag([-1.0, -1.0, 1.0]))
    corners = apply_affine(frame_from_lps(grid), grid.corners_lps())
    # of 80 x 90 x 30 mm, in the order k, j, i; the corner voxels' centers lie half a voxel inside
    assert np.allclose(np.abs(corners), [28.5 / 90, 87 / 90, 78 / 90])
    assert np.allclose(apply_affine(frame_from_lps(grid), grid.center_lps[None]), 0)


def test_symmetric_is_refused():
    with pytest.raises(InputError, match="expected io method field"):
        dataclasses.replace(FUNCTIONAL, symmetric=True)


@pytest.mark.slow
def test_a_pair_of_64_voxels_is_registered_to_below_one_voxel_in_a_minute_of_two_cores():
    known = anatomy(1002, size=64)
    begin = time.process_time()
    found = carlreg.register(known.fixed, known.moving, RegistrationSettings(io_method="functional"))
    assert time.process_time() - begin < 2 * 60
    assert found.info["folded_nodes"] == 0 and found.info["repaired_nodes"] == 0
    assert known.errors_mm(found.transform).mean() < 2.5  # a voxel; 3.4 mm by the affine


@pytest.mark.slow
def test_different_contrasts_are_registered_with_mind():
    pair = make_pair(seed=0, spacing_mm=7.0)
    settings = dataclasses.replace(FUNCTIONAL, similarity="mind", io_steps=100)
    found = carlreg.register(pair.fixed, repainted(pair.moving), settings)
    assert found.info["folded_nodes"] == 0
    assert error_mm(found.transform, pair, body_points(pair)).mean() < 9.5  # as the spline field; over 60 mm before
