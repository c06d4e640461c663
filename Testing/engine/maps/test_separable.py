"""Operators along each axis, against einsum."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from carlreg.maps.separable import along_axes, gaussian, window_sums
from scipy.ndimage import uniform_filter


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16, torch.bool])
def test_one_matrix_per_axis_is_the_sum_over_all(dtype):
    rng = torch.Generator().manual_seed(0)
    values = (torch.randn(2, 3, 5, 6, 7, generator=rng) * 3).to(dtype)
    d, h, w = (torch.randn(rows, n, generator=rng) for rows, n in ((4, 5), (2, 6), (9, 7)))
    expected = torch.einsum("bcdhw,xd,yh,zw->bcxyz", values.double(), d.double(), h.double(), w.double())
    found = along_axes(values, d, h, w)
    assert found.shape == (2, 3, 4, 2, 9) and found.dtype == torch.float32
    np.testing.assert_allclose(found.tolist(), expected.tolist(), rtol=1e-4, atol=1e-3)


def test_values_of_another_type_are_converted_slab_by_slab(monkeypatch):
    values = (torch.randn(1, 1, 7, 4, 4, generator=torch.Generator().manual_seed(1)) * 100).to(torch.int16)
    matrices = [torch.randn(3, n, generator=torch.Generator().manual_seed(n)) for n in (7, 4, 4)]
    whole = along_axes(values.float(), *matrices)
    monkeypatch.setattr("carlreg.maps.separable._SLAB_VOXELS", 33)  # two planes
    np.testing.assert_allclose(along_axes(values, *matrices).tolist(), whole.tolist(), rtol=1e-5)


def test_gaussian_has_its_standard_deviation():
    at = torch.arange(-400, 401, dtype=torch.float64) / 10
    weights = gaussian(at, 7.0)
    assert float(weights[400]) == 1.0 and float(weights[470]) == pytest.approx(math.exp(-0.5))
    assert float((weights * at**2).sum() / weights.sum()) == pytest.approx(49.0, rel=1e-4)


@pytest.mark.parametrize("shape", [(12, 9, 8), (3, 9, 2), (1, 1, 5)])
@pytest.mark.parametrize("stride", [1, 3])
def test_window_sums_on_lattices_of_any_thickness(shape, stride):
    values = np.random.default_rng(0).random(shape)
    expected = 7**3 * uniform_filter(values, 7, mode="constant")[::stride, ::stride, ::stride]
    found = window_sums(torch.tensor(values.tolist())[None, None], 7, stride)[0, 0]
    np.testing.assert_allclose(found.tolist(), expected, rtol=1e-4, atol=1e-4)
