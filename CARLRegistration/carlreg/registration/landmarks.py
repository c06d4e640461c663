"""Corresponding landmarks that guide a registration: checked, as starts, as what the field must reach, and judged.

Points are LPS mm; maps are moving_from_fixed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from ..io.guide_points import GuidePoints
from ..optimize.candidates import TOWARD_RIGID, AffineCandidate, translation
from ..optimize.guide import PointGuide
from ..optimize.halfway import HalfwaySpace
from ..physical import PhysicalTransform
from ..physical.exact import through_points
from ..quality.verdict import contradiction_note
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid, apply_affine, check_sound, fit_linear
from ..text_files import cut
from .predict import PointMap
from .starts import LANDMARKS

log = logging.getLogger(__name__)

#: Fixed points, moving points (n x 3 each, LPS mm), and their names where they have any.
GivenLandmarks = tuple[np.ndarray, np.ndarray] | tuple[np.ndarray, np.ndarray, Sequence[str]]
START = LANDMARKS
# Points that lie on one line tell no rotation about it: their second largest extent, as a share of the largest.
_ON_A_LINE = 0.05
# How far a start may miss the landmarks: a share of their spread (a turn of 14 degrees), of the fixed content's
# diagonal at least (what a deformation does), beside what the best rigid fit of theirs misses.
_OF_SPREAD, _OF_CONTENT = 0.25, 0.05
# Points that an affine may be fitted to.
_FOR_AFFINE = 8
# Two landmarks contradict each other when, beside the affine, the way between them shrinks below this share.
_LEAST_SHARE = 0.05
# Exact landmarks: met within this share of a voxel, and missed beyond that one.
_EXACT, _MISSED = 0.02, 0.5
_NAMED = 6


@dataclass(frozen=True, eq=False)
class Landmarks:
    """fixed_lps, moving_lps: n x 3 corresponding points. names: n. accuracy_mm: standard deviation; 0 = exact."""

    fixed_lps: np.ndarray
    moving_lps: np.ndarray
    names: tuple[str, ...]
    accuracy_mm: float

    def __len__(self) -> int:
        return len(self.names)

    def exchanged(self) -> Landmarks:
        return replace(self, fixed_lps=self.moving_lps, moving_lps=self.fixed_lps)

    def of_moving(self, matrix: np.ndarray) -> Landmarks:
        """The landmarks of a moving volume under a 4x4 matrix."""
        return replace(self, moving_lps=apply_affine(matrix, self.moving_lps))

    def missed_mm(self, mapping: PointMap) -> np.ndarray:
        """n: how far from its place a map puts each of them."""
        return np.linalg.norm(mapping(self.fixed_lps) - self.moving_lps, axis=1)

    def rms_mm(self, mapping: PointMap) -> float:
        return _rms(self.missed_mm(mapping))

    def rms_of(self, matrix: np.ndarray) -> float:
        """The same for a 4x4 matrix."""
        return self.rms_mm(lambda points: apply_affine(matrix, points))

    def guide(self, affine_lps: np.ndarray) -> PointGuide:
        """What the displacement before an affine must reach."""
        before = apply_affine(np.linalg.inv(affine_lps), self.moving_lps)
        return PointGuide(self.fixed_lps, before - self.fixed_lps, affine_lps[:3, :3], self.accuracy_mm)

    def halfway_guide(self, space: HalfwaySpace) -> PointGuide:
        """What the displacement half-way between both images must reach, at the middle of each pair."""
        fixed = apply_affine(np.linalg.inv(space.fixed_from_half), self.fixed_lps)
        moving = apply_affine(np.linalg.inv(space.moving_from_half), self.moving_lps)
        return PointGuide((fixed + moving) / 2, moving - fixed, np.eye(3), self.accuracy_mm)

    def contradictions(self, affine_lps: np.ndarray) -> list[tuple[int, int]]:
        """Pairs of landmarks that no map without folds near the affine can both reach; by their numbers.

        Not within what the accuracy explains.
        """
        wanted = apply_affine(np.linalg.inv(affine_lps), self.moving_lps)
        slack = 2 * self.accuracy_mm
        found = []
        for i in range(len(self)):
            way = self.fixed_lps[i + 1 :] - self.fixed_lps[i]
            then = wanted[i + 1 :] - wanted[i]
            length = np.linalg.norm(way, axis=1)
            along = (way * then).sum(1) / np.maximum(length, 1e-12)
            same = length < 1e-6 * (1 + np.abs(self.fixed_lps[i]).max())
            turned = ~same & (along <= _LEAST_SHARE * length) & (length - along > slack)
            apart = same & (np.linalg.norm(then, axis=1) > slack + 1e-6)
            found += [(i, i + 1 + int(j)) for j in np.flatnonzero(turned | apart)]
        return found


def as_guide(given: GivenLandmarks | GuidePoints | None) -> GuidePoints | None:
    """Landmarks as they are given in Python; None for none. Raises InputError: shapes, unequal numbers, no point."""
    if given is None:
        return None
    if isinstance(given, GuidePoints):
        if not given.on.any():
            raise InputError("landmarks guide: expected at least one point that is on, got none.")
        return given
    sides = [np.asarray(points, dtype=np.float64) for points in given[:2]]
    for side, points in zip(("fixed", "moving"), sides, strict=True):
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise InputError(
                f"landmarks guide: expected {side} points of shape (n, 3) in LPS mm, got an array of shape "
                f"{points.shape}."
            )
    counts = [len(points) for points in sides]
    if counts[0] != counts[1] or not counts[0]:
        raise InputError(
            f"landmarks guide: expected as many fixed as moving points, at least one; got {counts[0]} and {counts[1]}."
        )
    names = tuple(given[2]) if len(given) > 2 else tuple(str(number + 1) for number in range(counts[0]))
    return GuidePoints(sides[0], sides[1], names, np.ones(counts[0], dtype=bool))


def checked_landmarks(
    given: GuidePoints | None, fixed: VolumeGrid, moving: VolumeGrid, settings: RegistrationSettings
) -> Landmarks | None:
    """Landmarks to guide a registration of volumes on these grids; None for none.

    Raises InputError: a method that they cannot guide, points outside of the volumes.
    """
    if given is None:
        return None
    if settings.io_method != "field" and settings.steps:
        raise InputError(
            f"landmarks guide: expected io method field, which landmarks can guide; got {settings.io_method}. Choose "
            "field, or 0 io steps."
        )
    *sides, names = given.used
    for side, points, grid in zip(("fixed", "moving"), sides, (fixed, moving), strict=True):
        outside = [name for name, inside in zip(names, grid.contains(points), strict=True) if not inside]
        if outside:
            raise InputError(
                f"landmarks guide: expected points inside the {side} volume; {_listed(outside)} "
                f"{'lies' if len(outside) == 1 else 'lie'} outside. Check that the coordinates are LPS mm, and that "
                "fixed and moving are not exchanged."
            )
    return Landmarks(sides[0], sides[1], names, accuracy_of(settings, fixed, moving))


def accuracy_of(settings: RegistrationSettings, fixed: VolumeGrid, moving: VolumeGrid) -> float:
    """How exactly landmarks count as placed, mm; a voxel of the coarser image where the settings do not say."""
    if settings.landmarks_accuracy_mm is not None:
        return float(settings.landmarks_accuracy_mm)
    return max(float(grid.spacing.mean()) for grid in (fixed, moving))


def with_landmarks(
    candidates: list[AffineCandidate], landmarks: Landmarks | None, content: VolumeGrid
) -> list[AffineCandidate]:
    """The candidates that the landmarks do not contradict, and those that follow from them."""
    if landmarks is None:
        return candidates
    own = landmark_starts(landmarks)
    kept = agreeing([*own, *candidates], landmarks, content)
    log.info("landmarks: %d of %d starts agree", len(kept) - len(own), len(candidates))
    return kept


def agreeing(
    candidates: list[AffineCandidate], landmarks: Landmarks | None, content: VolumeGrid
) -> list[AffineCandidate]:
    """Those candidates that the landmarks do not contradict; all where they contradict every one."""
    if landmarks is None:
        return candidates
    most = tolerance_mm(landmarks, content)
    kept = [one for one in candidates if landmarks.rms_of(one.matrix) <= most]
    return kept or candidates


def kept_by(
    landmarks: Landmarks | None, refined: AffineCandidate, starts: list[AffineCandidate], content: VolumeGrid
) -> AffineCandidate:
    """The refined start, or the best unrefined one where refining led away from the landmarks. starts: best first."""
    if landmarks is None or landmarks.rms_of(refined.matrix) <= tolerance_mm(landmarks, content):
        return refined
    return next((start for start in starts if start.name == refined.name), starts[0])


def tolerance_mm(landmarks: Landmarks, content: VolumeGrid) -> float:
    """How far a start may miss the landmarks (root mean square, mm) before they contradict it."""
    best = landmarks.rms_of(landmark_starts(landmarks)[0].matrix)
    spread = _rms(np.linalg.norm(landmarks.fixed_lps - landmarks.fixed_lps.mean(0), axis=1))
    diagonal = float(np.linalg.norm(content.extent_mm))
    return 2 * best + 2 * landmarks.accuracy_mm + max(_OF_SPREAD * spread, _OF_CONTENT * diagonal)


def landmark_starts(landmarks: Landmarks, name: str = START) -> list[AffineCandidate]:
    """The starts that follow from landmarks, called by a name: a shift, or the rigid fit, and the affine one."""
    fixed, moving = landmarks.fixed_lps, landmarks.moving_lps
    if not tell_rotation(fixed) or not tell_rotation(moving):
        return [AffineCandidate(f"{name}, shift", translation((moving - fixed).mean(0)))]
    found = [AffineCandidate(name, fit_linear(fixed, moving, kind="rigid"))]
    if len(landmarks) >= _FOR_AFFINE:
        affine = fit_linear(fixed, moving, toward_rigid=TOWARD_RIGID)
        try:
            check_sound(affine, name)
        except InputError:
            return found
        found.append(AffineCandidate(f"{name}, affine", affine))
    return found


def tell_rotation(points: np.ndarray) -> bool:
    """Whether points are three or more that do not lie on one line."""
    if len(points) < 3:
        return False
    extents = np.linalg.svd(points - points.mean(0), compute_uv=False)
    return bool(extents[1] > _ON_A_LINE * extents[0])


def reached(
    transform: PhysicalTransform,
    landmarks: Landmarks | None,
    start_lps: np.ndarray,
    voxel_mm: float,
    *,
    deformable: bool = True,
) -> tuple[PhysicalTransform, dict, list[str]]:
    """A transform brought through exact landmarks, what is known of them, and warnings that name those it misses.

    start_lps: 4x4, the affine that it began with. voxel_mm: of the fixed image. deformable: False
        leaves the map as it is.
    """
    if landmarks is None:
        return transform, {}, []
    pairs = landmarks.contradictions(start_lps)
    if landmarks.accuracy_mm == 0 and transform.kind is None:
        sound = np.setdiff1d(np.arange(len(landmarks)), np.unique(pairs))
        points = landmarks.fixed_lps[sound], landmarks.moving_lps[sound]
        transform, _ = through_points(transform, *points, tolerance_mm=_EXACT * voxel_mm)
    missed = landmarks.missed_mm(transform.apply)
    most = max(3 * landmarks.accuracy_mm, _MISSED * voxel_mm)
    far = [int(number) for number in np.argsort(-missed) if missed[number] > most]
    about = {
        "count": len(landmarks),
        "accuracy_mm": landmarks.accuracy_mm,
        "start_rms_mm": landmarks.rms_of(start_lps),
        "rms_mm": _rms(missed),
        "max_mm": float(missed.max()),
        "missed": [landmarks.names[number] for number in far],
        "contradicting": [[landmarks.names[i], landmarks.names[j]] for i, j in pairs],
    }
    warnings = contradiction_note(about["contradicting"])
    if far and not pairs:
        named = _listed([f"{landmarks.names[number]} by {missed[number]:.3g} mm" for number in far])
        warnings.append(f"Landmarks that guide the registration are missed: {named}. Check where they are.")
    return transform, {"landmarks_guide": about}, warnings


def _listed(names: Sequence[str]) -> str:
    parts = [cut(name, 60) for name in names[:_NAMED]]
    return ", ".join(parts) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
