"""The deformation optimized half-way between both scans (`optimize.halfway`), as by default, and what makes a whole
registration independent of which of them is called fixed, as studies over time need it.

For the latter, what only one order can do (searches, the network, the affine) is done in an order that follows from the
images themselves. Exchanging the scans then gives the inverse map.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import InputError
from ..io.itk_transform import affine_to_sitk, map_points
from ..losses.registry import similarity_named
from ..models.catalog import model_info
from ..optimize.candidates import AffineCandidate
from ..optimize.field import FieldResult, descend
from ..optimize.halfway import HalfwayLoss, HalfwaySpace, displacement_on, halfway_box, halfway_displacement
from ..optimize.levels import SMALL, FieldLevel, LevelImages, level_images, thinned_out
from ..optimize.onward import informed
from ..optimize.segments import SegmentPair
from ..physical import PhysicalTransform
from ..preprocess.prepare import level_grid
from ..progress import Progress
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid, apply_affine, fit_linear
from ..uncertainty import NetworkAnswer
from ..volumes import Volume
from .bodies import Bodies
from .course import course_for
from .field import REMOVING_FOLDS, delivered_from, planned, working_grid
from .landmarks import Landmarks
from .live import LiveMap
from .pair import PreparedPair
from .predict import PointMap
from .starts import INITIAL, lattice_points

# Of the fixed volume's diagonal: how far a linear transform may be from the linear map fitted to it.
_LINEAR = 1e-5
# Of the fixed content's edges: how far beyond its faces the known displacement is looked at, not held; large motion
# leads out of it.
_CONTINUED = 0.35


def _key(volume: Volume) -> tuple:
    array = np.ascontiguousarray(volume.array, dtype=np.float32)
    geometry = np.round(np.concatenate([volume.grid.lps_from_ijk.ravel(), volume.grid.size_ijk]), 4)
    return hashlib.sha256(array.data.cast("B")).hexdigest(), geometry.tolist()


def linear_initial(initial_transform: sitk.Transform | None, fixed: VolumeGrid) -> np.ndarray | None:
    """An initial transform as a matrix, 4x4 LPS; None for none. Raises InputError for one with a deformation."""
    if initial_transform is None:
        return None
    points = lattice_points(fixed, 12)
    mapped = map_points(initial_transform, points)
    matrix = fit_linear(points, mapped)
    left = float(np.abs(apply_affine(matrix, points) - mapped).max())
    if left > _LINEAR * float(np.linalg.norm(fixed.extent_mm)):
        raise InputError(
            f"{INITIAL}: expected a linear one for a symmetric registration, got one with a deformation (up to "
            f"{left:.3g} mm). Give its linear part (`carlreg linear`), or leave out --symmetric."
        )
    return matrix


@dataclass(frozen=True)
class Order:
    """The order in which a pair is worked on. exchanged: the moving volume is worked on as the fixed one."""

    exchanged: bool

    def of_pair(self, pair: PreparedPair) -> PreparedPair:
        return pair.exchanged() if self.exchanged else pair

    def of_landmarks(self, landmarks: Landmarks | None) -> Landmarks | None:
        return landmarks.exchanged() if landmarks is not None and self.exchanged else landmarks

    def of_segments(self, segments: list[SegmentPair]) -> list[SegmentPair]:
        return [pair.exchanged() for pair in segments] if self.exchanged else segments

    def of_answer(self, answer: NetworkAnswer | None) -> NetworkAnswer | None:
        """The network's answer to the pair as it was given; the order in which it was asked goes in."""
        return answer.exchanged() if answer is not None and self.exchanged else answer

    def of_matrix(self, matrix: np.ndarray) -> np.ndarray:
        return np.linalg.inv(matrix) if self.exchanged else matrix

    def of_initial(
        self, initial_transform: sitk.Transform | None, settings: RegistrationSettings, fixed: VolumeGrid
    ) -> sitk.Transform | None:
        """An initial transform in this order; for a symmetric registration see `linear_initial`."""
        matrix = linear_initial(initial_transform, fixed) if settings.symmetric else None
        return initial_transform if matrix is None else affine_to_sitk(self.of_matrix(matrix))


def as_its_network(settings: RegistrationSettings, initial_transform: sitk.Transform | None) -> RegistrationSettings:
    """The settings; symmetric where the network's map is the inverse for the exchanged scans, so that the result is.

    Not where they ask for what only one order can do: a deformation to begin with, or optimization of the network; nor
    where the network is hardly asked.
    """
    possible = settings.io_method == "field" or not settings.steps
    if settings.linear or (initial_transform is not None and not initial_transform.IsLinear()):
        possible = False
    if possible and model_info(settings.model).inverse_consistent:
        return replace(settings, symmetric=True)
    return settings


def between_both(settings: RegistrationSettings, bodies: Bodies | None) -> bool:
    """Whether the deformation is optimized half-way between both images, not from the fixed one.

    With local correlation it ends more exact so (docs/results.md); with MIND it does not, and each of the descriptors
    would have to be sampled. Rigid and stiff bodies are known in the fixed image. Symmetric registrations always are.
    """
    if settings.symmetric:
        return True
    local = not similarity_named(settings.similarity).descriptors
    return settings.io_method == "field" and settings.steps > 0 and local and bodies is None


def order_of(fixed: Volume, moving: Volume, settings: RegistrationSettings) -> Order:
    """The given order, or for a symmetric registration the one that follows from the images' content alone."""
    return Order(settings.symmetric and _key(moving) < _key(fixed))


def halfway_transform(
    start: AffineCandidate,
    residual: PointMap | None,
    pair: PreparedPair,
    order: Order,
    fixed_grid: VolumeGrid,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
    live: LiveMap | None = None,
    landmarks: Landmarks | None = None,
    segments: Sequence[SegmentPair] = (),
) -> tuple[PhysicalTransform, dict, float]:
    """The transform of the pair as it was given, what was done about folds, and the spline's control spacing (mm).

    start, residual, pair, landmarks, segments: in `order`. fixed_grid: of the volume that was given as fixed.
    """
    content, live = order.of_pair(pair).fixed.content, live or LiveMap(progress)

    def watch(space: HalfwaySpace, found: FieldResult) -> None:
        def displacement(grid: VolumeGrid) -> np.ndarray:
            return displacement_on(grid, space, found, inverse=order.exchanged)

        live.offer(order.of_matrix(start.matrix), displacement, content)

    if progress.stopping:  # before the first step: the start itself, as without optimization
        settings = replace(settings, io_steps=0)
    space, spline = _optimized(start, residual, pair, settings, device, progress, watch, landmarks, segments)
    progress.update(1.0, REMOVING_FOLDS)
    grid = working_grid(content, spline.spacing_mm, settings.field_spacing_mm)
    field_lps = displacement_on(grid, space, spline, inverse=order.exchanged)
    transform, folds = delivered_from(order.of_matrix(start.matrix), field_lps, grid, fixed_grid)
    return transform, folds, spline.spacing_mm


def _held_beyond(displacement: PointMap, box: VolumeGrid, share: float) -> PointMap:
    """The displacement, and beyond a box with so large a share of its edges around it that of the nearest point in it.

    A network says nothing there: of a turned pair half-way space reaches far beyond the fixed content. Next to it the
    continued displacement is worth having: large motion leads half the way out of it.
    """

    def held(points: np.ndarray) -> np.ndarray:
        inside = np.clip(apply_affine(box.normalized_from_lps, points), -share, 1.0 + share)
        return displacement(apply_affine(box.lps_from_normalized, inside))

    return held


def _optimized(
    start: AffineCandidate,
    residual: PointMap | None,
    pair: PreparedPair,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
    watch: Callable[[HalfwaySpace, FieldResult], None],
    landmarks: Landmarks | None,
    segments: Sequence[SegmentPair],
) -> tuple[HalfwaySpace, FieldResult]:
    """Half-way space and the spline in it; see `field.optimized_field`."""
    fixed, moving = pair.fixed, pair.moving
    space = HalfwaySpace.between(start.matrix, fixed.content.center_lps)
    box = halfway_box(space, fixed, moving)
    course = course_for(settings, pair, halfway=True)
    known = None
    if residual is not None:
        known = halfway_displacement(_held_beyond(residual, fixed.content, _CONTINUED), space)
    plan = planned(box, known, settings, course)
    lattices = {}
    for level, spacing in zip(plan.levels, plan.spacings, strict=True):
        whole = level_grid(box, box, spacing)
        lattices[level.spacing_mm] = thinned_out(whole, level.every if whole.voxel_count > SMALL else 1)

    def loss_for(images: LevelImages, level: FieldLevel) -> HalfwayLoss:
        return HalfwayLoss(images, lattices[level.spacing_mm], space, box, level, settings.similarity)

    guide = None if landmarks is None else landmarks.halfway_guide(space)
    loss = informed(
        loss_for,
        lambda _, level: lattices[level.spacing_mm][0],
        box,
        guide=guide,
        segments=segments,
        lattice_from_fixed=np.linalg.inv(space.fixed_from_half),
    )

    def images_at(spacing: float) -> LevelImages:
        return level_images(fixed, moving, spacing, device, fixed_margin=True)

    spline = descend(
        map(images_at, plan.spacings),
        plan.levels,
        box,
        loss,
        start_13dhw=plan.start_13dhw,
        progress=progress,
        watch=lambda found: watch(space, found),
    )
    return space, spline
