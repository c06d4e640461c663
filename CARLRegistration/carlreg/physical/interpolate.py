"""Linear interpolation of displacement fields, as ITK does it.

ITK's rule: inside means index -0.5 to n - 0.5; the half voxel beyond the outer nodes has the edge value; outside is
zero. Fields are tensors c d h w (channel first, contiguous) or rows (nodes x 3); indices are continuous `_ijk`.
"""

from __future__ import annotations

from typing import Literal, overload

import numpy as np
import torch
from torch import Tensor

from ..maps import sample
from ..spaces import VolumeGrid


def parallel(a: VolumeGrid, b: VolumeGrid, tolerance: float = 1e-4) -> bool:
    """True when the axes i, j, k of both grids are parallel (flips allowed), to within `tolerance` voxels overall."""
    matrix = a.ijk_from_lps[:3, :3] @ b.lps_from_ijk[:3, :3]
    skew = matrix - np.diag(np.diag(matrix))
    return bool(np.abs(skew * np.asarray(b.size_ijk)).max() <= tolerance)


class LatticeSampler:
    """A channel-first field on `field_grid`, evaluated on slabs of another lattice.

    field_cdhw: float32. Parallel axes are interpolated one after the other, others by trilinear sampling.
    continued: outside the field its edge value instead of zero.
    """

    def __init__(self, field_cdhw: Tensor, field_grid: VolumeGrid, grid: VolumeGrid, continued: bool = False) -> None:
        self.field_cdhw = field_cdhw
        self.continued = continued
        self.index_from_index = field_grid.ijk_from_lps @ grid.lps_from_ijk
        self.grid = grid
        self.parallel = parallel(field_grid, grid)

    def slab(self, start: int, stop: int, halo: int = 0) -> Tensor:
        """c k j i on planes start - halo to stop + halo of the lattice; j and i are grown by the halo too."""
        size = self.grid.size_ijk
        ranges = [(-halo, size[0] + halo), (-halo, size[1] + halo), (start - halo, stop + halo)]
        return self._along_axes(ranges) if self.parallel else self._anywhere(ranges)

    def _along_axes(self, ranges) -> Tensor:
        out = self.field_cdhw
        for axis in (2, 1, 0):
            low, high = ranges[axis]
            dim = 3 - axis
            count = self.field_cdhw.shape[dim]
            index = np.arange(low, high) * self.index_from_index[axis, axis] + self.index_from_index[axis, 3]
            inside = (index >= -0.5) & (index <= count - 0.5) | self.continued
            index = np.clip(index, 0, count - 1)
            lower = np.minimum(np.floor(index), max(count - 2, 0)).astype(np.int64)
            upper_weight = (index - lower) * inside
            lower_weight = inside - upper_weight
            shape = [-1 if d == dim else 1 for d in range(4)]
            lower_index = torch.tensor(lower.tolist())
            out = (
                out.index_select(dim, lower_index)
                .mul_(torch.tensor(lower_weight.tolist(), dtype=out.dtype).reshape(shape))
                .addcmul_(
                    out.index_select(dim, torch.clamp(lower_index + 1, max=count - 1)),
                    torch.tensor(upper_weight.tolist(), dtype=out.dtype).reshape(shape),
                )
            )
        return out

    def _anywhere(self, ranges) -> Tensor:
        index = lattice_affine(self.index_from_index, ranges)
        everywhere = torch.ones(index.shape[1:], dtype=torch.bool) if self.continued else None
        return sample_at_index(self.field_cdhw, index, inside=everywhere)


def lattice_affine(matrix: np.ndarray, ranges) -> Tensor:
    """3 k j i float32: a 4x4 matrix applied to the indices of a lattice given by (low, high) along i, j, k.

    The sums are formed from float64 axis terms, so only the result is rounded.
    """
    axes = [torch.arange(low, high, dtype=torch.float64) for low, high in ranges]
    columns = torch.tensor(matrix[:3].tolist(), dtype=torch.float64)
    plane = columns[:, 0, None] * axes[0] + columns[:, 3, None]
    plane = columns[:, 1, None, None] * axes[1][:, None] + plane[:, None, :]
    return plane.float()[:, None] + (columns[:, 2, None] * axes[2]).float()[:, :, None, None]


def inside_index(index_3kji: Tensor, size_ijk) -> Tensor:
    """k j i bool: which indices lie in a volume, ITK's rule."""
    inside = torch.ones(index_3kji.shape[1:], dtype=torch.bool)
    for axis in range(3):
        inside &= (index_3kji[axis] >= -0.5) & (index_3kji[axis] <= size_ijk[axis] - 0.5)
    return inside


def sample_at_index(
    image_cdhw: Tensor, index_3kji: Tensor, outside: float = 0.0, inside: Tensor | None = None
) -> Tensor:
    """c k j i: linear interpolation at continuous indices (channels i, j, k); `outside` where ITK finds no data."""
    size = image_cdhw.shape[:0:-1]
    inside = inside_index(index_3kji, size) if inside is None else inside
    scale = torch.tensor([float(n) for n in size])[:, None, None, None]
    normalized = ((index_3kji + 0.5) / scale).flip(0)
    values = sample(image_cdhw[None], normalized[None])[0]
    return torch.where(inside, values, torch.tensor(outside, dtype=values.dtype))


@overload
def trilinear_at(rows: Tensor, shape_dhw, index: Tensor, gradient: Literal[False] = False) -> Tensor: ...


@overload
def trilinear_at(rows: Tensor, shape_dhw, index: Tensor, gradient: Literal[True]) -> tuple[Tensor, Tensor]: ...


def trilinear_at(rows: Tensor, shape_dhw, index: Tensor, gradient: bool = False):
    """Trilinear values, and their exact derivatives, of a field at scattered points.

    Args:
        rows: nodes x 3, nodes in tensor order (i fastest). index: points x 3 continuous indices (i, j, k).
    Returns: values points x 3, or (values, points x 3 x 3 derivatives [component, axis]); zero outside.
    """
    size = torch.tensor(tuple(shape_dhw)[::-1], dtype=index.dtype)
    inside = ((index >= -0.5) & (index <= size - 0.5)).all(dim=1, keepdim=True)
    clamped = torch.minimum(index.clamp(min=0.0), size - 1)
    base = torch.minimum(clamped.floor(), (size - 2).clamp(min=0.0))
    f = clamped - base
    base = base.long()
    strides = torch.tensor([1, shape_dhw[2], shape_dhw[2] * shape_dhw[1]])
    steps = [int(s) if n > 1 else 0 for s, n in zip(strides, tuple(shape_dhw)[::-1], strict=True)]
    flat = (base * strides).sum(dim=1)
    fi, fj, fk = f[:, 0:1], f[:, 1:2], f[:, 2:3]

    def along_i(offset: int):
        low = rows.index_select(0, flat + offset)
        rise = rows.index_select(0, flat + (offset + steps[0])) - low
        return torch.addcmul(low, rise, fi), rise

    v00, r00 = along_i(0)
    v10, r10 = along_i(steps[1])
    v01, r01 = along_i(steps[2])
    v11, r11 = along_i(steps[1] + steps[2])
    j0, j1 = v10 - v00, v11 - v01
    v0, v1 = torch.addcmul(v00, j0, fj), torch.addcmul(v01, j1, fj)
    k0 = v1 - v0
    values = torch.addcmul(v0, k0, fk) * inside
    if not gradient:
        return values
    i0, i1 = torch.lerp(r00, r10, fj.expand_as(r00)), torch.lerp(r01, r11, fj.expand_as(r00))
    derivative = torch.stack([torch.lerp(i0, i1, fk.expand_as(i0)), torch.lerp(j0, j1, fk.expand_as(j0)), k0], dim=2)
    return values, derivative * inside[..., None]
