"""Layers that see an image as if it lay in an endless zero background; what equivariant encoders are made of.

Zero padding of *features* would not do that (features of background are not zero), so every convolution pads with the
features that pure background has at that layer; they are computed beside the image as one extra token.

Shape suffixes: b batch, c channels, dhw the image's axes, one to three of them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .dimensions import CONVOLUTIONS, CONVOLVE


class OnBackground(nn.Module):
    """A convolution of an image in endless background, given the features and the background's feature.

    Takes and returns (features bcdhw, background feature 1c111). dimension: number of the image's axes.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        dilation: int = 1,
        stride: int = 1,
        groups: int = 1,
        dimension: int = 3,
    ) -> None:
        super().__init__()
        self.dimension = dimension
        self.convolution = CONVOLUTIONS[dimension](
            inputs, outputs, 3, padding=dilation, dilation=dilation, stride=stride, groups=groups
        )

    def forward(self, features: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
        conv = self.convolution
        summed = conv.weight.sum(tuple(range(2, conv.weight.ndim))).reshape(conv.groups, -1, conv.weight.shape[1])
        background_out = torch.einsum("goi,gi->go", summed, background.reshape(conv.groups, -1)).flatten()
        if conv.bias is not None:
            background_out = background_out + conv.bias
        background_out = background_out.view(1, -1, *[1] * self.dimension)
        features = CONVOLVE[self.dimension](
            features - background, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups
        )
        return features + background_out, background_out


class PerVoxel(nn.Module):
    """Applies a layer over the channels of each voxel: local, so that the field of view cannot change the result.

    Matrix products on the channels-last memory that the convolutions use anyway; PyTorch's 1^3 convolutions copy.
    """

    layer: Any  # nn.Module's attributes are typed as tensors or modules

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features_bcdhw: Tensor) -> Tensor:
        return self.layer(features_bcdhw.movedim(1, -1)).movedim(-1, 1)


def channel_norm(channels: int) -> PerVoxel:
    return PerVoxel(nn.LayerNorm(channels))


class ResidualBlock(nn.Module):
    """Residual block: normalize, look around (grouped 3^3), mix channels (1^3)."""

    def __init__(self, channels: int, groups: int, dilation: int, dimension: int = 3) -> None:
        super().__init__()
        self.norm = channel_norm(channels)
        self.around = OnBackground(channels, channels, dilation=dilation, groups=groups, dimension=dimension)
        self.mix = PerVoxel(nn.Linear(channels, channels))

    def forward(self, features: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
        inner, inner_background = self.around(self.norm(features), self.norm(background))
        return (
            features + self.mix(F.relu(inner)),
            background + self.mix(F.relu(inner_background)),
        )


def space_to_depth(image_b1dhw: Tensor) -> Tensor:
    """b 8 D/2 H/2 W/2: each 2^3 neighborhood becomes channels, so no voxel is lost by the first stride.

    Of planes 2^2 become b 4 H/2 W/2, of lines two become b 2 W/2.
    """
    b, _, *shape = image_b1dhw.shape
    cells = [n // 2 for n in shape]
    cut = image_b1dhw.reshape(b, *(size for n in cells for size in (n, 2)))
    axes = range(len(shape))
    return cut.permute(0, *(2 * a + 2 for a in axes), *(2 * a + 1 for a in axes)).reshape(b, 2 ** len(shape), *cells)
