"""A brain without its skull and the whole head, generated, whose true map is known; and filling around a CT scan."""

from __future__ import annotations

import dataclasses

import carlreg
import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.registration.cutouts import suspected
from carlreg.registration.pair import prepare_pair
from carlreg.spaces import VolumeGrid
from carlreg.volumes import volume_from_image
from scipy.spatial.transform import Rotation

from .conftest import QUICK, body_points, error_mm
from .test_rotation import fewer_rotations

SETTINGS = dataclasses.replace(QUICK, io_steps=0, grid=32)
SPACING_MM = 4.0
TURN = 1.04 * Rotation.from_euler("xyz", [7, -5, 9], degrees=True).as_matrix()
SHIFT_MM = np.array([14.0, -9.0, 18.0])


def ball(points, center, radii) -> np.ndarray:
    """n: 1 inside an ellipsoid, 0 outside, half on its face."""
    distance = (1 - np.linalg.norm((points - center) / radii, axis=-1)) * np.min(radii)
    return np.clip(distance / 4 + 0.5, 0, 1)


BRAIN = (0, 0, 0), (60, 72, 52)


def head(points: np.ndarray, stripped: bool) -> np.ndarray:
    """MR intensities at points (mm): scalp, skull, face, neck and a folded brain, or the brain alone."""
    x, y, z = np.moveaxis(points, -1, 0)
    brain = ball(points, *BRAIN)
    waves = sum(
        np.sin(points @ wave + phase)
        for wave, phase in zip(np.random.default_rng(3).normal(0, 0.13, (14, 3)), range(14), strict=True)
    )
    tissue = 95 + 25 * np.tanh(waves)
    for side in (-1, 1):
        ventricle = ball(points, (side * 12, 2, 8), (7, 28, 9))
        tissue = tissue * (1 - ventricle) + 25 * ventricle
    if stripped:
        return tissue * (brain > 0.5)
    skin = np.maximum(ball(points, (0, 0, 0), (78, 92, 70)), ball(points, (0, -55, -50), (52, 50, 70)))
    skin = np.maximum(skin, ball(points, (0, 25, -90), (48, 52, 80)))
    values = 150 * skin
    values = np.where(z < -45, np.minimum(values, 90 + 30 * np.sin(x / 9) * np.sin(y / 11)), values)
    skull = ball(points, (0, 0, 0), (68, 82, 60))
    values = values * (1 - skull) + 110 * skull
    return values * (1 - brain) + tissue * brain


def image(low, high, to_head, stripped: bool, seed: int, spacing_mm: float = SPACING_MM) -> sitk.Image:
    """The head on a grid of its own, after `to_head` (n x 3 points of the image to points of the head)."""
    size = np.ceil((np.asarray(high) - low) / spacing_mm).astype(int)
    grid = VolumeGrid(tuple(int(n) for n in size), np.full(3, spacing_mm), np.asarray(low, float), np.eye(3))
    points = grid.points(np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1).reshape(-1, 3))
    values = head(to_head(points), stripped).reshape(size).T
    noise = np.random.default_rng(seed).normal(0, 3, values.shape)
    values = values + noise * ((values > 0) if stripped else 1)
    return grid.image(np.rint(np.abs(values)).astype(np.int16))


def pair_of(fixed_stripped: bool, moving_stripped: bool) -> tuple[sitk.Image, sitk.Image]:
    boxes = {True: ((-66, -78, -58), (66, 78, 58)), False: ((-88, -112, -150), (88, 100, 84))}
    low, high = boxes[moving_stripped]
    low, high = np.add(low, SHIFT_MM) - 6, np.add(high, SHIFT_MM) + 6
    fixed = image(*boxes[fixed_stripped], lambda points: points, fixed_stripped, 0)
    return fixed, image(low, high, lambda points: (points - SHIFT_MM) @ np.linalg.inv(TURN).T, moving_stripped, 1)


def true_map(points: np.ndarray) -> np.ndarray:
    return points @ TURN.T + SHIFT_MM


def brain_points() -> np.ndarray:
    points = np.random.default_rng(4).uniform(-70, 70, (4000, 3))
    return points[ball(points, *BRAIN) > 0.9]


@pytest.mark.whole
@pytest.mark.parametrize("fixed_stripped", [True, False], ids=["brain to head", "head to brain"])
def test_a_brain_and_a_whole_head_are_aligned(fixed_stripped):
    fixed, moving = pair_of(fixed_stripped, not fixed_stripped)
    found = carlreg.register(fixed, moving, SETTINGS)
    points = brain_points()
    error = np.linalg.norm(found.transform.apply(points) - true_map(points), axis=1)
    assert np.linalg.norm(points - true_map(points), axis=1).mean() > 20
    assert error.mean() < 1.5
    assert np.percentile(error, 95) < 3.0


@pytest.mark.whole
@pytest.mark.parametrize(
    "fixed_stripped",
    [pytest.param(True, marks=pytest.mark.slow), False],  # both ways without the rotation: the test before
    ids=["brain to head", "head to brain"],
)
def test_a_brain_and_a_turned_head_are_aligned_in_rotation_mode(fixed_stripped, monkeypatch):
    fewer_rotations(monkeypatch, 200)
    turn = Rotation.from_rotvec(np.radians(95) * np.array([2.0, 3.0, 6.0]) / 7).as_matrix()
    low, high = ((-84,) * 3, (84,) * 3) if not fixed_stripped else ((-150,) * 3, (150,) * 3)
    fixed = image((-88, -112, -130), (88, 100, 84), lambda points: points, fixed_stripped, 0, 6.0)
    moving = image(low, high, lambda points: points @ turn, not fixed_stripped, 1, 6.0)
    found = carlreg.register(fixed, moving, dataclasses.replace(SETTINGS, robustness="rotation"))
    points = brain_points()
    error = np.linalg.norm(found.transform.apply(points) - points @ turn.T, axis=1)
    assert found.start == "rotation search"
    assert error.mean() < 3.0  # half a voxel
    assert (found.info["pose"]["likeness"] or 0.0) < 0.85  # no other pose comes near


@pytest.mark.parametrize(
    ("fixed_stripped", "moving_stripped", "part"),
    [(True, False, "fixed"), (False, True, "moving"), (True, True, None), (False, False, None)],
)
def test_parts_are_suspected_by_their_size(fixed_stripped, moving_stripped, part):
    volumes = [volume_from_image(one) for one in pair_of(fixed_stripped, moving_stripped)]
    prepared = prepare_pair(*volumes, None, None, SETTINGS)
    found = suspected(prepared)
    if part is None:
        assert found is None
        return
    assert found is not None and found.part_is_fixed == (part == "fixed")
    assert found.part_first.fixed.padding_is_missing and not found.part_first.moving.padding_is_missing
    inside = brain_points() if found.part_is_fixed else true_map(brain_points())
    assert found.part_first.fixed.is_valid(inside).mean() > 0.85
    corner = found.part_first.fixed.grid.corners_lps()
    assert not found.part_first.fixed.is_valid(corner + 0.02 * (corner.mean(0) - corner)).any()


def test_ripples_around_a_part_are_background():
    """As splines leave them, which do not keep zeros."""
    brain, whole = pair_of(fixed_stripped=True, moving_stripped=False)
    array = sitk.GetArrayFromImage(brain).astype(np.float32)
    array += np.random.default_rng(5).uniform(-1, 1, array.shape).astype(np.float32)
    rippled = sitk.GetImageFromArray(array)
    rippled.CopyInformation(brain)
    prepared = prepare_pair(volume_from_image(rippled), volume_from_image(whole), None, None, SETTINGS)
    found = suspected(prepared)
    assert found is not None and found.part_is_fixed
    assert found.pair.fixed.is_valid(brain_points()).mean() > 0.85


def bright_around_a_circle(scan: sitk.Image) -> sitk.Image:
    array = sitk.GetArrayFromImage(scan)
    _, j, i = np.meshgrid(*[np.linspace(-1, 1, n) for n in array.shape], indexing="ij")
    array[j**2 + i**2 > 0.95] = 3071
    bright = sitk.GetImageFromArray(array)
    bright.CopyInformation(scan)
    return bright


@pytest.mark.whole
def test_bright_filling_around_a_scan_does_not_matter(pair):
    found = carlreg.register(pair.fixed, bright_around_a_circle(pair.moving), SETTINGS)
    points = body_points(pair)
    assert np.linalg.norm(points - pair.moving_from_fixed(points), axis=1).mean() > 60
    assert error_mm(found.transform, pair, points).mean() < 4.0  # over 100 where it counts as a body
