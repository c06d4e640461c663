"""Affine refinement recovers known maps."""

import numpy as np
import pytest
import torch
from carlreg.optimize.affine import AffineProblem, _with_gradient, refine_affine
from carlreg.optimize.field import affine_map
from carlreg.optimize.increments import increment
from carlreg.optimize.levels import LevelImages
from carlreg.spaces import Stretches

from .scene import corner_error, grids, picture, pose


@pytest.mark.parametrize("similarity", ["lncc2", "lncc"])
def test_affine_is_recovered(similarity):
    fixed_grid, moving_grid = grids(4.0)
    truth = pose([6, -4, 8], [5, -6, 4])
    truth[:3, :3] *= 1.04
    images = LevelImages(
        picture(fixed_grid, np.eye(4)), fixed_grid, picture(moving_grid, np.linalg.inv(truth)), moving_grid
    )
    problem = AffineProblem(images, window_mm=25, similarity=similarity)
    found = refine_affine(problem, np.eye(4), steps=20)
    assert problem.score(found).score > problem.score(np.eye(4)).score
    assert corner_error(np.eye(4), truth) > 8
    assert corner_error(found, truth) < 1.0


def test_affine_is_recovered_across_inverted_contrast():
    fixed_grid, moving_grid = grids(4.0)
    truth = pose([4, -3, 5], [4, -4, 3])
    moving = 0.9 - 0.8 * picture(moving_grid, np.linalg.inv(truth)) ** 0.7
    images = LevelImages(picture(fixed_grid, np.eye(4)), fixed_grid, moving, moving_grid)
    found = refine_affine(AffineProblem(images, window_mm=25, similarity="mind"), np.eye(4), steps=20)
    assert corner_error(found, truth) < 2.0  # half a voxel


@pytest.mark.parametrize(("dof", "stride"), [("similarity", 1), ("affine", 1), ("affine", 2)])
def test_slopes_and_curvature_are_those_of_the_loss(dof, stride):
    """By differences, about a point of the moving image."""
    fixed_grid, moving_grid = grids(6.0)
    truth = pose([3, -2, 4], [3, -3, 2])
    images = LevelImages(
        picture(fixed_grid, np.eye(4)), fixed_grid, picture(moving_grid, np.linalg.inv(truth)), moving_grid
    )
    problem, about, radius = AffineProblem(images, window_mm=30, stride=stride), np.array([4.0, -3.0, 2.0]), 40.0
    to, back = np.eye(4), np.eye(4)
    to[:3, 3], back[:3, 3] = about, -about
    _, _, gradient = _with_gradient(problem, truth, about, radius, dof)
    curvature, size = problem.curvature(truth, about, radius, dof), 0.01
    curved = []
    for n in range(len(gradient)):
        step = np.zeros(len(gradient))
        step[n] = size
        beside = [to @ increment(sign * step, dof, radius) @ back @ truth for sign in (1, -1)]
        (more, _, at_more), (less, _, at_less) = (_with_gradient(problem, one, about, radius, dof) for one in beside)
        assert (more - less) / (2 * size) == pytest.approx(gradient[n], abs=0.02)
        curved.append((at_more - at_less) / (2 * size))
    # Where the images agree, Gauss-Newton is near to the second derivatives: of each window it sees the middle alone.
    ratio = np.diag(curvature) / np.diag(np.array(curved))
    assert ratio.min() > 0.4 and ratio.max() < 1.5


class _TowardCollapse:
    """Stands for a pair whose likeness is best under a map that mirrors and flattens."""

    def __init__(self, best: np.ndarray) -> None:
        self.bounds = Stretches()
        self.center_lps, self.best = np.array([3.0, -4.0, 5.0]), torch.tensor(best.tolist(), dtype=torch.float64)
        self.images = LevelImages(*(2 * (torch.zeros(1, 1, 4, 4, 4), grids(20.0)[0])))
        self.seen: list[np.ndarray] = []

    def loss(self, matrix):
        self.seen.append(np.array(matrix[:3, :3].tolist()))
        return (matrix[:3, :3] - self.best).square().sum(), 1.0

    def curvature(self, *_):
        return np.eye(12)


@pytest.mark.parametrize("along", [(0.05, -0.6, 0.7), (0.01, 0.01, 0.01), (5.0, 6.0, 7.0), (0.2, 1.9, 1.0)])
@pytest.mark.parametrize("start", [np.eye(4), np.diag([-1.0, 1.0, 1.0, 1.0]), np.diag([1.0, 1.0, 0.0, 1.0])])
def test_refinement_never_mirrors_or_collapses(along, start):
    problem = _TowardCollapse(pose([20, 10, -30], [0, 0, 0])[:3, :3] @ np.diag(along))
    found = start
    for _ in range(3):  # as in a registration, where one refinement follows another
        found = refine_affine(problem, found, steps=20)
    for linear in (*problem.seen, found[:3, :3]):
        stretch = np.sqrt(np.linalg.eigvalsh(linear.T @ linear))
        assert np.linalg.det(linear) > 0
        assert stretch[0] > 0.399 and stretch[2] < 2.501 and stretch[2] < 1.601 * stretch[0]


def test_rigid_refinement_stays_rigid():
    fixed_grid, moving_grid = grids(5.0)
    truth = pose([5, 5, -6], [3, 4, -5])
    images = LevelImages(
        picture(fixed_grid, np.eye(4)), fixed_grid, picture(moving_grid, np.linalg.inv(truth)), moving_grid
    )
    found = refine_affine(AffineProblem(images, window_mm=30), np.eye(4), steps=20, dof="rigid")
    assert np.abs(found[:3, :3] @ found[:3, :3].T - np.eye(3)).max() < 1e-6
    assert corner_error(found, truth) < 1.0


def test_affine_map_equals_the_matrix():
    matrix = pose([30, 10, -20], [0.1, 0.2, 0.3])
    lattice = affine_map(matrix, (3, 4, 5))
    unit = np.array([(2 + 0.5) / 3, (1 + 0.5) / 4, (4 + 0.5) / 5])
    assert np.abs(lattice[0, :, 2, 1, 4].numpy() - (matrix[:3, :3] @ unit + matrix[:3, 3])).max() < 1e-6
