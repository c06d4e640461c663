"""The formats that transforms are written in: names, file endings, and how other programs apply them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..paths import given_path


@dataclass(frozen=True)
class Format:
    """One format.

    suffixes: file endings, the first is the usual one. holds: what is in the file. space: of its numbers.
    command: how the tool resamples MOVING onto FIXED; {file} and {stem} are filled in. parts: 'linear', 'field' (one
    field, with everything in it) or 'any'.
    """

    name: str
    suffixes: tuple[str, ...]
    holds: str
    space: str
    command: str
    parts: str = "field"


_SITK = "sitk.Resample(moving, fixed, sitk.ReadTransform('{file}'), sitk.sitkLinear)"
_ANTS = "antsApplyTransforms -d 3 -i MOVING -r FIXED -t {file} -o OUT"
_LPS = "LPS mm"
FORMATS = {
    entry.name: entry
    for entry in (
        Format("itk", (".h5", ".hdf5"), "ITK composite: an affine after a displacement field", _LPS, _SITK, "any"),
        Format("tfm", (".tfm",), "ITK affine transform", _LPS, _SITK, "linear"),
        Format("nifti", (".nii.gz",), "5-D NIfTI displacement field, intent 1006", "RAS mm, as 1006 says", _ANTS),
        Format("nrrd", (".nrrd",), "vector image, displacement field", _LPS, _ANTS),
        Format("mha", (".mha",), "vector image, displacement field", _LPS, _ANTS),
        Format(
            "ants",
            (".nii.gz",),
            "ANTs' pair: STEM1Warp.nii.gz (5-D NIfTI, intent 1007) and STEM0GenericAffine.mat",
            _LPS,
            "antsApplyTransforms -d 3 -i MOVING -r FIXED -t {stem}1Warp.nii.gz -t {stem}0GenericAffine.mat -o OUT",
            "any",
        ),
        Format(
            "elastix",
            (".txt",),
            "transformix parameter files: an affine after a field in an .mha file beside it",
            _LPS,
            "cd FOLDER_OF_THE_FILE; transformix -in MOVING -tp {file} -out OUT",
            "any",
        ),
        Format(
            "fsl",
            (".nii.gz",),
            "FSL warp, relative, on the fixed volume's grid (4-D NIfTI, intent 2006)",
            "FSL's scaled voxel mm",
            "applywarp --in=MOVING --ref=FIXED --warp={file} --rel --out=OUT",
        ),
        Format(
            "flirt", (".mat",), "FLIRT matrix", "FSL's scaled voxel mm",
            "flirt -in MOVING -ref FIXED -applyxfm -init {file} -out OUT", "linear",
        ),
        Format(
            "freesurfer", (".lta",), "FreeSurfer linear transform, RAS to RAS", "RAS mm",
            "mri_vol2vol --mov MOVING --targ FIXED --lta {file} --o OUT", "linear",
        ),
        Format("slicer", (".mrb",), "3D Slicer scene with the transform node", _LPS, "open it in 3D Slicer", "any"),
    )
}  # fmt: skip


CONVENTIONS = {
    "lps": "a matrix, or vectors in mm, in LPS: ITK, ANTs, elastix, AFNI",
    "ras": "a matrix, or vectors in mm, in RAS: 3D Slicer's own numbers, nibabel, FreeSurfer",
    "fsl": "a FLIRT matrix, or an FSL warp of relative displacements",
    "fsl-absolute": "an FSL warp of absolute coordinates",
}
DIRECTIONS = ("forward", "inverse")
PRECISIONS = ("float32", "float64")
LINEAR_KINDS = ("rigid", "similarity", "affine")
POINT_ENDINGS = (".csv", ".mrk.json", ".fcsv")
MODEL_ENDINGS = (".vtk", ".vtp", ".stl", ".ply")
OTHER_ENDINGS = POINT_ENDINGS + MODEL_ENDINGS
IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


def format_for(out: str | Path, name: str | None) -> Format:
    """The named format, or the one that a file's ending means; InputError when it is unknown or does not fit."""
    file = Path(out)
    if name is not None and name not in FORMATS:
        raise InputError(f"--to: expected one of {', '.join(FORMATS)}; got {name!r}.")
    if name is None:
        fitting = [entry for entry in FORMATS.values() if file.name.lower().endswith(entry.suffixes)]
        if not fitting:
            endings = ", ".join(sorted({suffix for entry in FORMATS.values() for suffix in entry.suffixes}))
            raise InputError(f"{file.name}: expected a name that ends in one of {endings}, or --to FORMAT.")
        return fitting[0]
    entry = FORMATS[name]
    if not file.name.lower().endswith(entry.suffixes):
        raise InputError(f"{file.name}: expected a name that ends in {entry.suffixes[0]} for the format {name}.")
    return entry


def stem_of(out: str | Path) -> str:
    """A file's name without its (possibly double) ending."""
    name = Path(out).name
    lower = name.lower()
    for suffix in sorted({s for entry in FORMATS.values() for s in entry.suffixes}, key=len, reverse=True):
        if lower.endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem


def kind_of(path: str | os.PathLike) -> str:
    """'points', 'model' or 'image', by a file's ending."""
    name = Path(path).name.lower()
    if name.endswith(POINT_ENDINGS):
        return "points"
    return "model" if name.endswith(MODEL_ENDINGS) else "image"


def output_name(path: str | os.PathLike) -> str:
    """What a mapped file is called in a folder of results: as its input; a DICOM series becomes .nii.gz."""
    file = given_path(path, "input").resolve()
    if file.is_dir() or (kind_of(file) == "image" and not file.name.lower().endswith(IMAGE_ENDINGS)):
        return f"{file.name}.nii.gz"
    return file.name
