"""Volumes at other spacings on their own axes: Gaussian smoothing and linear interpolation in one matrix per axis."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import GeometryError
from ..maps.separable import along_axes, gaussian
from ..spaces import VolumeGrid


def _reading_matrix(positions: Tensor, count_in: int, sigma_in: float) -> Tensor:
    """Rows that read a signal at `positions` (input voxel indices), smoothed by a Gaussian of `sigma_in` voxels.

    Rows sum to 1; beyond the ends the edge value continues.
    Returns: len(positions) x count_in, float32.
    """
    index = torch.arange(count_in, dtype=torch.float64)
    positions = positions.to(torch.float64).clamp(0, count_in - 1)
    distance = (index[None] - positions[:, None]).abs()
    if sigma_in < 0.3:  # narrower than the linear kernel: only interpolate
        rows = (1 - distance).clamp_min(0)
    else:
        rows = gaussian(distance, sigma_in) * (distance <= max(4 * sigma_in, 1.0))
    return (rows / rows.sum(1, keepdim=True)).float()


def resample_on_axes(array_dhw: Tensor, grid: VolumeGrid, target: VolumeGrid, *, smooth: bool = True) -> Tensor:
    """1 x 1 x D x H x W values of a volume on another grid with the same axis directions.

    Args:
        array_dhw: the volume's voxels on `grid`, any real type.
        smooth: low-pass each axis on which `target` is coarser, so that nothing aliases: the Gaussian that turns the
            input voxel's width into the output voxel's (widths as FWHM/2.355 of half a voxel).
    Raises GeometryError when the directions differ.
    """
    if abs(grid.direction.T @ target.direction - torch.eye(3, dtype=torch.float64).numpy()).max() > 1e-4:
        raise GeometryError("Expected two grids with the same axis directions; resample through a transform instead.")
    offset_ijk = (grid.ijk_from_lps @ [*target.origin_lps, 1.0])[:3]
    step_ijk = target.spacing / grid.spacing
    matrices = []
    for ijk_axis in (2, 1, 0):
        step = float(step_ijk[ijk_axis])
        positions = offset_ijk[ijk_axis] + step * torch.arange(target.size_ijk[ijk_axis], dtype=torch.float64)
        sigma = 0.5 * math.sqrt(max(step**2 - 1.0, 0.0)) if smooth else 0.0
        matrices.append(_reading_matrix(positions, grid.size_ijk[ijk_axis], sigma).to(array_dhw.device))
    return along_axes(array_dhw[None, None], *matrices)
