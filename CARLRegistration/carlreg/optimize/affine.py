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
from .levels import LevelImages

#: How much a smaller overlap costs in the score: similarity * overlap_share ** OVERLAP_POWER.
OVERLAP_POWER = 0.5
# Of Adam, which is written out for these few numbers: PyTorch's optimizers take seconds to be imported.
_BETAS = (0.8, 0.95)


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
    rate: float,
    dof: str = "affine",
    progress: Progress | None = None,
) -> np.ndarray:
    """Adam on the matrix around the fixed body's center, all parameters in units of the body's radius.

    rate: the first step, as a share of that radius. dof: what may change, 'translation' or a kind of linear map.
    The matrix never mirrors, and its stretches stay within the problem's bounds: a step beyond goes back to the
    nearest there.
    Returns the matrix with the best similarity seen, 4x4 LPS; steps that lose a fifth of the overlap do not count.
    """
    start = nearest_sound(np.array(start, dtype=np.float64), problem.center_lps)
    bounds, from_start = Stretches.around(start, problem.bounds), np.linalg.inv(start[:3, :3])
    center = tensor_from_array((start @ [*problem.center_lps, 1.0])[:3])
    radius = float(np.linalg.norm(problem.images.fixed_grid.extent_mm)) / 4
    start_matrix = tensor_from_array(start)
    parameters = torch.zeros(12, dtype=torch.float64, requires_grad=True)
    mean, square = torch.zeros_like(parameters), torch.zeros_like(parameters)

    def matrix_of(p: Tensor) -> Tensor:
        linear = p[3:].reshape(3, 3)
        if dof in ("rigid", "similarity"):
            turned = torch.linalg.matrix_exp(0.5 * (linear - linear.T))
            linear = turned * torch.exp(linear.diagonal().mean()) if dof == "similarity" else turned
        elif dof == "translation":
            linear = torch.eye(3, dtype=torch.float64)
        else:
            linear = torch.eye(3, dtype=torch.float64) + linear
        shift = center - linear @ center + radius * p[:3]
        top = torch.cat([linear, shift[:, None]], dim=1)
        return torch.cat([top, top.new_tensor([[0.0, 0, 0, 1]])]) @ start_matrix

    best, best_value, least_overlap = start, math.inf, 0.0
    for step in range(steps + 1):
        matrix = matrix_of(parameters)
        loss, overlap = problem.loss(matrix)
        value = float(loss.detach())
        if step == 0:
            least_overlap = 0.8 * overlap
        if value < best_value and overlap >= least_overlap:
            best, best_value = array_from_tensor(matrix), value
        if step < steps:
            (slope,) = torch.autograd.grad(loss, parameters)
            mean, square = mean.lerp(slope, 1 - _BETAS[0]), square.lerp(slope.square(), 1 - _BETAS[1])
            unbiased = (1 - _BETAS[0] ** (step + 1), 1 - _BETAS[1] ** (step + 1))
            size = rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            parameters.data -= size * (mean / unbiased[0]) / ((square / unbiased[1]).sqrt() + 1e-8)
            if dof == "similarity":
                beyond = parameters.data[3::4].mean() + math.log(float(np.linalg.det(start[:3, :3]))) / 3
                parameters.data[3::4] += beyond.clamp(math.log(bounds.low), math.log(bounds.high)) - beyond
            if dof == "affine":
                linear = (np.eye(3) + array_from_tensor(parameters[3:].detach()).reshape(3, 3)) @ start[:3, :3]
                if not bounds.hold(linear):
                    update = bounds.nearest(linear) @ from_start - np.eye(3)
                    parameters.data[3:] = tensor_from_array(update.reshape(9))
        if progress is not None:
            progress.check()
    return best
