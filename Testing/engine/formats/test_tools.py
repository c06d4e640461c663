"""Our files in other programs' hands: points and images go where the transform sends them, in every orientation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg import formats

from .geometry_cases import DIRECTIONS, GeometryCase, geometry_case
from .tools import require_tool, run_jobs, tools_python

POINT_MM, NCC = 0.01, 0.9999


@dataclass(frozen=True)
class Export:
    """One file of ours: format and options, and the list of files that the tool's command names."""

    to: str
    name: str
    flat: bool = False

    def files(self, folder: Path) -> list[str]:
        if self.to == "ants":
            stem = self.name.removesuffix(".nii.gz")
            ends = ["1Warp.nii.gz"] if self.flat else ["1Warp.nii.gz", "0GenericAffine.mat"]
            return [str(folder / f"{stem}{end}") for end in ends]
        return [str(folder / self.name)]


FILES = {
    "itk composite": Export("itk", "composite.h5"),
    "itk flat": Export("itk", "flat.h5", flat=True),
    "nifti": Export("nifti", "field.nii.gz"),
    "nrrd": Export("nrrd", "field.nrrd"),
    "mha": Export("mha", "field.mha"),
    "ants pair": Export("ants", "pair.nii.gz"),
    "ants flat": Export("ants", "whole.nii.gz", flat=True),
    "elastix": Export("elastix", "transform.txt"),
    "elastix flat": Export("elastix", "flat.txt", flat=True),
}
READ_BY = {
    "ants": ["itk composite", "itk flat", "nifti", "nrrd", "mha", "ants pair", "ants flat"],
    "elastix": ["elastix", "elastix flat"],
    "greedy": ["ants flat", "nifti"],  # its affine files are text, in RAS: one field with everything in it
}


@pytest.fixture(scope="session")
def cases(tmp_path_factory) -> dict[str, tuple[GeometryCase, Path]]:
    """All orientations with all files written."""
    made = {}
    for direction in DIRECTIONS:
        case, folder = geometry_case(direction), tmp_path_factory.mktemp(direction)
        sides = formats.Sides(grids=(case.fixed_grid, case.moving_grid))
        for export in FILES.values():
            formats.write(
                case.transform.to_sitk(), folder / export.name, to=export.to, sides=sides, flatten_it=export.flat
            )
        for side in ("fixed", "moving"):
            sitk.WriteImage(getattr(case, side), str(folder / f"{side}.nii.gz"))
        np.save(folder / "points.npy", case.points)
        made[direction] = case, folder
    return made


@pytest.fixture(scope="session")
def by_tool(cases, tmp_path_factory):
    """by_tool(tool): its results for all orientations and files, computed once."""
    tools_python()
    known: dict[str, dict] = {}

    def results(tool: str) -> dict:
        if tool not in known:
            work, known[tool] = tmp_path_factory.mktemp(tool), {}
            for direction, (case, folder) in cases.items():
                for number, title in enumerate(READ_BY[tool]):
                    stem = f"{direction}_{number}"
                    known[tool][direction, title] = (
                        case,
                        {
                            "tool": tool,
                            "do": "apply",
                            "transforms": FILES[title].files(folder),
                            "points": str(folder / "points.npy"),
                            "fixed": str(folder / "fixed.nii.gz"),
                            "moving": str(folder / "moving.nii.gz"),
                            "folder": str(work / stem),
                            "out_points": str(work / f"{stem}.npy"),
                            "out_image": str(work / f"{stem}.nii.gz"),
                        },
                    )
            run_jobs([job for _, job in known[tool].values()], work)
        return known[tool]

    return results


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("tool", "title"), [(tool, title) for tool, titles in READ_BY.items() for title in titles])
def test_points_and_images_agree(by_tool, tool, title, direction):
    case, job = by_tool(tool)[direction, title]
    require_tool(job)
    expected = case.transform.apply(case.points)
    found = np.load(job["out_points"])
    assert np.linalg.norm(found - expected, axis=1).max() <= POINT_MM
    image = sitk.ReadImage(job["out_image"], sitk.sitkFloat64)
    ours = sitk.Resample(case.moving, case.fixed, case.transform.to_sitk(), sitk.sitkLinear, 0.0, sitk.sitkFloat64)
    a, b = (sitk.GetArrayFromImage(x).ravel() for x in (image, ours))
    assert np.corrcoef(a, b)[0, 1] >= NCC
    assert np.linalg.norm(expected - case.points, axis=1).min() > 1.0  # or agreement would mean nothing
