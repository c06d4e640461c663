"""How segments moved, in numbers: against SciPy's rotations and motions that are known."""

import csv
import io

import numpy as np
import pytest
from carlreg.physical import PhysicalTransform
from carlreg.quality.motions import Moving, motions_of, motions_table
from carlreg.spaces import VolumeGrid, euler_degrees, rotation_vector
from scipy.spatial.transform import Rotation

GRID = VolumeGrid((20, 18, 16), (2.0, 2.0, 3.0), (-20.0, -18.0, -24.0), np.eye(3))


@pytest.mark.parametrize("seed", range(5))
def test_turns_in_numbers_are_scipys(seed):
    turn = Rotation.random(random_state=seed)
    assert np.allclose(euler_degrees(turn.as_matrix()), turn.as_euler("xyz", degrees=True), atol=1e-6)
    assert np.allclose(rotation_vector(turn.as_matrix()), turn.as_rotvec(), atol=1e-6)


def test_a_turn_without_distinct_angles_is_told_as_one_that_gives_it():
    turn = Rotation.from_euler("xyz", [30, 90, 10], degrees=True).as_matrix()
    assert np.allclose(Rotation.from_euler("xyz", euler_degrees(turn), degrees=True).as_matrix(), turn, atol=1e-6)


def test_a_motion_and_one_relative_to_another():
    numbers = np.zeros(GRID.shape_dhw, dtype=np.int32)
    numbers[2:8, 3:9, 3:9], numbers[9:14, 9:15, 9:16] = 1, 2
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.radians(12) * np.array([0.6, 0, 0.8])).as_matrix()
    matrix[:3, 3] = [4, -3, 2]
    transform = PhysicalTransform.from_affine(matrix, "rigid")
    ones = np.ones(GRID.shape_dhw, dtype=np.float32)
    moving = Moving(("C1", "C2"), (5, 9), (True, False), numbers, GRID)
    found = motions_of(transform, moving, ones, GRID)
    assert [one["kind"] for one in found] == ["rigid", "stiff"] and [one["label"] for one in found] == [5, 9]
    for number, one in enumerate(found, 1):
        points = GRID.centers()[numbers == number]
        assert one["rotation_degrees"] == pytest.approx(12) and np.allclose(one["axis_lps"], [0.6, 0, 0.8])
        shift = (points @ matrix[:3, :3].T + matrix[:3, 3] - points).mean(0)
        assert np.allclose(one["translation_lps"], shift) and one["voxels"] == len(points)
        assert one["deviation_max_mm"] < 1e-9 and one["determinant"]["sd"] == 0
    relative = motions_of(transform, Moving(("C1", "C2"), (5, 9), (True, True), numbers, GRID, "C1"), ones, GRID)
    assert all(one["rotation_degrees"] < 1e-6 and one["translation_mm"] < 1e-9 for one in relative)
    rows = list(csv.DictReader(io.StringIO(motions_table(relative))))
    assert [row["segment"] for row in rows] == ["C1", "C2"] and rows[0]["relative_to"] == "C1"
