"""One transform on many files: volumes, label maps, sequences, points, markups and models."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..io.checks import existing_path
from ..io.itk_transform import is_linear, map_points
from ..io.points import map_points_file
from ..outputs.resample import INTERPOLATORS, resample
from ..physical import jacobian_determinant
from ..physical.general import sample_transform
from ..spaces import VolumeGrid
from ..volumes import read_image, write_image
from ..volumes.geometry import first_frame
from . import surfaces
from .catalog import kind_of
from .fields import affine_after_field, require_overlap
from .inverting import map_points_back
from .opening import Opened, chosen

GRIDS = ("first", "own")
_EXACT = 1e-3  # of a voxel: points that are less off are where they belong
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Applying:
    """How files are mapped.

    opened: the transform; volumes of its second side are resampled onto the first. reference: image whose grid volumes
    get; else `grid`: 'first' (the first side's volume) or 'own' (its box at the spacing of the volume that is mapped).
    mass_preserving: intensities times the determinant of the Jacobian, so that sums over regions are kept.
    points_follow: points, curves and models belong to the second side and go with its volumes, to the first; else they
    go where the transform sends them, from the first side to the second. model_space: of models that do not tell.
    warn: is told what a user should know about an input although it can be used.
    frame_group: which volume of DICOM inputs that hold several, from 1.
    """

    opened: Opened
    reference: VolumeGrid | None = None
    grid: str = "first"
    interpolation: str = "linear"
    mass_preserving: bool = False
    points_follow: bool = False
    model_space: str | None = None
    frame_group: int | None = None
    check: Callable[[], None] | None = None
    warn: Callable[[str], None] = log.warning

    def __post_init__(self) -> None:
        if self.grid not in GRIDS:
            raise InputError(f"--grid: expected one of {', '.join(GRIDS)}; got {self.grid!r}.")
        if self.interpolation not in INTERPOLATORS:
            raise InputError(
                f"--interpolation: expected one of {', '.join(INTERPOLATORS)}; got {self.interpolation!r}."
            )
        if self.mass_preserving and self.interpolation == "nearest":
            raise InputError("--mass-preserving scales intensities; labels (nearest) have none to scale.")


def apply_to_file(plan: Applying, path: str | os.PathLike, out: Path) -> str:
    """Map one file and write it; returns one line about what was done. Raises InputError, GeometryError, OSError."""
    file = existing_path(path, "input")
    kind = kind_of(file)
    if kind == "image":
        return _image(plan, file, out)
    first, second = plan.opened.sides.names
    voxel_mm = min((float(grid.spacing.min()) for grid in plan.opened.sides.grids if grid is not None), default=1.0)
    worst = 0.0

    def mapping(given: np.ndarray) -> np.ndarray:
        nonlocal worst
        if not plan.points_follow:
            return map_points(plan.opened.transform, given)
        if is_linear(plan.opened.transform):
            return map_points(plan.opened.transform.GetInverse(), given)
        inverse = chosen(plan.opened, "inverse", check=plan.check).transform
        found, error = map_points_back(plan.opened.transform, inverse, given, voxel_mm)
        worst = max(worst, float(error.max()))
        return found

    if kind == "points":
        out.write_text(map_points_file(file, mapping), encoding="utf-8")
    else:
        surfaces.map_surface(file, out, mapping, plan.model_space)
    way = f"{second} to {first}" if plan.points_follow else f"{first} to {second}"
    off = f", up to {worst:.3g} mm from the exact inverse" if worst > _EXACT * voxel_mm else ""
    return f"{way} points{off}"


def grid_of(path: str | os.PathLike, frame_group: int | None = None) -> VolumeGrid:
    """Where an image's voxels lie; of a sequence its frames'."""
    return VolumeGrid.of(first_frame(read_image(path, "input", frame_group=frame_group)[0]))


def _image(plan: Applying, file: Path, out: Path) -> str:
    image, notes = read_image(file, "input", frame_group=plan.frame_group)
    for note in notes:
        plan.warn(note)
    frames = image.GetSize()[3] if image.GetDimension() == 4 else 1
    first = first_frame(image)
    grid = _output_grid(plan, first)
    moving = plan.opened.sides.grids[1]
    if moving is not None:
        require_overlap(VolumeGrid.of(first), moving, file.name, f"the {plan.opened.sides.names[1]} volume")
    factor = _modulation(plan, grid) if plan.mass_preserving else None

    def mapped(frame: sitk.Image) -> sitk.Image:
        if plan.check is not None:
            plan.check()
        if frame.GetNumberOfComponentsPerPixel() > 1:
            parts = [
                mapped(sitk.VectorIndexSelectionCast(frame, n)) for n in range(frame.GetNumberOfComponentsPerPixel())
            ]
            return sitk.Compose(parts)
        if factor is None:
            return resample(frame, plan.opened.transform, grid, plan.interpolation)
        # Beyond the volume there is no mass, and a product need not be whole.
        frame = sitk.Cast(frame, sitk.sitkFloat32)
        return _beyond_is_zero(frame, plan, grid) * factor

    if image.GetDimension() == 4:
        result = sitk.JoinSeries(
            [mapped(image[:, :, :, n]) for n in range(frames)], image.GetOrigin()[3], image.GetSpacing()[3]
        )
    else:
        result = mapped(image)
        segments = file.name.lower().endswith(".seg.nrrd")
        for key in image.GetMetaDataKeys():
            if (segments or image.GetNumberOfComponentsPerPixel() > 1) and not key.startswith(("NRRD_", "ITK_")):
                result.SetMetaData(key, image.GetMetaData(key))
        if segments:
            _unbounded(result)
    write_image(result, out)
    if file.name.lower().endswith(".seq.nrrd"):
        _mark_as_list(out)
    size = " x ".join(str(n) for n in grid.size_ijk)
    what = f"{frames} frames, " if frames > 1 else ""
    scaled = ", times the Jacobian" if factor is not None else ""
    return f"{what}{size} voxels, {plan.interpolation}{scaled}"


def _unbounded(image: sitk.Image) -> None:
    """A segmentation file says in which voxels each segment lies; moved, it may be anywhere."""
    everywhere = " ".join(f"0 {n - 1}" for n in image.GetSize()[:3])
    for key in image.GetMetaDataKeys():
        if re.fullmatch(r"Segment\d+_Extent", key):
            image.SetMetaData(key, everywhere)
        elif key == "Segmentation_ReferenceImageExtentOffset":
            image.SetMetaData(key, "0 0 0")


def _output_grid(plan: Applying, image: sitk.Image) -> VolumeGrid:
    if plan.reference is not None:
        return plan.reference
    first, name = plan.opened.sides.grids[0], plan.opened.sides.names[0]
    if first is None:
        raise InputError(
            f"The output's grid is not known: name the {name} volume (--{name}) or another image (--reference)."
        )
    if plan.grid == "first":
        return first
    own = VolumeGrid.of(image)
    center = first.center_lps
    # The volume's axes are turned by the transform's linear part: each output axis gets the spacing of the nearest.
    step = 0.5 * float(min(first.extent_mm))
    ends = map_points(plan.opened.transform, np.vstack([center, *(center + step * first.direction.T)]))
    along = np.abs(own.direction.T @ (ends[1:] - ends[0]).T)
    nearest = along.argmax(axis=0)
    spacing = own.spacing[nearest] if len(set(nearest.tolist())) == 3 else np.full(3, own.spacing.min())
    return first.with_spacing(spacing)


def _modulation(plan: Applying, grid: VolumeGrid) -> sitk.Image:
    physical = affine_after_field(plan.opened.transform) or sample_transform(plan.opened.transform, grid)
    values = np.abs(jacobian_determinant(physical, grid))
    return grid.image(values)


def _beyond_is_zero(frame: sitk.Image, plan: Applying, grid: VolumeGrid) -> sitk.Image:
    return sitk.Resample(
        frame,
        grid.size_ijk,
        plan.opened.transform,
        INTERPOLATORS[plan.interpolation],
        grid.origin_lps.tolist(),
        grid.spacing.tolist(),
        grid.direction.ravel().tolist(),
        0.0,
        sitk.sitkFloat32,
    )


def _mark_as_list(file: Path) -> None:
    """A sequence's first axis is a list of frames for 3D Slicer, not the components of vectors."""
    head, rest = file.read_bytes().split(b"\n\n", 1)
    file.write_bytes(head.replace(b"kinds: vector", b"kinds: list") + b"\n\n" + rest)
