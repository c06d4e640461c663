"""Going on from a known map: its displacement before the affine, the levels of a change, and both as one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..optimize.field import FieldResult
from ..optimize.levels import FROM_FIXED, Course, FieldLevel, finest_spacing, level_spacings, schedule, split_steps
from ..optimize.onward import Known
from ..physical import PhysicalTransform
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid, apply_affine
from .predict import PointMap


@dataclass(frozen=True, eq=False)
class Changed:
    """A known displacement and the change that was found, as one deformation; see `field.Deformation`."""

    known: Known
    change: FieldResult

    @property
    def box(self) -> VolumeGrid:
        return self.change.box

    @property
    def spacing_mm(self) -> float:
        return self.change.spacing_mm

    def displacement_lps(self, grid: VolumeGrid) -> np.ndarray:
        """D x H x W x 3 float32 mm (L, P, S) on a grid with the box's axis directions."""
        known = self.known.displacement_lps(grid.centers().reshape(-1, 3)).reshape(*grid.shape_dhw, 3)
        return (known + self.change.displacement_lps(grid)).astype(np.float32)


def residual_before(known: PhysicalTransform) -> PointMap:
    """The displacement before the affine, at n x 3 fixed points, LPS mm."""
    back = np.linalg.inv(known.affine_lps)
    return lambda points: apply_affine(back, known.apply(points)) - points


def planned_onward(
    box: VolumeGrid, missed_mm: float, settings: RegistrationSettings, course: Course = FROM_FIXED
) -> tuple[list[FieldLevel], list]:
    """The levels of a change over a box, coarse to fine, and the spacings of their images, mm.

    missed_mm: how far off the map is known to be; levels whose controls are farther apart are left out.
    """
    finest = finest_spacing(box, course)
    levels, spacings = schedule(0, finest, settings.smoothness, course), level_spacings(finest)
    first = next((n for n, level in enumerate(levels[:-1]) if level.spacing_mm <= missed_mm), len(levels) - 1)
    steps = split_steps(settings.steps, len(levels) - first)
    return [replace(level, steps=n) for level, n in zip(levels[first:], steps, strict=True)], spacings[first:]
