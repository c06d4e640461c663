"""What the other programs are asked to do: map by our files, and register by themselves; one process per program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from carlreg import formats

from .geometry_cases import DIRECTIONS, geometry_case


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

ELASTIX = {"rigid": ["rigid"], "bspline": ["affine", "bspline"], "translation": ["translation"]}
REGISTERED_BY = {
    "ants": [("", "RAS"), ("", "oblique")],
    "greedy": [("", "RAS"), ("", "oblique")],
    "elastix": [("translation", "LPS"), ("rigid", "oblique"), ("bspline", "LAS"), ("bspline", "oblique")],
}


def prepared(folder: Path, coarser: float = 1.0) -> dict:
    """direction -> (case, folder with its volumes, points and all our files)."""
    made = {}
    for direction in DIRECTIONS:
        case, place = geometry_case(direction, coarser), folder / direction
        place.mkdir()
        sides = formats.Sides(grids=(case.fixed_grid, case.moving_grid))
        for export in FILES.values():
            formats.write(
                case.transform.to_sitk(), place / export.name, to=export.to, sides=sides, flatten_it=export.flat
            )
        for side in ("fixed", "moving"):
            sitk.WriteImage(getattr(case, side), str(place / f"{side}.nii.gz"))
        np.save(place / "points.npy", case.points)
        made[direction] = case, place
    return made


def jobs_of(tool: str, cases: dict, work: Path, apply: bool = True) -> dict:
    """(what, direction) -> (case, job); what: a file's title (where `apply`), or ('register', kind)."""
    asked = [(title, direction) for title in READ_BY[tool] for direction in DIRECTIONS if apply]
    asked += [(("register", kind), direction) for kind, direction in REGISTERED_BY[tool]]
    made = {}
    for number, (what, direction) in enumerate(asked):
        case, place = cases[direction]
        (work / str(number)).mkdir()
        job = {name: str(place / f"{name}.nii.gz") for name in ("fixed", "moving")}
        job |= {"tool": tool, "points": str(place / "points.npy"), "folder": str(work / str(number))}
        job |= {"out_points": str(work / f"{number}.npy"), "out_image": str(work / f"{number}.nii.gz")}
        if isinstance(what, tuple):
            job |= {"do": "register", "maps": ELASTIX.get(what[1], [])}
        else:
            job |= {"do": "apply", "transforms": FILES[what].files(place)}
        made[what, direction] = case, job
    return made
