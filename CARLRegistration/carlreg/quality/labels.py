"""Label maps under a transform: their overlap, their surfaces, and what is odd about them."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch

from ..maps.exchange import array_from_tensor, tensor_from_array
from ..physical import PhysicalTransform
from ..physical.interpolate import inside_index
from ..spaces import VolumeGrid
from ..volumes import Volume
from . import metrics, segments


def image_of(given: Volume | sitk.Image) -> sitk.Image:
    return given.image if isinstance(given, Volume) else given


def label_overlap(
    transform: PhysicalTransform, before_lps: np.ndarray, fixed_labels: sitk.Image, moving_labels: sitk.Image
) -> dict | None:
    """Overlap before and after, over all labels but 0 that both maps have; None without any.

    Each: mean and per_label Dice; surface_mm per label: mean and hausdorff95, None where nothing of it is left.
    """
    fixed_image, moving_image = (image_of(image) for image in (fixed_labels, moving_labels))
    grid, moving_grid = VolumeGrid.of(fixed_image), VolumeGrid.of(moving_image)
    fixed, moving = (label_array(image) for image in (fixed_image, moving_image))
    common = sorted((_present(fixed) & _present(moving)) - {0})
    if not common:
        return None
    # Consecutive numbers: values can be large or negative.
    fixed, moving = (_renumbered(array, common) for array in (fixed, moving))
    numbers = range(1, len(common) + 1)
    still = PhysicalTransform.from_affine(before_lps)
    out = {}
    for when, each in (("before", still), ("after", transform)):
        warped = warp_labels(each, grid, moving, moving_grid)
        dice = metrics.dice_per_label(fixed, warped, numbers)
        per_label = {str(common[n - 1]): dice[n] for n in numbers}
        surfaces = segments.surface_distances(fixed, warped, grid, numbers)
        out[when] = {
            "mean": float(np.mean(list(per_label.values()))),
            "per_label": per_label,
            "surface_mm": {str(common[n - 1]): surfaces[n] for n in numbers},
        }
    return out


def warp_labels(
    transform: PhysicalTransform, grid: VolumeGrid, moving: np.ndarray, moving_grid: VolumeGrid
) -> np.ndarray:
    """Nearest neighbor on a grid, 0 outside; ITK's rounding (halves up)."""
    flat = tensor_from_array(moving).reshape(-1)
    out = np.zeros(grid.shape_dhw, dtype=moving.dtype)

    def work(start: int, stop: int, displacement: torch.Tensor) -> None:
        index = transform.positions(grid, start, stop, displacement, moving_grid.ijk_from_lps)
        within = inside_index(index, moving_grid.size_ijk)
        nearest = (index + 0.5).floor_()
        for axis in range(3):
            nearest[axis].clamp_(0, moving_grid.size_ijk[axis] - 1)
        i, j, k = nearest.long()
        place = (k * moving_grid.size_ijk[1] + j) * moving_grid.size_ijk[0] + i
        out[start:stop] = array_from_tensor(flat[place] * within)

    for _ in transform.over_slabs(grid, work):
        pass
    return out


def onto(image: sitk.Image, reference: sitk.Image) -> sitk.Image:
    """A label map on the fixed grid, nearest neighbor where it was on another."""
    image = image_of(image)
    if VolumeGrid.of(image).same_as(VolumeGrid.of(reference)):
        return image
    return sitk.Resample(image, reference, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0, image.GetPixelID())


def label_array(image: sitk.Image) -> np.ndarray:
    array = sitk.GetArrayFromImage(image)
    return np.rint(array).astype(np.int64) if array.dtype.kind == "f" else array


def _compact(array: np.ndarray) -> bool:
    return bool(array.min() >= 0 and array.max() < 2**16)


def _present(array: np.ndarray) -> set[int]:
    # Counting is ten times faster than sorting.
    values = np.flatnonzero(np.bincount(array.ravel())) if _compact(array) else np.unique(array)
    return {int(value) for value in values}


def _renumbered(array: np.ndarray, common: list[int]) -> np.ndarray:
    if _compact(array):
        table = np.zeros(int(array.max()) + 1, dtype=np.int32)
        for n, value in enumerate(common):
            table[value] = n + 1
        return table[array]
    values, place = np.unique(array, return_inverse=True)
    numbers = {value: n + 1 for n, value in enumerate(common)}
    table = np.array([numbers.get(int(value), 0) for value in values], dtype=np.int32)
    return table[place].reshape(array.shape)


def without_counterpart(fixed_labels, moving_labels) -> dict[str, list[int]]:
    """Labels that only one of the maps has."""
    fixed, moving = (_present(label_array(image_of(image))) - {0} for image in (fixed_labels, moving_labels))
    return {"fixed": sorted(fixed - moving), "moving": sorted(moving - fixed)}
