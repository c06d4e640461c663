"""Affine alignment: refine a start by local correlation, and score starts by what they align.

Matrices are 4x4, moving_from_fixed, LPS mm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..losses.registry import similarity_named
from ..losses.similarity import LocalCorrelation, mind_descriptor, mind_distance, window_widths
from ..maps import sample
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..progress import Progress
from ..spaces import Stretches, VolumeGrid, apply_affine, nearest_sound
from .increments import inverse_of, of_increments, stepped, updated_inverse
from .levels import LevelImages

#: How much a smaller overlap costs in the score: similarity * overlap_share ** OVERLAP_POWER.
OVERLAP_POWER = 0.5
# Steps lead at most as far as this share of the body's radius, and are shortened so where they gain nothing.
_REACH, _SHORTER = 0.3, 0.35
# Losses jump by as much where voxels come into view: not to be taken for a loss.
_NOISE = 2e-4


@dataclass(frozen=True)
class Settled:
    """When to stop: a step that leads no corner farther than so many voxels, or two in turn that gain less."""

    voxels: float
    gain: float


#: What is refined on, and what is only to be compared or refined further.
FINE, ROUGH = Settled(0.003, 1e-6), Settled(0.1, 1e-4)


@dataclass(frozen=True)
class AffineScore:
    """score: similarity with the overlap term, larger is better; similarity: mean over the overlap; overlap: 0..1."""

    score: float
    similarity: float
    overlap: float


class AffineProblem:
    """Similarity of two images at one resolution as a function of an affine matrix.

    The fixed image's structure (its windowed variance) weighs the voxels, so that air and blank background neither
    help nor hurt. similarity: a name of `losses.registry`; with 'mind' the squared local correlation serves too, which
    tells inverted contrast as well: an affine can minimize a descriptor's distance by collapsing onto a flat place.
    bounds: within which affines are looked for. stride: windows stand around every so many voxels.
    """

    def __init__(
        self,
        images: LevelImages,
        *,
        window_mm: float,
        similarity: str = "lncc2",
        bounds: Stretches | None = None,
        stride: int = 1,
    ) -> None:
        self.images, self.similarity, self.bounds = images, similarity_named(similarity), bounds or Stretches()
        self.stride = stride
        fixed = images.fixed_grid
        self.center_lps = _weighted_center(images.fixed_11dhw, fixed, images.fixed_weight_11dhw)
        widths = window_widths(fixed.spacing[::-1], window_mm)
        squared = self.similarity.squared
        everywhere = LocalCorrelation(images.fixed_11dhw, widths, squared=squared)
        self.correlation = everywhere
        if stride > 1:
            self.correlation = LocalCorrelation(images.fixed_11dhw, widths, squared=squared, stride=stride)
        variance = everywhere.variance - everywhere.floor
        structure = variance / (variance + 10 * self.correlation.floor)
        if images.fixed_weight_11dhw is not None:
            structure = structure * images.fixed_weight_11dhw
        self.structure_11dhw = structure
        self.total = float(structure.sum())
        device = images.fixed_11dhw.device
        self.axes = [(torch.arange(n, dtype=torch.float32, device=device) + 0.5) / n for n in fixed.shape_dhw]
        self.moving_normalized_from_lps = tensor_from_array(images.moving_grid.normalized_from_lps)
        self.fixed_lps_from_normalized = tensor_from_array(fixed.lps_from_normalized)

    def map(self, matrix: Tensor) -> Tensor:
        """1 x 3 x D x H x W moving normalized coordinates; differentiable in the 4x4 LPS matrix (float64)."""
        moving_from_fixed = self.moving_normalized_from_lps @ matrix @ self.fixed_lps_from_normalized
        moving_from_fixed = moving_from_fixed.float().to(self.axes[0].device)
        d, h, w = self.axes
        return (
            moving_from_fixed[:3, 0, None, None, None] * d[None, :, None, None]
            + moving_from_fixed[:3, 1, None, None, None] * h[None, None, :, None]
            + moving_from_fixed[:3, 2, None, None, None] * w[None, None, None, :]
            + moving_from_fixed[:3, 3, None, None, None]
        )[None]

    def loss(self, matrix: Tensor) -> tuple[Tensor, float]:
        """Loss (smaller is better) and the share of the fixed structure that lies inside the moving image."""
        return self._loss(self.map(matrix))

    @torch.no_grad()
    def _weight(self, map_13dhw: Tensor) -> Tensor:
        weight = ((map_13dhw > 0) & (map_13dhw < 1)).all(1, keepdim=True) * self.structure_11dhw
        if self.images.moving_weight_11dhw is not None:
            weight = weight * sample(self.images.moving_weight_11dhw, map_13dhw)
        return weight

    def _loss(self, map_13dhw: Tensor) -> tuple[Tensor, float]:
        weight = self._weight(map_13dhw)
        overlap = float(weight.sum()) / max(self.total, 1e-6)
        value = self.correlation(sample(self.images.moving_11dhw, map_13dhw), weight)
        return value, overlap

    @torch.no_grad()
    def curvature(self, matrix: np.ndarray, about_lps: np.ndarray, radius_mm: float, dof: str) -> np.ndarray:
        """p x p, of the loss in the increments about a moving point: Gauss-Newton, at an eighth of the voxels.

        Letters as in `increments`.
        """
        map_13dhw = self.map(tensor_from_array(matrix))
        weight, grid = self._weight(map_13dhw), self.images.moving_grid
        with torch.enable_grad():
            where = map_13dhw.detach().requires_grad_()
            warped = sample(self.images.moving_11dhw, where)
            (slopes,) = torch.autograd.grad(warped.sum(), where)
        curved, slopes = self.correlation.curvature(warped.detach(), slopes)
        weight, map_13dhw = (self.correlation.window.centers(one) for one in (weight, map_13dhw))
        every = 1 if self.stride > 1 else 2
        some = (Ellipsis, *(slice((n - 1) % every // 2, None, every) for n in map_13dhw.shape[2:]))
        curved = (curved * weight)[some].flatten()
        used = torch.nonzero(curved > 0)[:, 0]
        curved = curved[used] / weight[some].sum().clamp_min(1e-6)
        lps_from_normalized = tensor_from_array(grid.lps_from_normalized)
        points = map_13dhw[some].reshape(3, -1)[:, used].T.double() @ lps_from_normalized[:3, :3].T.to(curved.device)
        points = points + lps_from_normalized[:3, 3].to(points.device) - tensor_from_array(about_lps).to(points.device)
        by_lps = tensor_from_array(grid.normalized_from_lps[:3, :3]).float().to(curved.device)
        slopes = slopes[some].reshape(3, -1)[:, used].T @ by_lps
        by_increments = of_increments(slopes[:, None], points.float()[:, None], dof, radius_mm)[:, 0]
        return array_from_tensor((by_increments.T @ (curved[:, None] * by_increments)).double())

    @torch.no_grad()
    def score(self, matrix: np.ndarray) -> AffineScore:
        return self._score(*self.loss(tensor_from_array(np.array(matrix, dtype=np.float64))))

    @torch.no_grad()
    def score_map(self, moving_from_fixed: Callable[[np.ndarray], np.ndarray]) -> AffineScore:
        """The same for any map, a function of n x 3 LPS points (mm)."""
        return self._score(*self._loss(self._sampled(moving_from_fixed)))

    @torch.no_grad()
    def descriptor_distance(self, moving_from_fixed: Callable[[np.ndarray], np.ndarray], matrix: np.ndarray) -> float:
        """Mean distance of the MIND descriptors under such a map, over the overlap; smaller is better.

        matrix: 4x4, the affine part of the map: along which directions of the moving image it is looked.
        """
        map_13dhw = self._sampled(moving_from_fixed)
        axes = self.images.steps_in_moving(matrix)
        moving = sample(mind_descriptor(self.images.moving_11dhw, axes_33=axes), map_13dhw)
        return float(mind_distance(moving, mind_descriptor(self.images.fixed_11dhw), self._weight(map_13dhw)))

    def _sampled(self, moving_from_fixed: Callable[[np.ndarray], np.ndarray]) -> Tensor:
        """1 x 3 x D x H x W moving normalized coordinates."""
        grid = self.images.fixed_grid
        points = np.stack(np.meshgrid(*[array_from_tensor(u) for u in self.axes], indexing="ij"), -1).reshape(-1, 3)
        mapped = moving_from_fixed(apply_affine(grid.lps_from_normalized, points))
        normalized = apply_affine(self.images.moving_grid.normalized_from_lps, mapped).T.astype(np.float32)
        return tensor_from_array(normalized.reshape(1, 3, *grid.shape_dhw)).to(self.axes[0].device)

    def _score(self, value: Tensor, overlap: float) -> AffineScore:
        similarity = max(0.0, -float(value))
        return AffineScore(similarity * overlap**OVERLAP_POWER, similarity, overlap)


def _weighted_center(image_11dhw: Tensor, grid: VolumeGrid, weight: Tensor | None) -> np.ndarray:
    values = image_11dhw[0, 0] if weight is None else image_11dhw[0, 0] * weight[0, 0]
    total = float(values.sum())
    if total <= 0:
        return grid.center_lps
    normalized = [
        float((values.sum([b for b in range(3) if b != a]) * (torch.arange(n, device=values.device) + 0.5) / n).sum())
        / total
        for a, n in enumerate(values.shape)
    ]
    return (grid.lps_from_normalized @ [*normalized, 1.0])[:3]


def refine_affine(
    problem: AffineProblem,
    start: np.ndarray,
    *,
    steps: int,
    dof: str = "affine",
    settled: Settled = FINE,
    progress: Progress | None = None,
) -> np.ndarray:
    """The matrix with the best similarity near to a start, 4x4 LPS: Gauss-Newton, whose curvature BFGS corrects.

    steps: maps that are looked at, at most. dof: what may change, 'translation' or a kind of linear map.
    The matrix never mirrors, and its stretches stay within the problem's bounds: a step beyond goes back to the
    nearest there. No step leads farther than a third of the body's radius, or loses a fifth of the start's overlap.
    """
    matrix = nearest_sound(np.array(start, dtype=np.float64), problem.center_lps)
    bounds = Stretches.around(matrix, problem.bounds)
    grid = problem.images.fixed_grid
    radius, corners = float(np.linalg.norm(grid.extent_mm)) / 4, grid.corners_lps()
    about, voxel = apply_affine(matrix, problem.center_lps), float(grid.spacing.min())

    def after(step: np.ndarray) -> tuple[np.ndarray, float]:
        trial = stepped(matrix, step, dof, radius, about_lps=about, fixed_center_lps=problem.center_lps, bounds=bounds)
        apart = apply_affine(trial, corners) - apply_affine(matrix, corners)
        return trial, float(np.linalg.norm(apart, axis=1).max())

    def curved() -> np.ndarray:
        return inverse_of(problem.curvature(matrix, about, radius, dof))

    loss, overlap, gradient = _with_gradient(problem, matrix, about, radius, dof)
    least, inverse, count, idle, fresh = 0.8 * overlap, curved(), 1, 0, True
    while count < steps and idle < 2:
        step, better, moved = -inverse @ gradient, False, math.inf
        step = step / max(1.0, float(np.linalg.norm(step)))
        step = step * min(1.0, _REACH * radius / max(after(step)[1], 1e-9))
        while count < steps and not better and moved > settled.voxels * voxel:
            trial, moved = after(step)
            found, overlap, slope = _with_gradient(problem, trial, about, radius, dof)
            count += 1
            better = found < loss + _NOISE and overlap >= least
            if better:
                idle = idle + 1 if loss - found < settled.gain else 0
                inverse = updated_inverse(inverse, step, slope - gradient)
                matrix, loss, gradient = trial, found, slope
            step = step * _SHORTER
            if progress is not None:
                progress.check()
        if moved <= settled.voxels * voxel or (fresh and not better):
            break
        fresh = not better
        if fresh and count < steps:
            inverse = curved()
    return matrix


def _with_gradient(
    problem: AffineProblem, matrix: np.ndarray, about_lps: np.ndarray, radius_mm: float, dof: str
) -> tuple[float, float, np.ndarray]:
    """(loss, overlap, gradient in the increments of `increments.increment` about a moving point)."""
    varied = tensor_from_array(matrix).requires_grad_()
    loss, overlap = problem.loss(varied)
    (slope,) = torch.autograd.grad(loss, varied)
    about, back = np.eye(4), np.eye(4)
    about[:3, 3], back[:3, 3] = about_lps, -about_lps
    by_map = about.T @ array_from_tensor(slope) @ (back @ matrix).T
    linear = by_map[:3, :3]
    parts = [radius_mm * by_map[:3, 3]]
    if dof in ("rigid", "similarity"):
        parts.append(np.array([linear[2, 1] - linear[1, 2], linear[0, 2] - linear[2, 0], linear[1, 0] - linear[0, 1]]))
    if dof == "similarity":
        parts.append(np.array([np.trace(linear)]))
    if dof == "affine":
        parts.append(linear.reshape(9))
    return float(loss.detach()), overlap, np.concatenate(parts)
