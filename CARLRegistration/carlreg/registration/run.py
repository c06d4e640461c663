"""One registration, from two volumes to a transform:

read -> prepare -> predict both directions -> candidate starts -> affine refined -> what the network knows beyond it
-> instance optimization -> displacement field in LPS mm -> its uncertainty. (Inverse and quality: `finishing.py`.)
A map without a deformation takes a shorter way: `linear.py`.

Everything here is in LPS mm; maps are moving_from_fixed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from ..io.guide_points import GuidePoints
from ..models import registry
from ..physical import PhysicalTransform
from ..progress import Progress
from ..resources import optimization_seconds
from ..settings import RegistrationSettings
from ..uncertainty import uncertainty_of
from ..volumes import Volume, pair_warnings, require_comparable, without_ignored
from . import machine
from .beside_bodies import parted
from .bodies import GivenRigid, GivenStiff, checked_bodies, with_bodies
from .continuing import continued_pair
from .cutouts import found_starts
from .field import REMOVING_FOLDS, check_field_spacing, delivered, optimized_field
from .finishing import stop_note
from .functional import FunctionalResult, functional_field
from .landmarks import GivenLandmarks, as_guide, checked_landmarks, reached
from .linear import LINEAR_STAGE_WEIGHTS, Given, linear_registration
from .live import LiveMap
from .mirrored import orientation_of
from .pair import as_volume, info_of, prepare_pair
from .poses import rival_of
from .predict import predict, untrained_warnings
from .preview import likeness_of, warn_of_doubts
from .residual import network_residual, residual_of
from .result import RegistrationResult
from .segment_starts import agreeing_with_known, kept_by_known, with_known
from .segments import SegmentsGuide, about_segments, matched_segments, of_moving
from .sizes import size_of
from .starts import affine_candidates, check_initial, coarse_problem, fine_problem, kept_within, refined_winner
from .symmetric import as_its_network, between_both, halfway_transform, order_of

#: Stages, with their usual share of the time.
STAGE_WEIGHTS: dict[str, float] = {
    "prepare": 2,
    "predict": 6,
    "starts": 8,
    "affine": 6,
    "optimize": 40,
    "uncertainty": 2,
    "inverse": 4,
    "measure": 8,
    "write": 2,
}


def _weights(settings: RegistrationSettings, fixed_voxels: int) -> dict[str, float]:
    """Shares of the stages in a run: the optimization's hangs on its steps and its method."""
    if settings.linear:
        return dict(LINEAR_STAGE_WEIGHTS)
    usual = optimization_seconds(fixed_voxels, RegistrationSettings())
    longer = optimization_seconds(fixed_voxels, settings) / usual
    return STAGE_WEIGHTS | {"optimize": max(1.0, STAGE_WEIGHTS["optimize"] * longer)}


def register(
    fixed, moving, settings: RegistrationSettings | None = None, *, progress: Progress | None = None, **inputs
):
    """Register two SimpleITK images, paths or `Volume`s; see `register_pair` for the further inputs."""
    fixed, moving = as_volume(fixed, "fixed"), as_volume(moving, "moving")
    return register_pair(fixed, moving, settings, progress=progress, **inputs)


def register_pair(
    fixed: Volume,
    moving: Volume,
    settings: RegistrationSettings | None = None,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    fixed_ignore: Volume | None = None,
    moving_ignore: Volume | None = None,
    initial_transform: sitk.Transform | None = None,
    landmarks_guide: GivenLandmarks | GuidePoints | None = None,
    segments_guide: SegmentsGuide | None = None,
    rigid_segments: GivenRigid = None,
    stiff_segments: GivenStiff = None,
    continue_from: RegistrationResult | PhysicalTransform | sitk.Transform | None = None,
    progress: Progress | None = None,
) -> RegistrationResult:
    """Find the map that takes points of the fixed image to their counterparts in the moving image.

    Args:
        fixed, moving: checked volumes on unrelated grids. masks: on their volume's grid; limit what counts.
        fixed_ignore, moving_ignore: likewise; what is not to be compared and not to be stretched into (metal).
        initial_transform: fixed points to moving points, LPS mm; one more candidate start.
        landmarks_guide: fixed points and their places in the moving image, n x 3 each, LPS mm (and names): the map is
            to reach them within `settings.landmarks_accuracy_mm`.
        segments_guide: label maps of both images, whose boundaries the map is to bring onto each other.
        rigid_segments: a label map of the fixed image (or `RigidSegments`): each segment moves rigidly, by itself.
        stiff_segments: likewise (or `StiffSegments`); each keeps its shape as far as the images let it.
        continue_from: a result or a map (fixed points to moving points, LPS mm) to go on from by `settings.steps`
            steps, without search and affine.
    Raises: InputError and its kinds for what cannot be used; OptimizationDiverged; Cancelled.
    """
    progress = progress or Progress()
    linear = settings is not None and settings.linear
    progress.weights = progress.weights or _weights(settings or RegistrationSettings(), fixed.grid.voxel_count)
    ignored = fixed_ignore, moving_ignore
    fixed_mask = without_ignored(fixed, fixed_mask, fixed_ignore)
    moving_mask = without_ignored(moving, moving_mask, moving_ignore)
    if continue_from is not None:
        return continued_pair(
            fixed,
            moving,
            settings or RegistrationSettings(),
            continue_from,
            fixed_mask=fixed_mask,
            moving_mask=moving_mask,
            ignored=ignored,
            landmarks_guide=landmarks_guide,
            segments_guide=segments_guide,
            rigid_segments=rigid_segments,
            stiff_segments=stiff_segments,
            progress=progress,
        )
    settings = as_its_network(settings or RegistrationSettings(), initial_transform)
    earlier = len(progress.steps)
    device = machine.set_up(settings)
    require_comparable(fixed, moving)
    warnings = [*pair_warnings(fixed, moving), *_notes_of(fixed_mask, moving_mask)]
    machine.require_memory_for(fixed, moving, settings)
    check_field_spacing(settings.field_spacing_mm, fixed.grid)
    check_initial(initial_transform, fixed.grid)
    points = as_guide(landmarks_guide)
    guide = checked_landmarks(points, fixed.grid, moving.grid, settings)
    segments = given_segments = matched_segments(segments_guide, fixed, moving, settings)
    bodies = checked_bodies(
        rigid_segments, stiff_segments, fixed, settings, guide is not None and not guide.accuracy_mm
    )
    order = order_of(fixed, moving, settings)
    initial_transform = order.of_initial(initial_transform, settings, fixed.grid)
    if linear:
        masks = fixed_mask, moving_mask
        given = Given(fixed, moving, *masks, ignored, initial_transform, points, guide, segments, warnings)
        return linear_registration(given, settings, order, device, progress)

    with progress.stage("prepare", "normalizing both images"):
        loaded = registry.load(settings.model, settings.weights, settings.allow_untrained, device)
        pair = prepare_pair(fixed, moving, fixed_mask, moving_mask, settings, *ignored)
        kinds = pair.fixed.modality, pair.moving.modality
        progress.update(0.9, "intensities: fixed {}, moving {}".format(*(kind.upper() for kind in kinds)))
    warnings += pair.modality_warnings(settings.similarity)
    pair, guide, segments = order.of_pair(pair), order.of_landmarks(guide), order.of_segments(segments)
    with progress.stage("predict", f"{settings.model}: both directions"):
        prediction = predict(loaded, pair, settings.grid, device)
    with progress.stage("starts", "scoring candidate starts"):
        candidates = affine_candidates(pair, prediction, initial_transform, settings, progress)
        candidates = with_known(candidates, guide, segments, pair.fixed.content)
        part, starts = found_starts(pair, candidates, settings, device, progress)
        # A body that is rigid has the same size in both.
        as_large = settings.symmetric or bodies is not None
        resized = None if as_large else size_of(pair, part, starts, settings, device, progress)
        if resized is not None:
            # From here to the end with the moving volume as large as the fixed one.
            pair, initial_transform = resized.of_pair(pair), resized.of_transform(initial_transform)
            guide, segments = resized.of_landmarks(guide), of_moving(segments, resized.of_grid)
            prediction = predict(loaded, pair, settings.grid, device)
            candidates = affine_candidates(pair, prediction, initial_transform, settings, progress)
            candidates = with_known(candidates, guide, segments, pair.fixed.content)
            part, starts = found_starts(pair, candidates, settings, device, progress)
        starts = agreeing_with_known(starts, guide, segments, pair.fixed.content)
        shown = pair  # to the network
        if part is not None:
            pair, shown = part.pair, part.likewise(starts[0].matrix)
            prediction = predict(loaded, shown, settings.grid, device)
    with progress.stage("affine", "refining the affine"):
        problem = fine_problem(pair, settings, device)
        if part is not None:
            start = replace(starts[0], score=problem.score(starts[0].matrix).score)
        else:
            start = refined_winner(starts, problem, settings, progress)
        start = kept_by_known(start, starts, guide, segments, pair.fixed.content)
        start, notes = kept_within(start, starts, pair.fixed.content.center_lps, settings)
        warnings += notes
        pose = rival_of(start, starts, pair.fixed.content) if settings.robustness == "rotation" else None
        residual, deformation_start = residual_of(start, prediction, initial_transform, problem, pair, guide)
        progress.update(0.6, "comparing with the mirrored volume")
        orientation = orientation_of(start, problem, pair, settings, device, progress)
        likeness = likeness_of(coarse_problem(pair, settings, device).score(start.matrix), pair)
        warn_of_doubts(likeness, orientation, pose, progress)
        del problem
    with progress.stage("optimize", f"instance optimization ({settings.io_method}, {settings.steps} steps)"):
        live = LiveMap(progress) if resized is None else LiveMap(progress, np.linalg.inv(resized.matrix))
        if settings.io_method == "network" and settings.steps and not progress.stopping:
            residual = network_residual(loaded, start, shown, settings, device, progress, live)
        own_inverse = None
        first, left = parted(settings, bodies is not None and bodies.any_rigid)
        if between_both(settings, bodies):
            transform, folds, control_mm = halfway_transform(
                start, residual, pair, order, fixed.grid, settings, device, progress, live, guide, segments
            )
        else:
            if settings.io_method == "functional" and settings.steps and not progress.stopping:
                found = functional_field(start, residual, pair, settings, device, progress, live)
            else:
                with progress.part_of(settings.steps):
                    found = optimized_field(
                        start, residual, pair, first, device, progress, live, guide, segments, bodies
                    )
            progress.update(1 - left / max(settings.steps, 1), REMOVING_FOLDS)
            spacing = settings.field_spacing_mm if bodies is None else bodies.field_spacing(settings, found.spacing_mm)
            transform, folds = delivered(start.matrix, found, fixed.grid, spacing)
            control_mm = found.spacing_mm
            if isinstance(found, FunctionalResult):
                own_inverse = found.inverse_displacement
        transform, about_bodies, notes = with_bodies(
            transform, bodies, pair, moving.grid, settings, device, progress, guide, segments=segments, steps_left=left
        )
        warnings += notes
        transform, about_guide, notes = reached(
            transform, order.of_landmarks(guide), order.of_matrix(start.matrix), float(fixed.grid.spacing.min())
        )
        warnings += notes
    steps = progress.steps[earlier:]
    warnings += stop_note(steps, settings.steps) if progress.stopping else []
    pair = order.of_pair(pair)
    with progress.stage("uncertainty", "how far the map may be off"):
        answer = order.of_answer(None if prediction is None else prediction.answer)
        optimized = bool(steps)
        uncertainty, reason = uncertainty_of(
            answer, loaded, transform, pair.fixed, pair.moving, fixed.grid, optimized=optimized
        )
    if resized is not None:
        transform = replace(transform, affine_lps=np.linalg.inv(resized.matrix) @ transform.affine_lps)
        if uncertainty is not None:
            uncertainty = replace(uncertainty, transform=transform, moving_grid=moving.grid)
    warnings += untrained_warnings(loaded, settings.model)
    return RegistrationResult(
        transform=transform,
        fixed=fixed,
        moving=moving,
        settings=settings,
        start=start.name,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        guide=points,
        segments=given_segments,
        ignored=ignored,
        bodies=bodies,
        warnings=warnings,
        info={
            **info_of(settings, device, pair, starts, fixed, moving),
            "model": loaded.name,  # not the settings' where a file turned out to be of a published form
            "weights_sha256": loaded.weights_sha256,
            "trained": loaded.trained,
            "deformation_start": deformation_start,
            "control_spacing_mm": control_mm,
            **folds,
            **about_guide,
            **about_segments(segments),
            **about_bodies,
            "orientation": orientation,
            "pose": pose,
            "likeness": likeness,
            **({} if resized is None else {"moving_resized_by": resized.factors.tolist()}),
        },
        timings=list(progress.timings),
        steps=steps,
        uncertainty=uncertainty,
        uncertainty_reason=reason,
        own_inverse=own_inverse,
    )


def _notes_of(*masks: Volume | None) -> list[str]:
    return [note for mask in masks if isinstance(mask, Volume) for note in mask.warnings]
