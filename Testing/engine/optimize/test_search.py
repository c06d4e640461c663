"""The global search finds shifts and turns, and its rotations cover all poses."""

import numpy as np
import pytest
import torch
from carlreg.optimize.candidates import translation
from carlreg.optimize.search import SearchImage, rotations, search
from scipy.spatial.transform import Rotation

from .scene import corner_error, grids, picture


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
