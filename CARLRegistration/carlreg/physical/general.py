"""Transforms of any kind, brought into the form of one affine after one displacement field."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..io.itk_transform import check_affine, field_image
from ..spaces import VolumeGrid, fit_linear
from .transform import PhysicalTransform, slab_ranges

_SAMPLED_NODES = 8_000_000


def sample_transform(transform: sitk.Transform, fixed_grid: VolumeGrid) -> PhysicalTransform:
    """Any ITK transform as an affine (least squares) and a field of the rest, on the fixed grid and two voxels around.

    Exact at the voxels; above 8 million the field is coarser and linear between its nodes.
    """
    grid = fixed_grid.padded(2 * fixed_grid.spacing)
    if grid.voxel_count > _SAMPLED_NODES:
        grid = grid.with_spacing(grid.spacing * (grid.voxel_count / _SAMPLED_NODES) ** (1 / 3))
    displacement = sitk.GetArrayFromImage(field_image(transform, grid))
    steps = [max(1, n // 24) for n in grid.shape_dhw]
    some = tuple(slice(0, None, step) for step in steps)
    points = grid.centers(step=steps).reshape(-1, 3)
    mapped = points + displacement[some].reshape(-1, 3)
    affine = fit_linear(points, mapped)
    check_affine(affine)
    # y = A(x + d): d = A^-1 y - x, which is an affine map of (x, displacement) and cheap slab by slab.
    linear = np.linalg.inv(affine[:3, :3])
    out = np.empty(displacement.shape, dtype=np.float32)
    for start, stop in slab_ranges(grid):
        x = grid.centers(start, stop)
        out[start:stop] = (x + displacement[start:stop] - affine[:3, 3]) @ linear.T - x
    return PhysicalTransform(affine, out, grid)
