"""Is the pose that was found the only one? Another that aligns the volumes nearly as well leaves it in doubt.

Nearly round bodies fit in several poses, and of a pair that was not found at all many poses are about as alike.
"""

from __future__ import annotations

import logging

import numpy as np

from ..optimize.candidates import AffineCandidate
from ..spaces import VolumeGrid, apply_affine

log = logging.getLogger(__name__)

# Poses that lead the content's corners so far apart on average, as a share of its diagonal, are different ones.
_APART = 0.15


def rival_of(start: AffineCandidate, starts: list[AffineCandidate], content: VolumeGrid) -> dict:
    """The best of the other poses beside the one that was taken.

    start: the winner, refined. starts: those refined on coarse images, of which it is one. content: the fixed one's.
    Returns likeness (the other's score as a share of the taken one's; None where all starts led to one pose) and
    turned_degrees (by how much the other is turned against it).
    """
    best, others = None, []
    for one in starts:
        if _distance(start.matrix, one.matrix, content) > _APART:
            others.append(one)
        elif best is None or one.score > best:
            best = one.score
    if not others or not best:
        return {"likeness": None, "turned_degrees": None}
    rival = max(others, key=lambda one: one.score)
    found = {"likeness": rival.score / best, "turned_degrees": _turn_degrees(start.matrix, rival.matrix)}
    log.info("another pose, turned by %.0f degrees, is %.2f times as alike", found["turned_degrees"], found["likeness"])
    return found


def _distance(one: np.ndarray, other: np.ndarray, content: VolumeGrid) -> float:
    """How far apart two maps, 4x4, lead the content's corners on average, as a share of what its diagonal becomes."""
    corners = content.corners_lps()
    places, others = apply_affine(one, corners), apply_affine(other, corners)
    diagonal = float(np.linalg.norm(content.extent_mm)) * abs(float(np.linalg.det(one[:3, :3]))) ** (1 / 3)
    return float(np.linalg.norm(places - others, axis=1).mean()) / diagonal


def _turn_degrees(one: np.ndarray, other: np.ndarray) -> float:
    """The angle between the rotations of two maps, 4x4."""
    turns = [u @ vt for u, _, vt in (np.linalg.svd(matrix[:3, :3]) for matrix in (one, other))]
    cosine = (np.trace(turns[0].T @ turns[1]) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
