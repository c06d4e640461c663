"""Frames of a series, from a file with a time axis, a DICOM series of several volumes, or one file each."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import SimpleITK as sitk

from ..errors import GeometryError, InputError
from ..volumes import Volume, read_image, read_volume, volume_from_image
from ..volumes.accepted import Accepted

_MANY_VOLUMES = re.compile(r"expected a number from 1 to (\d+)")
_FRAMES = Accepted(frames=True, components=True)


@dataclass(frozen=True, eq=False)
class Series:
    """frames: volumes on one grid, in order. times: of each; seconds where the file says so, else 0, 1, 2 ...

    Raises InputError for fewer than two frames, GeometryError for frames on different grids.
    """

    frames: tuple[Volume, ...]
    times: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.frames) < 2:
            raise InputError(
                f"series: expected at least two frames, got {len(self.frames)}. Give a file with a time axis, a DICOM "
                "series of several volumes, or one file for each frame."
            )
        first = self.frames[0]
        for number, frame in enumerate(self.frames):
            if not frame.grid.same_as(first.grid):
                raise GeometryError(
                    f"series: expected frames on one grid; frame {number} ({frame.name}) has "
                    f"{_shown(frame)}, frame 0 ({first.name}) has {_shown(first)}. Resample it onto the first's grid."
                )

    def __len__(self) -> int:
        return len(self.frames)


def series_of(images: Sequence[sitk.Image | Volume], times: Sequence[float] | None = None) -> Series:
    """A series of 3-D images in memory. Raises as `Series`."""
    frames = [
        each if isinstance(each, Volume) else volume_from_image(each, f"frame {n}") for n, each in enumerate(images)
    ]
    return Series(tuple(frames), tuple(map(float, range(len(frames)) if times is None else times)))


def read_series(paths: Sequence[str | os.PathLike]) -> Series:
    """Read a series: one file or DICOM folder that holds all frames, or one of 3-D for each frame, in order.

    Raises InputError for what cannot be read (the frame is named) and as `Series`, GeometryError, NotEnoughMemory.
    """
    if len(paths) == 1:
        return _read_one(paths[0])
    return series_of([read_volume(path, f"frame {n}") for n, path in enumerate(paths)])


def _read_one(path: str | os.PathLike) -> Series:
    try:
        read_volume(path, "series", frame_group=10**6)  # a DICOM series says how many volumes it has
    except InputError as error:
        many = _MANY_VOLUMES.search(str(error))
        if many is not None:
            count = int(many[1])
            return series_of([read_volume(path, f"frame {n}", frame_group=n + 1) for n in range(count)])
    image, _ = read_image(path, "series", _FRAMES)
    if image.GetDimension() == 4 and image.GetNumberOfComponentsPerPixel() == 1:
        start, step = image.GetOrigin()[3], image.GetSpacing()[3]
        count = image.GetSize()[3]
        return series_of([image[:, :, :, n] for n in range(count)], [start + step * n for n in range(count)])
    count = image.GetNumberOfComponentsPerPixel()
    if image.GetDimension() == 3 and count > 1 and str(path).lower().endswith(".seq.nrrd"):  # as 3D Slicer writes it
        return series_of([sitk.VectorIndexSelectionCast(image, n) for n in range(count)], _index_values(image, count))
    if count > 1:
        raise InputError(f"series: expected one value per voxel and frame, got {count}: colors or vectors.")
    raise InputError("series: expected several frames, got one volume. Give one file for each frame, in order.")


def _index_values(image: sitk.Image, count: int) -> list[float] | None:
    """The times that 3D Slicer writes into a sequence's header."""
    key = "axis 0 index values"
    words = image.GetMetaData(key).split() if image.HasMetaDataKey(key) else []
    try:
        return [float(word) for word in words] if len(words) == count else None
    except ValueError:
        return None


def _shown(volume: Volume) -> str:
    size = " x ".join(map(str, volume.grid.size_ijk))
    spacing = " x ".join(f"{s:.4g}" for s in volume.grid.spacing)
    return f"{size} voxels of {spacing} mm at {' '.join(f'{x:.4g}' for x in volume.grid.origin_lps)}"
