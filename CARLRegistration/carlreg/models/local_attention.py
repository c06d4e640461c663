"""Local attention: a refinement step that looks for each place of the fixed image in a window of the warped one.

It is coordinate attention on a finer lattice, whose keys are the few around the query, with one addition: neighbors
are heard. The answer is found in rounds; in each the attention is drawn toward what the surroundings said in the last
one, by how certain they were. Everything is local and knows background as `models.background` does, so the step is
equivariant to shifts of both images together (by its stride), whatever their fields of view.

Shape suffixes: b batch, c channels, k offsets of the window, dhw lattice axes, one to three of them, n as many channels
as there are axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..maps import DisplacementMap, per_axis
from .attention import fill_uncertain
from .background import OnBackground, PerVoxel, ResidualBlock, channel_norm, space_to_depth
from .dimensions import channels_last, check_dimension, padded
from .operators import Prediction, RegistrationNetwork

# Offsets x places of one piece of a round, and channels x places whose products are formed at a time: little beside
# the logits, and so little that processors keep it near.
_AT_ONCE, _PRODUCTS_AT_ONCE = 2**17, 2**18


@dataclass(frozen=True, kw_only=True)
class LocalAttentionSettings:
    """Architecture of a `LocalAttention`.

    stride: voxels per lattice cell, 2 or 4. radius: reach of the window in cells along each axis.
    stem_channels: channels at stride 2 when the stride is 4. channels: width of the features. groups: of the blocks'
    convolutions. dilations: one residual block each. token_channels: length of a token.
    start_temperature: logits begin in [-start_temperature, start_temperature].
    rounds: how often the surroundings are heard. reach_cells: sigma with which each round does at the start.
    dimension: of the images: 3, 2 or 1 axes.
    """

    stride: int = 2
    radius: int = 2
    stem_channels: int = 24
    channels: int = 32
    groups: int = 1
    dilations: tuple[int, ...] = (1, 1)
    token_channels: int = 16
    start_temperature: float = 12.0
    rounds: int = 3
    reach_cells: float = 1.0
    dimension: int = 3

    def __post_init__(self) -> None:
        check_dimension(self.dimension, "Local attention")
        object.__setattr__(self, "dilations", tuple(self.dilations))
        if self.stride not in (2, 4) or self.radius < 1 or self.rounds < 1 or self.channels % self.groups:
            raise InputError(
                f"Local attention: expected a stride of 2 or 4, a radius and rounds of at least 1, and channels that "
                f"divide into the groups; got {self}."
            )


class LocalEncoder(nn.Module):
    """Tokens of an image at stride 2 or 4, with the features of background around it; one encoder for both images."""

    def __init__(self, settings: LocalAttentionSettings) -> None:
        super().__init__()
        s = self.settings = settings
        narrow = s.channels if s.stride == 2 else s.stem_channels
        self.first = OnBackground(2**s.dimension, narrow, dimension=s.dimension)
        self.first_norm = channel_norm(narrow)
        self.second = OnBackground(narrow, s.channels, stride=2, dimension=s.dimension) if s.stride == 4 else None
        self.blocks = nn.ModuleList(
            ResidualBlock(s.channels, s.groups, dilation, s.dimension) for dilation in s.dilations
        )
        self.last_norm = channel_norm(s.channels)
        self.project = PerVoxel(nn.Linear(s.channels, s.token_channels))
        self.log_temperature = nn.Parameter(torch.tensor(math.log(s.start_temperature)))

    def forward(self, image_b1dhw: Tensor, padding_cells: int) -> Tensor:
        """b c d h w unit tokens times the root of the temperature, with so many cells of surroundings on each side."""
        s = self.settings
        image = space_to_depth(padded(image_b1dhw, s.stride * padding_cells))
        image = image.contiguous(memory_format=channels_last(s.dimension))
        features, background = self.first(image, image.new_zeros(1, 2**s.dimension, *[1] * s.dimension))
        features, background = (F.relu(self.first_norm(x)) for x in (features, background))
        if self.second is not None:
            features, background = self.second(features, background)
        for block in self.blocks:
            features, background = block(features, background)
        tokens = F.normalize(self.project(self.last_norm(features)), dim=1, eps=1e-4)
        return tokens.float() * torch.exp(0.5 * self.log_temperature)


class _WindowProducts(torch.autograd.Function):
    """Dot products of each query with the keys around it; keeps nothing but the two inputs for the backward pass."""

    @staticmethod
    def forward(ctx, queries_bcdhw: Tensor, keys_bcdhw: Tensor, radius: int) -> Tensor:
        ctx.save_for_backward(queries_bcdhw, keys_bcdhw)
        ctx.radius = radius
        b, _, *shape = queries_bcdhw.shape
        out = queries_bcdhw.new_empty(b, (2 * radius + 1) ** len(shape), *shape)
        piece = max(1, _PRODUCTS_AT_ONCE // max(1, queries_bcdhw[:, :, 0].numel()))
        for start in range(0, shape[0], piece):
            part = queries_bcdhw[:, :, start : start + piece]
            keys = keys_bcdhw[:, :, start : start + part.shape[2] + 2 * radius]
            products = torch.empty_like(part)
            for k, at in enumerate(_windows(radius, part.shape[2:])):
                torch.mul(part, keys[at], out=products)
                torch.sum(products, dim=1, out=out[:, k, start : start + piece])
        return out

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor):
        (gradient_bkdhw,) = grad_outputs
        queries, keys = ctx.saved_tensors
        to_queries, to_keys = torch.zeros_like(queries), torch.zeros_like(keys)
        for k, at in enumerate(_windows(ctx.radius, queries.shape[2:])):
            g = gradient_bkdhw[:, k : k + 1]
            to_queries.addcmul_(g, keys[at])
            to_keys[at].addcmul_(g, queries)
        return to_queries, to_keys, None


def _windows(radius: int, shape_dhw):
    """The slices of padded keys that belong to each offset, in the order of `window_offsets`."""
    for corner in product(range(2 * radius + 1), repeat=len(shape_dhw)):
        yield (slice(None), slice(None), *(slice(at, at + n) for at, n in zip(corner, shape_dhw, strict=True)))


def window_offsets(radius: int, device=None, *, dimension: int = 3) -> Tensor:
    """k x n offsets in cells (d, h, w) of a window, -radius..radius per axis, last axis fastest."""
    axis = torch.arange(-radius, radius + 1, device=device, dtype=torch.float32)
    return torch.stack(torch.meshgrid(*[axis] * dimension, indexing="ij"), dim=-1).reshape(-1, dimension)


@dataclass(frozen=True)
class LocalMatch:
    """What local attention says. logits_bkdhw: of the appearance alone. displacement_bndhw: cells, where the match of
    each place lies, after all rounds. certainty_b1dhw: 0..1, one over one plus the attention's variance in cells."""

    logits_bkdhw: Tensor
    displacement_bndhw: Tensor
    certainty_b1dhw: Tensor


class LocalAttention(RegistrationNetwork):
    """Registration of what is left, at most `radius` cells of `stride` voxels along each axis.

    Both images have one shape, every axis a multiple of `stride`; the second is usually a warped one.
    """

    def __init__(self, settings: LocalAttentionSettings | None = None) -> None:
        super().__init__()
        s = self.settings = settings or LocalAttentionSettings()
        self.encoder = LocalEncoder(s)
        # How strongly a round holds to the last one's surroundings (the first one's are rest), per squared cell.
        self.log_hold = nn.Parameter(torch.full((s.rounds + 1,), math.log(0.3)))
        self.log_reach = nn.Parameter(torch.full((s.rounds + 1,), math.log(s.reach_cells)))

    @property
    def stride(self) -> int:
        return self.settings.stride

    def match(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> LocalMatch:
        """Raises InputError for images of different shapes or axes that are no multiples of the stride."""
        self._check(moving_b1dhw, fixed_b1dhw)
        return self._compare(self._tokens(moving_b1dhw), self._tokens(fixed_b1dhw))

    def match_both(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> tuple[LocalMatch, LocalMatch]:
        """`match` of the fixed image's places in the moving one, and the other way round."""
        self._check(moving_b1dhw, fixed_b1dhw)
        moving, fixed = self._tokens(moving_b1dhw), self._tokens(fixed_b1dhw)
        return self._compare(moving, fixed), self._compare(fixed, moving)

    def _check(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> None:
        s = self.settings
        if moving_b1dhw.shape != fixed_b1dhw.shape or any(n % s.stride for n in fixed_b1dhw.shape[2:]):
            raise InputError(
                f"Local attention: expected two images of one shape with axes that are multiples of {s.stride}; got "
                f"{tuple(moving_b1dhw.shape)} and {tuple(fixed_b1dhw.shape)}."
            )

    def _tokens(self, image_b1dhw: Tensor) -> Tensor:
        """With the surroundings that windows reach; queries are their middle."""
        return self.encoder(image_b1dhw, self.settings.radius)

    def _compare(self, keys: Tensor, queries: Tensor) -> LocalMatch:
        s = self.settings
        inside = (slice(None), slice(None), *(slice(s.radius, n - s.radius) for n in keys.shape[2:]))
        logits = _WindowProducts.apply(queries[inside].contiguous(), keys.contiguous(), s.radius)
        certainty = torch.zeros_like(logits[:, :1])
        heard = torch.cat([certainty] * s.dimension, dim=1)
        for step in range(s.rounds + 1):
            displacement, certainty = self._attend(logits, heard, self.log_hold[step].exp())
            heard = fill_uncertain(displacement, certainty, self.log_reach[step].exp())
        return LocalMatch(logits, heard, certainty)

    def _attend(self, logits_bkdhw: Tensor, heard_bndhw: Tensor, hold: Tensor) -> tuple[Tensor, Tensor]:
        """Mean offset and certainty of softmax(logits - hold |offset - heard|^2), a few places at a time."""
        offsets = window_offsets(self.settings.radius, logits_bkdhw.device, dimension=self.settings.dimension)
        square = (offsets**2).sum(1)
        # |heard|^2 is the same for all offsets: softmax does not see it.
        toward = torch.cat([2 * hold * offsets, -hold * square[:, None]], dim=1)
        values = torch.cat([offsets, square[:, None], torch.ones_like(square)[:, None]], dim=1).T
        near = torch.cat([heard_bndhw, torch.ones_like(heard_bndhw[:, :1])], dim=1).flatten(2)
        b, k, *shape = logits_bkdhw.shape
        places = max(1, _AT_ONCE // (b * k))
        sums = []
        for part, around in zip(logits_bkdhw.flatten(2).split(places, 2), near.split(places, 2), strict=True):
            weights = torch.baddbmm(part, toward.expand(b, -1, -1), around)
            weights = (weights - weights.detach().amax(1, keepdim=True)).exp_()
            sums.append(torch.matmul(values, weights))
        sums = torch.cat(sums, dim=2)
        mean = (sums[:, :-1] / sums[:, -1:]).unflatten(2, shape)
        displacement = mean[:, :-1]
        variance = (mean[:, -1:] - (displacement**2).sum(1, keepdim=True)).clamp_min(0)
        return displacement, 1 / (1 + variance)

    def predict(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> Prediction:
        return self._prediction(self.match(moving_b1dhw, fixed_b1dhw))

    def predict_both(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> tuple[Prediction, Prediction]:
        forward, backward = self.match_both(moving_b1dhw, fixed_b1dhw)
        return self._prediction(forward), self._prediction(backward)

    def toward(self, fixed_b1dhw: Tensor) -> Callable[[Tensor], Prediction]:
        kept: list[Tensor] = []

        def predict(moving_b1dhw: Tensor) -> Prediction:
            self._check(moving_b1dhw, fixed_b1dhw)
            if not kept:
                kept.append(self._tokens(fixed_b1dhw))
            return self._prediction(self._compare(self._tokens(moving_b1dhw), kept[0]))

        return predict

    @staticmethod
    def _prediction(found: LocalMatch) -> Prediction:
        field = found.displacement_bndhw
        return Prediction(
            DisplacementMap(field / per_axis(field.shape[2:], field)), certainty_b1dhw=found.certainty_b1dhw
        )
