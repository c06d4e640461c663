"""A checked 3-D scan: what enters the engine, from a file, a DICOM folder or a SimpleITK image.

Everything that could spoil a registration later is refused here, with a message that says what to do.
"""

from __future__ import annotations

import hashlib
import math
import os
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, InputError
from ..io.being_read import AS_DICOM, being_read
from ..io.checks import check_kind, existing_path
from ..spaces.grid import VolumeGrid
from . import dicom
from .geometry import checked_grid, first_frame
from .reading import ANY_IMAGE, Accepted, check_values, read_file
from .reading import read_size as read_size_of_file

# A small piece of a body against all of it is 100.
_LARGEST_RATIO = 1000.0


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D scalar volume that passed all checks; made by `read_volume` and `volume_from_image`.

    image: SimpleITK image, 3-D, one component. path: the file or DICOM folder it came from, or None.
    name: short name for messages. dicom: a few DICOM attributes by keyword ("Modality" ...), empty for other files.
    warnings: what a user should know about this volume although it can be used.
    """

    image: sitk.Image
    path: str | None = None
    name: str = "volume"
    dicom: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def grid(self) -> VolumeGrid:
        """Where the voxels lie in patient space (LPS mm)."""
        return VolumeGrid.of(self.image)

    @property
    def array(self) -> np.ndarray:
        """Intensities as a new (D, H, W) float32 array, i.e. indexed [k, j, i]."""
        # Always a copy: SimpleITK's views do not keep their image alive.
        return np.array(sitk.GetArrayViewFromImage(self.image), dtype=np.float32)

    def digest(self) -> str:
        """SHA-256 of what tells volumes apart: voxels, their type, and their place; not names and notes."""
        array, grid = np.ascontiguousarray(sitk.GetArrayViewFromImage(self.image)), self.grid
        found = hashlib.sha256(f"{array.dtype} {grid.size_ijk}".encode())
        found.update(array.data)
        for part in (grid.origin_lps, grid.spacing, grid.direction):
            found.update(np.ascontiguousarray(part, dtype=np.float64).data)
        return found.hexdigest()


def read_volume(
    path: str | os.PathLike, name: str | None = None, *, uniform: bool = False, frame_group: int | None = None
) -> Volume:
    """Read and check one volume.

    Args:
        path: a file, or a folder with one DICOM series. One file of a DICOM series stands for its whole series.
        name: what messages call it, e.g. "fixed image"; default: the file's name.
        uniform: the same value everywhere is fine (an empty label map, a frame before the tracer arrives).
        frame_group: which volume of a DICOM series or file that holds several (time points, echoes, stacks), from 1,
            as the refusal lists them.
    Raises: InputError (missing, unreadable, not a scalar 3-D volume, unusable values), GeometryError (sheared,
        singular), NotEnoughMemory.
    """
    file = existing_path(path, name or "volume")
    file_name = file.resolve().name
    label = f"{name} ({file_name})" if name else file_name
    if file.is_dir() or dicom.is_dicom(file):
        with being_read(label, AS_DICOM):
            image, attributes, notes = dicom.read_series(file, label, frame_group)
    else:
        if frame_group is not None:
            raise InputError(f"{label}: {dicom.group_option(label)} chooses among volumes of a DICOM file; it is none.")
        (image, notes), attributes = read_file(file, label), {}
    return _checked(image, str(file), label, attributes, notes, uniform)


def read_image(
    path: str | os.PathLike, name: str, accepted: Accepted = ANY_IMAGE, *, frame_group: int | None = None
) -> tuple[sitk.Image, list[str]]:
    """Read and check, as `read_volume` does, an image that may have frames (4-D) or several values per voxel.

    frame_group: as there. Returns: the image, and what a user should know about it. Raises as `read_volume`.
    """
    file = existing_path(path, name)
    label = f"{name} ({file.resolve().name})"
    if file.is_dir() or dicom.is_dicom(file) or frame_group is not None:
        volume = read_volume(file, name, uniform=True, frame_group=frame_group)
        return volume.image, list(volume.warnings)
    image, notes = read_file(file, label, accepted)
    check_values(image, label, uniform=True)
    return image, notes


def read_size(
    path: str | os.PathLike, name: str | None = None, *, frame_group: int | None = None
) -> tuple[int, int, int]:
    """Voxels along each axis (i, j, k) of a volume that `read_volume` would read, from its headers alone.

    Args: as there. Raises InputError: what is seen there to be no scalar 3-D volume; its voxels are not looked at.
    """
    file = existing_path(path, name or "volume")
    label = f"{name} ({file.resolve().name})" if name else file.resolve().name
    if file.is_dir() or dicom.is_dicom(file):
        with being_read(label, AS_DICOM):
            size, components = dicom.series_size(file, label, frame_group), 1
    else:
        size, components = read_size_of_file(file, label)
    check_kind(size, components, label)
    return size[0], size[1], size[2]


def volume_from_image(image: sitk.Image, name: str = "image") -> Volume:
    """Check a SimpleITK image as `read_volume` does, without copying it. Raises InputError, GeometryError."""
    if not isinstance(image, sitk.Image):
        raise InputError(f"{name}: expected a SimpleITK image or a path, got {type(image).__name__}.")
    check_kind(image.GetSize(), image.GetNumberOfComponentsPerPixel(), name)
    return _checked(image, None, name, {}, [])


def require_comparable(fixed: Volume, moving: Volume) -> None:
    """Raise GeometryError for a pair of which one is so much larger that it cannot show the same."""
    widths = [float(volume.grid.extent_mm.max()) for volume in (fixed, moving)]
    if max(widths) > _LARGEST_RATIO * min(widths):
        raise GeometryError(
            f"Expected two volumes of about the same size: {fixed.name} is {widths[0]:.3g} mm long, {moving.name} "
            f"{widths[1]:.3g} mm. Is the voxel size of one in another unit?"
        )


def pair_warnings(fixed: Volume, moving: Volume) -> list[str]:
    """What to tell about a pair: each volume's own warnings, and whether both are the same scan."""
    notes = [*fixed.warnings, *moving.warnings]
    same = fixed.image is moving.image
    groups = {volume.dicom.get("FrameGroup") for volume in (fixed, moving)}
    if fixed.path is not None and moving.path is not None and len(groups) == 1:
        with suppress(OSError):  # one of them was moved away since it was read
            same = same or os.path.samefile(fixed.path, moving.path)
    if same or _equal_content(fixed, moving):
        notes.append("Fixed and moving are the same volume: the result says nothing about a registration.")
    return list(dict.fromkeys(notes))


def _checked(
    image: sitk.Image, path: str | None, name: str, attributes: dict, notes: list[str], uniform: bool = False
) -> Volume:
    if image.GetDimension() > 3 and math.prod(image.GetSize()[3:]) == 1:
        image = first_frame(image)
    check_kind(image.GetSize(), image.GetNumberOfComponentsPerPixel(), name)
    if "complex" in image.GetPixelIDTypeAsString():
        raise InputError(f"{name}: expected real values, got complex ones. Store the magnitude image.")
    checked_grid(image, name)
    check_values(image, name, uniform)
    return Volume(image, path, name, attributes, tuple(notes))


def _equal_content(fixed: Volume, moving: Volume) -> bool:
    if not fixed.grid.same_as(moving.grid):
        return False
    first, second = (sitk.GetArrayViewFromImage(volume.image) for volume in (fixed, moving))
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
