"""The encoder of `carl-compact`: one small convolutional network that turns either image into matching tokens.

Shape suffixes: b batch, c channels, dhw the image's axes, one to three of them; `bcdhw` at the image's or at the
lattice's resolution. One lattice cell covers `stride` image voxels along each axis.

Equivariance: the network sees an image as if it lay in an endless zero background. Zero padding of *features* would
not do that (features of background are not zero), so every convolution pads with the features that pure background
has at that layer; they are computed beside the image as one extra token. What remains is influence that leaves the
padded lattice and comes back, which needs a longer way than the receptive field once `padding_cells` reaches half of
it (4 for the default settings).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from .background import OnBackground, PerVoxel, ResidualBlock, channel_norm, space_to_depth
from .dimensions import HALF_TURNS, average_pool, channels_last, check_dimension, padded


@dataclass(frozen=True, kw_only=True)
class CompactEncoderSettings:
    """Architecture of a `CompactEncoder`.

    pooling: average pooling of the image before anything else (attention needs shape, not detail).
    stem_channels: channels at twice the lattice's resolution. channels: width of the lattice features.
    groups: groups of the blocks' 3^3 convolutions. dilations: one residual block each.
    token_channels: length of a token. start_temperature: tokens' dot products lie in [-temperature, temperature].
    padding_cells: lattice cells of background added around the keys by default.
    background_keys: how many keys of pure background the attention reckons with; see `attention.match`.
    rotations: average the tokens over the turns by 180 degrees about the three axes, so that such turns of the image
        turn its tokens along exactly (the encoder of CARL{ROT}).
    dimension: of its images: 3, 2 or 1 axes.
    """

    pooling: int = 2
    stem_channels: int = 32
    channels: int = 128
    groups: int = 4
    dilations: tuple[int, ...] = (1, 2, 1, 2, 1)
    token_channels: int = 128
    start_temperature: float = 14.0
    padding_cells: int = 4
    background_keys: float = 8192.0
    rotations: bool = False
    dimension: int = 3

    def __post_init__(self) -> None:
        check_dimension(self.dimension, "Encoder settings")
        object.__setattr__(self, "dilations", tuple(self.dilations))
        if min(self.pooling, self.stem_channels, self.channels, self.groups, self.token_channels) < 1:
            raise InputError(f"Encoder settings: expected positive sizes, got {self}.")
        if self.channels % self.groups:
            raise InputError(f"Encoder settings: {self.channels} channels do not divide into {self.groups} groups.")

    @property
    def stride(self) -> int:
        """Image voxels per lattice cell and axis."""
        return self.pooling * 4


class CompactEncoder(nn.Module):
    """Tokens of an image for coordinate attention; one encoder serves both images.

    Tokens are L2-normalized over channels and multiplied by the square root of the learnable temperature, so the dot
    product of two tokens is the attention's logit (no 1/sqrt(c)).
    """

    def __init__(self, settings: CompactEncoderSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or CompactEncoderSettings()
        s = self.settings
        self.first = OnBackground(2**s.dimension, s.stem_channels, dimension=s.dimension)
        self.first_norm = channel_norm(s.stem_channels)
        self.second = OnBackground(s.stem_channels, s.channels, stride=2, dimension=s.dimension)
        self.blocks = nn.ModuleList(
            ResidualBlock(s.channels, s.groups, dilation, s.dimension) for dilation in s.dilations
        )
        self.last_norm = channel_norm(s.channels)
        self.project = PerVoxel(nn.Linear(s.channels, s.token_channels))
        self.log_temperature = nn.Parameter(torch.tensor(math.log(s.start_temperature)))

    @property
    def stride(self) -> int:
        return self.settings.stride

    def forward(self, image_b1dhw: Tensor, padding_cells: int | None = None) -> Tensor:
        """Tokens of an image and of the background around it.

        Args:
            image_b1dhw: values 0..1, background 0; every axis a multiple of `stride`.
            padding_cells: lattice cells added on each side; None = the settings' default. Must be at least 1.
        Returns: b c (D/stride + 2p) (H/stride + 2p) (W/stride + 2p). Queries are its middle: `[p:-p]` per axis.
        Raises: InputError for other shapes.
        """
        s = self.settings
        wrong = image_b1dhw.ndim != 2 + s.dimension or image_b1dhw.shape[1] != 1
        if wrong or any(n % s.stride for n in image_b1dhw.shape[2:]):
            axes = ", ".join("dhw"[3 - s.dimension :])
            raise InputError(
                f"Encoder: expected an image of shape (b, 1, {axes}) with {axes} multiples of {s.stride}; "
                f"got {tuple(image_b1dhw.shape)}. Pad it with zeros first."
            )
        pooled = average_pool(image_b1dhw, s.pooling) if s.pooling > 1 else image_b1dhw
        return self.encode_pooled(pooled, padding_cells)

    def background(self) -> tuple[Tensor, float]:
        """The token (c) of places whose whole surroundings are background, and how many such keys to reckon with."""
        some = self.project.layer.weight
        token = self.encode_pooled(some.new_zeros(1, 1, *[4] * self.settings.dimension), 1)[0].flatten(1)[:, 0]
        return token, self.settings.background_keys

    def encode_pooled(self, pooled_b1dhw: Tensor, padding_cells: int | None = None) -> Tensor:
        """As `forward`, for an image that is already average-pooled by `settings.pooling` (4 voxels per cell)."""
        cells = self.settings.padding_cells if padding_cells is None else padding_cells
        if cells < 1:
            raise InputError(f"Encoder: expected padding_cells of at least 1, got {cells}.")
        if not self.settings.rotations:
            return self._unit(self._features(pooled_b1dhw, cells))
        turns = HALF_TURNS[self.settings.dimension]
        turned = [self._features(pooled_b1dhw.flip(axes), cells).flip(axes) for axes in turns]
        return self._unit(sum(turned[1:], start=turned[0]) / len(turned))

    def _features(self, pooled_b1dhw: Tensor, cells: int) -> Tensor:
        # One cell of zeros: the stem sees that far; beyond it features are the background's and need no computing.
        dimension = self.settings.dimension
        image = space_to_depth(padded(pooled_b1dhw, 4)).contiguous(memory_format=channels_last(dimension))
        features, background = self.first(image, image.new_zeros(1, 2**dimension, *[1] * dimension))
        features, background = (F.relu(self.first_norm(x)) for x in (features, background))
        features, background = self.second(features, background)
        if cells > 1:
            features = padded(features - background, cells - 1) + background
        for block in self.blocks:
            features, background = block(features, background)
        return self.project(self.last_norm(features))

    def _unit(self, features: Tensor) -> Tensor:
        return F.normalize(features, dim=1, eps=1e-4) * torch.exp(0.5 * self.log_temperature)
