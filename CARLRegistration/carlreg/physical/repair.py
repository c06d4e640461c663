"""Folds in a displacement field: where they are, and a local repair."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..maps.exchange import array_from_tensor, tensor_from_array
from .jacobian import determinant
from .workers import in_threads

_SMOOTHING_ROUNDS = 45
_DAMPING_AFTER = 30
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

    Args:
        residual: (D, H, W, 3) float32 mm; the map is x + residual(x).
        spacing: mm along i, j, k. direction: 3x3, columns = axes i, j, k in the vectors' frame (LPS); None = identity.
        min_determinant: every node must end above it, by one-sided differences along all axes too.
        frozen: (D, H, W) bool, nodes that must not change.
    Returns: the field (the same array when nothing was wrong) and a report: `nodes` that folded, `rounds`,
        `changed` nodes, `damping` (1.0, or the factor on the whole field where local repair was not enough),
        `left` (folded nodes that remain; 0 unless frozen nodes fold themselves), `min_determinant` before and after.
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
        reachable = F.max_pool3d(may_change.float()[None, None], 3, stride=1, padding=1)[0, 0] > 0

    def folded(part: Tensor, box=(slice(None),) * 3) -> Tensor:
        found = smallest_determinants(part, spacing, direction) <= min_determinant
        return found if reachable is None else found & reachable[box]

    smallest = smallest_determinants(field, spacing, direction)
    bad = smallest <= min_determinant
    report = {
        "nodes": int(bad.sum()),
        "rounds": 0,
        "changed": 0,
        "damping": 1.0,
        "left": 0,
        "min_determinant": [float(smallest.min()), float(smallest.min())],
    }
    if not report["nodes"]:
        return residual, report
    if reachable is not None:
        bad &= reachable

    for round_number in range(_SMOOTHING_ROUNDS):
        if not bad.any():
            break
        report["rounds"] = round_number + 1
        radius = 2 + round_number // 3
        factor = 1.0 if round_number < _DAMPING_AFTER else 0.8
        box = _box(bad, 3 * radius + 2)
        _smooth_around(field, bad, box, radius, factor, may_change)
        grown = _grow(box, 1, bad.shape)
        checked = folded(field[(slice(None), *grown)], grown)
        inner = tuple(slice(b.start - g.start, b.stop - g.start) for b, g in zip(box, grown, strict=True))
        bad[box] = checked[inner]
    while bad.any() and report["damping"] > 1e-3:
        report["damping"] *= 0.85
        field = field * 0.85 if may_change is None else torch.where(may_change, field * 0.85, field)
        bad = folded(field)
    smallest = smallest_determinants(field, spacing, direction)
    report["left"] = int((smallest <= min_determinant).sum())
    report["changed"] = int((field != original).any(dim=0).sum())
    report["min_determinant"][1] = float(smallest.min())
    return array_from_tensor(field.permute(1, 2, 3, 0)), report


def _smooth_around(field: Tensor, bad: Tensor, box, radius: int, factor: float, may_change: Tensor | None) -> None:
    part = field[(slice(None), *box)]
    core = bad[box].float()[None, None]
    core = F.max_pool3d(core, 2 * radius + 1, stride=1, padding=radius)
    weight = _blurred(_blurred(core, radius // 2 + 1), radius // 2 + 1)[0]
    if may_change is not None:
        weight = weight * may_change[box]
    smooth = part[:, None]
    for _ in range(2):
        smooth = _blurred(smooth, radius // 2 + 1)
    smooth = smooth[:, 0] * factor
    part.copy_(torch.where(weight > 0, torch.lerp(part, smooth, weight.expand_as(part)), part))


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
