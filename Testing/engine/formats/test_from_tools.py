"""Other programs' results, read here: points go where the program itself sends them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg import formats
from carlreg.errors import InputError

from .geometry_cases import DIRECTIONS, geometry_case
from .record_tools import COARSER, folder_of
from .tool_jobs import REGISTERED_BY
from .tools import require_tool

POINT_MM = 0.01
RESULTS = [(tool, *entry) for tool, entries in REGISTERED_BY.items() for entry in entries]


def read(file, case, **options):
    return formats.read(file, fixed=case.fixed_grid, moving=case.moving_grid, **options).transform


def check(case, tool, files, theirs, warped):
    """Their files, read here, send points where they do, and warp the moving image as they do."""
    if tool == "greedy":  # its affine files are 16 numbers, in RAS; it does not say so
        parts = [read(files[0], case), read(files[1], case, convention="ras")]
    else:
        parts = [read(file, case) for file in files]
    ours = formats.map_points(formats.compose(parts), case.points)
    assert np.linalg.norm(theirs - case.points, axis=1).max() > 1.0
    assert np.linalg.norm(ours - theirs, axis=1).max() <= POINT_MM
    image = sitk.Resample(case.moving, case.fixed, formats.compose(parts), sitk.sitkLinear, 0.0)
    a, b = (sitk.GetArrayFromImage(x).ravel().astype(float) for x in (image, warped))
    # transformix interpolates by splines of the registration's parameters, so less alike there.
    assert np.corrcoef(a, b)[0, 1] >= (0.99 if tool == "elastix" else 0.9999)


@pytest.mark.parametrize(("tool", "kind", "direction"), RESULTS)
def test_points_agree_with_what_was_recorded(tool, kind, direction):
    """With the programs' versions in recorded/versions.txt; record_tools.py made the files."""
    folder = folder_of(tool, kind, direction)
    files = [folder / name for name in json.loads((folder / "files.json").read_text())]
    warped = sitk.ReadImage(str(folder / "warped.nii.gz"))
    check(geometry_case(direction, COARSER), tool, files, np.load(folder / "points.npy"), warped)


@pytest.mark.slow
@pytest.mark.parametrize(("tool", "kind", "direction"), RESULTS)
def test_points_agree(tool_results, tool, kind, direction):
    case, job = tool_results(tool)[("register", kind), direction]
    require_tool(job)
    files = json.loads((Path(job["folder"]) / "files.json").read_text())
    check(case, tool, files, np.load(job["out_points"]), sitk.ReadImage(job["out_image"]))


def test_greedys_matrix_without_a_convention_is_asked_for():
    case = geometry_case("oblique", COARSER)
    with pytest.raises(InputError, match="--convention"):
        formats.read(folder_of("greedy", "", "oblique") / "affine.mat", fixed=case.fixed_grid, moving=case.moving_grid)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_any_start_is_taken(direction, tmp_path):
    """The inverse of a file that leads the other way is found."""
    case = geometry_case(direction)
    sides = formats.Sides(grids=(case.fixed_grid, case.moving_grid))
    formats.write(case.transform.to_sitk(), tmp_path / "forward.nrrd", sides=sides)
    backward = formats.read(
        tmp_path / "forward.nrrd", direction="inverse", fixed=case.moving_grid, moving=case.fixed_grid
    )
    mapped = case.transform.apply(case.points)
    assert np.linalg.norm(formats.map_points(backward.transform, mapped) - case.points, axis=1).max() < 0.2
    assert "mm off at most" in backward.notes[-1]
