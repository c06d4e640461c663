"""What a scanner sees of the anatomy: HU on its own grid, with a table and noise, and the label map."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..spaces import VolumeGrid
from .canvas import AIR, Canvas


def scan(canvas: Canvas, grid: VolumeGrid, to_anatomy, random: np.random.Generator) -> tuple[sitk.Image, sitk.Image]:
    """What a scanner sees of the anatomy: HU with the table and noise, and the label map."""
    to_anatomy = to_anatomy or sitk.Transform(3, sitk.sitkIdentity)
    reference = grid.image(np.zeros(grid.shape_dhw, np.uint8))
    seen = sitk.Resample(canvas.grid.image(canvas.hu), reference, to_anatomy, sitk.sitkLinear, AIR)
    labels = sitk.Resample(canvas.grid.image(canvas.labels), reference, to_anatomy, sitk.sitkNearestNeighbor, 0)
    hu = sitk.GetArrayFromImage(seen)
    _add_table(hu, grid)
    noise = sitk.GetImageFromArray(random.standard_normal(grid.shape_dhw, dtype=np.float32))
    hu += 26.0 * sitk.GetArrayFromImage(sitk.DiscreteGaussian(noise, [0.4] * 3))
    return grid.image(np.clip(np.rint(hu), -1024, 3071).astype(np.int16)), labels


def _add_table(hu: np.ndarray, grid: VolumeGrid) -> None:
    """A curved patient table below the body, level in the scanner's frame (in place)."""
    points = grid.centers(stop=1)[0]
    lowest = points[..., 1][(hu > -300).any(axis=0)].max()
    x = points[..., 0] - grid.center_lps[0]
    depth = points[..., 1] - (lowest + 3.0 - x**2 / 2600.0)
    table = np.full(depth.shape, AIR, dtype=np.float32)
    table[(depth > 0) & (depth < 14.0)] = -900.0
    shell = np.clip(1.3 - np.minimum(np.abs(depth), np.abs(depth - 14.0)) / grid.spacing[0], 0.0, 1.0)
    table += shell * (-60.0 - table)
    table[np.abs(x) > 176.0] = AIR
    np.copyto(hu, np.maximum(hu, table))
