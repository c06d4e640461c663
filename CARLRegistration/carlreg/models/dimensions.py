"""PyTorch's layers by the number of an image's axes: one network code for lines, planes and volumes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
#: The functions behind `CONVOLUTIONS`.
CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
#: Names of linear interpolation.
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
#: Axes whose flips together are a turn by 180 degrees about an axis (of a plane: about its center), after no turn.
HALF_TURNS: dict[int, tuple[tuple[int, ...], ...]] = {1: ((),), 2: ((), (2, 3)), 3: ((), (3, 4), (2, 4), (2, 3))}

_CHANNELS_LAST = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}
_AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def check_dimension(dimension: int, what: str) -> None:
    """Raise InputError unless a network of so many axes can be made."""
    if dimension not in CONVOLUTIONS:
        raise InputError(f"{what}: expected a dimension of 1, 2 or 3; got {dimension!r}.")


def average_pool(image_bcdhw: Tensor, width: int | Sequence[int], *, ceil_mode: bool = False) -> Tensor:
    """Means of cells of `width` voxels along each axis; see `torch.nn.functional.avg_pool3d`."""
    return _AVERAGES[image_bcdhw.ndim - 2](image_bcdhw, width, ceil_mode=ceil_mode)


def channels_last(dimension: int) -> torch.memory_format:
    """The memory layout with a voxel's channels beside each other; of lines, which have none in PyTorch, the usual."""
    return _CHANNELS_LAST[dimension]


def padded(image_bcdhw: Tensor, width: int) -> Tensor:
    """Zeros added on both sides of every axis."""
    return F.pad(image_bcdhw, (width,) * (2 * (image_bcdhw.ndim - 2)))
