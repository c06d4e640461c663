"""Going on from a map: nothing is searched for, the map gets better or smoother, and without steps stays what it is."""

import dataclasses

import carlreg
import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import InputError
from carlreg.physical import PhysicalTransform, jacobian_determinant
from carlreg.progress import Progress
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid

from .conftest import QUICK, SPACING_MM, body_points, error_mm

MORE = dataclasses.replace(QUICK, io_steps=30)


@pytest.fixture(scope="module")
def short(pair):
    return carlreg.register(pair.fixed, pair.moving, dataclasses.replace(QUICK, io_steps=6))


def test_more_steps_make_it_better_and_nothing_else_is_done(pair, short):
    progress = Progress()
    longer = carlreg.register(pair.fixed, pair.moving, MORE, continue_from=short, progress=progress)
    points = body_points(pair)
    before, after = (error_mm(result.transform, pair, points).mean() for result in (short, longer))
    assert after < 0.9 * before
    assert [timing.name for timing in progress.timings] == ["prepare", "optimize", "uncertainty"] and len(
        progress.steps
    ) == 30
    np.testing.assert_array_equal(longer.transform.affine_lps, short.transform.affine_lps)
    assert longer.start == "continued"
    # As a registration that ends there would state it, and about the map that is delivered.
    assert longer.uncertainty.meaning == short.uncertainty.meaning and longer.uncertainty.transform is longer.transform
    former, now = (np.nanmean(one.uncertainty.on_grid(VolumeGrid.of(pair.fixed), "bound")) for one in (short, longer))
    assert 0.5 * former < now < 1.2 * former


def test_without_steps_the_map_stays_what_it_is(pair, short):
    none = dataclasses.replace(QUICK, io_steps=0)
    for given in (short, short.transform, short.transform.to_sitk()):
        same = carlreg.register(pair.fixed, pair.moving, none, continue_from=given)
        np.testing.assert_array_equal(same.transform.displacement_lps, short.transform.displacement_lps)


def test_other_smoothness(pair, short):
    """Oracle: the spread of the Jacobian."""
    spreads = []
    for smoothness in (0.2, 20.0):
        settings = dataclasses.replace(MORE, smoothness=smoothness)
        found = carlreg.register(pair.fixed, pair.moving, settings, continue_from=short)
        spreads.append(jacobian_determinant(found.transform, VolumeGrid.of(pair.fixed)).std())
    assert spreads[1] < 0.7 * spreads[0]


def test_goes_on_symmetrically_in_either_order(pair, short):
    settings = dataclasses.replace(MORE, io_steps=10, symmetric=True)
    points = body_points(pair)
    before = error_mm(short.transform, pair, points).mean()
    for fixed, moving, given in (
        (pair.fixed, pair.moving, short),
        (pair.moving, pair.fixed, short.transform.to_sitk()),
    ):
        if fixed is pair.moving:
            given = carlreg.finish(short).finished.inverse
        found = carlreg.register(fixed, moving, settings, continue_from=given)
        at, there = (points, pair.moving_from_fixed(points))[:: 1 if fixed is pair.fixed else -1]
        error = np.linalg.norm(found.transform.apply(at) - there, axis=1).mean()
        assert error < 1.05 * before


def test_goes_on_from_any_kind_of_transform(pair):
    """A true map as a chain that the project does not write itself: ITK's B-spline after a turn."""
    pose = sitk.AffineTransform(3)
    pose.SetMatrix(pair.moving_from_fixed.pose[:3, :3].ravel().tolist())
    pose.SetTranslation(pair.moving_from_fixed.pose[:3, 3].tolist())
    spline = sitk.BSplineTransformInitializer(pair.fixed, [2, 2, 2])
    chain = sitk.CompositeTransform([pose, spline])
    found = carlreg.register(pair.fixed, pair.moving, dataclasses.replace(MORE, io_steps=0), continue_from=chain)
    points = body_points(pair)
    itk = np.array([chain.TransformPoint(point) for point in points.tolist()])
    np.testing.assert_allclose(found.transform.apply(points), itk, atol=0.01)


def test_landmarks_that_the_map_misses_by_far_are_reached(pair, short):
    shifted = short.transform.affine_lps.copy()
    shifted[:3, 3] += [0, 0, 2 * SPACING_MM]
    wrong = PhysicalTransform(shifted, short.transform.displacement_lps, short.transform.grid)
    guide = [points[::3] for points in pair.landmarks]
    found = carlreg.register(pair.fixed, pair.moving, MORE, continue_from=wrong, landmarks_guide=guide)
    points = body_points(pair)
    assert error_mm(found.transform, pair, points).mean() < 0.5 * error_mm(wrong, pair, points).mean()
    assert found.info["landmarks_guide"]["rms_mm"] < 0.5 * SPACING_MM


def test_what_cannot_be_gone_on_from(pair):
    mirror = sitk.AffineTransform(3)
    mirror.SetMatrix([-1, 0, 0, 0, 1, 0, 0, 0, 1])
    with pytest.raises(InputError, match="mirrors"):
        carlreg.register(pair.fixed, pair.moving, QUICK, continue_from=mirror)
    for method in ("network", "functional"):
        with pytest.raises(InputError, match="continue: expected io method field"):
            carlreg.register(
                pair.fixed,
                pair.moving,
                RegistrationSettings(io_method=method),
                continue_from=PhysicalTransform.from_affine(np.eye(4)),
            )
