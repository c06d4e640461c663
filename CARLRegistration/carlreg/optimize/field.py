"""Instance optimization of the map itself: a cubic B-spline displacement, coarse to fine.

The map is y = affine(x + d(x)) from fixed points to moving points, d in mm along the fixed grid's tensor axes. What
is optimized are the spline's coefficients; each level halves the spacing exactly, so a level starts where the last
one stopped. The images of each level are prepared by the caller.

Letters: b batch, c channels, d h w tensor axes of the fixed level grid; n12 = 1 x 12 descriptor channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import OptimizationDiverged
from ..losses.registry import similarity_named
from ..losses.similarity import LocalCorrelation, mind_descriptor, mind_distance, window_widths
from ..maps import sample
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..maps.sampling import axis_coordinates
from ..maps.separable import along_axes
from ..progress import Progress, Step
from ..spaces import VolumeGrid
from . import bspline
from .adam import Adam
from .levels import SMALL, FieldLevel, LevelImages, thinned_places


@dataclass
class FieldResult:
    """coefficients_13dhw (mm along the fixed grid's d, h, w axes) of the last level, and where they live."""

    coefficients_13dhw: Tensor
    box: VolumeGrid
    spacing_mm: float
    losses: list[float]

    def displacement_lps(self, grid: VolumeGrid) -> np.ndarray:
        """D x H x W x 3 float32 mm (L, P, S) on a grid with the box's axis directions."""
        coefficients = self.coefficients_13dhw
        matrices = [m.to(coefficients.device) for m in axis_matrices(grid, self.box, self.spacing_mm)]
        displacement_13dhw = along_axes(coefficients, *matrices)
        lps_from_dhw = _tensor(self.box.direction[:, ::-1], coefficients.device)
        return array_from_tensor(torch.einsum("xc,cdhw->dhwx", lps_from_dhw, displacement_13dhw[0]))


#: Called with what an optimization has found so far.
Watch = Callable[[FieldResult], None]


def axis_matrices(grid: VolumeGrid, box: VolumeGrid, spacing_mm: float) -> list[Tensor]:
    """Evaluation matrices along d, h, w for the voxel centers of `grid`, controls covering `box`."""
    offset_ijk_mm = box.direction.T @ (grid.origin_lps - box.origin_lps) + box.spacing / 2
    matrices = []
    for axis in (2, 1, 0):
        positions = offset_ijk_mm[axis] + grid.spacing[axis] * torch.arange(grid.size_ijk[axis], dtype=torch.float64)
        matrices.append(bspline.evaluation_matrix(positions, float(box.extent_mm[axis]), spacing_mm))
    return matrices


def start_coefficients(box: VolumeGrid, spacing_mm: float) -> Tensor:
    """1 x 3 x controls, zero displacement."""
    return torch.zeros(1, 3, *(bspline.control_count(float(e), spacing_mm) for e in box.extent_mm[::-1]))


def coefficients_from(displacement_dhw_mm, box: VolumeGrid, spacing_mm: float) -> Tensor:
    """1 x 3 x controls that approximate a given smooth displacement.

    displacement_dhw_mm: called with n x 3 LPS points, returns n x 3 mm along the box's d, h, w axes. The spline is
    corrected twice by what it misses at its own control points.
    """
    shape = start_coefficients(box, spacing_mm).shape[2:]
    axes = [(np.arange(n) - 1) * spacing_mm for n in shape]
    dhw = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    corner = box.origin_lps - box.direction @ (box.spacing / 2)
    wanted = displacement_dhw_mm(corner + dhw[:, ::-1] @ box.direction.T)
    wanted = tensor_from_array(np.ascontiguousarray(wanted.T, dtype=np.float32)).reshape(1, 3, *shape)
    inner = [
        bspline.evaluation_matrix(tensor_from_array(axis), float(extent), spacing_mm)
        for axis, extent in zip(axes, box.extent_mm[::-1], strict=True)
    ]
    coefficients = wanted.clone()
    for _ in range(3):
        coefficients = coefficients + (wanted - along_axes(coefficients, *inner))
    return coefficients


def refined(coefficients_13dhw: Tensor, box: VolumeGrid, spacing_mm: float) -> Tensor:
    """The same spline with controls at half the spacing."""
    matrices = [bspline.subdivision_matrix(float(e), spacing_mm) for e in box.extent_mm[::-1]]
    return along_axes(coefficients_13dhw, *(m.to(coefficients_13dhw.device) for m in matrices))


WEIGHT_EVERY = 4
# Windows of the similarity stand around every so many voxels: being seven wide, they still see each voxel many times.
WINDOW_STRIDE = 2
_TINY_GRADIENT = 1e-8  # of the loss, per voxel: beside it Adam's steps shrink
# How much stiffer the field is where the images share nothing: what is beyond the common part follows its edge, and
# does not let the edge be pulled along by whatever looks alike there.
STIFFER = 100.0


def stiffness(weight_11dhw: Tensor, matrices: list[Tensor], ignored_11dhw: Tensor | None = None) -> Tensor | None:
    """1 for controls whose surroundings count, up to 1 + `STIFFER` where nothing does; None = 1 everywhere.

    weight_11dhw: what counts, on the lattice of the evaluation matrices. ignored_11dhw: what is not to be stretched
    into, of any size, where the field is as stiff already near it.
    """
    if ignored_11dhw is None and bool((weight_11dhw >= 1).all()):
        return None
    transposed = [m.T for m in matrices]
    reached = along_axes(torch.ones_like(weight_11dhw), *transposed).clamp_min(1e-6)
    support = along_axes(weight_11dhw, *transposed) / reached
    found = 1 + STIFFER * (1 - support.clamp(0, 1)) ** 6
    if ignored_11dhw is None:
        return found
    return found + STIFFER * (along_axes(ignored_11dhw, *transposed) / reached).clamp(0, 1)


def ignored_under(maps: list[Tensor], ignored: Sequence[Tensor | None]) -> Tensor | None:
    """What is ignored in the images under their maps (1 3 d h w each), 0..1; None = nothing."""
    found = [sample(part, each) for each, part in zip(maps, ignored, strict=True) if part is not None]
    return torch.stack(found).amax(0) if found else None


class LevelLoss:
    """Similarity of one level as a function of the spline's coefficients.

    What counts (where both images have data) is found anew at every `WEIGHT_EVERY`th call: it changes little from step
    to step, and window statistics hang on it. Where the level is thinned out (`Course.every`), each call looks at the
    next part of the lattice, and at what counts there.
    """

    def __init__(self, images: LevelImages, affine_lps, box: VolumeGrid, level: FieldLevel, similarity: str) -> None:
        self.images, self.level, self.similarity = images, level, similarity_named(similarity)
        fixed, moving = images.fixed_grid, images.moving_grid
        device = images.fixed_11dhw.device
        self._calls = 0
        self.stiffness: Tensor | None = None
        self.beside: list[Callable[[Tensor], Tensor]] = []
        self.share_11dhw: Tensor | None = None  # of the spline's displacement that is made; None = all of it
        self.voxel_mm = float(fixed.spacing.min())
        self._weight = torch.zeros(0)  # found at the first call
        self.matrices = [m.to(device) for m in axis_matrices(fixed, box, level.spacing_mm)]
        self._parts = thinned_places(fixed, level.every if fixed.voxel_count > SMALL else 1)
        moving_from_fixed_normalized = moving.normalized_from_lps @ affine_lps @ fixed.lps_from_normalized
        self.base_map = affine_map(moving_from_fixed_normalized, fixed.shape_dhw).to(device)
        normalized_from_mm = (moving.normalized_from_lps @ affine_lps)[:3, :3] @ box.direction[:, ::-1]
        self.normalized_from_mm = _tensor(normalized_from_mm, device)
        if self.similarity.descriptors:
            descriptor = mind_descriptor(images.fixed_11dhw)
            self.fixed_descriptors = [descriptor[(..., *part)].contiguous() for part in self._parts]
            axes = images.steps_in_moving(affine_lps)
            self.moving_descriptor = mind_descriptor(images.moving_11dhw, axes_33=axes)
        else:
            whole = len(self._parts) == 1
            steps = [part.step or 1 for part in self._parts[0]]
            widths = window_widths(fixed.spacing[::-1] * steps, level.window_mm)
            self.correlations = [
                LocalCorrelation(
                    images.fixed_11dhw[(..., *part)],
                    widths,
                    squared=self.similarity.squared,
                    stride=WINDOW_STRIDE if whole else 1,
                )
                for part in self._parts
            ]

    def _map(self, coefficients_13dhw: Tensor, part: tuple[slice, slice, slice]) -> Tensor:
        """1 x 3 x d x h x w moving normalized coordinates of the fixed level grid's voxels at those places."""
        in_normalized = torch.einsum("uc,bcdhw->budhw", self.normalized_from_mm, coefficients_13dhw)
        matrices = (m[places] for m, places in zip(self.matrices, part, strict=True))
        moved = along_axes(in_normalized, *matrices)
        if self.share_11dhw is not None:
            moved = moved * self.share_11dhw[(..., *part)]
        return self.base_map[(..., *part)] + moved

    fixed_stays = True

    def maps_in(self, coefficients_13dhw: Tensor, part: tuple[slice, slice, slice]) -> list[Tensor]:
        """1 3 d h w normalized coordinates of the fixed and of the moving image in a part of the fixed level grid."""
        shape = self.images.fixed_grid.shape_dhw
        axes = [axis_coordinates(n, device=self.base_map.device)[s] for n, s in zip(shape, part, strict=True)]
        fixed = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
        return [fixed, self._map(coefficients_13dhw, part)]

    def displace(self, displacement_13dhw: Tensor) -> None:
        """Begin with a displacement on the fixed level grid that the spline adds to; mm along the box's d, h, w."""
        shift = torch.einsum("uc,bcdhw->budhw", self.normalized_from_mm, displacement_13dhw.to(self.base_map.device))
        self.base_map = self.base_map + shift

    def _weight_of(self, map_13dhw: Tensor, part: tuple[slice, slice, slice]) -> Tensor:
        """1 where both images have data, times both given weights."""
        inside = ((map_13dhw > 0) & (map_13dhw < 1)).all(1, keepdim=True).float()
        if self.images.fixed_weight_11dhw is not None:
            inside = inside * self.images.fixed_weight_11dhw[(..., *part)]
        if self.images.moving_weight_11dhw is not None:
            inside = inside * sample(self.images.moving_weight_11dhw, map_13dhw)
        return inside

    def folds(self, coefficients_13dhw: Tensor, spacing_dhw_mm) -> Tensor:
        return bspline.fold_penalty(coefficients_13dhw, spacing_dhw_mm)

    def __call__(self, coefficients_13dhw: Tensor) -> Tensor:
        at = self._calls % len(self._parts)
        part = self._parts[at]
        map_13dhw = self._map(coefficients_13dhw, part)
        again = self._calls % WEIGHT_EVERY == 0
        self._calls += 1
        with torch.no_grad():
            if again or len(self._parts) > 1:
                self._weight = self._weight_of(map_13dhw, part)
            if again:
                ignored = ignored_under([map_13dhw], [self.images.moving_ignored_11dhw])
                here = self.images.fixed_ignored_11dhw
                if here is not None:
                    here = here[(..., *part)]
                    ignored = here if ignored is None else torch.maximum(here, ignored)
                matrices = [m[places] for m, places in zip(self.matrices, part, strict=True)]
                self.stiffness = stiffness(self._weight, matrices, ignored)
        weight = self._weight
        if self.similarity.descriptors:
            return mind_distance(sample(self.moving_descriptor, map_13dhw), self.fixed_descriptors[at], weight)
        return self.correlations[at](sample(self.images.moving_11dhw, map_13dhw), weight, weight)


def _itself(coefficients_13dhw: Tensor) -> Tensor:
    return coefficients_13dhw


def _tensor(matrix: np.ndarray, device) -> Tensor:
    return tensor_from_array(np.ascontiguousarray(matrix, dtype=np.float32)).to(device)


def affine_map(normalized_from_normalized: np.ndarray, shape_dhw) -> Tensor:
    """1 x 3 x D x H x W: an affine of the lattice's normalized coordinates, built by broadcasting."""
    axes = [(torch.arange(n, dtype=torch.float64) + 0.5) / n for n in shape_dhw]
    matrix = tensor_from_array(np.ascontiguousarray(normalized_from_normalized, dtype=np.float64))
    rows = []
    for r in range(3):
        along = [matrix[r, a] * axes[a] for a in range(3)]
        rows.append((along[0] + matrix[r, 3])[:, None, None] + along[1][None, :, None] + along[2][None, None, :])
    return torch.stack(rows)[None].float()


def optimize_field(
    images: Iterable[LevelImages],
    levels: list[FieldLevel],
    affine_lps: np.ndarray,
    box: VolumeGrid,
    *,
    similarity: str = "lncc2",
    start_13dhw: Tensor | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> FieldResult:
    """Find the displacement that maximizes similarity and stays smooth.

    Args:
        images, levels: one each per level, coarse to fine; a level's control spacing equals or halves the last one's.
        affine_lps: 4x4, moving_from_fixed. box: the part of fixed space the spline covers (voxel faces).
        start_13dhw: coefficients at the first level's spacing; None = zero.
        progress: told of every step; ends the optimization where it is asked to stop here. watch: called with what is
            found so far, after every step; it must not be kept.
    Raises OptimizationDiverged when a loss is not finite; Cancelled.
    """

    def loss_of(level_images: LevelImages, level: FieldLevel) -> LevelLoss:
        return LevelLoss(level_images, affine_lps, box, level, similarity)

    return descend(images, levels, box, loss_of, start_13dhw=start_13dhw, progress=progress, watch=watch)


class OfCoefficients(Protocol):
    """What `descend` minimizes on one level: a similarity as a function of the spline's coefficients (1 3 d h w, mm).

    voxel_mm: smallest voxel edge of the level. stiffness: see `LevelLoss`. beside: further terms of the coefficients.
    """

    voxel_mm: float
    stiffness: Tensor | None
    beside: list[Callable[[Tensor], Tensor]]

    def __call__(self, coefficients_13dhw: Tensor) -> Tensor: ...

    def folds(self, coefficients_13dhw: Tensor, spacing_dhw_mm) -> Tensor:
        """A penalty on what folds or nearly does."""
        ...


def _irregularity(coefficients: Tensor, level: FieldLevel, loss_of: OfCoefficients, spacing_dhw) -> Tensor:
    """What keeps a level's spline smooth and free of folds."""
    found = coefficients.new_zeros(())
    if level.bending:
        found = found + level.bending * bspline.bending_energy(coefficients, spacing_dhw)
    if level.diffusion:
        found = found + level.diffusion * bspline.diffusion_energy(coefficients, spacing_dhw, loss_of.stiffness)
    if level.fold:
        found = found + level.fold * loss_of.folds(coefficients, spacing_dhw)
    return found


def descend(
    images: Iterable[LevelImages],
    levels: list[FieldLevel],
    box: VolumeGrid,
    loss_for: Callable[[LevelImages, FieldLevel], OfCoefficients],
    *,
    start_13dhw: Tensor | None = None,
    whole_for: Callable[[FieldLevel], Callable[[Tensor], Tensor]] | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> FieldResult:
    """Adam on the spline's coefficients, level by level; arguments and errors as of `optimize_field`.

    loss_for: the loss of one level, without its terms of smoothness.
    whole_for: where coefficients of a change are optimized, those of all that loss and smoothness are about.
    """
    progress = progress or Progress()
    coefficients = start_coefficients(box, levels[0].spacing_mm) if start_13dhw is None else start_13dhw.clone()
    total_steps, done, losses = sum(level.steps for level in levels), 0, []
    spacing = levels[0].spacing_mm
    for number, (level_images, level) in enumerate(zip(images, levels, strict=True)):
        if progress.stopping:
            break
        coefficients = coefficients.to(level_images.fixed_11dhw.device)
        while spacing > level.spacing_mm * 1.01:
            coefficients = refined(coefficients, box, spacing)
            spacing /= 2
        if level.steps == 0:
            continue
        loss_of = loss_for(level_images, level)
        whole_of = _itself if whole_for is None else whole_for(level)
        coefficients = coefficients.detach().requires_grad_()
        # Gradients are per mm, and so is what keeps Adam's steps finite: the same for a body at any size.
        tiny = _TINY_GRADIENT / loss_of.voxel_mm
        optimizer = Adam([coefficients], level.rate_mm, betas=(0.9, 0.99), eps=tiny)
        spacing_dhw = [spacing] * 3
        for step in range(level.steps):
            optimizer.rate = level.rate_mm * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / level.steps)))
            optimizer.forget_gradients()
            whole = whole_of(coefficients)
            unlike = loss_of(whole)
            loss = unlike + _irregularity(whole, level, loss_of, spacing_dhw)
            for term in loss_of.beside:
                loss = loss + term(whole)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise OptimizationDiverged(
                    f"Instance optimization diverged at step {done}: expected a finite loss, got {value}. "
                    "Try --smoothness 2 or fewer --io-steps, and please report the pair's modalities and sizes."
                )
            losses.append(value)
            loss.backward()
            optimizer.step()
            done += 1
            progress.stepped(Step(done, total_steps, -float(unlike.detach()), number))
            if watch is not None:
                watch(FieldResult(coefficients.detach(), box, spacing, losses))
            if progress.stopping:
                break
        coefficients = coefficients.detach()
    return FieldResult(coefficients, box, spacing, losses)
