"""Segmentations of both images that guide a registration: which segments belong together, and their boundaries."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..io.checks import existing_path
from ..optimize.segments import CUT_OFF, SegmentPair, Side
from ..quality.segments import label_names
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid
from ..text_files import cut, read_text, shown
from ..text_files import number as as_number
from ..volumes import Volume

log = logging.getLogger(__name__)

# Around a segment its distance is known so far, in voxels: what the coarsest level looks at.
_MARGIN_VOXELS = 56 * CUT_OFF
_NAMED, _MOST_WEIGHT, _MOST_BYTES = 6, 1000.0, 2**20


@dataclass(frozen=True)
class SegmentMatch:
    """A segment's name or label value in either image, and its weight."""

    fixed: str
    moving: str
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class SegmentsGuide:
    """Label maps of both images. matches: which segments belong together; None: those of the same name or value.

    names: by label value, of either; None: what a .seg.nrrd says.
    """

    fixed: sitk.Image
    moving: sitk.Image
    matches: Sequence[SegmentMatch] | None = None
    fixed_names: Mapping[int, str] | None = None
    moving_names: Mapping[int, str] | None = None


def matched_segments(
    guide: SegmentsGuide | None, fixed: Volume, moving: Volume, settings: RegistrationSettings
) -> list[SegmentPair]:
    """The segments that guide a registration of two volumes, with their distances; none without a guide.

    Raises InputError: a method that they cannot guide, no segment in common, a match that is in no segmentation.
    """
    if guide is None:
        return []
    if settings.io_method != "field" and settings.steps:
        raise InputError(
            f"segments guide: expected io method field, which segments can guide; got {settings.io_method}. Choose "
            "field, or 0 io steps."
        )
    sides = [
        (sitk.GetArrayFromImage(image), label_names(image) if names is None else dict(names))
        for image, names in ((guide.fixed, guide.fixed_names), (guide.moving, guide.moving_names))
    ]
    values = [[int(value) for value in np.unique(array) if value] for array, _ in sides]
    named = [_by_name(present, names) for present, (_, names) in zip(values, sides, strict=True)]
    matches = guide.matches or _in_common(named, values)
    if not matches:
        shown = [", ".join(cut(name, 30) for name in list(each)[:_NAMED]) for each in named]
        raise InputError(
            f"segments guide: expected segments of the same name or value in both images; got {shown[0]} in the fixed "
            f"and {shown[1]} in the moving one. Say which belong together with --segments-match."
        )
    found = []
    for match in matches:
        labels = [
            _label_of(given, names, side)
            for given, names, side in zip((match.fixed, match.moving), named, ("fixed", "moving"), strict=True)
        ]
        pair = [
            Side.of(array == label, volume.grid, _MARGIN_VOXELS * float(volume.grid.spacing.min()))
            for (array, _), label, volume in zip(sides, labels, (fixed, moving), strict=True)
        ]
        name = next(name for name, label in named[0].items() if label == labels[0])  # also where a number was given
        found.append(SegmentPair(name, match.weight, pair[0], pair[1]))
    log.info("segments: %s guide", ", ".join(pair.name for pair in found))
    return found


def read_matches(path: str | os.PathLike, name: str = "segments match") -> list[SegmentMatch]:
    """Which segments belong together, from a CSV file with the columns fixed and moving, and weight where it is not 1.

    Raises InputError for anything else.
    """
    file = existing_path(path, name)
    label = f"{name} ({file.name})"
    text = read_text(file, label, "a CSV text file", _MOST_BYTES)
    rows = [[word.strip() for word in row] for row in csv.reader(io.StringIO(text)) if any(row)]
    if not rows or not {"fixed", "moving"} <= set(rows[0]):
        raise InputError(f"{label}: expected a CSV file with the columns fixed and moving; not found.")
    found = []
    for number, row in enumerate(rows[1:], 2):
        cells = dict(zip(rows[0], row, strict=False))
        weight = as_number(cells.get("weight") or "1")
        if not cells.get("fixed") or not cells.get("moving") or weight is None or not 0 < weight <= _MOST_WEIGHT:
            raise InputError(
                f"{label}, line {number}: expected two names and a weight above 0, at most {_MOST_WEIGHT:g}; got "
                f"{shown(','.join(row))}."
            )
        found.append(SegmentMatch(cells["fixed"], cells["moving"], weight))
    if not found:
        raise InputError(f"{label}: expected at least one pair of segments, got none.")
    return found


def _by_name(values: Sequence[int], names: Mapping[int, str]) -> dict[str, int]:
    """Label values by name, or by their own number where they have none."""
    return {names.get(value) or str(value): value for value in values}


def _in_common(named: Sequence[dict[str, int]], values: Sequence[Sequence[int]]) -> list[SegmentMatch]:
    """Segments of the same name; where there are none, those of the same value."""
    common = [name for name in named[0] if name in named[1]]
    if common:
        return [SegmentMatch(name, name) for name in common]
    same = [value for value in values[0] if value in values[1]]
    names = [{value: name for name, value in each.items()} for each in named]
    return [SegmentMatch(names[0][value], names[1][value]) for value in same]


def _label_of(given: str, named: dict[str, int], side: str) -> int:
    if given in named:
        return named[given]
    if given.lstrip("-").isdigit() and int(given) in named.values():
        return int(given)
    shown = ", ".join(cut(name, 30) for name in list(named)[:_NAMED]) + (", ..." if len(named) > _NAMED else "")
    raise InputError(f"segments guide: expected a segment of the {side} image, got {cut(given)!r}; there are {shown}.")


def about_segments(segments: Sequence[SegmentPair]) -> dict:
    """What a result's `info` says about them; nothing without any."""
    if not segments:
        return {}
    return {"segments_guide": [{"name": pair.name, "weight": pair.weight} for pair in segments]}


def of_moving(segments: list[SegmentPair], of_grid: Callable[[VolumeGrid], VolumeGrid]) -> list[SegmentPair]:
    """The segments for a moving volume that is looked at with other spacings."""
    found = []
    for pair in segments:
        grid = of_grid(pair.moving.grid)
        size = float(np.prod(grid.spacing / pair.moving.grid.spacing)) ** (1 / 3)
        found.append(replace(pair, moving=Side(pair.moving.distance_11dhw * size, grid, of_grid(pair.moving.volume))))
    return found
