"""Linear operators that act along each axis by itself: means, Gaussians, splines.

On CPUs products with one matrix per axis are several times faster than convolutions with long thin kernels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SLAB_VOXELS = 2**24


def gaussian(distance: Tensor, sigma: float | Tensor) -> Tensor:
    """Gaussian weights, 1 at distance 0; both in the same unit."""
    return torch.exp(-0.5 * (distance / sigma) ** 2)


def along_axes(values_bcdhw: Tensor, *matrices: Tensor) -> Tensor:
    """One matrix per axis (out x in; d, h, w, or as many as there are axes) applied to all channels.

    Returns: b c, with the matrices' numbers of rows.

    Values of another type than the matrices' are converted slab by slab: a large volume is never held twice.
    """
    # The last tensor axis first: it is contiguous, and shrinking it makes the other products cheaper.
    *others, last = matrices
    if values_bcdhw.dtype == last.dtype:
        out = torch.matmul(values_bcdhw, last.T)
    elif not others:
        out = torch.matmul(values_bcdhw.to(last.dtype), last.T)
    else:
        slabs = values_bcdhw.split(max(1, _SLAB_VOXELS // values_bcdhw[:, :, 0].numel()), dim=2)
        out = torch.cat([slab.to(last.dtype) @ last.T for slab in slabs], dim=2)
    for axis in range(len(others) - 1, -1, -1):
        before, after = out.shape[: 2 + axis], out.shape[3 + axis :]
        flat = out if len(after) == 1 else out.reshape(*before, out.shape[2 + axis], -1)
        out = torch.matmul(others[axis], flat).reshape(*before, -1, *after)
    return out


def largest_around(values_ncdhw: Tensor, radius: int) -> Tensor:
    """The largest value within so many nodes along each axis, as many values as before.

    One axis after the other: the cost is that of the width, and not of its third power.
    """
    for axis in range(3):
        reach = min(radius, values_ncdhw.shape[2 + axis])
        kernel, around = [1, 1, 1], [0, 0, 0]
        kernel[axis], around[axis] = 2 * reach + 1, reach
        values_ncdhw = F.max_pool3d(values_ncdhw, kernel, stride=1, padding=around)
    return values_ncdhw


def window_sums(image_ncdhw: Tensor, width: int, stride: int = 1) -> Tensor:
    """Sums over cubes (squares, intervals) of `width` (odd) nodes around every `stride`th node; nothing lies beyond.

    The lattice may be thinner than the window, down to one node along an axis, where PyTorch's pooling refuses.
    """
    dimension = image_ncdhw.ndim - 2
    pool = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[dimension]
    for axis in range(dimension):
        kernel, steps, around = [1] * dimension, [1] * dimension, [0] * dimension
        kernel[axis], steps[axis] = width, stride
        if image_ncdhw.shape[2 + axis] < width:
            beside = [0] * (2 * dimension)
            beside[-2 - 2 * axis] = beside[-1 - 2 * axis] = width // 2
            image_ncdhw = F.pad(image_ncdhw, beside)
        else:
            around[axis] = width // 2
        image_ncdhw = pool(image_ncdhw, kernel, steps, around) * width
    return image_ncdhw
