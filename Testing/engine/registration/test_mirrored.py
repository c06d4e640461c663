"""A moving volume whose left and right were exchanged is named; maps that mirror are never begun with nor delivered."""

from __future__ import annotations

import carlreg
import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import InputError, OptimizationDiverged
from carlreg.optimize.field import FieldResult, start_coefficients
from carlreg.preprocess import prepare
from carlreg.registration.field import delivered
from carlreg.registration.finishing import finish
from carlreg.registration.mirrored import mirrored_volume
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid
from carlreg.volumes import volume_from_image

from .conftest import pair_at

SETTINGS = RegistrationSettings(grid=64, io_steps=8)


@pytest.fixture(scope="module")
def pair():
    return pair_at(12.0)


def flipped(image: sitk.Image, axis: int) -> sitk.Image:
    """The voxels in the opposite order along an axis, under the same header."""
    other = sitk.GetImageFromArray(np.flip(sitk.GetArrayFromImage(image), 2 - axis).copy())
    other.CopyInformation(image)
    return other


@pytest.mark.whole
@pytest.mark.parametrize("axis", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_mirrored_volume_is_named(pair, axis):
    found = finish(carlreg.register(pair.fixed, flipped(pair.moving, axis), SETTINGS)).finished.quality
    assert found["orientation"]["ratio"] > 1.2
    assert found["verdict"]["word"] != "good"
    assert any("left and right are exchanged" in warning for warning in found["warnings"])


@pytest.mark.whole
def test_a_volume_as_it_should_be_is_not(pair):
    found = finish(carlreg.register(pair.fixed, pair.moving, SETTINGS)).finished.quality
    assert found["orientation"]["ratio"] < 0.9
    assert not any("mirrored" in warning for warning in found["warnings"])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_mirroring_is_what_numpy_makes_of_it(pair, axis):
    image = sitk.RegionOfInterest(pair.moving, [20, 18, 16], [2, 3, 4])
    image = sitk.Cast(image, sitk.sitkFloat32)
    one = mirrored_volume(prepare(volume_from_image(image, "moving")), axis)
    other = prepare(volume_from_image(flipped(image, axis), "moving"))
    np.testing.assert_array_equal(one.voxels_dhw.numpy(), other.voxels_dhw.numpy())
    np.testing.assert_allclose(one.content.origin_lps, other.content.origin_lps)
    assert one.content.size_ijk == other.content.size_ijk


def _bent(mirror: float) -> sitk.Transform:
    """A displacement field beneath an affine that mirrors (-1) or does not (1)."""
    field = sitk.Image([8, 8, 8], sitk.sitkVectorFloat64)
    field.SetSpacing([60.0] * 3)
    field.SetOrigin([-200.0] * 3)
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(np.diag([mirror, 1.0, 1.0]).ravel().tolist())
    return sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(field)])


@pytest.mark.parametrize(
    ("matrix", "words"),
    [(np.diag([-1.0, 1, 1]), "mirrors"), (np.diag([1.0, 1, 1e-4]), "flattens"), (None, "mirrors")],
)
def test_an_initial_transform_that_no_anatomy_allows_is_refused(pair, matrix, words):
    initial = _bent(-1.0)
    if matrix is not None:
        initial = sitk.AffineTransform(3)
        initial.SetMatrix(matrix.ravel().tolist())
    with pytest.raises(InputError, match=f"initial transform: .*{words}"):
        carlreg.register(pair.fixed, pair.moving, SETTINGS, initial_transform=initial)


def test_an_affine_that_mirrors_is_not_delivered():
    box = VolumeGrid((10, 10, 10), np.full(3, 8.0), np.zeros(3), np.eye(3))
    spline = FieldResult(start_coefficients(box, 16.0), box, 16.0, [])
    transform, folds = delivered(np.eye(4), spline, box, None)
    assert folds["folded_nodes"] == 0 and folds["deformation_kept_percent"] == 100.0
    for diagonal in ((-1.0, 1.0, 1.0, 1.0), (1.0, 0.01, 1.0, 1.0)):
        with pytest.raises(OptimizationDiverged, match="No alignment was found that an anatomy could have"):
            delivered(np.diag(diagonal), spline, box, None)
    spline.coefficients_13dhw[0, 0, 4, 4, 4] = 900.0  # mm, between controls of 16 mm
    transform, folds = delivered(np.eye(4), spline, box, None)
    assert folds["repaired_nodes"] > 50 and folds["folded_nodes"] == 0
    assert transform.displacement_lps.any()
