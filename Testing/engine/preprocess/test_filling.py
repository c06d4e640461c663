"""Filling of any value around a field of view, told from what looks like it; the truth is where it was put."""

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.preprocess import filling, guess_modality, prepare, without_filling
from carlreg.volumes import Volume, volume_from_image

SHAPE = (30, 40, 36)


def volume_of(array) -> Volume:
    return volume_from_image(sitk.GetImageFromArray(array), "scan")


def ct(dtype=np.int16) -> np.ndarray:
    """A trunk with lungs and bones in noisy air, Hounsfield units."""
    k, j, i = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    rng = np.random.default_rng(0)
    values = np.full(SHAPE, -990.0)
    values[(j / 0.7) ** 2 + (i / 0.85) ** 2 < 1] = 40
    for side in (-0.4, 0.4):
        values[(j / 0.4) ** 2 + ((i - side) / 0.25) ** 2 + (k / 0.8) ** 2 < 1] = -820
    values[(j - 0.5) ** 2 + i**2 < 0.02] = 700
    values += rng.normal(0, 15, SHAPE)
    return np.rint(values).astype(dtype)


def mr() -> np.ndarray:
    """A head of 60 to 250 in a background of noise."""
    k, j, i = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    rng = np.random.default_rng(1)
    inside = k**2 + j**2 + i**2 < 0.7
    values = np.where(inside, 150 + 90 * np.sin(6 * i) * np.cos(5 * k), 0)
    return np.rint(np.abs(values + rng.normal(0, 4, SHAPE))).astype(np.int16)


def padded(array, value):
    width = ((3, 5), (0, 6), (4, 0))
    where = np.pad(np.zeros(array.shape, bool), width, constant_values=True)
    return np.pad(array, width, constant_values=value), where


def on_one_side(array, value):
    width = ((0, 4), (0, 0), (0, 0))
    where = np.pad(np.zeros(array.shape, bool), width, constant_values=True)
    return np.pad(array, width, constant_values=value), where


def around_a_circle(array, value):
    j, i = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE[1:]], indexing="ij")
    where = np.broadcast_to(j**2 + i**2 > 0.95, SHAPE)
    return np.where(where, value, array).astype(array.dtype), where


def beyond_an_oblique_face(array, value):
    k, _, i = np.indices(SHAPE)
    where = k + 0.4 * i > 32
    return np.where(where, value, array).astype(array.dtype), where


FORMS = [padded, on_one_side, around_a_circle, beyond_an_oblique_face]


@pytest.mark.parametrize("value", [3071, 32767, 255, 0, 40, -500])
@pytest.mark.parametrize("form", FORMS)
def test_filling_of_ct_is_found_whatever_its_value(form, value):
    array, where = form(ct(), value)
    found = filling(volume_of(array))
    assert (found != where).mean() < 1e-3
    replaced = without_filling(volume_of(array))
    assert (replaced.array[where] == -1024).all()
    assert np.array_equal(replaced.array[~found], array[~found])
    # As if it had been filled with air in the first place.
    expected = prepare(volume_of(np.where(where, -1024, array).astype(np.int16)))
    prepared = prepare(replaced)
    assert prepared.modality == expected.modality == "ct"
    assert prepared.content.same_as(expected.content)


@pytest.mark.parametrize("value", [255, 3071, -1024, -32768])
@pytest.mark.parametrize("form", FORMS)
def test_filling_of_mr_is_found_whatever_its_value(form, value):
    array, where = form(mr(), value)
    assert (filling(volume_of(array)) != where).mean() < 1e-3
    replaced = without_filling(volume_of(array))
    assert guess_modality(replaced.array) == "mr"
    assert replaced.array.min() == 0 and (replaced.array[where] == 0).all()


def test_floating_point_images_are_filled_with_any_number():
    array, where = padded(ct(np.float32), 1e6)
    assert np.array_equal(filling(volume_of(array)), where)
    standardized = (mr() - 120.0) / 40
    standardized[mr() < 30] = 0  # cut out, and 0 outside
    found = filling(volume_of(standardized.astype(np.float32)))
    assert (found != (standardized == 0)).mean() < 0.01


def test_filling_around_filling():
    """A circle of a scanner, resampled into a larger box, in either order of values."""
    inner, where = around_a_circle(ct(), 0)
    twice = volume_of(np.pad(inner, 5, constant_values=3071))
    assert (filling(twice) != np.pad(where, 5, constant_values=True)).mean() < 1e-3
    below = volume_of(np.pad(inner, 5, constant_values=-2000))  # that counts as background already
    assert (filling(below) != np.pad(where, 5)).mean() < 1e-3


@pytest.mark.parametrize("value", [0, 3071])
def test_what_interpolation_mixed_with_filling_goes_with_it(value):
    image = sitk.GetImageFromArray(ct())
    turn = sitk.Euler3DTransform([n / 2 for n in image.GetSize()], 0.2, -0.1, 0.3)
    resampled = sitk.Resample(image, image, turn, sitk.sitkLinear, value)
    outside = sitk.GetArrayFromImage(sitk.Resample(image * 0 + 1, image, turn, sitk.sitkLinear, 0)) == 0
    replaced = without_filling(volume_from_image(resampled, "turned")).array
    assert (replaced[outside] == -1024).all()
    air = sitk.Resample(image, image, turn, sitk.sitkLinear, -1024)
    assert replaced.max() <= sitk.GetArrayFromImage(air).max()  # nothing brighter than bone is left


@pytest.mark.parametrize("value", [-1024, -2000, -3024])
def test_what_counts_as_background_already_stays(value):
    volume = volume_of(padded(ct(), value)[0])
    assert filling(volume) is None and without_filling(volume) is volume


def test_what_only_looks_like_filling_stays():
    lungs = ct()
    head = mr()
    rng = np.random.default_rng(2)
    for array in (
        lungs,
        head,
        np.maximum(lungs, -1000),  # clamped air
        np.maximum(lungs, 0),
        np.clip(lungs[:, 8:-8, 7:-7], -1000, -150),  # tissue that reaches the borders, saturated
        np.where(head < 30, 0, head),  # cut out of its background
        (lungs > -300).astype(np.uint8),  # a mask
        rng.integers(0, 3, SHAPE).astype(np.uint8) * 20,  # noise of few values
        rng.integers(0, 40, SHAPE).astype(np.uint8),
    ):
        assert filling(volume_of(array)) is None
