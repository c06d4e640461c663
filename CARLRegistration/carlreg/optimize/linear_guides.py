"""What guides a linear map beside the images: points of known place, and boundaries of segments that both images show.

Each tells what is missed, and how that changes where the map moves; how much it costs is said in one place. Missed by
its accuracy, all of one kind together cost as much as a tenth of the similarity; far ones pull no stronger.

Letters: n points, c components of what is missed, p increments. Matrices are 4x4, moving_from_fixed, LPS mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from ..maps import sample
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..spaces import VolumeGrid, apply_affine
from .increments import of_increments
from .segments import SegmentPair, Side

# Missed by their accuracy, all cost this part of what images without likeness cost. Beyond so many standard deviations
# they pull no stronger; how exactly points can be known at best, voxels.
_SHARE, _ROBUST, _FINEST_POINT = 0.1, 3.0, 0.1
# Points near to a boundary that are looked at, of each segment and direction; how near, as a multiple of the longest
# voxel edge. So near to where the volume ends a boundary may be cut off, voxels.
_POINTS, _BAND, _CUT_OFF = 1000, 1.5, 2.0


@dataclass(frozen=True)
class Missed:
    """missed_nc: mm. slope_nc3: its change with the place (mm) of what lies at about_n3 in the moving image.

    weight_n: of each. sigma_mm: what counts as missed.
    """

    missed_nc: np.ndarray
    slope_nc3: np.ndarray
    about_n3: np.ndarray
    weight_n: np.ndarray
    sigma_mm: float

    def cost(self, center_lps: np.ndarray, dof: str, radius_mm: float) -> tuple[float, np.ndarray, np.ndarray]:
        """Cost, and its normal equations (p x p, p) in the increments about a center."""
        root = np.sqrt(1 + (self.missed_nc**2).sum(1) / (_ROBUST * self.sigma_mm) ** 2)
        cost = float(_SHARE * 2 * _ROBUST**2 * (self.weight_n * (root - 1)).sum())
        about = torch.tensor((self.about_n3 - center_lps).tolist(), dtype=torch.float64)
        slopes = torch.tensor(self.slope_nc3.tolist(), dtype=torch.float64)
        slope_ncp = array_from_tensor(of_increments(slopes, about[:, None].expand_as(slopes), dof, radius_mm))
        weight = _SHARE * 2 * self.weight_n / (self.sigma_mm**2 * root)
        hessian = np.einsum("n,ncp,ncq->pq", weight, slope_ncp, slope_ncp)
        return cost, hessian, np.einsum("n,nc,ncp->p", weight, self.missed_nc, slope_ncp)


class LinearGuide(Protocol):
    """What guides a linear map. voxel_mm: of the images at the resolution that is looked at."""

    def missed(self, matrix: np.ndarray, voxel_mm: float) -> list[Missed]: ...


@dataclass(frozen=True, eq=False)
class PlacedPoints:
    """Fixed points and their places in the moving image, n x 3 each, LPS mm, and how exactly these are known, mm."""

    fixed_lps: np.ndarray
    moving_lps: np.ndarray
    accuracy_mm: float

    def missed(self, matrix: np.ndarray, voxel_mm: float) -> list[Missed]:
        mapped = apply_affine(matrix, self.fixed_lps)
        count = len(mapped)
        axes = np.broadcast_to(np.eye(3), (count, 3, 3))
        sigma = max(self.accuracy_mm, _FINEST_POINT * voxel_mm)
        return [Missed(mapped - self.moving_lps, axes, mapped, np.full(count, 1 / count), sigma)]


@dataclass(frozen=True, eq=False)
class _Band:
    """points_lps: n x 3 near to a segment's boundary in its own image; distance_mm: to it, positive inside."""

    points_lps: np.ndarray
    distance_mm: np.ndarray

    @classmethod
    def of(cls, side: Side, seed: int) -> _Band:
        random = np.random.default_rng(seed)
        distance = array_from_tensor(side.distance_11dhw)[0, 0]
        near = np.argwhere(np.abs(distance) < _BAND * float(side.grid.spacing.max()))
        near = near[random.permutation(len(near))[:_POINTS], ::-1]
        points = side.grid.points(near + random.uniform(-0.5, 0.5, near.shape))
        points = points[_within(side.volume, points)]
        return cls(points, _distances(side, points)[0])


@dataclass(frozen=True, eq=False)
class BoundaryGuide:
    """Boundaries of segments: near them a point must be as far inside of a segment in either image.

    pairs: in the order of the map, with as many bands of both sides. Where a volume ends, boundaries say nothing.
    """

    pairs: Sequence[SegmentPair]
    bands: Sequence[tuple[_Band, _Band]]

    @classmethod
    def of(cls, pairs: Sequence[SegmentPair], seed: int = 0) -> BoundaryGuide:
        return cls(pairs, [(_Band.of(pair.fixed, seed), _Band.of(pair.moving, seed)) for pair in pairs])

    def missed(self, matrix: np.ndarray, voxel_mm: float) -> list[Missed]:
        back, found = np.linalg.inv(matrix), []
        for pair, (fixed, moving) in zip(self.pairs, self.bands, strict=True):
            there, here = apply_affine(matrix, fixed.points_lps), apply_affine(back, moving.points_lps)
            # A point of the moving image stays; what it comes from moves the other way.
            for band, side, mapped, about, by in (
                (fixed, pair.moving, there, there, np.eye(3)),
                (moving, pair.fixed, here, moving.points_lps, -back[:3, :3]),
            ):
                seen = _within(side.volume, mapped)
                if not seen.any():
                    continue
                distance, slope = _distances(side, mapped[seen])
                missed = (distance - band.distance_mm[seen])[:, None]
                weight = np.full(len(missed), pair.weight / (2 * len(self.pairs) * len(missed)))
                found.append(Missed(missed, (slope @ by)[:, None], about[seen], weight, voxel_mm))
        return found


def _within(volume: VolumeGrid, points_lps: np.ndarray) -> np.ndarray:
    """n bool: where boundaries are not those of the volume."""
    index = volume.index(points_lps)
    return np.all((index > _CUT_OFF) & (index < np.asarray(volume.size_ijk) - 1 - _CUT_OFF), axis=1)


def _distances(side: Side, points_lps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """n mm to a segment's boundary, positive inside, and n x 3 its slope at points."""
    to_normalized = side.grid.normalized_from_lps
    where = tensor_from_array(apply_affine(to_normalized, points_lps).astype(np.float32)).requires_grad_()
    found = sample(side.distance_11dhw, where.T[None, :, :, None, None])[0, 0, :, 0, 0]
    (slope,) = torch.autograd.grad(found.sum(), where)
    return array_from_tensor(found.detach()).astype(np.float64), array_from_tensor(slope) @ to_normalized[:3, :3]
