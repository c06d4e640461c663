"""Work in threads: ordered, independent of their number, and PyTorch's thread count comes back."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from carlreg.physical import invert, jacobian_determinant, to_fixed_grid
from carlreg.physical.workers import in_threads
from carlreg.spaces import VolumeGrid


def test_results_come_in_order_from_single_threaded_workers():
    seen = set()

    def work(n: int) -> tuple[int, int]:
        seen.add(threading.get_ident())
        return n, torch.get_num_threads()

    results = list(in_threads(work, ((n,) for n in range(40))))
    assert results == [(n, 1) for n in range(40)]
    assert threading.get_ident() not in seen
    assert torch.get_num_threads() == 2


def test_an_error_reaches_the_caller_and_ends_the_work():
    def work(n: int) -> None:
        if n == 3:
            raise ValueError("three")

    with pytest.raises(ValueError, match="three"):
        list(in_threads(work, ((n,) for n in range(100))))
    assert torch.get_num_threads() == 2


def test_numbers_do_not_depend_on_the_number_of_threads():
    grid = VolumeGrid((50, 44, 56), (1.0, 1.2, 0.9), (0, 0, 0), np.eye(3))
    field = np.zeros((*grid.shape_dhw, 3), np.float32)
    coarse = torch.randn(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, grid.shape_dhw, mode="trilinear", align_corners=True)
    field[:] = smooth[0].permute(1, 2, 3, 0).numpy()
    transform = to_fixed_grid(np.eye(4), field, grid, grid.cropped((5, 5, 5), (45, 39, 51)))
    lattice = VolumeGrid((64, 64, 128), (1.0,) * 3, (3, 3, -6), np.eye(3))
    two = jacobian_determinant(transform, lattice), invert(transform, grid)[0].displacement_lps
    torch.set_num_threads(1)
    one = jacobian_determinant(transform, lattice), invert(transform, grid)[0].displacement_lps
    torch.set_num_threads(2)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
