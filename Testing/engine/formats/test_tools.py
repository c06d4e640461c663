"""Our files in other programs' hands: points and images go where the transform sends them, in every orientation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from .geometry_cases import DIRECTIONS
from .record_tools import APPLIED, COARSER, content_of, key_of
from .tool_jobs import FILES, READ_BY, prepared
from .tools import require_tool

POINT_MM, NCC = 0.01, 0.9999
FILES_OF_TOOLS = [(tool, title) for tool, titles in READ_BY.items() for title in titles]


@pytest.fixture(scope="module")
def our_files(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("our_files"), COARSER)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("tool", "title"), FILES_OF_TOOLS)
def test_points_agree_with_what_was_recorded(our_files, tool, title, direction):
    """The files are those that the program read (record_tools.py), and it mapped the points as the transform does."""
    case, folder = our_files[direction]
    key = key_of(tool, title, direction)
    with np.load(APPLIED) as recorded:
        points, content = recorded[f"{key}: points"], recorded[f"{key}: content"]
    expected = case.transform.apply(case.points)
    assert np.linalg.norm(points - expected, axis=1).max() <= POINT_MM
    assert np.linalg.norm(expected - case.points, axis=1).min() > 1.0  # or agreement would mean nothing
    files = [Path(file) for file in FILES[title].files(folder)]
    np.testing.assert_allclose(content_of(files), content, atol=1e-3, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("tool", "title"), FILES_OF_TOOLS)
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
