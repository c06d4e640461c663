"""Transforms of other programs, read as ITK transforms: fixed points to moving points, LPS mm.

What a file means is taken from the file. Where it does not tell (a matrix of 16 numbers, a field without an intent),
the caller must say it; nothing is guessed.

Here it is found out which program a file is of; what one program's numbers mean is in a file of its name (elastix.py,
freesurfer.py, fsl.py). ANTs' files are ITK transforms and NIfTI fields and are read here.
"""

from __future__ import annotations

import math
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, InputError
from ..io import nifti_field, nifti_geometry, nifti_header
from ..io.being_read import AS_TRANSFORM, being_read
from ..io.checks import existing_path
from ..io.itk_transform import affine_to_sitk, check_affine, flatten, is_linear, read_transform
from ..io.nifti_header import NiftiHeader
from ..spaces import VolumeGrid
from ..spaces.grid import lps_from_ras
from ..text_files import number
from ..volumes import nifti
from ..volumes.accepted import FIELD
from ..volumes.memory import require_memory
from ..volumes.reading import read_file
from . import elastix, freesurfer, fsl
from .catalog import CONVENTIONS, DIRECTIONS
from .content import require_both
from .fields import checked_field, require_overlap

_TEXT = 65536
_SITK_IMAGES = (".nrrd", ".nhdr", ".mha", ".mhd")


@dataclass(frozen=True, eq=False)
class Imported:
    """A transform from a file: fixed to moving points, LPS mm; what the file was; what a user should know."""

    transform: sitk.Transform
    kind: str
    notes: tuple[str, ...] = ()


def read(
    path: str | os.PathLike,
    *,
    convention: str | None = None,
    direction: str = "forward",
    fixed: VolumeGrid | None = None,
    moving: VolumeGrid | None = None,
    name: str = "transform",
) -> Imported:
    """Read a transform of any known format.

    Args:
        convention: of files that do not tell it, one of `CONVENTIONS`; InputError when it contradicts the file.
        direction: 'forward' when the file maps fixed to moving points, as files for resampling do; 'inverse' when it
            maps moving to fixed points: it is then inverted, a non-linear one numerically (needs both grids).
        fixed, moving: grids of the two volumes; FSL's and FreeSurfer's files need them. A field that has no point in
            common with the fixed volume is refused.
    Raises: InputError, GeometryError.
    """
    if convention is not None and convention not in CONVENTIONS:
        raise InputError(f"--convention: expected one of {', '.join(CONVENTIONS)}; got {convention!r}.")
    if direction not in DIRECTIONS:
        raise InputError(f"--direction: expected one of {', '.join(DIRECTIONS)}; got {direction!r}.")
    file = existing_path(path, name)
    label = f"{name} ({file.name})"
    if file.is_dir():
        raise InputError(f"{label}: expected a transform file, got a folder.")
    # An inverse file's field lies on the moving volume, and leads to the fixed one.
    here, there = (fixed, moving) if direction == "forward" else (moving, fixed)
    with being_read(label, AS_TRANSFORM):
        found = _read(file, name, label, convention, here, there)
    _check_frame(found, here, label, "fixed" if direction == "forward" else "moving")
    return found if direction == "forward" else _inverted(found, fixed, moving, label)


def _read(file: Path, name: str, label: str, convention, fixed, moving) -> Imported:
    with file.open("rb") as stream:
        head = stream.read(_TEXT)
    suffix = file.name.lower()
    if head[:4] == b"\x89HDF":
        return _itk(file, label, convention, name)
    if suffix.endswith((".m3z", ".mgz", ".mgh")):
        raise InputError(
            f"{label}: a FreeSurfer warp, which is not read here. FreeSurfer converts it: mri_warp_convert --inm3z "
            "FILE --outitk FIELD.nii.gz (mgz: --inwarp)."
        )
    if suffix.endswith(".mrb") or (head[:2] == b"PK" and zipfile.is_zipfile(file)):
        raise InputError(f"{label}: a Slicer scene. Save its transform node as .h5 or .nii.gz and give that file.")
    if suffix.endswith((".nii", ".nii.gz")):
        return _nifti(file, label, convention, fixed, moving)
    if suffix.endswith(_SITK_IMAGES) or head[:4] == b"NRRD" or head.startswith(b"ObjectType"):
        return _vector_file(file, label, convention, head)
    if head.lstrip().startswith(b"#Insight Transform File"):
        return _itk(file, label, convention, name)
    if elastix.is_parameter_file(head):
        _only("lps", convention, label, "an elastix parameter file")
        transform, files = elastix.read_parameters(file, label, _field_image)
        return Imported(transform, f"elastix parameter file ({len(files)} files)" if len(files) > 1 else "elastix")
    text = _text(head) if len(head) < _TEXT else None
    if text is not None and freesurfer.is_lta(text):
        _only("ras", convention, label, "a FreeSurfer .lta file")
        return Imported(affine_to_sitk(freesurfer.read_lta(file, label)), "FreeSurfer .lta")
    matrix = _matrix(text)
    if matrix is not None:
        return _from_matrix(matrix, label, convention, fixed, moving)
    return _itk(file, label, convention, name)


def _itk(file: Path, label: str, convention, name: str) -> Imported:
    _only("lps", convention, label, "an ITK transform")
    transform = read_transform(file, name, require_memory)
    return Imported(transform, "ITK transform")


def _only(expected: str, convention: str | None, label: str, what: str) -> None:
    if convention not in (None, expected):
        raise InputError(f"{label}: {what}, which is always {expected.upper()}; got --convention {convention}.")


def _ask(label: str, what: str, choices: tuple[str, ...]) -> InputError:
    listed = "; ".join(f"{choice}: {CONVENTIONS[choice]}" for choice in choices)
    return InputError(f"{label}: {what}. The file does not tell its convention; say it with --convention ({listed}).")


def _nifti(file: Path, label: str, convention, fixed, moving) -> Imported:
    header = nifti_header.read_header(file, label)
    if header is None:
        raise InputError(f"{label}: expected a NIfTI-1 file; this is not one, or it is damaged or cut off.")
    sizes, intent = header.sizes, header.intent
    if intent in nifti_field.FSL_COEFFICIENTS:
        raise InputError(
            f"{label}: FNIRT spline coefficients. Make a warp of them: fnirtfileutils --in=FILE --out=WARP."
        )
    require_memory(3 * 8 * math.prod(sizes) / 2**20, f"reading {label}", "Use a coarser field.")
    if not header.in_mm:
        raise InputError(f"{label}: expected a displacement field in mm, its header gives another unit of length.")
    if len(sizes) == 5 and sizes[3] == 1 and sizes[4] == 3:
        return _nifti_vectors(file, label, convention, header)
    if len(sizes) == 4 and sizes[3] == 3:
        return _nifti_volumes(file, label, convention, header, fixed, moving)
    shown = " x ".join(str(n) for n in sizes)
    raise InputError(
        f"{label}: expected a displacement field (5-D x y z 1 3, or 4-D x y z 3), got a volume of {shown}."
    )


def _nifti_vectors(file: Path, label: str, convention, header: NiftiHeader) -> Imported:
    """A 5-D field x y z 1 3: its intent tells the space of the vectors, or the convention does."""
    intent = header.intent
    known = {nifti_field.DISPLACEMENT: "ras", nifti_field.VECTOR: "lps"}.get(intent)
    if known is None and convention not in ("lps", "ras"):
        raise _ask(label, f"a 5-D field with intent {intent}", ("lps", "ras"))
    if known is not None and convention not in (None, known):
        raise InputError(
            f"{label}: its intent, {intent}, says {known.upper()} vectors; got --convention {convention}. Correct "
            "the header or leave the option out."
        )
    grid = nifti_geometry.grid_of(header, label)
    array = nifti.read_values(file, header, label).astype(np.float64)
    if (known or convention) == "ras":
        array[..., :2] *= -1
    space = known or convention or ""
    return _from_array(array, grid, f"NIfTI displacement field, {space.upper()}", label)


def _nifti_volumes(file: Path, label: str, convention, header: NiftiHeader, fixed, moving) -> Imported:
    """A 4-D field x y z 3: FSL's, by its intent, or what the convention says."""
    intent = header.intent
    if intent == nifti_field.FSL_RELATIVE and convention is None:
        convention = "fsl"
    if convention is None:
        raise _ask(label, f"a 4-D field with intent {intent}", ("fsl", "fsl-absolute", "lps", "ras"))
    grid = nifti_geometry.grid_of(header, label)
    array = nifti.read_values(file, header, label)
    if convention.startswith("fsl"):
        field = fsl.read_warp(array, grid, moving, convention == "fsl-absolute", label)
        return _from_array(field, grid, "FSL warp", label)
    field = np.moveaxis(array, 0, 3).astype(np.float64)
    if convention == "ras":
        field[..., :2] *= -1
    return _from_array(field, grid, f"4-D NIfTI displacement field, {convention.upper()}", label)


def _field_image(file: Path, label: str) -> sitk.Image:
    """An image with three values per voxel. Raises InputError."""
    image = read_file(file, label, FIELD)[0]
    if image.GetNumberOfComponentsPerPixel() != 3:
        raise InputError(
            f"{label}: expected a 3-D field of vectors with three components, got "
            f"{image.GetNumberOfComponentsPerPixel()} per voxel."
        )
    return image


def _vector_file(file: Path, label: str, convention, head: bytes) -> Imported:
    image = _field_image(file, label)
    if head[:4] == b"NRRD" and convention is None:
        header = head.split(b"\n\n")[0].decode("latin-1").lower()
        spaces = [line.split(":", 1)[1].strip() for line in header.splitlines() if line.startswith("space:")]
        if not spaces or spaces[0] not in ("left-posterior-superior", "lps"):
            raise _ask(
                label,
                f"an NRRD field in the space {spaces[0][:60] if spaces else 'that it does not name'}",
                ("lps", "ras"),
            )
    if convention not in (None, "lps", "ras"):
        raise InputError(f"{label}: a vector image in ITK's geometry; got --convention {convention}.")
    array = sitk.GetArrayFromImage(image).astype(np.float64)
    if convention == "ras":
        array[..., :2] *= -1
    return _from_array(array, VolumeGrid.of(image), f"displacement field, {(convention or 'lps').upper()}", label)


def _from_array(field_dhw3: np.ndarray, grid: VolumeGrid, kind: str, label: str) -> Imported:
    return Imported(checked_field(field_dhw3, grid, label), kind)


def _text(head: bytes) -> str | None:
    try:
        return head.decode("utf-8") if b"\0" not in head else None
    except UnicodeDecodeError:
        return None


def _matrix(text: str | None) -> np.ndarray | None:
    words = (text or "").replace(",", " ").split()
    if len(words) not in (12, 16):
        return None
    values = [number(word) for word in words]
    if None in values:
        return None
    values += [0.0, 0.0, 0.0, 1.0][: 16 - len(values)]
    return np.array(values, dtype=np.float64).reshape(4, 4)


def _from_matrix(matrix: np.ndarray, label: str, convention, fixed, moving) -> Imported:
    if convention not in ("lps", "ras", "fsl"):
        raise _ask(label, "a matrix of plain numbers", ("lps", "ras", "fsl"))
    try:
        check_affine(matrix)
    except GeometryError as error:
        raise GeometryError(f"{label}: {error}") from error
    if convention == "fsl":
        matrix = fsl.read_flirt(matrix, fixed, moving, label)
    elif convention == "ras":
        matrix = lps_from_ras() @ matrix @ lps_from_ras()
    return Imported(affine_to_sitk(matrix), f"matrix, {convention.upper()}")


def _check_frame(found: Imported, grid: VolumeGrid | None, label: str, side: str) -> None:
    parts = flatten(found.transform)
    if grid is None or "DisplacementField" not in parts[-1].GetName():
        return
    field = sitk.DisplacementFieldTransform(parts[-1]).GetDisplacementField()
    require_overlap(VolumeGrid.of(field), grid, f"{label}: its field", f"the {side} volume")


def _inverted(found: Imported, fixed, moving, label: str) -> Imported:
    if is_linear(found.transform):
        return Imported(found.transform.GetInverse(), found.kind, (*found.notes, "inverted"))
    from .inverting import inverse_of

    fixed, moving = require_both(fixed, moving, f"{label}: inverting a non-linear transform")
    inverse = inverse_of(found.transform, moving, fixed)
    error = inverse.report["error_mm"]
    note = f"inverted numerically, {error['max']:.3g} mm off at most" if error["max"] is not None else "inverted"
    return Imported(inverse.transform, found.kind, (*found.notes, note))
