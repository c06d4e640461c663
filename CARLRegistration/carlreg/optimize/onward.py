"""Going on from a known map: what is optimized is a change, a spline that is added to the known displacement.

Levels of any spacing may change a fine map: each sees all of it, the spline's part and the detail that its controls do
not hold, and smoothness is asked of both together. Held at its edges, the change is zero at the box's faces with its
first two derivatives, so that nothing outside of the box moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..maps.exchange import tensor_from_array
from ..maps.separable import along_axes
from ..spaces import VolumeGrid
from .bspline import control_count
from .field import OfCoefficients, axis_matrices, coefficients_from
from .guide import PointGuide, spline_at
from .levels import FieldLevel, LevelImages
from .rigidity import RigidGuide
from .segments import PartialMaps, SegmentPair, segment_term

PointMap = Callable[[np.ndarray], np.ndarray]


class SimilarityLoss(OfCoefficients, PartialMaps, Protocol):
    """A loss that can begin with a displacement and tell where a part of it maps; see `LevelLoss`."""

    def displace(self, displacement_13dhw: Tensor) -> None: ...


class Known:
    """A displacement to go on from. displacement_lps: n x 3 LPS points of the box's space -> n x 3 mm.

    box: what the spline covers. held: whether the change is zero from the box's faces on. share_11dhw: of a lattice,
    0..1, by how much of the change is made there; None = all of it.
    """

    def __init__(
        self,
        displacement_lps: PointMap,
        box: VolumeGrid,
        *,
        held: bool = False,
        share_11dhw: Callable[[VolumeGrid], Tensor] | None = None,
    ) -> None:
        self.displacement_lps, self.box, self.held, self.share_11dhw = displacement_lps, box, held, share_11dhw
        self._coefficients: dict[float, Tensor] = {}

    def coefficients(self, spacing_mm: float) -> Tensor:
        """1 x 3 x controls nearest to the known displacement."""
        if spacing_mm not in self._coefficients:
            along = self.box.direction[:, ::-1]
            self._coefficients[spacing_mm] = coefficients_from(
                lambda points: self.displacement_lps(points) @ along, self.box, spacing_mm
            )
        return self._coefficients[spacing_mm]

    def whole_for(self, level: FieldLevel) -> Callable[[Tensor], Tensor]:
        """Coefficients of the change to those of the whole; see `field.descend`."""
        known = self.coefficients(level.spacing_mm)
        free = self._free(level.spacing_mm) if self.held else None

        def whole(change_13dhw: Tensor) -> Tensor:
            change = change_13dhw if free is None else change_13dhw * free.to(change_13dhw.device)
            return known.to(change_13dhw.device) + change

        return whole

    def _free(self, spacing_mm: float) -> Tensor:
        """1 for controls that do not reach the box's faces, else 0."""
        inner = []
        for extent in self.box.extent_mm[::-1]:
            along = torch.zeros(control_count(float(extent), spacing_mm))
            along[3:-4] = 1
            inner.append(along)
        return inner[0][:, None, None] * inner[1][:, None] * inner[2]

    def detail(self, lattice: VolumeGrid, level: FieldLevel) -> Tensor:
        """1 3 d h w mm along the box's d, h, w at a lattice with its axes: what the coefficients leave."""
        points = lattice.centers().reshape(-1, 3)
        known = (self.displacement_lps(points) @ self.box.direction[:, ::-1]).astype(np.float32)
        known_13dhw = tensor_from_array(np.ascontiguousarray(known.T)).reshape(1, 3, *lattice.shape_dhw)
        matrices = axis_matrices(lattice, self.box, level.spacing_mm)
        spline = along_axes(self.coefficients(level.spacing_mm), *matrices)
        return known_13dhw - (spline if self.share_11dhw is None else self.share_11dhw(lattice) * spline)

    def left_of(self, guide: PointGuide, level: FieldLevel) -> PointGuide:
        """What a guide asks of the level's spline beside the detail."""
        return guide.beyond(self.beside(guide.points_lps, level))

    def beside(self, points_lps: np.ndarray, level: FieldLevel) -> np.ndarray:
        """n x 3 mm: the detail at n x 3 points."""
        spline = spline_at(points_lps, self.coefficients(level.spacing_mm), self.box, level.spacing_mm)
        return self.displacement_lps(points_lps) - spline


def informed(
    loss_for: Callable[[LevelImages, FieldLevel], SimilarityLoss],
    lattice_for: Callable[[LevelImages, FieldLevel], VolumeGrid],
    box: VolumeGrid,
    *,
    guide: PointGuide | None = None,
    segments: Sequence[SegmentPair] = (),
    bodies: RigidGuide | None = None,
    lattice_from_fixed: np.ndarray | None = None,
    known: Known | None = None,
) -> Callable[[LevelImages, FieldLevel], OfCoefficients]:
    """`loss_for` of `field.descend` with what is known: points, segments, bodies, a displacement to go on from.

    lattice_for: the grid on which a level's loss looks at its map. lattice_from_fixed: 4x4, LPS mm; None: one space.
    """
    from_fixed = np.eye(4) if lattice_from_fixed is None else lattice_from_fixed

    def loss_of(images: LevelImages, level: FieldLevel) -> OfCoefficients:
        loss = loss_for(images, level)
        if known is not None:
            loss.displace(known.detail(lattice_for(images, level), level))
        if guide is not None:
            left = guide if known is None else known.left_of(guide, level)
            loss.beside.append(left.term(box, level, images.fixed_11dhw.device))
        if bodies is not None:
            beside = None if known is None else known.beside(bodies.points_lps, level)
            loss.beside.append(bodies.term(box, level, images.fixed_11dhw.device, beside))
        grids = images.fixed_grid, images.moving_grid
        for pair in segments:
            term = segment_term(pair, loss, grids, lattice_for(images, level), from_fixed, level)
            if term is not None:
                loss.beside.append(term)
        return loss

    return loss_of
