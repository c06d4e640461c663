"""A symmetric registration: exchanging the scans gives the inverse map, in everything that is delivered."""

import dataclasses

import carlreg
import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import InputError
from carlreg.physical import invert, jacobian_determinant
from carlreg.registration.symmetric import as_its_network
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid, apply_affine
from scipy.ndimage import gaussian_filter

from .conftest import QUICK, SPACING_MM, body_points, error_mm

SYMMETRIC = dataclasses.replace(QUICK, symmetric=True)


@pytest.fixture(scope="module")
def both(pair):
    """The registrations of the pair and of the exchanged pair."""
    return carlreg.register(pair.fixed, pair.moving, SYMMETRIC), carlreg.register(pair.moving, pair.fixed, SYMMETRIC)


@pytest.mark.whole
def test_exchanged_scans_give_the_inverse(pair, both):
    forward, backward = both
    points = body_points(pair)
    mapped = forward.transform.apply(points)
    inverse, _ = invert(backward.transform, VolumeGrid.of(pair.fixed))
    difference = np.linalg.norm(inverse.apply(points) - mapped, axis=1)
    assert difference.mean() < 0.1 * SPACING_MM and np.percentile(difference, 99) < 0.1 * SPACING_MM
    # ... where the plain registrations differ by a quarter of a voxel and more (measured 3.4 mm).
    np.testing.assert_allclose(backward.transform.affine_lps @ forward.transform.affine_lps, np.eye(4), atol=1e-8)


def test_is_as_right_as_the_plain_one(pair, both):
    forward, backward = both
    points = body_points(pair)
    assert error_mm(forward.transform, pair, points).mean() < 2.7  # the plain one's limit, see test_run.py
    for result, image in ((forward, pair.fixed), (backward, pair.moving)):
        assert jacobian_determinant(result.transform, VolumeGrid.of(image)).min() > 0.1


def test_says_how_far_each_direction_may_be_off(pair, both):
    """The uncertainty of either result is that of its own map, on its own fixed volume."""
    forward, backward = both
    points = body_points(pair)
    for result, at in ((forward, points), (backward, forward.transform.apply(points))):
        bound = result.uncertainty.on_grid(result.fixed.grid, "bound")
        index = np.rint(result.fixed.grid.index(at)).astype(int)[:, ::-1]
        known = bound[tuple(np.clip(index, 0, np.array(bound.shape) - 1).T)]
        assert 1.0 < np.nanmedian(known) < 3 * SPACING_MM
    error = error_mm(forward.transform, pair, points)
    bound = forward.uncertainty.on_grid(forward.fixed.grid, "bound")
    index = np.rint(forward.fixed.grid.index(points)).astype(int)[:, ::-1]
    assert np.nanmean(error < bound[tuple(index.T)]) > 0.8  # meant to hold for 90 %


def test_linear_initial_transforms_serve_and_others_are_refused(pair):
    settings = dataclasses.replace(SYMMETRIC, io_steps=0)
    shift = sitk.TranslationTransform(3, (0.0, 0.0, 0.0))
    carlreg.register(pair.fixed, pair.moving, settings, initial_transform=shift)
    field = np.zeros((4, 4, 4, 3))
    field[1:3, 1:3, 1:3] = 30.0
    grid = VolumeGrid.of(pair.fixed)
    image = grid.resized((4, 4, 4)).image(field)
    with pytest.raises(InputError, match="expected a linear one for a symmetric registration"):
        carlreg.register(pair.fixed, pair.moving, settings, initial_transform=sitk.DisplacementFieldTransform(image))


@pytest.fixture(scope="module")
def bent(pair):
    """A scan, and the same one bent by some voxels."""
    image = pair.fixed
    grid = VolumeGrid.of(image)
    noise = np.random.default_rng(3).standard_normal((*grid.shape_dhw, 3))
    field = np.stack([gaussian_filter(noise[..., axis], 5.0) for axis in range(3)], axis=-1)
    field *= 1.5 * SPACING_MM / np.abs(field).max()
    bend = sitk.DisplacementFieldTransform(grid.image(field))
    return image, sitk.Resample(image, image, bend, sitk.sitkLinear, float(sitk.GetArrayViewFromImage(image).min()))


@pytest.mark.slow
def test_the_map_of_an_inverse_consistent_network_is_delivered_as_such(bent):
    """Without asking for a symmetric registration."""
    fixed, moving = bent
    settings = dataclasses.replace(QUICK, model="constricon", io_steps=0)
    forward, backward = carlreg.register(fixed, moving, settings), carlreg.register(moving, fixed, settings)
    assert forward.settings.symmetric and forward.info["deformation_start"].startswith("network")
    points = VolumeGrid.of(fixed).centers(step=3).reshape(-1, 3)
    mapped = forward.transform.apply(points)
    assert np.linalg.norm(mapped - apply_affine(forward.transform.affine_lps, points), axis=1).max() > 0.5 * SPACING_MM
    inverse, _ = invert(backward.transform, VolumeGrid.of(fixed))
    assert np.linalg.norm(inverse.apply(points) - mapped, axis=1).max() < 0.5 * SPACING_MM


def test_an_inverse_consistent_network_is_asked_in_the_given_order_where_only_that_can_be():
    consistent = RegistrationSettings(model="constricon")
    assert as_its_network(consistent, None).symmetric
    assert as_its_network(consistent, sitk.TranslationTransform(3)).symmetric
    assert not as_its_network(consistent, sitk.DisplacementFieldTransform(3)).symmetric
    assert not as_its_network(dataclasses.replace(consistent, io_method="network"), None).symmetric
    assert not as_its_network(RegistrationSettings(), None).symmetric


def test_only_the_field_is_optimized_half_way():
    with pytest.raises(InputError, match="expected io method field"):
        RegistrationSettings(symmetric=True, io_method="network")
    RegistrationSettings(symmetric=True, io_method="network", io_steps=0)
    with pytest.raises(InputError, match="symmetric: expected true or false"):
        RegistrationSettings(symmetric=1)
