"""The encoder of `carl-compact`: one small convolutional network that turns either image into matching tokens.

Shape suffixes: b batch, c channels, d h w tensor axes; `bcdhw` at the image's or at the lattice's resolution. One
lattice cell covers `stride` image voxels along each axis.

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


@dataclass(frozen=True, kw_only=True)
class CompactEncoderSettings:
    """Architecture of a `CompactEncoder`.

    pooling: average pooling of the image before anything else (attention needs shape, not detail).
    stem_channels: channels at twice the lattice's resolution. channels: width of the lattice features.
    groups: groups of the blocks' 3^3 convolutions. dilations: one residual block each.
    token_channels: length of a token. start_temperature: tokens' dot products lie in [-temperature, temperature].
    padding_cells: lattice cells of background added around the keys by default.
    background_keys: how many keys of pure background the attention reckons with; see `attention.match`.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "dilations", tuple(self.dilations))
        if min(self.pooling, self.stem_channels, self.channels, self.groups, self.token_channels) < 1:
            raise InputError(f"Encoder settings: expected positive sizes, got {self}.")
        if self.channels % self.groups:
            raise InputError(f"Encoder settings: {self.channels} channels do not divide into {self.groups} groups.")

    @property
    def stride(self) -> int:
        """Image voxels per lattice cell and axis."""
        return self.pooling * 4


class _OnBackground(nn.Module):
    """A convolution of an image in endless background, given the features and the background's feature.

    Takes and returns (features bcdhw, background feature 1c111).
    """

    def __init__(self, inputs: int, outputs: int, *, dilation: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(
            inputs, outputs, 3, padding=dilation, dilation=dilation, stride=stride, groups=groups
        )

    def forward(self, features: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
        conv = self.convolution
        summed = conv.weight.sum((2, 3, 4)).reshape(conv.groups, -1, conv.weight.shape[1])
        background_out = torch.einsum("goi,gi->go", summed, background.reshape(conv.groups, -1)).flatten() + conv.bias
        background_out = background_out[None, :, None, None, None]
        features = F.conv3d(
            features - background, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups
        )
        return features + background_out, background_out


class _PerVoxel(nn.Module):
    """Applies a layer over the channels of each voxel: local, so that the field of view cannot change the result.

    Matrix products on the channels-last memory that the convolutions use anyway; PyTorch's 1^3 convolutions copy.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features_bcdhw: Tensor) -> Tensor:
        return self.layer(features_bcdhw.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


def _channel_norm(channels: int) -> _PerVoxel:
    return _PerVoxel(nn.LayerNorm(channels))


class _Block(nn.Module):
    """Residual block: normalize, look around (grouped 3^3), mix channels (1^3)."""

    def __init__(self, channels: int, groups: int, dilation: int) -> None:
        super().__init__()
        self.norm = _channel_norm(channels)
        self.around = _OnBackground(channels, channels, dilation=dilation, groups=groups)
        self.mix = _PerVoxel(nn.Linear(channels, channels))

    def forward(self, features: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
        inner, inner_background = self.around(self.norm(features), self.norm(background))
        return (
            features + self.mix(F.relu(inner)),
            background + self.mix(F.relu(inner_background)),
        )


class CompactEncoder(nn.Module):
    """Tokens of an image for coordinate attention; one encoder serves both images.

    Tokens are L2-normalized over channels and multiplied by the square root of the learnable temperature, so the dot
    product of two tokens is the attention's logit (no 1/sqrt(c)).
    """

    def __init__(self, settings: CompactEncoderSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or CompactEncoderSettings()
        s = self.settings
        self.first = _OnBackground(8, s.stem_channels)
        self.first_norm = _channel_norm(s.stem_channels)
        self.second = _OnBackground(s.stem_channels, s.channels, stride=2)
        self.blocks = nn.ModuleList(_Block(s.channels, s.groups, dilation) for dilation in s.dilations)
        self.last_norm = _channel_norm(s.channels)
        self.project = _PerVoxel(nn.Linear(s.channels, s.token_channels))
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
        if image_b1dhw.ndim != 5 or image_b1dhw.shape[1] != 1 or any(n % s.stride for n in image_b1dhw.shape[2:]):
            raise InputError(
                f"Encoder: expected an image of shape (b, 1, d, h, w) with d, h, w multiples of {s.stride}; "
                f"got {tuple(image_b1dhw.shape)}. Pad it with zeros first."
            )
        pooled = F.avg_pool3d(image_b1dhw, s.pooling) if s.pooling > 1 else image_b1dhw
        return self.encode_pooled(pooled, padding_cells)

    def background(self) -> tuple[Tensor, float]:
        """The token (c) of places whose whole surroundings are background, and how many such keys to reckon with."""
        some = self.project.layer.weight
        token = self.encode_pooled(some.new_zeros(1, 1, 4, 4, 4), 1)[0, :, 0, 0, 0]
        return token, self.settings.background_keys

    def encode_pooled(self, pooled_b1dhw: Tensor, padding_cells: int | None = None) -> Tensor:
        """As `forward`, for an image that is already average-pooled by `settings.pooling` (4 voxels per cell)."""
        cells = self.settings.padding_cells if padding_cells is None else padding_cells
        if cells < 1:
            raise InputError(f"Encoder: expected padding_cells of at least 1, got {cells}.")
        # One cell of zeros: the stem sees that far; beyond it features are the background's and need no computing.
        image = _space_to_depth(F.pad(pooled_b1dhw, (4,) * 6)).contiguous(memory_format=torch.channels_last_3d)
        features, background = self.first(image, image.new_zeros(1, 8, 1, 1, 1))
        features, background = (F.relu(self.first_norm(x)) for x in (features, background))
        features, background = self.second(features, background)
        if cells > 1:
            features = F.pad(features - background, (cells - 1,) * 6) + background
        for block in self.blocks:
            features, background = block(features, background)
        tokens = F.normalize(self.project(self.last_norm(features)), dim=1, eps=1e-4)
        return tokens * torch.exp(0.5 * self.log_temperature)


def _space_to_depth(image_b1dhw: Tensor) -> Tensor:
    """b 8 D/2 H/2 W/2: each 2^3 neighborhood becomes channels, so no voxel is lost by the first stride."""
    b, _, d, h, w = image_b1dhw.shape
    cut = image_b1dhw.reshape(b, d // 2, 2, h // 2, 2, w // 2, 2)
    return cut.permute(0, 2, 4, 6, 1, 3, 5).reshape(b, 8, d // 2, h // 2, w // 2)
