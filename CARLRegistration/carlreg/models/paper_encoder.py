"""The encoder of the published CARL networks: full resolution, dilated convolutions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .dimensions import BATCH_NORMS, CONVOLUTIONS, HALF_TURNS, check_dimension, padded

# In the authors' order, which decides how the sum is rounded.
_HALF_TURNS = HALF_TURNS | {3: ((), (2, 3), (3, 4), (2, 4))}


@dataclass(frozen=True, kw_only=True)
class PaperEncoderSettings:
    """Architecture of a `PaperEncoder`.

    channels: width. blocks: residual blocks. dilations: one convolution each per block.
    rotations: average the output over the identity and the three turns by 180 degrees about the axes.
    padding_cells: zeros around the image. norm: length of a token; logits lie in [-norm^2, norm^2].
    dimension: of its images: 3, 2 or 1 axes.
    """

    channels: int = 128
    blocks: int = 3
    dilations: tuple[int, ...] = (1, 2, 4)
    rotations: bool = False
    padding_cells: int = 9
    norm: float = 4.0
    dimension: int = 3

    def __post_init__(self) -> None:
        check_dimension(self.dimension, "Encoder settings")


ROTATION_ENCODER = PaperEncoderSettings(dilations=(1, 2, 4, 8), rotations=True)


class PaperEncoder(nn.Module):
    """Tokens of an image and of the zeros around it, one per voxel.

    Convolution, ReLU, then residual blocks on normalized input: BatchNorm, dilated convolutions with ReLUs between.
    The padding of 9 is smaller than the receptive radius, as published, so borders reach into the image.
    Source: CARL, supplement; authors' code (equal to it for equal weights, see Testing/parity).
    """

    stride = 1

    def __init__(self, settings: PaperEncoderSettings | None = None) -> None:
        super().__init__()
        self.settings = s = settings or PaperEncoderSettings()
        convolution = CONVOLUTIONS[s.dimension]
        self.first = convolution(1, s.channels, 3, padding=1)
        self.norms = nn.ModuleList(BATCH_NORMS[s.dimension](s.channels) for _ in range(s.blocks))
        self.blocks = nn.ModuleList(
            nn.ModuleList(convolution(s.channels, s.channels, 3, padding=d, dilation=d) for d in s.dilations)
            for _ in range(s.blocks)
        )

    @property
    def padding_cells(self) -> int:
        return self.settings.padding_cells

    def forward(self, image_b1dhw: Tensor) -> Tensor:
        """b c (D + 2p) (H + 2p) (W + 2p) for an image b1dhw of any shape; p = `padding_cells`."""
        image = padded(image_b1dhw, self.padding_cells)
        turns = _HALF_TURNS[self.settings.dimension] if self.settings.rotations else ((),)
        turned = [self._features(image.flip(axes)).flip(axes) for axes in turns]
        features = sum(turned[1:], start=turned[0]) / len(turned)
        length = torch.sqrt((features**2).sum(dim=1, keepdim=True))
        return self.settings.norm * features / (0.001 + length)

    def background(self) -> None:
        """Background is matched like anything else, as published."""

    def _features(self, image_b1dhw: Tensor) -> Tensor:
        x = torch.relu(self.first(image_b1dhw))
        for norm, convolutions in zip(self.norms, self.blocks, strict=True):
            x = norm(x)
            y = x
            for index, convolution in enumerate(convolutions.children()):
                y = convolution(y if index == 0 else torch.relu(y))
            x = x + y
        return x
