"""The volumes that the frames of a series make up: one, or several (time points, echoes, stacks) to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from ...errors import GeometryError, InputError
from .header import printable
from .instance import Frame

SAME_PLACE_MM = 1e-3
_SAME_AXES = 1e-2
_LISTED = 30
# Frames that differ in these are different images of one place, even where their positions do not repeat.
_APART = (
    "TemporalPositionIndex",
    "TemporalPositionIdentifier",
    "TemporalPositionTimeOffset",
    "EffectiveEchoTime",
    "EchoNumbers",
    "DiffusionBValue",
    "ComplexImageComponent",
    "EnergyWindow",
)
_LATE = ("FrameAcquisitionNumber", "AcquisitionNumber", "AcquisitionDateTime", "FrameAcquisitionDateTime")
_LAST = ("AcquisitionTime", "ContentTime", "position across", "file")


@dataclass(frozen=True)
class Group:
    """One volume of a series. label: what distinguishes it. frames: not sorted yet."""

    label: str
    frames: list[Frame]


def choose(frames: Sequence[Frame], name: str, group: int | None, option: str) -> list[Frame]:
    """The frames of one volume: all, or those of the group that is asked for (from 1).

    option: what messages call the choice. Raises InputError or GeometryError when there are several and none was
    chosen, or when there is no such group.
    """
    kinds = _kinds(frames)
    found = [part for kind in kinds for part in split(kind.frames)]
    if len(kinds) > 1:
        found = [
            Group(", ".join(filter(None, (kind.label, part.label))), part.frames)
            for kind in kinds
            for part in split(kind.frames)
        ]
    if group is not None:
        if not 1 <= group <= len(found):
            raise InputError(
                f"{name}: {option} {group}: expected a number from 1 to {len(found)}, of one of its volumes:\n"
                f"{listing(found)}"
            )
        return found[group - 1].frames
    if len(found) == 1:
        return found[0].frames
    if len(kinds) > 1:
        raise GeometryError(
            f"{name}: the slices of the DICOM series differ in size or orientation (a localizer?). Give another "
            f"series, or choose one of its volumes with {option} N:\n{listing(found)}"
        )
    places = len({code for part in found for code in _places(part.frames).tolist()})
    raise InputError(
        f"{name}: expected one volume, got {len(frames)} slices at {places} positions: a time series or several "
        f"acquisitions in one. Choose one of its volumes with {option} N:\n{listing(found)}"
    )


def listing(found: Sequence[Group]) -> str:
    """Number, what distinguishes it, and count of slices of each group, one a line."""
    lines = [f"  {n}: {part.label}, {len(part.frames)} slices" for n, part in enumerate(found[:_LISTED], start=1)]
    if len(found) > _LISTED:
        lines.append(f"  ... up to {len(found)}: {found[-1].label}")
    return "\n".join(lines)


def split(frames: Sequence[Frame]) -> list[Group]:
    """The volumes of frames of one orientation and size: in each of them no two lie at one place."""
    along = along_normal(frames)
    if along is None:
        return _split_without_places(frames)
    places = _codes_of_places(along)
    most = int(np.bincount(places).max())
    traits = _traits(frames)
    if most == 1:
        for trait in _APART:
            if trait in traits and _interleaved(traits[trait][0], places):
                return _parts(frames, [trait], traits)
        if "StackID" in traits and not _is_even(frames, along):
            return _parts(frames, ["StackID"], traits)
        return [Group("", list(frames))]
    chosen = _telling(traits, places, most)
    if chosen:
        return _parts(frames, chosen, traits)
    return _by_order(frames, places, most)


def along_normal(frames: Sequence[Frame]) -> np.ndarray | None:
    """Where each frame lies along the first one's normal (mm), None where one does not tell its place."""
    if any(frame.position is None or frame.orientation is None for frame in frames):
        return None
    axes = np.array(frames[0].orientation, dtype=float)
    positions = np.array([frame.position for frame in frames], dtype=float)
    return (positions - positions[0]) @ np.cross(axes[:3], axes[3:])


def _places(frames: Sequence[Frame]) -> np.ndarray:
    along = along_normal(frames)
    if along is None:
        return np.arange(len(frames))
    return np.round(along + np.dot(frames[0].position or (0, 0, 0), _normal(frames[0])), 2)


def _normal(frame: Frame) -> np.ndarray:
    axes = np.array(frame.orientation or (1, 0, 0, 0, 1, 0), dtype=float)
    return np.cross(axes[:3], axes[3:])


def _codes_of_places(along: np.ndarray) -> np.ndarray:
    """The number of each frame's place; frames within SAME_PLACE_MM share it."""
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order]) >= SAME_PLACE_MM
    codes = np.empty(len(along), dtype=int)
    codes[order] = np.concatenate([[0], np.cumsum(steps)])
    return codes


def _kinds(frames: Sequence[Frame]) -> list[Group]:
    """Frames by size, orientation and pixel spacing."""
    kinds: list[tuple[tuple, np.ndarray, list[Frame]]] = []
    for frame in frames:
        key = (frame.instance.rows, frame.instance.columns, frame.orientation is None, frame.position is None)
        axes = np.array([*(frame.orientation or (0,) * 6), *(frame.spacing or (1, 1))], dtype=float)
        axes[6:] /= 0.1 * axes[6:].max()  # a tenth of a percent counts as much as 0.6 degrees
        axes = np.append(axes, np.log(max(frame.spacing or (1, 1))) * 10)
        for known, place, members in kinds:
            if known == key and np.abs(axes - place).max() <= _SAME_AXES:
                members.append(frame)
                break
        else:
            kinds.append((key, axes, [frame]))
    groups = []
    for (rows, columns, *_), _, members in kinds:
        axes = members[0].orientation
        towards = "" if axes is None else f", normal {' '.join(f'{part:.2f}' for part in _normal(members[0]) + 0.0)}"
        lost = ", without a position" if members[0].position is None else ""
        groups.append(Group(f"{columns} x {rows} pixels{towards}{lost}", members))
    return groups


def _traits(frames: Sequence[Frame]) -> dict[str, tuple[np.ndarray, list[str]]]:
    """What differs among frames: a code for each frame, and the values that the codes stand for, in order."""
    names = dict.fromkeys(name for frame in frames for name in frame.traits)
    ordered = [name for name in names if name not in _LATE + _LAST] + [name for name in _LATE + _LAST if name in names]
    found = {}
    for name in ordered:
        values = [frame.traits.get(name, "") for frame in frames]
        if len(set(values)) > 1:
            found[name] = _coded(values)
    files = [str(frame.instance.path) for frame in frames]
    if 1 < len(set(files)) < len(files) and any(frame.instance.count > 1 for frame in frames):
        found["file"] = _coded([frame.instance.path.name for frame in frames])
    across = _across(frames)
    if across is not None:
        found["position across"] = across
    return found


def _across(frames: Sequence[Frame]) -> tuple[np.ndarray, list[str]] | None:
    """Where slices stand side by side, as of both breasts or knees."""
    if any(frame.position is None for frame in frames):
        return None
    positions, normal = np.array([frame.position for frame in frames], dtype=float), _normal(frames[0])
    beside = np.round(positions - np.outer(positions @ normal, normal), 1) + 0.0
    corners, codes = np.unique(beside, axis=0, return_inverse=True)
    if not 1 < len(corners) <= max(2, len(frames) // 4):
        return None
    return codes.ravel(), [" ".join(f"{part:g}" for part in corner) for corner in corners]


def _coded(values: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    known = sorted(set(values), key=_by_number)
    codes = {value: code for code, value in enumerate(known)}
    return np.array([codes[value] for value in values]), known


def _by_number(value: str) -> tuple:
    try:
        return (0, tuple(float(part) for part in value.split("\\")), value)
    except ValueError:
        return (1, (), value)


def _telling(traits: dict, places: np.ndarray, most: int) -> list[str]:
    """The fewest traits that leave no two frames at one place in a part, and as few parts as possible; [] if none."""
    fallback: tuple[int, list[str]] = (len(places) // 2 + 1, [])
    for size in (1, 2, 3):
        for names in combinations(traits, size):
            codes = _combined([traits[name][0] for name in names])
            count = int(codes.max()) + 1
            if count < most or count >= fallback[0]:
                continue
            if len(np.unique(codes * (places.max() + 1) + places)) == len(places):
                fallback = (count, list(names))
                if count == most:
                    return fallback[1]
    return fallback[1]


def _combined(codes: Sequence[np.ndarray]) -> np.ndarray:
    return np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].ravel()


def _interleaved(codes: np.ndarray, places: np.ndarray) -> bool:
    """Whether parts of several frames reach into each other's range."""
    ranges = sorted(
        (places[codes == code].min(), places[codes == code].max())
        for code in range(int(codes.max()) + 1)
        if np.count_nonzero(codes == code) > 1
    )
    return any(second[0] < first[1] for first, second in pairwise(ranges))


def _is_even(frames: Sequence[Frame], along: np.ndarray) -> bool:
    """Whether frames lie on one straight line at about equal distances."""
    order = np.argsort(along, kind="stable")
    places = np.array([frame.position for frame in frames], dtype=float)[order]
    steps = np.diff(along[order])
    step, line = float(np.median(steps)), np.linspace(places[0], places[-1], len(places))
    off = float(np.linalg.norm(places - line, axis=1).max())
    return bool(np.abs(steps - step).max() <= 0.25 * step and off <= 0.25 * step)


def _parts(frames: Sequence[Frame], names: Sequence[str], traits: dict) -> list[Group]:
    members: dict[tuple, list[Frame]] = {}
    for number, frame in enumerate(frames):
        members.setdefault(tuple(int(traits[name][0][number]) for name in names), []).append(frame)
    return [
        Group(
            ", ".join(
                f"{name} {printable(traits[name][1][code]) or '-'}" for name, code in zip(names, key, strict=True)
            ),
            part,
        )
        for key, part in sorted(members.items(), key=lambda item: item[0])
    ]


def _by_order(frames: Sequence[Frame], places: np.ndarray, most: int) -> list[Group]:
    """The first frames of all places, the second ones ..., in the order of their numbers."""
    parts: list[list[Frame]] = [[] for _ in range(most)]
    seen: dict[int, int] = {}
    order = sorted(range(len(frames)), key=lambda n: (frames[n].instance.number or 0, frames[n].index))
    for number in order:
        place = int(places[number])
        parts[seen.get(place, 0)].append(frames[number])
        seen[place] = seen.get(place, 0) + 1
    return [Group(f"image {n} at each position", part) for n, part in enumerate(parts, start=1)]


def _split_without_places(frames: Sequence[Frame]) -> list[Group]:
    """Files of many frames are volumes of their own; single ones are told apart by what differs in a few values."""
    traits = _traits(frames)
    for name in (*_APART, *(name for name in traits if name not in _APART + _LATE + _LAST), "file"):
        if name not in traits:
            continue
        counts = np.bincount(traits[name][0])
        if len(counts) > 1 and counts.min() == counts.max() and counts.min() > 1:
            return _parts(frames, [name], traits)
    return [Group("", list(frames))]
