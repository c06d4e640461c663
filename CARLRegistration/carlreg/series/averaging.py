"""The mean of images under their maps, in a space that is itself the mean of all their shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from ..maps.exchange import tensor_from_array
from ..physical import PhysicalTransform, invert
from ..quality.measure import warp
from ..spaces import VolumeGrid, fit_linear, nearest_linear
from ..volumes import Volume, volume_from_image
from .temporal import composed, from_displacement

_PERCENTILES = (1.0, 99.0)
# Along each axis, of the lattice on which a map's turn is found.
_FIT_POINTS = 12
_WIDER = ("rigid", "similarity", "affine")


def recentered(maps: Sequence[PhysicalTransform], grid: VolumeGrid) -> list[PhysicalTransform]:
    """The maps from the space in which they have no displacement on average: each after `mean_inverse`.

    maps: from points of one space (grid: its image's) to each image's, LPS mm.
    """
    back = mean_inverse(maps, grid)
    return [after(back, each, grid) for each in maps]


def mean_inverse(maps: Sequence[PhysicalTransform], grid: VolumeGrid) -> PhysicalTransform:
    """The inverse of the mean of maps from one space (grid: its image's), LPS mm; linear where they all are.

    Turns are averaged apart from the rest: a mean of turned points lies nearer to the axis than the points do, so that
    images in different poses would make a smaller mean.
    """
    if all(each.kind is not None for each in maps):
        return _linear_mean_inverse(maps, grid.center_lps)
    on, center = next(each.grid for each in maps if each.kind is None), grid.center_lps
    centers = on.centers()
    linears = np.array([_linear_part(each, grid) for each in maps])
    total, turns = np.zeros((*on.shape_dhw, 3)), []
    for each, linear in zip(maps, linears, strict=True):
        pose = nearest_linear(linear, "rigid", center)
        turns.append(pose[:3, :3])
        total += each.on_grid(on, np.linalg.inv(pose)) - centers
    shape = from_displacement((total / len(maps)).astype(np.float32), on, grid)
    # The center is where it is on average of all maps.
    middle = linears.mean(axis=0)
    to_center = np.linalg.solve(middle[:3, :3], center - middle[:3, 3])
    turned = np.eye(4)
    turned[:3, :3] = _turn(np.mean(turns, axis=0))
    turned[:3, 3] = center - turned[:3, :3] @ shape.apply(to_center)[0]
    back, _ = invert(replace(shape, affine_lps=turned @ shape.affine_lps), grid)
    return back


def after(first: PhysicalTransform, second: PhysicalTransform, grid: VolumeGrid) -> PhysicalTransform:
    """The map that takes a point through the first map, then through the second one; linear where both are."""
    if first.kind is None or second.kind is None:
        return composed(first, second, grid)
    kind = max(str(first.kind), str(second.kind), key=_WIDER.index)
    return PhysicalTransform.from_affine(second.affine_lps @ first.affine_lps, kind)


def _linear_mean_inverse(maps: Sequence[PhysicalTransform], center: np.ndarray) -> PhysicalTransform:
    linears = np.array([each.affine_lps[:3, :3] for each in maps])
    turns = [_turn(linear) for linear in linears]
    stretch = np.mean([turn.T @ linear for turn, linear in zip(turns, linears, strict=True)], axis=0)
    back = np.eye(4)
    back[:3, :3] = np.linalg.inv(_turn(np.mean(turns, axis=0)) @ stretch)
    # The center is where it is on average of all maps.
    shift = np.mean([each.affine_lps[:3, 3] for each in maps], axis=0)
    back[:3, 3] = np.linalg.solve(linears.mean(axis=0), center - shift) - back[:3, :3] @ center
    return PhysicalTransform.from_affine(back, max((str(each.kind) for each in maps), key=_WIDER.index))


def _linear_part(transform: PhysicalTransform, grid: VolumeGrid) -> np.ndarray:
    """4 x 4, LPS mm: the affine map nearest to a map over a grid."""
    axes = [np.linspace(0, n - 1, _FIT_POINTS) for n in grid.size_ijk]
    points = grid.points(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3))
    return fit_linear(points, transform.apply(points))


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
