"""Transforms written for other programs, with the file size and the error known before anything is in its place."""

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
from ..atomic import check_file, staged_file
from ..errors import InputError
from ..io import nifti_field
from ..io.itk_transform import affine_to_sitk, check_affine, flatten, is_linear, linear_matrix
from ..spaces import VolumeGrid
from ..spaces.grid import lps_from_ras
from . import elastix, fsl, scene
from .catalog import PRECISIONS, Format, format_for, stem_of
from .fields import affine_after_field, default_grid, displacement, sampling_error
from .reading import require_nitransforms


@dataclass(frozen=True)
class Sides:
    """Where a transform leads from and to: names ('fixed', 'moving'), their volumes' grids and files, if known."""

    names: tuple[str, str] = ("fixed", "moving")
    grids: tuple[VolumeGrid | None, VolumeGrid | None] = (None, None)
    files: tuple[Path | None, Path | None] = (None, None)

    def swapped(self) -> Sides:
        (a, b), (grid_a, grid_b), (file_a, file_b) = self.names, self.grids, self.files
        return Sides((b, a), (grid_b, grid_a), (file_b, file_a))


@dataclass(frozen=True)
class Written:
    """files: (path, bytes) of each file; sidecar: what it says; error_mm: mean, p99, max of what was written."""

    files: tuple[tuple[Path, int], ...]
    error_mm: dict
    sidecar: dict


@dataclass(eq=False)
class _Content:
    """What is written: y = affine(x + field(x)), or `whole` as it is; either part may be missing."""

    whole: sitk.Transform | None
    affine_lps: np.ndarray
    field_dhw3: np.ndarray | None
    grid: VolumeGrid | None
    sides: Sides
    name: str
    precision: str | None = None

    def __post_init__(self) -> None:
        self.precision = None if self.field_dhw3 is None else self.field_dhw3.dtype.name

    @property
    def has_field(self) -> bool:
        return self.precision is not None

    def field(self) -> tuple[np.ndarray, VolumeGrid]:
        """The displacements and their grid. Raises ValueError when there are none."""
        if self.field_dhw3 is None or self.grid is None:
            raise ValueError("Expected a transform with a field.")
        return self.field_dhw3, self.grid

    def taken_field(self, dtype) -> sitk.Image:
        """The field as an image; its array is given up, so that a large field is not held twice while it is written."""
        array, grid = self.field()
        self.field_dhw3 = None
        array = array.astype(dtype, copy=False)
        return grid.image(array)


def write(
    transform: sitk.Transform,
    out: str | Path,
    *,
    to: str | None = None,
    sides: Sides = Sides(),
    spacing_mm: float | None = None,
    like: VolumeGrid | None = None,
    precision: str | None = None,
    flatten_it: bool = False,
    notes: Sequence[str] = (),
    before_saving: Callable[[Written], None] | None = None,
    dry_run: bool = False,
    check: Callable[[], None] | None = None,
) -> Written:
    """Write a transform (first side's points to the second side's, LPS mm) in a format that other programs read.

    Args:
        to: a name of `catalog.FORMATS`; None = by the file's ending. spacing_mm, like: the field's grid; by default its
            own. precision: of fields; float32 by default, ITK's transform files are always float64.
        flatten_it: one field instead of an affine after a field.
        before_saving: called with all figures when the files are complete but not yet in place; may raise.
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
        parts: dict[Path, Path] = {}

        def place(name: str) -> Path:
            target = file.with_name(name)
            parts[target] = folder / name if folder else stack.enter_context(staged_file(target))
            return parts[target]

        try:
            _WRITERS[entry.name](content, place, file.name)
        except RuntimeError as problem:
            raise OSError(f"{file.name} could not be written: {problem}") from problem
        sidecar = _sidecar(entry, content, sides, file, [target.name for target in parts], error, notes)
        place(f"{file.name}.json").write_text(json.dumps(sidecar, indent=2) + "\n", encoding="utf-8")
        written = Written(tuple((target, part.stat().st_size) for target, part in parts.items()), error, sidecar)
        if before_saving is not None:
            before_saving(written)
        if check is not None:
            check()
    return written


def _content(transform, entry: Format, sides: Sides, spacing_mm, like, precision, flatten_it, file, check) -> _Content:
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
        return _Content(None, check_affine(linear_matrix(transform)), None, None, sides, name)
    if entry.name == "fsl":
        fixed, _ = fsl.require_both(*sides.grids, "An FSL warp")
        if resampled:
            raise InputError("FSL warps lie on the fixed volume's grid; leave --spacing and --grid out.")
        return _Content(None, np.eye(4), displacement(transform, fixed, dtype, check), fixed, sides, name)
    physical = None if flatten_it or entry.parts == "field" else affine_after_field(transform)
    if physical is None and not flatten_it and not resampled and entry.name in ("itk", "slicer"):
        return _Content(transform, np.eye(4), None, None, sides, name)
    grid = default_grid(transform, sides.grids[0], spacing_mm, like)
    if physical is None:
        return _Content(None, np.eye(4), displacement(transform, grid, dtype, check), grid, sides, name)
    field_part = flatten(transform)[-1]
    return _Content(None, physical.affine_lps, displacement(field_part, grid, dtype, check), grid, sides, name)


def _error(transform: sitk.Transform, content: _Content, sides: Sides) -> dict:
    if content.field_dhw3 is None:
        return {"mean": 0.0, "p99": 0.0, "max": 0.0}
    field_dhw3, grid = content.field()
    return sampling_error(transform, content.affine_lps, field_dhw3, grid, sides.grids[0] or grid)


def _sidecar(entry: Format, content: _Content, sides: Sides, file: Path, names, error, notes) -> dict:
    first, second = sides.names
    command = entry.command.format(file=file.name, stem=content.name)
    if (first, second) == ("moving", "fixed"):
        command = command.replace("MOVING", "\0").replace("FIXED", "MOVING").replace("\0", "FIXED")
        command = command.replace("Resample(moving, fixed", "Resample(fixed, moving")
    if entry.name == "ants" and len(names) == 1:
        kept = "1Warp.nii.gz" if content.has_field else "0GenericAffine.mat"
        command = f"antsApplyTransforms -d 3 -i {second.upper()} -r {first.upper()} -t {names[0]} -o OUT"
        names = [name for name in names if name.endswith(kept)]
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


def _as_itk(content: _Content) -> sitk.Transform:
    if content.whole is not None:
        return content.whole
    if not content.has_field:
        return affine_to_sitk(content.affine_lps)
    field = sitk.DisplacementFieldTransform(content.taken_field(np.float64))
    if _is_identity(content):
        return field
    return sitk.CompositeTransform([affine_to_sitk(content.affine_lps), field])


def _write_itk(content: _Content, place, name: str) -> None:
    sitk.WriteTransform(_as_itk(content), str(place(name)))


def _write_nifti(content: _Content, place, name: str) -> None:
    nifti_field.write_field(place(name), *content.field(), nifti_field.DISPLACEMENT)


def _write_image(content: _Content, place, name: str) -> None:
    sitk.WriteImage(content.taken_field(content.precision), str(place(name)), useCompression=True)


def _is_identity(content: _Content) -> bool:
    return np.array_equal(content.affine_lps, np.eye(4))


def _write_ants(content: _Content, place, name: str) -> None:
    if content.has_field:
        warp = place(f"{content.name}1Warp.nii.gz")
        nifti_field.write_field(warp, *content.field(), nifti_field.VECTOR)
    if not content.has_field or not _is_identity(content):
        sitk.WriteTransform(affine_to_sitk(content.affine_lps), str(place(f"{content.name}0GenericAffine.mat")))


def _write_elastix(content: _Content, place, name: str) -> None:
    grid = content.sides.grids[0] or content.grid
    if grid is None:
        raise InputError("A transformix parameter file names the output's grid: name the fixed volume (--fixed).")
    first = None
    if content.has_field:
        alone = _is_identity(content)
        field_name = f"{content.name}.field.mha"
        sitk.WriteImage(content.taken_field(np.float32), str(place(field_name)), useCompression=True)
        first = name if alone else f"{content.name}.field.txt"
        lines = elastix.field_lines(field_name)
        place(first).write_text(elastix.parameter_text(lines, grid, None), encoding="utf-8")
        if alone:
            return
    lines = elastix.affine_lines(content.affine_lps)
    place(name).write_text(elastix.parameter_text(lines, grid, first), encoding="utf-8")


def _write_fsl(content: _Content, place, name: str) -> None:
    fixed, moving = fsl.require_both(*content.sides.grids, "An FSL warp")
    warp = fsl.relative_warp(content.field()[0], fixed, moving)
    nifti_field.write_fsl_warp(place(name), warp, fixed)


def _write_flirt(content: _Content, place, name: str) -> None:
    fixed, moving = fsl.require_both(*content.sides.grids, "A FLIRT matrix")
    rows = fsl.flirt_from_affine(content.affine_lps, fixed, moving)
    text = "\n".join("  ".join(f"{value:.10f}" for value in row) for row in rows)
    place(name).write_text(text + "\n", encoding="utf-8")


def _write_freesurfer(content: _Content, place, name: str) -> None:
    fixed, moving = fsl.require_both(*content.sides.grids, "FreeSurfer's .lta file")
    lta = require_nitransforms("FreeSurfer's .lta files").io.lta
    ras = lps_from_ras() @ content.affine_lps @ lps_from_ras()
    # FreeSurfer's file leads from src (here: the moving volume) to dst; the package calls dst "moving".
    struct = lta.FSLinearTransform.from_ras(ras, moving=_empty(fixed), reference=_empty(moving))
    place(name).write_text(struct.to_string(), encoding="utf-8")


def _empty(grid: VolumeGrid):
    """A NIfTI image with a grid's geometry and no memory of its own."""
    import nibabel

    data = np.broadcast_to(np.zeros(1, dtype=np.uint8), grid.size_ijk)
    return nibabel.Nifti1Image(data, lps_from_ras() @ grid.lps_from_ijk)


def _write_slicer(content: _Content, place, name: str) -> None:
    target = place(name)
    first, second = content.sides.names
    volumes = [
        (side, file, side == second)
        for side, file in zip(content.sides.names, content.sides.files, strict=True)
        if file is not None and file.is_file()
    ]
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        h5 = Path(folder) / "transform.h5"
        sitk.WriteTransform(_as_itk(content), str(h5))
        scene.write_scene(target, content.name, h5, f"{first}_to_{second}_points", volumes)


_WRITERS = {
    "itk": _write_itk,
    "tfm": _write_itk,
    "nifti": _write_nifti,
    "nrrd": _write_image,
    "mha": _write_image,
    "ants": _write_ants,
    "elastix": _write_elastix,
    "fsl": _write_fsl,
    "flirt": _write_flirt,
    "freesurfer": _write_freesurfer,
    "slicer": _write_slicer,
}
