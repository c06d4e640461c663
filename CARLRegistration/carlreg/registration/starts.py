"""Where a registration starts: every affine worth trying, and which of them wins.

Matrices are 4x4, moving_from_fixed, LPS mm; the algorithms are in `optimize.candidates` and `optimize.search`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import InputError
from ..io.itk_transform import map_points
from ..optimize.affine import AffineProblem, refine_affine
from ..optimize.candidates import (
    TOWARD_RIGID,
    AffineCandidate,
    distinct,
    refine_candidates,
    robust_affine,
    translation,
)
from ..optimize.levels import LevelImages, level_images, search_spacing
from ..optimize.search import LEAST_OVERLAP, Found, SearchImage, rotations, search, small_rotations
from ..preprocess import PreparedVolume, resample_on_axes
from ..progress import Progress
from ..settings import RegistrationSettings
from ..spaces import Stretches, VolumeGrid, apply_affine, check_sound, fit_linear, nearest_linear, nearest_sound
from .pair import PreparedPair
from .predict import NetworkPrediction, PointMap

log = logging.getLogger(__name__)

# Poses tried in rotation mode, and voxels along the longer image there; below, where shifts alone are searched.
ROTATIONS, ROTATION_SIZE = 800, 26
# Voxels along the shorter image with which all poses are tried first, and how many times as many as are kept are tried
# again with more.
_FIRST_SIZE, _AGAIN = 12, 3
#: Degrees up to which poses are tried where similar ones are expected.
SMALL_TURN = 40.0
COARSE_SIZE = 40
# Maps looked at when the winner is refined, at most: twice as many as any pair that was measured needs.
_STEPS = 20
# Share of the best start's score from which others are looked at more closely; different contrasts score alike.
_LEADING, _LEADING_CONTRASTS = 0.9, 0.75
# Share of the best score from which an initial transform is taken all the same: starts often lead to one place.
_AS_GOOD = 0.99
# Shares of the fixed content's diagonal: how well correspondences agree at best, and candidates that are the same one.
_AGREEING, ALIKE = 0.0125, 0.00125
INITIAL = "initial transform"
# Windows of a linear registration stand around every so many voxels: what follows finds the last digits.
_STRIDE_LINEAR = 2
# How starts that follow from what users give are called first.
LANDMARKS, SEGMENTS = "landmarks", "segments"


def check_initial(initial_transform: sitk.Transform | None, fixed: VolumeGrid) -> None:
    """Refuse an initial transform that mirrors or flattens the fixed volume. Raises InputError."""
    if initial_transform is not None:
        points = lattice_points(fixed, 12)
        mapped = map_points(initial_transform, points)
        if not np.isfinite(mapped).all():
            raise InputError(f"{INITIAL}: expected finite positions of all points of the fixed volume, got others.")
        check_sound(fit_linear(points, mapped), INITIAL)


def affine_candidates(
    pair: PreparedPair,
    prediction: NetworkPrediction | None,
    initial_transform: sitk.Transform | None,
    settings: RegistrationSettings,
    progress: Progress,
) -> list[AffineCandidate]:
    """Everything worth trying, before any refinement: the given transform, the network, the headers, searches."""
    fixed, moving = pair.fixed, pair.moving
    diagonal_mm = float(np.linalg.norm(fixed.content.extent_mm))
    found = []
    if initial_transform is not None:
        points = lattice_points(fixed.content, 12)
        mapped = map_points(initial_transform, points)
        found.append(AffineCandidate(INITIAL, fit_linear(points, mapped, toward_rigid=TOWARD_RIGID)))
    if prediction is not None:
        matrix, agreement = robust_affine(
            prediction.points.fixed_lps,
            prediction.points.moving_lps,
            prediction.points.weights,
            least_scale_mm=_AGREEING * diagonal_mm,
        )
        log.info("network affine: %.0f %% of the weighted correspondences agree", 100 * agreement)
        matrix = nearest_sound(matrix, fixed.content.center_lps, stretches_of(settings))
        found.append(AffineCandidate("network", matrix))
    found.append(AffineCandidate("header", np.eye(4)))
    found.append(AffineCandidate("content centers", translation(moving.content.center_lps - fixed.content.center_lps)))
    spacing = search_spacing(fixed, moving, COARSE_SIZE)
    for padding_is_background in (True, False):
        one, other = (search_image(volume, spacing, padding_is_background) for volume in (fixed, moving))
        found += [AffineCandidate("translation search", entry.matrix) for entry in search(one, other, rotations(1))]
    if settings.robustness == "rotation":
        poses = search_poses(fixed, moving, rotations(ROTATIONS), keep=16, progress=progress)
        found += [AffineCandidate("rotation search", entry.matrix) for entry in poses]
    elif settings.linear:  # no network says how far the scans are turned; that costs more than trying
        poses = search_poses(fixed, moving, small_rotations(ROTATIONS, SMALL_TURN), keep=2, progress=progress)
        found += [AffineCandidate("pose search", entry.matrix) for entry in poses]
    if settings.linear:
        center = fixed.content.center_lps
        found = [replace(one, matrix=nearest_linear(one.matrix, settings.dof, center)) for one in found]
    return distinct(found, fixed.content.center_lps, diagonal_mm / 2, closer_than_mm=ALIKE * diagonal_mm)


def searched(
    pair: PreparedPair, settings: RegistrationSettings, progress: Progress, shares: Sequence[float]
) -> list[AffineCandidate]:
    """Where the fixed image, a part that is cut out, correlates best with the moving one, which shows its surroundings.

    shares: how much of the part must lie in the moving image; one search each.
    """
    spacing = search_spacing(pair.fixed, pair.moving, COARSE_SIZE)
    one, other = search_image(pair.fixed, spacing, False), search_image(pair.moving, spacing, True)
    found = [
        AffineCandidate("translation search", entry.matrix)
        for share in shares
        for entry in search(one, other, rotations(1), least_overlap=share)
    ]
    if settings.robustness == "rotation":
        poses = search_poses(
            pair.fixed,
            pair.moving,
            rotations(ROTATIONS),
            keep=16,
            least_overlap=0.9,
            padding_is_background=(False, True),
            progress=progress,
        )
        found += [AffineCandidate("rotation search", entry.matrix) for entry in poses]
    return found


def search_image(prepared: PreparedVolume, spacing_mm: float, padding_is_background: bool) -> SearchImage:
    """A volume's content as the searches see it."""
    grid = prepared.content.with_spacing(spacing_mm)
    values = resample_on_axes(prepared.voxels_dhw, prepared.grid, grid)[0, 0]
    weight = prepared.weight_at(grid, padding_is_background=padding_is_background)
    return SearchImage(values, torch.ones_like(values) if weight is None else weight[0, 0], grid)


def search_poses(
    fixed: PreparedVolume,
    moving: PreparedVolume,
    rotation_matrices: np.ndarray,
    *,
    keep: int,
    least_overlap: float = LEAST_OVERLAP,
    padding_is_background: tuple[bool, bool] = (False, False),
    progress: Progress | None = None,
) -> list[Found]:
    """The `keep` best of many poses, best first: all are tried on coarse images, and the better ones on finer ones.

    rotation_matrices: n x 3 x 3, of the moving image about its center, fixed_from_moving.
    """
    tried, found = rotation_matrices, []
    longest = [float(volume.content.extent_mm.max()) for volume in (fixed, moving)]
    first = min(ROTATION_SIZE, math.ceil(_FIRST_SIZE * max(longest) / min(longest)))
    for size in (first, ROTATION_SIZE) if len(tried) > _AGAIN * keep and first < ROTATION_SIZE else (ROTATION_SIZE,):
        spacing = search_spacing(fixed, moving, size)
        one, other = (
            search_image(volume, spacing, padding)
            for volume, padding in zip((fixed, moving), padding_is_background, strict=True)
        )
        count = _AGAIN * keep if size < ROTATION_SIZE else keep
        found = search(one, other, tried, keep=count, least_overlap=least_overlap, progress=progress)
        tried = np.array([pose.matrix[:3, :3].T for pose in found])
    return found


def best_candidates(
    candidates: list[AffineCandidate],
    pair: PreparedPair,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
    *,
    keep: int = 3,
) -> list[AffineCandidate]:
    """The most promising candidates after a short descent on coarse images, best first."""
    coarse = coarse_problem(pair, settings, device)
    turned = settings.robustness == "rotation"
    dof = "rigid" if turned else "translation"
    return refine_candidates(
        candidates, coarse, keep=8 if turned else keep, first_dof=dof, dof=settings.dof, progress=progress
    )


def coarse_problem(pair: PreparedPair, settings: RegistrationSettings, device: torch.device) -> AffineProblem:
    """The pair at the resolution of the search."""
    spacing = search_spacing(pair.fixed, pair.moving, COARSE_SIZE)
    images = level_images(pair.fixed, pair.moving, spacing, device)
    return _problem(images, 5 * spacing, settings)


def fine_problem(pair: PreparedPair, settings: RegistrationSettings, device: torch.device) -> AffineProblem:
    """The pair at twice the resolution of the search, where the winner is chosen and maps are compared with it."""
    spacing = search_spacing(pair.fixed, pair.moving, 2 * COARSE_SIZE)
    images = level_images(pair.fixed, pair.moving, spacing, device)
    return _problem(images, 7 * spacing, settings)


def _problem(images: LevelImages, window_mm: float, settings: RegistrationSettings) -> AffineProblem:
    return AffineProblem(
        images,
        window_mm=window_mm,
        similarity=settings.similarity,
        bounds=stretches_of(settings),
        stride=_STRIDE_LINEAR if settings.linear else 1,
    )


def winner(starts: list[AffineCandidate], problem: AffineProblem) -> AffineCandidate:
    """The candidate that is refined: the best of the leading ones on finer images. starts: best first."""
    contrasts = problem.similarity.descriptors
    least = (_LEADING_CONTRASTS if contrasts else _LEADING) * starts[0].score
    leading = [
        AffineCandidate(start.name, start.matrix, problem.score(start.matrix).score, start.overlap)
        for start in [start for start in starts if start.score > least][:3]
    ]
    if contrasts:
        # Between modalities anything smooth correlates somewhat: starts that are all wrong come close to the right one.
        return min(leading, key=lambda start: problem.descriptor_distance(affine_map(start.matrix), start.matrix))
    best = max(leading, key=lambda start: start.score)
    return next((start for start in leading if start.name == INITIAL and start.score > _AS_GOOD * best.score), best)


def refined_winner(
    starts: list[AffineCandidate], problem: AffineProblem, settings: RegistrationSettings, progress: Progress
) -> AffineCandidate:
    """The winner, refined; an initial transform that wins is kept as it is where no optimization follows."""
    best = winner(starts, problem)
    if settings.steps == 0 and best.name == INITIAL and not settings.linear:
        return best
    matrix = refine_affine(problem, best.matrix, steps=_STEPS, dof=settings.dof, progress=progress)
    return AffineCandidate(best.name, matrix, problem.score(matrix).score, best.overlap)


def kept_within(
    start: AffineCandidate, starts: list[AffineCandidate], center_lps: np.ndarray, settings: RegistrationSettings
) -> tuple[AffineCandidate, list[str]]:
    """A refined start where its affine is within the bounds, else the best start that is; and a warning.

    Starts that users give may go beyond, but neither mirror nor flatten. starts: best first. center_lps: of the fixed
    content; where no start is within, it keeps its place.
    """
    bounds = stretches_of(settings)
    given = start.name.startswith((INITIAL, LANDMARKS, SEGMENTS))
    if (Stretches.around(start.matrix, bounds) if given else bounds).hold(start.matrix):
        return start, []
    nearest = replace(start, matrix=nearest_sound(start.matrix, center_lps, bounds))
    kept = next((one for one in starts if bounds.hold(one.matrix)), nearest)
    least, most, uneven = settings.stretch_bounds
    return kept, [
        f"The affine that was found mirrors, or stretches lengths beyond {least:g} to {most:g} or more than {uneven:g} "
        f'times as much along one direction as along another: the start that fits best within ("{kept.name}") was '
        "taken instead. Check the result, and that the volumes show the same. --stretch-bounds sets the bounds."
    ]


def stretches_of(settings: RegistrationSettings) -> Stretches:
    """The bounds of the affine."""
    return Stretches(*settings.stretch_bounds)


def affine_map(matrix: np.ndarray) -> PointMap:
    return lambda points: apply_affine(matrix, points)


def lattice_points(grid: VolumeGrid, count: int) -> np.ndarray:
    """count^3 x 3 LPS points spread over a grid's box."""
    axis = (np.arange(count) + 0.5) / count
    normalized = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return apply_affine(grid.lps_from_normalized, normalized)
