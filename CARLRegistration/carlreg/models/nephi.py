"""NePhi: an encoder sees both images and answers with the latent codes of their map, which then is a function.

Both images are averaged to one small lattice, each over its whole field of view; from it strided convolutions make
local codes on a coarse lattice, and from what is left one global code. Two networks of sines (`models.functional`) turn
codes and a point into where it goes, there and back.

As published the convolutions see both images one above the other, and must find out by themselves what matching is:
that takes more pairs than a CPU draws in days. With `matching` they see instead what local attention says about the
images, in both directions, and the codes begin with it.

The lattices follow the images' fields of view, so what is learned holds for pairs whose fields show about the same;
the map's cost does not hang on the images' sizes. Source: NePhi (Tian et al., 2023); sizes and `matching` are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..maps import CompositeMap, CoordinateMap, per_axis
from .dimensions import CONVOLUTIONS, check_dimension
from .functional import FunctionalMap, FunctionalNetwork, FunctionalSettings, LatentCodes
from .local_attention import LocalAttention, LocalAttentionSettings
from .operators import Prediction, RegistrationNetwork, warped_by

_POOLS = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
_GROUPS, _SLOPE = 4, 0.2
# Of the weights that training starts from by design: the normalization after them takes it out again, and Adam's steps,
# as long for small weights as for large ones, forget them slowly.
_FLOW_SCALE = 8.0
# Displacements as codes: a 24th of the field of view is 1.
_MATCH_SCALE = 24.0


@dataclass(frozen=True)
class NephiSettings:
    """size: edge of the lattice that both images are averaged to. channels: of the encoder's strided convolutions, each
    of which halves the lattice. local_level: after which of them (from 0) the local codes are made.
    matching: local attention whose answers the encoder sees instead of the images; None = the images. It is taught by
        its own stage and by `carl-compact`'s, so the map's losses stop before it. The lattice is then as large as the
        images, at most `size` along its longest axis.
    """

    size: int = 48
    channels: tuple[int, ...] = (16, 32, 64, 96)
    local_level: int = 2
    functional: FunctionalSettings = field(default_factory=FunctionalSettings)
    matching: LocalAttentionSettings | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        check_dimension(self.dimension, "NePhi")
        found = self.functional.local_channels
        if self.matching is not None and (
            self.matching.dimension != self.dimension or found < 2 * (self.dimension + 1)
        ):
            raise InputError(
                f"NePhi: expected matching in {self.dimension} dimensions and local codes of at least "
                f"{2 * (self.dimension + 1)} channels, which begin with what it says; got "
                f"{self.matching.dimension} and {found}."
            )
        if self.size < 2 ** len(self.channels) or not 0 <= self.local_level < len(self.channels):
            raise InputError(
                "NePhi: expected a size of at least 2 for each halving and local codes after one of them; got "
                f"{self.size}, {len(self.channels)} and {self.local_level}."
            )

    @property
    def dimension(self) -> int:
        return self.functional.dimension

    def in_dimension(self, dimension: int) -> NephiSettings:
        matching = None if self.matching is None else replace(self.matching, dimension=dimension)
        return replace(self, functional=replace(self.functional, dimension=dimension), matching=matching)


class _Halving(nn.Module):
    """What both encoders share. down: one layer for each halving; around, local: of the level of the local codes."""

    settings: NephiSettings
    down: nn.ModuleList
    around: nn.ModuleList
    local: nn.Module

    def _halved(self, found: Tensor) -> tuple[Tensor, Tensor]:
        """b c and a lattice -> the same after all halvings, and the local codes on the way: b c and their lattice."""
        local = found
        for level, layer in enumerate(self.down):
            found = layer(found)
            if level == self.settings.local_level:
                for around in self.around:
                    found = found + around(found)
                local = self.local(found)
        return found, local


class CodeEncoder(_Halving):
    """Both images on one lattice -> the codes of their map."""

    def __init__(self, settings: NephiSettings) -> None:
        super().__init__()
        s, f = settings, settings.functional
        convolution = CONVOLUTIONS[s.dimension]
        widths = [2, *s.channels]
        self.settings = s
        self.down = nn.ModuleList(_block(convolution, a, b, 2) for a, b in pairwise(widths))
        wide = s.channels[s.local_level]
        self.around = nn.ModuleList(_block(convolution, wide, wide, 1) for _ in range(2))
        self.local = convolution(wide, f.local_channels, 1)
        edge = s.size
        for _ in s.channels:
            edge = (edge + 1) // 2
        self.last = nn.Sequential(
            nn.Linear(s.channels[-1] * edge**s.dimension, 128), nn.LeakyReLU(_SLOPE), nn.Linear(128, f.global_channels)
        )
        begin_with_flow(self)

    def forward(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> LatentCodes:
        shape = (self.settings.size,) * self.settings.dimension
        pool = _POOLS[self.settings.dimension]
        found = torch.cat([pool(image, shape) for image in (moving_b1dhw, fixed_b1dhw)], dim=1)
        found, local = self._halved(found)
        return LatentCodes(self.last(found.flatten(1)), local)


class MatchEncoder(_Halving):
    """Both images on one lattice -> what local attention says of them, both ways -> the codes of their map.

    The local codes are what it says, averaged to their lattice, and what convolutions over its answers add, which is
    nothing before training. Nothing is normalized: how far things lie apart is what the answers tell.
    """

    def __init__(self, settings: NephiSettings, matching: LocalAttentionSettings) -> None:
        super().__init__()
        s, f = settings, settings.functional
        convolution = CONVOLUTIONS[s.dimension]
        self.settings = s
        self.matching = LocalAttention(matching)
        widths = [2 * (s.dimension + 1), *s.channels]
        self.down = nn.ModuleList(
            nn.Sequential(convolution(a, b, 3, 2, 1), nn.LeakyReLU(_SLOPE)) for a, b in pairwise(widths)
        )
        wide = s.channels[s.local_level]
        self.around = nn.ModuleList(
            nn.Sequential(convolution(wide, wide, 3, 1, 1), nn.LeakyReLU(_SLOPE)) for _ in range(2)
        )
        self.local = convolution(wide, f.local_channels, 1)
        for name in ("weight", "bias"):
            nn.init.zeros_(self.local.get_parameter(name))
        self.last = nn.Sequential(nn.Linear(s.channels[-1], 64), nn.LeakyReLU(_SLOPE), nn.Linear(64, f.global_channels))

    def lattice(self, fixed_shape: Sequence[int]) -> tuple[int, ...]:
        """The shape that both images are averaged to: about the fixed one's, at most `size` along its longest axis."""
        step = 2 * self.matching.stride
        share = min(1.0, self.settings.size / max(fixed_shape))
        edges = (share * n for n in fixed_shape)
        return tuple(step * max(1, round(edge / step)) for edge in edges)

    def answers(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> Tensor:
        """b c and the matching's lattice: displacement in 24ths of the field of view and certainty, there and back.

        The backward ones lie at places of the moving image.
        """
        shape = self.lattice(fixed_b1dhw.shape[2:])
        pool = _POOLS[self.settings.dimension]
        with torch.no_grad():
            both = self.matching.match_both(pool(moving_b1dhw, shape), pool(fixed_b1dhw, shape))
        parts = []
        for found in both:
            cells = found.displacement_bndhw
            parts += [_MATCH_SCALE * cells / per_axis(cells.shape[2:], cells), found.certainty_b1dhw]
        return torch.cat(parts, dim=1)

    def forward(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> LatentCodes:
        said = found = self.answers(moving_b1dhw, fixed_b1dhw)
        found, local = self._halved(found)
        said = _POOLS[self.settings.dimension](said, local.shape[2:])
        begun, added = local.split([said.shape[1], local.shape[1] - said.shape[1]], dim=1)
        return LatentCodes(self.last(found.flatten(2).mean(2)), torch.cat([begun + said, added], dim=1))


@torch.no_grad()
def begin_with_flow(encoder: CodeEncoder) -> None:
    """Let the first local codes be, along each axis, how the images' difference goes with their slope.

    That is the sign and about the size of a small motion where brightness stays (Lucas and Kanade 1981), which a few
    thousand pairs do not teach random filters. It is where training starts, no part of the network: of the first
    layer's channels some are difference and slopes, each also negated because of the leaky rectifiers; of the second's
    some are sums and differences of both, whose rectified values tell the product's sign: |a + b| - |a - b|; what
    follows averages. All other channels stay random. Networks too narrow for it stay random altogether.
    """
    s, n = encoder.settings, encoder.settings.dimension
    if s.local_level < 1 or s.channels[0] < 2 + 2 * n or s.channels[1] < 4 * n or min(s.channels) < 2 * n:
        return
    smooth = _smooth(n)
    weight = _emptied(encoder.down.get_submodule("0.0"), 2 + 2 * n)
    for row, sign in enumerate((1, -1)):
        weight[row] = sign * torch.stack([smooth, -smooth])
        for axis in range(n):
            weight[2 + 2 * axis + row] = sign * _smooth(n, slope_along=axis)
    weight = _emptied(encoder.down.get_submodule("1.0"), 4 * n)
    products: dict[int, tuple[int, int]] = {}  # channel -> axis, and with which sign it counts
    for channel, axis in enumerate(axis for axis in range(n) for _ in range(4)):
        of_difference, of_slope = ((1, 1), (-1, -1), (1, -1), (-1, 1))[channel % 4]
        products[channel] = axis, of_difference * of_slope
        weight[channel, 0], weight[channel, 1] = of_difference * smooth, -of_difference * smooth
        weight[channel, 2 + 2 * axis], weight[channel, 3 + 2 * axis] = of_slope * smooth, -of_slope * smooth
    for layer in range(2, s.local_level + 1):
        weight = _emptied(encoder.down.get_submodule(f"{layer}.0"), 2 * n)
        for channel, (axis, sign) in products.items():
            weight[2 * axis, channel], weight[2 * axis + 1, channel] = sign * smooth, -sign * smooth
        products = {channel: (channel // 2, 1 - 2 * (channel % 2)) for channel in range(2 * n)}
    weight = _emptied(encoder.local, n)
    for channel, (axis, sign) in products.items():
        weight[axis, channel] = sign
    for around in encoder.around:
        nn.init.zeros_(around.get_parameter("1.weight"))


def _emptied(convolution: nn.Module, rows: int) -> Tensor:
    """A convolution's weight, whose first rows are now 0, as are their biases."""
    weight, bias = (convolution.get_parameter(name) for name in ("weight", "bias"))
    weight[:rows], bias[:rows] = 0, 0
    return weight


def _smooth(dimension: int, slope_along: int | None = None) -> Tensor:
    """A small binomial kernel; along one axis the central difference instead."""
    kernel = torch.full([1] * dimension, _FLOW_SCALE)
    for axis in range(dimension):
        line = torch.tensor([-0.5, 0.0, 0.5] if axis == slope_along else [0.25, 0.5, 0.25])
        kernel = kernel * line.view([-1 if other == axis else 1 for other in range(dimension)])
    return kernel


def _block(convolution, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        convolution(inputs, outputs, 3, stride, 1), nn.GroupNorm(_GROUPS, outputs), nn.LeakyReLU(_SLOPE)
    )


class Nephi(RegistrationNetwork):
    """NePhi as a registration network: one look at both images gives both directions."""

    def __init__(self, settings: NephiSettings) -> None:
        super().__init__()
        matching = settings.matching
        self.encoder = CodeEncoder(settings) if matching is None else MatchEncoder(settings, matching)
        self.there = FunctionalNetwork(settings.functional)
        self.back = FunctionalNetwork(settings.functional)

    def codes(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> LatentCodes:
        """What the encoder says of the pair."""
        return self.encoder(moving_b1dhw, fixed_b1dhw)

    def predict(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> Prediction:
        return Prediction(FunctionalMap(self.there, self.codes(moving_b1dhw, fixed_b1dhw)))

    def predict_both(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> tuple[Prediction, Prediction]:
        codes = self.codes(moving_b1dhw, fixed_b1dhw)
        return Prediction(FunctionalMap(self.there, codes)), Prediction(FunctionalMap(self.back, codes))

    def refine(self, start: CoordinateMap, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> CoordinateMap:
        """The map that it makes of any start: of what the start leaves to do."""
        outer, warped = warped_by(start, moving_b1dhw, fixed_b1dhw.shape[2:])
        return CompositeMap(outer=outer, inner=self.predict(warped, fixed_b1dhw).map)
