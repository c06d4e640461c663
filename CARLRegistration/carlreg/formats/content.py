"""What goes into a transform's files, whatever the format: an affine, a field, and the volumes at both ends.

The writers of the formats take it: `write_...(content, place, name)`, where `place(name)` is the path to write a file
of that name to, and `name` the name that the user gave.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..spaces import VolumeGrid


@dataclass(frozen=True)
class Sides:
    """Where a transform leads from and to: names ('fixed', 'moving'), their volumes' grids and files, if known."""

    names: tuple[str, str] = ("fixed", "moving")
    grids: tuple[VolumeGrid | None, VolumeGrid | None] = (None, None)
    files: tuple[Path | None, Path | None] = (None, None)

    def swapped(self) -> Sides:
        (a, b), (grid_a, grid_b), (file_a, file_b) = self.names, self.grids, self.files
        return Sides((b, a), (grid_b, grid_a), (file_b, file_a))


def require_both(fixed: VolumeGrid | None, moving: VolumeGrid | None, what: str) -> tuple[VolumeGrid, VolumeGrid]:
    """Both grids, or InputError: FSL's and FreeSurfer's files mean something only beside the two volumes."""
    if fixed is None or moving is None:
        missing = " and ".join(f"--{side}" for side, grid in (("fixed", fixed), ("moving", moving)) if grid is None)
        raise InputError(f"{what} depends on the voxel grids of both volumes: name them ({missing} VOLUME).")
    return fixed, moving


@dataclass(eq=False)
class Content:
    """What is written: y = affine(x + field(x)), or `whole` as it is; either part may be missing."""

    whole: sitk.Transform | None
    affine_lps: np.ndarray
    field_dhw3: np.ndarray | None
    grid: VolumeGrid | None
    sides: Sides
    name: str
    precision: str | None = None

    def __post_init__(self) -> None:
        self.precision = None if self.field_dhw3 is None else self.field_dhw3.dtype.name

    @property
    def has_field(self) -> bool:
        return self.precision is not None

    @property
    def affine_is_identity(self) -> bool:
        return np.array_equal(self.affine_lps, np.eye(4))

    def field(self) -> tuple[np.ndarray, VolumeGrid]:
        """The displacements and their grid. Raises ValueError when there are none."""
        if self.field_dhw3 is None or self.grid is None:
            raise ValueError("Expected a transform with a field.")
        return self.field_dhw3, self.grid

    def taken_field(self, dtype) -> sitk.Image:
        """The field as an image; its array is given up, so that a large field is not held twice while it is written."""
        array, grid = self.field()
        self.field_dhw3 = None
        array = array.astype(dtype, copy=False)
        return grid.image(array)
