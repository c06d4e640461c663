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


def along_axes(values_bcdhw: Tensor, matrix_d: Tensor, matrix_h: Tensor, matrix_w: Tensor) -> Tensor:
    """One matrix per axis (out x in) applied to all channels: b c d h w -> b c, with the matrices' numbers of rows.

    Values of another type than the matrices' are converted slab by slab: a large volume is never held twice.
    """
    # The last tensor axis first: it is contiguous, and shrinking it makes the other products cheaper.
    if values_bcdhw.dtype == matrix_w.dtype:
        out = torch.matmul(values_bcdhw, matrix_w.T)
    else:
        slabs = values_bcdhw.split(max(1, _SLAB_VOXELS // values_bcdhw[:, :, 0].numel()), dim=2)
        out = torch.cat([slab.to(matrix_w.dtype) @ matrix_w.T for slab in slabs], dim=2)
    out = torch.matmul(matrix_h, out)
    b, c, d, h, w = out.shape
    return torch.matmul(matrix_d, out.reshape(b, c, d, h * w)).reshape(b, c, -1, h, w)


def window_sums(image_ncdhw: Tensor, width: int, stride: int = 1) -> Tensor:
    """Sums over cubes of `width` (odd) nodes around every `stride`th node; nothing lies beyond the lattice.

    The lattice may be thinner than the window, down to one node along an axis, where PyTorch's pooling refuses.
    """
    for axis in range(3):
        kernel, steps, around = [1, 1, 1], [1, 1, 1], [0, 0, 0]
        kernel[axis], steps[axis] = width, stride
        if image_ncdhw.shape[2 + axis] < width:
            beside = [0] * 6
            beside[4 - 2 * axis] = beside[5 - 2 * axis] = width // 2
            image_ncdhw = F.pad(image_ncdhw, beside)
        else:
            around[axis] = width // 2
        image_ncdhw = F.avg_pool3d(image_ncdhw, kernel, steps, around) * width
    return image_ncdhw
