"""The output folder of one registration: transforms, warped volume, Jacobian, figures, settings; all or nothing."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, is_dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from .. import __version__
from ..atomic import staged_folder
from ..errors import ResourceError
from ..io.nifti_writing import rounded_mantissa, write_nifti_gz
from ..maps.exchange import tensor_from_array
from ..physical import PhysicalTransform, invert
from ..progress import Progress, StageTiming, peak_memory_mb
from ..quality.measure import affine_resampled, measure
from ..quality.verdict import verdict
from ..volumes import Volume
from .report import write_report
from .sheet import write_sheet
from .uncertainty import UNCERTAINTY, write_uncertainty

FILES = {
    "transform.h5": "fixed points to moving points, LPS mm: affine after displacement field",
    "inverse_transform.h5": "moving points to fixed points, LPS mm, built the same way",
    "warped.nii.gz": "the moving volume on the fixed grid",
    "jacobian.nii.gz": "determinant of the whole map on the fixed grid, 12 significant bits",
    UNCERTAINTY: "how far the transform may be off on the fixed grid, mm: 90 % bound, NaN where unknown",
    "quality.json": "figures before and after",
    "settings.json": "everything to repeat the run",
}
SHEET = "sheet.png"
_LITTLE_OVERLAP, _LITTLE_COVERED = 30.0, 50.0  # percent of the fixed body


def write_result(
    result,
    out_dir: str | os.PathLike,
    *,
    settings,
    labels: tuple[sitk.Image, sitk.Image | None] | None = None,
    label_names: Mapping[int, str] | None = None,
    landmarks: tuple[np.ndarray, np.ndarray] | None = None,
    overwrite: bool = False,
    sheet: bool = False,
    report: bool = False,
    progress: Progress | None = None,
) -> dict:
    """Write the output folder of a `RegistrationResult` and return what `quality.json` holds.

    Args:
        result: transform, inverse (None: computed here), start, warnings, info, fixed, moving, fixed_mask, timings.
        out_dir: a new or empty folder; with `overwrite` an earlier result is replaced after success.
        settings: `RegistrationSettings`. labels: fixed and moving label maps (the fixed one
        alone: volume changes only). label_names: by value. landmarks: fixed and moving points
        (N, 3), LPS mm. sheet: also draw `sheet.png`. report: also write `report.html`.
    Raises: InputError (folder not empty), ResourceError (disk full), Cancelled; nothing is left behind then.
    """
    timings = list(result.timings)
    with _reporting_disk(out_dir), staged_folder(out_dir, overwrite) as folder:
        inverse, inverse_report = result.inverse, getattr(result, "inverse_report", None)
        if inverse is None:
            with _stage("inverse", timings, progress):
                inverse, inverse_report = invert(result.transform, result.moving.grid)
        with _stage("measure", timings, progress):
            measured = measure(
                result.transform,
                inverse,
                result.fixed,
                result.moving,
                fixed_mask=result.fixed_mask,
                labels=labels,
                label_names=label_names,
                landmarks=landmarks,
                progress=progress,
            )
        with _stage("write", timings, progress):
            begin = time.perf_counter()
            _write_transform(result.transform, folder / "transform.h5")
            _write_transform(inverse, folder / "inverse_transform.h5")
            _check(progress)
            write_nifti_gz(folder / "warped.nii.gz", measured.warped, result.fixed.grid)
            _check(progress)
            write_nifti_gz(folder / "jacobian.nii.gz", rounded_mantissa(measured.jacobian), result.fixed.grid)
            _check(progress)
            if _has_uncertainty(result):
                measured.quality["uncertainty"] = write_uncertainty(
                    result.uncertainty, result.fixed.grid, measured.body, folder
                )
                _check(progress)
            if sheet:
                moving = tensor_from_array(result.moving.array)[None]
                before, _ = affine_resampled(measured.before_lps, result.fixed.grid, result.moving.grid, moving)
                write_sheet(result.fixed, before, measured.warped, measured.jacobian, folder / SHEET)
            written = StageTiming("write", time.perf_counter() - begin, peak_memory_mb())
            quality = _quality(measured.quality, result, inverse_report, [*timings, written])
            _write_json(quality, folder / "quality.json")
            _write_json(_settings(result, settings, folder), folder / "settings.json")
        if report:
            _check(progress)
            write_report(folder, fixed=result.fixed, moving=result.moving, progress=progress)
    return quality


def judge(quality: dict, moving: Volume, inverse_report: dict | None) -> list[str]:
    """What the figures say that a user must not miss."""
    notes = []
    folds = quality["jacobian"]["fold_percent"]
    if folds > 0:
        notes.append(f"The map folds: {folds:.4g} % of the body's voxels have a determinant of 0 or less.")
    if quality["overlap_percent"] < _LITTLE_OVERLAP:
        little = f"Only {quality['overlap_percent']:.1f} % of the fixed body lies in the moving volume."
        notes.append(little + _why_little(quality))
    covered = quality["notes"].get("field_covers_percent")
    if covered is not None and covered < _LITTLE_COVERED:
        notes.append(
            f"The displacement field covers only {covered:.0f} % of the fixed body: the transform may belong to other "
            "volumes. Outside its field it is affine."
        )
    before, after = quality["similarity"]["before"], quality["similarity"]["after"]
    known = [key for key in after if before[key] is not None and after[key] is not None]
    if known and all(after[key] <= before[key] for key in known) and any(after[key] < before[key] for key in known):
        notes.append("The volumes are less alike after registration than before, by all figures.")
    elif after["mi"] is not None and after["mi"] < 0.1 and abs(after["ncc"] or 0.0) < 0.2:
        notes.append(f"Low similarity after registration: NCC {after['ncc'] or 0.0:.2f}, MI {after['mi']:.2f} nats.")
    if after["ncc"] is None:
        notes.append("The volumes do not overlap after registration, or one of them is constant where they do.")
    if inverse_report and inverse_report.get("without_inverse"):
        notes.append(
            f"{inverse_report['without_inverse']} of {inverse_report['nodes']} nodes of the inverse field have no "
            "point that maps to them; the inverse is not valid there."
        )
    notes += _label_notes(quality)
    error = quality.get("inverse_error_mm")
    if error and error["mean"] > 0.5 * float(moving.grid.spacing.min()):
        notes.append(f"The inverse is inexact: {error['mean']:.2f} mm on average; choose a smaller field spacing.")
    return notes


def _why_little(quality: dict) -> str:
    backward = quality["notes"].get("overlap_percent_of_inverse")
    if backward is None:
        return ""
    if backward > _LITTLE_OVERLAP:
        return (
            f" With the inverse of the transform it is {backward:.0f} %: fixed and moving are exchanged, or this is "
            "the inverse transform."
        )
    return " The transform does not belong to these volumes, or they share no field of view."


def _label_notes(quality: dict) -> list[str]:
    """What is odd about the label maps."""
    alone = quality["notes"].get("labels_without_counterpart")
    if alone is None:
        return []
    fixed, moving = (f"{', '.join(map(str, alone[side][:20])) or 'none'}" for side in ("fixed", "moving"))
    if quality["labels"] is None:
        return [
            f"The label maps have no label in common (fixed only: {fixed}; moving only: {moving}): give both maps the "
            "same number for the same structure."
        ]
    notes = []
    if alone["fixed"] or alone["moving"]:
        notes.append(f"Labels that only one label map has are left out (fixed only: {fixed}; moving only: {moving}).")
    gone = [label for label, dice in quality["labels"]["after"]["per_label"].items() if dice == 0.0]
    if gone:
        notes.append(f"Labels that do not overlap at all after registration: {', '.join(gone[:20])}.")
    return notes


def _quality(measured: dict, result, inverse_report: dict | None, timings: list[StageTiming]) -> dict:
    warnings = list(dict.fromkeys([*result.warnings, *judge(measured, result.moving, inverse_report)]))
    notes = dict(measured["notes"])
    if inverse_report:
        notes["inverse_nodes_without_inverse"] = inverse_report.get("without_inverse", 0)
    if getattr(result, "uncertainty_reason", None):
        notes["uncertainty"] = result.uncertainty_reason
    return {
        "verdict": verdict(measured),  # over all figures, the uncertainty among them where there is one
        **{key: value for key, value in measured.items() if key != "notes"},
        "start": result.start,
        "stages": [asdict(timing) for timing in timings],
        "warnings": warnings,
        "notes": notes,
    }


def _has_uncertainty(result) -> bool:
    return getattr(result, "uncertainty", None) is not None


def _settings(result, settings, out_dir: Path) -> dict:
    info = dict(result.info)
    return {
        "carlreg": __version__,
        "model": info.get("model", getattr(settings, "model", None)),
        "weights_sha256": info.get("weights_sha256"),
        "seed": getattr(settings, "seed", None),
        "device": info.get("device", getattr(settings, "device", None)),
        "settings": asdict(settings) if is_dataclass(settings) else dict(settings),
        "inputs": {
            side: {
                "name": volume.name,
                "file": Path(volume.path).name if volume.path else None,
                "relative_path": _relative(volume.path, out_dir),
                **volume.grid.as_dict(),
            }
            for side, volume in (("fixed", result.fixed), ("moving", result.moving))
        },
        "masks": {
            "fixed": result.fixed_mask is not None,
            "moving": getattr(result, "moving_mask", None) is not None,
        },
        "field": result.transform.grid.as_dict(),
        "info": info,
        "files": {name: what for name, what in FILES.items() if name != UNCERTAINTY or _has_uncertainty(result)},
        "software": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "SimpleITK": sitk.Version.VersionString(),
            "numpy": np.__version__,
            "platform": platform.platform(),
            "torch_threads": torch.get_num_threads(),
        },
    }


def _relative(path: str | None, folder: Path) -> str | None:
    """Where an input lies as seen from the result folder, for the report; None on another drive."""
    if path is None:
        return None
    try:
        return Path(os.path.relpath(Path(path).expanduser().resolve(), folder.resolve())).as_posix()
    except ValueError:
        return None


def _write_transform(transform: PhysicalTransform, path: Path) -> None:
    try:
        sitk.WriteTransform(transform.to_sitk(), str(path))
    except RuntimeError as error:
        raise OSError(f"{path.name} could not be written") from error
    expected = transform.displacement_lps.size * 8
    if path.stat().st_size < expected:
        raise OSError(f"{path.name} is incomplete")


def _write_json(content: dict, path: Path) -> None:
    path.write_text(json.dumps(content, indent=2, default=_plain, allow_nan=False) + "\n", encoding="utf-8")


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


@contextmanager
def _stage(name: str, timings: list[StageTiming], progress: Progress | None) -> Iterator[None]:
    begin = time.perf_counter()
    with progress.stage(name) if progress is not None else nullcontext():
        yield
    timings.append(StageTiming(name, time.perf_counter() - begin, peak_memory_mb()))


@contextmanager
def _reporting_disk(out_dir) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResourceError(
            f"The results could not be written to {out_dir}: {reason}. Nothing was left there; free some space or "
            "choose another folder."
        ) from error


def _check(progress: Progress | None) -> None:
    if progress is not None:
        progress.check()
