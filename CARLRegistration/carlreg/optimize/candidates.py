"""Affine candidates: fitted to correspondences, told apart, scored and refined on coarse images.

Which there are and which of them wins: `registration.starts`.

All matrices are 4x4, moving_from_fixed, LPS mm.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np

from ..progress import Progress
from ..spaces import apply_affine, fit_linear
from .affine import ROUGH, AffineProblem, refine_affine

# Maps looked at in a short descent, with what may change first and then.
_FIRST_STEPS, _STEPS = 10, 12
# How strongly fits of affine maps are drawn to the rigid ones.
TOWARD_RIGID = 1e-2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AffineCandidate:
    """A candidate: its name, its matrix, and how well it aligns the images (not a number before that is known)."""

    name: str
    matrix: np.ndarray
    score: float = math.nan
    overlap: float = math.nan


def translation(offset_lps) -> np.ndarray:
    """4x4 matrix of a shift in mm."""
    matrix = np.eye(4)
    matrix[:3, 3] = offset_lps
    return matrix


def robust_affine(
    fixed_lps: np.ndarray,
    moving_lps: np.ndarray,
    weights: np.ndarray,
    *,
    iterations: int = 30,
    least_scale_mm: float,
) -> tuple[np.ndarray, float]:
    """The affine map that most of the weighted correspondences agree on.

    Iteratively reweighted least squares with Geman-McClure weights, from a rigid fit to a full affine one; the scale
    shrinks from the spread of the residuals to `least_scale_mm`. Scales beyond 0.6..1.6 fall back to the rigid fit.

    Args:
        fixed_lps, moving_lps: n x 3 corresponding points, mm. weights: n, >= 0.
    Returns: 4x4 matrix, and the weighted share of correspondences within twice the final scale.
    """
    weights = np.asarray(weights, dtype=np.float64) / max(float(np.sum(weights)), 1e-12)
    offsets = moving_lps - fixed_lps
    matrix = translation(_weighted_median(offsets, weights))
    rigid = matrix
    scale = math.inf
    for iteration in range(iterations):
        residual = np.linalg.norm(apply_affine(matrix, fixed_lps) - moving_lps, axis=1)
        spread = 1.5 * float(_weighted_median(residual[:, None], weights)[0])
        scale = max(least_scale_mm, min(spread, 0.85 * scale))
        robust = weights / (1 + (residual / scale) ** 2) ** 2
        half = iteration < iterations // 2
        kind = "rigid" if half else "affine"
        matrix = fit_linear(fixed_lps, moving_lps, robust, kind=kind, toward_rigid=TOWARD_RIGID)
        if half:
            rigid = matrix
    stretch = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    if stretch.min() < 0.6 or stretch.max() > 1.6 or np.linalg.det(matrix[:3, :3]) <= 0:
        matrix = rigid
    residual = np.linalg.norm(apply_affine(matrix, fixed_lps) - moving_lps, axis=1)
    return matrix, float(weights[residual < 2 * scale].sum())


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    out = []
    for column in values.T:
        order = np.argsort(column)
        total = np.cumsum(weights[order])
        out.append(column[order][min(np.searchsorted(total, 0.5 * total[-1]), len(column) - 1)])
    return np.array(out)


def distinct(
    candidates: list[AffineCandidate], center_lps, radius_mm: float, closer_than_mm: float
) -> list[AffineCandidate]:
    """Candidates without near copies: points at `radius_mm` around the center must differ by more than the bound."""
    probes = center_lps + radius_mm * np.concatenate([np.eye(3), -np.eye(3), np.zeros((1, 3))])
    kept: list[tuple[AffineCandidate, np.ndarray]] = []
    for candidate in candidates:
        mapped = apply_affine(candidate.matrix, probes)
        if all(np.abs(mapped - other).max() > closer_than_mm for _, other in kept):
            kept.append((candidate, mapped))
    return [candidate for candidate, _ in kept]


def refine_candidates(
    candidates: list[AffineCandidate],
    coarse: AffineProblem,
    *,
    keep: int,
    first_dof: str = "translation",
    dof: str = "affine",
    progress: Progress | None = None,
) -> list[AffineCandidate]:
    """Score all candidates, refine the most promising ones at the coarse level, return them best first.

    The best `keep` by plain score are given a short descent (`first_dof`, then `dof`) and scored again.
    """
    scored = []
    for candidate in candidates:
        result = coarse.score(candidate.matrix)
        scored.append(AffineCandidate(candidate.name, candidate.matrix, result.score, result.overlap))
        log.info("start %s: score %.3f, overlap %.2f", candidate.name, result.score, result.overlap)
    scored.sort(key=lambda candidate: -candidate.score)
    refined = []
    for count, candidate in enumerate(scored[:keep]):
        matrix = roughly_refined(coarse, candidate.matrix, first_dof, dof, progress)
        result = coarse.score(matrix)
        refined.append(AffineCandidate(candidate.name, matrix, result.score, result.overlap))
        log.info("start %s refined: score %.3f, overlap %.2f", candidate.name, result.score, result.overlap)
        if progress is not None:
            progress.update((count + 1) / min(keep, len(scored)), f"start {candidate.name}")
    refined.sort(key=lambda candidate: -candidate.score)
    return refined


def roughly_refined(
    coarse: AffineProblem, matrix: np.ndarray, first_dof: str, dof: str, progress: Progress | None = None
) -> np.ndarray:
    """A matrix after a short descent on coarse images: what may change first, and then."""
    for may_change, steps in ((first_dof, _FIRST_STEPS), (dof, _STEPS)):
        matrix = refine_affine(coarse, matrix, steps=steps, dof=may_change, settled=ROUGH, progress=progress)
    return matrix
