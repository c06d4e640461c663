"""Headers with a wrong voxel size: the size is found where it is wrong, left alone where it is right, and told."""

from __future__ import annotations

import dataclasses

import carlreg
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from carlreg.optimize.candidates import AffineCandidate
from carlreg.progress import Progress
from carlreg.registration.finishing import finish
from carlreg.registration.pair import prepare_pair
from carlreg.registration.sizes import Resized, asked_for, found_size, turned_hint
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid, apply_affine
from carlreg.volumes import volume_from_image
from support.geometry import OBLIQUE

from .conftest import body_points, pair_at
from .test_rotation import turned

SETTINGS = RegistrationSettings(grid=64, io_steps=8)


@pytest.fixture(scope="module")
def pair():
    return pair_at(12.0)


def wrong_header(image: sitk.Image, factors) -> sitk.Image:
    out = sitk.Image(image)
    out.SetSpacing((np.asarray(image.GetSpacing()) * factors).tolist())
    return out


def sought(fixed: sitk.Image, moving: sitk.Image):
    """(whether the size is asked for, what is found) from aligned centers."""
    prepared = prepare_pair(volume_from_image(fixed), volume_from_image(moving), None, None, SETTINGS)
    centers = np.eye(4)
    centers[:3, 3] = prepared.moving.content.center_lps - prepared.fixed.content.center_lps
    start = AffineCandidate("content centers", centers, 0.5, 1.0)
    found = found_size(prepared, start, SETTINGS, torch.device("cpu"), Progress())
    return asked_for(prepared, [start]), found


@pytest.mark.parametrize(
    "factors", [(1.8,) * 3, pytest.param((0.45,) * 3, marks=pytest.mark.slow), (1.0, 1.0, 2.0), (1e-3,) * 3]
)
def test_a_wrong_voxel_size_is_found(pair, factors):
    asked, found = sought(pair.fixed, wrong_header(pair.moving, factors))
    assert asked and found is not None
    np.testing.assert_allclose(found.factors, 1 / np.asarray(factors), rtol=0.08)


@pytest.mark.parametrize(
    "part", ["all", *(pytest.param(part, marks=pytest.mark.slow) for part in ("upper half", "middle")), "lower third"]
)
def test_a_right_voxel_size_is_left_alone(pair, part):
    k = pair.moving.GetSize()[2]
    moving = {
        "all": pair.moving,
        "upper half": pair.moving[:, :, k // 2 :],
        "lower third": pair.moving[:, :, : k // 3],
        "middle": pair.moving[6:-6, 5:-5, k // 4 : -k // 4],
    }[part]
    asked, found = sought(pair.fixed, moving)
    assert found is None
    assert asked == (part != "all")


def test_a_start_that_is_certain_is_not_doubted(pair):
    """A crop is no other size, but a start that itself scales is looked at, however well it scores."""
    crop = pair.moving[:, :, : pair.moving.GetSize()[2] // 2]
    prepared = prepare_pair(volume_from_image(pair.fixed), volume_from_image(crop), None, None, SETTINGS)
    asked = {
        (scale, score): asked_for(prepared, [AffineCandidate("any", np.diag([scale] * 3 + [1.0]), score, 1.0)])
        for scale in (1.0, 1.8)
        for score in (0.5, 0.8)
    }
    assert asked == {(1.0, 0.5): True, (1.0, 0.8): False, (1.8, 0.5): True, (1.8, 0.8): True}
    # Of a part and a whole the first start has its score from finer images.
    of_a_part = [AffineCandidate("fine", np.eye(4), 0.5, 1.0), AffineCandidate("coarse", np.eye(4), 0.8, 1.0)]
    assert not asked_for(prepared, of_a_part)


def test_a_resized_volume_is_simpleitks():
    image = sitk.GetImageFromArray(np.arange(315, dtype=np.float32).reshape(9, 7, 5))
    image.SetSpacing((0.5, 1.5, 2.0))
    image.SetOrigin((10.0, -30.0, 50.0))
    image.SetDirection(np.asarray(OBLIQUE).ravel().tolist())
    resized = Resized(np.array([2.0, 0.5, 3.0]), VolumeGrid.of(image))
    other = resized.of_volume(volume_from_image(image)).image
    for index in ((0.0, 0.0, 0.0), (4.0, 6.0, 8.0), (1.5, 2.5, 7.0)):
        point = image.TransformContinuousIndexToPhysicalPoint(index)
        expected = other.TransformContinuousIndexToPhysicalPoint(index)
        np.testing.assert_allclose(apply_affine(resized.matrix, np.array(point)), expected, atol=1e-9)
        shift = sitk.TranslationTransform(3, (1.0, 2.0, 3.0))
        found = resized.of_transform(shift).TransformPoint(np.subtract(point, (1.0, 2.0, 3.0)).tolist())
        np.testing.assert_allclose(found, expected, atol=1e-9)
    center = (2.0, 3.0, 4.0)
    assert other.TransformContinuousIndexToPhysicalPoint(center) == pytest.approx(
        image.TransformContinuousIndexToPhysicalPoint(center)
    )


@pytest.mark.whole
def test_a_registration_with_a_wrong_voxel_size(pair):
    factor = 1.8
    result = finish(carlreg.register(pair.fixed, wrong_header(pair.moving, factor), SETTINGS))
    points = body_points(pair)
    origin = np.array(pair.moving.GetOrigin())
    expected = origin + factor * (pair.moving_from_fixed(points) - origin)  # where the wrong header says it lies
    error = np.linalg.norm(result.transform.apply(points) - expected, axis=1) / factor
    assert error.mean() < 5.0  # of voxels of 12 mm
    there_and_back = result.finished.inverse.apply(result.transform.apply(points))
    assert np.linalg.norm(there_and_back - points, axis=1).mean() < 1.0
    quality = result.finished.quality
    assert quality["verdict"]["word"] == "check"
    assert quality["size"]["mean"] == pytest.approx(factor, rel=0.1)  # the bodies are not quite of one size
    told = f"The moving image is {quality['size']['mean']:.1f} times as large as the fixed one: check its voxel size."
    assert told in quality["warnings"] and told in quality["verdict"]["reasons"]
    assert result.info["moving_resized_by"] == pytest.approx([1 / factor] * 3, rel=0.1)
    # The uncertainty is that of the delivered map, where the moving volume really lies.
    assert quality["uncertainty"]["unknown_percent"] < 60
    assert np.isfinite(result.uncertainty.at(points)).mean() > 0.5
    assert dataclasses.replace(result).transform is result.uncertainty.transform


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.5, 2.0])
def test_the_hint_at_a_size_does_not_depend_on_a_turn(pair, factor):
    moving = wrong_header(turned(pair, 12.0, 120, (2, -1, 2))[0], (factor,) * 3)
    prepared = prepare_pair(volume_from_image(pair.fixed), volume_from_image(moving), None, None, SETTINGS)
    assert turned_hint(prepared) == pytest.approx(1 / factor, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.5, 0.7, 1.5, 2.0])
def test_a_wrong_voxel_size_of_a_turned_volume_is_found(pair, factor, monkeypatch):
    """By the contents' volumes: a turned body's box says little about its size."""
    monkeypatch.setattr("carlreg.registration.sizes.ROTATIONS", 60)
    monkeypatch.setattr("carlreg.registration.starts.ROTATION_SIZE", 18)
    monkeypatch.setattr("carlreg.registration.sizes._STEPS", 1)
    settings = dataclasses.replace(SETTINGS, robustness="rotation")
    moving = wrong_header(turned(pair, 12.0, 120, (2, -1, 2))[0], (factor,) * 3)
    prepared = prepare_pair(volume_from_image(pair.fixed), volume_from_image(moving), None, None, settings)
    centers = np.eye(4)
    centers[:3, 3] = prepared.moving.content.center_lps - prepared.fixed.content.center_lps
    start = AffineCandidate("content centers", centers, 0.1, 1.0)
    found = found_size(prepared, start, settings, torch.device("cpu"), Progress())
    assert found is not None
    np.testing.assert_allclose(found.factors, 1 / factor, rtol=0.1)
