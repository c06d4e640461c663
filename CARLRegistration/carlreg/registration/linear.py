"""A registration without a deformation: rigid, similarity or affine, found at the images' own resolution.

read -> prepare -> candidate starts -> (the network's, where none of them convinces) -> the map. All in LPS mm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import InputError, OptimizationDiverged
from ..io.guide_points import GuidePoints
from ..models import registry
from ..optimize.candidates import AffineCandidate
from ..optimize.levels import level_images, search_spacing
from ..optimize.linear import LinearResult, optimize_linear
from ..optimize.linear_guides import BoundaryGuide, LinearGuide, PlacedPoints
from ..optimize.segments import SegmentPair
from ..physical import PhysicalTransform
from ..progress import Progress
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid, apply_affine, check_sound, nearest_linear, rotation_vector
from ..volumes import Volume
from .cutouts import CutOut, found_starts
from .landmarks import Landmarks, reached
from .mirrored import orientation_of
from .pair import PreparedPair, info_of, prepare_pair
from .poses import rival_of
from .predict import NetworkPrediction, predict
from .preview import likeness_of, warn_of_doubts
from .result import RegistrationResult
from .segment_starts import agreeing_with_known, with_known
from .segments import about_segments, of_moving
from .sizes import POOR_SCORE, Resized, size_of
from .starts import COARSE_SIZE, affine_candidates, coarse_problem, fine_problem, kept_within, stretches_of, winner
from .symmetric import Order

log = logging.getLogger(__name__)

#: Stages, with their usual share of the time.
LINEAR_STAGE_WEIGHTS: dict[str, float] = {
    "prepare": 3,
    "starts": 8,
    "optimize": 8,
    "inverse": 0.1,
    "measure": 8,
    "write": 4,
}
# Voxels that the finest level may have; levels that are coarser than the winner was chosen at help nothing.
_FINEST_VOXELS, _COARSEST = 12_000_000, 1.5
_STOPPED = "The optimization was stopped before its end, as asked: the map may be coarse."
_NO_UNCERTAINTY = (
    "No uncertainty: it is stated for deformable registrations. A {kind} map is off wherever the anatomy moved "
    "otherwise, and how far that is cannot be told from it."
)


@dataclass(frozen=True, eq=False)
class Given:
    """What was given, as `register_pair` has checked it.

    ignored: fixed and moving, which the masks leave out. initial_transform: in the order in which the pair is worked
    on. points, guide: landmarks that guide it, as they were given and as they are used. segments: likewise.
    warnings: so far.
    """

    fixed: Volume
    moving: Volume
    fixed_mask: Volume | None
    moving_mask: Volume | None
    ignored: tuple[Volume | None, Volume | None]
    initial_transform: sitk.Transform | None
    points: GuidePoints | None
    guide: Landmarks | None
    segments: list[SegmentPair]
    warnings: list[str]


@dataclass(frozen=True, eq=False)
class Guides:
    """Landmarks and segments in the order in which the pair is worked on, of volumes as large as it is looked at."""

    landmarks: Landmarks | None
    segments: list[SegmentPair]

    def of_map(self, seed: int) -> list[LinearGuide]:
        found: list[LinearGuide] = []
        if self.landmarks is not None:
            known = self.landmarks
            found.append(PlacedPoints(known.fixed_lps, known.moving_lps, known.accuracy_mm))
        if self.segments:
            found.append(BoundaryGuide.of(self.segments, seed))
        return found


def linear_registration(
    given: Given, settings: RegistrationSettings, order: Order, device: torch.device, progress: Progress
) -> RegistrationResult:
    """The rigid, similarity or affine map of a pair. order: in which the pair is worked on."""
    fixed, moving, initial, earlier = given.fixed, given.moving, given.initial_transform, len(progress.steps)
    with progress.stage("prepare", "normalizing both images"):
        pair = prepare_pair(fixed, moving, given.fixed_mask, given.moving_mask, settings, *given.ignored)
        as_given = pair
    warnings = [*given.warnings, *pair.modality_warnings(settings.similarity), *_about_initial(initial, settings)]
    pair, guides = order.of_pair(pair), Guides(order.of_landmarks(given.guide), order.of_segments(given.segments))
    with progress.stage("starts", "scoring candidate starts"):
        part, starts, loaded = _found(pair, initial, guides, settings, device, progress)
        resized = _size(pair, part, starts, settings, device, progress)
        if resized is not None:
            pair, initial = resized.of_pair(pair), resized.of_transform(initial)
            guides = Guides(resized.of_landmarks(guides.landmarks), of_moving(guides.segments, resized.of_grid))
            part, starts, loaded = _found(pair, initial, guides, settings, device, progress)
        if part is not None:
            pair = part.pair
        problem = fine_problem(pair, settings, device)
        start = starts[0] if part is not None else winner(starts, problem)
        pose = rival_of(start, starts, pair.fixed.content) if settings.robustness == "rotation" else None
    given_from_used = np.eye(4) if resized is None else np.linalg.inv(resized.matrix)
    with progress.stage("optimize", f"{settings.transform} map at the images' own resolution"):
        found = _optimized(
            pair,
            start,
            guides,
            settings,
            device,
            progress,
            lambda matrix: PhysicalTransform.from_affine(order.of_matrix(given_from_used @ matrix)),
        )
        warnings += [_STOPPED] if progress.stopping else []
        start, notes = kept_within(replace(start, matrix=found.matrix), starts, pair.fixed.content.center_lps, settings)
        start = replace(start, score=problem.score(start.matrix).score)
        warnings += notes
        orientation = orientation_of(start, problem, pair, settings, device, progress)
        likeness = likeness_of(coarse_problem(pair, settings, device).score(start.matrix), pair)
        warn_of_doubts(likeness, orientation, pose, progress)
        del problem
    matrix = order.of_matrix(given_from_used @ start.matrix)
    transform = _transform(matrix, settings.transform, order.of_pair(pair).fixed.content)
    transform, about_guide, notes = reached(
        transform, given.guide, matrix, float(fixed.grid.spacing.min()), deformable=False
    )
    return RegistrationResult(
        transform=transform,
        fixed=fixed,
        moving=moving,
        settings=settings,
        start=start.name,
        fixed_mask=given.fixed_mask,
        moving_mask=given.moving_mask,
        guide=given.points,
        segments=given.segments,
        ignored=given.ignored,
        warnings=[*warnings, *notes],
        info={
            **info_of(settings, device, as_given, starts, fixed, moving),
            "model": None if loaded is None else loaded.name,
            "weights_sha256": None if loaded is None else loaded.weights_sha256,
            "linear": {**parts_of(transform), "iterations": found.iterations, "losses": found.losses},
            **about_guide,
            **about_segments(given.segments),
            "orientation": orientation,
            "pose": pose,
            "likeness": likeness,
            **({} if resized is None else {"moving_resized_by": resized.factors.tolist()}),
        },
        timings=list(progress.timings),
        steps=progress.steps[earlier:],
        uncertainty_reason=_NO_UNCERTAINTY.format(kind=settings.transform),
    )


def _about_initial(initial_transform: sitk.Transform | None, settings: RegistrationSettings) -> list[str]:
    """What to say of an initial transform of which only a part serves."""
    if initial_transform is None or initial_transform.IsLinear():
        return []
    kind = settings.transform
    return [f"The initial transform has a deformation: the {kind} registration took its linear part as a start."]


def _found(
    pair: PreparedPair,
    initial_transform: sitk.Transform | None,
    guides: Guides,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
) -> tuple[CutOut | None, list[AffineCandidate], registry.LoadedModel | None]:
    """The pair as one of a part and a whole, its starts, and the network if it was asked.

    Searches find most poses in a fraction of the time that a network takes; it is asked where they find nothing good.
    """

    def starts_of(prediction: NetworkPrediction | None) -> tuple[CutOut | None, list[AffineCandidate]]:
        candidates = affine_candidates(pair, prediction, initial_transform, settings, progress)
        candidates = with_known(candidates, guides.landmarks, guides.segments, pair.fixed.content)
        candidates = [
            replace(one, matrix=nearest_linear(one.matrix, settings.dof, pair.fixed.content.center_lps))
            for one in candidates
        ]
        part, starts = found_starts(pair, candidates, settings, device, progress)
        return part, agreeing_with_known(starts, guides.landmarks, guides.segments, pair.fixed.content)

    part, starts = starts_of(None)
    if starts[0].score > POOR_SCORE:
        return part, starts, None
    loaded = registry.load(settings.model, settings.weights, settings.allow_untrained, device)
    log.info("best start %.3f: asking %s", starts[0].score, loaded.name)
    return *starts_of(predict(loaded, pair, settings.grid, device, only_points=True)), loaded


def _size(
    pair: PreparedPair,
    part: CutOut | None,
    starts: list[AffineCandidate],
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
) -> Resized | None:
    """As `size_of`; a rigid map changes no size, and a similarity one along all axes alike."""
    if settings.symmetric or settings.transform == "rigid":
        return None
    resized = size_of(pair, part, starts, settings, device, progress)
    return None if resized is not None and settings.transform == "similarity" and not resized.is_even else resized


def _optimized(
    pair: PreparedPair,
    start: AffineCandidate,
    guides: Guides,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
    as_delivered: Callable[[np.ndarray], PhysicalTransform],
) -> LinearResult:
    """The map, from about the resolution where the start was chosen to that of the images.

    as_delivered: what a matrix on the way would be as a result.
    """
    fixed, moving = pair.fixed, pair.moving
    finest = max(
        float(min(fixed.grid.spacing.min(), moving.grid.spacing.min())),
        *((np.prod(side.content.extent_mm) / _FINEST_VOXELS) ** (1 / 3) for side in (fixed, moving)),
    )
    spacings = [finest]
    while 2 * spacings[0] < _COARSEST * search_spacing(fixed, moving, 2 * COARSE_SIZE):
        spacings.insert(0, 2 * spacings[0])
    return optimize_linear(
        (level_images(fixed, moving, spacing, device) for spacing in spacings),
        len(spacings),
        start.matrix,
        fixed.content.center_lps,
        dof=settings.dof,
        similarity=settings.similarity,
        guides=guides.of_map(settings.seed),
        bounds=stretches_of(settings),
        seed=settings.seed,
        progress=progress,
        watch=lambda matrix: progress.offer_map(lambda: as_delivered(matrix)),
    )


def _transform(matrix: np.ndarray, kind: str, content: VolumeGrid) -> PhysicalTransform:
    """What is delivered; products and inverses of many digits made a turn again. Raises OptimizationDiverged."""
    try:
        check_sound(matrix, kind)
    except InputError as error:
        raise OptimizationDiverged(f"No alignment was found that an anatomy could have. {error}") from error
    return PhysicalTransform.from_affine(nearest_linear(matrix, kind, content.center_lps), kind, content.center_lps)


def parts_of(transform: PhysicalTransform) -> dict:
    """A linear map in numbers for people: its kind, turn (degrees, axis), stretches, and the center and where it goes.

    Lengths in mm, LPS.
    """
    linear = transform.affine_lps[:3, :3]
    u, stretches, vt = np.linalg.svd(linear)
    vector = rotation_vector(u @ vt)
    degrees = float(np.degrees(np.linalg.norm(vector)))
    center = np.zeros(3) if transform.center_lps is None else transform.center_lps
    mapped = apply_affine(transform.affine_lps, center)
    return {
        "kind": transform.kind,
        "turn_degrees": degrees,
        "turn_axis_lps": (vector / max(float(np.linalg.norm(vector)), 1e-12)).tolist(),
        "stretches": stretches.tolist(),
        "center_lps": center.tolist(),
        "shift_of_center_mm": (mapped - center).tolist(),
        "matrix_lps": transform.affine_lps.tolist(),
    }
