"""The uncertainty of a map that changed in a few boxes: the one before, times what the change did to its signs there.

What is about the pair, its attention and the network's own map, is as before and not asked for again; so is the
distance to the edges, which a mending hardly changes. What is about the map, local attention after warping, similarity
and strain, is gathered before and after, in the boxes alone: seconds less, and nothing changes beyond them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..maps.exchange import array_from_tensor, tensor_from_array
from ..models.operators import RegistrationNetwork
from ..models.predict import NetworkImages
from ..physical import PhysicalTransform, StatedBound, Uncertainty
from ..physical.interpolate import LatticeSampler, inside_index, trilinear_at
from ..spaces import VolumeGrid
from .calibration import OFFSETS, Calibration
from .evidence import centers_lps, local_evidence, strain

# Nodes in a box: network voxels between them, and how many there are at least along each axis.
_NODE_VOXELS, _FEWEST_NODES = 2.0, 7
# Up to so much more counts as no more: of one minus the squared local correlation, and of what fine attention would
# still move, in network voxels.
_NO_MORE = {"dissimilarity": 0.02, "local_rest": 0.1}


@dataclass(frozen=True, eq=False)
class ChangedBox:
    """What a change did in a box: nodes over it, and by quantity the (D, H, W) factors there, 1 at the outer ones."""

    grid: VolumeGrid
    factors: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class MendedUncertainty:
    """How far a mended map may be off: in its boxes the former uncertainty times their factors, elsewhere as it was.

    transform, moving_grid: of the mended map; what maps beyond this grid is unknown. floor_mm: the least that each
    quantity says. meaning: in words.
    """

    former: Uncertainty | StatedBound | MendedUncertainty
    boxes: Sequence[ChangedBox]
    transform: PhysicalTransform
    moving_grid: VolumeGrid
    floor_mm: Mapping[str, float]
    meaning: str

    def at(self, points_lps, quantity: str = "bound") -> np.ndarray:
        """N mm at N x 3 fixed points (LPS mm): the 'bound' or the 'expected' error; NaN where unknown."""
        points = np.asarray(points_lps, dtype=np.float64).reshape(-1, 3)
        found = self.former.at(points, quantity)
        for box in self.boxes:
            here = np.flatnonzero(box.grid.contains(points))
            rows = tensor_from_array(np.repeat(box.factors[quantity].reshape(-1, 1), 3, axis=1))
            index = tensor_from_array(box.grid.index(points[here]))
            factor = trilinear_at(rows, box.grid.shape_dhw, index)[:, 0].double()
            changed = array_from_tensor(self._changed(torch.tensor(found[here]), factor, quantity))
            lost = ~self.moving_grid.contains(self.transform.apply(points[here]))
            found[here] = np.where(lost, np.nan, changed)
        return found

    def on_grid(self, grid: VolumeGrid, quantity: str = "bound") -> np.ndarray:
        """(D, H, W) float32 mm at the voxels of a grid within the fixed volume; NaN where unknown. In slabs."""
        out = self.former.on_grid(grid, quantity)
        for box in self.boxes:
            corners = grid.index(box.grid.corners_lps())
            low = np.clip(np.ceil(corners.min(0) - 1e-6).astype(int), 0, grid.size_ijk)
            high = np.clip(np.floor(corners.max(0) + 1e-6).astype(int) + 1, low, grid.size_ijk)
            if np.all(high > low):
                where = tuple(slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1], strict=True))
                out[where] = self._in_box(box, grid.cropped(low, high), out[where], quantity)
        return out

    def _in_box(self, box: ChangedBox, part: VolumeGrid, before: np.ndarray, quantity: str) -> np.ndarray:
        """(D, H, W) on the part of a grid around a box, from what was stated there before."""
        factors = tensor_from_array(np.ascontiguousarray(box.factors[quantity], dtype=np.float32))
        sampler = LatticeSampler(factors[None], box.grid, part, continued=True)
        values, out = tensor_from_array(before), np.empty_like(before)

        def work(start: int, stop: int, displacement: torch.Tensor) -> None:
            index = self.transform.positions(part, start, stop, displacement, self.moving_grid.ijk_from_lps)
            seen = inside_index(index, self.moving_grid.size_ijk)
            changed = self._changed(values[start:stop], sampler.slab(start, stop)[0], quantity)
            out[start:stop] = array_from_tensor(torch.where(seen, changed, torch.nan))

        for _ in self.transform.over_slabs(part, work):
            pass
        return out

    def _changed(self, values: torch.Tensor, factor: torch.Tensor, quantity: str) -> torch.Tensor:
        """Former values times factors, floors as of `Calibration` left out; bit for bit as they were where it is 1."""
        floor = self.floor_mm[quantity]
        above = (values.square() - floor**2).clamp_min(0).sqrt()  # NaN stays NaN
        floors = torch.full_like(above, floor)
        return torch.where((factor - 1).abs() < 1e-6, values, torch.hypot(floors, factor * above))


def changed_box(
    box: VolumeGrid,
    images: NetworkImages,
    network: RegistrationNetwork,
    before: PhysicalTransform,
    after: PhysicalTransform,
    calibration: Calibration,
) -> ChangedBox:
    """What a change of the map in a box did to its uncertainty.

    It grows only where the images contradict the change: where they are less alike than before, or fine attention wants
    to move more. Where they do not, what bends the map more is the point that is known.

    Args:
        box: beyond which both maps are the same. images: as the network sees what lies in it. calibration: of what was
        stated before.
    """
    voxel = float(images.fixed_grid.spacing.mean())
    nodes = box.with_spacing(min(_NODE_VOXELS * voxel, float(box.extent_mm.min()) / _FEWEST_NODES))
    points = centers_lps(nodes)
    then, now = (
        local_evidence(network, images, one, points) | {"strain": strain(one.apply(points), nodes).reshape(-1)}
        for one in (before, after)
    )
    agreed = np.all([now[name] <= then[name] + more for name, more in _NO_MORE.items()], axis=0)
    inner = np.zeros(nodes.shape_dhw, dtype=bool)
    inner[1:-1, 1:-1, 1:-1] = True

    def factor(numbers: Mapping[str, float]) -> np.ndarray:
        total = np.zeros(len(points))
        for name in now:
            total += numbers.get(name, 0.0) * np.log((now[name] + OFFSETS[name]) / (then[name] + OFFSETS[name]))
        found = np.where(agreed, np.minimum(np.exp(total), 1.0), np.exp(total)).reshape(nodes.shape_dhw)
        return np.where(inner, found, 1.0)

    return ChangedBox(nodes, {"expected": factor(calibration.expected), "bound": factor(calibration.bound)})
