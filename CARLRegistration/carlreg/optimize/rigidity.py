"""Segments that are to move as rigid bodies, each by itself: a term beside the similarity of one level.

What a segment costs is how far its points lie from the rigid motion that fits them best, which is found anew at every
step. So no motion costs anything, of any size, and every change of shape does: a segment that is off by a voxel
everywhere costs as much as so many times its own part of an image in which nothing fits.

Letters: n points, b bodies, as of `field` otherwise.
Source: the local rigidity of Staring, Klein and Pluim, Medical Physics 34(11), 2007, in the closed form of Umeyama.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..maps.exchange import tensor_from_array
from ..spaces import VolumeGrid
from .guide import PointsOfSpline
from .levels import FieldLevel

_VOXELS_PER_WINDOW = 7.0


@dataclass(frozen=True, eq=False)
class RigidGuide:
    """points_lps: n x 3 in the spline's space. body_n: to which of b bodies each belongs.

    volumes_mm3, weights: b. linear: 3 x 3, of the affine after the spline's displacement.
    """

    points_lps: np.ndarray
    body_n: np.ndarray
    volumes_mm3: np.ndarray
    weights: np.ndarray
    linear: np.ndarray

    def term(
        self, box: VolumeGrid, level: FieldLevel, device, beside_lps: np.ndarray | None = None
    ) -> Callable[[Tensor], Tensor]:
        """The cost of a level's coefficients (1 3 d h w). beside_lps: n x 3 mm that are displaced beside the spline."""
        at = PointsOfSpline(self.points_lps, box, level.spacing_mm, device)
        lps_from_dhw = _float32(box.direction[:, ::-1], device)
        linear = _float32(self.linear, device)
        body = torch.tensor(self.body_n.tolist(), device=device)
        bodies = len(self.weights)
        counts = torch.bincount(body, minlength=bodies).clamp_min(1).float()
        voxel_mm = level.window_mm / _VOXELS_PER_WINDOW
        share = self.weights * self.volumes_mm3 / float(np.prod(box.extent_mm)) / voxel_mm**2
        factor = _float32(share, device) / counts

        def centered(rows: Tensor) -> Tensor:
            means = rows.new_zeros(bodies, 3).index_add(0, body, rows) / counts[:, None]
            return rows - means[body]

        # About the points' common center, so that float32 is enough anywhere in space.
        points = _float32(self.points_lps - self.points_lps.mean(0), device)
        still = centered(points)
        beside = 0.0 if beside_lps is None else _float32(beside_lps, device)

        def cost(coefficients_13dhw: Tensor) -> Tensor:
            displaced = at(coefficients_13dhw) @ lps_from_dhw.T + beside
            moved = centered((points + displaced) @ linear.T)
            with torch.no_grad():  # at the best rotation the cost does not change with it
                turn = best_turns(still, moved, body, bodies)
            left = moved - torch.einsum("nac,nc->na", turn[body], still)
            return (factor[body] * left.square().sum(1)).sum()

        return cost


def best_turns(still: Tensor, moved: Tensor, body: Tensor, bodies: int) -> Tensor:
    """b 3 3: the proper rotations that take centered points (n 3) of each body nearest to moved ones (Umeyama)."""
    crossed = (moved[:, :, None] * still[:, None]).double()
    sums = crossed.new_zeros(bodies, 3, 3).index_add(0, body, crossed)
    u, _, vt = torch.linalg.svd(sums)
    u[:, :, 2] *= torch.linalg.det(u @ vt).sign()[:, None]
    return (u @ vt).to(still.dtype)


def _float32(array: np.ndarray, device) -> Tensor:
    return tensor_from_array(np.ascontiguousarray(array, dtype=np.float32)).to(device)
