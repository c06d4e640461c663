"""Volumes and label maps through a transform: SimpleITK's values, in their own pixel type."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import InputError
from carlreg.outputs.resample import resample
from carlreg.spaces import VolumeGrid


def through(case, image, interpolation):
    """An image of the moving side on the fixed grid."""
    return resample(image, case.result.transform.to_sitk(), case.result.fixed.grid, interpolation)


@pytest.mark.parametrize(
    ("interpolation", "interpolator"),
    [("linear", sitk.sitkLinear), ("nearest", sitk.sitkNearestNeighbor), ("bspline", sitk.sitkBSpline)],
)
def test_images_are_resampled_in_their_own_type(case, interpolation, interpolator):
    moving, fixed = case.result.moving.image, case.result.fixed.image
    found = through(case, moving, interpolation)
    assert found.GetPixelID() == sitk.sitkInt16
    assert VolumeGrid.of(found).same_as(case.result.fixed.grid)
    outside = 0.0 if interpolation == "nearest" else -1000.0
    expected = sitk.Resample(moving, fixed, case.result.transform.to_sitk(), interpolator, outside, sitk.sitkFloat64)
    difference = np.abs(sitk.GetArrayFromImage(found) - sitk.GetArrayFromImage(expected))
    assert difference.max() <= 0.51


def test_label_maps_keep_their_labels(case):
    found = through(case, case.labels[1], "nearest")
    array = sitk.GetArrayFromImage(found)
    assert found.GetPixelID() == sitk.sitkUInt16
    assert set(np.unique(array)) == {0, 2, 7, 300}
    assert (array == sitk.GetArrayFromImage(case.labels[0])).mean() > 0.97


def test_small_types_do_not_overflow(case):
    binary = sitk.Cast((case.result.moving.image > 0) * 255, sitk.sitkUInt8)
    found, linear = through(case, binary, "bspline"), through(case, binary, "linear")
    assert found.GetPixelID() == sitk.sitkUInt8
    difference = sitk.GetArrayFromImage(found).astype(int) - sitk.GetArrayFromImage(linear)
    assert np.abs(difference).max() < 200  # splines overshoot; wrapped values would differ by 255


def test_unknown_interpolation(case):
    with pytest.raises(InputError, match="interpolation"):
        through(case, case.labels[1], "cubic")
