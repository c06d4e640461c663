"""Boundaries of segments beside the similarity: they come together where the images alone tell nothing."""

import numpy as np
import pytest
import torch
from carlreg.optimize.field import LevelLoss, descend
from carlreg.optimize.halfway import HalfwayLoss, HalfwaySpace
from carlreg.optimize.levels import FieldLevel, LevelImages
from carlreg.optimize.onward import informed
from carlreg.optimize.segments import SegmentPair, Side
from carlreg.spaces import VolumeGrid

GRID = VolumeGrid((24, 24, 24), [2.0] * 3, [-23.0] * 3, np.eye(3))
LEVELS = [
    FieldLevel(spacing_mm=s, steps=40, window_mm=14.0 * s / 6, rate_mm=0.09 * s, bending=0, diffusion=0.02, fold=100)
    for s in (12.0, 6.0)
]
SHIFT = np.array([3.0, -4.0, 2.0])


def ball(center, radius=10.0):
    return np.linalg.norm(GRID.centers() - center, axis=-1) < radius


def side(center):
    return Side.of(ball(center), GRID, 28.0)


def found(loss_of, weight=1.0):
    blank = torch.zeros(1, 1, *GRID.shape_dhw)
    images = LevelImages(blank, GRID, blank, GRID)
    pair = SegmentPair("ball", weight, side(np.zeros(3)), side(SHIFT))
    how = informed(loss_of, lambda *_: GRID, GRID, segments=[pair])
    return descend([images] * 2, LEVELS, GRID, how).displacement_lps(GRID)


def test_distances_are_those_of_the_ball():
    """Oracle: the analytic distance."""
    one = side(np.zeros(3))
    exact = 10.0 - np.linalg.norm(one.grid.centers(), axis=-1)
    measured = one.distance_11dhw[0, 0].numpy()
    off = (measured - exact)[np.abs(exact) < 4]
    assert np.abs(measured - exact).max() < 2.0 and abs(off.mean()) < 0.3  # mm; voxels are 2


def test_a_segment_at_the_border_is_cut_off_by_nothing():
    one = Side.of(ball([-23.0, 0, 0]), GRID, 10.0)
    assert one.grid.origin_lps[0] < -33 and float(one.distance_11dhw[0, 0, :, :, 0].max()) < 0


@pytest.mark.parametrize("halfway", [False, True])
def test_boundaries_come_together(halfway):
    if halfway:
        space = HalfwaySpace.between(np.eye(4), np.zeros(3))
        displacement = found(lambda images, level: HalfwayLoss(images, [GRID], space, GRID, level, "lncc2"))
    else:
        displacement = found(lambda images, level: LevelLoss(images, np.eye(4), GRID, level, "lncc2"))
    inside = ball(SHIFT / 2 if halfway else np.zeros(3))
    assert np.abs(displacement[inside].mean(0) - SHIFT).max() < 1.0
    edge = inside & ~ball(SHIFT / 2 if halfway else np.zeros(3), 8.0)
    assert np.linalg.norm(displacement[edge] - SHIFT, axis=-1).mean() < 1.5


def test_the_weight_weighs():
    def loss_of(images, level):
        return LevelLoss(images, np.eye(4), GRID, level, "lncc2")

    light, heavy = (np.linalg.norm(found(loss_of, weight)[ball(np.zeros(3))].mean(0) - SHIFT) for weight in (1e-3, 1.0))
    assert heavy < 0.8 < light
