"""Points that guide a spline: they are reached as exactly as they were placed, and weigh the same at any scale."""

import numpy as np
import torch
from carlreg.optimize.field import FieldResult, LevelLoss, descend, start_coefficients
from carlreg.optimize.guide import PointGuide, spline_at
from carlreg.optimize.levels import FieldLevel, LevelImages
from carlreg.optimize.onward import Known, informed
from carlreg.spaces import VolumeGrid

from .scene import DIRECTION, picture

POINTS = np.array([[5.0, -8.0, 3.0], [-12.0, 4.0, 9.0]])
WANTED = np.array([[3.0, 0.0, -1.0], [0.0, -2.0, 2.0]])


def lattice(scale=1.0):
    n, spacing = 20, 3.0 * scale
    return VolumeGrid((n, n, n), [spacing] * 3, -DIRECTION @ np.full(3, (n - 1) / 2 * spacing), DIRECTION)


def found(scale=1.0, accuracy=0.0, images=None, known=None, steps=60, wanted=WANTED):
    grid = lattice(scale)
    if images is None:  # nothing to see: points and smoothness alone
        blank = torch.zeros(1, 1, *grid.shape_dhw)
        images = LevelImages(blank, grid, blank, grid)
    level = FieldLevel(
        spacing_mm=9.0 * scale,
        steps=steps,
        window_mm=21.0 * scale,
        rate_mm=0.8 * scale,
        bending=0,
        diffusion=0.1,
        fold=100,
    )
    guide = PointGuide(POINTS * scale, wanted * scale, np.eye(3), accuracy * scale)

    def loss_for(images, level):
        return LevelLoss(images, np.eye(4), grid, level, "lncc2")

    how = informed(loss_for, lambda images, _: images.fixed_grid, grid, guide=guide, known=known)
    result = descend([images], [level], grid, how, whole_for=None if known is None else known.whole_for)
    return result, spline_at(guide.points_lps, result.coefficients_13dhw, grid, level.spacing_mm)


def test_a_spline_at_points_is_the_spline_on_a_lattice():
    """Oracle: the dense evaluation that delivers fields."""
    grid, spacing = lattice(), 9.0
    coefficients = torch.from_numpy(
        np.random.default_rng(0).normal(size=start_coefficients(grid, spacing).shape)
    ).float()
    dense = FieldResult(coefficients, grid, spacing, []).displacement_lps(grid)
    at = np.array([[3, 4, 5], [0, 19, 7]])
    sparse = spline_at(grid.points(at), coefficients, grid, spacing)
    np.testing.assert_allclose(sparse, dense[tuple(at[:, ::-1].T)], atol=1e-5)


def test_points_pull_as_far_as_they_are_exact():
    missed = [np.linalg.norm(found(accuracy=accuracy)[1] - WANTED, axis=1).max() for accuracy in (0.0, 30.0, 300.0)]
    assert missed[0] < 0.1 < missed[1] < 1.5 < missed[2]


def test_the_same_at_any_size():
    small, large = found(accuracy=30.0)[1], found(scale=40.0, accuracy=30.0)[1]
    np.testing.assert_allclose(large / 40.0, small, atol=0.02)


def test_one_wrong_point_tears_nothing():
    """A point that is 30 standard deviations off pulls, in the end, no stronger than one that is 3 off."""
    box = lattice()
    level = FieldLevel(spacing_mm=9.0, steps=1, window_mm=21.0, rate_mm=1.0, bending=0, diffusion=0, fold=0)
    pulls = []
    for off in (3.0, 6.0, 30.0):
        term = PointGuide(np.zeros((1, 3)), np.array([[off, 0, 0]]), np.eye(3), 1.0).term(box, level, None)
        coefficients = start_coefficients(box, 9.0).requires_grad_()
        term(coefficients).backward()
        pulls.append(float(coefficients.grad.norm()))
    assert pulls[0] < pulls[1] < pulls[2] < 1.45 * pulls[0]


def test_going_on_without_pull_changes_nothing_and_a_held_change_ends_at_the_faces():
    grid = lattice()
    known = Known(lambda points: 0.05 * points[:, [1, 0, 2]], grid, held=True)
    result, at = found(known=known, accuracy=0.0)
    total = at + known.displacement_lps(POINTS)
    assert np.linalg.norm(total - WANTED, axis=1).max() < 0.2
    edge = result.displacement_lps(grid.resized((40, 40, 40)))[[0, -1]]
    assert np.abs(edge).max() < 1e-3 < np.abs(result.displacement_lps(grid)).max()


def test_images_and_points_together():
    """Points bring a spline that the images leave half a millimeter off to where it belongs."""
    grid = lattice()
    shift = np.eye(4)
    shift[:3, 3] = [-2.0, 1.0, 0.0]
    images = LevelImages(picture(grid, np.eye(4)), grid, picture(grid, shift), grid)
    here = np.tile([2.0, -1.0, 0.0], (2, 1))
    plain = found(images=images, accuracy=1e6)[1]
    assert np.linalg.norm(plain - here, axis=1).max() > 0.5
    guided = found(images=images, accuracy=1.0, wanted=here)[1]
    assert np.linalg.norm(guided - here, axis=1).max() < 0.3
