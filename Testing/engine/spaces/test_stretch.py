"""Bounds on linear maps: nothing mirrors, nothing is flattened, and what is sound stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
from carlreg.errors import InputError
from carlreg.spaces import Stretches, check_sound, nearest_sound

Rotation = pytest.importorskip("scipy.spatial.transform").Rotation
TURN = Rotation.from_rotvec([0.3, -2.0, 0.9]).as_matrix()


def stretched(*along) -> np.ndarray:
    other = Rotation.from_rotvec([-0.7, 0.1, 0.4]).as_matrix()
    return TURN @ other @ np.diag(along) @ other.T


@pytest.mark.parametrize("seed", range(20))
def test_any_matrix_has_a_nearest_one_within_the_bounds(seed):
    linear = np.random.default_rng(seed).normal(size=(3, 3)) * 10.0 ** (seed % 5 - 2)
    found = Stretches().nearest(linear)
    lengths = np.sqrt(np.linalg.eigvalsh(found.T @ found))
    assert np.linalg.det(found) > 0 and Stretches().hold(found)
    assert lengths[0] > 0.399 and lengths[2] < 2.501 and lengths[2] / lengths[0] < 1.601


def test_what_is_within_stays_and_what_is_not_keeps_its_turn():
    inside = stretched(0.85, 1.0, 1.3)
    assert Stretches().hold(inside)
    np.testing.assert_allclose(Stretches().nearest(inside), inside, atol=1e-12)
    np.testing.assert_allclose(Stretches().nearest(stretched(0.3, 0.5, 0.5)), stretched(0.4, 0.5, 0.5), atol=1e-12)
    np.testing.assert_allclose(Stretches().nearest(stretched(0.7, 1.6, 3.0)), stretched(1.5625, 1.6, 2.5), atol=1e-12)
    np.testing.assert_allclose(Stretches().nearest(stretched(-0.1, 0.6, 0.6)), stretched(0.4, 0.6, 0.6), atol=1e-12)


def test_a_start_of_another_scale_has_bounds_of_its_own():
    small = stretched(0.1, 0.1, 0.1)
    bounds = Stretches.around(small)
    assert bounds.hold(small) and bounds.hold(0.8 * small) and not bounds.hold(0.5 * small)
    uneven = stretched(0.3, 1.0, 1.0)  # as when slices are thicker than the header says
    assert Stretches.around(uneven).hold(uneven) and not Stretches().hold(uneven)
    own = Stretches(0.8, 1.25, 1.2)
    assert Stretches.around(stretched(0.9, 1.0, 1.0), own) == own == Stretches.around(-np.eye(3), own)
    assert Stretches.around(-np.eye(3)) == Stretches() == Stretches.around(np.zeros((3, 3)))


def test_a_mirroring_matrix_becomes_sound_about_a_center():
    center, matrix = np.array([10.0, -20.0, 30.0]), np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = stretched(-1.0, 1.1, 1.2), [5.0, 6.0, 7.0]
    found = nearest_sound(matrix, center)
    np.testing.assert_allclose(found @ [*center, 1], matrix @ [*center, 1])
    assert Stretches().hold(found)
    sound = np.eye(4)
    assert nearest_sound(sound, center) is sound


@pytest.mark.parametrize(
    ("linear", "words"),
    [
        (np.diag([-1.0, 1, 1]), "mirrors"),
        (stretched(-0.9, 1.0, 1.2), "mirrors"),
        (stretched(0.01, 1.0, 1.0), "flattens"),
        (np.zeros((3, 3)), "flattens"),
        (np.full((3, 3), np.nan), "finite"),
    ],
)
def test_what_no_anatomy_does_is_refused(linear, words):
    with pytest.raises(InputError, match=f"mine: .*{words}"):
        check_sound(linear, "mine")


@pytest.mark.parametrize("linear", [np.eye(3), stretched(0.3, 1, 1), 1e-3 * TURN, 1e3 * TURN, np.diag([-1.0, -1, 1])])
def test_what_an_anatomy_may_do_is_not(linear):
    check_sound(linear, "mine")
