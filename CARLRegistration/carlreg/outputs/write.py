"""The output folder of one registration: transforms, warped volume, Jacobian, quality, settings; all or nothing."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
import torch

from .. import __version__
from ..atomic import staged_folder
from ..errors import InputError, ResourceError
from ..io.nifti_writing import rounded_mantissa, write_nifti_gz
from ..maps.exchange import tensor_from_array
from ..paths import given_path
from ..physical import PhysicalTransform
from ..physical.uncertainty import QUANTITIES
from ..progress import Progress, StageTiming, peak_memory_mb
from ..quality.measure import affine_resampled
from .report import write_report
from .sheet import write_sheet

if TYPE_CHECKING:
    from ..registration.result import Finished, RegistrationResult

UNCERTAINTY = "uncertainty.nii.gz"
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
_UNCERTAINTY_BITS = 8  # significant ones


def write_result(
    result: RegistrationResult,
    out_dir: str | os.PathLike,
    *,
    overwrite: bool = False,
    sheet: bool = False,
    report: bool = False,
    progress: Progress | None = None,
) -> dict:
    """Write the output folder of a finished result (see `registration.finish`); returns what `quality.json` holds.

    Args:
        out_dir: a new or empty folder; with `overwrite` an earlier result is replaced after success.
        sheet: also draw `sheet.png`. report: also write `report.html`.
    Raises: InputError (result not finished, folder not empty), ResourceError (disk full), Cancelled; nothing is left
        behind then.
    """
    finished = result.finished
    if finished is None:
        raise InputError("write_result: expected a finished result; call carlreg.finish(result) before.")
    progress = progress or Progress()
    measured, grid = finished.measured, result.fixed.grid
    with _reporting_disk(out_dir), staged_folder(out_dir, overwrite) as folder:
        with progress.stage("write"):
            begin = time.perf_counter()
            _write_transform(result.transform, folder / "transform.h5")
            _write_transform(finished.inverse, folder / "inverse_transform.h5")
            progress.check()
            write_nifti_gz(folder / "warped.nii.gz", measured.warped, grid)
            progress.check()
            write_nifti_gz(folder / "jacobian.nii.gz", rounded_mantissa(measured.jacobian), grid)
            progress.check()
            if finished.bound_mm is not None:
                bound = rounded_mantissa(finished.bound_mm, _UNCERTAINTY_BITS)
                write_nifti_gz(folder / UNCERTAINTY, bound, grid, QUANTITIES["bound"])
                progress.check()
            if sheet:
                _write_sheet(result, finished, folder / SHEET)
            written = StageTiming("write", time.perf_counter() - begin, peak_memory_mb())
            quality = {**finished.quality, "stages": [*finished.quality["stages"], asdict(written)]}
            _write_json(quality, folder / "quality.json")
            _write_json(_settings(result, folder), folder / "settings.json")
        if report:
            progress.check()
            write_report(folder, fixed=result.fixed, moving=result.moving, progress=progress)
    return quality


def _write_sheet(result: RegistrationResult, finished: Finished, path: Path) -> None:
    measured, grid = finished.measured, result.fixed.grid
    moving = tensor_from_array(result.moving.array)[None]
    before, _ = affine_resampled(measured.before_lps, grid, result.moving.grid, moving)
    write_sheet(result.fixed, before, measured.warped, measured.jacobian, path)


def _settings(result: RegistrationResult, out_dir: Path) -> dict:
    info, settings = dict(result.info), result.settings
    return {
        "carlreg": __version__,
        "model": info.get("model", settings.model),
        "weights_sha256": info.get("weights_sha256"),
        "seed": settings.seed,
        "device": info.get("device", settings.device),
        "settings": asdict(settings),
        "inputs": {
            side: {
                "name": volume.name,
                "file": Path(volume.path).name if volume.path else None,
                "relative_path": _relative(volume.path, out_dir),
                **({"dicom_frame_group": int(volume.dicom["FrameGroup"])} if "FrameGroup" in volume.dicom else {}),
                **volume.grid.as_dict(),
            }
            for side, volume in (("fixed", result.fixed), ("moving", result.moving))
        },
        "masks": {
            "fixed": result.fixed_mask is not None,
            "moving": result.moving_mask is not None,
        },
        "field": result.transform.grid.as_dict(),
        "info": info,
        "files": {name: what for name, what in FILES.items() if name != UNCERTAINTY or result.uncertainty is not None},
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
        return Path(os.path.relpath(given_path(path, "image").resolve(), folder.resolve())).as_posix()
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
def _reporting_disk(out_dir) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResourceError(
            f"The results could not be written to {out_dir}: {reason}. Nothing was left there; free some space or "
            "choose another folder."
        ) from error
