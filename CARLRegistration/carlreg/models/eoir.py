"""EOIR: an encoder of three convolutions, and a small flow estimator on each level of a pyramid of its features.

From coarse to fine each level's estimator sees the sum and the difference of both images' features, the moving ones
warped by what is known so far, and answers with a stationary velocity; its flow is composed with the map so far. All
that depends on how far things move is in the warps, so the encoder can be this small.

As published the features are normalized by statistics of the whole volume, so the answer depends on the field of view.
`local` is our form: normalized by numbers that training found, in endless background (`models.background`), with no
flow in it; such a network moves with its images by whole strides.

Shape suffixes: b batch, c channels, dhw the image's axes, one to three of them. Flows are in cells of their
level, channels in the order of the axes.
Source: Chen et al., Encoder-Only Image Registration; equal to the public code (Testing/engine/models/test_eoir.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..maps import DisplacementMap, identity_map, sample
from ..maps.sampling import per_axis
from .background import OnBackground, space_to_depth
from .dimensions import LINEAR, channels_last, check_dimension, padded
from .operators import Prediction, RegistrationNetwork

SQUARINGS = 7
# Voxels up to which several images are one batch: PyTorch's convolutions of one small volume are several times slower
# than those of two; larger ones are not, and would need as many times the memory.
_AT_ONCE = 2**20
_INSTANCE_NORMS = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


@dataclass(frozen=True, kw_only=True)
class EoirSettings:
    """Architecture of an `Eoir`; the defaults are the published one.

    channels: of the features. blocks: of the encoder. levels: of the pyramid, each half as fine.
    dimension: number of the images' axes. whole_axes: axes that the pyramid leaves as fine as they are (thick slices).
    local: our form, see above. stem: 1, or 2 to begin at half the resolution, with the voxels of each cell as channels.
    """

    channels: int = 16
    blocks: int = 3
    levels: int = 5
    dimension: int = 3
    whole_axes: tuple[int, ...] = ()
    local: bool = False
    stem: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "whole_axes", tuple(self.whole_axes))
        check_dimension(self.dimension, "EOIR")
        if (
            min(self.channels, self.blocks, self.levels) < 1
            or self.stem not in (1, 2)
            or not set(self.whole_axes) <= set(range(self.dimension))
        ):
            raise InputError(
                "EOIR: expected channels, blocks and levels of at least 1, whole axes below the dimension and a stem "
                f"of 1 or 2; got {self}."
            )


#: Features of an image or of several, finest first.
Pyramid = list[Tensor]
#: What a level's layers see: features (background 0 in the local form) and the background's own, None as published.
Features = tuple[Tensor, Tensor | None]


def _convolved(layer: Any, features: Tensor, background: Tensor | None) -> Features:
    return (layer.convolution(features), None) if background is None else layer(features, background)


class RunningNorm(nn.Module):
    """Each channel minus a running mean, over the root of a running variance, scaled and shifted.

    BatchNorm that uses the running statistics in training, too: a batch here is one pair, whose own statistics the
    network would come to rely on. They follow the features of training; no gradient runs through them.
    """

    MOMENTUM = 0.05
    running_mean: Tensor
    running_var: Tensor
    begun: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("begun", torch.zeros(()))

    def forward(self, features: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            self._follow(features)
        scale = self.weight * torch.rsqrt(self.running_var + 1e-5)
        scale, shift = (per_axis(x, features) for x in (scale, self.bias - self.running_mean * scale))
        return features * scale + shift, background * scale + shift

    @torch.no_grad()
    def _follow(self, features: Tensor) -> None:
        variance, mean = torch.var_mean(features, dim=(0, *range(2, features.ndim)))
        share = self.MOMENTUM if self.begun else 1.0
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)
        self.begun.fill_(1.0)


class EoirEncoder(nn.Module):
    """Blocks of convolution, normalization and activation, three of widths c, 2c, c; one encoder for both images.

    Of more blocks all but the first and the last are 2c wide.
    """

    def __init__(self, settings: EoirSettings) -> None:
        super().__init__()
        s, c = settings, settings.channels
        widths = [s.stem**s.dimension, *[c, *[2 * c] * (s.blocks - 2), c][-s.blocks :]]
        pairs = list(pairwise(widths))
        self.settings = s
        self.convolutions = nn.ModuleList(OnBackground(a, b, dimension=s.dimension) for a, b in pairs)
        self.norms = nn.ModuleList(RunningNorm(b) if s.local else _INSTANCE_NORMS[s.dimension](b) for _, b in pairs)
        self.activations = nn.ModuleList(nn.PReLU() for _ in pairs)
        if s.local:
            _begin_with_intensity(*self.convolutions)

    def forward(self, image_bcdhw: Tensor) -> Tensor:
        """b c d h w features; in the local form minus the background's, which so are 0."""
        background = None
        if self.settings.local:
            background = image_bcdhw.new_zeros(1, image_bcdhw.shape[1], *[1] * self.settings.dimension)
        features = image_bcdhw
        for convolution, norm, activation in zip(self.convolutions, self.norms, self.activations, strict=True):
            features, background = _convolved(convolution, features, background)
            if background is None:
                features = activation(norm(features))
            else:
                features, background = (activation(x) for x in norm(features, background))
        return features if background is None else features - background


class FlowEstimator(nn.Module):
    """From both images' features (warped moving, fixed) to a velocity: sum and difference, two blocks, one convolution.

    The last convolution starts at zero: no motion.
    """

    def __init__(self, settings: EoirSettings) -> None:
        super().__init__()
        s, c = settings, settings.channels
        window = 3**s.dimension
        self.local = s.local
        self.first = OnBackground(2 * c, 2 * c, dimension=s.dimension)
        self.second = OnBackground(2 * c, window, dimension=s.dimension)
        self.last = OnBackground(window, s.dimension, dimension=s.dimension)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        if s.local:
            _begin_with_products(self.first, self.second, c)

    def forward(self, warped_bcdhw: Tensor, fixed_bcdhw: Tensor) -> Tensor:
        features = torch.cat([fixed_bcdhw + warped_bcdhw, fixed_bcdhw - warped_bcdhw], dim=1)
        background = features.new_zeros(1, features.shape[1], *[1] * (features.ndim - 2)) if self.local else None
        for layer in (self.first, self.second):
            features, background = _convolved(layer, features, background)
            features = F.relu(features)
            background = None if background is None else F.relu(background)
        features, background = _convolved(self.last, features, background)
        return features if background is None else features - background


@torch.no_grad()
def _begin_with_intensity(*blocks: Any) -> None:
    """Give an encoder's first two channels a start: the image, and the image minus its surroundings' mean."""
    layers = [block.convolution for block in blocks]
    dimension = layers[0].weight.ndim - 2
    center, smooth = _kernel((_CENTER,) * dimension), _kernel((_SMOOTH,) * dimension)
    for layer in layers:
        count = min(2, layer.out_channels)
        layer.weight[:count] = 0
        layer.bias[:count] = 0
        begins, ends = layer is layers[0], layer is layers[-1]
        for channel, kernel in enumerate((center, center - smooth if begins and ends else smooth)[:count]):
            if begins:
                layer.weight[channel] = kernel / layer.in_channels
            elif ends and channel == 1:
                layer.weight[channel, 0] = center
                layer.weight[channel, 1] = -center
            else:
                layer.weight[channel, channel] = kernel


@torch.no_grad()
def _begin_with_products(first: Any, second: Any, channels: int) -> None:
    """Give an estimator's hidden layers a start: what the last one needs for an optical flow is linear in them.

    The flow along an axis goes with the product of the images' difference D and the slope G of their sum. In place of
    the product: |D + G| - |D - G|, twice the smaller of both with the product's sign. On small textured pairs the error
    had fallen by 22 % after 100 steps from this start, by 3 % from a random one.
    """
    first, second = first.convolution, second.convolution
    dimension = first.weight.ndim - 2
    smooth = _kernel((_SMOOTH,) * dimension)
    used = min(2, channels, first.out_channels // (4 * dimension), second.out_channels // (2 * dimension))
    hidden = absolute = 0
    for channel in range(used):
        for axis in range(dimension):
            slope = _kernel([_SLOPE if a == axis else _SMOOTH for a in range(dimension)])
            for sign in (1.0, -1.0):
                second.weight[absolute] = 0
                second.bias[absolute] = 0
                for side in (1.0, -1.0):
                    first.weight[hidden] = 0
                    first.bias[hidden] = 0
                    first.weight[hidden, channels + channel] = side * smooth
                    first.weight[hidden, channel] = side * sign * slope
                    second.weight[absolute, hidden] = smooth
                    hidden += 1
                absolute += 1


_CENTER, _SMOOTH, _SLOPE = (0.0, 1.0, 0.0), (0.25, 0.5, 0.25), (-0.5, 0.0, 0.5)


def _kernel(along_axes: Sequence[Sequence[float]]) -> Tensor:
    """The product of one kernel of three taps per axis."""
    kernel = torch.ones(())
    for taps in along_axes:
        kernel = kernel[..., None] * torch.tensor(taps)
    return kernel


class Eoir(RegistrationNetwork):
    """EOIR as a registration network.

    Both images have one shape, every axis a multiple of the coarsest level's cells; in the local form background is
    added around them, in which what leaves the image still moves.
    """

    def __init__(self, settings: EoirSettings | None = None, *, align_corners: bool = False) -> None:
        super().__init__()
        self.settings = settings or EoirSettings()
        self.align_corners = align_corners
        self.encoder = EoirEncoder(self.settings)
        # Finest first.
        self.estimators = nn.ModuleList(FlowEstimator(self.settings) for _ in range(self.settings.levels))

    @property
    def stride(self) -> int:
        return 1 if self.align_corners else self.coarsest

    @property
    def coarsest(self) -> int:
        """Voxels per cell of the coarsest level, along axes that the pyramid halves."""
        return self.settings.stem * 2 ** (self.settings.levels - 1)

    def predict(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> Prediction:
        self._check(moving_b1dhw, fixed_b1dhw)
        moving, fixed = self._pyramids([moving_b1dhw, fixed_b1dhw])
        return self._prediction(self._flow(moving, fixed))

    def predict_both(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> tuple[Prediction, Prediction]:
        self._check(moving_b1dhw, fixed_b1dhw)
        moving, fixed = self._pyramids([moving_b1dhw, fixed_b1dhw])
        forward, backward = self._flow_each([(moving, fixed), (fixed, moving)])
        return self._prediction(forward), self._prediction(backward)

    def predict_each(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> list[Prediction]:
        for moving, fixed in pairs:
            self._check(moving, fixed)
        if len({moving.shape for moving, _ in pairs}) > 1:
            return super().predict_each(pairs)
        found = self._pyramids([image for pair in pairs for image in pair])
        return [self._prediction(flow) for flow in self._flow_each(list(zip(found[::2], found[1::2], strict=True)))]

    def _check(self, moving: Tensor, fixed: Tensor) -> None:
        s = self.settings
        halved = [axis for axis in range(s.dimension) if axis not in s.whole_axes]
        shape = fixed.shape[2:]
        fits = len(shape) == s.dimension and not any(shape[axis] % self.coarsest for axis in halved)
        if moving.shape != fixed.shape or not fits:
            raise InputError(
                f"EOIR: expected two images of one shape with {s.dimension} axes, multiples of {self.coarsest}; got "
                f"{tuple(moving.shape)} and {tuple(fixed.shape)}. Pad them with zeros first."
            )

    @property
    def _margin(self) -> int:
        # What goes out of the image and comes back within the reach of one level's layers. Training's views are small:
        # there it would cost more than all else.
        training = next(module for module in self.modules() if isinstance(module, OnBackground)).convolution.training
        return 2 * self.coarsest if self.settings.local and not training else 0

    def _pyramids(self, images: Sequence[Tensor]) -> list[Pyramid]:
        """Features of each of some images of one shape."""
        if images[0].numel() > _AT_ONCE:
            return [self._pyramid(image) for image in images]
        levels = [level.chunk(len(images)) for level in self._pyramid(torch.cat(list(images)))]
        return [list(of_one) for of_one in zip(*levels, strict=True)]

    def _pyramid(self, image: Tensor) -> Pyramid:
        s = self.settings
        image = padded(image, self._margin)
        image = image if s.stem == 1 else space_to_depth(image)
        features = self.encoder(image.contiguous(memory_format=channels_last(s.dimension)))
        levels = [features]
        for _ in range(s.levels - 1):
            shape = [n if axis in s.whole_axes else n // 2 for axis, n in enumerate(levels[-1].shape[2:])]
            levels.append(self._resized(levels[-1], shape))
        return levels

    def _resized(self, values_bcdhw: Tensor, shape: Sequence[int]) -> Tensor:
        # Voxel-centered, half the size: the mean of each cell's voxels.
        return F.interpolate(
            values_bcdhw, size=tuple(shape), mode=LINEAR[self.settings.dimension], align_corners=self.align_corners
        )

    def _flow_each(self, pairs: Sequence[tuple[Pyramid, Pyramid]]) -> Sequence[Tensor]:
        """The flow of each pair (moving, fixed)."""
        if pairs[0][0][0].numel() > _AT_ONCE * self.settings.channels:
            return [self._flow(moving, fixed) for moving, fixed in pairs]
        moving, fixed = ([torch.cat(level) for level in zip(*side, strict=True)] for side in zip(*pairs, strict=True))
        return self._flow(moving, fixed).chunk(len(pairs))

    def _flow(self, moving: Pyramid, fixed: Pyramid) -> Tensor:
        """From coarse to fine; cells of the finest level."""
        *finer, (m, f, estimator) = zip(moving, fixed, self.estimators, strict=True)
        found = self._integrated(estimator(m, f))
        for m, f, estimator in reversed(finer):
            # Twice as far in the finer cells; as published along all axes, whole ones too.
            coarse = 2 * self._resized(found, m.shape[2:])
            flow = self._integrated(estimator(self._warped(m, coarse), f))
            found = flow + self._warped(coarse, flow)
        return found

    def _integrated(self, velocity: Tensor) -> Tensor:
        """The flow of a stationary velocity after time 1, by scaling and squaring."""
        flow = velocity / 2**SQUARINGS
        for _ in range(SQUARINGS):
            flow = flow + self._warped(flow, flow)
        return flow

    def _warped(self, values_bcdhw: Tensor, flow: Tensor) -> Tensor:
        """Values where the flow (cells) points; 0 outside, which in the local form is background."""
        shape = flow.shape[2:]
        identity = identity_map(shape, align_corners=self.align_corners, device=flow.device)
        at = identity + self._normalized(flow)
        return sample(values_bcdhw, at, padding="zeros", align_corners=self.align_corners)

    def _normalized(self, flow: Tensor) -> Tensor:
        intervals = [max(n - 1, 1) if self.align_corners else n for n in flow.shape[2:]]
        return flow / per_axis(intervals, flow)

    def _prediction(self, flow: Tensor) -> Prediction:
        cells = self._margin // self.settings.stem
        inside = (slice(None), slice(None), *(slice(cells, n - cells) for n in flow.shape[2:]))
        return Prediction(DisplacementMap(self._normalized(flow[inside]), align_corners=self.align_corners))


class Unmoved(RegistrationNetwork):
    """Puts one image's middle onto the other's: where a network begins that only refines."""

    def __init__(self, *, align_corners: bool = False) -> None:
        super().__init__()
        self.align_corners = align_corners

    def predict(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> Prediction:
        moving, fixed = moving_b1dhw.shape[2:], fixed_b1dhw.shape[2:]
        scale = [f / m for f, m in zip(fixed, moving, strict=True)]
        shift = per_axis([0.5 - 0.5 * s for s in scale], fixed_b1dhw)
        return Prediction(DisplacementMap(shift, scale=scale, align_corners=self.align_corners))
