"""Going on from a map that is there: no search, no affine; the steps that are asked for, and no others.

A change is optimized beside the map, on the finest level, or from as coarse a level as landmarks ask for that the map
misses. Without steps the map stays what it is. A network is asked
afterwards alone, how far the map may be off.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import InputError
from ..io.guide_points import GuidePoints
from ..optimize.candidates import AffineCandidate
from ..optimize.field import FieldResult, LevelLoss, descend
from ..optimize.halfway import HalfwayLoss, HalfwaySpace, displacement_on, halfway_box, halfway_displacement
from ..optimize.levels import (
    FieldLevel,
    LevelImages,
    finest_spacing,
    level_images,
    schedule,
)
from ..optimize.onward import Known, informed
from ..optimize.segments import SegmentPair
from ..physical import PhysicalTransform, invert
from ..physical.general import sample_transform
from ..preprocess.prepare import level_grid
from ..progress import Progress
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid, apply_affine
from ..volumes import Volume, pair_warnings, require_comparable
from . import machine
from .beside_bodies import parted
from .bodies import Bodies, GivenRigid, GivenStiff, checked_bodies, with_bodies
from .course import course_for
from .field import REMOVING_FOLDS, check_field_spacing, delivered, delivered_from, working_grid
from .finishing import stop_note
from .landmarks import GivenLandmarks, Landmarks, as_guide, checked_landmarks, reached
from .live import LiveMap
from .onward import Changed, planned_onward, residual_before
from .pair import PreparedPair, info_of, prepare_pair
from .result import RegistrationResult
from .segments import SegmentsGuide, about_segments, matched_segments
from .starts import check_initial
from .symmetric import order_of
from .uncertain import uncertainty_afterwards

#: Landmarks and segments.
Guides = tuple[Landmarks | None, list[SegmentPair]]
START = "continued"
NOT_ASKED = "No uncertainty: it was not asked for."


def as_known(given: RegistrationResult | PhysicalTransform | sitk.Transform, fixed: VolumeGrid) -> PhysicalTransform:
    """A map to go on from as one affine after one displacement field. Raises InputError for one that mirrors."""
    if isinstance(given, RegistrationResult):
        return given.transform
    if isinstance(given, PhysicalTransform):
        return given
    check_initial(given, fixed)
    try:
        return PhysicalTransform.from_sitk(given)
    except InputError:
        return sample_transform(given, fixed)


def continued_pair(
    fixed: Volume,
    moving: Volume,
    settings: RegistrationSettings,
    given: RegistrationResult | PhysicalTransform | sitk.Transform,
    *,
    fixed_mask: Volume | None,
    moving_mask: Volume | None,
    landmarks_guide: GivenLandmarks | GuidePoints | None,
    segments_guide: SegmentsGuide | None = None,
    rigid_segments: GivenRigid = None,
    stiff_segments: GivenStiff = None,
    ignored: tuple[Volume | None, Volume | None] = (None, None),
    uncertain: bool = True,
    progress: Progress,
) -> RegistrationResult:
    """The registration that goes on from a map; arguments, result and errors as of `run.register_pair`.

    ignored: fixed and moving, which the masks leave out. uncertain: whether a network is asked how far it may be off.
    """
    if settings.io_method != "field" and settings.steps:
        raise InputError(
            f"continue: expected io method field, which goes on from any map; got {settings.io_method}. Choose field, "
            "or 0 io steps."
        )
    if settings.linear:
        raise InputError(
            f"continue: expected transform deformable, whose steps go on from any map; got {settings.transform}. For "
            "a linear start give --initial-transform."
        )
    earlier = len(progress.steps)
    device = machine.set_up(settings)
    require_comparable(fixed, moving)
    masks = [mask for mask in (fixed_mask, moving_mask) if isinstance(mask, Volume)]
    warnings = [*pair_warnings(fixed, moving), *(note for mask in masks for note in mask.warnings)]
    machine.require_memory_for(fixed, moving, settings)
    check_field_spacing(settings.field_spacing_mm, fixed.grid)
    points = as_guide(landmarks_guide)
    landmarks = checked_landmarks(points, fixed.grid, moving.grid, settings)
    segments = matched_segments(segments_guide, fixed, moving, settings)
    exact = landmarks is not None and not landmarks.accuracy_mm
    bodies = checked_bodies(rigid_segments, stiff_segments, fixed, settings, exact)
    known = as_known(given, fixed.grid)
    guides = landmarks, segments
    with progress.stage("prepare", "normalizing both images"):
        pair = prepare_pair(fixed, moving, fixed_mask, moving_mask, settings, *ignored)
    warnings += pair.modality_warnings(settings.similarity)
    with progress.stage("optimize", f"instance optimization (field, {settings.steps} steps)"):
        first, left = parted(settings, bodies is not None and bodies.any_rigid)
        if settings.symmetric and settings.steps:
            transform, folds, control_mm = _symmetric(known, fixed, moving, pair, guides, settings, device, progress)
        else:
            with progress.part_of(settings.steps):
                transform, folds, control_mm = _plain(known, fixed.grid, pair, guides, bodies, first, device, progress)
        transform, about_bodies, of_bodies = with_bodies(
            transform,
            bodies,
            pair,
            moving.grid,
            settings,
            device,
            progress,
            landmarks,
            segments=segments,
            steps_left=left,
        )
        transform, about_guide, notes = reached(transform, landmarks, known.affine_lps, float(fixed.grid.spacing.min()))
    steps = progress.steps[earlier:]
    notes += stop_note(steps, settings.steps) if progress.stopping else []
    uncertainty, reason = None, NOT_ASKED
    if uncertain:
        with progress.stage("uncertainty", "how far the map may be off"):
            uncertainty, reason = uncertainty_afterwards(transform, pair, fixed.grid, settings, device)
    return RegistrationResult(
        transform=transform,
        fixed=fixed,
        moving=moving,
        settings=settings,
        start=START,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        guide=points,
        segments=segments,
        ignored=ignored,
        bodies=bodies,
        warnings=[*warnings, *of_bodies, *notes],
        info={
            **info_of(settings, device, pair, [], fixed, moving),
            "model": settings.model,
            "deformation_start": START,
            "control_spacing_mm": control_mm,
            **folds,
            **about_guide,
            **about_segments(segments),
            **about_bodies,
        },
        timings=list(progress.timings),
        steps=steps,
        uncertainty=uncertainty,
        uncertainty_reason=reason,
    )


def _plain(
    known: PhysicalTransform,
    fixed_grid: VolumeGrid,
    pair: PreparedPair,
    guides: Guides,
    bodies: Bodies | None,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
) -> tuple[PhysicalTransform, dict, float | None]:
    if not settings.steps and bodies is not None and bodies.any_rigid:  # a field that can hold them
        box = pair.fixed.content
        control = schedule(0, finest_spacing(box), settings.smoothness)[-1].spacing_mm
        grid = working_grid(box, control, bodies.field_spacing(settings, control))
        field = residual_before(known)(grid.centers().reshape(-1, 3)).reshape(*grid.shape_dhw, 3)
        return *delivered_from(known.affine_lps, field, grid, fixed_grid), None
    if not settings.steps:
        unchanged = {"repaired_nodes": 0, "deformation_kept_percent": 100.0}
        return known, unchanged, None
    landmarks, segments = guides
    box, live = pair.fixed.content, LiveMap(progress)
    missed = 0.0 if landmarks is None else float(landmarks.missed_mm(known.apply).max())
    levels, spacings = planned_onward(box, missed, settings, course_for(settings, pair, halfway=False))
    start = Known(residual_before(known), box)

    def loss_for(images: LevelImages, level: FieldLevel) -> LevelLoss:
        return LevelLoss(images, known.affine_lps, box, level, settings.similarity)

    guide = None if landmarks is None else landmarks.guide(known.affine_lps)
    told = None if bodies is None else bodies.guide(known.affine_lps)
    change = descend(
        (level_images(pair.fixed, pair.moving, spacing, device) for spacing in spacings),
        levels,
        box,
        informed(
            loss_for,
            lambda images, _: images.fixed_grid,
            box,
            guide=guide,
            segments=segments,
            bodies=told,
            known=start,
        ),
        whole_for=start.whole_for,
        progress=progress,
        watch=lambda found: live.offer(known.affine_lps, Changed(start, found).displacement_lps, box),
    )
    found = Changed(start, change)
    progress.update(1.0, REMOVING_FOLDS)
    spacing = settings.field_spacing_mm if bodies is None else bodies.field_spacing(settings, change.spacing_mm)
    return *delivered(known.affine_lps, found, fixed_grid, spacing), change.spacing_mm


def _symmetric(
    known: PhysicalTransform,
    fixed_volume: Volume,
    moving_volume: Volume,
    given_pair: PreparedPair,
    guides: Guides,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
) -> tuple[PhysicalTransform, dict, float]:
    """Half-way between both images, in the order that follows from them; see `symmetric.halfway_transform`."""
    order = order_of(fixed_volume, moving_volume, settings)
    pair, guided = order.of_pair(given_pair), order.of_landmarks(guides[0])
    in_order = invert(known, moving_volume.grid)[0] if order.exchanged else known
    start = AffineCandidate(START, order.of_matrix(known.affine_lps))
    space = HalfwaySpace.between(start.matrix, pair.fixed.content.center_lps)
    box = halfway_box(space, pair.fixed, pair.moving)
    missed = 0.0 if guided is None else float(guided.missed_mm(in_order.apply).max())
    levels, spacings = planned_onward(box, missed, settings)
    lattices = {
        level.spacing_mm: level_grid(box, box, spacing) for level, spacing in zip(levels, spacings, strict=True)
    }
    back = np.linalg.inv(start.matrix)
    before = Known(halfway_displacement(lambda points: apply_affine(back, in_order.apply(points)) - points, space), box)

    def loss_for(images: LevelImages, level: FieldLevel) -> HalfwayLoss:
        return HalfwayLoss(images, [lattices[level.spacing_mm]], space, box, level, settings.similarity)

    content, live = given_pair.fixed.content, LiveMap(progress)

    def watch(found: FieldResult) -> None:
        def displacement(grid: VolumeGrid) -> np.ndarray:
            return displacement_on(grid, space, Changed(before, found), inverse=order.exchanged)

        live.offer(known.affine_lps, displacement, content)

    change = descend(
        (level_images(pair.fixed, pair.moving, spacing, device, fixed_margin=True) for spacing in spacings),
        levels,
        box,
        informed(
            loss_for,
            lambda _, level: lattices[level.spacing_mm],
            box,
            guide=None if guided is None else guided.halfway_guide(space),
            segments=order.of_segments(guides[1]),
            lattice_from_fixed=np.linalg.inv(space.fixed_from_half),
            known=before,
        ),
        whole_for=before.whole_for,
        progress=progress,
        watch=watch,
    )
    grid = working_grid(content, change.spacing_mm, settings.field_spacing_mm)
    field_lps = displacement_on(grid, space, Changed(before, change), inverse=order.exchanged)
    return *delivered_from(known.affine_lps, field_lps, grid, fixed_volume.grid), change.spacing_mm
