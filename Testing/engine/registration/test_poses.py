"""Other poses beside the one that was taken: told apart, and named where they are nearly as alike."""

from __future__ import annotations

import dataclasses

import carlreg
import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.optimize.candidates import AffineCandidate
from carlreg.registration.finishing import finish
from carlreg.registration.poses import rival_of
from carlreg.registration.starts import kept_within
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid
from scipy.spatial.transform import Rotation

from .conftest import QUICK
from .test_rotation import fewer_rotations

CONTENT = VolumeGrid((50, 60, 40), np.full(3, 4.0), np.array([-100.0, 30.0, 5.0]), np.eye(3))


def turned(degrees: float, shift_mm=(0.0, 0.0, 0.0), scale: float = 1.0) -> np.ndarray:
    """4x4: a turn about an oblique axis through the content's center, scaled, then shifted."""
    matrix = np.eye(4)
    axis = np.array([2.0, 3.0, 6.0]) / 7
    matrix[:3, :3] = scale * Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix()
    matrix[:3, 3] = CONTENT.center_lps - matrix[:3, :3] @ CONTENT.center_lps + shift_mm
    return matrix


def test_the_best_other_pose_is_named():
    starts = [
        AffineCandidate("taken", turned(20.0), 0.50),
        AffineCandidate("the same", turned(24.0, (3.0, -2.0, 1.0), 1.05), 0.49),
        AffineCandidate("another", turned(150.0), 0.45),
        AffineCandidate("a third", turned(-40.0), 0.30),
    ]
    refined = AffineCandidate("taken", turned(21.0, scale=1.02), 0.4)  # on finer images, where scores are others
    found = rival_of(refined, starts, CONTENT)
    assert found["likeness"] == pytest.approx(0.45 / 0.50)
    assert found["turned_degrees"] == pytest.approx(129.0)
    shifted = [*starts[:2], AffineCandidate("beside it", turned(20.0, (0.0, 0.0, 90.0)), 0.2)]
    assert rival_of(refined, shifted, CONTENT)["likeness"] == pytest.approx(0.4)
    assert rival_of(refined, starts[:2], CONTENT) == {"likeness": None, "turned_degrees": None}


def egg(turn: np.ndarray, seed: int) -> sitk.Image:
    """Shells of an ellipsoid that half a turn about any of its axes leaves as they are, and noise."""
    spacing = 8.0
    grid = VolumeGrid((34,) * 3, np.full(3, spacing), np.full(3, -16.5 * spacing), np.eye(3))
    points = grid.points(np.stack(np.meshgrid(*[np.arange(34)] * 3, indexing="ij"), -1).reshape(-1, 3))
    radius = np.linalg.norm(points @ turn / (120.0, 90.0, 65.0), axis=1)
    values = np.where(radius < 1, 100 + 60 * np.cos(9 * radius**2), 0).reshape((34,) * 3).T
    values = values + np.random.default_rng(seed).normal(0, 3, values.shape)
    return grid.image(np.rint(np.abs(values)).astype(np.int16))


@pytest.mark.whole
def test_a_body_that_fits_in_several_poses_is_not_good_in_silence(monkeypatch):
    fewer_rotations(monkeypatch, 200)
    settings = dataclasses.replace(QUICK, io_steps=0, grid=32, robustness="rotation")
    turn = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
    quality = finish(carlreg.register(egg(np.eye(3), 0), egg(turn, 1), settings)).finished.quality
    assert quality["pose"]["likeness"] > 0.85
    assert quality["pose"]["turned_degrees"] == pytest.approx(180.0, abs=10.0)
    assert quality["verdict"]["word"] != "good"
    assert any("Another pose, turned by" in warning for warning in quality["warnings"])


def test_an_affine_beyond_the_bounds_is_not_delivered():
    """But the best start within, or the nearest map where none is; what users give may stretch more."""
    uneven, mirrored = np.diag([1.0, 1.0, 1.7, 1.0]), np.diag([-1.0, 1.0, 1.0, 1.0])
    starts = [AffineCandidate("one", uneven, 0.5), AffineCandidate("two", turned(20.0), 0.4)]
    settings = RegistrationSettings()
    for matrix in (uneven, mirrored, 3.0 * np.eye(4), np.zeros((4, 4))):
        found, (words,) = kept_within(AffineCandidate("one", matrix), starts, CONTENT.center_lps, settings)
        assert found is starts[1] and '"two"' in words and "0.4 to 2.5 or more than 1.6" in words
    found, _ = kept_within(starts[0], starts[:1], np.zeros(3), settings)
    np.testing.assert_allclose(np.linalg.svd(found.matrix[:3, :3])[1], [1.7, 1.0625, 1.0625])
    wider = dataclasses.replace(settings, stretch_bounds=(0.5, 2.0, 2.0))
    given = AffineCandidate("initial transform", uneven)
    assert kept_within(starts[0], starts, CONTENT.center_lps, wider) == (starts[0], [])
    assert kept_within(given, starts, CONTENT.center_lps, settings) == (given, [])
