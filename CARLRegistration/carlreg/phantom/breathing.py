"""A torso that breathes: scans of its chest in phases of one breath, and the true map from the first to each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from .canvas import Canvas, grid_around
from .pair import PosedDeformation, inverse_as_transform, landmarks_in_both
from .scan import scan
from .torso import paint_torso

# Where a breath pushes at its deepest: the domes of the diaphragm, the front wall of the chest, the belly's.
_CENTERS = np.array([[-66.0, -8.0, 10.0], [70.0, -5.0, 5.0], [0.0, -70.0, 90.0], [0.0, -60.0, -70.0]])
_PUSHES = np.array([[0.0, -3.0, -15.0], [0.0, -2.0, -13.0], [0.0, -7.0, 2.0], [0.0, -6.0, -4.0]])
_WIDTHS = np.array([55.0, 55.0, 50.0, 60.0])
# Chest and belly follow the diaphragm by so much of a breath: points run on loops, not on lines.
_LAG = 0.06


@dataclass(frozen=True, eq=False)
class Breathing:
    """Phases of one breath, from the end of breathing out; all on one grid.

    frames: CT-like volumes (int16, HU). labels: of each (uint8, see LABELS). maps: first frame's points to each
    frame's, N x 3 -> N x 3, LPS mm. landmarks: N x 3 points of the first frame that all frames show.
    body: uint8, 1 in the first frame's body.
    """

    frames: list[sitk.Image]
    labels: list[sitk.Image]
    maps: list[PosedDeformation]
    landmarks: np.ndarray
    body: sitk.Image


def make_breathing(seed: int = 0, spacing_mm: float = 4.0, phases: int = 10) -> Breathing:
    """Scans of a breath; the same seed gives the same ones.

    Args:
        seed: details of the anatomy and the noise. spacing_mm: voxel size; about 92 x 65 x 60 voxels at 4.
        phases: how many, equally far apart in time.
    Raises: InputError for fewer than two phases.
    """
    if phases < 2:
        raise InputError(f"phases: expected at least 2, got {phases}.")
    random = np.random.default_rng(seed)
    canvas = Canvas(max(1.2, 0.7093 * spacing_mm), random)
    landmarks = paint_torso(canvas, random)
    grid = grid_around((0.0, 4.0, 42.0), (366.0, 258.0, 240.0), (spacing_mm,) * 3, np.eye(3))
    maps = [_breath(phase / phases) for phase in range(phases)]
    seen = [
        scan(canvas, grid, inverse_as_transform(moved, grid) if n else None, random) for n, moved in enumerate(maps)
    ]
    for moved in maps:
        landmarks, _ = landmarks_in_both(landmarks, moved, grid, grid)
    body = sitk.Resample(canvas.grid.image(canvas.body), seen[0][0], sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    return Breathing([frame for frame, _ in seen], [labels for _, labels in seen], maps, landmarks, body)


def _breath(time: float) -> PosedDeformation:
    """The deformation at a time, in breaths."""

    def depth(at: float) -> float:
        return 0.5 - 0.5 * np.cos(2 * np.pi * at)

    # The lagging part is told from its own first phase, so that the first map is the identity.
    amounts = np.array([depth(time)] * 2 + [depth(time - _LAG) - depth(-_LAG)] * 2)
    return PosedDeformation(np.eye(4), _CENTERS, amounts[:, None] * _PUSHES, _WIDTHS)
