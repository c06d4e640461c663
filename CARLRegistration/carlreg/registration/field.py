"""The deformation: instance optimization of a spline, and the displacement field that is delivered."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, OptimizationDiverged
from ..optimize.candidates import AffineCandidate
from ..optimize.field import FieldResult, LevelLoss, coefficients_from, descend
from ..optimize.levels import (
    Course,
    FieldLevel,
    LevelImages,
    finest_spacing,
    level_images,
    level_spacings,
    schedule,
)
from ..optimize.onward import informed
from ..optimize.segments import SegmentPair
from ..physical import PhysicalTransform, repair_folds, to_fixed_grid
from ..physical.repair import smallest_determinants
from ..progress import Progress
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid, check_sound
from .bodies import Bodies
from .course import course_for
from .landmarks import Landmarks
from .live import LiveMap
from .pair import PreparedPair
from .predict import PointMap

log = logging.getLogger(__name__)

_REPAIRED_DETERMINANT = 0.05
# Nodes of a displacement field that nobody needs: more than so many, and more than a few per voxel.
_MOST_NODES, _MOST_PER_VOXEL = 64_000_000, 8


def check_field_spacing(spacing_mm: float | None, fixed_grid: VolumeGrid) -> None:
    """Refuse a spacing of the field that does not belong to a volume of this size. Raises InputError."""
    if spacing_mm is None:
        return
    extent = fixed_grid.extent_mm
    most = max(_MOST_NODES, _MOST_PER_VOXEL * fixed_grid.voxel_count)
    least_mm, largest_mm = float((np.prod(extent) / most) ** (1 / 3)), float(extent.max())
    if not least_mm <= spacing_mm <= largest_mm:
        raise InputError(
            f"field spacing: expected {least_mm:.3g} to {largest_mm:.3g} mm for a fixed volume of "
            f"{' x '.join(f'{length:.3g}' for length in extent)} mm, got {spacing_mm:g} mm."
        )


@dataclass(frozen=True)
class Plan:
    """levels, coarse to fine; spacings: of each level's images, mm. start_13dhw: coefficients; None = zero."""

    levels: list[FieldLevel]
    spacings: list[float]
    start_13dhw: Tensor | None


def planned(box: VolumeGrid, displacement: PointMap | None, settings: RegistrationSettings, course: Course) -> Plan:
    """How a spline over a box is optimized.

    box: its voxels are the finer image's. displacement: what is known, n x 3 points of the box's space -> LPS mm.
    """
    finest = finest_spacing(box, course)
    steps = settings.steps if settings.io_method == "field" else 0
    levels = schedule(steps, finest, settings.smoothness, course)
    first = levels[0] if steps else levels[-1]
    coefficients = None
    if displacement is not None:
        along = box.direction[:, ::-1]
        coefficients = coefficients_from(lambda points: displacement(points) @ along, box, first.spacing_mm)
    if not steps:
        if coefficients is None:
            first = levels[0]
        levels = [first]
    return Plan(levels, level_spacings(finest) if steps else [8 * finest], coefficients)


def optimized_field(
    start: AffineCandidate,
    residual: PointMap | None,
    pair: PreparedPair,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
    live: LiveMap | None = None,
    landmarks: Landmarks | None = None,
    segments: Sequence[SegmentPair] = (),
    bodies: Bodies | None = None,
) -> FieldResult:
    """The displacement before the affine, as a spline over the fixed content."""
    live = live or LiveMap(progress)
    if progress.stopping:  # before the first step: the start itself, as without optimization
        settings = replace(settings, io_steps=0)
    box = pair.fixed.content
    plan = planned(box, residual, settings, course_for(settings, pair, halfway=False))

    def loss_for(images: LevelImages, level: FieldLevel) -> LevelLoss:
        return LevelLoss(images, start.matrix, box, level, settings.similarity)

    guide = None if landmarks is None else landmarks.guide(start.matrix)
    told = None if bodies is None else bodies.guide(start.matrix)
    return descend(
        (level_images(pair.fixed, pair.moving, spacing, device) for spacing in plan.spacings),
        plan.levels,
        box,
        informed(loss_for, lambda images, _: images.fixed_grid, box, guide=guide, segments=segments, bodies=told),
        start_13dhw=plan.start_13dhw,
        progress=progress,
        watch=lambda found: live.offer(start.matrix, found.displacement_lps, found.box),
    )


class Deformation(Protocol):
    """What was optimized, a spline or another function: a displacement before the affine over a box."""

    @property
    def box(self) -> VolumeGrid: ...

    @property
    def spacing_mm(self) -> float:
        """Twice that of the field that is delivered."""
        ...

    def displacement_lps(self, grid: VolumeGrid) -> np.ndarray:
        """D x H x W x 3 float32 mm (L, P, S) on a grid with the box's axis directions."""
        ...


# What is said meanwhile: it takes seconds, where volumes do not belong together many.
REMOVING_FOLDS = "removing folds"


def delivered(
    affine_lps: np.ndarray, found: Deformation, fixed_grid: VolumeGrid, field_spacing_mm: float | None
) -> tuple[PhysicalTransform, dict]:
    """The transform, and what had to be done about folds; see `delivered_from`.

    The spline sampled at half its control spacing (or at `field_spacing_mm`), covering the fixed volume and a margin.
    """
    grid = working_grid(found.box, found.spacing_mm, field_spacing_mm)
    return delivered_from(affine_lps, found.displacement_lps(grid), grid, fixed_grid)


def working_grid(box: VolumeGrid, control_mm: float, field_spacing_mm: float | None) -> VolumeGrid:
    """The nodes over a box at which a spline with this control spacing becomes a field."""
    return box.padded(control_mm).with_spacing(field_spacing_mm or control_mm / 2)


def delivered_from(
    affine_lps: np.ndarray, field_lps: np.ndarray, grid: VolumeGrid, fixed_grid: VolumeGrid
) -> tuple[PhysicalTransform, dict]:
    """The transform y = affine(x + field(x)), and what had to be done about folds.

    field_lps: D x H x W x 3 mm on `grid`.
    The report: repaired_nodes, folded_nodes that are left, folded_nodes_percent, deformation_kept_percent (100 unless
    all of it had to be damped).
    Raises OptimizationDiverged for an affine that mirrors or flattens: no such map is delivered.
    """
    try:
        check_sound(affine_lps, "affine")
    except InputError as error:
        raise OptimizationDiverged(f"No alignment was found that an anatomy could have. {error}") from error
    field_lps, report = repair_folds(
        field_lps, grid.spacing, min_determinant=_REPAIRED_DETERMINANT, direction=grid.direction
    )
    if report["nodes"]:
        log.info("%d folded nodes repaired", report["nodes"])
    transform = to_fixed_grid(affine_lps, field_lps, grid, fixed_grid)
    smallest = smallest_determinants(transform.field_cdhw, transform.grid.spacing, transform.grid.direction)
    folded = int((smallest <= 0).sum())
    return transform, {
        "repaired_nodes": report["nodes"],
        "folded_nodes": folded,
        "folded_nodes_percent": 100.0 * folded / smallest.numel(),
        "deformation_kept_percent": 100.0 * report["damping"],
    }
