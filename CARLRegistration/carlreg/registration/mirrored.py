"""Does the moving volume, mirrored, align better than as it is? Then an orientation was lost on the way here.

Bodies are nearly mirror symmetric: a mirrored head is found, its map looks plausible, and left is right in it. Only the
comparison with the mirrored volume tells. Measured on right pairs of heads, brains, trunks, livers and generated
anatomies, the mirrored volume reaches 0.3 to 0.99 times the local correlation.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..optimize.affine import AffineProblem, AffineScore, refine_affine
from ..optimize.candidates import AffineCandidate, distinct, refine_candidates, translation
from ..optimize.search import rotations
from ..preprocess import PreparedVolume
from ..progress import Progress
from ..quality.limits import LIMITS
from ..settings import RegistrationSettings
from .pair import PreparedPair
from .starts import ALIKE, coarse_problem, fine_problem, search_poses

log = logging.getLogger(__name__)

# Poses tried in rotation mode, and how many candidates are refined there and otherwise.
_ROTATIONS, _KEPT_TURNED, _KEPT = 160, 4, 1
# Steps on the finer images.
_FINE_STEPS = 12
# A likeness that no mirrored volume can exceed by much; how near to the start's one on coarse images is looked at
# closely; by how much local correlation must differ, and what the mirrored volume must reach, to mean anything: of a
# pair that was not found at all, one way may be more alike by chance (a chest turned by 180 degrees: 0.23 and 0.33).
_ENOUGH, _NEAR, _LEAST_GAIN, _CREDIBLE = 0.9, 0.95, 0.05, 0.35
# From this ratio on a volume that is mirrored may be taken for one that is not. Measured between
# heads and between brains of different people, the right way round: 0.88 to 1.03, a fifth of them above 1.
_UNDECIDED = LIMITS["undecided_likeness"]["check"]


def orientation_of(
    start: AffineCandidate,
    problem: AffineProblem,
    pair: PreparedPair,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
) -> dict:
    """How alike the volumes are after the affine, as they are and with the moving one mirrored.

    start: the refined winner. problem: the pair on the finer images.
    Returns as_given and mirrored (mean squared local correlation where they overlap) and ratio: how many times more
    alike they are mirrored, by that and by the score that counts overlap; 1 at most where that means nothing.
    undecided: whether they are so nearly as alike mirrored that the images do not tell left from right.
    """
    given = problem.score(start.matrix)
    if given.similarity >= _ENOUGH:
        return _told(given, None)
    reached, matrix, other = _best_flip(start.matrix, pair, settings, device, progress)
    compared = coarse_problem(pair, settings, device).score(start.matrix)
    if reached.score > _NEAR * compared.score:
        fine = fine_problem(other, settings, device)
        reached = fine.score(refine_affine(fine, matrix, steps=_FINE_STEPS, dof=settings.dof, progress=progress))
        compared = given
    return _told(compared, reached)


def coarse_orientation_of(
    start: AffineCandidate,
    pair: PreparedPair,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
) -> dict:
    """The same by the coarse images of the searches alone. start: refined on them."""
    given = coarse_problem(pair, settings, device).score(start.matrix)
    if given.similarity >= _ENOUGH:
        return _told(given, None)
    return _told(given, _best_flip(start.matrix, pair, settings, device, progress)[0])


def _best_flip(
    start: np.ndarray, pair: PreparedPair, settings: RegistrationSettings, device: torch.device, progress: Progress
) -> tuple[AffineScore, np.ndarray, PreparedPair]:
    """The mirrored pair that is most alike on coarse images: its score, its matrix, and the pair."""
    turned = settings.robustness == "rotation"
    # Where poses are searched, mirroring along one axis and turning is mirroring along any.
    tried = []
    for axis in (0,) if turned else range(3):
        flip = replace(pair, moving=mirrored_volume(pair.moving, axis))
        same = AffineCandidate("mirrored, both", both_mirrored(start, pair, axis))
        tried.append((flip, coarse_problem(flip, settings, device), _candidates(flip, same, settings, progress)))
    if settings.linear:  # where little time is spent, the most promising one is aligned
        tried = [max(tried, key=lambda one: max(one[1].score(start.matrix).score for start in one[2]))]
    return max(
        (_aligned(flip, problem, found, settings) for flip, problem, found in tried), key=lambda one: one[0].score
    )


def _told(given: AffineScore, mirrored: AffineScore | None) -> dict:
    if mirrored is None:
        return {"as_given": given.similarity, "mirrored": None, "ratio": None, "undecided": False}
    pairs = ((given.score, mirrored.score), (given.similarity, mirrored.similarity))
    plain = min(other / max(one, 1e-6) for one, other in pairs)
    ratio = _ratio(plain, pairs)
    log.info("mirrored: score %.3f, as given %.3f; %.2f times", mirrored.score, given.score, plain)
    named = ratio > LIMITS["mirrored_likeness"]["check"]
    undecided = plain > _UNDECIDED and given.similarity > _CREDIBLE and not named
    return {"as_given": given.similarity, "mirrored": mirrored.similarity, "ratio": ratio, "undecided": undecided}


def _ratio(ratio: float, pairs: tuple[tuple[float, float], ...]) -> float:
    mirrored_similarity = pairs[1][1]
    credible = min(other - one for one, other in pairs) > _LEAST_GAIN and mirrored_similarity > _CREDIBLE
    return ratio if credible else min(ratio, 1.0)


def both_mirrored(start: np.ndarray, pair: PreparedPair, ijk_axis: int) -> np.ndarray:
    """4x4: what a map of the fixed to the moving volume is for a symmetric body, once the moving volume is mirrored.

    However the bodies are turned against each other, it is right where the fixed one's plane of symmetry lies along its
    voxels.
    """
    moving, fixed = pair.moving.grid, pair.fixed.content
    normal = moving.direction[:, ijk_axis]
    along = fixed.direction.T @ np.linalg.solve(start[:3, :3], normal)
    nearest = fixed.direction[:, int(np.abs(along).argmax())]
    return _reflection(normal, moving.center_lps) @ start @ _reflection(nearest, fixed.center_lps)


def _reflection(normal: np.ndarray, point: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] -= 2 * np.outer(normal, normal)
    matrix[:3, 3] = 2 * normal * (normal @ point)
    return matrix


def mirrored_volume(volume: PreparedVolume, ijk_axis: int) -> PreparedVolume:
    """The same voxels in the opposite order along one axis, on the same grid."""
    dim, grid = 2 - ijk_axis, volume.grid
    start = np.rint(grid.index(volume.content.origin_lps[None])[0]).astype(int)
    size = np.asarray(volume.content.size_ijk)
    start[ijk_axis] = grid.size_ijk[ijk_axis] - start[ijk_axis] - size[ijk_axis]

    def flipped(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.flip(dim)

    return replace(
        volume,
        voxels_dhw=volume.voxels_dhw.flip(dim),
        content=grid.cropped(start, start + size),
        mask_dhw=flipped(volume.mask_dhw),
        valid_dhw=flipped(volume.valid_dhw),
        extended_dhw=flipped(volume.extended_dhw),
    )


def _aligned(
    pair: PreparedPair, coarse: AffineProblem, candidates: list[AffineCandidate], settings: RegistrationSettings
) -> tuple[AffineScore, np.ndarray, PreparedPair]:
    """The best affine on coarse images: its score, its matrix, and the pair."""
    turned = settings.robustness == "rotation"
    keep, dof = (_KEPT_TURNED, "rigid") if turned else (_KEPT, "translation")
    best = refine_candidates(candidates, coarse, keep=keep, first_dof=dof, dof=settings.dof)[0]
    return coarse.score(best.matrix), best.matrix, pair


def _candidates(
    pair: PreparedPair, same: AffineCandidate, settings: RegistrationSettings, progress: Progress
) -> list[AffineCandidate]:
    """Starts for the mirrored volume: by the map of the other one, by the headers, by its middle, and from a search."""
    fixed, moving = pair.fixed, pair.moving
    turned = settings.robustness == "rotation"
    poses = search_poses(
        fixed, moving, rotations(_ROTATIONS if turned else 1), keep=8 if turned else 1, progress=progress
    )
    found = [
        same,
        AffineCandidate("mirrored, header", np.eye(4)),
        AffineCandidate("mirrored, centers", translation(moving.content.center_lps - fixed.content.center_lps)),
        *(AffineCandidate("mirrored, search", pose.matrix) for pose in poses),
    ]
    diagonal_mm = float(np.linalg.norm(fixed.content.extent_mm))
    return distinct(found, fixed.content.center_lps, diagonal_mm / 2, closer_than_mm=ALIKE * diagonal_mm)
