"""From a path to the image of one DICOM volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import SimpleITK as sitk

from ...errors import InputError, NotEnoughMemory
from ...io.checks import MIN_VOXELS_PER_AXIS
from .folder import Series, check_series, series_of_file, series_of_folder
from .geometry import Placed, place
from .groups import Group, choose, listing, split
from .instance import DOSE, LABEL_MAP, SEGMENTATION, Frame, Instance
from .pixels import digest, read_image

_Result = TypeVar("_Result")


def read(path: Path, name: str, group: int | None, option: str) -> tuple[sitk.Image, dict[str, str], list[str]]:
    """See `read_series`."""
    return _guarded(_read, path, name, group, option)


def size(path: Path, name: str, group: int | None, option: str) -> tuple[int, int, int]:
    """See `series_size`."""
    return _guarded(_size, path, name, group, option)


def _guarded(function: Callable[..., _Result], path: Path, name: str, group: int | None, option: str) -> _Result:
    if group is not None and (isinstance(group, bool) or not isinstance(group, int)):
        raise InputError(f"{name}: {option}: expected a whole number from 1, got {group!r}.")
    try:
        return function(path, name, group, option)
    except OSError as error:  # gone, or not readable any more, since the folder was looked through
        raise InputError(f"{name}: {error.filename or path} cannot be read: {error.strerror or error}.") from error
    except MemoryError as error:
        raise NotEnoughMemory(f"Not enough memory for reading {name}. Shrink or crop the volume first.") from error


def _size(path: Path, name: str, group: int | None, option: str) -> tuple[int, int, int]:
    notes: list[str] = []
    series = series_of_folder(path, name, notes) if path.is_dir() else series_of_file(path, name, notes)
    check_series(series, name)
    first = series.instances[0]
    kind = first.attributes.get("SOPClassUID", "")
    if kind == SEGMENTATION:
        placed = _padded(place(_one_per_place(series.frames), name, notes, sparse=True))
    else:
        frames = choose(_without_copies(series.frames, name, notes), name, group, option)
        placed = place(frames, name, notes, sparse=kind == LABEL_MAP)
    return first.columns, first.rows, placed.count


def _read(path: Path, name: str, group: int | None, option: str) -> tuple[sitk.Image, dict[str, str], list[str]]:
    notes: list[str] = []
    series = series_of_folder(path, name, notes) if path.is_dir() else series_of_file(path, name, notes)
    check_series(series, name)
    first = series.instances[0]
    for instance in series.instances:
        notes += [f"{name}: {note}." for note in instance.notes if f"{name}: {note}." not in notes]
    kind = first.attributes.get("SOPClassUID", "")
    if kind == SEGMENTATION:
        image, placed = _segmentation(series, name, notes, group, option)
    else:
        frames = choose(_without_copies(series.frames, name, notes), name, group, option)
        _check_mosaic(frames, name)
        placed = place(frames, name, notes, sparse=kind == LABEL_MAP)
        image = read_image(placed, name, notes)
    if kind == DOSE:
        notes.append(
            f"{name}: a dose; its values are in the header's unit, Gy or relative (stored ones times a scaling)."
        )
    attributes = dict(first.attributes)
    uids = list(dict.fromkeys(frame.instance.uid for frame in placed.frames))
    if all(uids):
        attributes["SOPInstanceUIDs"] = "\\".join(uids)
    if group is not None:
        attributes["FrameGroup"] = str(group)
    return image, attributes, notes


def _check_mosaic(frames: Sequence[Frame], name: str) -> None:
    if any("MOSAIC" in frame.traits.get("ImageType", "").split("\\") for frame in frames):
        raise InputError(
            f"{name}: its images are mosaics, each a whole volume as one picture. Convert it first; dcm2niix does it."
        )


def _without_copies(frames: Sequence[Frame], name: str, notes: list[str]) -> list[Frame]:
    """Frames without second copies of a file: same instance, same place, same pixels."""
    seen: dict[tuple, Frame] = {}
    digests: dict[Path, bytes] = {}
    kept, copies = [], 0

    def pixels(file: Instance) -> bytes:
        if file.path not in digests:
            digests[file.path] = digest(file)
        return digests[file.path]

    for frame in frames:
        key = (frame.instance.uid, frame.index, frame.position, frame.instance.concatenation)
        other = seen.setdefault(key, frame)
        if other is frame or not frame.instance.uid or (frame.position is None and other.instance.count == 1):
            kept.append(frame)
        elif frame.rescale == other.rescale and pixels(frame.instance) == pixels(other.instance):
            copies += 1
        else:
            kept.append(frame)
    if copies:
        notes.append(f"{name}: {copies} slices lie in the folder more than once; each was read once.")
    return kept


def _segmentation(
    series: Series, name: str, notes: list[str], group: int | None, option: str
) -> tuple[sitk.Image, Placed]:
    """Segments as one label map (their numbers as values), or the one that is asked for, as 0 and 1."""
    first = series.instances[0]
    if len(series.instances) > 1:
        raise InputError(f"{name}: got {len(series.instances)} segmentations. Give the file of one of them.")
    by_segment: dict[int, list[Frame]] = {}
    for frame in series.frames:
        by_segment.setdefault(int(float(frame.traits.get("ReferencedSegmentNumber", "1"))), []).append(frame)
    numbers = sorted(by_segment)
    found = [Group(f"segment {n} {first.segments.get(n, '')}".strip(), by_segment[n]) for n in numbers]
    if group is not None and not 1 <= group <= len(found):
        raise InputError(f"{name}: {option} {group}: expected one of its {len(found)} segments:\n{listing(found)}")
    every = _padded(place(_one_per_place(series.frames), name, notes, sparse=True))
    wanted = numbers if group is None else [numbers[group - 1]]
    if len(wanted) > 1 and first.fraction is not None:
        raise InputError(f"{name}: fractions of {len(found)} segments. Choose one with {option} N:\n{listing(found)}")
    total = np.zeros((every.count, first.rows, first.columns), np.uint16)
    for number in wanted:
        image = read_image(_on(every, by_segment[number]), name, [], scaled=False)
        values = sitk.GetArrayFromImage(image)
        if first.fraction is not None:
            total = values / first.fraction
        elif len(wanted) == 1:
            total = (values > 0).astype(np.uint8)
        else:
            if np.any(total[values > 0]):
                raise InputError(
                    f"{name}: its segments overlap, so one label map cannot hold them. Choose one with {option} N:\n"
                    f"{listing(found)}"
                )
            total[values > 0] = number
    image = sitk.GetImageFromArray(total)
    image.SetOrigin(every.origin)
    image.SetSpacing(every.spacing)
    image.SetDirection(every.direction)
    if len(wanted) > 1:
        told = ", ".join(f"{n} {first.segments.get(n, '')}".strip() for n in wanted[:20])
        notes.append(f"{name}: a segmentation with {len(wanted)} segments, read as one label map: {told}.")
    return image, every


def _padded(every: Placed) -> Placed:
    """With empty slices around, where a segmentation tells of fewer than a volume must have: it leaves these out."""
    lacking = MIN_VOXELS_PER_AXIS - every.count
    if lacking <= 0:
        return every
    before = lacking // 2
    normal = np.array(every.direction).reshape(3, 3)[:, 2]
    origin = tuple((np.array(every.origin) - before * every.spacing[2] * normal).tolist())
    numbers = [number + before for number in every.numbers]
    return replace(every, origin=origin, count=MIN_VOXELS_PER_AXIS, numbers=numbers)


def _one_per_place(frames: Sequence[Frame]) -> list[Frame]:
    parts = split(frames)
    kept = {}
    for part in parts:
        for frame in part.frames:
            kept.setdefault(None if frame.position is None else tuple(round(p, 3) for p in frame.position), frame)
    return list(kept.values())


def _on(every: Placed, frames: Sequence[Frame]) -> Placed:
    """Frames of one segment on the grid of all."""
    origin, normal = np.array(every.origin), np.array(every.direction).reshape(3, 3)[:, 2]
    numbers = [
        round(float((np.array(frame.position) - origin) @ normal) / every.spacing[2]) if frame.position else index
        for index, frame in enumerate(frames)
    ]
    return Placed(list(frames), every.origin, every.spacing, every.direction, every.count, numbers)
