"""Folds in a displacement field: a local repair. Where they are: `folding.py`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import InputError
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..maps.separable import along_axes
from .folding import BLOCK_NODES, smallest_determinants, smallest_inside

# Rounds whose radius grows slowly; then it grows by its own share. Nodes that all rounds may visit together: some
# seconds of work. Powers of 0.85 by which the whole field is damped at most, where smoothing was not enough.
_SLOW_ROUNDS = 15
_MOST_VISITS = 16_000_000
# Rounds without gain after which no more is tried beside nodes that are held.
_STUCK = 4
_DAMPING_STEPS = 128
# Nodes along each axis of a region of folds that is mended together with others.
_SMALL = 4


def repair_folds(
    residual: np.ndarray,
    spacing,
    *,
    min_determinant: float = 0.05,
    direction=None,
    frozen: np.ndarray | None = None,
) -> tuple[np.ndarray, dict]:
    """Removes folds by smoothing the field around them; everything else stays bit for bit.

    Each region of folds is smoothed by itself, over ever wider surroundings. The work is bounded: by the number of
    rounds, and by how many nodes they visit in all. What folds then is damped, see `damping` and `left` below.

    Args:
        residual: (D, H, W, 3) float32 mm; the map is x + residual(x).
        spacing: mm along i, j, k. direction: 3x3, columns = axes i, j, k in the vectors' frame (LPS); None = identity.
        min_determinant: every node must end above it, by one-sided differences along all axes too.
        frozen: (D, H, W) bool, nodes that must not change.
    Returns: the field (the same array when nothing was wrong) and a report: `nodes` that folded, `rounds`, `visits`
        (nodes of all smoothed boxes, added up), `changed` nodes, `damping` (1.0, or the factor on the whole field where
        local repair was not enough), `left` (folded nodes that remain; 0 unless there are frozen nodes),
        `min_determinant` before and after.
    """
    residual = np.asarray(residual, dtype=np.float32)
    if residual.ndim != 4 or residual.shape[3] != 3:
        raise InputError(f"Expected a displacement field of shape (D, H, W, 3), got {residual.shape}.")
    if not 0 < min_determinant < 1:
        raise InputError(f"Expected a smallest determinant between 0 and 1, got {min_determinant}.")
    spacing = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (3,))
    field = tensor_from_array(residual).permute(3, 0, 1, 2).contiguous()
    may_change = reachable = None
    if frozen is not None:
        may_change = ~tensor_from_array(np.asarray(frozen, dtype=bool))
        reachable = dilated(may_change, 1)
    smallest = smallest_determinants(field, spacing, direction)
    report = {
        "nodes": int((smallest <= min_determinant).sum()),
        "rounds": 0,
        "visits": 0,
        "changed": 0,
        "damping": 1.0,
        "left": 0,
        "min_determinant": [float(smallest.min()), float(smallest.min())],
    }
    if not report["nodes"]:
        return residual, report

    work = _Work(min_determinant, spacing, direction, may_change, reachable, report)
    # Wide means leave a step at frozen nodes, so that folds grow there; where none are near, narrow ones do too little.
    ways = (_smoothed,) if may_change is None else (_relaxed, _smoothed)
    repaired, smallest = _repaired(field, smallest, ways, work)
    if may_change is None and bool((smallest <= min_determinant).any()):
        repaired, smallest, report["damping"] = _damped(repaired, smallest, work)
    report["left"] = int((smallest <= min_determinant).sum())
    report["changed"] = int((repaired != field).any(dim=0).sum())
    report["min_determinant"][1] = float(smallest.min())
    return array_from_tensor(repaired.permute(1, 2, 3, 0)), report


@dataclass(frozen=True)
class _Work:
    """What a repair goes by: the least determinant, the lattice, and where it may change.

    may_change, reachable: d h w, nodes that may, and those whose determinant they take part in; None = all.
    report: counts its rounds and visits.
    """

    least: float
    spacing: np.ndarray
    direction: np.ndarray | None
    may_change: Tensor | None
    reachable: Tensor | None
    report: dict

    def determinants(self, field_3dhw: Tensor) -> Tensor:
        return smallest_determinants(field_3dhw, self.spacing, self.direction)

    def folded(self, smallest: Tensor, there: tuple = ()) -> Tensor:
        """Bool: where these determinants fold and something can be done about it; there: which nodes they are of."""
        found = smallest <= self.least
        return found if self.reachable is None else found & self.reachable[there]


def _repaired(field: Tensor, smallest: Tensor, ways, work: _Work) -> tuple[Tensor, Tensor]:
    """The field after the first of some ways of smoothing that leaves no fold, else after the best.

    Also its smallest determinants. Each way has its share of the visits.
    """
    best, least_left = (field, smallest), int(work.folded(smallest).sum())
    held = work.may_change is not None
    for number, smoothed in enumerate(ways, start=1):
        trial, found, counts = field.clone(), smallest.clone(), []
        for radius in _radii(max(smallest.shape), held):
            bad = work.folded(found)
            counts.append(int(bad.sum()))
            boxes = _boxes(bad, radius)
            visits = sum(_volume(box) for _, box in boxes)
            stuck = held and len(counts) > _STUCK and counts[-1] >= counts[-1 - _STUCK]
            if not boxes or stuck or work.report["visits"] + visits > number * _MOST_VISITS / len(ways):
                break
            work.report["rounds"] += 1
            work.report["visits"] += visits
            small, large = _small_and_large(boxes, radius, found.shape)
            for starts in _apart(small, _SMALL + 2 * _margin(radius)):
                _smooth_at(trial, found, starts, radius, smoothed, work)
            for core, box in large:
                if bool(work.folded(found[core], core).any()):  # not mended together with a neighbor
                    _smooth_in(trial, found, box, radius, smoothed, work)
        left = int(work.folded(found).sum())
        if left <= least_left:
            best, least_left = (trial, found), left
        if not left:
            break
    return best


def _smooth_in(trial: Tensor, found: Tensor, box: tuple[slice, ...], radius: int, smoothed, work: _Work) -> None:
    """Smooths one box of a field around what folds in it, and renews the determinants there."""
    part = trial[(slice(None), *box)]
    weight = weight_around(work.folded(found[box], box)[None], radius)
    if work.may_change is not None:
        weight = weight * work.may_change[box]
    part.copy_(_mixed(part[:, None], smoothed(part[:, None], radius), weight)[:, 0])
    around = _grow(box, 1, found.shape)  # so that edges leave the box's nodes on both sides
    inner = tuple(slice(b.start - g.start, b.stop - g.start) for b, g in zip(box, around, strict=True))
    found[box] = work.determinants(trial[(slice(None), *around)])[inner]


def _smooth_at(trial: Tensor, found: Tensor, starts: np.ndarray, radius: int, smoothed, work: _Work) -> None:
    """The same for many small boxes at once, none of which overlap. starts: n x 3, their first nodes."""
    side = _SMALL + 2 * _margin(radius)
    every = max(1, BLOCK_NODES // (side + 2) ** 3)
    offset = torch.arange(-1, side + 1)
    inner = (slice(None), *(slice(1, -1),) * 3)
    for some in tensor_from_array(starts.astype(np.int64)).split(every):
        k, j, i = (some[:, axis, None] + offset for axis in range(3))
        every_node = k[:, :, None, None], j[:, None, :, None], i[:, None, None, :]
        there = k[:, 1:-1, None, None], j[:, None, 1:-1, None], i[:, None, None, 1:-1]
        around = trial[(slice(None), *every_node)]
        weight = weight_around(work.folded(found[there], there), radius)
        if work.may_change is not None:
            weight = weight * work.may_change[there]
        part = around[(slice(None), *inner)]
        part.copy_(_mixed(part, smoothed(part, radius), weight))
        trial[(slice(None), *there)] = part
        found[there] = smallest_inside(around, work.spacing, work.direction)


def _mixed(part: Tensor, smooth: Tensor, weight: Tensor) -> Tensor:
    """3 n d h w: a part of a field, and the smoothed one as far as weights (n d h w) say; the same bits where 0."""
    return torch.where(weight > 0, torch.lerp(part, smooth, weight.expand_as(part)), part)


def _radii(longest: int, held: bool) -> list[int]:
    """How far around folds is smoothed, round by round: at last half of the lattice, so that nothing is out of reach.

    held: some nodes are frozen. What does not fold away near them does not further out either.
    """
    slowly = [1, *(2 + number // 3 for number in range(_SLOW_ROUNDS))]
    if held:
        return slowly
    radii = slowly
    while radii[-1] < longest / 2:
        radii = [*radii, math.ceil(1.3 * radii[-1])]
    return radii


def _boxes(bad: Tensor, radius: int) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Of each region of folds the box that holds it, and the one in which it is smoothed.

    Folds nearer to each other than the radius are one region. Where boxes would have more nodes than all: one box.
    """
    nodes = array_from_tensor(bad.nonzero())
    if not len(nodes):
        return []
    low = nodes.min(axis=0)
    cells = (nodes - low) // (radius + 1)
    coarse = np.zeros(cells.max(axis=0) + 1, dtype=np.uint8)
    coarse[tuple(cells.T)] = 1
    regions = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(coarse), True))
    region = regions[tuple(cells.T)]
    order = np.argsort(region, kind="stable")
    nodes, first = nodes[order], np.flatnonzero(np.diff(region[order], prepend=0))
    lowest, highest = np.minimum.reduceat(nodes, first), np.maximum.reduceat(nodes, first) + 1
    cores = [_slices(*ends) for ends in zip(lowest, highest, strict=True)]
    boxes = [(core, _grow(core, _margin(radius), bad.shape)) for core in cores]
    core = _slices(nodes.min(axis=0), nodes.max(axis=0) + 1)
    whole = _grow(core, _margin(radius), bad.shape)
    return boxes if sum(_volume(box) for _, box in boxes) < _volume(whole) else [(core, whole)]


def _slices(low: np.ndarray, high: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(*ends) for ends in zip(low.tolist(), high.tolist(), strict=True))


def _margin(radius: int) -> int:
    """Nodes from folds to the first one that smoothing surely leaves alone."""
    return max(radius, 2) + 2 * (radius // 2 + 1) + 1


def _small_and_large(boxes: list, radius: int, shape) -> tuple[np.ndarray, list]:
    """First nodes (n x 3) of the small boxes that lie inside the lattice, all of one size, and the others."""
    starts, large = [], []
    side = _SMALL + 2 * _margin(radius)
    for core, box in boxes:
        spare = [_SMALL - (c.stop - c.start) for c in core]
        start = [c.start - rest // 2 - _margin(radius) for c, rest in zip(core, spare, strict=True)]
        inside = all(first >= 1 and first + side < n for first, n in zip(start, shape, strict=True))
        if min(spare) >= 0 and inside and (side + 2) ** 3 <= BLOCK_NODES // 2:
            starts.append(start)
        else:
            large.append((core, box))
    return np.array(starts, dtype=np.int64).reshape(-1, 3), large


def _apart(starts: np.ndarray, side: int) -> list[np.ndarray]:
    """Cubes of a side in groups, so that those of one group do not overlap. starts: n x 3, their first nodes."""
    # Cubes that begin in the same cell of a lattice of that side may overlap, and with those of the cells beside it.
    cells = starts // side
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    order = np.argsort(cell, kind="stable")
    rank = np.empty(len(cell), dtype=np.int64)
    rank[order] = np.arange(len(cell)) - np.searchsorted(cell[order], cell[order])
    group = rank * 8 + (cells % 2) @ np.array([4, 2, 1])
    return [starts[group == number] for number in np.unique(group)]


def _smoothed(part: Tensor, radius: int) -> Tensor:
    """3 n d h w: means over wide windows, twice."""
    return _averaged(part, radius // 2 + 1, 2)


def _relaxed(part: Tensor, _radius: int) -> Tensor:
    """3 n d h w: means over neighbors only."""
    return _averaged(part, 1, 1)


def weight_around(bad: Tensor, radius: int) -> Tensor:
    """n d h w: 1 at folds and so many nodes around them, falling smoothly to 0 within about twice the radius."""
    core = _averaged(bad[None].float(), max(radius, 2), 1) > 0
    return _averaged(core.float(), radius // 2 + 1, 2)[0]


def _damped(field: Tensor, smallest: Tensor, work: _Work) -> tuple[Tensor, Tensor, float]:
    """The largest share of a field (a power of 0.85) without folds, its smallest determinants, and the factor.

    Looked for by bisection where the field folds; then all of it is looked at, and damped further where need be.
    """
    box = _box(work.folded(smallest), 1)
    part = field[(slice(None), *box)]
    low, high = 0, _DAMPING_STEPS  # powers: too small, large enough
    while high - low > 1:
        middle = (low + high) // 2
        sound = not bool(work.folded(work.determinants(part * 0.85**middle)).any())
        low, high = (low, middle) if sound else (middle, high)
    while True:
        damped = field * 0.85**high
        smallest = work.determinants(damped)
        if high >= _DAMPING_STEPS or not bool(work.folded(smallest).any()):
            return damped, smallest, 0.85**high
        high = min(high + 4, _DAMPING_STEPS)


def dilated(mask: Tensor, radius: int) -> Tensor:
    """Bool, d h w: within a cube of so many nodes around a node of the mask."""
    return _averaged(mask.float()[None, None], radius, 1)[0, 0] > 0


def _averaged(volume: Tensor, radius: int, times: int) -> Tensor:
    """Box means of b c d h w, edge values continued; as quick for wide windows as for narrow ones."""
    return along_axes(volume, *(_means(count, radius, times, volume.dtype) for count in volume.shape[2:]))


@lru_cache(maxsize=256)
def _means(count: int, radius: int, times: int, dtype: torch.dtype) -> Tensor:
    """count x count: means over so many nodes on either side, those beyond an end counted as the end."""
    matrix = torch.zeros(count, count, dtype=torch.float64)
    rows = torch.arange(count)
    for step in range(-radius, radius + 1):
        matrix.index_put_((rows, (rows + step).clamp(0, count - 1)), torch.ones((), dtype=torch.float64), True)
    return torch.linalg.matrix_power(matrix / (2 * radius + 1), times).to(dtype)


def _box(mask: Tensor, margin: int) -> tuple[slice, ...]:
    slices = []
    for dim in range(3):
        others = [d for d in range(3) if d != dim]
        index = mask.any(dim=others[1]).any(dim=others[0]).nonzero()
        slices.append(slice(int(index.min()), int(index.max()) + 1))
    return _grow(tuple(slices), margin, mask.shape)


def _grow(box, margin: int, shape) -> tuple[slice, ...]:
    return tuple(slice(max(b.start - margin, 0), min(b.stop + margin, n)) for b, n in zip(box, shape, strict=True))


def _volume(box) -> int:
    return math.prod(b.stop - b.start for b in box)
