"""The U-Net that refines a map (Psi)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..maps import DisplacementMap, per_axis
from .dimensions import BATCH_NORMS, CONVOLUTIONS, LINEAR, TRANSPOSED, check_dimension
from .operators import Prediction, RegistrationNetwork, halved


@dataclass(frozen=True, kw_only=True)
class UNetSettings:
    """down_channels: two images, then one width per halving. up_channels: width after each doubling, finest first.

    dimension: of the images: 3, 2 or 1 axes.
    """

    down_channels: tuple[int, ...] = (2, 16, 32, 64, 256, 512)
    up_channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    dimension: int = 3

    def __post_init__(self) -> None:
        check_dimension(self.dimension, "U-Net settings")


HALF_WIDTH = UNetSettings(down_channels=(2, 8, 16, 32, 128, 256), up_channels=(8, 16, 32, 64, 128))


class UNet(nn.Module):
    """Two images in, as many channels out as they have axes, at the images' resolution.

    Strided convolutions down, transposed ones up; beside each runs a plain average-pool or interpolation path; one
    BatchNorm per level on the way up. The last convolution starts at zero.
    """

    def __init__(self, settings: UNetSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or UNetSettings()
        dimension = self.settings.dimension
        convolution, transposed, norm = CONVOLUTIONS[dimension], TRANSPOSED[dimension], BATCH_NORMS[dimension]
        down, up = self.settings.down_channels, self.settings.up_channels
        below = [d + u for d, u in zip(down[1:], (*up[1:], 0), strict=True)]
        self.down = nn.ModuleList(convolution(a, b, 3, stride=2, padding=1) for a, b in pairwise(down))
        self.up = nn.ModuleList(transposed(a, b, 4, stride=2, padding=1) for a, b in zip(below, up, strict=True))
        self.norms = nn.ModuleList(norm(n) for n in up)
        self.last = convolution(down[0] + up[0], dimension, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def forward(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> Tensor:
        """bndhw; both images b1dhw of one shape, any size."""
        x = torch.cat([moving_b1dhw, fixed_b1dhw], dim=1)
        skips, mode = [], LINEAR[self.settings.dimension]
        for conv in self.down:
            skips.append(x)
            x = _add_channels(conv(F.leaky_relu(x)), halved(x))
        for level in reversed(range(len(self.up))):
            skip = skips.pop()
            kept = F.interpolate(x[:, : self.settings.up_channels[level]], scale_factor=2.0, mode=mode)
            x = self.norms[level](self.up[level](F.leaky_relu(x)) + kept)
            inside = (..., *(slice(n) for n in skip.shape[2:]))
            x = torch.cat([x[inside], skip], dim=1)
        return self.last(x)


def _add_channels(wide: Tensor, narrow: Tensor) -> Tensor:
    """`wide` with `narrow` added to its last channels."""
    new = wide.shape[1] - narrow.shape[1]
    return wide + F.pad(narrow, (*(0, 0) * (narrow.ndim - 2), new, 0))


class UNetRegistration(RegistrationNetwork):
    """Registration by a U-Net: its output is the displacement.

    In networks with published weights an output of one is a tenth of the image's edge. A voxel-centered network must
    not let the size of the field of view change what it sees as far, so there it is `VOXELS_PER_OUTPUT` voxels.
    """

    VOXELS_PER_OUTPUT = 10.0

    def __init__(self, unet: UNet, *, align_corners: bool = False) -> None:
        super().__init__()
        self.unet = unet
        self.align_corners = align_corners

    def predict(self, moving_b1dhw: Tensor, fixed_b1dhw: Tensor) -> Prediction:
        output = self.unet(moving_b1dhw, fixed_b1dhw)
        if self.align_corners:
            return Prediction(DisplacementMap(output / 10, align_corners=True))
        voxel = self.VOXELS_PER_OUTPUT / per_axis(output.shape[2:], output)
        return Prediction(DisplacementMap(output * voxel))
