"""Coordinate maps: functions from points of the fixed image to points of the moving image.

Both sides are normalized coordinates of their own image (see `maps.sampling`), so the two images may differ in shape.
Maps are immutable expressions on tensors: calling one costs one interpolation per sampled field in it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from .sampling import identity_map, per_axis, sample


class CoordinateMap(ABC):
    """A map of points; `map(points)` takes and returns bndhw normalized coordinates of n axes, channel order (d, h, w).

    align_corners: the normalized coordinate is the published weights' one (first center 0, last center 1).
    extrapolate: beyond the fixed image, too, it goes on linearly where it is linear.
    """

    align_corners: bool = False
    extrapolate: bool = False
    device: torch.device | None = None

    @abstractmethod
    def __call__(self, points_bndhw: Tensor) -> Tensor:
        """Normalized coordinates in the moving image of points given in normalized coordinates of the fixed image."""

    def on_grid(self, shape_dhw: Sequence[int]) -> Tensor:
        """The map at every voxel center of a lattice over the fixed image, bndhw."""
        return self(identity_map(shape_dhw, align_corners=self.align_corners, device=self.device))


class DisplacementMap(CoordinateMap):
    """`scale * x + u(x)`, with u interpolated linearly from a lattice over the fixed image.

    Args:
        displacement_bndhw: u in normalized coordinates of the moving image.
        scale: how far moving coordinates go per fixed one where nothing moves, per axis (d, h, w): fixed shape /
            moving shape when both have one voxel size. None = 1.
        extrapolate: False continues u by its edge value; True by `2 u(x) - u(reflected x)`, which continues a
            linear u (a rotation) linearly.
        align_corners: see `CoordinateMap`.
    """

    def __init__(
        self,
        displacement_bndhw: Tensor,
        *,
        scale: Sequence[float] | None = None,
        extrapolate: bool = False,
        align_corners: bool = False,
    ) -> None:
        self.displacement_bndhw = displacement_bndhw
        self.scale = None if scale is None or all(s == 1 for s in scale) else tuple(float(s) for s in scale)
        self.extrapolate = extrapolate
        self.align_corners = align_corners
        self.device = displacement_bndhw.device

    def __call__(self, points_bndhw: Tensor) -> Tensor:
        displacement = sample(self.displacement_bndhw, points_bndhw, align_corners=self.align_corners)
        if self.extrapolate:
            reflected = sample(self.displacement_bndhw, self._reflect(points_bndhw), align_corners=self.align_corners)
            displacement = 2 * displacement - reflected
        return self._unmoved(points_bndhw) + displacement

    def on_grid(self, shape_dhw: Sequence[int]) -> Tensor:
        if tuple(shape_dhw) != tuple(self.displacement_bndhw.shape[2:]):
            return super().on_grid(shape_dhw)
        identity = identity_map(shape_dhw, align_corners=self.align_corners, device=self.device)
        return self._unmoved(identity) + self.displacement_bndhw

    def _unmoved(self, points_bndhw: Tensor) -> Tensor:
        return points_bndhw if self.scale is None else points_bndhw * per_axis(self.scale, points_bndhw)

    def _reflect(self, points_bndhw: Tensor) -> Tensor:
        """Points beyond the lattice's outermost centers, mirrored at them."""
        shape = per_axis(self.displacement_bndhw.shape[2:], points_bndhw)
        low = torch.zeros_like(shape) if self.align_corners else 0.5 / shape
        inside = torch.minimum(torch.maximum(points_bndhw, low), 1 - low)
        return 2 * inside - points_bndhw


class Affine(CoordinateMap):
    """`matrix @ (x, 1)` with a matrix moving_from_fixed_normalized, 4x4 (tensor order d, h, w), 3x3 or 2x2.

    Of several pairs at once: b x 4 x 4.
    """

    extrapolate = True

    def __init__(self, matrix: Tensor, *, align_corners: bool = False) -> None:
        self.matrix = matrix
        self.align_corners = align_corners
        self.device = matrix.device

    def __call__(self, points_bndhw: Tensor) -> Tensor:
        matrix = self.matrix.to(points_bndhw)
        if matrix.dim() == 3:
            turned = torch.einsum("bij,bj...->bi...", matrix[:, :-1, :-1], points_bndhw)
            return turned + matrix[:, :-1, -1].reshape(*turned.shape[:2], *[1] * (turned.dim() - 2))
        return torch.einsum("ij,bj...->bi...", matrix[:-1, :-1], points_bndhw) + per_axis(matrix[:-1, -1], points_bndhw)


class SumMap(CoordinateMap):
    """`trend(x) + rest(x)`: beyond the fixed image the trend goes on, and the rest as it does."""

    extrapolate = True

    def __init__(self, trend: CoordinateMap, rest: CoordinateMap) -> None:
        self.trend, self.rest = trend, rest
        self.align_corners = rest.align_corners
        self.device = rest.device

    def __call__(self, points_bndhw: Tensor) -> Tensor:
        return self.trend(points_bndhw) + self.rest(points_bndhw)

    def on_grid(self, shape_dhw: Sequence[int]) -> Tensor:
        return self.trend.on_grid(shape_dhw) + self.rest.on_grid(shape_dhw)


class CompositeMap(CoordinateMap):
    """`outer(inner(x))`: the inner map acts first on points of the fixed image."""

    def __init__(self, *, outer: CoordinateMap, inner: CoordinateMap) -> None:
        self.outer = outer
        self.inner = inner
        self.align_corners = inner.align_corners
        self.extrapolate = outer.extrapolate
        self.device = inner.device

    def __call__(self, points_bndhw: Tensor) -> Tensor:
        return self.outer(self.inner(points_bndhw))

    def on_grid(self, shape_dhw: Sequence[int]) -> Tensor:
        return self.outer(self.inner.on_grid(shape_dhw))
