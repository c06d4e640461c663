"""Mending a place of a map: points that it misses are reached in a box around them, and nowhere else does it change.

The images are looked at in the box alone, so that it is a matter of seconds in a volume of any size. What is optimized
is a change that is zero from the box's faces on, with its first two derivatives.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from .. import __version__
from ..errors import InputError
from ..io.guide_points import GuidePoints
from ..optimize.field import FieldResult, LevelLoss, descend
from ..optimize.guide import spline_at
from ..optimize.levels import FieldLevel, LevelImages, level_images, schedule
from ..optimize.onward import Known, informed
from ..physical import FormerInverse, PhysicalTransform, repair_folds
from ..physical.exact import through_points
from ..preprocess import PreparedVolume, prepare
from ..preprocess.normalize import guess_modality
from ..progress import Progress
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid
from ..volumes import Volume, pair_warnings, require_comparable
from . import machine
from .continuing import as_known, continued_pair
from .landmarks import GivenLandmarks, Landmarks, as_guide, checked_landmarks, reached
from .onward import residual_before
from .pair import dicom_info
from .result import KnownUncertainty, RegistrationResult
from .uncertain import Look, uncertainty_of_mended

log = logging.getLogger(__name__)

START = "mended"
# Half of a box's edge: so many times what its points are off, and so many voxels at least. Of the way to the faces the
# coarsest controls use half, which leaves a push of that length room to fade.
_TIMES, _FEWEST_VOXELS = 5.0, 12
# The coarsest spline has so many controls along the shortest edge of a box (fewer cannot be held at both faces), each
# further level twice as many. Images have so many voxels at most, which is what makes it a matter of seconds.
_CONTROLS, _LEVELS, _MOST_VOXELS = 8.0, 3, 300_000
_STEPS = (40, 40, 20)
_VOXELS_PER_CONTROL = 3.0
_LEAST_DETERMINANT = 0.05
# Voxels that are taken along an axis at least.
_LEAST_CUT = 8
# What counts as met where points are exact, as a share of a voxel.
_EXACT = 0.02


@dataclass(frozen=True, eq=False)
class Mended:
    """A mended map. boxes: where it changed, in fixed space. missed_mm: n, of the points afterwards; before_mm: before.

    names: of the points. repaired_nodes: where a fold was smoothed away. contradicting: pairs of names that no map
    without folds reaches. warnings: sentences that name what was missed.
    """

    transform: PhysicalTransform
    boxes: list[VolumeGrid]
    names: tuple[str, ...]
    before_mm: np.ndarray
    missed_mm: np.ndarray
    repaired_nodes: int
    contradicting: list[tuple[str, str]]
    warnings: list[str]

    @property
    def info(self) -> dict:
        """Plain numbers for JSON."""
        return {
            "boxes": [box.as_dict() for box in self.boxes],
            "points": [
                {"name": name, "before_mm": float(before), "after_mm": float(after)}
                for name, before, after in zip(self.names, self.before_mm, self.missed_mm, strict=True)
            ],
            "repaired_nodes": self.repaired_nodes,
            "contradicting": [list(pair) for pair in self.contradicting],
        }


def mend(
    given: RegistrationResult | PhysicalTransform | sitk.Transform,
    fixed: Volume,
    moving: Volume,
    points: GivenLandmarks | GuidePoints,
    settings: RegistrationSettings | None = None,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    progress: Progress | None = None,
) -> Mended:
    """Bring a map to points that it misses, in a box around them; outside of it the map stays exactly what it is.

    Args:
        given: a result or a map, fixed points to moving points. points: fixed points and their places in the moving
            image, LPS mm; those that the map meets already hold it where they are.
        settings: similarity, smoothness, modalities, device and `landmarks_accuracy_mm` count. masks: as of
            `run.register_pair`.
    Raises InputError for points outside of the volumes; Cancelled.
    """
    return _mend(given, fixed, moving, points, settings, (fixed_mask, moving_mask), progress)[0]


def _mend(
    given: RegistrationResult | PhysicalTransform | sitk.Transform,
    fixed: Volume,
    moving: Volume,
    points: GivenLandmarks | GuidePoints,
    settings: RegistrationSettings | None,
    masks: tuple[Volume | None, Volume | None],
    progress: Progress | None,
) -> tuple[Mended, PhysicalTransform, list[Look]]:
    """As `mend`; also the map before, which may be its own on another grid, and what lies in each box."""
    settings = replace(settings or RegistrationSettings(), io_method="field", transform="deformable")
    progress = progress or Progress()
    landmarks = checked_landmarks(as_guide(points), fixed.grid, moving.grid, settings)
    if landmarks is None:
        raise InputError("mend: expected at least one point and its place in the moving image, got none.")
    known = _covering(as_known(given, fixed.grid), fixed.grid)
    before = landmarks.missed_mm(known.apply)
    voxel_mm = float(fixed.grid.spacing.min())
    tolerance = max(landmarks.accuracy_mm, _EXACT * voxel_mm)
    boxes = _boxes(known, landmarks, before > tolerance, fixed.grid)
    transform, repaired, looks = known, 0, []
    for box in boxes:
        inside = box.contains(landmarks.fixed_lps)
        here = replace(
            landmarks,
            fixed_lps=landmarks.fixed_lps[inside],
            moving_lps=landmarks.moving_lps[inside],
            names=tuple(name for name, within in zip(landmarks.names, inside, strict=True) if within),
        )
        finest_mm = min(_levels(box, 2 * float(transform.grid.spacing.max()), settings)[1])
        images = _cut_out(fixed, masks[0], box, settings.fixed_modality, finest_mm)
        there = _moving_box(transform, box, here, moving.grid)
        others = _cut_out(moving, masks[1], there, settings.moving_modality, finest_mm)
        looks.append(Look(box, images, others))
        transform, nodes = _mended(transform, box, images, others, here, tolerance, settings, progress)
        repaired += nodes
    _, about, warnings = reached(transform, replace(landmarks, accuracy_mm=tolerance), known.affine_lps, voxel_mm)
    log.info("mended in %d boxes, %.3g mm are left at most", len(boxes), about["landmarks_guide"]["max_mm"])
    after = landmarks.missed_mm(transform.apply)
    against = [(landmarks.names[i], landmarks.names[j]) for i, j in landmarks.contradictions(known.affine_lps)]
    return Mended(transform, boxes, landmarks.names, before, after, repaired, against, warnings), known, looks


def mended_pair(
    fixed: Volume,
    moving: Volume,
    given: RegistrationResult | PhysicalTransform | sitk.Transform,
    points: GivenLandmarks | GuidePoints,
    settings: RegistrationSettings | None = None,
    *,
    everywhere: bool = False,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    uncertainty: KnownUncertainty | None = None,
    former: FormerInverse | None = None,
    progress: Progress | None = None,
) -> RegistrationResult:
    """A result with a mended map, to be finished and written as any other; arguments and errors as of `mend`.

    everywhere: then go on from it in the whole volume, by `settings.steps` steps, with the points as landmarks.
    uncertainty: of the map that is given, where it is no result that has its own. former: likewise its inverse, of
    which what does not change is kept.
    """
    settings = replace(settings or RegistrationSettings(), transform="deformable")  # also of a linear result
    progress = progress or Progress()
    guide = as_guide(points)
    require_comparable(fixed, moving)
    device = machine.set_up(settings)
    with progress.stage("mend", "around the points"):
        mended, known, looks = _mend(given, fixed, moving, points, settings, (fixed_mask, moving_mask), progress)
    if everywhere:
        result = continued_pair(
            fixed,
            moving,
            settings,
            mended.transform,
            landmarks_guide=guide,
            progress=progress,
            fixed_mask=fixed_mask,
            moving_mask=moving_mask,
        )
        return replace(result, start=START, info={**result.info, "mended": mended.info})
    if isinstance(given, RegistrationResult):
        uncertainty = uncertainty or given.uncertainty
        if given.finished is not None:
            lost = int(given.finished.inverse_report.get("without_inverse", 0))
            former = FormerInverse(given.transform, given.finished.inverse, lost)
    with progress.stage("uncertainty", "how far the map may be off"):
        changed, reason = uncertainty_of_mended(
            uncertainty, known, mended.transform, looks, fixed.grid, moving.grid, settings, device
        )
    return RegistrationResult(
        transform=mended.transform,
        fixed=fixed,
        moving=moving,
        settings=settings,
        start=START,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        guide=guide,
        warnings=[*pair_warnings(fixed, moving), *mended.warnings],
        info={
            "version": __version__,
            "model": settings.model,
            "device": str(device),
            "seed": settings.seed,
            "deformation_start": START,
            "mended": mended.info,
            **dicom_info(fixed, moving),
        },
        timings=list(progress.timings),
        uncertainty=changed,
        uncertainty_reason=reason,
        former=former,
    )


def _covering(known: PhysicalTransform, fixed: VolumeGrid) -> PhysicalTransform:
    """The map with a field that can be changed all over the fixed volume; an affine alone gets one of zeros."""
    inside = known.grid.contains(fixed.corners_lps())
    if known.kind is None and np.all(inside):
        return known
    grid = fixed.padded(2 * fixed.spacing).with_spacing(np.maximum(2 * fixed.spacing, fixed.extent_mm / 128))
    displacement = residual_before(known)(grid.centers().reshape(-1, 3)).reshape(*grid.shape_dhw, 3)
    return PhysicalTransform(known.affine_lps, displacement, grid)


def _boxes(known: PhysicalTransform, landmarks: Landmarks, wrong: np.ndarray, fixed: VolumeGrid) -> list[VolumeGrid]:
    """Boxes around the points that are wrong, along the fixed volume's axes; those that overlap are one."""
    guide = landmarks.guide(known.affine_lps)
    off = np.linalg.norm(guide.displacement_lps - residual_before(known)(guide.points_lps), axis=1)
    half = np.maximum(_TIMES * off, _FEWEST_VOXELS * float(fixed.spacing.max()))[:, None]
    center = (landmarks.fixed_lps - fixed.origin_lps) @ fixed.direction
    # The field that is changed ends somewhere: up to its last nodes but one.
    corners = (known.grid.corners_lps() - fixed.origin_lps) @ fixed.direction
    reach = 2 * float(known.grid.spacing.max())
    edges = [
        (np.maximum(c - h, corners.min(0) + reach), np.minimum(c + h, corners.max(0) - reach))
        for c, h in zip(center[wrong], half[wrong], strict=True)
    ]
    merged: list[tuple[np.ndarray, np.ndarray]] = []
    for low, high in edges:
        for other in [one for one in merged if np.all(one[0] < high) and np.all(low < one[1])]:
            merged = [one for one in merged if one is not other]
            low, high = np.minimum(low, other[0]), np.maximum(high, other[1])
        merged.append((low, high))
    return [_box(low, high, fixed) for low, high in merged]


def _box(low: np.ndarray, high: np.ndarray, fixed: VolumeGrid) -> VolumeGrid:
    """About the fixed voxels between two corners along its axes, mm from its first voxel's center."""
    size = np.maximum(1, np.round((high - low) / fixed.spacing)).astype(int)
    spacing = (high - low) / size
    i, j, k = size.tolist()
    return VolumeGrid((i, j, k), spacing, fixed.origin_lps + fixed.direction @ (low + spacing / 2), fixed.direction)


def _moving_box(transform: PhysicalTransform, box: VolumeGrid, here: Landmarks, moving: VolumeGrid) -> VolumeGrid:
    """What the moving image shows of a box under the map, and a margin, along its axes."""
    places = np.concatenate([transform.apply(box.resized((7, 7, 7)).centers().reshape(-1, 3)), here.moving_lps])
    along = (places - moving.origin_lps) @ moving.direction
    margin = 0.25 * (along.max(0) - along.min(0))
    return _box(along.min(0) - margin, along.max(0) + margin, moving)


def _cut_out(volume: Volume, mask: Volume | None, box: VolumeGrid, modality: str, spacing_mm: float) -> PreparedVolume:
    """What lies in a box along the volume's axes, prepared; all of it is content.

    spacing_mm: of the finest image that is wanted of it: voxels within half of that are averaged first.
    """
    chosen = guess_modality(volume.array) if modality == "auto" else modality
    index = volume.grid.index(box.corners_lps())
    size = np.asarray(volume.grid.size_ijk)
    low = np.clip(np.floor(index.min(0)).astype(int), 0, np.maximum(size - _LEAST_CUT, 0))
    high = np.clip(np.ceil(index.max(0)).astype(int) + 1, np.minimum(low + _LEAST_CUT, size), size)
    (i0, j0, k0), (i1, j1, k1) = low.tolist(), high.tolist()
    bins = np.clip(
        np.floor(spacing_mm / (2 * volume.grid.spacing) + 1e-6), 1, np.maximum((high - low) // _LEAST_CUT, 1)
    )

    def cut(whole: Volume, *, binary: bool = False) -> Volume:
        part = whole.image[i0:i1, j0:j1, k0:k1]
        if np.all(bins == 1):
            return replace(whole, image=part)
        part = sitk.BinShrink(sitk.Cast(part > 0 if binary else part, sitk.sitkFloat32), bins.astype(int).tolist())
        return replace(whole, image=part > 0.49 if binary else part)

    prepared = prepare(cut(volume), chosen, None if mask is None else cut(mask, binary=True))
    return replace(prepared, content=prepared.grid)


def _levels(box: VolumeGrid, nodes_mm: float, settings: RegistrationSettings) -> tuple[list[FieldLevel], list[float]]:
    """Levels of a change that is held at a box's faces, coarse to fine, and the spacings of their images, mm."""
    coarsest = float(box.extent_mm.min()) / _CONTROLS
    finest = max(_VOXELS_PER_CONTROL * float(box.spacing.min()), nodes_mm)
    least_mm = max(float((np.prod(box.extent_mm) / _MOST_VOXELS) ** (1 / 3)), float(box.spacing.min()))
    levels, spacings = [], []
    for number in range(_LEVELS):
        control = coarsest / 2**number
        image = max(control / _VOXELS_PER_CONTROL, least_mm)
        if number and control < 0.7 * finest:
            break
        template = schedule(0, control / _VOXELS_PER_CONTROL, settings.smoothness)[-1]
        levels.append(replace(template, spacing_mm=control, steps=_STEPS[number]))
        spacings.append(image)
    return levels, spacings


def _mended(
    transform: PhysicalTransform,
    box: VolumeGrid,
    fixed: PreparedVolume,
    moving: PreparedVolume,
    landmarks: Landmarks,
    tolerance_mm: float,
    settings: RegistrationSettings,
    progress: Progress,
) -> tuple[PhysicalTransform, int]:
    """The map after one box, and how many nodes of it had to be smoothed because they folded."""
    device = machine.chosen_device(settings.device)
    affine = transform.affine_lps
    levels, spacings = _levels(box, 2 * float(transform.grid.spacing.max()), settings)
    known = Known(residual_before(transform), box, held=True)

    def loss_for(images: LevelImages, level: FieldLevel) -> LevelLoss:
        return LevelLoss(images, affine, box, level, settings.similarity)

    change = descend(
        (level_images(fixed, moving, spacing, device) for spacing in spacings),
        levels,
        box,
        informed(loss_for, lambda images, _: images.fixed_grid, box, guide=landmarks.guide(affine), known=known),
        whole_for=known.whole_for,
        progress=progress,
    )
    grid, field = transform.grid, transform.displacement_lps.copy()
    index = grid.index(box.corners_lps())
    low = np.clip(np.floor(index.min(0)).astype(int), 0, np.asarray(grid.size_ijk) - 1)
    high = np.clip(np.ceil(index.max(0)).astype(int) + 1, low + 1, grid.size_ijk)
    part = grid.cropped(low, high)
    nodes = part.centers()
    cell_mm = float(np.linalg.norm(grid.spacing))
    # A cell that reaches out of the box must not change either: all nodes around it stay.
    inner = (nodes - box.center_lps) @ box.direction
    free = np.all(np.abs(inner) < box.extent_mm / 2 - cell_mm, axis=-1)
    added = _on_nodes(change, part)
    where = tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))
    field[where] += np.where(free[..., None], added, 0).astype(np.float32)
    around = _grown(where, 3, field.shape)
    frozen = np.ones(field.shape[:3], dtype=bool)
    frozen[where] = ~free
    repaired, report = repair_folds(
        field[around], grid.spacing, min_determinant=_LEAST_DETERMINANT, direction=grid.direction, frozen=frozen[around]
    )
    field[around] = repaired
    found = replace(transform, displacement_lps=field)
    if landmarks.missed_mm(found.apply).max() > tolerance_mm:
        sound = np.setdiff1d(np.arange(len(landmarks)), np.unique(landmarks.contradictions(affine)))
        points = landmarks.fixed_lps[sound], landmarks.moving_lps[sound]
        found, _ = through_points(found, *points, tolerance_mm=tolerance_mm, region=_shrunk(box, cell_mm))
    return found, report["nodes"]


def _on_nodes(change: FieldResult, grid: VolumeGrid) -> np.ndarray:
    """D x H x W x 3 mm of a spline on a grid; quickly where its axes are the box's."""
    if np.allclose(grid.direction, change.box.direction):
        return change.displacement_lps(grid)
    nodes = grid.centers()
    found = spline_at(nodes.reshape(-1, 3), change.coefficients_13dhw, change.box, change.spacing_mm)
    return found.reshape(nodes.shape)


def _shrunk(box: VolumeGrid, margin_mm: float) -> VolumeGrid:
    """A box without a margin on all sides."""
    begin = margin_mm - box.spacing / 2
    return _box(begin, begin + box.extent_mm - 2 * margin_mm, box)


def _grown(where: tuple[slice, ...], nodes: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(max(s.start - nodes, 0), min(s.stop + nodes, n)) for s, n in zip(where, shape, strict=False))
