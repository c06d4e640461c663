"""Training on generated images of the plane: image similarity and a regularizer, nothing else.

The samples of a batch go through the network at once, so BatchNorm sees all of them; each has its own noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ...losses.paper import dissimilarity_both_ways
from ...maps import CoordinateMap, identity_map, per_axis
from ...models.operators import RegistrationNetwork
from ..regularity import irregularity
from ..settings import PlanarSettings
from ..stage import Stage, Terms
from .retina import DISK, draw_retina
from .shapes import draw_shapes


@dataclass(frozen=True)
class PlanarPair:
    """moving, fixed: b 1 h w. true_12hw: where each pixel of the fixed image lies in the moving one, normalized
    coordinates; None where there is no truth. counts_1hw: 1 where the fixed image shows what can be compared."""

    moving: Tensor
    fixed: Tensor
    true_12hw: Tensor | None = None
    counts_1hw: Tensor | None = None


class PlanarStage(Stage):
    Settings = PlanarSettings
    settings: PlanarSettings
    synthetic = False
    dimension = 2

    def draw(self, seed: int, device: torch.device) -> PlanarPair:
        generator = Generator().manual_seed(seed)
        data = self.data.planar
        if data.source == "shapes":
            moving, fixed = draw_shapes(generator, data.size, hollow=data.hollow)
            return PlanarPair(moving.to(device), fixed.to(device))
        pair = draw_retina(generator, data.size, warp_pixels=data.warp_pixels, shift_pixels=data.shift_pixels)
        points = identity_map((data.size, data.size))
        counts = ((pair.tree_from_fixed(points) - 0.5).norm(dim=1) < DISK).float()
        true = pair.moving_from_fixed(points)
        return PlanarPair(pair.moving.to(device), pair.fixed.to(device), true.to(device), counts.to(device))

    def losses(self, network: RegistrationNetwork, draw: PlanarPair, generator: Generator) -> Terms:
        return self._terms(network, [draw], [generator])

    def batch_losses(self, network: RegistrationNetwork, draws: Sequence[PlanarPair], seeds: Sequence[int]) -> Terms:
        return self._terms(network, draws, [Generator().manual_seed(seed) for seed in seeds])

    def _terms(self, network: RegistrationNetwork, draws: Sequence[PlanarPair], generators: list[Generator]) -> Terms:
        s = self.settings
        moving, fixed = (torch.cat([getattr(draw, which) for draw in draws]) for which in ("moving", "fixed"))
        forward, backward = (found.map for found in network(moving, fixed))
        unlike = dissimilarity_both_ways(
            forward, backward, moving, fixed, s.similarity, generator=generators, count=s.points
        )
        shape = tuple(fixed.shape[2:])
        unsmooth = irregularity(s.regularity, forward, backward, shape, shape, generators, sparse=False, count=s.points)
        terms = {"loss": unlike + s.weight * unsmooth, "dissimilarity": unlike, s.regularity: unsmooth}
        with torch.no_grad():
            terms |= {"inverse_pixels": inverse_error(forward, backward, shape)}
            terms |= {"folds_percent": 0.5 * (folds_percent(forward, shape) + folds_percent(backward, shape))}
            if draws[0].true_12hw is not None:
                terms |= {"end_point": _end_point(forward, draws, shape)}
        return terms


def inverse_error(forward: CoordinateMap, backward: CoordinateMap, shape: Sequence[int]) -> Tensor:
    """Mean distance in pixels between each pixel and where `forward o backward` sends it."""
    points = identity_map(shape, align_corners=backward.align_corners, device=backward.device)
    return _distance(forward(backward(points)) - points, forward, shape).mean()


def folds_percent(found: CoordinateMap, shape: Sequence[int]) -> Tensor:
    """Share of the cells between pixels that a map of the plane turns over, percent."""
    values = found.on_grid(shape)
    down, right = values.diff(dim=2)[..., :-1], values.diff(dim=3)[:, :, :-1]
    area = down[:, 0] * right[:, 1] - down[:, 1] * right[:, 0]
    return 100 * (area <= 0).float().mean()


def _end_point(found: CoordinateMap, draws: Sequence[PlanarPair], shape: Sequence[int]) -> Tensor:
    """Mean distance in pixels to the true map, where it counts."""
    points = identity_map(shape, device=found.device)
    if found.align_corners:  # the truth is told in voxel-centered coordinates
        size = per_axis(shape, points)
        values = (found((points * size - 0.5) / (size - 1)) * (size - 1) + 0.5) / size
    else:
        values = found(points)
    true = torch.cat([draw.true_12hw for draw in draws])  # pyright: ignore[reportArgumentType]
    counts = torch.cat([draw.counts_1hw for draw in draws])  # pyright: ignore[reportArgumentType]
    distance = ((values - true) * per_axis(shape, points)).norm(dim=1)
    return (distance * counts).sum() / counts.sum().clamp_min(1)


def _distance(difference_b2hw: Tensor, found: CoordinateMap, shape: Sequence[int]) -> Tensor:
    pixels = per_axis([n - 1 if found.align_corners else n for n in shape], difference_b2hw)
    return (difference_b2hw * pixels).norm(dim=1)
