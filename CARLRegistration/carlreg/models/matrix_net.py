"""Two images to one matrix: the network of the published affine steps, and a linear map fitted to a displacement.

Shape suffixes: b batch, n the number of an image's axes (1 to 3), `bc...` images of n axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .dimensions import CONVOLUTIONS, average_pool, check_dimension

# How strongly the linear part of a fit is drawn to 0, relative to positions of weight 1 at the unit of length.
_RIDGE = 1e-2


@dataclass(frozen=True, kw_only=True)
class MatrixNetSettings:
    """channels: two images, then one width per halving. hidden: width of the layer before the matrix. dimension: number
    of the images' axes."""

    channels: tuple[int, ...] = (2, 16, 32, 64, 128, 256, 512)
    hidden: int = 300
    dimension: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        check_dimension(self.dimension, "Matrix net")


class MatrixNet(nn.Module):
    """Two images of one shape in, b n (n+1) out: linear part and translation.

    Convolutions, each followed by halving; the mean of the last features; two layers. The last one starts at zero.
    Source: ConstrICON, the network of its affine steps.
    """

    def __init__(self, settings: MatrixNetSettings | None = None) -> None:
        super().__init__()
        s = self.settings = settings or MatrixNetSettings()
        convolution = CONVOLUTIONS[s.dimension]
        self.convolutions = nn.ModuleList(convolution(a, b, 3, padding=1) for a, b in pairwise(s.channels))
        self.hidden = nn.Linear(s.channels[-1], s.hidden)
        self.last = nn.Linear(s.hidden, s.dimension * (s.dimension + 1))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        n = self.settings.dimension
        x = torch.cat([moving, fixed], dim=1)
        for convolution in self.convolutions:
            x = convolution(F.relu(x))
            x = average_pool(x, [min(2, k) for k in x.shape[2:]], ceil_mode=True)
        x = x.flatten(2).mean(2)
        return self.last(F.relu(self.hidden(x))).reshape(-1, n, n + 1)


def fitted_matrix(displacement: Tensor, weight: Tensor, positions: Tensor) -> Tensor:
    """b n (n+1): the linear map of positions that is nearest to a displacement in the weighted mean square.

    Args:
        displacement: b n ..., weight: b 1 ... (>= 0), positions: b n ... from any center; all in one unit of length, in
        which the image's size is of the order of one.
    """
    n = displacement.shape[1]
    position = torch.cat([positions, torch.ones_like(positions[:, :1])], dim=1).flatten(2)
    weighted = position * (weight / weight.flatten(2).sum(2).clamp_min(1e-6).reshape(-1, *[1] * (n + 1))).flatten(2)
    ridge = torch.full((n + 1,), _RIDGE, device=weight.device, dtype=weight.dtype)
    ridge[n] = 1e-6
    square = torch.einsum("bik,bjk->bij", weighted, position.expand_as(weighted)) + torch.diag(ridge)
    product = torch.einsum("bik,bjk->bij", displacement.flatten(2), weighted)
    return torch.linalg.solve(square, product.transpose(1, 2)).transpose(1, 2)
