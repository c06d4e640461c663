"""Points whose place in the moving image is known: a term beside the similarity of one level.

A point that is to lie elsewhere pulls at the spline's coefficients. What it costs is put in physical terms: missed by
its accuracy (a standard deviation in mm), it costs as much as a window of the similarity around it in which nothing
fits at all. So a point weighs the same in images of any size, next to points however many, and more on coarse levels.

Letters: n points, as of `field` otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..maps.exchange import array_from_tensor, tensor_from_array
from ..spaces import VolumeGrid
from . import bspline
from .levels import FieldLevel

# Beyond so many standard deviations a point pulls no stronger: one that is placed wrongly must not tear the map.
_ROBUST = 3.0
# An accuracy finer than this share of the control spacing is left to `physical.through_points`.
_FINEST = 0.1


@dataclass(frozen=True, eq=False)
class PointGuide:
    """Where points are to go, in the spline's own space.

    points_lps: n x 3. displacement_lps: n x 3 mm, the spline's there. target_from_space: 3 x 3, turns what is missed
    into mm of the space where the accuracy is meant. accuracy_mm: standard deviation of a point's place; 0 = exact.
    """

    points_lps: np.ndarray
    displacement_lps: np.ndarray
    target_from_space: np.ndarray
    accuracy_mm: float

    def beyond(self, known_lps: np.ndarray) -> PointGuide:
        """What is left where a displacement is known: n x 3 mm at the points."""
        return replace(self, displacement_lps=self.displacement_lps - known_lps)

    def term(self, box: VolumeGrid, level: FieldLevel, device) -> Callable[[Tensor], Tensor]:
        """The cost of a level's coefficients (1 3 d h w)."""
        at = PointsOfSpline(self.points_lps, box, level.spacing_mm, device)
        wanted = _float32(self.displacement_lps, device)
        to_mm = _float32(self.target_from_space, device)
        lps_from_dhw = _float32(box.direction[:, ::-1], device)
        sigma = max(self.accuracy_mm, _FINEST * level.spacing_mm)
        share = min(1.0, level.window_mm**3 / float(np.prod(box.extent_mm)))

        def cost(coefficients_13dhw: Tensor) -> Tensor:
            missed = (at(coefficients_13dhw) @ lps_from_dhw.T - wanted) @ to_mm.T
            squared = missed.square().sum(1) / (_ROBUST * sigma) ** 2
            return share * (2 * _ROBUST**2 * ((1 + squared).sqrt() - 1)).sum()

        return cost


class PointsOfSpline:
    """A spline's values (n x 3 mm along d, h, w) at points, as a function of its coefficients."""

    def __init__(self, points_lps: np.ndarray, box: VolumeGrid, spacing_mm: float, device=None) -> None:
        corner = box.origin_lps - box.direction @ (box.spacing / 2)
        from_corner = (np.asarray(points_lps, dtype=np.float64) - corner) @ box.direction
        counts = [bspline.control_count(float(extent), spacing_mm) for extent in box.extent_mm[::-1]]
        index, weight = torch.zeros(len(from_corner), 1, dtype=torch.long), torch.ones(len(from_corner), 1)
        for axis in (2, 1, 0):
            along = tensor_from_array(np.ascontiguousarray(from_corner[:, axis]))
            first, weights = bspline.weights_at(along, float(box.extent_mm[axis]), spacing_mm)
            there = first[:, None] + torch.arange(4)
            index = (index[:, :, None] * counts[2 - axis] + there[:, None]).flatten(1)
            weight = (weight[:, :, None] * weights.float()[:, None]).flatten(1)
        self.index_n64, self.weight_n64 = index.to(device), weight.to(device)

    def __call__(self, coefficients_13dhw: Tensor) -> Tensor:
        values = coefficients_13dhw[0].flatten(1)[:, self.index_n64]
        return (values * self.weight_n64).sum(-1).T


def spline_at(points_lps: np.ndarray, coefficients_13dhw: Tensor, box: VolumeGrid, spacing_mm: float) -> np.ndarray:
    """n x 3 mm (L, P, S) of a spline at points."""
    values = PointsOfSpline(points_lps, box, spacing_mm, coefficients_13dhw.device)(coefficients_13dhw)
    return array_from_tensor(values).astype(np.float64) @ box.direction[:, ::-1].T


def _float32(array: np.ndarray, device) -> Tensor:
    return tensor_from_array(np.ascontiguousarray(array, dtype=np.float32)).to(device)
