"""Coordinate maps: functions from points of the fixed image to points of the moving image.

Both sides are normalized coordinates of their own image (see `maps.sampling`), so the two images may differ in shape.
Maps are immutable expressions on tensors: calling one costs one interpolation per sampled field in it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from .sampling import identity_map, sample


class CoordinateMap(ABC):
    """A map of points; `map(points)` takes and returns b3dhw normalized coordinates, channel order (d, h, w).

    align_corners: the normalized coordinate is the published weights' one (first center 0, last center 1).
    """

    align_corners: bool = False
    device: torch.device | None = None

    @abstractmethod
    def __call__(self, points_b3dhw: Tensor) -> Tensor:
        """Normalized coordinates in the moving image of points given in normalized coordinates of the fixed image."""

    def on_grid(self, shape_dhw: Sequence[int]) -> Tensor:
        """The map at every voxel center of a lattice over the fixed image, b3dhw."""
        return self(identity_map(shape_dhw, align_corners=self.align_corners, device=self.device))


class DisplacementMap(CoordinateMap):
    """`scale * x + u(x)`, with u interpolated linearly from a lattice over the fixed image.

    Args:
        displacement_b3dhw: u in normalized coordinates of the moving image.
        scale: how far moving coordinates go per fixed one where nothing moves, per axis (d, h, w): fixed shape /
            moving shape when both have one voxel size. None = 1.
        extrapolate: False continues u by its edge value; True by `2 u(x) - u(reflected x)`, which continues a
            linear u (a rotation) linearly.
        align_corners: see `CoordinateMap`.
    """

    def __init__(
        self,
        displacement_b3dhw: Tensor,
        *,
        scale: Sequence[float] | None = None,
        extrapolate: bool = False,
        align_corners: bool = False,
    ) -> None:
        self.displacement_b3dhw = displacement_b3dhw
        self.scale = (1.0, 1.0, 1.0) if scale is None else tuple(float(s) for s in scale)
        self.extrapolate = extrapolate
        self.align_corners = align_corners
        self.device = displacement_b3dhw.device

    def __call__(self, points_b3dhw: Tensor) -> Tensor:
        displacement = sample(self.displacement_b3dhw, points_b3dhw, align_corners=self.align_corners)
        if self.extrapolate:
            reflected = sample(self.displacement_b3dhw, self._reflect(points_b3dhw), align_corners=self.align_corners)
            displacement = 2 * displacement - reflected
        return self._unmoved(points_b3dhw) + displacement

    def on_grid(self, shape_dhw: Sequence[int]) -> Tensor:
        if tuple(shape_dhw) != tuple(self.displacement_b3dhw.shape[2:]):
            return super().on_grid(shape_dhw)
        identity = identity_map(shape_dhw, align_corners=self.align_corners, device=self.device)
        return self._unmoved(identity) + self.displacement_b3dhw

    def _unmoved(self, points_b3dhw: Tensor) -> Tensor:
        if self.scale == (1.0, 1.0, 1.0):
            return points_b3dhw
        return points_b3dhw * points_b3dhw.new_tensor(self.scale).view(1, 3, 1, 1, 1)

    def _reflect(self, points_b3dhw: Tensor) -> Tensor:
        """Points beyond the lattice's outermost centers, mirrored at them."""
        shape = points_b3dhw.new_tensor(self.displacement_b3dhw.shape[2:]).view(1, 3, 1, 1, 1)
        low = torch.zeros_like(shape) if self.align_corners else 0.5 / shape
        inside = torch.minimum(torch.maximum(points_b3dhw, low), 1 - low)
        return 2 * inside - points_b3dhw


class Affine(CoordinateMap):
    """`matrix @ (x, 1)` with a 4x4 matrix moving_from_fixed_normalized (tensor order d, h, w)."""

    def __init__(self, matrix: Tensor, *, align_corners: bool = False) -> None:
        self.matrix = matrix
        self.align_corners = align_corners
        self.device = matrix.device

    def __call__(self, points_b3dhw: Tensor) -> Tensor:
        matrix = self.matrix.to(points_b3dhw)
        return torch.einsum("ij,bjdhw->bidhw", matrix[:3, :3], points_b3dhw) + matrix[:3, 3].view(1, 3, 1, 1, 1)


class CompositeMap(CoordinateMap):
    """`outer(inner(x))`: the inner map acts first on points of the fixed image."""

    def __init__(self, *, outer: CoordinateMap, inner: CoordinateMap) -> None:
        self.outer = outer
        self.inner = inner
        self.align_corners = inner.align_corners
        self.device = inner.device

    def __call__(self, points_b3dhw: Tensor) -> Tensor:
        return self.outer(self.inner(points_b3dhw))

    def on_grid(self, shape_dhw: Sequence[int]) -> Tensor:
        return self.outer(self.inner.on_grid(shape_dhw))
