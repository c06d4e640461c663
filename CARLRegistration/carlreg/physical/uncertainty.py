"""How far a map may be off, in mm: values on a coarse lattice over the fixed volume, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from ..errors import InputError
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..spaces import VolumeGrid
from .interpolate import LatticeSampler, inside_index, trilinear_at
from .transform import PhysicalTransform

#: What may be asked for, and what it is.
QUANTITIES = {
    "expected": "expected error of the registration, mm; NaN where unknown",
    "bound": "90 % bound of the registration's error, mm; NaN where unknown",
}


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """How far a registration's map may be off at points of the fixed volume.

    grid: the coarse lattice. expected_mm, bound_mm: (D, H, W) on it, the error to be expected and the bound below
        which the error is in 90 % of places; finite everywhere.
    known: (D, H, W), above 0 where both images have data, below where there is padding. Elsewhere the values mean
        nothing, and the methods say NaN.
    transform, moving_grid: what it is the uncertainty of; places that map beyond this grid are unknown, too.
    meaning: in words. evidence: what the values were made from, name -> (D, H, W), lengths in units of `voxel_mm`, the
        spacing of the network's grid; see `uncertainty.evidence`.
    """

    grid: VolumeGrid
    expected_mm: np.ndarray
    bound_mm: np.ndarray
    known: np.ndarray
    transform: PhysicalTransform
    moving_grid: VolumeGrid
    meaning: str
    evidence: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    voxel_mm: float = 1.0

    def at(self, points_lps, quantity: str = "bound") -> np.ndarray:
        """N mm at N x 3 fixed points (LPS mm): the 'bound' or the 'expected' error; NaN where unknown."""
        known = self.of(self.known, points_lps) > 0  # `of` gives 0 beyond the grid
        known &= self.moving_grid.contains(self.transform.apply(points_lps))
        return np.where(known, self.of(self._values(quantity), points_lps), np.nan)

    def of(self, values_dhw: np.ndarray, points_lps) -> np.ndarray:
        """N values at N x 3 points of anything on the lattice, evidence for example; 0 beyond it."""
        points = np.asarray(points_lps, dtype=np.float64).reshape(-1, 3)
        index = tensor_from_array(self.grid.index(points))
        rows = tensor_from_array(np.repeat(values_dhw.reshape(-1, 1), 3, axis=1))
        return array_from_tensor(trilinear_at(rows, self.grid.shape_dhw, index)[:, 0])

    def on_grid(self, grid: VolumeGrid, quantity: str = "bound") -> np.ndarray:
        """(D, H, W) float32 mm at the voxels of a grid within the fixed volume; NaN where unknown. In slabs."""
        both = np.stack([self._values(quantity), self.known]).astype(np.float32)
        sampler = LatticeSampler(tensor_from_array(both), self.grid, grid)
        out = np.empty(grid.shape_dhw, dtype=np.float32)

        def work(start: int, stop: int, displacement: torch.Tensor) -> None:
            values, known = sampler.slab(start, stop)
            index = self.transform.positions(grid, start, stop, displacement, self.moving_grid.ijk_from_lps)
            known = (known > 0) & inside_index(index, self.moving_grid.size_ijk)
            out[start:stop] = array_from_tensor(torch.where(known, values, torch.nan))

        for _ in self.transform.over_slabs(grid, work):
            pass
        return out

    def _values(self, quantity: str) -> np.ndarray:
        if quantity not in QUANTITIES:
            raise InputError(f"Uncertainty: expected one of {', '.join(QUANTITIES)}; got {quantity!r}.")
        return self.bound_mm if quantity == "bound" else self.expected_mm


@dataclass(frozen=True, eq=False)
class StatedBound:
    """The 90 % bound of a result as its file states it: all that is left of an `Uncertainty` once it is written.

    grid: the fixed volume's. bound_mm: (D, H, W) float32 at its voxels, NaN where unknown. meaning: in words.
    """

    grid: VolumeGrid
    bound_mm: np.ndarray
    meaning: str

    def at(self, points_lps, quantity: str = "bound") -> np.ndarray:
        """N mm at N x 3 fixed points (LPS mm): the nearest voxel's 'bound'; NaN where unknown and beyond the grid.

        Raises InputError for the 'expected' error, which no file has.
        """
        if quantity != "bound":
            raise InputError(f"Uncertainty: expected bound, all that a written result states; got {quantity!r}.")
        kji = np.rint(self.grid.index(np.asarray(points_lps, dtype=np.float64).reshape(-1, 3))).astype(int)[:, ::-1]
        inside = ((kji >= 0) & (kji < self.grid.shape_dhw)).all(axis=1)
        found = np.full(len(kji), np.nan)
        found[inside] = self.bound_mm[tuple(kji[inside].T)]
        return found

    def on_grid(self, grid: VolumeGrid, quantity: str = "bound") -> np.ndarray:
        """(D, H, W) float32 mm at the voxels of a grid, as `at`."""
        if quantity == "bound" and grid.same_as(self.grid, tolerance=0.01):
            return self.bound_mm.copy()
        return self.at(grid.centers().reshape(-1, 3), quantity).reshape(grid.shape_dhw).astype(np.float32)
