"""The uncertainty in the output folder: the file, its grid, its header, and the figures over the body."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.physical import PhysicalTransform, Uncertainty
from carlreg.spaces import VolumeGrid
from support.geometry import positions

from .conftest import FIXED, write

UNMOVED = PhysicalTransform(
    np.eye(4), np.zeros((2, 2, 2, 3), np.float32), VolumeGrid((2, 2, 2), np.ones(3), np.zeros(3), np.eye(3))
)


@pytest.fixture
def stated(case):
    """Twice the height above the lowest plane plus 1 mm, linear, so that interpolation is exact; right half unknown."""
    grid = FIXED.with_spacing(6.0)
    points = positions(grid) - FIXED.center_lps
    bound = 60.0 + points[..., 2]
    stated = Uncertainty(grid, bound / 2, bound, points[..., 0], UNMOVED, FIXED, "what it means")
    case.result = replace(case.result, uncertainty=stated)
    return case


def test_file_and_figures(stated, tmp_path):
    quality = write(stated.result, tmp_path / "out")
    path = tmp_path / "out" / "uncertainty.nii.gz"
    image = sitk.ReadImage(str(path))
    assert image.GetSize() == FIXED.size_ijk
    np.testing.assert_allclose(image.GetOrigin(), FIXED.origin_lps, atol=1e-3)
    np.testing.assert_allclose(np.reshape(image.GetDirection(), (3, 3)), FIXED.direction, atol=1e-5)
    assert image.GetMetaData("descrip") == "90 % bound of the registration's error, mm; NaN where unknown"
    points = positions(FIXED) - FIXED.center_lps
    raw = gzip.decompress(path.read_bytes())[352:]
    found = np.frombuffer(raw, np.float32).reshape(FIXED.shape_dhw)
    assert np.array_equal(np.isnan(found), points[..., 0] <= 0)
    known = np.isfinite(found)
    # ITK's reader turns NaN into 0, which no known place has.
    assert np.array_equal(sitk.GetArrayFromImage(image), np.where(known, found, 0)) and found[known].min() > 0
    np.testing.assert_allclose(found[known], (60.0 + points[..., 2])[known], rtol=0.005)

    block = json.loads((tmp_path / "out" / "quality.json").read_text())["uncertainty"]
    body = sitk.GetArrayViewFromImage(stated.result.fixed.image) > -500
    inside = found[body & known]
    assert block == quality["uncertainty"] and block["meaning"] == "what it means"
    assert block["mean_mm"] == pytest.approx(inside.mean(), rel=0.01)
    assert block["p90_mm"] == pytest.approx(np.percentile(inside, 90), abs=2.1)  # a plane
    assert block["unknown_percent"] == pytest.approx(100 * np.mean(~known[body]), abs=3)
    assert "uncertainty.nii.gz" in json.loads((tmp_path / "out" / "settings.json").read_text())["files"]


def test_nothing_known_is_said_without_figures(stated, tmp_path):
    stated.result.uncertainty.known[:] = -1
    block = write(stated.result, tmp_path / "out")["uncertainty"]
    assert block["unknown_percent"] == 100.0 and block["mean_mm"] is None


def test_without_uncertainty_the_reason_is_noted(case, tmp_path):
    case.result = replace(case.result, uncertainty_reason="No uncertainty: because.")
    quality = write(case.result, tmp_path / "out")
    assert quality["uncertainty"] is None and quality["notes"]["uncertainty"] == "No uncertainty: because."
    assert not (tmp_path / "out" / "uncertainty.nii.gz").exists()
    assert "uncertainty.nii.gz" not in json.loads((tmp_path / "out" / "settings.json").read_text())["files"]
