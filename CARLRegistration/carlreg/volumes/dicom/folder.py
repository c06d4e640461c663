"""Which DICOM files of a folder belong to one series, and which series is meant."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import InputError
from ...io.checks import check_kind
from .header import Header, UnreadableError, read_header, text
from .instance import (
    DIRECTORY,
    DOSE,
    LABEL_MAP,
    PARAMETRIC_MAP,
    SEGMENTATION,
    Frame,
    Instance,
    read_frames,
    read_instance,
)
from .magic import is_dicom

# A series shorter than this beside a long one is a localizer or a report.
_LOCALIZER_SLICES = 4


@dataclass
class Series:
    """Files of one series. damaged: files of it with damaged values, and what is wrong with them."""

    instances: list[Instance] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def add(self, header: Header, instance: Instance) -> None:
        self.instances.append(instance)
        try:
            if not instance.is_color:
                self.frames += read_frames(header, instance)
        except UnreadableError as error:
            self.damaged.append(f"{instance.path.name}: {error}")

    @property
    def is_derived(self) -> bool:
        """Whether it was made from a scan, beside which it often lies."""
        return self.instances[0].attributes.get("SOPClassUID") in (DOSE, SEGMENTATION, LABEL_MAP, PARAMETRIC_MAP)

    @property
    def slices(self) -> int:
        return sum(instance.count for instance in self.instances)


def series_of_folder(folder: Path, name: str, notes: list[str]) -> Series:
    """The one series of a folder, or the only one that is no localizer. Raises InputError (none, several)."""
    series, lost, entries = _scan(folder, name)
    if not series:
        raise InputError(_nothing(folder, name, lost, entries))
    if lost:
        count = f"{len(lost)} DICOM file{'s' if len(lost) > 1 else ''} in the folder cannot be read as an image"
        notes.append(f"{name}: {count} and was left out: {', '.join(lost[:5])}.")
    if len(series) == 1:
        return next(iter(series.values()))
    long = [found for found in series.values() if found.slices >= _LOCALIZER_SLICES and not found.is_derived]
    if len(long) == 1:
        notes.append(
            f"{name}: the folder holds {len(series)} DICOM series; the one with {long[0].slices} slices was read, "
            "the others are shorter than four, or a segmentation or dose."
        )
        return long[0]
    rows = []
    for found in sorted(series.values(), key=lambda found: found.instances[0].path.name):
        first = found.instances[0]
        words = [first.attributes.get(key, "") for key in ("Modality", "SeriesDescription")]
        described = " ".join(word for word in words if word) or "no description"
        rows.append(f"  {first.path.name}: {described}, {len(found.instances)} files")
    rows = rows[:30] + ([f"  ... and {len(rows) - 30} more"] if len(rows) > 30 else [])
    listed = "\n".join(rows)
    raise InputError(
        f"{name}: expected one DICOM series, got {len(series)} in {folder}. Give one file of the series you want; its "
        f"whole series will be read. First file of each:\n{listed}"
    )


def series_of_file(file: Path, name: str, notes: list[str]) -> Series:
    """A file of many frames, or the series in its folder that a file of one slice belongs to. Raises InputError."""
    try:
        header = read_header(file)
        if text(header.dataset, "SOPClassUID") == DIRECTORY:
            raise InputError(
                f"{name}: a DICOMDIR is a list of files, not an image. Give the folder of one series that it lists."
            )
        instance = read_instance(header)
    except UnreadableError as error:
        raise InputError(f"{name}: {file.name} cannot be read as a DICOM image: {error}.") from error
    uid = instance.attributes.get("SeriesInstanceUID", "")
    if (instance.count > 1 and not instance.concatenation) or not uid:
        found = Series()
        found.add(header, instance)
        return found
    series, lost, _ = _scan(file.parent, name, uid)
    found = series.get(uid) or Series()
    if not found.instances:
        found.add(header, instance)
    if len(found.instances) > 1:
        notes.append(f"{name}: the whole DICOM series of this file was read ({found.slices} slices).")
    if lost:
        notes.append(
            f"{name}: beside it lie DICOM files that cannot be read as an image, left out: {', '.join(lost[:5])}."
        )
    return found


def check_series(series: Series, name: str) -> None:
    """Raise InputError for color, for files with damaged values, or when a part of a concatenation is missing."""
    first = series.instances[0]
    if first.is_color:
        check_kind((first.columns, first.rows, max(series.slices, 2)), max(first.samples, 3), name)
    if any(instance.is_color for instance in series.instances):
        raise InputError(f"{name}: some slices of the DICOM series are color images. Give another series.")
    if series.damaged:
        more = f" ({len(series.damaged)} files are damaged)" if len(series.damaged) > 1 else ""
        raise InputError(f"{name}: the DICOM file {series.damaged[0]}{more}. Copy the series again.")
    parts: dict[str, set[tuple[int, int]]] = {}
    for instance in series.instances:
        if instance.concatenation and instance.part[1]:
            parts.setdefault(instance.concatenation, set()).add(instance.part)
    for found in parts.values():
        told = max(total for _, total in found)
        if len(found) < told:
            raise InputError(
                f"{name}: a volume in {told} files (a concatenation) of which {len(found)} are there. Copy all of them."
            )


def _scan(folder: Path, name: str, only: str | None = None) -> tuple[dict[str, Series], list[str], list[os.DirEntry]]:
    """Series by UID (or only that one), names of DICOM files that are no image, all entries of the folder."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{name}: the folder {folder} cannot be read: {error.strerror or error}.") from error
    series: dict[str, Series] = {}
    lost, known = [], set()
    for entry in entries:
        path = Path(entry.path)
        if not _regular(entry) or not _readable(path, lost) or not is_dicom(path):
            continue
        real = os.path.realpath(path)
        if real in known:  # two names of one file
            continue
        known.add(real)
        try:
            header = read_header(path)
            uid = text(header.dataset, "SeriesInstanceUID")
            if (only is not None and uid != only) or text(header.dataset, "SOPClassUID") == DIRECTORY:
                continue
            instance = read_instance(header)
        except (UnreadableError, OSError):
            if entry.name.upper() != "DICOMDIR":
                lost.append(entry.name)
            continue
        series.setdefault(uid, Series()).add(header, instance)
    return series, lost, entries


def _regular(entry: os.DirEntry) -> bool:
    """Whether an entry is a file, or a link to one: not a pipe, which would wait for ever, nor a link to itself."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _readable(path: Path, lost: list[str]) -> bool:
    if os.access(path, os.R_OK):
        return True
    lost.append(path.name)
    return False


def _nothing(folder: Path, name: str, lost: Sequence[str], entries: Sequence[os.DirEntry]) -> str:
    inside = []
    for entry in entries:
        try:
            inside += [entry.name] if entry.is_dir() else []
        except OSError:
            continue
    hint = f" Its subfolders are: {', '.join(inside[:8])}." if inside else ""
    if lost:
        hint = f" DICOM files that are no image, or damaged: {', '.join(lost[:5])}.{hint}"
    return f"{name}: {folder} is a folder without DICOM images. Give a file or a DICOM folder.{hint}"
