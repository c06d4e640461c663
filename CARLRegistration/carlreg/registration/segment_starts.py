"""Starts that segments of both images say: by their centers, or by the moments of one or two.

Only segments that lie wholly within both volumes count: where a volume ends, the center of what is left is another one.
Matrices are 4x4, moving_from_fixed, LPS mm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..optimize.candidates import AffineCandidate
from ..optimize.segments import SegmentPair, Side
from ..spaces import VolumeGrid
from .landmarks import Landmarks, agreeing, kept_by, landmark_starts, tell_rotation, with_landmarks
from .starts import SEGMENTS

START = SEGMENTS
# How exactly a center is known, as a share of the radius of a ball as large as the segment.
_OF_RADIUS = 0.25
# Axes of a body whose lengths differ by less than this factor do not tell a turn.
_DISTINCT = 1.15


def centers_of(segments: Sequence[SegmentPair]) -> Landmarks | None:
    """The centers of those that lie wholly within both volumes, as landmarks; None where none does."""
    whole = [pair for pair in segments if _is_whole(pair.fixed) and _is_whole(pair.moving)]
    if not whole:
        return None
    moments = [[_moments(side) for side in (pair.fixed, pair.moving)] for pair in whole]
    radius = np.mean([(3 * side[0] / (4 * np.pi)) ** (1 / 3) for pair in moments for side in pair])
    fixed, moving = (np.array([pair[n][1] for pair in moments]) for n in (0, 1))
    return Landmarks(fixed, moving, tuple(pair.name for pair in whole), float(_OF_RADIUS * radius))


def with_known(
    candidates: list[AffineCandidate],
    landmarks: Landmarks | None,
    segments: Sequence[SegmentPair],
    content: VolumeGrid,
) -> list[AffineCandidate]:
    """The candidates that neither landmarks nor the segments' centers contradict, and those that follow from both."""
    found = with_landmarks(candidates, landmarks, content)
    centers = centers_of(segments)
    if centers is None:
        return found
    own = landmark_starts(centers, START)
    if not tell_rotation(centers.fixed_lps) or not tell_rotation(centers.moving_lps):
        own += _by_moments([pair for pair in segments if pair.name in centers.names])
    return agreeing(agreeing([*own, *found], centers, content), landmarks, content)


def agreeing_with_known(
    candidates: list[AffineCandidate],
    landmarks: Landmarks | None,
    segments: Sequence[SegmentPair],
    content: VolumeGrid,
) -> list[AffineCandidate]:
    """Those that neither contradicts; see `landmarks.agreeing`."""
    return agreeing(agreeing(candidates, landmarks, content), centers_of(segments), content)


def kept_by_known(
    refined: AffineCandidate,
    starts: list[AffineCandidate],
    landmarks: Landmarks | None,
    segments: Sequence[SegmentPair],
    content: VolumeGrid,
) -> AffineCandidate:
    """The refined start, or an unrefined one where refining led away from either; see `landmarks.kept_by`."""
    return kept_by(centers_of(segments), kept_by(landmarks, refined, starts, content), starts, content)


def _is_whole(side: Side) -> bool:
    """Whether a segment ends before its volume does."""
    index = side.volume.index(side.grid.points(np.argwhere(side.inside)[:, ::-1]))
    return bool((index > 0.5).all() and (index < np.asarray(side.volume.size_ijk) - 1.5).all())


def _moments(side: Side) -> tuple[float, np.ndarray, np.ndarray]:
    """Volume (mm3), center (LPS mm) and 3 x 3 second moments about it (mm2)."""
    points = side.grid.points(np.argwhere(side.inside)[:, ::-1])
    center = points.mean(0)
    apart = points - center
    return len(points) * float(np.prod(side.grid.spacing)), center, apart.T @ apart / len(points)


def _by_moments(pairs: Sequence[SegmentPair]) -> list[AffineCandidate]:
    """Turns of the principal axes of all segments together onto each other, in every sense that mirrors nothing."""
    axes, centers = [], []
    for sides in ([pair.fixed for pair in pairs], [pair.moving for pair in pairs]):
        each = [_moments(side) for side in sides]
        weight = np.array([volume for volume, *_ in each]) / sum(volume for volume, *_ in each)
        center = sum(w * place for w, (_, place, _) in zip(weight, each, strict=True))
        second = sum(
            w * (spread + np.outer(place - center, place - center))
            for w, (_, place, spread) in zip(weight, each, strict=True)
        )
        lengths, vectors = np.linalg.eigh(second)
        axes.append((np.sqrt(lengths), vectors * np.sign(np.linalg.det(vectors))))
        centers.append(center)
    distinct = np.min([lengths[1:] / np.maximum(lengths[:-1], 1e-9) for lengths, _ in axes], axis=0) > _DISTINCT
    if not distinct.all():
        return []
    found = []
    for signs in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)):
        matrix = np.eye(4)
        matrix[:3, :3] = axes[1][1] @ np.diag(signs) @ axes[0][1].T
        matrix[:3, 3] = centers[1] - matrix[:3, :3] @ centers[0]
        found.append(AffineCandidate(f"{START}, axes", matrix))
    return found
