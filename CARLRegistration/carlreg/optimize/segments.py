"""Segments that both images show: their boundaries join the similarity of one level.

Each segment is its signed distance to the boundary, cut off a few voxels away, in either image. Where the boundaries
lie one voxel of the level apart, it costs as much as a band around them in which nothing fits; farther than the cut-off
apart it costs no more, so that a segment that is drawn wrongly somewhere does not tear the map.

Letters: as of `field`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..maps import sample
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..spaces import VolumeGrid, apply_affine
from .levels import FieldLevel

# The cut-off, as a share of the window of the similarity: 3.5 voxels.
CUT_OFF = 0.5
_VOXELS_PER_WINDOW = 7.0


@dataclass(frozen=True, eq=False)
class Side:
    """A segment in one image: distance_11dhw (mm, positive inside) on a grid around it. volume: the image's grid."""

    distance_11dhw: Tensor
    grid: VolumeGrid
    volume: VolumeGrid

    @classmethod
    def of(cls, mask: np.ndarray, grid: VolumeGrid, margin_mm: float) -> Side:
        """The segment where a (D, H, W) mask on a grid is true, with that much around it."""
        places = np.nonzero(mask)
        low = np.array([axis.min() for axis in places])[::-1]
        high = np.array([axis.max() + 1 for axis in places])[::-1]
        reach = np.ceil(margin_mm / grid.spacing).astype(int) + 1
        low, high = low - reach, high + reach
        box = grid.cropped(low, high)
        # What lies beyond the volume is outside of the segment, too.
        inner = [np.clip([a, b], 0, n) for a, b, n in zip(low, high, grid.size_ijk, strict=True)]
        cut = np.zeros(box.shape_dhw, dtype=np.uint8)
        into = tuple(slice(a - o, b - o) for (a, b), o in zip(inner[::-1], low[::-1], strict=True))
        cut[into] = mask[tuple(slice(a, b) for a, b in inner[::-1])]
        distance = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(box.image(cut), True, False, True))
        # It is 0 in the outermost voxels of the segment, whose boundary is half a voxel farther out. It must
        # not take in others, next to them along the shortest edge of long voxels.
        distance = distance.astype(np.float32) + 0.5 * float(box.spacing.mean())
        distance[cut == 0] = np.minimum(distance[cut == 0], -0.5 * float(box.spacing.min()))
        return cls(tensor_from_array(distance)[None, None], box, grid)

    @property
    def inside(self) -> np.ndarray:
        """D x H x W uint8: 1 in the voxels that belong to the segment."""
        return (array_from_tensor(self.distance_11dhw)[0, 0] > 0).astype(np.uint8)

    def at(self, map_13dhw: Tensor, grid: VolumeGrid, cut_off_mm: float) -> Tensor:
        """1 1 d h w from -1 (outside) to 1 at normalized coordinates of a grid."""
        own = self.grid.normalized_from_lps @ grid.lps_from_normalized
        linear, shift = (_tensor(part, map_13dhw.device) for part in (own[:3, :3], own[:3, 3]))
        where = torch.einsum("uc,bcdhw->budhw", linear, map_13dhw) + shift.view(1, 3, 1, 1, 1)
        return sample((self.distance_11dhw.to(map_13dhw.device) / cut_off_mm).clamp(-1, 1), where)


@dataclass(frozen=True, eq=False)
class SegmentPair:
    """A segment in both images. weight: of its boundary beside the similarity."""

    name: str
    weight: float
    fixed: Side
    moving: Side

    def exchanged(self) -> SegmentPair:
        return SegmentPair(self.name, self.weight, self.moving, self.fixed)


class PartialMaps(Protocol):
    """A level's loss as far as segments need it; see `field.LevelLoss`."""

    fixed_stays: bool

    def maps_in(self, coefficients_13dhw: Tensor, part: tuple[slice, slice, slice]) -> list[Tensor]:
        """1 3 d h w normalized coordinates of the fixed and of the moving image in a part of the lattice."""
        ...


def segment_term(
    pair: SegmentPair,
    loss: PartialMaps,
    grids: tuple[VolumeGrid, VolumeGrid],
    lattice: VolumeGrid,
    lattice_from_fixed: np.ndarray,
    level: FieldLevel,
) -> Callable[[Tensor], Tensor] | None:
    """The cost of a level's coefficients for one segment; None where it does not lie in the lattice.

    grids: those of the fixed and the moving image whose normalized coordinates the loss's maps give.
    lattice_from_fixed: 4x4, LPS mm: the lattice's space from the fixed image's.
    """
    cut_off = CUT_OFF * level.window_mm
    part = _part_around(pair.fixed.grid, lattice, lattice_from_fixed)
    if part is None:
        return None
    voxels = float(np.prod(lattice.size_ijk))
    factor = pair.weight * (CUT_OFF * _VOXELS_PER_WINDOW) ** 2 / voxels
    still: list[Tensor] = []

    def cost(coefficients_13dhw: Tensor) -> Tensor:
        fixed_map, moving_map = loss.maps_in(coefficients_13dhw, part)
        if not loss.fixed_stays or not still:
            still[:] = [pair.fixed.at(fixed_map, grids[0], cut_off)]
        there = pair.moving.at(moving_map, grids[1], cut_off)
        return factor * (there - still[0]).square().sum()

    return cost


def _part_around(
    box: VolumeGrid, lattice: VolumeGrid, lattice_from_fixed: np.ndarray
) -> tuple[slice, slice, slice] | None:
    """The lattice's d, h, w around a box of the fixed space; None where it lies outside."""
    index = lattice.index(apply_affine(lattice_from_fixed, box.corners_lps()))
    low = np.clip(np.floor(index.min(0)), 0, lattice.size_ijk).astype(int)
    high = np.clip(np.ceil(index.max(0)) + 1, 0, lattice.size_ijk).astype(int)
    if np.any(high - low < 1):
        return None
    d, h, w = (slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1], strict=True))
    return d, h, w


def _tensor(matrix: np.ndarray, device) -> Tensor:
    return tensor_from_array(np.ascontiguousarray(matrix, dtype=np.float32)).to(device)
