"""Landmarks that guide a registration: wrong starts are mended, points are met, contradictions are named."""

import dataclasses

import carlreg
import numpy as np
import pytest
from carlreg.errors import InputError
from carlreg.physical import jacobian_determinant
from carlreg.registration.landmarks import Landmarks, as_guide, checked_landmarks
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid, apply_affine

from .conftest import QUICK, SPACING_MM, body_points, error_mm

HALF_TURN = np.array([[-1.0, 0, 0, 12.0], [0, -1.0, 0, -6.0], [0, 0, 1.0, 8.0], [0, 0, 0, 1]])


def symmetric_scan(world_from_scene):
    """A CT-like body that looks the same after half a turn about z."""
    grid = VolumeGrid((30, 30, 30), np.full(3, 5.0), np.full(3, -72.5), np.eye(3))
    points = apply_affine(np.linalg.inv(world_from_scene), grid.centers().reshape(-1, 3))
    value = 0.4 * (np.linalg.norm(points / [50, 40, 55], axis=1) < 1)
    for center, radius, more in (((25, 10, 20), 10, 0.4), ((15, -20, -20), 9, 0.5), ((0, 0, 5), 10, -0.25)):
        for place in (np.array(center), np.array(center) * [-1, -1, 1]):
            value = value + more * (np.linalg.norm(points - place, axis=1) < radius)
    noise = np.random.default_rng(0).normal(0, 5, len(value))
    return grid.image((800 * value - 200 + noise).reshape(grid.shape_dhw).astype(np.float32))


@pytest.mark.whole
def test_three_points_mend_a_start_that_the_images_cannot_tell():
    fixed, moving = symmetric_scan(np.eye(4)), symmetric_scan(HALF_TURN)
    places = np.array([[25.0, 10, 20], [-15, 20, -20], [0, 0, 5], [10, -30, 10]])
    truth = apply_affine(HALF_TURN, places)
    settings = RegistrationSettings(io_steps=8, fixed_modality="ct", moving_modality="ct", grid=32)
    plain = carlreg.register(fixed, moving, settings)
    assert np.linalg.norm(plain.transform.apply(places) - truth, axis=1)[3] > 40
    guided = carlreg.register(fixed, moving, settings, landmarks_guide=(places[:3], truth[:3]))
    assert guided.start == "landmarks"
    assert np.linalg.norm(guided.transform.apply(places) - truth, axis=1).max() < 4.0  # a voxel is 5 mm
    assert not guided.info["landmarks_guide"]["missed"]


@pytest.fixture(scope="module")
def guided(pair):
    """The pair with four landmarks that the map passes through."""
    settings = dataclasses.replace(QUICK, landmarks_accuracy_mm=0.0)
    return carlreg.register(pair.fixed, pair.moving, settings, landmarks_guide=[p[::5] for p in pair.landmarks])


def test_exact_landmarks_are_met_and_the_rest_is_no_worse(pair, guided):
    fixed, moving = (points[::5] for points in pair.landmarks)
    assert np.linalg.norm(guided.transform.apply(fixed) - moving, axis=1).max() < 0.03 * SPACING_MM
    assert error_mm(guided.transform, pair, body_points(pair)).mean() < 2.7  # the plain one's limit, see test_run.py
    assert jacobian_determinant(guided.transform, VolumeGrid.of(pair.fixed)).min() > 0
    assert guided.info["landmarks_guide"]["max_mm"] < 0.03 * SPACING_MM < guided.info["landmarks_guide"]["start_rms_mm"]


def landmarks(fixed, moving, accuracy=0.0, names=None):
    names = names or tuple("abcdefgh"[: len(fixed)])
    return Landmarks(np.asarray(fixed, float), np.asarray(moving, float), names, accuracy)


def test_contradictions_are_those_that_no_map_without_folds_meets():
    fixed = [[0, 0, 0], [4, 0, 0], [0, 50, 0], [0, 0, 0]]
    exchanged = landmarks(fixed[:3], [[4, 0, 0], [0, 0, 0], [0, 50, 0]])
    assert exchanged.contradictions(np.eye(4)) == [(0, 1)]
    assert landmarks(fixed[:3], exchanged.moving_lps, accuracy=5.0).contradictions(np.eye(4)) == []  # explained
    twice = landmarks(fixed, [[0, 0, 0], [4, 0, 0], [0, 50, 0], [3, 3, 0]])
    assert (0, 3) in twice.contradictions(np.eye(4))
    turned = landmarks(fixed[:3], apply_affine(HALF_TURN, fixed[:3]))
    assert turned.contradictions(HALF_TURN) == [] != turned.contradictions(np.eye(4))


@pytest.mark.whole
def test_contradicting_landmarks_are_named_and_nothing_folds(pair):
    fixed, moving = (np.array(points[:3]) for points in pair.landmarks)
    fixed[1] = fixed[0] + [SPACING_MM / 2, 0, 0]
    moving[1] = moving[0] - pair.moving_from_fixed.pose[:3, 0] * 2 * SPACING_MM
    settings = dataclasses.replace(QUICK, landmarks_accuracy_mm=0.0)
    result = carlreg.register(
        pair.fixed, pair.moving, settings, landmarks_guide=(fixed, moving, ["apex", "carina", "hilum"])
    )
    assert any("contradict each other: apex and carina." in warning for warning in result.warnings)
    assert jacobian_determinant(result.transform, VolumeGrid.of(pair.fixed)).min() > 0
    missed = np.linalg.norm(result.transform.apply(fixed) - moving, axis=1)
    assert missed[2] < 0.03 * SPACING_MM < missed[:2].max()


def test_refused_landmarks(pair):
    fixed, moving = VolumeGrid.of(pair.fixed), VolumeGrid.of(pair.moving)
    good = [points[:3] for points in pair.landmarks]

    def refused(given, settings=QUICK):
        with pytest.raises(InputError) as found:
            checked_landmarks(as_guide(given), fixed, moving, settings)
        return str(found.value)

    assert "as many fixed as moving points, at least one; got 3 and 2" in refused((good[0], good[1][:2]))
    assert "got 0 and 0" in refused((np.zeros((0, 3)), np.zeros((0, 3))))
    assert "shape (n, 3)" in refused((good[0][:, :2], good[1]))
    outside = good[1].copy()
    outside[1] += 1000
    assert "inside the moving volume; carina lies outside" in refused((good[0], outside, ["a", "carina", "b"]))
    assert "expected io method field" in refused(good, RegistrationSettings(io_method="network"))
    assert checked_landmarks(None, fixed, moving, QUICK) is None
    assert checked_landmarks(as_guide(good), fixed, moving, QUICK).accuracy_mm == pytest.approx(
        moving.spacing.mean(), rel=0.2
    )
