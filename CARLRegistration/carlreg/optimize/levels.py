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

#: Controls that the finest spline may have: where voxels are much finer along one axis than along the others, they are
#: many more than there are voxels to tell where they belong.
MOST_CONTROLS = 600_000
#: How far around its content the moving image is looked at, as a share of the content's diagonal.
MOVING_MARGIN = 0.1
#: Level spacings in finest spacings, coarse to fine.
_FACTORS = (8, 4, 2, 1)
#: Control spacing, LNCC window (mm per finest spacing) and first Adam step (share of the control spacing).
_CONTROL, _WINDOW, _RATE = 3.0, 7.0, 0.09
_DIFFUSION, _FOLD = 0.1, 100.0
#: Voxels up to which a lattice is looked at whole in each step: it takes no time, and a part of few is too few.
SMALL = 300_000
# Axes whose voxels are longer than this many shortest edges are looked at whole where others are thinned out.
_LONG = 1.2
# From one thinned-out lattice to the next: each is used once before any is used again, neighbors not in a row.
_TURN = 5


@dataclass(frozen=True)
class Course:
    """How an optimization goes over its levels, coarse to fine.

    shares: of the steps. every: each step looks at every so many voxels along each axis, at other ones than the last:
    eight steps see all of them, for the time of one. finest_voxels: above it the finest spacing grows.
    finest_diffusion: of the finest level, as a share of that of the others.
    """

    shares: tuple[float, ...]
    every: tuple[int, ...]
    finest_voxels: int
    finest_diffusion: float = 1.0


#: From the fixed image: descriptors, which are compared voxel by voxel, and what is known in that image alone.
FROM_FIXED = Course((0.12, 0.18, 0.35, 0.35), (1, 1, 2, 2), 2_600_000)
#: As `HALFWAY_FINE`, as far as the memory of descriptors allows: twelve numbers a voxel of either image.
FROM_FIXED_FINE = Course((0.12, 0.18, 0.35, 0.35), (1, 1, 2, 2), 4_500_000, finest_diffusion=0.5)
#: Half-way between both images. Large motion gains by coarse steps, which cost next to nothing.
HALFWAY = Course((0.28, 0.28, 0.21, 0.23), (1, 1, 1, 2), 2_600_000)
#: Down to the voxels, for images whose structures are as fine; where they are not (CT of lungs), it follows noise.
HALFWAY_FINE = Course((0.28, 0.28, 0.21, 0.23), (1, 1, 1, 2), 8_000_000, finest_diffusion=0.5)


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
    """How one level is optimized. spacing_mm: of the controls; window_mm: of LNCC; rate_mm: first Adam step.

    every: see `Course`; for losses that can (`halfway.HalfwayLoss`).
    """

    spacing_mm: float
    steps: int
    window_mm: float
    rate_mm: float
    bending: float
    diffusion: float
    fold: float = 10.0
    every: int = 1


def _turns(lattice: VolumeGrid, every: int) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Steps i, j, k between the voxels that are looked at together, and each group's first voxel, in order of use.

    Along axes of longer voxels, as across thick slices, all voxels stay.
    """
    steps = np.where(lattice.spacing > _LONG * lattice.spacing.min(), 1, np.minimum(every, lattice.size_ijk))
    offsets = list(np.ndindex(*(int(n) for n in steps)))
    return steps, [offsets[_TURN * number % len(offsets)] for number in range(len(offsets))]


def thinned_out(lattice: VolumeGrid, every: int) -> list[VolumeGrid]:
    """The lattices of every so many voxels along each axis, all of one size, that together are a lattice (but for a
    remainder at its far faces), in the order in which an optimization is to look at them.
    """
    steps, firsts = _turns(lattice, every)
    i, j, k = (int(n) for n in np.asarray(lattice.size_ijk) // steps)
    return [
        VolumeGrid(
            (i, j, k),
            lattice.spacing * steps,
            lattice.origin_lps + lattice.direction @ (lattice.spacing * first),
            lattice.direction,
        )
        for first in firsts
    ]


def thinned_places(lattice: VolumeGrid, every: int) -> list[tuple[slice, slice, slice]]:
    """`thinned_out` as places along d, h, w of the lattice's tensors."""
    steps, firsts = _turns(lattice, every)
    ends = np.asarray(lattice.size_ijk) // steps * steps
    return [
        (
            slice(c, int(ends[2]), int(steps[2])),
            slice(b, int(ends[1]), int(steps[1])),
            slice(a, int(ends[0]), int(steps[0])),
        )
        for a, b, c in firsts
    ]


def finest_spacing(box: VolumeGrid, course: Course = FROM_FIXED) -> float:
    """The isotropic spacing (mm) of the finest level over a box: its voxels' own where that is affordable."""
    spacing = float(box.spacing.min())
    while (
        level_grid(box, box, spacing).voxel_count > course.finest_voxels
        or math.prod(control_count(float(n), _CONTROL * spacing) for n in box.extent_mm) > MOST_CONTROLS
    ):
        spacing *= 1.02
    return spacing


def split_steps(total: int, levels: int = len(_FACTORS), by_level: Sequence[float] = FROM_FIXED.shares) -> list[int]:
    """The total over the finest levels, coarse to fine; few steps go to the coarse levels first."""
    shares = by_level[-levels:]
    whole = sum(shares) if levels < len(by_level) else 1.0
    steps = [int(total * share / whole) for share in shares]
    for extra in range(total - sum(steps)):
        steps[extra % len(steps)] += 1
    return steps


def schedule(total_steps: int, finest_mm: float, smoothness: float, course: Course = FROM_FIXED) -> list[FieldLevel]:
    """One `FieldLevel` per level, coarse to fine."""
    return [
        FieldLevel(
            spacing_mm=_CONTROL * factor * finest_mm,
            steps=steps,
            window_mm=_WINDOW * factor * finest_mm,
            rate_mm=_RATE * _CONTROL * factor * finest_mm,
            bending=0.0,
            diffusion=_DIFFUSION * smoothness * (course.finest_diffusion if factor == _FACTORS[-1] else 1.0),
            fold=_FOLD,
            every=every,
        )
        for factor, steps, every in zip(
            _FACTORS, split_steps(total_steps, by_level=course.shares), course.every, strict=True
        )
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
