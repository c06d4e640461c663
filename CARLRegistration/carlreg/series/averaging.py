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
_WIDER = ("rigid", "similarity", "affine")


def recentered(maps: Sequence[PhysicalTransform], grid: VolumeGrid) -> list[PhysicalTransform]:
    """The maps from the space in which they have no displacement on average: each after the inverse of their mean.

    maps: from points of one space (grid: its image's) to each image's, LPS mm. Linear maps' turns and stretches are
    averaged apart, and stay of their kind: a mean of turned points lies nearer to the axis than the points do, so that
    rigid maps would change volumes.
    """
    if all(each.kind is not None for each in maps):
        return _linear_recentered(maps, grid.center_lps)
    on = next(each.grid for each in maps if each.kind is None)
    total = np.zeros((*on.shape_dhw, 3))
    for each in maps:
        total += displacements([each], on)[0]
    mean = from_displacement((total / len(maps)).astype(np.float32), on, grid)
    back, _ = invert(mean, grid)
    return [composed(back, each, grid) for each in maps]


def _linear_recentered(maps: Sequence[PhysicalTransform], center: np.ndarray) -> list[PhysicalTransform]:
    linears = np.array([each.affine_lps[:3, :3] for each in maps])
    turns = [_turn(linear) for linear in linears]
    stretch = np.mean([turn.T @ linear for turn, linear in zip(turns, linears, strict=True)], axis=0)
    back = np.eye(4)
    back[:3, :3] = np.linalg.inv(_turn(np.mean(turns, axis=0)) @ stretch)
    # The center is where it is on average of all maps.
    shift = np.mean([each.affine_lps[:3, 3] for each in maps], axis=0)
    back[:3, 3] = np.linalg.solve(linears.mean(axis=0), center - shift) - back[:3, :3] @ center
    kind = max((str(each.kind) for each in maps), key=_WIDER.index)
    return [PhysicalTransform.from_affine(each.affine_lps @ back, kind) for each in maps]


def _turn(linear: np.ndarray) -> np.ndarray:
    """The rotation nearest to a 3 x 3 matrix."""
    u, _, vt = np.linalg.svd(linear)
    return u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt


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
