"""Images on grids for the benchmark: points, crops, poses and resampling, by SimpleITK; all points are LPS mm."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk


def lps_from_ijk(image: sitk.Image) -> np.ndarray:
    """4 x 4 matrix from voxel indices (i, j, k) to LPS mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return matrix


def apply_matrix(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """N x 3 points through a 4 x 4 matrix."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def to_ijk(image: sitk.Image, points_lps: np.ndarray) -> np.ndarray:
    """Continuous voxel indices of N x 3 points."""
    return apply_matrix(np.linalg.inv(lps_from_ijk(image)), points_lps)


def voxel_centers_lps(image: sitk.Image) -> np.ndarray:
    """(D*H*W) x 3 positions of all voxels, in the order of the image's array."""
    i, j, k = (np.arange(n, dtype=np.float64) for n in image.GetSize())
    matrix = lps_from_ijk(image)
    points = (
        k[:, None, None, None] * matrix[:3, 2]
        + j[None, :, None, None] * matrix[:3, 1]
        + i[None, None, :, None] * matrix[:3, 0]
    )
    return (points + matrix[:3, 3]).reshape(-1, 3)


def inside(image: sitk.Image, points_lps: np.ndarray) -> np.ndarray:
    """True where a point lies between the image's first and last voxel centers."""
    ijk = to_ijk(image, points_lps)
    return np.all((ijk >= -1e-6) & (ijk <= np.asarray(image.GetSize()) - 1 + 1e-6), axis=1)


def center_lps(image: sitk.Image) -> np.ndarray:
    """The middle of an image's box."""
    return apply_matrix(lps_from_ijk(image), (np.asarray(image.GetSize()) - 1) / 2.0)


def turn(axis: np.ndarray, degrees: float, center: np.ndarray, shift=(0.0, 0.0, 0.0)) -> sitk.VersorRigid3DTransform:
    """A rotation about a point, and a shift after it."""
    return sitk.VersorRigid3DTransform(
        tuple(map(float, axis)), float(np.deg2rad(degrees)), tuple(map(float, shift)), tuple(map(float, center))
    )


def rigid_matrix(transform: sitk.VersorRigid3DTransform) -> np.ndarray:
    """A rigid transform as 4 x 4 matrix."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    return matrix


def plain_grid(center: np.ndarray, extent_mm, spacing) -> sitk.Image:
    """An empty image with axes along L, P, S around a point."""
    spacing = np.asarray(spacing, dtype=float)
    size = np.ceil(np.asarray(extent_mm) / spacing).astype(int)
    grid = sitk.Image([int(n) for n in size], sitk.sitkUInt8)
    grid.SetSpacing(tuple(spacing))
    grid.SetOrigin(tuple(np.asarray(center) - (size - 1) / 2.0 * spacing))
    return grid


def resample(image: sitk.Image, grid: sitk.Image, transform=None, *, background=0.0, nearest=False) -> sitk.Image:
    """An image on another grid; `transform` maps the grid's points to the image's."""
    method = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
    transform = transform if transform is not None else sitk.Transform(3, sitk.sitkIdentity)
    return sitk.Resample(image, grid, transform, method, float(background), image.GetPixelID())


def gather(image: sitk.Image, grid: sitk.Image, points_lps: np.ndarray, *, background=0.0, nearest=False) -> sitk.Image:
    """An image on another grid whose voxels look at the given points ((D*H*W) x 3, the grid's array order)."""
    field = (points_lps - voxel_centers_lps(grid)).reshape((*grid.GetSize()[::-1], 3))
    field_image = sitk.GetImageFromArray(field, isVector=True)
    field_image.CopyInformation(grid)
    return resample(image, grid, sitk.DisplacementFieldTransform(field_image), background=background, nearest=nearest)


def crop(image: sitk.Image | None, start, stop) -> sitk.Image | None:
    """Voxels [start, stop) of an image, at their places in space."""
    if image is None:
        return None
    size = [int(b - a) for a, b in zip(start, stop, strict=True)]
    return sitk.RegionOfInterest(image, size, [int(a) for a in start])


def pad(image: sitk.Image | None, before, after, value: float) -> sitk.Image | None:
    """An image grown by whole voxels, at its place in space."""
    if image is None:
        return None
    return sitk.ConstantPad(image, [int(n) for n in before], [int(n) for n in after], float(value))


def body_threshold(array: np.ndarray) -> float:
    """What is brighter is body: the 1st percentile plus 5 % of the range from the 1st to the 99th."""
    low, high = np.percentile(array, [1, 99])
    return float(low + 0.05 * (high - low))
