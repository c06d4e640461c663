"""Any transform as one displacement field on a grid, slab by slab, and the error that this makes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, InputError
from ..io.itk_transform import field_image, flatten, map_points
from ..io.numbers import within_reach
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..physical import PhysicalTransform
from ..physical.interpolate import trilinear_at
from ..physical.transform import slab_ranges
from ..spaces import VolumeGrid, apply_affine

_SLAB_VOXELS = 2**18
_ERROR_SIZE = 32
# Where nothing names a grid: a field of the fixed volume's own voxels up to so many nodes, a coarser one above.
_MOST_NODES = 8_000_000


def displacement(
    transform: sitk.Transform,
    grid: VolumeGrid,
    dtype: np.dtype | type = np.float64,
    check: Callable[[], None] | None = None,
) -> np.ndarray:
    """(D, H, W, 3) displacements in LPS mm at a grid's voxels, in slabs: one field in memory, the result.

    check: called between slabs; may raise to stop.
    """
    out = np.empty((*grid.shape_dhw, 3), dtype=dtype)
    for start, stop in slab_ranges(grid, _SLAB_VOXELS):
        if check is not None:
            check()
        out[start:stop] = _slab(transform, grid, start, stop)
    return out


def _slab(transform: sitk.Transform, grid: VolumeGrid, start: int, stop: int) -> np.ndarray:
    size = grid.size_ijk
    part = grid.cropped((0, 0, start), (size[0], size[1], stop))
    return sitk.GetArrayFromImage(field_image(transform, part))


def field_transform(image: sitk.Image) -> sitk.DisplacementFieldTransform:
    """A displacement field transform of a vector image (mm, LPS)."""
    return sitk.DisplacementFieldTransform(sitk.Cast(image, sitk.sitkVectorFloat64))


def checked_field(field_dhw3: np.ndarray, grid: VolumeGrid, label: str) -> sitk.DisplacementFieldTransform:
    """A displacement field transform of an array (mm, LPS). Raises InputError for values that lead nowhere."""
    return field_transform(grid.image(within_reach(field_dhw3, label)))


def field_of(transform: sitk.Transform) -> sitk.Image | None:
    """The displacement field in a transform, when there is exactly one."""
    parts = [part for part in flatten(transform) if "DisplacementField" in part.GetName()]
    return sitk.DisplacementFieldTransform(parts[0]).GetDisplacementField() if len(parts) == 1 else None


def affine_after_field(transform: sitk.Transform) -> PhysicalTransform | None:
    """The engine's own form (a field, then an affine) when a transform has it."""
    try:
        return PhysicalTransform.from_sitk(transform)
    except GeometryError:
        raise
    except InputError:
        return None


def default_grid(
    transform: sitk.Transform, fixed: VolumeGrid | None, spacing_mm: float | None = None, like: VolumeGrid | None = None
) -> VolumeGrid:
    """The grid a field is written on.

    like: taken as it is. Else the transform's own field (exact there), at `spacing_mm` when given; else the fixed
    volume and two voxels around, at most 8 million nodes unless `spacing_mm` says otherwise.
    Raises InputError when there is neither a field nor a fixed volume, GeometryError when they lie apart.
    """
    if like is not None:
        return like if spacing_mm is None else like.with_spacing(spacing_mm)
    # A field that does not act first lies in another space than the fixed volume's.
    acts_first = "DisplacementField" in flatten(transform)[-1].GetName()
    field = field_of(transform) if acts_first else None
    if field is not None:
        grid = VolumeGrid.of(field)
        if fixed is not None:
            require_overlap(grid, fixed, "the transform's field", "the fixed volume")
        return grid if spacing_mm is None else grid.with_spacing(spacing_mm)
    if fixed is None:
        raise InputError(
            "The transform has no field of its own: name the fixed volume, whose grid it then gets (--fixed)."
        )
    if spacing_mm is not None:
        return fixed.with_spacing(spacing_mm).padded(2 * spacing_mm)
    grid = fixed.padded(2 * fixed.spacing)
    if grid.voxel_count > _MOST_NODES:
        grid = grid.with_spacing(grid.spacing * (grid.voxel_count / _MOST_NODES) ** (1 / 3))
    return grid


def require_overlap(first: VolumeGrid, second: VolumeGrid, first_name: str, second_name: str) -> None:
    """Raise GeometryError when the boxes of two grids have nothing in common."""
    index = first.index(second.corners_lps())
    low, high = index.min(axis=0), index.max(axis=0)
    if np.any(high < -0.5) or np.any(low > np.asarray(first.size_ijk) - 0.5):
        a, b = np.round(first.center_lps, 1).tolist(), np.round(second.center_lps, 1).tolist()
        raise GeometryError(
            f"{first_name} and {second_name} lie apart: centers {a} and {b} (LPS mm), no point in common. Does the "
            "transform belong to this volume, and is its convention (LPS or RAS) right?"
        )


def lattice(grid: VolumeGrid, max_size: int) -> VolumeGrid:
    """At most max_size^3 points spread evenly over a grid's box."""
    return grid.resized(np.minimum(np.asarray(grid.size_ijk), max_size))


def spread_points(over: VolumeGrid) -> np.ndarray:
    """N x 3 points (LPS mm) all over a box, each anywhere in a cell of its own, so that no lattice is favored."""
    cells = lattice(over, _ERROR_SIZE)
    index = cells.indices().reshape(-1, 3) + np.random.default_rng(0).uniform(-0.5, 0.5, (cells.voxel_count, 3))
    return cells.points(index)


def sampling_error(
    transform: sitk.Transform,
    affine_lps: np.ndarray,
    field_dhw3: np.ndarray,
    grid: VolumeGrid,
    over: VolumeGrid,
) -> dict:
    """How far an affine after a field, read linearly between its nodes, is off a transform: mm over a box."""
    x = spread_points(over)
    rows = tensor_from_array(field_dhw3).reshape(-1, 3)
    found = trilinear_at(rows, grid.shape_dhw, tensor_from_array(grid.index(x)))
    mapped = apply_affine(affine_lps, x + array_from_tensor(found.contiguous()))
    return statistics(np.linalg.norm(mapped - map_points(transform, x), axis=1))


def difference(first: sitk.Transform, second: sitk.Transform, over: VolumeGrid) -> dict:
    """How far two transforms are apart over a box: mean, p99 and max in mm."""
    points = spread_points(over)
    return statistics(np.linalg.norm(map_points(first, points) - map_points(second, points), axis=1))


def statistics(errors_mm: np.ndarray) -> dict:
    """Mean, 99 % and largest of errors, in mm."""
    if not len(errors_mm):
        return {"mean": None, "p99": None, "max": None}
    return {
        "mean": float(errors_mm.mean()),
        "p99": float(np.quantile(errors_mm, 0.99)),
        "max": float(errors_mm.max()),
    }
