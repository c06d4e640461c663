"""A body at another size: the same map, scaled, with the same verdict and the same warnings."""

from __future__ import annotations

import dataclasses

import carlreg
import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import InputError
from carlreg.registration.finishing import finish
from carlreg.settings import RegistrationSettings

from .conftest import body_points, pair_at

SETTINGS = RegistrationSettings(grid=64, io_steps=8)
SPACING_MM = 12.0


def scaled(image: sitk.Image, factor: float) -> sitk.Image:
    """The same voxels, all lengths of the header times a factor."""
    out = sitk.Image(image)
    out.SetSpacing([factor * length for length in image.GetSpacing()])
    out.SetOrigin([factor * length for length in image.GetOrigin()])
    return out


@pytest.fixture(scope="module")
def pair():
    return pair_at(SPACING_MM)


@pytest.fixture(scope="module")
def found(pair):
    return finish(carlreg.register(pair.fixed, pair.moving, SETTINGS))


@pytest.mark.whole
@pytest.mark.parametrize("factor", [1e-3, pytest.param(0.1, marks=pytest.mark.slow), 1e3])
def test_the_same_map_at_any_size(pair, found, factor):
    other = finish(carlreg.register(scaled(pair.fixed, factor), scaled(pair.moving, factor), SETTINGS))
    points = body_points(pair)
    expected = found.transform.apply(points) - points
    moved = (other.transform.apply(factor * points) - factor * points) / factor
    assert np.linalg.norm(expected, axis=1).mean() > 50
    assert np.abs(moved - expected).max() < 1e-3 * np.linalg.norm(expected, axis=1).mean()
    assert other.start == found.start and other.warnings == found.warnings
    one, two = found.finished.quality, other.finished.quality
    assert two["verdict"]["word"] == one["verdict"]["word"] and two["warnings"] == one["warnings"]
    assert [check["word"] for check in two["verdict"]["checks"]] == [c["word"] for c in one["verdict"]["checks"]]
    assert two["uncertainty"]["median_mm"] == pytest.approx(factor * one["uncertainty"]["median_mm"], rel=1e-3)
    assert two["jacobian"]["fold_percent"] == one["jacobian"]["fold_percent"]


def test_a_field_spacing_that_does_not_belong_to_the_volume(pair):
    for factor, spacing, told in ((1.0, 0.05, "to"), (1e-3, 100.0, "for a fixed volume of")):
        settings = dataclasses.replace(SETTINGS, field_spacing_mm=spacing)
        with pytest.raises(InputError, match=told):
            carlreg.register(scaled(pair.fixed, factor), scaled(pair.moving, factor), settings)
