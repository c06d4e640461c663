"""Transforms written for other programs, with the file size and the error known before anything is in its place.

A program with files of its own has a file of its name: ants.py, elastix.py, freesurfer.py, fsl.py, scene.py (Slicer).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .. import __version__
from ..atomic import Staging, check_file, staging, with_small_ending
from ..errors import InputError
from ..io import nifti_field
from ..io.itk_transform import affine_to_sitk, check_affine, flatten, is_linear, linear_matrix
from ..io.writing import write_image, write_transform
from ..spaces import VolumeGrid
from . import ants, elastix, freesurfer, fsl, scene
from .catalog import PRECISIONS, Format, format_for, stem_of
from .content import Content, Sides, require_both
from .fields import affine_after_field, default_grid, displacement, sampling_error

_UNKNOWN_SIDES = Sides()


@dataclass(frozen=True)
class Written:
    """files: (path, bytes) of each file; sidecar: what it says; error_mm: mean, p99, max of what was written."""

    files: tuple[tuple[Path, int], ...]
    error_mm: dict
    sidecar: dict


def write(
    transform: sitk.Transform,
    out: str | Path,
    *,
    to: str | None = None,
    sides: Sides = _UNKNOWN_SIDES,
    spacing_mm: float | None = None,
    like: VolumeGrid | None = None,
    precision: str | None = None,
    flatten_it: bool = False,
    notes: Sequence[str] = (),
    before_saving: Callable[[Written], None] | None = None,
    beside: Callable[[Staging], None] | None = None,
    dry_run: bool = False,
    check: Callable[[], None] | None = None,
) -> Written:
    """Write a transform (first side's points to the second side's, LPS mm) in a format that other programs read.

    Args:
        to: a name of `catalog.FORMATS`; None = by the file's ending. spacing_mm, like: the field's grid; by default its
            own. precision: of fields; float32 by default, ITK's transform files are always float64.
        flatten_it: one field instead of an affine after a field.
        before_saving: called with all figures when the files are complete but not yet in place; may raise.
        beside: writes more files, which are delivered together with these.
        dry_run: only the figures; nothing is left.
    Raises: InputError, GeometryError; nothing half-written is left then.
    """
    entry = format_for(out, to)
    if precision not in (None, *PRECISIONS):
        raise InputError(f"--precision: expected one of {', '.join(PRECISIONS)}; got {precision!r}.")
    if precision == "float32" and entry.name in ("itk", "tfm", "slicer"):
        raise InputError("ITK's transform files hold float64. For float32 choose nifti, nrrd or mha.")
    if spacing_mm is not None and not (np.isfinite(spacing_mm) and spacing_mm > 0):
        raise InputError(f"--spacing: expected a positive number of millimeters, got {spacing_mm}.")
    file = check_file(out)
    content = _content(transform, entry, sides, spacing_mm, like, precision, flatten_it, file, check)
    error = _error(transform, content, sides)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if dry_run else None
        stage = None if dry_run else stack.enter_context(staging())
        parts: dict[Path, Path] = {}

        def place(name: str) -> Path:
            target = file.with_name(name)
            parts[target] = stage.file(target) if stage is not None else Path(str(folder)) / with_small_ending(name)
            return parts[target]

        _WRITERS[entry.name](content, place, file.name)
        sidecar = _sidecar(entry, content, sides, file, [target.name for target in parts], error, notes)
        place(f"{file.name}.json").write_text(json.dumps(sidecar, indent=2) + "\n", encoding="utf-8")
        written = Written(tuple((target, part.stat().st_size) for target, part in parts.items()), error, sidecar)
        if before_saving is not None:
            before_saving(written)
        if beside is not None and stage is not None:
            beside(stage)
        if check is not None:
            check()
    return written


def _content(transform, entry: Format, sides: Sides, spacing_mm, like, precision, flatten_it, file, check) -> Content:
    dtype = np.dtype(precision or ("float64" if entry.name in ("itk", "slicer") else "float32"))
    name = stem_of(file)
    linear = is_linear(transform)
    if entry.parts == "linear" and not linear:
        raise InputError(
            f"{entry.name} files hold linear transforms only; this one is not linear. Take its linear part with "
            "`carlreg linear`, or write a field (nifti, nrrd, mha)."
        )
    resampled = spacing_mm is not None or like is not None
    if linear and not (flatten_it or entry.parts == "field" or resampled):
        return Content(None, check_affine(linear_matrix(transform)), None, None, sides, name)
    if entry.name == "fsl":
        fixed, _ = require_both(*sides.grids, "An FSL warp")
        if resampled:
            raise InputError("FSL warps lie on the fixed volume's grid; leave --spacing and --grid out.")
        return Content(None, np.eye(4), displacement(transform, fixed, dtype, check), fixed, sides, name)
    physical = None if flatten_it or entry.parts == "field" else affine_after_field(transform)
    if physical is None and not flatten_it and not resampled and entry.name in ("itk", "slicer"):
        return Content(transform, np.eye(4), None, None, sides, name)
    grid = default_grid(transform, sides.grids[0], spacing_mm, like)
    if physical is None:
        return Content(None, np.eye(4), displacement(transform, grid, dtype, check), grid, sides, name)
    field_part = flatten(transform)[-1]
    return Content(None, physical.affine_lps, displacement(field_part, grid, dtype, check), grid, sides, name)


def _error(transform: sitk.Transform, content: Content, sides: Sides) -> dict:
    if content.field_dhw3 is None:
        return {"mean": 0.0, "p99": 0.0, "max": 0.0}
    field_dhw3, grid = content.field()
    return sampling_error(transform, content.affine_lps, field_dhw3, grid, sides.grids[0] or grid)


def _sidecar(entry: Format, content: Content, sides: Sides, file: Path, names, error, notes) -> dict:
    first, second = sides.names
    command = entry.command.format(file=file.name, stem=content.name)
    if (first, second) == ("moving", "fixed"):
        command = command.replace("MOVING", "\0").replace("FIXED", "MOVING").replace("\0", "FIXED")
        command = command.replace("Resample(moving, fixed", "Resample(fixed, moving")
    if entry.name == "ants" and len(names) == 1:
        command = ants.command_of_one_file(names[0], first, second)
    made = {
        "maps": f"{first} points to {second} points",
        "so_it": f"resamples the {second} volume onto the {first} volume's grid",
        "format": entry.name,
        "holds": entry.holds,
        "numbers": entry.space,
        "files": names,
        "command": command,
        "error_mm": error,
        "made_by": f"carlreg {__version__}",
    }
    if content.grid is not None:
        made["field_grid_lps"] = content.grid.as_dict()
        made["precision"] = content.precision
    if notes:
        made["notes"] = list(notes)
    return made


def _as_itk(content: Content) -> sitk.Transform:
    if content.whole is not None:
        return content.whole
    if not content.has_field:
        return affine_to_sitk(content.affine_lps)
    field = sitk.DisplacementFieldTransform(content.taken_field(np.float64))
    if content.affine_is_identity:
        return field
    return sitk.CompositeTransform([affine_to_sitk(content.affine_lps), field])


def _write_itk(content: Content, place, name: str) -> None:
    write_transform(_as_itk(content), place(name))


def _write_nifti(content: Content, place, name: str) -> None:
    nifti_field.write_field(place(name), *content.field(), nifti_field.DISPLACEMENT)


def _write_image(content: Content, place, name: str) -> None:
    write_image(content.taken_field(content.precision), place(name))


def _write_slicer(content: Content, place, name: str) -> None:
    target = place(name)
    first, second = content.sides.names
    volumes = [
        (side, file, side == second)
        for side, file in zip(content.sides.names, content.sides.files, strict=True)
        if file is not None and file.is_file()
    ]
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:  # hidden, as the target is until it is complete
        h5 = Path(folder) / "transform.h5"
        write_transform(_as_itk(content), h5)
        scene.write_scene(target, content.name, h5, f"{first}_to_{second}_points", volumes)


_WRITERS = {
    "itk": _write_itk,
    "tfm": _write_itk,
    "nifti": _write_nifti,
    "nrrd": _write_image,
    "mha": _write_image,
    "ants": ants.write_pair,
    "elastix": elastix.write_parameters,
    "fsl": fsl.write_warp,
    "flirt": fsl.write_flirt,
    "freesurfer": freesurfer.write_lta,
    "slicer": _write_slicer,
}
