"""Fits of linear maps against SciPy's, and the B-spline against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from carlreg.spaces import cubic_bspline, fit_linear
from support.geometry import assert_close

interpolate = pytest.importorskip("scipy.interpolate")
optimize = pytest.importorskip("scipy.optimize")
Rotation = pytest.importorskip("scipy.spatial.transform").Rotation


@pytest.fixture
def pairs():
    """Points, targets that no linear map takes them to exactly, and weights."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-80, 80, (60, 3))
    turned = 1.2 * points @ Rotation.from_rotvec([0.3, -0.5, 0.9]).as_matrix().T + [10, -20, 30]
    return points, turned + rng.normal(0, 4, points.shape), rng.uniform(0, 1, 60)


def _cost(matrix, points, targets, weights) -> float:
    mapped = points @ matrix[:3, :3].T + matrix[:3, 3]
    return float((weights * ((mapped - targets) ** 2).sum(1)).sum())


def test_rigid_is_scipys_alignment(pairs):
    points, targets, weights = pairs
    found = fit_linear(points, targets, weights, kind="rigid")
    centers = [np.average(side, axis=0, weights=weights) for side in (points, targets)]
    expected = Rotation.align_vectors(targets - centers[1], points - centers[0], weights=weights)[0].as_matrix()
    assert_close(found[:3, :3], expected)
    np.testing.assert_allclose(found[:3, 3], centers[1] - expected @ centers[0], atol=1e-8)
    np.testing.assert_array_equal(found[3], [0, 0, 0, 1])


def test_similarity_has_the_best_scale(pairs):
    points, targets, weights = pairs
    found = fit_linear(points, targets, weights, kind="similarity")
    scale = np.cbrt(np.linalg.det(found[:3, :3]))
    assert_close(found[:3, :3] @ found[:3, :3].T, scale**2 * np.eye(3))
    assert scale == pytest.approx(1.2, abs=0.05)

    def cost(values) -> float:
        matrix = np.eye(4)
        matrix[:3, :3] = values[0] * Rotation.from_rotvec(values[1:4]).as_matrix()
        matrix[:3, 3] = values[4:]
        return _cost(matrix, points, targets, weights)

    start = [scale, *Rotation.from_matrix(found[:3, :3] / scale).as_rotvec(), *found[:3, 3]]
    best = optimize.minimize(cost, start, method="BFGS", options={"gtol": 1e-3}).x
    np.testing.assert_allclose(best, start, rtol=1e-5, atol=1e-5)


def test_affine_is_weighted_least_squares(pairs):
    points, targets, weights = pairs
    root = np.sqrt(weights)[:, None]
    expected = np.linalg.lstsq(root * np.c_[points, np.ones(60)], root * targets, rcond=None)[0].T
    np.testing.assert_allclose(fit_linear(points, targets, weights)[:3], expected, atol=1e-8)
    plain = np.linalg.lstsq(np.c_[points, np.ones(60)], targets, rcond=None)[0].T
    np.testing.assert_allclose(fit_linear(points, targets)[:3], plain, atol=1e-8)


def test_drawn_toward_the_rigid_map_where_the_points_say_nothing(pairs):
    points, targets, weights = pairs
    rigid = fit_linear(points, targets, weights, kind="rigid")
    strong = fit_linear(points, targets, weights, toward_rigid=1e6)
    np.testing.assert_allclose(strong[:3, :3], rigid[:3, :3], atol=1e-5)
    flat = points * [1, 1, 0]
    mapped = flat @ rigid[:3, :3].T + rigid[:3, 3]
    np.testing.assert_allclose(fit_linear(flat, mapped, weights, toward_rigid=1e-2), rigid, atol=1e-6)
    weak = fit_linear(points, targets, weights, toward_rigid=1e-9)
    np.testing.assert_allclose(weak, fit_linear(points, targets, weights), atol=1e-5)


def test_a_rotation_never_mirrors():
    points = np.random.default_rng(2).normal(size=(50, 3))
    for kind in ("rigid", "similarity"):
        found = fit_linear(points, points * [1, 1, -1], kind=kind)
        assert np.linalg.det(found[:3, :3]) > 0
    assert np.linalg.det(fit_linear(points, points * [1, 1, -1])[:3, :3]) == pytest.approx(-1)


def test_cubic_bspline_is_scipys():
    at = np.linspace(0, 3, 61)
    basis = interpolate.BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    np.testing.assert_allclose(cubic_bspline(at), np.nan_to_num(basis(at)), atol=1e-12)
    torch = pytest.importorskip("torch")
    np.testing.assert_allclose(
        cubic_bspline(torch.tensor(at.tolist(), dtype=torch.float64)).tolist(), cubic_bspline(at), atol=1e-15
    )


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="rigid, similarity, affine"):
        fit_linear(np.eye(3), np.eye(3), kind="projective")
