"""Segments say where a registration starts: their centers, or the axes of one or two."""

import carlreg
import numpy as np
import pytest
from carlreg import SegmentsGuide
from carlreg.optimize.candidates import AffineCandidate
from carlreg.optimize.segments import SegmentPair, Side
from carlreg.registration.segment_starts import centers_of, with_known
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid, apply_affine
from support.geometry import rotation

GRID = VolumeGrid((60, 56, 52), (3.0, 3.0, 3.5), (-90.0, -80.0, -90.0), np.eye(3))
BODIES = {
    "one": ([20, 10, -15], [32, 18, 10]),
    "two": ([-30, -20, 20], [12, 20, 14]),
    "three": ([0, 30, 30], [10, 10, 10]),
    "cut": ([0, 0, -88], [30, 30, 20]),
}
TRUTH = np.eye(4)
TRUTH[:3, :3] = rotation((1, 2, 3), 130)
TRUTH[:3, 3] = [4.0, -3.0, 6.0]
FAR = [AffineCandidate("header", np.eye(4))]


def sides(name, matrix):
    center, radii = BODIES[name]
    x = apply_affine(np.linalg.inv(matrix), GRID.centers())
    return Side.of(np.linalg.norm((x - center) / radii, axis=-1) < 1, GRID, 20.0)


def pair(name, truth=TRUTH):
    return SegmentPair(name, 1.0, sides(name, np.eye(4)), sides(name, truth))


def error_mm(matrix, truth=TRUTH):
    points = np.array([BODIES[name][0] for name in ("one", "two", "three")])
    return np.linalg.norm(apply_affine(matrix, points) - apply_affine(truth, points), axis=1).max()


@pytest.mark.parametrize("names", [["one", "two", "three"], ["one"], ["one", "two"]])
def test_a_turned_scene_is_among_the_starts_and_the_header_is_not(names):
    """Three: by their centers alone. One or two: one of four turns of their axes."""
    starts = with_known(FAR, None, [pair(name) for name in names], GRID)
    errors = [error_mm(start.matrix) for start in starts]
    assert min(errors) < 4.0
    assert all(np.linalg.det(start.matrix[:3, :3]) == pytest.approx(1.0) for start in starts)
    if len(names) == 3:
        assert [start.name for start in starts] == ["segments"]


def test_what_a_volume_cuts_off_says_nothing():
    small = np.eye(4)
    small[:3, 3] = [5.0, 0.0, 0.0]
    assert centers_of([pair("cut", small)]) is None
    assert with_known(FAR, None, [pair("cut", small)], GRID) == FAR
    assert centers_of([pair("cut", small), pair("three", small)]).names == ("three",)


@pytest.mark.whole
def test_a_linear_map_is_guided_too(noise_pair):
    """Scans that are noise, each its own: only the segments can tell."""
    fixed, moving, truth, labels = noise_pair
    settings = RegistrationSettings(transform="rigid", fixed_modality="mr", moving_modality="mr", grid=32)
    result = carlreg.register(fixed, moving, settings, segments_guide=SegmentsGuide(*labels))
    assert error_mm(np.eye(4), truth) > 15.0 and error_mm(result.transform.affine_lps, truth) < 1.5
    assert [each["name"] for each in result.info["segments_guide"]] == ["1", "2", "3"]
    turn = result.transform.affine_lps[:3, :3]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)


@pytest.fixture(scope="module")
def noise_pair():
    truth = np.eye(4)
    truth[:3, :3] = rotation((1, 2, 3), 25)
    truth[:3, 3] = [9.0, -6.0, 5.0]
    random = np.random.default_rng(2)
    images = [GRID.image(random.normal(500, 100, GRID.shape_dhw).astype(np.float32)) for _ in range(2)]
    labels = []
    for matrix in (np.eye(4), truth):
        array = np.zeros(GRID.shape_dhw, np.uint8)
        for value, name in enumerate(("one", "two", "three"), 1):
            center, radii = BODIES[name]
            x = apply_affine(np.linalg.inv(matrix), GRID.centers())
            array[np.linalg.norm((x - center) / radii, axis=-1) < 1] = value
        labels.append(GRID.image(array))
    return *images, truth, labels
