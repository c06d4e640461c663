"""Parts of a delivered map made exactly rigid: the nodes around each get its motion, those between them a blend.

Before the affine a rigid motion displaces by an affine function of the place, which linear interpolation between nodes
gives exactly: where all nodes of a cell have the motion, the map in the cell is that motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from ..maps import sample
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..spaces import VolumeGrid, apply_affine
from .repair import dilated, repair_folds, smallest_determinants, weight_around
from .transform import PhysicalTransform

# Away from a part what its motion adds to the map fades within so many nodes, and so many times its length, which
# keeps the slope of the fade (1.5 / reach) below one half.
_NODES, _TIMES = 4.0, 4.0
_LEAST_DETERMINANT = 0.05
# Where parts meet so that the map folds, so many nodes around the folds are given free, until it does not.
_FREED = (1, 2, 4, 8, 16)


@dataclass(frozen=True, eq=False)
class RigidPart:
    """A part and its motion. distance_11dhw: mm to its boundary on `grid`, positive inside; it covers the part.

    matrix_lps: 4x4, moving_from_fixed. voxel_mm: of the image in which it was drawn; its inside is rigid up to half of
    that beyond the boundary.
    """

    name: str
    distance_11dhw: Tensor
    grid: VolumeGrid
    matrix_lps: np.ndarray
    voxel_mm: float


@dataclass
class _Blend:
    """Of each node: by how much all parts together change it, and what each has to say there."""

    owner: np.ndarray  # D H W, number of the part that owns the node; -1: none
    nearest: np.ndarray  # D H W, mm to that part
    weight: np.ndarray  # D H W, sum of the parts' weights
    wanted: np.ndarray  # D H W 3, weighted sum of what they ask for
    left: np.ndarray  # D H W, share that no part reaches


def with_rigid_parts(transform: PhysicalTransform, parts: Sequence[RigidPart]) -> tuple[PhysicalTransform, dict]:
    """The transform with each part moved rigidly, the space between them smoothly, without folds.

    A node that two parts would have is the nearer one's. Away from all parts the map stays what it is.
    The report: `held`, D x H x W bool, nodes that have a part's motion; `repaired` nodes that folded; `freed` nodes
    that had to be taken from parts that meet; and `meeting`, the names of those parts.
    """
    grid = transform.grid
    known = transform.displacement_lps
    blend = _blended(known, grid, np.linalg.inv(transform.affine_lps), parts)
    fixed = blend.owner >= 0
    share = np.where(fixed, 1.0, 1 - blend.left)
    mean = blend.wanted / np.maximum(blend.weight, 1e-12)[..., None]
    field = (known + share[..., None] * (mean - known)).astype(np.float32)
    field[~fixed & (blend.weight == 0)] = known[~fixed & (blend.weight == 0)]
    how = {"min_determinant": _LEAST_DETERMINANT, "direction": grid.direction}
    found, report = repair_folds(field, grid.spacing, frozen=fixed, **how)
    meeting: set[str] = set()
    held = fixed
    for reach in _FREED:
        if not report["left"]:
            break
        there = array_from_tensor(dilated(_folded(found, grid), reach)) & fixed
        meeting |= {parts[number].name for number in np.unique(blend.owner[there])}
        held = held & ~there
        found, report = repair_folds(field, grid.spacing, frozen=held, **how)
    if report["left"]:
        held = np.zeros_like(fixed)
        found, report = repair_folds(field, grid.spacing, **how)
    about = {
        "held": held,
        "repaired": report["nodes"],
        "freed": int((fixed & ~held).sum()),
        "meeting": [part.name for part in parts if part.name in meeting],
    }
    return replace(transform, displacement_lps=found), about


def share_beside(grid: VolumeGrid, parts: Sequence[RigidPart], reach_nodes: float) -> np.ndarray:
    """D x H x W float32: 0 at all nodes of cells with a point of a part, 1 from so many nodes beyond them on."""
    left = np.ones(grid.shape_dhw, dtype=np.float32)
    reach = reach_nodes * float(grid.spacing.max())
    for part in parts:
        margin = _margin_mm(part, grid)
        box, _, distance = _around(part, grid, margin + reach)
        left[box] = np.minimum(left[box], _smooth((distance - margin) / reach))
    return left


def _margin_mm(part: RigidPart, grid: VolumeGrid) -> float:
    """Every cell with a point of the part, or of half a voxel around it, has only nodes that are as near to it."""
    return 0.5 * part.voxel_mm + float(np.linalg.norm(grid.spacing))


def changed_beside(
    transform: PhysicalTransform, change_lps: np.ndarray, held: np.ndarray
) -> tuple[PhysicalTransform, dict]:
    """A transform without folds with a change (D x H x W x 3 mm) added to its field, but at the nodes that are held.

    Folds are smoothed away beside those nodes; where that does not do, less of the change is made around them.
    The report: `repaired` nodes that folded, `less` of them where the change was made smaller.
    """
    grid, known = transform.grid, transform.displacement_lps
    field = (known + np.where(held[..., None], 0, change_lps)).astype(np.float32)
    how = {"min_determinant": _LEAST_DETERMINANT, "direction": grid.direction}
    field, report = repair_folds(field, grid.spacing, frozen=held, **how)
    folded, less = _folded(field, grid), 0
    for reach in _FREED:
        if not folded.any():
            break
        less = max(less, int(folded.sum()))
        weight = array_from_tensor(weight_around(folded[None], reach)[0])[..., None]
        field = (field + weight * (known - field)).astype(np.float32)
        folded = _folded(field, grid)
    if folded.any():
        return transform, {"repaired": report["nodes"], "less": report["nodes"]}
    return replace(transform, displacement_lps=field), {"repaired": report["nodes"], "less": less}


def _blended(known: np.ndarray, grid: VolumeGrid, before: np.ndarray, parts: Sequence[RigidPart]) -> _Blend:
    shape = grid.shape_dhw
    blend = _Blend(
        np.full(shape, -1, dtype=np.int32),
        np.full(shape, np.inf, dtype=np.float32),
        np.zeros(shape, dtype=np.float32),
        np.zeros((*shape, 3), dtype=np.float64),
        np.ones(shape, dtype=np.float32),
    )
    fade = _border_fade(grid)
    for number, part in enumerate(parts):
        margin = _margin_mm(part, grid)
        motion = before @ part.matrix_lps
        box, nodes, distance = _around(part, grid, margin)
        off = np.linalg.norm(apply_affine(motion, nodes) - nodes - known[box], axis=-1)
        inside = distance <= margin
        largest = float(off[inside].max()) if inside.any() else 0.0
        reach = max(_NODES * float(grid.spacing.max()), _TIMES * largest)
        box, nodes, distance = _around(part, grid, margin + reach)
        wanted = apply_affine(motion, nodes) - nodes
        away = np.maximum(distance - margin, 0)
        weight = _smooth(1 - away / reach) * fade[box]
        own = (distance <= margin) & (distance < blend.nearest[box]) & (fade[box] >= 1)
        blend.owner[box] = np.where(own, number, blend.owner[box])
        blend.nearest[box] = np.where(own, distance, blend.nearest[box])
        taken = blend.owner[box] >= 0
        pull = np.where(weight > 0, weight / np.maximum(away, 1e-3 * float(grid.spacing.min())), 0)
        # A node that is owned has one motion alone, its owner's.
        blend.wanted[box] = np.where(
            own[..., None],
            wanted,
            np.where(taken[..., None], blend.wanted[box], blend.wanted[box] + pull[..., None] * wanted),
        )
        blend.weight[box] = np.where(own, 1.0, np.where(taken, blend.weight[box], blend.weight[box] + pull))
        blend.left[box] *= 1 - weight
    return blend


def _around(part: RigidPart, grid: VolumeGrid, margin_mm: float) -> tuple[tuple[slice, ...], np.ndarray, np.ndarray]:
    """The nodes within a margin around a part's box: slices of d, h, w, places, and mm from the part (inside 0)."""
    index = grid.index(part.grid.corners_lps())
    reach = margin_mm / grid.spacing + 1
    low = np.clip(np.floor(index.min(0) - reach), 0, np.asarray(grid.size_ijk) - 1).astype(int)
    high = np.clip(np.ceil(index.max(0) + reach) + 1, low + 1, grid.size_ijk).astype(int)
    cut = grid.cropped(low, high)
    nodes = cut.centers()
    normalized = apply_affine(part.grid.normalized_from_lps, nodes)
    map_13dhw = tensor_from_array(np.ascontiguousarray(np.moveaxis(normalized, -1, 0)[None], dtype=np.float32))
    signed = array_from_tensor(sample(part.distance_11dhw, map_13dhw)[0, 0])
    # Beyond the box it is known on, the distance grows by how far the box is away.
    beyond = np.maximum(np.abs(normalized - 0.5) - 0.5, 0) * part.grid.extent_mm[::-1]
    distance = np.maximum(-signed, 0) + np.linalg.norm(beyond, axis=-1).astype(np.float32)
    return tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True)), nodes, distance


def _smooth(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)


def _border_fade(grid: VolumeGrid) -> np.ndarray:
    """D H W: 1 where a node may have any value, 0 at the outermost ones, which hand over to no displacement."""
    along = [np.clip(np.minimum(np.arange(n), np.arange(n)[::-1]) / 3.0, 0, 1) for n in grid.shape_dhw]
    return (along[0][:, None, None] * along[1][:, None] * along[2]).astype(np.float32)


def _folded(field: np.ndarray, grid: VolumeGrid) -> Tensor:
    tensor = tensor_from_array(field).permute(3, 0, 1, 2).contiguous()
    return smallest_determinants(tensor, grid.spacing, grid.direction) <= _LEAST_DETERMINANT
