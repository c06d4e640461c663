"""A small pair with a known map, and results to write of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.outputs import write_result
from carlreg.physical import PhysicalTransform, to_fixed_grid
from carlreg.progress import StageTiming
from carlreg.registration import RegistrationResult, finish
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid
from carlreg.volumes import Volume, volume_from_image
from support.geometry import lumpy_ball, positions, rotation, to_image

FIXED = VolumeGrid((31, 36, 25), (1.5, 1.25, 2.0), (-30.0, 12.0, 100.0), np.diag([-1.0, -1.0, 1.0]))
OBLIQUE = rotation((0, 0, 1), 20)


def anatomy(points: np.ndarray) -> np.ndarray:
    """CT-like values of a lumpy ball at LPS points around the fixed volume's center."""
    share, texture = lumpy_ball(points, FIXED.center_lps, (18, 17, 19), (3, 4, 3.5), 0.12)
    return share * (40 + texture) - (1 - share) * 1000.0


def tissue(points: np.ndarray) -> np.ndarray:
    x = points - FIXED.center_lps
    radius = np.linalg.norm(x / [18.0, 17.0, 19.0], axis=-1)
    return np.select([radius < 0.4, (radius < 1) & (x[..., 2] > 3), radius < 1], [7, 300, 2], 0)


def result_of(transform: PhysicalTransform, fixed: Volume, moving: Volume) -> RegistrationResult:
    """As if a registration had found this transform."""
    return RegistrationResult(
        transform=transform,
        fixed=fixed,
        moving=moving,
        settings=RegistrationSettings(seed=5, io_steps=20),
        start="attention",
        warnings=["from the registration"],
        info={"model": "carl-compact", "weights_sha256": "ab" * 32, "device": "cpu"},
        timings=[StageTiming("predict", 1.25, 321.0)],
    )


def write(result: RegistrationResult, out, *, labels=None, label_names=None, landmarks=None, **options) -> dict:
    """The folder of a result, finished first."""
    finished = finish(result, labels=labels, label_names=label_names, landmarks=landmarks)
    return write_result(finished, out, **options)


@dataclass
class Case:
    result: RegistrationResult
    labels: tuple[sitk.Image, sitk.Image]
    landmarks: tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="session")
def known_pair() -> tuple:
    """(transform, fixed, moving, fixed labels, moving labels): moving = anatomy seen through the map's inverse."""
    affine = np.eye(4)
    affine[:3, :3] = OBLIQUE
    affine[:3, 3] = FIXED.center_lps + np.array([8.0, -5.0, 3.0]) - OBLIQUE @ FIXED.center_lps
    working = FIXED.with_spacing(2.0).padded(4.0)
    x = (positions(working) - FIXED.center_lps) / 9.0
    residual = 1.2 * np.stack([np.sin(x[..., 1]), np.cos(x[..., 2]), np.sin(x[..., 0])], axis=-1)
    transform = to_fixed_grid(affine, residual.astype(np.float32), working, FIXED)

    origin = transform.apply(FIXED.center_lps[None])[0] - 26.0
    moving_grid = VolumeGrid((40, 38, 30), (1.4, 1.4, 1.8), origin, np.eye(3))
    # The map inverted by plain iteration, independent of the engine's inverse.
    z = (positions(moving_grid) - affine[:3, 3]) @ np.linalg.inv(OBLIQUE).T
    backward = z.copy()
    for _ in range(15):
        mapped = transform.apply(backward).reshape(backward.shape)
        backward = backward + z - (mapped - affine[:3, 3]) @ np.linalg.inv(OBLIQUE).T
    return (
        transform,
        to_image(np.rint(anatomy(positions(FIXED))).astype(np.int16), FIXED),
        to_image(np.rint(anatomy(backward)).astype(np.int16), moving_grid),
        to_image(tissue(positions(FIXED)).astype(np.uint16), FIXED),
        to_image(tissue(backward).astype(np.uint16), moving_grid),
    )


@pytest.fixture
def case(known_pair) -> Case:
    """A pair that its transform aligns, with labels and landmarks (0.5 mm off)."""
    transform, fixed, moving, *labels = known_pair
    fixed_points = FIXED.center_lps + np.random.default_rng(0).uniform(-10, 10, (12, 3))
    moving_points = transform.apply(fixed_points) + np.array([0.3, 0.0, -0.4])
    result = result_of(transform, volume_from_image(fixed, "fixed image"), volume_from_image(moving, "moving image"))
    return Case(result, tuple(labels), (fixed_points, moving_points))
