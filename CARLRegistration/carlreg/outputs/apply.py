"""Transforms from files put to use: on volumes, on points, and judged on a pair."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, InputError
from ..io.nifti_writing import rounded_mantissa, write_nifti_gz
from ..physical import PhysicalTransform, invert
from ..physical.transform import affine_from_sitk, check_affine, field_image, flatten, slab_ranges
from ..progress import Progress, StageTiming, peak_memory_mb
from ..quality import metrics
from ..quality.measure import background_of, measure, read_uncertainty
from ..quality.verdict import verdict
from ..spaces import VolumeGrid
from ..volumes import Volume, read_transform, read_volume
from .write import judge

log = logging.getLogger(__name__)

INTERPOLATORS = {
    "linear": sitk.sitkLinear,
    "nearest": sitk.sitkNearestNeighbor,
    "bspline": sitk.sitkBSpline,
    "sinc": sitk.sitkLanczosWindowedSinc,
}
COLUMNS = ("x", "y", "z")
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


def apply_to_image(
    transform_path: str | os.PathLike,
    input_path: str | os.PathLike | sitk.Image,
    *,
    reference: str | os.PathLike | sitk.Image | None = None,
    interpolation: str = "linear",
) -> sitk.Image:
    """A volume or label map resampled through a transform, in its own pixel type.

    Args:
        transform_path: fixed to moving points. input_path: an image of the moving side.
        reference: image whose grid the output gets. Without one: the grid that `settings.json` beside the transform
            names (the fixed grid, for `inverse_transform.h5` the moving one), else the input's own grid.
        interpolation: 'linear', 'nearest' (label maps), 'bspline' or 'sinc' (Lanczos window).
    Outside the input: its minimum, air for CT; 0 with 'nearest'.
    """
    _check_interpolation(interpolation)
    transform = load_transform(transform_path)
    image = input_path if isinstance(input_path, sitk.Image) else read_volume(input_path, "input").image
    return resample(image, transform, _output_grid(transform_path, image, reference), interpolation)


def resample(
    image: sitk.Image, transform: sitk.Transform, grid: VolumeGrid, interpolation: str = "linear"
) -> sitk.Image:
    """A scalar volume on a grid through a transform (the grid's points to the volume's), in its own pixel type."""
    _check_interpolation(interpolation)
    outside = 0.0 if interpolation == "nearest" else background_of(image)
    pixel_type = image.GetPixelID()
    whole = pixel_type not in (sitk.sitkFloat32, sitk.sitkFloat64)
    blended = interpolation != "nearest" and whole
    # Splines overshoot: values are rounded and kept in the type's range afterwards.
    wide = sitk.sitkFloat64 if image.GetSizeOfPixelComponent() >= 4 else sitk.sitkFloat32
    resampled = sitk.Resample(
        image,
        grid.size_ijk,
        transform,
        INTERPOLATORS[interpolation],
        grid.origin_lps.tolist(),
        grid.spacing.tolist(),
        grid.direction.ravel().tolist(),
        outside,
        wide if blended else pixel_type,
    )
    if blended:
        limits = np.iinfo(sitk.GetArrayViewFromImage(image).dtype)
        resampled = sitk.Cast(sitk.Round(sitk.Clamp(resampled, wide, limits.min, limits.max)), pixel_type)
    return resampled


def _check_interpolation(interpolation: str) -> None:
    if interpolation not in INTERPOLATORS:
        raise InputError(f"interpolation: expected one of {', '.join(INTERPOLATORS)}; got {interpolation!r}.")


def apply_to_points(transform_path: str | os.PathLike, csv_path: str | os.PathLike) -> str:
    """The text of a CSV file with its points mapped: columns x, y, z in LPS mm, other columns kept.

    Points go where the transform sends them: `transform.h5` takes fixed points to moving points,
    `inverse_transform.h5` moving points to fixed points.
    """
    transform = load_transform(transform_path)
    name = Path(csv_path).name
    try:
        with open(csv_path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            header = [column.strip() for column in reader.fieldnames or []]
            reader.fieldnames = header
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{name}: cannot be read as a CSV text file.") from error
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise InputError(f"{name}: expected a CSV file with columns x, y, z (LPS mm); {', '.join(missing)} not found.")
    if not rows:
        raise InputError(f"{name}: expected at least one point, got none.")
    out = io.StringIO()
    writer = csv.DictWriter(out, header, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for number, row in enumerate(rows, start=2):
        mapped = transform.TransformPoint(_point(row, name, number))
        writer.writerow({**row, **{c: f"{value:.6f}" for c, value in zip(COLUMNS, mapped, strict=True)}})
    return out.getvalue()


def evaluate(
    transform: str | os.PathLike | sitk.Transform | PhysicalTransform,
    fixed: Volume,
    moving: Volume,
    *,
    labels: tuple[sitk.Image, sitk.Image | None] | None = None,
    label_names: Mapping[int, str] | None = None,
    landmarks: tuple[np.ndarray, np.ndarray] | None = None,
    fixed_mask: sitk.Image | None = None,
    uncertainty: str | os.PathLike | None = None,
    warped_path: str | os.PathLike | None = None,
    jacobian_path: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> dict:
    """The figures of `quality.json` for any transform that ITK reads (fixed points to moving points, LPS mm).

    Transforms that are not one affine after one displacement field are sampled on the fixed grid (said in `notes`);
    landmarks go through the transform itself.

    Args: labels: fixed and moving label maps; the fixed one alone gives the segments' volume changes. uncertainty: an
        `uncertainty.nii.gz` of this fixed volume. warped_path, jacobian_path: .nii.gz files to write.
    """
    begin = time.perf_counter()
    physical, apply, sampled = _as_physical(transform, fixed.grid)
    if progress is not None:
        progress.check()
    inverse, inverse_report = invert(physical, moving.grid)
    if progress is not None:
        progress.check()
    measured = measure(
        physical,
        inverse,
        fixed,
        moving,
        fixed_mask=fixed_mask,
        labels=labels,
        label_names=label_names,
        landmarks=landmarks,
        apply=apply,
        progress=progress,
    )
    if uncertainty is not None:
        values = read_uncertainty(uncertainty, fixed.grid)
        measured.quality["uncertainty"] = metrics.uncertainty_figures(values, measured.body)
    if warped_path is not None:
        write_nifti_gz(warped_path, measured.warped, fixed.grid)
    if jacobian_path is not None:
        write_nifti_gz(jacobian_path, rounded_mantissa(measured.jacobian), fixed.grid)
    notes = {**measured.quality["notes"], "inverse_nodes_without_inverse": inverse_report["without_inverse"]}
    if sampled is not None:
        notes["sampled_at_mm"] = sampled
    timing = StageTiming("evaluate", time.perf_counter() - begin, peak_memory_mb())
    return {
        "verdict": verdict(measured.quality),
        **{key: value for key, value in measured.quality.items() if key != "notes"},
        "start": "given transform",
        "stages": [asdict(timing)],
        "warnings": judge(measured.quality, moving, inverse_report),
        "notes": notes,
    }


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


def _as_physical(
    transform, fixed_grid: VolumeGrid
) -> tuple[PhysicalTransform, Callable[[np.ndarray], np.ndarray], float | None]:
    if isinstance(transform, PhysicalTransform):
        return transform, transform.apply, None
    if not isinstance(transform, sitk.Transform):
        transform = load_transform(transform)
    try:
        physical = PhysicalTransform.from_sitk(transform)
        return physical, physical.apply, None
    except GeometryError:
        raise
    except InputError:
        log.info("A general transform: its displacement is sampled on the fixed grid.")
    physical = sample_transform(transform, fixed_grid)

    def apply(points: np.ndarray) -> np.ndarray:
        return np.array([transform.TransformPoint(point) for point in np.asarray(points, dtype=float).tolist()])

    return physical, apply, float(physical.grid.spacing.max())


def _output_grid(transform_path, image: sitk.Image, reference) -> VolumeGrid:
    if isinstance(reference, sitk.Image):
        return VolumeGrid.of(reference)
    if reference is not None:
        return read_volume(reference, "reference").grid
    beside = Path(transform_path).expanduser().resolve().parent / "settings.json"
    side = "moving" if Path(transform_path).name.startswith("inverse") else "fixed"
    try:
        grid = json.loads(beside.read_text(encoding="utf-8"))["inputs"][side]
        return VolumeGrid(grid["size"], grid["spacing"], grid["origin"], grid["direction"])
    except (OSError, ValueError, KeyError, TypeError):
        log.info("No reference and no settings.json beside the transform: the output gets the input's own grid.")
        return VolumeGrid.of(image)


def _point(row: dict, name: str, line: int) -> list[float]:
    try:
        point = [float(row[column]) for column in COLUMNS]
    except (TypeError, ValueError):
        point = [float("nan")]
    if not np.isfinite(point).all():
        raise InputError(f"{name}, line {line}: expected three numbers in mm, got {[row[c] for c in COLUMNS]}.")
    return point
