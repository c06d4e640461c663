"""Operators that build a registration network from smaller ones.

A registration network takes a moving and a fixed image (b1dhw, values 0..1) and predicts a map of fixed points to
moving points. Images have one to three axes (d h w, h w or w), as many as the network's parts were made for.
Voxel-centered networks accept images of different shapes but one voxel size, every axis a multiple of `stride`; those
with `align_corners` take two images of one shape and read coordinates in the published weights' convention.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..maps import Affine, CompositeMap, CoordinateMap, DisplacementMap, SumMap, identity_map, per_axis, sample
from ..maps.separable import along_axes, gaussian
from .dimensions import average_pool


@dataclass(frozen=True)
class Prediction:
    """What a network says about one direction.

    map: fixed points to moving points.
    attention_map_bndhw: the attention's own answer on its lattice over the fixed image, normalized coordinates of the
        moving image; None for networks without attention. certainty_b1dhw: 0..1, spread_b1dhw: token spacings; on
        the same lattice (see `attention.Match`).
    """

    map: CoordinateMap
    attention_map_bndhw: Tensor | None = None
    certainty_b1dhw: Tensor | None = None
    spread_b1dhw: Tensor | None = None


class RegistrationNetwork(nn.Module, ABC):
    """A network that registers two images; calling it predicts both directions."""

    align_corners: bool = False

    @property
    def stride(self) -> int:
        """Every axis of a (voxel-centered network's) image must be a multiple of this."""
        return 1

    @abstractmethod
    def predict(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> Prediction:
        """The map moving_from_fixed."""

    def predict_both(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> tuple[Prediction, Prediction]:
        """The maps moving_from_fixed and fixed_from_moving; work that both share is done once."""
        return self.predict(moving_b1dhw, fixed_b1dhw), self.predict(fixed_b1dhw, moving_b1dhw)

    def predict_each(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> list[Prediction]:
        """The maps of several pairs (moving, fixed); networks that are faster at several at once override it."""
        return [self.predict(moving, fixed) for moving, fixed in pairs]

    def toward(self, fixed_b1dhw: Tensor) -> Callable[[Tensor], Prediction]:
        """What predicts the map of any moving image to this fixed one; work on the fixed image is done once."""
        return lambda moving_b1dhw: self.predict(moving_b1dhw, fixed_b1dhw)

    def forward(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> tuple[Prediction, Prediction]:
        return self.predict_both(moving_b1dhw, fixed_b1dhw)


class TwoStep(RegistrationNetwork):
    """Register, warp the moving image, register what is left, and join the maps: `first o second`.

    Args:
        first, second: the two networks. repeats: how often `second` is applied, with the same weights.
        relax_voxels: before each `second`, the map found so far is smoothed by a Gaussian of this sigma; 0 = never.
    Source: CARL, TwoStep; repeats and relaxation are ours.
    """

    def __init__(
        self, first: RegistrationNetwork, second: RegistrationNetwork, *, repeats: int = 1, relax_voxels: float = 0.0
    ) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.repeats = repeats
        self.relax_voxels = relax_voxels
        self.align_corners = first.align_corners

    @property
    def stride(self) -> int:
        return math.lcm(self.first.stride, self.second.stride)

    def predict(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> Prediction:
        return self._refined([self.first.predict(moving_b1dhw, fixed_b1dhw)], [(moving_b1dhw, fixed_b1dhw)])[0]

    def predict_both(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> tuple[Prediction, Prediction]:
        both = self.first.predict_both(moving_b1dhw, fixed_b1dhw)
        forward, backward = self._refined(both, [(moving_b1dhw, fixed_b1dhw), (fixed_b1dhw, moving_b1dhw)])
        return forward, backward

    def refinements(self) -> list[tuple[RegistrationNetwork, float]]:
        """What runs after the very first network, in order: each network and the relaxation before it (voxels)."""
        before = self.first.refinements() if isinstance(self.first, TwoStep) else []
        return before + [(self.second, self.relax_voxels)] * self.repeats

    def refine(self, start: CoordinateMap, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> CoordinateMap:
        """The map that the refinements make of any start, taken in place of the very first network's answer."""
        return self.refiner(moving_b1dhw, fixed_b1dhw)(start)

    def refiner(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> Callable[[CoordinateMap], CoordinateMap]:
        """`refine` of this pair for several starts: what only the fixed image has a part in is computed once."""
        earlier = self.first.refiner(moving_b1dhw, fixed_b1dhw) if isinstance(self.first, TwoStep) else None
        toward = self.second.toward(fixed_b1dhw)

        def refined(start: CoordinateMap) -> CoordinateMap:
            found = start if earlier is None else earlier(start)
            for _ in range(self.repeats):
                outer, image = warped_by(found, moving_b1dhw, fixed_b1dhw.shape[2:], self.relax_voxels)
                found = CompositeMap(outer=outer, inner=toward(image).map)
            return found

        return refined

    def _refined(self, found: Sequence[Prediction], pairs: Sequence[tuple[Tensor, Tensor]]) -> Sequence[Prediction]:
        for _ in range(self.repeats):
            warped = [
                warped_by(prediction.map, moving, fixed.shape[2:], self.relax_voxels)
                for prediction, (moving, fixed) in zip(found, pairs, strict=True)
            ]
            inner = self.second.predict_each(
                [(image, fixed) for (_, image), (_, fixed) in zip(warped, pairs, strict=True)]
            )
            found = [
                replace(prediction, map=CompositeMap(outer=outer, inner=step.map))
                for prediction, (outer, _), step in zip(found, warped, inner, strict=True)
            ]
        return found


def warped_by(
    found: CoordinateMap, moving_b1dhw: Tensor, fixed_shape, relax_voxels: float = 0.0
) -> tuple[CoordinateMap, Tensor]:
    """The map, smoothed by `relax_voxels`, and the moving image warped by it onto the fixed image's grid."""
    if relax_voxels > 0:
        found = relaxed(found, moving_b1dhw.shape[2:], fixed_shape, relax_voxels)
    # Beyond a voxel-centered image lies background, as when it is padded; the published weights saw the edge.
    padding = "border" if found.align_corners else "zeros"
    return found, sample(moving_b1dhw, found.on_grid(fixed_shape), padding=padding, align_corners=found.align_corners)


class AtHalfResolution(RegistrationNetwork):
    """Runs a network on images average-pooled by 2 (Down).

    Pooling is cell-centered. With voxel-centered coordinates the half-resolution map means the same points; in the
    align_corners convention it is off by up to half a voxel at the border, as in the published weights' training.
    """

    def __init__(self, net: RegistrationNetwork) -> None:
        super().__init__()
        self.net = net
        self.align_corners = net.align_corners

    @property
    def stride(self) -> int:
        return 1 if self.align_corners else 2 * self.net.stride

    def predict(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> Prediction:
        return self.net.predict(self._half(moving_b1dhw), self._half(fixed_b1dhw))

    def predict_both(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> tuple[Prediction, Prediction]:
        return self.net.predict_both(self._half(moving_b1dhw), self._half(fixed_b1dhw))

    def _half(self, image_b1dhw: Tensor) -> Tensor:
        if not self.align_corners and any(n % 2 for n in image_b1dhw.shape[2:]):
            raise InputError(
                f"Network: expected image axes that are multiples of {self.stride}, got a level of shape "
                f"{tuple(image_b1dhw.shape[2:])}. Pad the image with zeros first."
            )
        return halved(image_b1dhw)


def halved(image_bcdhw: Tensor) -> Tensor:
    """Average of each 2^3 cell; a last odd voxel (or an axis of one voxel) is averaged with what there is."""
    return average_pool(image_bcdhw, tuple(min(2, n) for n in image_bcdhw.shape[2:]), ceil_mode=True)


def without_refinement(net: RegistrationNetwork) -> RegistrationNetwork:
    """The part of a network that runs first, at its resolution: its attention, if it has one. Shares its weights."""
    if isinstance(net, TwoStep):
        return without_refinement(net.first)
    if isinstance(net, AtHalfResolution):
        return AtHalfResolution(without_refinement(net.net))
    return net


def relaxed(found: CoordinateMap, moving_shape, fixed_shape, sigma_voxels: float) -> CoordinateMap:
    """The map's displacement on the fixed image's grid, smoothed by a Gaussian; affine maps stay as they are.

    What extrapolates goes on doing so, as the affine nearest to it: the next step may lead beyond the grid, where the
    edge's displacement would be wrong of a turned image, and the slope at the edge is no more than noise.
    """
    values = found.on_grid(fixed_shape)
    identity = identity_map(fixed_shape, align_corners=found.align_corners, device=values.device)
    scale = [f / m for f, m in zip(fixed_shape, moving_shape, strict=True)]
    trend = (
        Affine(_nearest_affine(identity, values, scale), align_corners=found.align_corners)
        if found.extrapolate
        else None
    )
    displacement = values - (identity * per_axis(scale, identity) if trend is None else trend(identity))
    smooth = along_axes(displacement, *(_smoothing(n, sigma_voxels, displacement) for n in fixed_shape))
    if trend is None:
        return DisplacementMap(smooth, scale=scale, align_corners=found.align_corners)
    return SumMap(trend, DisplacementMap(smooth, scale=[0.0] * len(scale), align_corners=found.align_corners))


def _nearest_affine(points_bndhw: Tensor, values_bndhw: Tensor, scale: Sequence[float]) -> Tensor:
    """b x (n + 1) x (n + 1): the affine with the least squared distance to a map on a lattice.

    scale: what it does along an axis of one point, which tells nothing.
    """
    b, n = values_bndhw.shape[:2]
    x, y = points_bndhw.expand_as(values_bndhw).flatten(2), values_bndhw.flatten(2)
    center_x, center_y = x.mean(2, keepdim=True), y.mean(2, keepdim=True)
    x, y = x - center_x, y - center_y
    spread = x.square().sum(2)  # a lattice's axes do not depend on each other
    linear = (y @ x.transpose(1, 2)) / spread[:, None].clamp_min(1e-12)
    linear = linear + torch.diag_embed(spread.new_tensor(scale) * (spread == 0))
    matrix = torch.eye(n + 1).to(values_bndhw).repeat(b, 1, 1)
    matrix[:, :-1, :-1], matrix[:, :-1, -1:] = linear, center_y - linear @ center_x
    return matrix


def _smoothing(count: int, sigma: float, like: Tensor) -> Tensor:
    """count x count: a Gaussian along one axis; beyond its ends the field goes on by odd reflection, which keeps linear
    parts."""
    radius = min(math.ceil(3 * sigma), count - 1)
    unchanged = torch.eye(count, device=like.device, dtype=like.dtype)
    if radius < 1:
        return unchanged
    before = 2 * unchanged[:1] - unchanged[1 : radius + 1].flip(0)
    after = 2 * unchanged[-1:] - unchanged[-1 - radius : -1].flip(0)
    rows = torch.cat([before, unchanged, after])
    offsets = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    weights = gaussian(offsets, sigma)
    weights = weights / weights.sum()
    parts = [weight * rows[n : n + count] for n, weight in enumerate(weights)]
    return sum(parts[1:], start=parts[0])
