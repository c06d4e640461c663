"""The levels of an optimization: both images at one resolution, how each is optimized, and the default schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..preprocess.prepare import PreparedVolume, level_grid
from ..spaces import VolumeGrid
from .bspline import control_count

#: Voxels that the finest level may have; above it the finest spacing grows.
FINEST_VOXELS = 2_600_000
#: Controls that the finest spline may have: where voxels are much finer along one axis than along the others, they are
#: many more than there are voxels to tell where they belong.
MOST_CONTROLS = 600_000
#: How far around its content the moving image is looked at, as a share of the content's diagonal.
MOVING_MARGIN = 0.1
#: Level spacings in finest spacings, coarse to fine.
_FACTORS = (8, 4, 2, 1)
#: Share of each level in the steps: from the fixed image, and half-way between both. There it ends as exact with fewer
#: fine steps, and large motion gains by coarse ones, which cost next to nothing.
FROM_FIXED, HALFWAY = (0.12, 0.18, 0.35, 0.35), (0.25, 0.25, 0.26, 0.24)
#: Control spacing, LNCC window (mm per finest spacing) and first Adam step (share of the control spacing).
_CONTROL, _WINDOW, _RATE = 3.0, 7.0, 0.09
_DIFFUSION, _FOLD = 0.1, 100.0


@dataclass(frozen=True)
class LevelImages:
    """Both images at one resolution, each on its own grid, intensities in [0, 1].

    fixed_11dhw on fixed_grid, moving_11dhw on moving_grid; weights: where each image counts (None = everywhere).
    ignored: what is not to be stretched into, 0..1 (None = nothing).
    """

    fixed_11dhw: Tensor
    fixed_grid: VolumeGrid
    moving_11dhw: Tensor
    moving_grid: VolumeGrid
    fixed_weight_11dhw: Tensor | None = None
    moving_weight_11dhw: Tensor | None = None
    fixed_ignored_11dhw: Tensor | None = None
    moving_ignored_11dhw: Tensor | None = None

    def steps_in_moving(self, affine_lps: np.ndarray) -> np.ndarray:
        """3 x 3, columns: where one voxel along d, h, w of the fixed grid leads in the moving grid's voxels."""
        return (self.moving_grid.ijk_from_lps @ affine_lps @ self.fixed_grid.lps_from_ijk)[:3, :3][::-1, ::-1].copy()


@dataclass(frozen=True, kw_only=True)
class FieldLevel:
    """How one level is optimized. spacing_mm: of the controls; window_mm: of LNCC; rate_mm: first Adam step."""

    spacing_mm: float
    steps: int
    window_mm: float
    rate_mm: float
    bending: float
    diffusion: float
    fold: float = 10.0


def finest_spacing(box: VolumeGrid) -> float:
    """The isotropic spacing (mm) of the finest level over a box: its voxels' own where that is affordable."""
    spacing = float(box.spacing.min())
    while (
        level_grid(box, box, spacing).voxel_count > FINEST_VOXELS
        or math.prod(control_count(float(n), _CONTROL * spacing) for n in box.extent_mm) > MOST_CONTROLS
    ):
        spacing *= 1.02
    return spacing


def split_steps(total: int, levels: int = len(_FACTORS), by_level: Sequence[float] = FROM_FIXED) -> list[int]:
    """The total over the finest levels, coarse to fine; few steps go to the coarse levels first."""
    shares = by_level[-levels:]
    whole = sum(shares) if levels < len(by_level) else 1.0
    steps = [int(total * share / whole) for share in shares]
    for extra in range(total - sum(steps)):
        steps[extra % len(steps)] += 1
    return steps


def schedule(
    total_steps: int, finest_mm: float, smoothness: float, by_level: Sequence[float] = FROM_FIXED
) -> list[FieldLevel]:
    """One `FieldLevel` per level, coarse to fine. by_level: shares of the steps."""
    return [
        FieldLevel(
            spacing_mm=_CONTROL * factor * finest_mm,
            steps=steps,
            window_mm=_WINDOW * factor * finest_mm,
            rate_mm=_RATE * _CONTROL * factor * finest_mm,
            bending=0.0,
            diffusion=_DIFFUSION * smoothness,
            fold=_FOLD,
        )
        for factor, steps in zip(_FACTORS, split_steps(total_steps, by_level=by_level), strict=True)
    ]


def level_images(
    fixed: PreparedVolume, moving: PreparedVolume, spacing_mm: float, device, *, fixed_margin: bool = False
) -> LevelImages:
    """Both images at about one spacing, with their masks, on a device.

    fixed_margin: a margin around the fixed content too, where that image moves as well.
    """
    fixed_image, fixed_grid = fixed.at(spacing_mm, margin_mm=_margin_mm(fixed) if fixed_margin else 0.0)
    moving_image, moving_grid = moving.at(spacing_mm, margin_mm=_margin_mm(moving))
    # Filling in CT is missing data; other images are often cut out of their background, and its edge is information.
    weights = [
        p.weight_at(g, padding_is_background=not p.padding_is_missing)
        for p, g in ((fixed, fixed_grid), (moving, moving_grid))
    ]
    ignored = [p.ignored_at(g) for p, g in ((fixed, fixed_grid), (moving, moving_grid))]
    return LevelImages(
        fixed_image.to(device),
        fixed_grid,
        moving_image.to(device),
        moving_grid,
        *(None if w is None else w.to(device) for w in (*weights, *ignored)),
    )


def _margin_mm(volume: PreparedVolume) -> float:
    return MOVING_MARGIN * float(np.linalg.norm(volume.content.extent_mm))


def level_spacings(finest_mm: float) -> list[float]:
    """Image spacing (mm) of each level, coarse to fine."""
    return [factor * finest_mm for factor in _FACTORS]


def search_spacing(fixed: PreparedVolume, moving: PreparedVolume, size: int) -> float:
    """An isotropic spacing (mm) at which the longest side of both contents has about `size` voxels."""
    longest = max(float(np.max(fixed.content.extent_mm)), float(np.max(moving.content.extent_mm)))
    return max(longest / size, float(fixed.grid.spacing.min()), float(moving.grid.spacing.min()))
