"""Segments of the fixed image that move as rigid bodies, or nearly: checked, in the optimization, and in the map.

While the field is optimized, changes of their shape cost (`optimize.rigidity`). A rigid segment's motion is then found
by itself, from the voxels in it alone, and put into the map exactly (`physical.rigid_parts`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..maps.exchange import tensor_from_array
from ..optimize.levels import finest_spacing, level_images
from ..optimize.linear import LinearProblem, optimize_linear
from ..optimize.linear_guides import PlacedPoints
from ..optimize.rigidity import RigidGuide
from ..optimize.segments import SegmentPair, Side
from ..physical import PhysicalTransform
from ..physical.rigid_parts import RigidPart, with_rigid_parts
from ..preprocess import PreparedVolume
from ..progress import Progress
from ..quality.motions import Moving
from ..quality.segments import label_names
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid, apply_affine, fit_linear
from ..text_files import cut
from ..volumes import Volume, read_labels
from .beside_bodies import Held, optimized_beside
from .landmarks import Landmarks
from .pair import PreparedPair

log = logging.getLogger(__name__)

# What a rigid motion can be told from: so many voxels, and the second largest extent beside the largest.
_FEWEST_VOXELS, _ON_A_LINE = 30, 0.05
# Points of a segment that the optimization looks at, at most, and of all together.
_POINTS, _ALL_POINTS = 1500, 24_000
# Beside the similarity of its own part of the image, what a change of shape by a voxel costs: of a segment that is to
# be stiff, and of one that will be made rigid.
_STIFF, _RIGID = 2.0, 5.0
# A motion is refined by what lies in a segment and so many voxels around it, on levels of so many finest spacings, and
# kept where it stays within so many voxels of where the field has it, and so much of it is seen in the moving image.
_RIM_VOXELS, _LEVELS, _FARTHEST_VOXELS, _SEEN = 1, (4.0, 2.0, 1.0), 6.0, 0.5
_MARGIN_VOXELS, _ROUNDS, _SETTLED_VOXELS = 8, 3, 0.1
# The field that holds rigid segments is as fine as the voxels, as long as it has no more nodes than this.
_MOST_NODES = 6_000_000
_NAMED = 6


@dataclass(frozen=True, eq=False)
class RigidSegments:
    """A label map of the fixed image: each segment moves rigidly, by itself.

    names: by label value; None: what a .seg.nrrd says. reference: the segment that motions are told relative to.
    """

    image: sitk.Image
    names: Mapping[int, str] | None = None
    reference: str | None = None


@dataclass(frozen=True, eq=False)
class StiffSegments:
    """A label map of the fixed image: each segment keeps its shape as far as `stiffness` (1 = default) asks for it."""

    image: sitk.Image
    names: Mapping[int, str] | None = None
    stiffness: float = 1.0


@dataclass(frozen=True, eq=False)
class Bodies:
    """Segments of the fixed image. numbers: D H W on `grid`, 0 or the place in `names` + 1. weights: b.

    rigid: b bool. labels: b, their values in the file.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    rigid: tuple[bool, ...]
    weights: np.ndarray
    numbers: np.ndarray
    grid: VolumeGrid
    reference: str | None = None

    @property
    def any_rigid(self) -> bool:
        return any(self.rigid)

    def points(self, number: int, most: int | None = None) -> np.ndarray:
        """n x 3 LPS mm: the centers of a segment's voxels, or of `most` of them, evenly drawn."""
        kji = np.argwhere(self.numbers == number + 1)
        if most is not None and len(kji) > most:
            kji = kji[np.linspace(0, len(kji) - 1, most).astype(int)]
        return self.grid.points(kji[:, ::-1])

    def guide(self, affine_lps: np.ndarray) -> RigidGuide:
        """What the optimization of a displacement before an affine is told of them."""
        most = max(100, min(_POINTS, _ALL_POINTS // len(self.names)))
        points = [self.points(number, most) for number in range(len(self.names))]
        body = np.repeat(np.arange(len(points)), [len(each) for each in points])
        counts = np.bincount(self.numbers.ravel(), minlength=len(self.names) + 1)[1:]
        volumes = counts * float(np.prod(self.grid.spacing))
        return RigidGuide(np.concatenate(points), body, volumes, self.weights, affine_lps[:3, :3])

    def field_spacing(self, settings: RegistrationSettings, control_mm: float) -> float | None:
        """The spacing of a field that can hold them, mm; None = the usual one."""
        if settings.field_spacing_mm is not None or not self.any_rigid:
            return settings.field_spacing_mm
        coarsest = float((1.7 * np.prod(self.grid.extent_mm) / _MOST_NODES) ** (1 / 3))  # with its margin
        return min(max(float(self.grid.spacing.min()), coarsest), control_mm / 2)

    def moving(self) -> Moving:
        """What is told of how they moved."""
        return Moving(self.names, self.labels, self.rigid, self.numbers, self.grid, self.reference)


GivenRigid = RigidSegments | sitk.Image | None
GivenStiff = StiffSegments | sitk.Image | None


def checked_bodies(
    rigid: GivenRigid, stiff: GivenStiff, fixed: Volume, settings: RegistrationSettings, exact_landmarks: bool = False
) -> Bodies | None:
    """The segments that are to be rigid or stiff; None for none. exact_landmarks: the map is to pass through points.

    Where both are given for a voxel, it is rigid. Raises InputError: a method that knows no such segments, segments too
    small for a rotation, a reference that is none of them; GeometryError.
    """
    if rigid is None and stiff is None:
        return None
    what = "rigid segments" if rigid is not None else "stiff segments"
    _check_method(what, settings)
    if rigid is not None and exact_landmarks:
        raise InputError(
            "rigid segments: expected landmarks with an accuracy above 0, since points in a segment can only move with "
            "it; got 0. Give --landmarks-accuracy in mm."
        )
    numbers = np.zeros(fixed.grid.shape_dhw, dtype=np.int32)
    names: list[str] = []
    labels: list[int] = []
    kinds: list[bool] = []
    weights: list[float] = []
    reference = None
    for given, is_rigid in ((rigid, True), (stiff, False)):
        if given is None:
            continue
        part = given
        if isinstance(part, sitk.Image):
            part = RigidSegments(part) if is_rigid else StiffSegments(part)
        kind = "rigid segments" if is_rigid else "stiff segments"
        image = read_labels(part.image, fixed, kind)
        array = sitk.GetArrayFromImage(image)
        known = label_names(part.image) if part.names is None else part.names
        found = {int(value): known.get(int(value)) or str(int(value)) for value in np.unique(array) if value}
        _check_sizes(array, found, fixed.grid, kind)
        weight = _RIGID
        if isinstance(part, StiffSegments):
            if not 0 < part.stiffness <= 1000:
                raise InputError(f"{kind}: expected a stiffness above 0, at most 1000; got {part.stiffness:g}.")
            weight = _STIFF * part.stiffness
        elif isinstance(part, RigidSegments) and part.reference is not None:
            reference = _named(part.reference, found)
        for value, name in found.items():
            own = (array == value) & (numbers == 0)
            if not own.any():
                continue  # all of it is rigid already
            numbers[own] = len(names) + 1
            names.append(name)
            labels.append(value)
            kinds.append(is_rigid)
            weights.append(weight)
    log.info("%d rigid and %d stiff segments", sum(kinds), len(kinds) - sum(kinds))
    return Bodies(tuple(names), tuple(labels), tuple(kinds), np.array(weights), numbers, fixed.grid, reference)


def _check_method(what: str, settings: RegistrationSettings) -> None:
    if settings.linear:
        raise InputError(
            f"{what}: expected transform deformable, in which each segment moves by itself; got {settings.transform}. "
            "For one body alone leave them out, and give it as --fixed-mask."
        )
    if settings.io_method != "field" and settings.steps:
        raise InputError(
            f"{what}: expected io method field, which knows them; got {settings.io_method}. Choose field, or 0 io "
            "steps."
        )
    if settings.symmetric:
        raise InputError(
            f"{what}: expected symmetric off, since they are drawn in the fixed image alone; got symmetric. Leave one "
            "of the two out."
        )


def _check_sizes(array: np.ndarray, names: Mapping[int, str], grid: VolumeGrid, what: str) -> None:
    small = []
    for value, name in names.items():
        kji = np.argwhere(array == value)
        points = grid.points(kji[:, ::-1])
        extents = np.linalg.svd(points - points.mean(0), compute_uv=False, full_matrices=False)
        if len(kji) < _FEWEST_VOXELS or extents[1] <= _ON_A_LINE * extents[0]:
            small.append(f"{cut(name, 40)} ({len(kji)} voxel{'' if len(kji) == 1 else 's'})")
    if small:
        more = f" and {len(small) - _NAMED} more" if len(small) > _NAMED else ""
        raise InputError(
            f"{what}: expected segments of at least {_FEWEST_VOXELS} voxels that do not lie on one line, from which a "
            f"rotation can be told; too small: {', '.join(small[:_NAMED])}{more}. Leave them out, or join them with "
            "what they move with."
        )


def _named(given: str, names: Mapping[int, str]) -> str:
    if given in names.values():
        return given
    if given.lstrip("-").isdigit() and int(given) in names:
        return names[int(given)]
    there = ", ".join(cut(name, 30) for name in list(names.values())[:40])
    raise InputError(f"rigid reference: expected the name of a rigid segment, got {cut(given)!r}; there are {there}.")


def with_bodies(
    transform: PhysicalTransform,
    bodies: Bodies | None,
    pair: PreparedPair,
    moving_grid: VolumeGrid,
    settings: RegistrationSettings,
    device,
    progress: Progress,
    landmarks: Landmarks | None = None,
    *,
    segments: Sequence[SegmentPair] = (),
    steps_left: int = 0,
) -> tuple[PhysicalTransform, dict, list[str]]:
    """A transform with its rigid segments moved rigidly, what is known of it, and warnings in words.

    steps_left: of the optimization, for the space between the rigid segments; landmarks, segments: what guides it.
    """
    if bodies is None:
        return transform, {}, []
    about: dict = {
        "rigid_segments": [name for name, rigid in zip(bodies.names, bodies.rigid, strict=True) if rigid],
        "stiff_segments": [name for name, rigid in zip(bodies.names, bodies.rigid, strict=True) if not rigid],
        "rigid_reference": bodies.reference,
    }
    if not bodies.any_rigid:
        return transform, about, []
    parts, notes = [], []
    voxel_mm = float(bodies.grid.spacing.max())
    for number, name in enumerate(bodies.names):
        if not bodies.rigid[number]:
            continue
        progress.check()
        points = bodies.points(number, 20_000)
        mapped = transform.apply(points)
        start = fit_linear(points, mapped, kind="rigid")
        seen = float(moving_grid.contains(mapped).mean())
        motion = start
        if seen >= _SEEN and settings.steps:
            motion = _refined(bodies, number, start, points, pair, settings, device, landmarks)
        elif seen < _SEEN:
            notes.append(
                f"Rigid segment {cut(name, 40)}: the moving volume shows {100 * seen:.0f} % of it; its motion follows "
                "its surroundings."
            )
        side = Side.of(bodies.numbers == number + 1, bodies.grid, 4 * voxel_mm)
        parts.append(RigidPart(name, side.distance_11dhw, side.grid, motion, voxel_mm))
    found, report = with_rigid_parts(transform, parts)
    if report["meeting"]:
        named = ", ".join(cut(name, 40) for name in report["meeting"][:_NAMED])
        notes.append(
            f"Rigid segments touch or run into each other: {named}. No map without folds moves them all rigidly, so "
            "that where they meet their rims give way; the table of motions says how much."
        )
    about["rigid_repaired_nodes"] = report["repaired"]
    about["rigid_freed_nodes"] = report["freed"]
    if steps_left and progress.steps:
        held = Held.of(parts, report["held"], found.grid)
        soft = None if all(bodies.rigid) else bodies.guide(found.affine_lps)
        done, levels = settings.steps - steps_left, progress.steps[-1].level + 1
        with progress.part_of(settings.steps, done, levels):
            guides = {"landmarks": landmarks, "segments": segments, "stiff": soft}
            found = optimized_beside(found, held, steps_left, pair, settings, device, progress, **guides)
    return found, about, notes


def _refined(
    bodies: Bodies,
    number: int,
    start: np.ndarray,
    points: np.ndarray,
    pair: PreparedPair,
    settings: RegistrationSettings,
    device,
    landmarks: Landmarks | None,
) -> np.ndarray:
    """The rigid motion with the best similarity near to a start, from the segment's own voxels and a rim of them."""
    center = points.mean(0)
    known: list[PlacedPoints] = []
    if landmarks is not None:
        inside = _at(bodies.numbers, bodies.grid, landmarks.fixed_lps) == number + 1
        if inside.any():
            known = [PlacedPoints(landmarks.fixed_lps[inside], landmarks.moving_lps[inside], landmarks.accuracy_mm)]
    member = _membership(bodies, number)
    fixed = _cut_out(pair.fixed, points, _MARGIN_VOXELS)
    if fixed is None:
        return start
    fixed = replace(fixed, mask_dhw=member(fixed.grid, np.eye(4)))
    found, finest = start, float(bodies.grid.spacing.min())
    for turn in range(_ROUNDS):  # what is compared in the moving image follows the motion
        moving = _cut_out(pair.moving, apply_affine(found, points), _MARGIN_VOXELS)
        if moving is None:
            return start
        moving = replace(moving, mask_dhw=member(moving.grid, np.linalg.inv(found)))
        finest = max(finest_spacing(fixed.content), float(moving.grid.spacing.min()))
        levels = _LEVELS if turn == 0 else _LEVELS[-1:]
        before = found
        found = optimize_linear(
            (level_images(fixed, moving, factor * finest, device) for factor in levels),
            len(levels),
            before,
            center,
            dof="rigid",
            similarity=settings.similarity,
            guides=known,
            seed=settings.seed,
        ).matrix
        step = np.linalg.norm(apply_affine(found, points) - apply_affine(before, points), axis=1).max()
        if step < _SETTLED_VOXELS * finest:
            break
    moved = float(np.linalg.norm(apply_affine(found, points) - apply_affine(start, points), axis=1).max())
    # Levels that see less may lead away from a start that all voxels together have found.
    problem = LinearProblem(
        level_images(fixed, moving, finest, device),
        found,
        center,
        similarity=settings.similarity,
        dof="rigid",
        guides=known,
        seed=settings.seed,
    )
    better = problem.normal(found).loss < problem.normal(start).loss
    log.info("%s: refined by %.3g mm, more alike: %s", bodies.names[number], moved, better)
    return found if better and moved <= _FARTHEST_VOXELS * finest else start


def _membership(bodies: Bodies, number: int):
    """Function of a grid and a 4x4 to the fixed space: D H W, 1 in the segment and its rim, which is no other's."""
    own = bodies.numbers == number + 1
    image = bodies.grid.image(own.astype(np.uint8))
    kji = np.argwhere(own)
    low = np.maximum(kji.min(0) - _RIM_VOXELS - 1, 0)
    high = np.minimum(kji.max(0) + _RIM_VOXELS + 2, own.shape)
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    i, j, k = (int(n) for n in low[::-1])
    size = [int(n) for n in (high - low)[::-1]]
    image = sitk.RegionOfInterest(image, size, [i, j, k])
    grown = sitk.GetArrayFromImage(sitk.BinaryDilate(image, [_RIM_VOXELS] * 3)) > 0
    grown &= (bodies.numbers[part] == 0) | own[part]
    grid = bodies.grid.cropped(low[::-1], high[::-1])

    def on(lattice: VolumeGrid, fixed_from_lattice: np.ndarray):
        values = _at(grown, grid, apply_affine(fixed_from_lattice, lattice.centers()))
        return tensor_from_array(values.astype(np.float32))

    return on


def _at(values: np.ndarray, grid: VolumeGrid, points: np.ndarray) -> np.ndarray:
    """The nearest voxels' values at (..., 3) LPS points; 0 outside of the grid."""
    kji = np.rint(grid.index(points)).astype(int)[..., ::-1]
    inside = np.all((kji >= 0) & (kji < grid.shape_dhw), axis=-1)
    found = np.zeros(points.shape[:-1], dtype=values.dtype)
    found[inside] = values[tuple(kji[inside].T)]
    return found


def _cut_out(volume: PreparedVolume, points: np.ndarray, margin: int) -> PreparedVolume | None:
    """The voxels around points; None where too few of them are there."""
    index = volume.grid.index(points)
    low = np.maximum(np.floor(index.min(0)).astype(int) - margin, 0)
    high = np.minimum(np.ceil(index.max(0)).astype(int) + margin + 1, volume.grid.size_ijk)
    if np.any(high - low < 4):
        return None
    part = tuple(slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1], strict=True))
    grid = volume.grid.cropped(low, high)
    return PreparedVolume(volume.voxels_dhw[part].contiguous(), grid, grid, volume.modality)
