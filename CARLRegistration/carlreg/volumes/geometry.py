"""Geometry of what was read: of one grid, in mm, and with the file's name in every complaint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import SimpleITK as sitk

from ..errors import GeometryError
from ..spaces import VolumeGrid
from .accepted import check_lengths


def named(name: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns; its GeometryError begins with the file's name."""
    try:
        return call(*arguments)
    except GeometryError as error:
        if str(error).startswith(name):
            raise
        raise GeometryError(f"{name}: {error}") from error


def first_frame(image: sitk.Image) -> sitk.Image:
    """A 3-D image: of a sequence its first frame, without a further axis of length one."""
    while image.GetDimension() > 3:
        size = list(image.GetSize())
        size[-1] = 0
        image = sitk.Extract(image, size, [0] * len(size))
    return image


def checked_grid(image: sitk.Image, name: str) -> VolumeGrid:
    """The grid of a 3-D image, when a registration can work with it. Raises GeometryError."""
    grid = named(name, VolumeGrid.of, image)
    check_lengths(grid, name)
    return grid


def scaled_lengths(image: sitk.Image, factor: float) -> None:
    """Turn lengths of another unit into mm, in place: spacing and origin of the first three axes."""
    spacing, origin = list(image.GetSpacing()), list(image.GetOrigin())
    image.SetSpacing([s * factor if axis < 3 else s for axis, s in enumerate(spacing)])
    image.SetOrigin([o * factor if axis < 3 else o for axis, o in enumerate(origin)])
