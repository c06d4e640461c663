"""The helpers that tests get their expectations from are right themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from carlreg.spaces import VolumeGrid
from support import scheduling
from support.geometry import DIRECTIONS, assert_close, index_at, points_at, positions, random_points, rotation, to_image

_RAN = []


@pytest.fixture(autouse=True)
def _remember(request):
    _RAN.append(request.node.name)


def test_a_rotation_turns_counterclockwise():
    np.testing.assert_allclose(rotation((0, 0, 2), 90) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(rotation((0, 1, 0), 90) @ [1, 0, 0], [0, 0, -1], atol=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_points_and_indices_are_those_of_the_image(direction):
    grid = VolumeGrid((5, 4, 3), (1.5, 0.5, 2.0), (10.0, -20.0, 30.0), direction)
    image = to_image(np.zeros(grid.shape_dhw, np.uint8), grid)
    assert image.GetSize() == (5, 4, 3)
    for i, j, k in ((0, 0, 0), (4, 3, 2), (1, 2, 0)):
        expected = image.TransformIndexToPhysicalPoint((i, j, k))
        np.testing.assert_allclose(positions(grid)[k, j, i], expected, atol=1e-12)
        np.testing.assert_allclose(points_at(grid, [i, j, k]), expected, atol=1e-12)
        np.testing.assert_allclose(index_at(grid, expected), [i, j, k], atol=1e-12)
    index = index_at(grid, random_points(grid, 100))
    assert index.min() >= -0.5 and (index <= np.array(grid.size_ijk) - 0.5).all()


def test_closeness_knows_the_type():
    one = torch.ones(3)
    assert_close(one, one + 5e-6)
    assert_close(one, one.double() + 5e-6)  # one side is float32
    with pytest.raises(AssertionError):
        assert_close(one, one + 1e-3)
    with pytest.raises(AssertionError):
        assert_close(one.double(), one.double() + 5e-6)
    with pytest.raises(AssertionError):
        assert_close(np.zeros(2), np.full(2, 1e-8))
    assert_close(np.zeros(2), np.full(2, 1e-8), scale=100)


def test_groups_of_tests():
    assert scheduling.group_of("Testing/slicer/test_panel.py::test_a[b::c]") == "panel"
    assert scheduling.group_of("Testing/engine/cli/test_cancel.py::test_a") == "cancel"
    assert scheduling.group_of("Testing/engine/io/test_guarded.py::test_a") == "engine/io/test_guarded.py"
    testing = Path(scheduling.__file__).parents[1]
    assert all((testing / place).exists() for place in scheduling._TOGETHER)
    assert scheduling.rank("Testing/host_tests/test_a.py::test_a") == 0 < scheduling.rank("Testing/rules/test_a.py::t")


def test_tests_of_a_file_run_in_one_process(request):
    """All before this one have run here, however many processes there are."""
    assert [item.name for item in request.session.items if item.path == request.node.path] == _RAN
