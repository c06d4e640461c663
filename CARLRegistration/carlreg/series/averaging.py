"""The mean of images under their maps, in a space that is itself the mean of all their shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from ..maps.exchange import tensor_from_array
from ..physical import PhysicalTransform, invert
from ..quality.measure import warp
from ..spaces import VolumeGrid
from ..volumes import Volume, volume_from_image
from .temporal import composed, displacements, from_displacement

_PERCENTILES = (1.0, 99.0)


def recentered(maps: Sequence[PhysicalTransform], grid: VolumeGrid) -> list[PhysicalTransform]:
    """The maps from the space in which they have no displacement on average: each after the inverse of their mean.

    maps: from points of one space (grid: its image's) to each image's, LPS mm.
    """
    if all(each.kind is not None for each in maps):
        back = np.linalg.inv(np.mean([each.affine_lps for each in maps], axis=0))
        return [PhysicalTransform.from_affine(each.affine_lps @ back) for each in maps]
    on = next(each.grid for each in maps if each.kind is None)
    total = np.zeros((*on.shape_dhw, 3))
    for each in maps:
        total += displacements([each], on)[0]
    mean = from_displacement((total / len(maps)).astype(np.float32), on, grid)
    back, _ = invert(mean, grid)
    return [composed(back, each, grid) for each in maps]


def warped(volume: Volume, transform: PhysicalTransform, grid: VolumeGrid) -> tuple[np.ndarray, np.ndarray]:
    """(values float32, Jacobian float32) of a volume under a map, (D, H, W) on a grid."""
    values, _, jacobian = warp(transform, grid, volume.grid, tensor_from_array(volume.array)[None], np.dtype("f4"))
    return values, jacobian


def mean_image(
    volumes: Sequence[Volume],
    maps: Sequence[PhysicalTransform],
    grid: VolumeGrid,
    *,
    scaled: bool = False,
    sharpening: float = 0.0,
    name: str = "mean",
) -> Volume:
    """The mean of volumes on a grid under its maps to them, summed in the given order.

    scaled: each volume's 1st percentile becomes 0 and its 99th 100, for scans with scales of their own. sharpening:
    so much of what a Gaussian of one voxel takes away is added: a mean is smoother than what it is the mean of.
    """
    total = np.zeros(grid.shape_dhw)
    for volume, transform in zip(volumes, maps, strict=True):
        values = warped(volume, transform, grid)[0].astype(np.float64)
        if scaled:
            low, high = np.percentile(volume.array, _PERCENTILES)
            values = 100.0 * (values - low) / max(float(high - low), 1e-12)
        total += values
    image = grid.image((total / len(volumes)).astype(np.float32))
    if sharpening:
        smooth = sitk.DiscreteGaussian(image, [1.0] * 3, 32, 0.01, False)
        image = image + sharpening * (image - smooth)
    return volume_from_image(image, name)
