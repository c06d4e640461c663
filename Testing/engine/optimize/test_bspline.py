"""The spline against SciPy's B-splines, and its derivatives against finite differences of the evaluated field."""

import numpy as np
import pytest
import torch
from carlreg.maps.separable import along_axes
from carlreg.optimize import bspline
from scipy.interpolate import BSpline


def test_evaluation_equals_scipy():
    extent, spacing = 37.0, 5.0
    count = bspline.control_count(extent, spacing)
    coefficients = np.random.default_rng(0).normal(size=count)
    positions = np.linspace(0, extent, 50)
    ours = bspline.evaluation_matrix(torch.from_numpy(positions), extent, spacing).double().numpy() @ coefficients
    # control j is centered at (j - 1) * spacing, so its support begins two spacings before
    knots = spacing * (np.arange(count + 4) - 3.0)
    assert np.abs(ours - BSpline(knots, coefficients, 3)(positions)).max() < 1e-5


def test_positions_outside_take_the_value_at_the_face():
    matrix = bspline.evaluation_matrix(torch.tensor([-7.0, 0.0, 20.0, 31.0]), 20.0, 4.0)
    assert torch.equal(matrix[0], matrix[1])
    assert torch.equal(matrix[2], matrix[3])


@pytest.mark.parametrize("extent", [40.0, 37.3, 12.0])
def test_subdivision_changes_nothing(extent):
    spacing = 8.0
    coefficients = torch.rand(1, 3, *(bspline.control_count(extent, spacing),) * 3)
    finer = along_axes(coefficients, *[bspline.subdivision_matrix(extent, spacing)] * 3)
    positions = torch.linspace(0, extent, 23, dtype=torch.float64)
    before = along_axes(coefficients, *[bspline.evaluation_matrix(positions, extent, spacing)] * 3)
    after = along_axes(finer, *[bspline.evaluation_matrix(positions, extent, spacing / 2)] * 3)
    assert (before - after).abs().max() < 1e-6


def test_energies_of_known_fields():
    spacing = [2.0, 3.0, 4.0]
    axes = [s * torch.arange(n, dtype=torch.float64) for s, n in zip(spacing, (6, 7, 8), strict=True)]
    d, h, w = torch.meshgrid(*axes, indexing="ij")
    linear = torch.stack([0.3 * d - 0.1 * h, 0.2 * w, 0 * d])[None]
    assert float(bspline.diffusion_energy(linear, spacing)) == pytest.approx(0.3**2 + 0.1**2 + 0.2**2)
    assert float(bspline.bending_energy(linear, spacing)) == pytest.approx(0, abs=1e-12)
    bent = torch.stack([0.05 * d**2, 0.02 * d * h, 0 * d])[None]
    assert float(bspline.bending_energy(bent, spacing)) == pytest.approx(0.1**2 + 2 * 0.02**2)


def test_fold_penalty_counts_only_determinants_below_the_bound():
    x = torch.arange(5, dtype=torch.float64)
    d, h, _w = torch.meshgrid(x, x, x, indexing="ij")
    zero = torch.zeros_like(d)
    assert float(bspline.fold_penalty(torch.stack([0.5 * d, zero, zero])[None], [1.0] * 3)) == 0
    # determinant 1 - 1.5 = -0.5 everywhere, 0.7 below the bound
    folded = torch.stack([-1.5 * d, zero, zero])[None]
    assert float(bspline.fold_penalty(folded, [1.0] * 3, least=0.2)) == pytest.approx(0.7**2)
    # a rotation has determinant 1, however large
    angle = 1.2
    turn = torch.stack([(np.cos(angle) - 1) * d - np.sin(angle) * h, np.sin(angle) * d + (np.cos(angle) - 1) * h, zero])
    assert float(bspline.fold_penalty(turn[None], [1.0] * 3, least=0.999)) == 0


def test_stiffness_weighs_each_difference():
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.rand(1, 3, 4, 5, 6, generator=generator)
    stiffness = 1 + 9 * torch.rand(1, 1, 4, 5, 6, generator=generator)
    expected = 0.0
    for axis, spacing in ((0, 2.0), (1, 3.0), (2, 4.0)):
        terms = []
        for place in np.ndindex(4, 5, 6):
            following = list(place)
            following[axis] += 1
            if following[axis] < (4, 5, 6)[axis]:
                between = 0.5 * (stiffness[0, 0][place] + stiffness[0, 0][tuple(following)])
                for component in range(3):
                    step = coefficients[0, component][tuple(following)] - coefficients[0, component][place]
                    terms.append(float(between * (step / spacing) ** 2))
        expected += 3 * np.mean(terms)
    found = bspline.diffusion_energy(coefficients, (2.0, 3.0, 4.0), stiffness)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    plain = bspline.diffusion_energy(coefficients, (2.0, 3.0, 4.0))
    same = bspline.diffusion_energy(coefficients, (2.0, 3.0, 4.0), torch.ones(1, 1, 4, 5, 6))
    assert float(plain) == pytest.approx(float(same), rel=1e-6)
