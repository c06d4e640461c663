"""The deformation: instance optimization of a spline, and the displacement field that is delivered."""

from __future__ import annotations

import logging

import numpy as np
import torch

from ..errors import InputError, OptimizationDiverged
from ..optimize.candidates import AffineCandidate
from ..optimize.field import FieldResult, coefficients_from, optimize_field
from ..optimize.levels import finest_spacing, level_images, level_spacings, schedule
from ..physical import PhysicalTransform, repair_folds, to_fixed_grid
from ..physical.repair import smallest_determinants
from ..progress import Progress
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid, check_sound
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


def optimized_field(
    start: AffineCandidate,
    residual: PointMap | None,
    pair: PreparedPair,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
) -> FieldResult:
    """The displacement before the affine, as a spline over the fixed content."""
    content = pair.fixed.content
    finest = finest_spacing(pair.fixed)
    steps = settings.steps if settings.io_method == "field" else 0
    levels = schedule(steps, finest, settings.smoothness)
    first = levels[0] if steps else levels[-1]
    coefficients = None
    if residual is not None:
        along = content.direction[:, ::-1]
        coefficients = coefficients_from(lambda points: residual(points) @ along, content, first.spacing_mm)
    if not steps:
        if coefficients is None:
            first = levels[0]
        levels = [first]
    spacings = level_spacings(finest) if steps else [8 * finest]
    return optimize_field(
        (level_images(pair.fixed, pair.moving, spacing, device) for spacing in spacings),
        levels,
        start.matrix,
        content,
        similarity=settings.similarity,
        start_13dhw=coefficients,
        progress=progress,
    )


def delivered(
    affine_lps: np.ndarray, spline: FieldResult, fixed_grid: VolumeGrid, field_spacing_mm: float | None
) -> tuple[PhysicalTransform, dict]:
    """The transform, and what had to be done about folds.

    The spline sampled at half its control spacing (or at `field_spacing_mm`), covering the fixed volume and a margin.
    The report: repaired_nodes, folded_nodes that are left, folded_nodes_percent, deformation_kept_percent (100 unless
    all of it had to be damped).
    Raises OptimizationDiverged for an affine that mirrors or flattens: no such map is delivered.
    """
    try:
        check_sound(affine_lps, "affine")
    except InputError as error:
        raise OptimizationDiverged(f"No alignment was found that an anatomy could have. {error}") from error
    spacing = field_spacing_mm or spline.spacing_mm / 2
    grid = spline.box.padded(spline.spacing_mm).with_spacing(spacing)
    field_lps, report = repair_folds(
        spline.displacement_lps(grid), grid.spacing, min_determinant=_REPAIRED_DETERMINANT, direction=grid.direction
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
