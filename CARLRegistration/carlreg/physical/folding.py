"""Where a displacement field folds: determinants at every corner of its cells."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .workers import in_threads

#: Nodes whose determinants are computed at a time: what processors keep near. So many planes of them at least.
BLOCK_NODES = 2**16
_BLOCK_PLANES = 8


def smallest_determinants(field_3dhw: Tensor, spacing, direction=None) -> Tensor:
    """d h w: for each node the smallest determinant of x + field(x) at and around it.

    Taken over all corners of the cells at the node: one-sided differences along each axis in all combinations, which
    are the extreme values that linear interpolation between nodes takes. (Central differences give their mean.)
    """
    _, depth, height, width = field_3dhw.shape
    rows = min(height, max(1, BLOCK_NODES // (_BLOCK_PLANES * width)))
    planes = max(_BLOCK_PLANES, BLOCK_NODES // (rows * width))
    result = torch.empty((depth, height, width), dtype=field_3dhw.dtype)

    def work(*block: slice) -> None:
        result[block] = _smallest_in(field_3dhw, block, spacing, direction)

    blocks = (
        (slice(k, min(k + planes, depth)), slice(j, min(j + rows, height)), slice(0, width))
        for k in range(0, depth, planes)
        for j in range(0, height, rows)
    )
    for _ in in_threads(work, blocks):
        pass
    return result


def _smallest_in(field: Tensor, block: tuple[slice, ...], spacing, direction) -> Tensor:
    """The same for one block of nodes."""
    sides = []
    for dim in (3, 2, 1):
        start, stop, length = block[dim - 1].start, block[dim - 1].stop, field.shape[dim]
        around = [slice(None), *block]
        around[dim] = slice(max(start - 1, 0), min(stop + 1, length))
        # The edges that leave each node backward (all but the last) and forward (all but the first); nodes at an end
        # have one, and that of an axis of a single node displaces nothing.
        part = field[tuple(around)]
        edges = part.diff(dim=dim) if length > 1 else torch.zeros_like(part)
        before = [edges.narrow(dim, 0, 1)] if start == 0 else []
        after = [edges.narrow(dim, edges.shape[dim] - 1, 1)] if stop == length else []
        sides.append(torch.cat([*before, edges, *after], dim))
    return _smallest_of(sides, spacing, direction)


def smallest_inside(field_3ndhw: Tensor, spacing, direction) -> Tensor:
    """n d h w: `smallest_determinants` of n parts of a field, without their outermost nodes."""
    inner, sides = slice(1, -1), []
    for dim in (4, 3, 2):
        part = [slice(None), slice(None), inner, inner, inner]
        part[dim] = slice(None)
        sides.append(field_3ndhw[tuple(part)].diff(dim=dim))
    return _smallest_of(sides, spacing, direction)


def _smallest_of(edges: list[Tensor], spacing, direction) -> Tensor:
    """The smallest determinant at each node of all triples of edges, one of each axis.

    edges: along i, j and k, what displacements differ by (overwritten); 3 first, one more than nodes along their axis.
    """
    axes = np.eye(3) if direction is None else np.asarray(direction, dtype=np.float64)
    turned = float(np.linalg.det(axes)) < 0
    sides = []
    for axis, steps in enumerate(edges):
        dim = steps.ndim - 1 - axis
        steps.mul_(1.0 / float(spacing[axis]))
        for component in range(3):
            steps[component].add_(float(axes[component, axis]))
        count = steps.shape[dim] - 1
        sides.append((steps.narrow(dim, 0, count), steps.narrow(dim, 1, count)))
    result = None
    for b in sides[1]:
        for c in sides[2]:
            x = (b[1] * c[2]).addcmul_(b[2], c[1], value=-1)
            y = (b[2] * c[0]).addcmul_(b[0], c[2], value=-1)
            z = (b[0] * c[1]).addcmul_(b[1], c[0], value=-1)
            for a in sides[0]:
                found = (a[0] * x).addcmul_(a[1], y).addcmul_(a[2], z)
                if turned:
                    found.neg_()
                result = found if result is None else torch.minimum(result, found, out=result)
    return result  # type: ignore[return-value]
