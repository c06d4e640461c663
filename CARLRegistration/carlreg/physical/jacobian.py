"""How a map changes volume: the determinant of its Jacobian.

SimpleITK's DisplacementFieldJacobianDeterminant ignores the direction matrix and is wrong on ordinary RAS volumes;
here differences along the voxel axes are turned into patient space.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..maps.exchange import array_from_tensor
from ..spaces import VolumeGrid
from .transform import PhysicalTransform


def jacobian_determinant(transform: PhysicalTransform, grid: VolumeGrid) -> np.ndarray:
    """(D, H, W) float32: determinant of the whole map (affine and field) at the voxels of a grid.

    Central differences in mm over the voxels' neighbors; beyond the grid's border the map itself is evaluated, so
    border voxels are as good as inner ones. Computed in slabs. 1 keeps volume, 0 or less folds.
    """
    out = np.empty(grid.shape_dhw, dtype=np.float32)

    def work(start: int, stop: int, displacement: Tensor) -> None:
        out[start:stop] = array_from_tensor(slab_determinant(transform, displacement, grid))

    for _ in transform.over_slabs(grid, work, halo=1):
        pass
    return out


def slab_determinant(transform: PhysicalTransform, displacement_3kji: Tensor, grid: VolumeGrid) -> Tensor:
    """k j i: determinants on one slab from its displacements, which carry a halo of one voxel on all sides."""
    d = displacement_3kji
    if transform.kind is not None:
        everywhere = float(np.linalg.det(transform.affine_lps[:3, :3]))
        return torch.full([n - 2 for n in d.shape[1:]], everywhere)
    inner = slice(1, -1)
    axes = [
        (d[:, inner, inner, 2:], d[:, inner, inner, :-2]),
        (d[:, inner, 2:, inner], d[:, inner, :-2, inner]),
        (d[:, 2:, inner, inner], d[:, :-2, inner, inner]),
    ]
    # With G the derivatives along the axes: det(I + G R^T) = det(R + G) det(R) for an orthonormal direction R.
    columns = []
    for axis, (after, before) in enumerate(axes):
        column = (after - before).mul_(0.5 / grid.spacing[axis])
        for component in range(3):
            column[component].add_(float(grid.direction[component, axis]))
        columns.append(column)
    scale = float(np.linalg.det(grid.direction) * np.linalg.det(transform.affine_lps[:3, :3]))
    return determinant(*columns).mul_(scale)


def determinant(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Determinants of 3 x 3 matrices given by columns, each 3 x anything."""
    x = (b[1] * c[2]).addcmul_(b[2], c[1], value=-1).mul_(a[0])
    y = (b[2] * c[0]).addcmul_(b[0], c[2], value=-1)
    z = (b[0] * c[1]).addcmul_(b[1], c[0], value=-1)
    return x.addcmul_(y, a[1]).addcmul_(z, a[2])
