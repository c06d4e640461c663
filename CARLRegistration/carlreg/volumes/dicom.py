"""DICOM series: which one a folder means, and whether its slices form a regular grid."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, InputError
from ..io.checks import check_kind, read_error
from .memory import require_memory

_TAGS = {
    "Modality": "0008|0060",
    "SeriesDescription": "0008|103e",
    "SeriesInstanceUID": "0020|000e",
    "PatientPosition": "0018|5100",
    # What spatial registration objects refer to. Names and birth dates of patients are never read.
    "FrameOfReferenceUID": "0020|0052",
    "StudyInstanceUID": "0020|000d",
    "SOPClassUID": "0008|0016",
}
_INSTANCE = "0008|0018"
_POSITION, _ORIENTATION = "0020|0032", "0020|0037"
# A series shorter than this beside a long one is a localizer or a report.
_LOCALIZER_SLICES = 4


def is_dicom(file: Path) -> bool:
    """Whether a file is DICOM (by its magic word, whatever its name)."""
    try:
        with file.open("rb") as stream:
            stream.seek(128)
            return stream.read(4) == b"DICM"
    except OSError:
        return False


def read_series(path: Path, name: str) -> tuple[sitk.Image, dict[str, str], list[str]]:
    """The series of a folder, or the one that a DICOM file belongs to.

    Returns: the image, its attributes by keyword, warnings.
    Raises: InputError (none, several, a time series, color), GeometryError (tilted or unevenly spaced slices).
    """
    notes: list[str] = []
    if path.is_dir():
        files = _choose(path, name, notes)
    else:
        uid = _information(str(path), name)[1].get("SeriesInstanceUID", "")
        files = list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path.parent), uid)) or [str(path)]
        if len(files) > 1:
            notes.append(f"{name}: the whole DICOM series of this file was read ({len(files)} slices).")
    try:
        first, attributes = _information(files[0], name)
        return _read(files, first, name, notes, attributes), attributes, notes
    except RuntimeError as error:
        raise read_error(error, name) from error


def references(attributes: dict[str, str]) -> dict:
    """What a spatial registration object needs to name a series: its identifiers only; {} for other files.

    attributes: `Volume.dicom`. SOPInstanceUIDs is a list, in the order of the slices.
    """
    names = ("FrameOfReferenceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "Modality")
    found: dict = {name: attributes[name] for name in names if name in attributes}
    if "SOPInstanceUIDs" in attributes:
        found["SOPInstanceUIDs"] = attributes["SOPInstanceUIDs"].split("\\")
    return found


def _choose(folder: Path, name: str, notes: list[str]) -> list[str]:
    series = {
        uid: list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid))
        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    }
    series = {uid: files for uid, files in series.items() if files}
    known = {os.path.realpath(file) for files in series.values() for file in files}
    lost = [
        entry.name
        for entry in sorted(folder.iterdir())
        if entry.name != "DICOMDIR" and entry.is_file() and os.path.realpath(entry) not in known and is_dicom(entry)
    ]
    if series and lost:
        count = f"{len(lost)} DICOM file{'s' if len(lost) > 1 else ''} in the folder cannot be read as an image"
        notes.append(f"{name}: {count} and was left out: {', '.join(lost[:5])}.")
    if not series:
        inside = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        hint = f" Its subfolders are: {', '.join(inside[:8])}." if inside else ""
        raise InputError(f"{name}: {folder} is a folder without DICOM images. Give a file or a DICOM folder.{hint}")
    if len(series) == 1:
        return next(iter(series.values()))
    long = [files for files in series.values() if len(files) >= _LOCALIZER_SLICES]
    if len(long) == 1:
        notes.append(
            f"{name}: the folder holds {len(series)} DICOM series; the one with {len(long[0])} slices was read, "
            "the others are shorter than four."
        )
        return long[0]
    rows = []
    for files in series.values():
        attributes = _information(files[0], name)[1]
        words = [attributes.get(key, "") for key in ("Modality", "SeriesDescription")]
        rows.append(
            f"  {Path(files[0]).name}: {' '.join(w for w in words if w) or 'no description'}, {len(files)} files"
        )
    listing = "\n".join(rows)
    raise InputError(
        f"{name}: expected one DICOM series, got {len(series)} in {folder}. Give one file of the series you want; its "
        f"whole series will be read. First file of each:\n{listing}"
    )


def _information(file: str, name: str) -> tuple[sitk.ImageFileReader, dict[str, str]]:
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"{name}: {Path(file).name} cannot be read as a DICOM image.") from error
    values = {key: reader.GetMetaData(tag).strip() for key, tag in _TAGS.items() if reader.HasMetaDataKey(tag)}
    return reader, {key: value for key, value in values.items() if value}


def _read(
    files: Sequence[str], first: sitk.ImageFileReader, name: str, notes: list[str], attributes: dict[str, str]
) -> sitk.Image:
    if len(files) == 1:
        _add_instances(attributes, [first])
        check_kind(first.GetSize(), first.GetNumberOfComponents(), name)
        return first.Execute()
    check_kind((*first.GetSize()[:2], len(files)), first.GetNumberOfComponents(), name)
    if first.GetSize()[2:] and first.GetSize()[2] > 1:
        raise InputError(
            f"{name}: the series has {len(files)} files with several slices each (a time series?). Give one of them "
            "in a folder of its own."
        )
    _check_slices(files, name, notes, attributes)
    megabytes = 8 * math.prod(first.GetSize()[:2]) * len(files) / 2**20
    require_memory(megabytes, f"reading {name}", "Shrink or crop the volume first.")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(list(files))
    return reader.Execute()


def _add_instances(attributes: dict[str, str], readers: Sequence[sitk.ImageFileReader]) -> None:
    """SOPInstanceUIDs, in the order of the slices, separated as DICOM separates values; nothing if one is missing."""
    if all(reader.HasMetaDataKey(_INSTANCE) for reader in readers):
        attributes["SOPInstanceUIDs"] = "\\".join(reader.GetMetaData(_INSTANCE).strip() for reader in readers)


def _check_slices(files: Sequence[str], name: str, notes: list[str], attributes: dict[str, str]) -> None:
    """Raise unless the slices are parallel, of one size, and evenly spaced along their normal.

    The reader would build a regular grid from anything: it keeps the first slice's axes and drops a gantry tilt.
    """
    positions, orientations, sizes, readers = [], [], set(), []
    for file in files:
        reader, _ = _information(file, name)
        readers.append(reader)
        if not (reader.HasMetaDataKey(_POSITION) and reader.HasMetaDataKey(_ORIENTATION)):
            notes.append(f"{name}: the DICOM slices do not say where they lie; their order is taken from their names.")
            return
        positions.append([float(value) for value in reader.GetMetaData(_POSITION).split("\\")])
        orientations.append([float(value) for value in reader.GetMetaData(_ORIENTATION).split("\\")])
        sizes.add(reader.GetSize()[:2])
    _add_instances(attributes, readers)
    axes = np.array(orientations)
    if len(sizes) > 1 or np.abs(axes - axes[0]).max() > 1e-2:
        raise GeometryError(
            f"{name}: the slices of the DICOM series differ in size or orientation (a localizer?). Give another series."
        )
    normal = np.cross(axes[0, :3], axes[0, 3:])
    offsets = np.array(positions) - positions[0]
    along = offsets @ normal
    order = np.argsort(along, kind="stable")
    along, offsets = along[order], offsets[order] - offsets[order[0]]
    along = along - along[0]
    steps = np.diff(along)
    step = float(np.median(steps))
    if steps.min() < 1e-3:
        places = len(np.unique(np.round(along, 3)))
        raise InputError(
            f"{name}: expected one volume, got {len(files)} slices at {places} positions: a time series or several "
            "acquisitions in one. Copy the files of one volume to a folder of their own."
        )
    sideways = np.linalg.norm(offsets - along[:, None] * normal, axis=1)
    tilt = math.degrees(math.atan2(sideways[-1], along[-1]))
    if sideways[-1] > 0.1 and tilt > 0.06:  # as large as the tolerance for sheared headers
        raise GeometryError(
            f"{name}: the slices are shifted sideways against each other (gantry tilt of {tilt:.1f} degrees). Resample "
            "the series to a regular grid first; dcm2niix does it (file name ending _Tilt)."
        )
    uneven = np.abs(steps - step).max()
    if uneven > 0.25 * step:
        raise GeometryError(
            f"{name}: slices are missing or unevenly spaced: distances from {steps.min():.3g} to {steps.max():.3g} mm "
            f"where {step:.3g} mm is usual. Complete the series, or resample it to a regular grid first."
        )
    if uneven > 0.02 * step:
        notes.append(f"{name}: slice distances vary by {uneven:.2g} mm around {step:.3g} mm; taken as even.")
