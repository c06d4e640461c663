"""From the working field to the one that is delivered: the fixed volume's axes, a margin, and a fade to zero."""

from __future__ import annotations

import logging
import math

import numpy as np
import torch
from torch import Tensor

from ..maps.exchange import array_from_tensor, tensor_from_array
from ..spaces import VolumeGrid
from .interpolate import LatticeSampler, parallel
from .repair import repair_folds
from .transform import PhysicalTransform, slab_ranges
from .workers import in_threads

log = logging.getLogger(__name__)

MARGIN = 0.10  # of the volume's extent, on each side
_MAX_MARGIN = 0.60
_MIN_DETERMINANT = 0.02


class Fade:
    """A field grid along a volume's axes with a margin, and the weights that fade a field out in it.

    volume_grid: covered plus at least `MARGIN` of its extent on each side. spacing: mm along i, j, k of the field.
    inner: low and high (mm along the volume's axes, from its origin) between which the weight is 1; 3 x 2.
    margins: mm beyond the volume's faces, 3 x 2. phase: mm, where nodes lie along each axis.
    """

    def __init__(self, volume_grid: VolumeGrid, spacing, inner, margins, phase) -> None:
        low = -0.5 * volume_grid.spacing
        high = low + volume_grid.extent_mm
        first = np.floor((low - margins[:, 0] - phase) / spacing + 1e-6)
        last = np.ceil((high + margins[:, 1] - phase) / spacing - 1e-6)
        begin = phase + first * spacing
        size = (last - first + 1).astype(int)
        origin = volume_grid.origin_lps + volume_grid.direction @ begin
        self.grid = VolumeGrid(tuple(size), spacing, origin, volume_grid.direction)
        self.axis_weights = []
        for axis in range(3):
            position = begin[axis] + np.arange(size[axis]) * spacing[axis]
            least = 1e-9 * spacing[axis]
            rise = (position - position[0]) / max(inner[axis, 0] - position[0], least)
            fall = (position[-1] - position) / max(position[-1] - inner[axis, 1], least)
            share = np.clip(np.minimum(rise, fall), 0.0, 1.0)
            self.axis_weights.append(0.5 - 0.5 * np.cos(np.pi * share))

    @property
    def weight_dhw(self) -> Tensor:
        i, j, k = (torch.tensor(w.tolist(), dtype=torch.float32) for w in self.axis_weights)
        return k[:, None, None] * j[:, None] * i


def default_margins(volume_grid: VolumeGrid, spacing) -> np.ndarray:
    """3 x 2 mm: a tenth of the extent, and at least four field nodes so that the fade has room."""
    return np.repeat(np.maximum(MARGIN * volume_grid.extent_mm, 4 * np.asarray(spacing))[:, None], 2, axis=1)


def sufficient_margins(volume_grid: VolumeGrid, spacing, border_displacement: np.ndarray) -> np.ndarray:
    """Margins grown where the field is large at the volume's faces: a steep fade would fold.

    border_displacement: 3 axes x 2 sides x (along the axis, largest of all), mm.
    """
    # A cosine ramp over a length m has a slope of pi / (2 m): half of what would fold is allowed.
    needed = np.maximum(math.pi * border_displacement[..., 0], 0.5 * math.pi * border_displacement[..., 1])
    needed = np.minimum(needed, _MAX_MARGIN * volume_grid.extent_mm[:, None]) + np.asarray(spacing)[:, None]
    return np.maximum(default_margins(volume_grid, spacing), needed)


def border_displacements(field_3dhw: Tensor, grid: VolumeGrid, weights: list[np.ndarray]) -> np.ndarray:
    """3 x 2 x 2: largest displacement (along the axis, and at all) of the nodes that fade, per axis and side."""
    to_axes = torch.tensor(grid.direction.T.tolist(), dtype=field_3dhw.dtype)
    magnitude = field_3dhw.norm(dim=0)
    out = np.zeros((3, 2, 2))
    for axis in range(3):
        along = (to_axes[axis, :, None, None, None] * field_3dhw).sum(dim=0).abs()
        dim, weight = 2 - axis, weights[axis]
        full = np.flatnonzero(weight >= 1.0)
        low, high = (int(full[0]), int(full[-1])) if len(full) else (len(weight) // 2, len(weight) // 2)
        for side, (start, stop) in enumerate(((0, low + 1), (high, len(weight)))):
            part = slice(start, stop)
            out[axis, side] = [
                float(along[tuple(part if d == dim else slice(None) for d in range(3))].max()),
                float(magnitude[tuple(part if d == dim else slice(None) for d in range(3))].max()),
            ]
    return out


def to_fixed_grid(
    affine_lps: np.ndarray,
    residual_lps: np.ndarray,
    residual_grid: VolumeGrid,
    fixed_grid: VolumeGrid,
    *,
    spacing_mm: float | None = None,
) -> PhysicalTransform:
    """The delivered transform y = A(x + d(x)) from the working field.

    Args:
        affine_lps: 4x4, moving_from_fixed. residual_lps: (D, H, W, 3) mm on `residual_grid`, acting before the affine.
        fixed_grid: the field's axes are its axes; it is covered plus at least 10 % of its extent on each side.
        spacing_mm: of the field; None = that of `residual_grid` (nodes then coincide when the axes are parallel, so
            that inside the fixed volume the working field is delivered unchanged).
    Beyond `residual_grid` its edge value is continued and decays; in the margin the field fades to exactly zero at
    its outermost nodes by a cosine. The margin grows where a steep fade would fold; folds that still arise outside
    the fixed volume are smoothed away, at the volume's edge together with it where that alone is not enough.
    """
    residual = tensor_from_array(np.asarray(residual_lps, dtype=np.float32)).permute(3, 0, 1, 2).contiguous()
    aligned = parallel(residual_grid, fixed_grid)
    overlap = np.abs(fixed_grid.direction.T @ residual_grid.direction)
    spacing = residual_grid.spacing[overlap.argmax(axis=1)] if spacing_mm is None else np.full(3, float(spacing_mm))
    start = fixed_grid.direction.T @ (residual_grid.origin_lps - fixed_grid.origin_lps)
    low = -0.5 * fixed_grid.spacing
    high = low + fixed_grid.extent_mm
    # One node beyond the faces keeps full weight: it is interpolated into the volume's outer voxels.
    inner = np.stack([low - spacing, high + spacing], axis=1)
    phase = start if aligned else 0.5 * (low + high)
    if aligned:
        step = np.diag(fixed_grid.direction.T @ residual_grid.direction)
        end = start + step * residual_grid.spacing * (np.asarray(residual_grid.size_ijk) - 1)
        inner[:, 0] = np.maximum(inner[:, 0], np.minimum(start, end))
        inner[:, 1] = np.minimum(inner[:, 1], np.maximum(start, end))

    coarse = Fade(fixed_grid, spacing * 4, inner, default_margins(fixed_grid, spacing), phase)
    sampled = _sampled(residual, residual_grid, coarse.grid)
    borders = border_displacements(sampled, coarse.grid, coarse.axis_weights)
    # Where the working field ends inside the volume the fade has the rest of the volume for its ramp as well.
    room = np.maximum(np.stack([inner[:, 0] - (low - spacing), high + spacing - inner[:, 1]], axis=1), 0.0)
    margins = sufficient_margins(fixed_grid, spacing, borders) - room
    fade = Fade(fixed_grid, spacing, inner, np.maximum(margins, default_margins(fixed_grid, spacing)), phase)
    weight = fade.weight_dhw
    field = array_from_tensor((_sampled(residual, residual_grid, fade.grid) * weight).permute(1, 2, 3, 0))

    # Smoothed only where the field is new: in the fade, unless resampling to another lattice itself made folds.
    unchanged = aligned and np.allclose(spacing, residual_grid.spacing)
    frozen = array_from_tensor(weight >= 1.0) if unchanged else None
    how = {"min_determinant": _MIN_DETERMINANT, "direction": fade.grid.direction}
    repaired, report = repair_folds(field, fade.grid.spacing, frozen=frozen, **how)
    if report["left"] and frozen is not None:  # next to nodes that are held: a little of the volume has to give way
        repaired, report = repair_folds(field, fade.grid.spacing, **how)
    if report["nodes"]:
        log.info("Delivered field: %d folded nodes smoothed, %d left.", report["nodes"], report["left"])
    return PhysicalTransform(affine_lps, repaired, fade.grid)


def _sampled(residual: Tensor, residual_grid: VolumeGrid, grid: VolumeGrid) -> Tensor:
    sampler = LatticeSampler(residual, residual_grid, grid, continued=True)
    return torch.cat(list(in_threads(sampler.slab, slab_ranges(grid))), dim=1)
