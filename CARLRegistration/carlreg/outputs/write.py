"""The output folder of one registration: transforms, warped volume, Jacobian, quality, settings; all or nothing."""

from __future__ import annotations

import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
import torch

from .. import __version__
from ..atomic import DISK_ERRORS, FolderClaim, claim_folder, staged_folder
from ..errors import Cancelled, CarlError, InputError, ResourceError
from ..io.nifti_writing import rounded_mantissa, write_nifti_gz
from ..io.writing import write_transform
from ..maps.exchange import tensor_from_array
from ..paths import given_path
from ..physical import PhysicalTransform
from ..physical.uncertainty import QUANTITIES
from ..progress import Progress, StageTiming, peak_memory_mb
from ..quality.finite import finite
from ..quality.measure import affine_resampled
from ..quality.motions import motions_table
from .report import NAME as REPORT
from .report import write_report
from .sheet import write_sheet

if TYPE_CHECKING:
    from ..registration.result import Finished, RegistrationResult

log = logging.getLogger(__name__)
INVERSE = "inverse_transform.h5"
UNCERTAINTY = "uncertainty.nii.gz"
GUIDE = "guide.csv"
MOTIONS = "motions.csv"
FILES = {
    "transform.h5": "fixed points to moving points, LPS mm: affine after displacement field, or one linear transform",
    INVERSE: "moving points to fixed points, LPS mm, built the same way",
    "warped.nii.gz": "the moving volume on the fixed grid",
    "jacobian.nii.gz": "determinant of the whole map on the fixed grid, 12 significant bits",
    UNCERTAINTY: "how far the transform may be off on the fixed grid, mm: 90 % bound, NaN where unknown",
    GUIDE: "landmarks that guided it, LPS mm; on: which were used",
    MOTIONS: "how rigid and stiff segments moved: degrees, and mm at each segment's center; axes L, P, S",
    "quality.json": "figures before and after",
    "settings.json": "everything to repeat the run",
}
SHEET = "sheet.png"
_UNCERTAINTY_BITS = 8  # significant ones


def write_result(
    result: RegistrationResult,
    out_dir: str | os.PathLike | FolderClaim,
    *,
    overwrite: bool = False,
    sheet: bool = False,
    report: bool = False,
    extra: Callable[[Path, dict], None] | None = None,
    keep_transform: bool = False,
    progress: Progress | None = None,
) -> dict:
    """Write the output folder of a finished result (see `registration.finish`); returns what `quality.json` holds.

    Args:
        out_dir: a new or empty folder; with `overwrite` an earlier result is replaced after success. A claim made
            before the run (`atomic.claim_folder`) also says afterwards where the results are: beside the folder when
            another run has filled it in the meantime.
        sheet: also draw `sheet.png`. report: also write `report.html`. Where one of them fails, it is left out, and
            `warnings` say so.
        extra: puts more into the folder, and more figures into `quality.json`.
        keep_transform: when not all can be written, write the transform alone if that fits, and raise all the same.
    Raises: InputError (result not finished, folder not empty), ResourceError (disk full), Cancelled; nothing is left
        behind then, but for `keep_transform`.
    """
    finished = result.finished
    if finished is None:
        raise InputError("write_result: expected a finished result; call carlreg.finish(result) before.")
    claim = out_dir if isinstance(out_dir, FolderClaim) else claim_folder(out_dir, overwrite)
    try:
        return _write_all(result, finished, claim, sheet, report, extra, progress or Progress())
    except (Cancelled, InputError):
        raise
    except Exception as error:
        if keep_transform:
            _write_elsewhere(result, finished, claim, error)
            write_transform_alone(result, claim, error)
        raise


def _write_elsewhere(result: RegistrationResult, finished: Finished, claim: FolderClaim, error: Exception) -> None:
    """Put the results into a private temporary folder when their place cannot be written any more (not: is full).

    Raises ResourceError that says where they are; returns when that is no remedy.
    """
    cause = error.__cause__
    if not isinstance(error, ResourceError) or not isinstance(cause, OSError) or cause.errno in DISK_ERRORS:
        return
    try:
        elsewhere = FolderClaim(Path(tempfile.mkdtemp(prefix="carlreg-")) / claim.path.name)
        _write_all(result, finished, elsewhere, False, False, None, Progress())
    except (CarlError, OSError, MemoryError):
        return
    claim.written = elsewhere.written
    raise ResourceError(
        f"{claim.path} could not be written any more ({cause.strerror or cause}): the results are in {claim.written}."
    ) from error


def _write_all(
    result: RegistrationResult,
    finished: Finished,
    claim: FolderClaim,
    sheet: bool,
    report: bool,
    extra: Callable[[Path, dict], None] | None,
    progress: Progress,
) -> dict:
    measured, grid = finished.measured, result.fixed.grid
    with staged_folder(claim) as folder:
        with progress.stage("write"):
            begin = time.perf_counter()
            _write_transform(result.transform, folder / "transform.h5")
            _write_transform(finished.inverse, folder / INVERSE)
            progress.check()
            write_nifti_gz(folder / "warped.nii.gz", measured.warped, grid)
            progress.check()
            write_nifti_gz(folder / "jacobian.nii.gz", rounded_mantissa(measured.jacobian), grid)
            progress.check()
            if finished.bound_mm is not None:
                bound = rounded_mantissa(finished.bound_mm, _UNCERTAINTY_BITS)
                write_nifti_gz(folder / UNCERTAINTY, bound, grid, QUANTITIES["bound"])
                progress.check()
            if result.guide is not None:
                (folder / GUIDE).write_text(result.guide.text(), encoding="utf-8")
            if result.bodies is not None:
                (folder / MOTIONS).write_text(motions_table(finished.quality["motions"]), encoding="utf-8")
            quality = {**finished.quality, "warnings": [*finished.quality["warnings"]]}
            if sheet:
                with _left_out(SHEET, folder, quality):
                    _write_sheet(result, finished, folder / SHEET)
            if extra is not None:
                extra(folder, quality)
            written = StageTiming("write", time.perf_counter() - begin, peak_memory_mb())
            quality["stages"] = [*finished.quality["stages"], asdict(written)]
            _write_json(quality, folder / "quality.json")
            _write_json(_settings(result, claim.path), folder / "settings.json")
        if report:
            progress.check()
            with _left_out(REPORT, folder, quality):
                write_report(folder, fixed=result.fixed, moving=result.moving, progress=progress)
            _write_json(quality, folder / "quality.json")
    return quality


def write_transform_alone(result: RegistrationResult, claim: FolderClaim, error: Exception) -> None:
    """Write what took the longest, the transform with its settings, when the rest could not be made or written.

    Raises ResourceError for a lack of room that says what is there; returns for any other error, and where not even
    the transform could be written: raise the error then.
    """
    try:
        with staged_folder(claim) as folder:
            _write_transform(result.transform, folder / "transform.h5")
            _write_json(_settings(result, claim.path, ("transform.h5", "settings.json")), folder / "settings.json")
            if result.finished is not None:
                left_out = "Only the transform could be written; warped volume, Jacobian and inverse are left out."
                quality = {**result.finished.quality, "warnings": [*result.finished.quality["warnings"], left_out]}
                _write_json(quality, folder / "quality.json")
            names = ", ".join(sorted(path.name for path in folder.iterdir()))
    except (CarlError, OSError, MemoryError):
        return
    if isinstance(error, ResourceError):
        reason = getattr(error.__cause__, "strerror", None) or str(error)
        raise ResourceError(
            f"Not all results could be written ({reason}): {claim.written} holds only {names}. Free some space; "
            "`carlreg apply` resamples the moving volume with the transform."
        ) from error
    log.warning("The registration itself was done: %s holds %s.", claim.written, names)


@contextmanager
def _left_out(name: str, folder: Path, quality: dict) -> Iterator[None]:
    """What is only to be looked at does not spoil the result when it fails; a full disk does, since more may lack."""
    try:
        yield
    except (Cancelled, ResourceError):
        raise
    except Exception as error:
        if getattr(error, "errno", None) in DISK_ERRORS:
            raise
        log.debug("%s failed", name, exc_info=True)
        (folder / name).unlink(missing_ok=True)
        quality["warnings"].append(f"{name} was left out: {str(error) or type(error).__name__}")


def _write_sheet(result: RegistrationResult, finished: Finished, path: Path) -> None:
    measured, grid = finished.measured, result.fixed.grid
    moving = tensor_from_array(result.moving.array)[None]
    before, _ = affine_resampled(measured.before_lps, grid, result.moving.grid, moving)
    write_sheet(result.fixed, before, measured.warped, measured.jacobian, path)


def _settings(result: RegistrationResult, out_dir: Path, files: Iterable[str] = tuple(FILES)) -> dict:
    info, settings = dict(result.info), result.settings
    optional = {UNCERTAINTY: result.uncertainty, GUIDE: result.guide, MOTIONS: result.bodies}
    absent = {name for name, what in optional.items() if what is None}
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
        "field": result.transform.grid.as_dict() if result.transform.kind is None else None,
        "info": info,
        "files": {name: FILES[name] for name in files if name not in absent},
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
    write_transform(transform.to_sitk(), path)


def _write_json(content: dict, path: Path) -> None:
    text = json.dumps(finite(content)[0], indent=2, default=_plain, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)
