"""Affine refinement, robust fits and the global search recover known maps."""

import numpy as np
import pytest
import torch
from carlreg.optimize.affine import AffineProblem, refine_affine
from carlreg.optimize.candidates import AffineCandidate, distinct, robust_affine, translation
from carlreg.optimize.field import affine_map
from carlreg.optimize.levels import LevelImages
from carlreg.optimize.search import SearchImage, rotations, search
from carlreg.spaces import VolumeGrid
from scipy.spatial.transform import Rotation
from support.geometry import points_at

DIRECTION = Rotation.from_euler("xyz", [10, -20, 30], degrees=True).as_matrix()


def blobs(points_lps: np.ndarray) -> np.ndarray:
    """An asymmetric scene of soft-edged balls as an analytic function of position (mm)."""
    rng = np.random.default_rng(5)
    value = np.zeros(len(points_lps))
    for _ in range(14):
        center, radius = rng.uniform(-35, 35, 3), rng.uniform(7, 16)
        value += rng.uniform(0.2, 0.6) / (1 + np.exp((np.linalg.norm(points_lps - center, axis=1) - radius) / 1.5))
    return value / 1.5


def picture(grid: VolumeGrid, scene_from_lps: np.ndarray) -> torch.Tensor:
    ijk = np.indices(grid.size_ijk).reshape(3, -1).T
    lps = points_at(grid, ijk)
    values = blobs(lps @ scene_from_lps[:3, :3].T + scene_from_lps[:3, 3])
    return torch.from_numpy(values.reshape(grid.size_ijk).transpose(2, 1, 0).astype(np.float32))[None, None]


def corner_error(found: np.ndarray, truth: np.ndarray, radius: float = 40.0) -> float:
    probes = radius * np.concatenate([np.eye(3), -np.eye(3)])
    return np.abs(probes @ (found - truth)[:3, :3].T + (found - truth)[:3, 3]).max()


def pose(angles_deg, shift) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def grids(spacing: float, moving_center=(0.0, 0.0, 0.0)):
    n = round(110 / spacing)
    fixed = VolumeGrid((n, n, n), [spacing] * 3, -DIRECTION @ np.full(3, (n - 1) / 2 * spacing), DIRECTION)
    flipped = np.diag([-1.0, -1.0, 1.0])
    n = round(130 / spacing)
    origin = np.asarray(moving_center) - flipped @ np.full(3, (n - 1) / 2 * spacing)
    return fixed, VolumeGrid((n, n, n), [spacing] * 3, origin, flipped)


@pytest.mark.parametrize("similarity", ["lncc2", "lncc"])
def test_affine_is_recovered(similarity):
    fixed_grid, moving_grid = grids(4.0)
    truth = pose([6, -4, 8], [5, -6, 4])
    truth[:3, :3] *= 1.04
    images = LevelImages(
        picture(fixed_grid, np.eye(4)), fixed_grid, picture(moving_grid, np.linalg.inv(truth)), moving_grid
    )
    problem = AffineProblem(images, window_mm=25, similarity=similarity)
    found = refine_affine(problem, np.eye(4), steps=60, rate_mm=1.5)
    assert problem.score(found).score > problem.score(np.eye(4)).score
    assert corner_error(np.eye(4), truth) > 8
    assert corner_error(found, truth) < 1.0


def test_affine_is_recovered_across_inverted_contrast():
    fixed_grid, moving_grid = grids(4.0)
    truth = pose([4, -3, 5], [4, -4, 3])
    moving = 0.9 - 0.8 * picture(moving_grid, np.linalg.inv(truth)) ** 0.7
    images = LevelImages(picture(fixed_grid, np.eye(4)), fixed_grid, moving, moving_grid)
    found = refine_affine(AffineProblem(images, window_mm=25, similarity="mind"), np.eye(4), steps=60, rate_mm=1.5)
    assert corner_error(found, truth) < 2.0  # half a voxel


def test_rigid_refinement_stays_rigid():
    fixed_grid, moving_grid = grids(5.0)
    truth = pose([5, 5, -6], [3, 4, -5])
    images = LevelImages(
        picture(fixed_grid, np.eye(4)), fixed_grid, picture(moving_grid, np.linalg.inv(truth)), moving_grid
    )
    found = refine_affine(AffineProblem(images, window_mm=30), np.eye(4), steps=50, rate_mm=2.0, dof="rigid")
    assert np.abs(found[:3, :3] @ found[:3, :3].T - np.eye(3)).max() < 1e-6
    assert corner_error(found, truth) < 1.0


def test_affine_map_equals_the_matrix():
    matrix = pose([30, 10, -20], [0.1, 0.2, 0.3])
    lattice = affine_map(matrix, (3, 4, 5))
    unit = np.array([(2 + 0.5) / 3, (1 + 0.5) / 4, (4 + 0.5) / 5])
    assert np.abs(lattice[0, :, 2, 1, 4].numpy() - (matrix[:3, :3] @ unit + matrix[:3, 3])).max() < 1e-6


def test_search_finds_a_large_shift_between_unrelated_grids():
    offset = np.array([210.0, -340.0, 95.0])
    fixed_grid, moving_grid = grids(5.0, moving_center=offset + np.array([18, -22, 14]))
    truth = translation(offset)
    f, m = picture(fixed_grid, np.eye(4))[0, 0], picture(moving_grid, np.linalg.inv(truth))[0, 0]
    # both on the fixed image's axes up to a flip: the moving image is turned onto them inside
    (found,) = search(
        SearchImage(f, torch.ones_like(f), fixed_grid), SearchImage(m, torch.ones_like(m), moving_grid), rotations(1)
    )
    assert np.abs(found.matrix[:3, 3] - offset).max() <= 5.0
    assert np.array_equal(found.matrix[:3, :3], np.eye(3))


@pytest.mark.parametrize("angle", [90, 180])
def test_search_over_rotations_finds_a_turn(angle):
    fixed_grid, moving_grid = grids(9.0)
    turn = Rotation.from_rotvec(np.radians(angle) * np.array([1, 2, -1]) / np.sqrt(6)).as_matrix()
    truth = np.eye(4)
    truth[:3, :3], truth[:3, 3] = turn, [9, -6, 4]
    f, m = picture(fixed_grid, np.eye(4))[0, 0], picture(moving_grid, np.linalg.inv(truth))[0, 0]
    found = search(
        SearchImage(f, torch.ones_like(f), fixed_grid),
        SearchImage(m, torch.ones_like(m), moving_grid),
        rotations(300),
        keep=3,
    )
    angles = [np.degrees(Rotation.from_matrix(e.matrix[:3, :3] @ turn.T).magnitude()) for e in found]
    assert min(angles) < 30
    assert corner_error(found[int(np.argmin(angles))].matrix, truth, radius=0) < 20


def test_masked_search_ignores_what_the_mask_excludes():
    fixed_grid, moving_grid = grids(5.0)
    f, m = picture(fixed_grid, np.eye(4))[0, 0], picture(moving_grid, np.eye(4))[0, 0]
    spoiled = m.clone()
    spoiled[:8] = 3.0
    weight = torch.ones_like(m)
    weight[:8] = 0
    (found,) = search(
        SearchImage(f, torch.ones_like(f), fixed_grid), SearchImage(spoiled, weight, moving_grid), rotations(1)
    )
    assert np.abs(found.matrix[:3, 3]).max() <= 5.0


def test_rotations_are_rotations_and_cover_all_poses():
    matrices = rotations(800)
    assert np.array_equal(matrices[0], np.eye(3))
    assert np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max() < 1e-12
    assert np.linalg.det(matrices).min() > 0.999
    probes = Rotation.random(200, random_state=0).as_matrix()
    cosines = (np.einsum("nij,mij->nm", probes, matrices) - 1) / 2
    assert np.degrees(np.arccos(np.clip(cosines.max(1), -1, 1))).max() < 27


def test_robust_affine_ignores_a_third_of_outliers():
    rng = np.random.default_rng(0)
    fixed = rng.uniform(-100, 100, (600, 3))
    truth = pose([8, -12, 20], [30, 40, -50])
    truth[:3, :3] *= 1.06
    moving = fixed @ truth[:3, :3].T + truth[:3, 3] + rng.normal(0, 2, fixed.shape)
    moving[:200] = rng.uniform(-150, 150, (200, 3))
    found, agreement = robust_affine(fixed, moving, np.ones(600))
    assert corner_error(found, truth, radius=100) < 2.5
    assert 0.6 < agreement < 0.75


def test_robust_affine_trusts_weights():
    rng = np.random.default_rng(1)
    fixed = rng.uniform(-100, 100, (400, 3))
    moving = fixed + np.array([10, 0, 0])
    moving[:250] = fixed[:250] + np.array([0, 60, 0])
    weights = np.where(np.arange(400) < 250, 0.01, 1.0)
    found, _ = robust_affine(fixed, moving, weights)
    assert np.abs(found[:3, 3] - [10, 0, 0]).max() < 1.0


def test_distinct_drops_near_copies_only():
    starts = [
        AffineCandidate("a", np.eye(4)),
        AffineCandidate("b", translation([0.1, 0, 0])),
        AffineCandidate("c", translation([5, 0, 0])),
    ]
    assert [s.name for s in distinct(starts, np.zeros(3), 50.0, closer_than_mm=0.5)] == ["a", "c"]
