"""A linear map at the images' own resolution: few numbers, found by many voxels in patches.

Around points drawn from what both images show, patches of either image are read in it and, through the map, in the
other one; both directions count alike, so that exchanging the images gives nearly the inverse. All points lie between
voxels: neither image is interpolated less than the other, which would draw the map to where lattices meet.

Steps are those of BFGS, which starts from the normal equations of least squares (Gauss-Newton).

What is found are increments about the center: a shift, a turn (rotation vector), the logarithm of a scale, or that of
a linear map, each in units of a length. Matrices are 4x4, moving_from_fixed, LPS mm.

Letters: n patches, k places of a patch, s spatial axes, p parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import OptimizationDiverged
from ..losses.registry import similarity_named
from ..losses.similarity import mind_descriptor
from ..maps.exchange import array_from_tensor
from ..progress import Progress, Step
from ..spaces import Stretches, apply_affine, nearest_linear, nearest_sound
from .increments import inverse_of, of_increments, patch_normal, stepped, updated_inverse
from .levels import LevelImages
from .linear_guides import LinearGuide
from .patch_places import patch_places, views
from .patches import PatchImage

DOFS = ("translation", "rigid", "similarity", "affine")
# Steps at most on a level, and voxels of it that no point moves by any more: on the finest one, and on the others.
_ITERATIONS, _CONVERGED, _COARSELY_CONVERGED = 30, 0.005, 0.03
# Of the loss: two steps in turn that gain less than this are the last ones; images that differ have no sharp optimum.
_NO_GAIN = 2e-5
_SHORTER, _HALVINGS = 0.35, 6
# A step that loses more of what both images show than this is none: the mean over the rest says little.
_LEAST_OVERLAP = 0.8


@dataclass(frozen=True)
class _Side:
    """One direction: patches of `own` at fixed places, and `other` read through the map. Frames are centered, mm.

    values_nk, counts_nk: of `own`; points_nks: where, in its frame.
    """

    own: list[PatchImage]
    other: list[PatchImage]
    points_nks: Tensor
    values_cnk: Tensor
    counts_nk: Tensor


@dataclass(frozen=True)
class _Normal:
    """loss: mean; of least squares: hessian p x p and gradient p. overlap: patches that count."""

    loss: float
    hessian: np.ndarray
    gradient: np.ndarray
    overlap: float


class LinearProblem:
    """Both images at one resolution, as a function of a linear map near to `start`.

    dof: what may change. similarity: a name of `losses.registry`. seed: of the places that are drawn. finest: whether
    this resolution is the last one. guides: what is known beside the images.
    """

    def __init__(
        self,
        images: LevelImages,
        start: np.ndarray,
        center_lps: np.ndarray,
        *,
        similarity: str,
        dof: str,
        seed: int,
        finest: bool = True,
        guides: Sequence[LinearGuide] = (),
    ) -> None:
        self.guides = guides
        self.similarity, self.dof = similarity_named(similarity), dof
        self.center = {"fixed": center_lps, "moving": apply_affine(start, center_lps)}
        self.radius_mm = float(np.linalg.norm(images.fixed_grid.extent_mm)) / 4
        self.voxel_mm = float(min(images.fixed_grid.spacing.min(), images.moving_grid.spacing.min()))
        self.corners_lps = apply_affine(
            images.fixed_grid.lps_from_normalized, np.array([[c >> 2 & 1, c >> 1 & 1, c & 1] for c in range(8)])
        )
        fixed = views(images.fixed_11dhw, images.fixed_weight_11dhw, images.fixed_grid, self.center["fixed"])
        moving = views(images.moving_11dhw, images.moving_weight_11dhw, images.moving_grid, self.center["moving"])
        forward, backward = self._between(start)
        one, two = (
            patch_places(own[0], other[0], grid, other_from_own, self.similarity, seed=seed, finest=finest)
            for own, other, grid, other_from_own in (
                (fixed, moving, images.fixed_grid, forward),
                (moving, fixed, images.moving_grid, backward),
            )
        )
        if self.similarity.descriptors:
            axes = images.steps_in_moving(start)
            shown = mind_descriptor(images.fixed_11dhw), mind_descriptor(images.moving_11dhw, axes_33=axes)
            fixed = views(shown[0], images.fixed_weight_11dhw, images.fixed_grid, self.center["fixed"])
            moving = views(shown[1], images.moving_weight_11dhw, images.moving_grid, self.center["moving"])
        self.sides = [_side(fixed, moving, one), _side(moving, fixed, two)]

    def _between(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """4x4: moving frame from fixed frame, and back."""
        to_frame, from_frame = np.eye(4), np.eye(4)
        to_frame[:3, 3], from_frame[:3, 3] = -self.center["moving"], self.center["fixed"]
        forward = to_frame @ matrix @ from_frame
        return forward, np.linalg.inv(forward)

    def normal(self, matrix: np.ndarray) -> _Normal:
        """Loss and normal equations in the increments at a matrix, of both directions."""
        forward, backward = self._between(matrix)
        device = self.sides[0].points_nks.device
        total_h = total_g = torch.zeros((), device=device)
        loss, used, all_patches = 0.0, 0.0, 0
        for n, (side, map_44) in enumerate(zip(self.sides, (forward, backward), strict=True)):
            linear = torch.tensor(map_44[:3, :3].tolist(), device=device)
            shift = torch.tensor(map_44[:3, 3].tolist(), device=device)
            mapped = side.points_nks @ linear.T + shift
            # Increments act on moving points z: z + u(z) forward; backward a point y comes from before, at -L u(y).
            moved = mapped if n == 0 else side.points_nks
            by_point = linear if n == 1 else None
            if not len(mapped):
                continue
            parts = self._of_side(side, mapped, moved, by_point)
            loss, used = loss + parts[0], used + parts[3]
            total_h, total_g = total_h + parts[1], total_g + parts[2]
            all_patches += len(side.points_nks)
        if not used:
            return _Normal(1.0, np.zeros((1, 1)), np.zeros(1), 0.0)
        hessian, gradient = (array_from_tensor(total.double()) / used for total in (total_h, total_g))
        found = _Normal(loss / used, hessian, gradient, used / all_patches)
        return self._guided(found, matrix)

    def _guided(self, found: _Normal, matrix: np.ndarray) -> _Normal:
        """With what the guides cost, too."""
        loss, hessian, gradient = found.loss, found.hessian, found.gradient
        for guide in self.guides:
            for missed in guide.missed(matrix, self.voxel_mm):
                cost, curvature, slope = missed.cost(self.center["moving"], self.dof, self.radius_mm)
                loss, hessian, gradient = loss + cost, hessian + curvature, gradient + slope
        return _Normal(loss, hessian, gradient, found.overlap)

    def _of_side(self, side: _Side, mapped: Tensor, moved: Tensor, backward: Tensor | None):
        """(sum of losses, hessian, gradient, patches that count)."""
        values, slopes, counts = [], [], side.counts_nk
        for image in side.other:
            where = mapped.clone().requires_grad_()
            found, also = image.values(where)
            (slope,) = torch.autograd.grad(found.sum(), where)
            values.append(found.detach())
            slopes.append(slope)
        counts = counts * also
        if backward is not None:  # a point of the moving image stays; what it comes from moves the other way
            slopes = [-(slope @ backward) for slope in slopes]
        if self.similarity.descriptors:
            weight = counts[:, 0]
            residual = torch.stack(values) - side.values_cnk
            slope = torch.stack([of_increments(one, moved, self.dof, self.radius_mm) for one in slopes])
            hessian = torch.einsum("n,cnkp,cnkq->pq", weight, slope, slope) / len(values)
            gradient = torch.einsum("n,cnk,cnkp->p", weight, residual, slope) / len(values)
            loss = 0.5 * (weight * residual.square().mean(0)[:, 0]).sum()
            return float(loss), hessian, gradient, float(weight.sum())
        slope = of_increments(slopes[0], moved, self.dof, self.radius_mm)
        return patch_normal(side.values_cnk[0], values[0], slope, counts, self.similarity.squared)


def _side(own: list[PatchImage], other: list[PatchImage], points_nks: Tensor) -> _Side:
    read = [image.values(points_nks) for image in own]
    return _Side(own, other, points_nks, torch.stack([values for values, _ in read]), read[0][1])


@dataclass(frozen=True)
class LinearResult:
    """matrix: 4x4. iterations, losses: of each level. moved_voxels: by the last step of the finest level."""

    matrix: np.ndarray
    iterations: list[int]
    losses: list[float]
    moved_voxels: float


def optimize_linear(
    levels: Iterable[LevelImages],
    count: int,
    start: np.ndarray,
    center_lps: np.ndarray,
    *,
    dof: str,
    similarity: str = "lncc2",
    guides: Sequence[LinearGuide] = (),
    bounds: Stretches | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    watch: Callable[[np.ndarray], None] | None = None,
) -> LinearResult:
    """The linear map with the best similarity near to a start.

    Args:
        levels: `count` of them, coarse to fine. center_lps: of the fixed content; turns and scales are about it.
        guides: what is known beside the images, such as corresponding points and segments.
        watch: called with the matrix after each step.
        dof: 'translation', 'rigid', 'similarity' or 'affine'; the start's turn (and stretches) are kept otherwise.
    Stretches stay within `bounds` (None: those of any anatomy), or the start's.
    Raises OptimizationDiverged when a loss is not finite; Cancelled.
    """
    matrix = nearest_sound(nearest_linear(np.array(start, dtype=np.float64), dof, center_lps), center_lps)
    bounds = Stretches.around(matrix, bounds)
    iterations, losses, moved = [], [], math.inf
    for n, images in enumerate(levels):
        for _ in range(2 if similarity_named(similarity).descriptors else 1):  # descriptors turn with the map
            problem = LinearProblem(
                images,
                matrix,
                center_lps,
                similarity=similarity,
                dof=dof,
                seed=seed,
                finest=n + 1 == count,
                guides=guides,
            )
            told = _Told(progress, watch, n, count)
            matrix, done, loss, moved = _descended(problem, matrix, bounds, told)
            iterations.append(done)
            losses.append(loss)
    return LinearResult(matrix, iterations, losses, moved)


@dataclass(frozen=True)
class _Told:
    """Who follows the steps. level: of so many, coarse to fine."""

    progress: Progress | None
    watch: Callable[[np.ndarray], None] | None
    level: int
    levels: int

    @property
    def stopping(self) -> bool:
        return self.progress is not None and self.progress.stopping

    def step(self, count: int, matrix: np.ndarray, similarity: float) -> None:
        if self.progress is not None:
            done = self.level * _ITERATIONS + min(count, _ITERATIONS)
            self.progress.stepped(Step(done, self.levels * _ITERATIONS, similarity, self.level))
        if self.watch is not None:
            self.watch(matrix)


def _descended(
    problem: LinearProblem, matrix: np.ndarray, bounds: Stretches, told: _Told
) -> tuple[np.ndarray, int, float, float]:
    """(matrix, iterations, loss, voxels that the last step moved the farthest corner by)."""
    current, moved = problem.normal(matrix), math.inf
    least = _LEAST_OVERLAP * current.overlap
    enough = _CONVERGED if told.level + 1 == told.levels else _COARSELY_CONVERGED
    if not current.overlap:
        return matrix, 0, current.loss, 0.0
    inverse = inverse_of(current.hessian)
    fresh, count, idle = True, 0, 0
    while count < _ITERATIONS and not told.stopping:
        if not math.isfinite(current.loss):
            raise OptimizationDiverged(
                f"The linear alignment diverged: expected a finite loss, got {current.loss}. Try another --similarity "
                "or --initial-transform, and please report the pair's modalities and sizes."
            )
        step = -inverse @ current.gradient
        for _ in range(_HALVINGS):
            count += 1
            trial = stepped(
                matrix,
                step,
                problem.dof,
                problem.radius_mm,
                about_lps=problem.center["moving"],
                fixed_center_lps=problem.center["fixed"],
                bounds=bounds,
            )
            moved = _farthest(problem, matrix, trial)
            found = problem.normal(trial)
            better = found.loss < current.loss and found.overlap >= least
            told.step(count, trial if better else matrix, -min(found.loss, current.loss))
            if better or moved < enough:
                break
            step = step * _SHORTER
        if better:
            idle = idle + 1 if current.loss - found.loss < _NO_GAIN else 0
            inverse = updated_inverse(inverse, step, found.gradient - current.gradient)
            matrix, current = trial, found
        if moved < enough or idle == 2:
            break
        if not better:
            if fresh:
                break
            inverse = inverse_of(current.hessian)
        fresh = not better
    return matrix, count, current.loss, moved


def _farthest(problem: LinearProblem, one: np.ndarray, other: np.ndarray) -> float:
    """How far apart two maps lead a corner of the fixed image at most, in voxels."""
    apart = apply_affine(one, problem.corners_lps) - apply_affine(other, problem.corners_lps)
    return float(np.linalg.norm(apart, axis=1).max()) / problem.voxel_mm
