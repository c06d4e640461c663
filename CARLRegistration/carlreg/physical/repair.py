"""Folds in a displacement field: where they are, and a local repair."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..maps.exchange import array_from_tensor, tensor_from_array
from .jacobian import determinant
from .workers import in_threads

# Rounds whose radius grows slowly; then it grows by its own share. Nodes that all rounds may visit together: a minute
# or two of work. Powers of 0.85 by which the whole field is damped at most, where smoothing was not enough.
_SLOW_ROUNDS = 15
_MOST_VISITS = 60_000_000
_DAMPING_STEPS = 128
_SLAB_NODES = 2**17


def smallest_determinants(field_3dhw: Tensor, spacing, direction=None) -> Tensor:
    """d h w: for each node the smallest determinant of x + field(x) at and around it.

    Taken over all corners of the cells at the node (one-sided differences along each axis in all combinations, which
    are the extreme values that linear interpolation between nodes takes) and over central differences.
    """
    depth = field_3dhw.shape[1]
    planes = max(1, _SLAB_NODES // (field_3dhw.shape[2] * field_3dhw.shape[3]))

    def work(start: int) -> Tensor:
        stop = min(start + planes, depth)
        low, high = max(start - 1, 0), min(stop + 1, depth)
        slab = _smallest_in(field_3dhw[:, low:high], spacing, direction)
        return slab[start - low : stop - low]

    return torch.cat(list(in_threads(work, ((start,) for start in range(0, depth, planes)))))


def _smallest_in(field: Tensor, spacing, direction) -> Tensor:
    if direction is not None:
        to_axes = torch.tensor(np.asarray(direction).T.tolist(), dtype=field.dtype)
        field = torch.tensordot(to_axes, field, dims=1)
    _, depth, height, width = field.shape
    result = torch.ones((depth, height, width), dtype=field.dtype)

    # Derivatives along the edges that leave each node forward and backward. Axes of one node have none.
    sided = []
    for axis in range(3):
        dim = 3 - axis
        step = field.diff(dim=dim) / float(spacing[axis])
        unit = torch.zeros((3, 1, 1, 1), dtype=field.dtype)
        unit[axis] = 1.0
        step = step + unit
        if step.shape[dim] == 0:
            sided.append([unit.expand_as(field)])
            continue
        first, last = step.narrow(dim, 0, 1), step.narrow(dim, step.shape[dim] - 1, 1)
        sided.append([torch.cat([step, last], dim), torch.cat([first, step], dim)])
    for along_i in sided[0]:
        for along_j in sided[1]:
            for along_k in sided[2]:
                torch.minimum(result, determinant(along_i, along_j, along_k), out=result)
    along_i, along_j, along_k = ((pair[0] + pair[-1]) / 2 for pair in sided)
    return torch.minimum(result, determinant(along_i, along_j, along_k))


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
    original = field.clone()
    may_change = reachable = None
    if frozen is not None:
        may_change = ~tensor_from_array(np.asarray(frozen, dtype=bool))
        reachable = dilated(may_change, 1)

    def folded(part: Tensor, box=(slice(None),) * 3) -> Tensor:
        found = smallest_determinants(part, spacing, direction) <= min_determinant
        return found if reachable is None else found & reachable[box]

    smallest = smallest_determinants(field, spacing, direction)
    bad = smallest <= min_determinant
    report = {
        "nodes": int(bad.sum()),
        "rounds": 0,
        "visits": 0,
        "changed": 0,
        "damping": 1.0,
        "left": 0,
        "min_determinant": [float(smallest.min()), float(smallest.min())],
    }
    if not report["nodes"]:
        return residual, report
    if reachable is not None:
        bad &= reachable

    # Wide means leave a step at frozen nodes, so that folds grow there; where none are near, narrow ones do too little.
    ways = (_smoothed,) if may_change is None else (_relaxed, _smoothed)
    field, bad = _repaired(field, bad, folded, ways, may_change, report)
    if bad.any() and may_change is None:
        field, report["damping"] = _damped(field, lambda damped: not bool(folded(damped).any()))
    smallest = smallest_determinants(field, spacing, direction)
    report["left"] = int((smallest <= min_determinant).sum())
    report["changed"] = int((field != original).any(dim=0).sum())
    report["min_determinant"][1] = float(smallest.min())
    return array_from_tensor(field.permute(1, 2, 3, 0)), report


def _repaired(
    field: Tensor, bad: Tensor, folded, ways, may_change: Tensor | None, report: dict
) -> tuple[Tensor, Tensor]:
    """The field after the first of some ways of smoothing that leaves no fold, else after the best, and its folds.

    folded: of a part of the field and its box, where it folds. Counts rounds and visits in the report.
    """
    best: tuple[Tensor, Tensor] = field, bad
    for smoothed in ways:
        trial, still = field.clone(), bad.clone()
        for radius in _radii(max(bad.shape), held=may_change is not None):
            if not still.any():
                return trial, still
            if report["visits"] > _MOST_VISITS:
                break
            report["rounds"] += 1
            for box in _boxes(still, radius):
                part = trial[(slice(None), *box)]
                report["visits"] += part[0].numel()
                weight = _weight_around(still[box], radius)
                if may_change is not None:
                    weight = weight * may_change[box]
                weight = weight.expand_as(part)
                part.copy_(torch.where(weight > 0, torch.lerp(part, smoothed(part, radius), weight), part))
                grown = _grow(box, 1, bad.shape)
                checked = folded(trial[(slice(None), *grown)], grown)
                inner = (slice(b.start - g.start, b.stop - g.start) for b, g in zip(box, grown, strict=True))
                still[box] = checked[tuple(inner)]
        if int(still.sum()) <= int(best[1].sum()):
            best = trial, still
        if not still.any():
            break
    return best


def _radii(longest: int, held: bool) -> list[int]:
    """How far around folds is smoothed, round by round: at last half of the lattice, so that nothing is out of reach.

    held: some nodes are frozen. What does not fold away near them does not further out either.
    """
    slowly = [2 + number // 3 for number in range(_SLOW_ROUNDS)]
    if held:
        return slowly
    radii = slowly
    while radii[-1] < longest / 2:
        radii = [*radii, math.ceil(1.3 * radii[-1])]
    return radii


def _boxes(bad: Tensor, radius: int) -> list[tuple[slice, ...]]:
    """The boxes in which folds are smoothed: one for each region whose smoothing does not touch another's."""
    margin = 3 * radius + 2
    whole = _box(bad, margin)
    near = array_from_tensor(dilated(bad[whole], 2 * radius + 2).to(torch.uint8))
    regions = sitk.LabelShapeStatisticsImageFilter()
    regions.Execute(sitk.ConnectedComponent(sitk.GetImageFromArray(near)))
    boxes = []
    for label in regions.GetLabels():
        i, j, k, *size = regions.GetBoundingBox(label)
        box = tuple(
            slice(outer.start + start, outer.start + start + count)
            for outer, start, count in zip(whole, (k, j, i), size[::-1], strict=True)
        )
        boxes.append(_grow(box, radius, bad.shape))
    return boxes if sum(map(_volume, boxes)) < _volume(whole) else [whole]


def _smoothed(part: Tensor, radius: int) -> Tensor:
    """3 d h w: means over wide windows."""
    smooth = part[:, None]
    for _ in range(2):
        smooth = _blurred(smooth, radius // 2 + 1)
    return smooth[:, 0]


def _relaxed(part: Tensor, _radius: int) -> Tensor:
    """3 d h w: means over neighbors only."""
    return _blurred(part[:, None], 1)[:, 0]


def _weight_around(bad: Tensor, radius: int) -> Tensor:
    """1 d h w: 1 at folds and so many nodes around them, falling smoothly to 0 within twice the radius."""
    core = dilated(bad, radius).float()[None, None]
    return _blurred(_blurred(core, radius // 2 + 1), radius // 2 + 1)[0]


def _damped(field: Tensor, sound: Callable[[Tensor], bool]) -> tuple[Tensor, float]:
    """The largest share of a field (a power of 0.85) that is sound, by bisection, and the factor."""
    low, high = 0, _DAMPING_STEPS  # powers: too small, large enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if sound(field * 0.85**middle) else (middle, high)
    return field * 0.85**high, 0.85**high


def dilated(mask: Tensor, radius: int) -> Tensor:
    """Bool, d h w: within a cube of so many nodes around a node of the mask."""
    grown = mask.float()[None, None]
    for dim in range(3):
        kernel, around = [1, 1, 1], [0, 0, 0]
        reach = min(radius, mask.shape[dim])
        kernel[dim], around[dim] = 2 * reach + 1, reach
        grown = F.max_pool3d(grown, kernel, stride=1, padding=around)
    return grown[0, 0] > 0


def _blurred(volume: Tensor, radius: int) -> Tensor:
    """Box mean of n 1 d h w, edge values continued."""
    for dim in range(3):
        padding = [0] * 6
        padding[2 * (2 - dim)] = padding[2 * (2 - dim) + 1] = radius
        kernel = [1, 1, 1]
        kernel[dim] = 2 * radius + 1
        volume = F.avg_pool3d(F.pad(volume, padding, mode="replicate"), kernel, stride=1)
    return volume


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
