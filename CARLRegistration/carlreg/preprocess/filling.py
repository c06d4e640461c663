"""Filling: the one value that programs put where a scanner saw nothing, which may be any value.

0 around a CT scan, 3071 or 32767 outside its circle, 0 around standardized intensities, -1024 around MR: where filling
is not the lowest value it looks like a body, and where it lies far below all others it leaves them no contrast. It is
told from a body by being exactly constant, large, solid, and connected to the volume's corners.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from ..volumes import Volume
from .normalize import guess_modality

log = logging.getLogger(__name__)

_AIR_HU = -1024.0
_SAMPLES = 500_000
# Filling takes at least this share of a volume, and lies this far above the lowest of the other values or below them,
# in shares of their range: otherwise it is as good as background, and is treated as such.
_LEAST_SHARE, _ABOVE, _BELOW = 0.005, 0.02, 0.5
# No filling: images of so few values (masks, label maps); regions of which less is solid (noise of few values); the
# highest value where it comes again within this share of the rest (saturated tissue).
_FEWEST_VALUES, _SOLID, _WITHIN = 16, 0.5, 0.1
# Voxels around filling that come so much nearer to its value than the next ones are mixed with it.
_MIXED = 0.85
_CORNER = 4
_ROUNDS = 3  # scans are filled up more than once, with another value each time


def without_filling(volume: Volume, modality: str = "auto") -> Volume:
    """The volume with filling that would not pass as background replaced by what does; the same object without any.

    modality: 'auto' | 'ct' | 'mr'.
    """
    filled = filling(volume, modality)
    if filled is None:
        return volume
    array = sitk.GetArrayFromImage(volume.image)
    values = array[~filled]
    low = float(values.min())
    if (guess_modality(values) if modality == "auto" else modality) == "ct" and _holds(array.dtype, _AIR_HU):
        low = _AIR_HU
    array[filled] = low
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(volume.image)
    log.info("%s: %.0f %% are filled, taken for background", volume.name, 100 * filled.mean())
    return replace(volume, image=image)


def filling(volume: Volume, modality: str = "auto") -> np.ndarray | None:
    """(D, H, W) bool: where a volume is filled with values that would not pass as background; None without any."""
    array = sitk.GetArrayFromImage(volume.image)
    filled, seen = np.zeros(array.shape, bool), np.zeros(array.shape, bool)  # seen: the filled, and background
    for _ in range(_ROUNDS):
        before = np.count_nonzero(seen)
        for value in _corner_values(array, seen):
            same = (array == value) & ~seen
            others = array[~(same | seen)]
            others = others[:: max(1, others.size // _SAMPLES)]
            if np.count_nonzero(same) < _LEAST_SHARE * array.size or not _varied(others):
                continue
            if not _unlike_background(others, value, modality):
                seen |= same
                continue
            region = _filled_region(array, value, same, seen, others)
            if region is not None:
                filled, seen = filled | region, seen | region
        if np.count_nonzero(seen) == before:
            break
    return filled if filled.any() else None


def _holds(dtype: np.dtype, value: float) -> bool:
    return dtype.kind == "f" or np.iinfo(dtype).min <= value


def _corner_values(array: np.ndarray, seen: np.ndarray) -> list:
    """The values at the corners of the box around what was not seen yet, the most frequent ones first.

    Only values that are the same on a face of some voxels, so that noise of few values costs no time.
    """
    spans = []
    for axis in range(3):
        left = np.flatnonzero(~seen.all(axis=tuple(other for other in range(3) if other != axis)))
        if not len(left):
            return []
        spans.append(slice(left[0], left[-1] + 1))
    box, outside = array[tuple(spans)], seen[tuple(spans)]
    corners = []
    for ends in itertools.product((1, -1), repeat=3):
        corner = box[tuple(slice(None, None, end) for end in ends)][:_CORNER, :_CORNER, :_CORNER]
        value = corner[0, 0, 0]
        flat = any((corner.take(0, axis) == value).all() for axis in range(3))
        if flat and not outside[tuple(slice(None, None, end) for end in ends)][0, 0, 0]:
            corners.append(value)
    return sorted(set(corners), key=corners.count, reverse=True)


def _filled_region(array: np.ndarray, value, same: np.ndarray, seen: np.ndarray, others: np.ndarray):
    """The part of `same`, where the array has the value, that is filling and what is mixed with it; None without any.

    It is connected to the border or to what was seen from there.
    """
    joined = sitk.GetImageFromArray((same | seen).astype(np.uint8))
    region = same & (sitk.GetArrayFromImage(sitk.BinaryGrindPeak(joined, False, 1, 0)) > 0)
    if region.mean() < _LEAST_SHARE or not _solid(region, seen):
        return None
    highest = value >= others.max() and value - others.max() <= _ABOVE * _range(others)
    return None if highest and _comes_again(region) else _with_its_edge(array, region, value) & ~seen


def _varied(others: np.ndarray) -> bool:
    return np.unique(others[:: max(1, others.size // 10_000)]).size >= _FEWEST_VALUES


def _unlike_background(others: np.ndarray, value, modality: str) -> bool:
    """Whether a value would be taken for a body, or would leave the other values no contrast, were it not replaced."""
    low, spread = float(np.percentile(others, 0.5)), _range(others)
    if value >= low:
        return value - low > _ABOVE * spread
    hounsfield = modality == "ct" or guess_modality(others) == "ct"
    if hounsfield or (others.min() < 0 and guess_modality(np.append(others, value)) == "ct"):
        return False  # they are clamped: below air all is alike
    return low - value > _BELOW * spread


def _range(values: np.ndarray) -> float:
    low, high = np.percentile(values, (0.5, 99.5))
    return float(high - low)


def _solid(region: np.ndarray, seen: np.ndarray) -> bool:
    """Whether most of a region has only itself around it, or what was seen, or the end of the volume."""
    inner = region & ~_grown(~(region | seen))
    return bool(np.count_nonzero(inner) > _SOLID * np.count_nonzero(region))


def _grown(mask: np.ndarray) -> np.ndarray:
    """A mask with the six neighbors of its voxels."""
    grown = mask.copy()
    for axis in range(3):
        here, there = np.moveaxis(grown, axis, 0), np.moveaxis(mask, axis, 0)
        here[1:] |= there[:-1]
        here[:-1] |= there[1:]
    return grown


def _comes_again(region: np.ndarray) -> bool:
    """Whether a region also lies within the rest, as tissue does and what surrounds a field of view does not."""
    rest = ~region
    within = 0
    for axis in range(3):
        before = np.logical_or.accumulate(rest, axis)
        after = np.flip(np.logical_or.accumulate(np.flip(rest, axis), axis), axis)
        within += int((region & before & after).sum())
    return within > 3 * _WITHIN * rest.sum()


def _with_its_edge(array: np.ndarray, region: np.ndarray, value) -> np.ndarray:
    """A region with the voxels around it where they are mixed with its value, as interpolation leaves them."""
    once = _grown(region)
    twice = _grown(once)
    first, second = (
        np.abs(array[shell].astype(np.float64) - float(value)) for shell in (once & ~region, twice & ~once)
    )
    mixed = first.size and second.size and first.mean() < _MIXED * second.mean()
    return once if mixed else region
