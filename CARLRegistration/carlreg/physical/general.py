"""Transforms of any kind: read from files, and brought into the form of one affine after one displacement field."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError
from ..spaces import VolumeGrid
from ..volumes import read_transform
from .transform import PhysicalTransform, affine_from_sitk, check_affine, field_image, flatten, slab_ranges

_SAMPLED_NODES = 8_000_000


def load_transform(path: str | os.PathLike, name: str = "transform") -> sitk.Transform:
    """An ITK transform file, checked: InputError when it is not one, GeometryError when a linear part is singular."""
    transform = read_transform(path, name)
    for part in flatten(transform):
        if part.IsLinear():
            try:
                check_affine(affine_from_sitk(part))
            except GeometryError as error:
                raise GeometryError(f"{Path(path).name}: {error}") from error
    return transform


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
    k, j, i = np.meshgrid(*(np.arange(0, n, s) for n, s in zip(grid.shape_dhw, steps, strict=True)), indexing="ij")
    points = np.stack([i, j, k], axis=-1).reshape(-1, 3) @ grid.lps_from_ijk[:3, :3].T + grid.origin_lps
    mapped = points + displacement[some].reshape(-1, 3)
    solution, *_ = np.linalg.lstsq(np.c_[points, np.ones(len(points))], mapped, rcond=None)
    affine = np.eye(4)
    affine[:3] = solution.T
    check_affine(affine)
    # y = A(x + d): d = A^-1 y - x, which is an affine map of (x, displacement) and cheap slab by slab.
    linear = np.linalg.inv(affine[:3, :3])
    out = np.empty(displacement.shape, dtype=np.float32)
    for start, stop in slab_ranges(grid):
        k, j, i = np.meshgrid(np.arange(start, stop), *(np.arange(n) for n in grid.shape_dhw[1:]), indexing="ij")
        x = np.stack([i, j, k], axis=-1) @ grid.lps_from_ijk[:3, :3].T + grid.origin_lps
        out[start:stop] = (x + displacement[start:stop] - affine[:3, 3]) @ linear.T - x
    return PhysicalTransform(affine, out, grid)
