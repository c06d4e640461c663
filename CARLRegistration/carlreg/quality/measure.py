"""One pass over the fixed grid gives the warped volume and the Jacobian; both and the map give the metrics."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import Cancelled, GeometryError, InputError
from ..io.checks import existing_path
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..physical import PhysicalTransform
from ..physical.interpolate import inside_index, lattice_affine, sample_at_index
from ..physical.jacobian import slab_determinant
from ..physical.transform import slab_ranges
from ..physical.workers import in_threads
from ..preprocess import without_filling
from ..progress import Progress
from ..spaces import VolumeGrid, apply_affine
from ..volumes import Volume
from ..volumes.reading import read_file
from . import metrics, segments
from .labels import image_of, label_array, label_overlap, onto, without_counterpart
from .limits import NO_OVERLAP_PERCENT, UNLIKE_BEFORE_PERCENT

log = logging.getLogger(__name__)
MEASURED_VOXELS = 8_000_000
_INVERSE_POINTS = 100_000
_AIR_HU = -1024.0
_FARTHEST_MM = 1e7


@dataclass
class Measured:
    """What one pass gives: `warped` (moving's pixel type) and `jacobian` on the fixed grid, and the metrics."""

    warped: np.ndarray
    jacobian: np.ndarray
    body: np.ndarray
    metrics: dict
    before_lps: np.ndarray  # 4x4, the alignment that 'before' means


def measure(
    transform: PhysicalTransform,
    inverse: PhysicalTransform | None,
    fixed: Volume,
    moving: Volume,
    *,
    fixed_mask: Volume | sitk.Image | None = None,
    fixed_modality: str = "auto",
    labels: tuple[sitk.Image, sitk.Image | None] | None = None,
    label_names: Mapping[int, str] | None = None,
    landmarks: tuple[np.ndarray, np.ndarray] | None = None,
    apply: Callable[[np.ndarray], np.ndarray] | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Warp, differentiate and measure. Filling around the fixed field of view is no part of the body.

    fixed_modality: 'auto' | 'ct' | 'mr', to tell filling by.
    labels: fixed and moving label maps; without a moving one the segments' volume changes are all they give.
    label_names: names of segments by value, beside those that a .seg.nrrd file brings along.
    apply: the exact map for points, where `transform` is an approximation of it. Other arguments as in `evaluate`.
    """
    fixed_grid, moving_grid = fixed.grid, moving.grid
    fixed_array = without_filling(fixed, fixed_modality).array
    body = _body(fixed_array, fixed_mask, fixed_grid)
    step = lattice_step(fixed_grid)
    lattice = subsampled(fixed_grid, step)
    at = (slice(0, None, step),) * 3
    fixed_lattice, body_lattice = np.ascontiguousarray(fixed_array[at]), np.ascontiguousarray(body[at])
    del fixed_array
    # Of the whole body, whatever part of it a mask has.
    body_mm = metrics.size_mm(body_lattice if fixed_mask is None else metrics.body_of(fixed_lattice), lattice)

    before_lps, before_name = alignment_before(fixed_grid, moving_grid, lattice, body_lattice)
    moving_tensor = tensor_from_array(moving.array)[None]
    dtype = sitk.GetArrayViewFromImage(moving.image).dtype
    warped, inside, jacobian = warp(transform, fixed_grid, moving_grid, moving_tensor, dtype, progress)
    overlap_percent = 100.0 * float(np.count_nonzero(inside & body) / np.count_nonzero(body))

    before, before_inside = affine_resampled(before_lps, lattice, moving_grid, moving_tensor)
    ranges = (
        metrics.percentiles(fixed_lattice),
        metrics.percentiles(array_from_tensor(moving_tensor[0, ::step, ::step, ::step])),
    )
    del moving_tensor
    alignments = (
        (fixed_lattice, before, before_inside, body_lattice, ranges),
        (fixed_lattice, warped[at].astype(np.float32), np.ascontiguousarray(inside[at]), body_lattice, ranges),
    )
    similarity = dict(zip(("before", "after"), in_threads(_similarity, alignments), strict=True))
    _check(progress)
    quality = {
        "similarity": similarity,
        "jacobian": {
            **metrics.jacobian_metrics(jacobian, body),
            **metrics.fold_regions(jacobian, body, fixed_grid),
        },
        "size": metrics.size_change(transform.affine_lps),
        "inverse_error_mm": None,
        "overlap_percent": overlap_percent,
        "labels": None,
        "segments": None,
        "landmarks": None,
        "uncertainty": None,
        "notes": {
            "before": before_name,
            "body": "fixed mask" if fixed_mask is not None else "fixed intensities",
            "similarity_lattice_step": step,
            "lncc_window": metrics.LNCC_WINDOW,
            "mi_bins": metrics.MI_BINS,
            "moving_voxel_mm": float(moving_grid.spacing.min()),
            "fixed_voxel_mm": float(np.exp(np.log(fixed_grid.spacing).mean())),
            "fixed_body_mm": body_mm,
        },
    }
    if inverse is not None:
        quality["inverse_error_mm"] = inverse_error(transform, inverse, fixed_grid, moving_grid, body)
    points = body_points(body, fixed_grid)
    quality["notes"]["field_covers_percent"] = field_cover(transform, points)
    if inverse is not None and overlap_percent < NO_OVERLAP_PERCENT:
        quality["notes"]["overlap_percent_of_inverse"] = 100.0 * float(
            moving_grid.contains(inverse.apply(points)).mean()
        )
    _check(progress)
    if labels is not None:
        _measure_labels(quality, transform, before_lps, fixed, jacobian, labels, label_names, progress)
    _check(progress)
    if landmarks is not None:
        with _left_out(quality, "landmarks"):
            quality["landmarks"] = landmark_errors(apply or transform.apply, before_lps, landmarks)
    return Measured(warped, jacobian, body, quality, before_lps)


@contextmanager
def _left_out(quality: dict, name: str) -> Iterator[None]:
    """What cannot be measured is named in the notes, and everything else is kept."""
    try:
        yield
    except Cancelled:
        raise
    except Exception as error:
        log.debug("%s could not be measured", name, exc_info=True)
        quality["notes"].setdefault("not_measured", {})[name] = str(error) or type(error).__name__


def _measure_labels(
    quality: dict, transform, before_lps, fixed: Volume, jacobian, labels, label_names, progress
) -> None:
    with _left_out(quality, "segments"):
        names = {**segments.label_names(image_of(labels[0])), **(label_names or {})}
        on_fixed = label_array(onto(labels[0], fixed.image))
        quality["segments"] = segments.volume_changes(on_fixed, jacobian, fixed.grid, names)
        del on_fixed
    _check(progress)
    if labels[1] is not None:
        with _left_out(quality, "labels"):
            quality["labels"] = label_overlap(transform, before_lps, labels[0], labels[1])
            quality["notes"]["labels_without_counterpart"] = without_counterpart(labels[0], labels[1])


def read_uncertainty(path: str | os.PathLike, fixed_grid: VolumeGrid) -> np.ndarray:
    """(D, H, W) float32, mm on the fixed grid, NaN where unknown, from an `uncertainty.nii.gz`.

    Raises InputError when it is no image, GeometryError when it lies on another grid.
    """
    file = existing_path(path, "uncertainty")
    name = file.name
    if file.is_dir():
        raise InputError(f"uncertainty ({name}): expected a volume as carlreg writes it, got a folder.")
    image, _ = read_file(file, f"uncertainty ({name})")
    grid = VolumeGrid.of(image)
    if not grid.same_as(fixed_grid, tolerance=0.01):
        raise GeometryError(
            f"uncertainty ({name}): expected the fixed volume's grid of {fixed_grid.size_ijk} voxels, got another. "
            "Give the uncertainty.nii.gz that was written for this fixed volume."
        )
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    values[~(values > 0)] = np.nan  # what other programs write where nothing is known, which no bound is
    return values


def lattice_step(grid: VolumeGrid) -> int:
    """Similarity is measured on every n-th voxel of volumes above 8 million."""
    return max(1, int(np.ceil((grid.voxel_count / MEASURED_VOXELS) ** (1 / 3) - 1e-9)))


def subsampled(grid: VolumeGrid, step: int) -> VolumeGrid:
    """The lattice of every n-th voxel, beginning with the first."""
    i, j, k = (-(-n // step) for n in grid.size_ijk)
    return VolumeGrid((i, j, k), grid.spacing * step, grid.origin_lps, grid.direction)


def background_of(moving: Volume | sitk.Image) -> float:
    """What lies outside a volume: its minimum, but for CT padded below air, air."""
    low = float(sitk.GetArrayViewFromImage(image_of(moving)).min())
    return max(low, _AIR_HU) if low < -500.0 else low


def warp(
    transform: PhysicalTransform,
    fixed_grid: VolumeGrid,
    moving_grid: VolumeGrid,
    moving_1dhw: torch.Tensor,
    dtype: np.dtype,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(warped in `dtype`, inside bool, Jacobian float32), all on the fixed grid, in slabs."""
    low = float(moving_1dhw.min())
    background = max(low, _AIR_HU) if low < -500.0 else low
    dtype = np.dtype(np.float32) if dtype.kind == "f" else np.dtype(dtype)
    warped = np.empty(fixed_grid.shape_dhw, dtype=dtype)
    inside = np.empty(fixed_grid.shape_dhw, dtype=bool)
    jacobian = np.empty(fixed_grid.shape_dhw, dtype=np.float32)

    def work(start: int, stop: int, displacement: torch.Tensor) -> None:
        jacobian[start:stop] = array_from_tensor(slab_determinant(transform, displacement, fixed_grid))
        inner = displacement[:, 1:-1, 1:-1, 1:-1]
        index = transform.positions(fixed_grid, start, stop, inner, moving_grid.ijk_from_lps)
        within = inside_index(index, moving_grid.size_ijk)
        values = sample_at_index(moving_1dhw, index, background, within)[0]
        if dtype.kind != "f":
            values = values.round_()
        warped[start:stop] = array_from_tensor(values).astype(dtype)
        inside[start:stop] = array_from_tensor(within)

    for _, stop, _ in transform.over_slabs(fixed_grid, work, halo=1):
        if progress is not None:
            progress.update(0.8 * stop / fixed_grid.size_ijk[2], "warping")
    return warped, inside, jacobian


def alignment_before(
    fixed_grid: VolumeGrid, moving_grid: VolumeGrid, lattice: VolumeGrid, body: np.ndarray
) -> tuple[np.ndarray, str]:
    """(4x4, name): the headers as they are where the volumes overlap (5 % of the body), else centers aligned."""
    coarse = max(1, round((lattice.voxel_count / 1e6) ** (1 / 3)))
    index = _index_on(subsampled(lattice, coarse), moving_grid, np.eye(4))
    inside = array_from_tensor(inside_index(index, moving_grid.size_ijk))
    body = body[::coarse, ::coarse, ::coarse]
    if np.count_nonzero(inside & body) >= UNLIKE_BEFORE_PERCENT / 100 * max(np.count_nonzero(body), 1):
        return np.eye(4), "headers as they are"
    shift = np.eye(4)
    shift[:3, 3] = moving_grid.center_lps - fixed_grid.center_lps
    return shift, "centers aligned"


def affine_resampled(
    affine_lps: np.ndarray, grid: VolumeGrid, moving_grid: VolumeGrid, moving_1dhw: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """(values float32, inside bool) of the moving volume under an affine, in slabs of a lattice."""
    values = np.empty(grid.shape_dhw, dtype=np.float32)
    inside = np.empty(grid.shape_dhw, dtype=bool)
    low = float(moving_1dhw.min())

    def work(start: int, stop: int) -> None:
        index = _index_on(grid, moving_grid, affine_lps, start, stop)
        within = inside_index(index, moving_grid.size_ijk)
        values[start:stop] = array_from_tensor(sample_at_index(moving_1dhw, index, low, within)[0])
        inside[start:stop] = array_from_tensor(within)

    for _ in in_threads(work, slab_ranges(grid)):
        pass
    return values, inside


def inverse_error(
    transform: PhysicalTransform,
    inverse: PhysicalTransform,
    fixed_grid: VolumeGrid,
    moving_grid: VolumeGrid,
    body: np.ndarray,
) -> dict[str, float | int] | None:
    """Distance between body points and their way there and back: mean, p95, max, n.

    At most 100,000 body voxels (the same ones every time); those that map outside the moving volume have no inverse
    to judge and are left out.
    """
    points = body_points(body, fixed_grid)
    mapped = transform.apply(points)
    within = moving_grid.contains(mapped)
    if not within.any():
        return None
    errors = np.linalg.norm(inverse.apply(mapped[within]) - points[within], axis=1)
    return {
        "mean": float(errors.mean()),
        "p95": float(np.percentile(errors, 95)),
        "max": float(errors.max()),
        "n": len(errors),
    }


def body_points(body: np.ndarray, grid: VolumeGrid) -> np.ndarray:
    """N x 3, LPS mm: the body's voxels, at most 100,000 (the same ones every time)."""
    flat = np.flatnonzero(body)
    if len(flat) > _INVERSE_POINTS:
        flat = flat[np.random.default_rng(0).integers(0, len(flat), _INVERSE_POINTS)]
    index = np.stack(np.unravel_index(flat, body.shape)[::-1], axis=1).astype(np.float64)
    return grid.points(index)


def field_cover(transform: PhysicalTransform, points_lps: np.ndarray) -> float | None:
    """Percent of fixed points in the box of the displacement field; None where it displaces nothing."""
    if not transform.displacement_lps.any():
        return None
    return 100.0 * float(transform.grid.contains(points_lps).mean())


def landmark_errors(apply, before_lps: np.ndarray, landmarks: tuple[np.ndarray, np.ndarray]) -> dict:
    """Distances between mapped fixed points and moving points, before and after: mean_mm, max_mm, n, errors_mm."""
    fixed_points, moving_points = (np.asarray(points, dtype=np.float64).reshape(-1, 3) for points in landmarks)
    # Points that are absurdly far away would spoil every figure, or have no distance in these numbers.
    with np.errstate(over="ignore", invalid="ignore"):
        before = np.linalg.norm(apply_affine(before_lps, fixed_points) - moving_points, axis=1)
        near = before < _FARTHEST_MM
        before[~near] = np.nan
        after = np.full(len(before), np.nan)
        if near.any():
            after[near] = np.linalg.norm(apply(fixed_points[near]) - moving_points[near], axis=1)
    return {"before": metrics.error_metrics(before), "after": metrics.error_metrics(after)}


def _similarity(fixed, moving, inside, body, ranges) -> dict[str, float | None]:
    use = inside & body
    a, b = fixed[use], moving[use]
    return {
        "ncc": metrics.ncc(a, b),
        "lncc": metrics.lncc(fixed, moving, inside, use),
        "mi": metrics.mutual_information(a, b, *ranges),
    }


def _body(fixed: np.ndarray, fixed_mask: Volume | sitk.Image | None, grid: VolumeGrid) -> np.ndarray:
    if fixed_mask is None:
        return metrics.body_of(fixed)
    mask = sitk.GetArrayViewFromImage(image_of(fixed_mask)) > 0
    if mask.shape != grid.shape_dhw or not mask.any():
        raise InputError(f"Expected a mask on the fixed grid {grid.shape_dhw} with voxels above 0, got {mask.shape}.")
    return mask


def _index_on(grid: VolumeGrid, moving_grid: VolumeGrid, affine_lps, start: int = 0, stop: int | None = None):
    matrix = moving_grid.ijk_from_lps @ affine_lps @ grid.lps_from_ijk
    ranges = [(0, grid.size_ijk[0]), (0, grid.size_ijk[1]), (start, grid.size_ijk[2] if stop is None else stop)]
    return lattice_affine(matrix, ranges)


def _check(progress: Progress | None) -> None:
    if progress is not None:
        progress.check()
