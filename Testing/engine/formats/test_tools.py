"""Our files in other programs' hands: points and images go where the transform sends them, in every orientation."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from .geometry_cases import DIRECTIONS
from .tool_jobs import READ_BY
from .tools import require_tool

POINT_MM, NCC = 0.01, 0.9999
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("tool", "title"), [(tool, title) for tool, titles in READ_BY.items() for title in titles])
def test_points_and_images_agree(tool_results, tool, title, direction):
    case, job = tool_results(tool)[title, direction]
    require_tool(job)
    expected = case.transform.apply(case.points)
    found = np.load(job["out_points"])
    assert np.linalg.norm(found - expected, axis=1).max() <= POINT_MM
    image = sitk.ReadImage(job["out_image"], sitk.sitkFloat64)
    ours = sitk.Resample(case.moving, case.fixed, case.transform.to_sitk(), sitk.sitkLinear, 0.0, sitk.sitkFloat64)
    a, b = (sitk.GetArrayFromImage(x).ravel() for x in (image, ours))
    assert np.corrcoef(a, b)[0, 1] >= NCC
    assert np.linalg.norm(expected - case.points, axis=1).min() > 1.0  # or agreement would mean nothing
