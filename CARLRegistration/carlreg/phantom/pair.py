"""Two scans of one torso, and the pose and deformation between them; all points are LPS mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..spaces import VolumeGrid, apply_affine
from .canvas import Canvas, grid_around, rotation
from .scan import scan
from .torso import paint_torso


@dataclass(frozen=True, eq=False)
class PosedDeformation:
    """A pose after a smooth deformation: y = pose(x + u(x)), u a sum of Gaussian pushes.

    pose: 4x4, LPS mm. centers_lps: M x 3. pushes_mm: M x 3. widths_mm: M standard deviations. Invertible as long as
    the pushes change by less than 1 mm per mm, which `make_pair` sees to.
    """

    pose: np.ndarray
    centers_lps: np.ndarray
    pushes_mm: np.ndarray
    widths_mm: np.ndarray

    def __call__(self, points_lps: np.ndarray) -> np.ndarray:
        """N x 3 points to N x 3 points."""
        return apply_affine(self.pose, points_lps + self.displacement(points_lps))

    def displacement(self, points_lps: np.ndarray) -> np.ndarray:
        """u at N x 3 points, mm."""
        points = np.asarray(points_lps, dtype=np.float64)
        total = np.zeros_like(points)
        for center, push, width in zip(self.centers_lps, self.pushes_mm, self.widths_mm, strict=True):
            squared = ((points - center) ** 2).sum(axis=1)
            total += np.exp(-0.5 * squared / width**2)[:, None] * push
        return total

    def inverse(self, points_lps: np.ndarray, tolerance_mm: float = 1e-3) -> np.ndarray:
        """The N x 3 points that map to the given ones, by fixed-point iteration."""
        unposed = apply_affine(np.linalg.inv(self.pose), np.asarray(points_lps, dtype=np.float64))
        points = unposed
        for _ in range(50):
            last, points = points, unposed - self.displacement(points)
            if np.abs(points - last).max() < tolerance_mm:
                break
        return points


@dataclass(frozen=True, eq=False)
class PhantomPair:
    """Two CT-like volumes (int16, HU), their label maps (uint8, see LABELS) and the truth between them.

    landmarks: (fixed, moving), N x 3 each, LPS mm, inside both fields of view.
    moving_from_fixed: the exact map, N x 3 -> N x 3, LPS mm; it holds for the body, not for the table under it.
    fixed_body: uint8, 1 in the fixed volume's body.
    """

    fixed: sitk.Image
    moving: sitk.Image
    fixed_labels: sitk.Image
    moving_labels: sitk.Image
    landmarks: tuple[np.ndarray, np.ndarray]
    moving_from_fixed: PosedDeformation
    fixed_body: sitk.Image


def make_pair(seed: int = 0, spacing_mm: float = 3.0) -> PhantomPair:
    """The demo's pair: two fields of view with about 60 % of their length in common, posed and deformed.

    Args:
        seed: details of the anatomy, the deformation and the noise; the same seed gives the same pair.
        spacing_mm: voxel size of the fixed volume, roughly that of the moving one; about 120 x 90 x 107 voxels at 3.
    """
    random = np.random.default_rng(seed)
    # No simple ratio to the scans' voxels: nearest-voxel labels would be off by a fraction of a voxel, always one way.
    canvas = Canvas(max(1.2, 0.7093 * spacing_mm), random)
    landmarks = paint_torso(canvas, random)
    truth = _pose_and_deformation(random)

    fixed_grid = grid_around((0.0, 4.0, 62.0), (366.0, 258.0, 318.0), (spacing_mm,) * 3, np.eye(3))
    # The moving field of view lies lower; its grid runs to the right and to the front, with thicker slices.
    center = apply_affine(truth.pose, np.array([[0.0, 4.0, -66.0]]))[0]
    spacing = spacing_mm * np.array([0.95, 0.95, 1.1])
    moving_grid = grid_around(center, (378.0, 282.0, 318.0), spacing, np.diag([-1.0, -1.0, 1.0]))

    to_anatomy = inverse_as_transform(truth, moving_grid)
    fixed, fixed_labels = scan(canvas, fixed_grid, None, random)
    moving, moving_labels = scan(canvas, moving_grid, to_anatomy, random)
    body = sitk.Resample(canvas.grid.image(canvas.body), fixed, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    common = landmarks_in_both(landmarks, truth, fixed_grid, moving_grid)
    return PhantomPair(fixed, moving, fixed_labels, moving_labels, common, truth, body)


def _pose_and_deformation(random: np.random.Generator) -> PosedDeformation:
    """A turn of 12 degrees, another place in space, a deeper breath and pushes of some 5 to 9 mm."""
    pose = np.eye(4)
    pose[:3, :3] = rotation((2.0, 3.0, 6.0), 12.0)
    pose[:3, 3] = (-135.0, 210.0, -760.0)
    breath_centers = np.array([[-70.0, -5.0, 20.0], [70.0, 0.0, 10.0]])
    breath = np.array([[0.0, -3.0, -11.0], [0.0, -2.0, -9.0]])
    count = 8
    centers = random.uniform((-110, -70, -190), (110, 70, 190), size=(count, 3))
    pushes = random.normal(size=(count, 3))
    pushes *= random.uniform(5.0, 9.0, size=(count, 1)) / np.linalg.norm(pushes, axis=1, keepdims=True)
    return PosedDeformation(
        pose,
        np.concatenate([breath_centers, centers]),
        np.concatenate([breath, pushes]),
        np.concatenate([[55.0, 55.0], random.uniform(40.0, 60.0, size=count)]),
    )


def inverse_as_transform(truth: PosedDeformation, grid: VolumeGrid) -> sitk.DisplacementFieldTransform:
    """The inverse map over a grid: exact every 8 mm and linear between, which stays within some 0.05 mm."""
    coarse = grid.padded(16.0).with_spacing(8.0)
    points = coarse.centers().reshape(-1, 3)
    field = (truth.inverse(points) - points).reshape((*coarse.shape_dhw, 3))
    return sitk.DisplacementFieldTransform(coarse.image(field))


def landmarks_in_both(landmarks: np.ndarray, truth: PosedDeformation, fixed_grid: VolumeGrid, moving_grid: VolumeGrid):
    """The landmarks that both fields of view hold, as (fixed, moving)."""
    moving = truth(landmarks)
    keep = np.ones(len(landmarks), dtype=bool)
    for grid, points in ((fixed_grid, landmarks), (moving_grid, moving)):
        ijk = grid.index(points)
        keep &= np.all((ijk > 2) & (ijk < np.asarray(grid.size_ijk) - 3), axis=1)
    return landmarks[keep], moving[keep]
