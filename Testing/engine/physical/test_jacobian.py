"""The Jacobian determinant against formulas, in every orientation."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.physical import PhysicalTransform, jacobian_determinant
from carlreg.spaces import VolumeGrid


def test_linear_fields_have_their_exact_determinant_in_every_orientation(grid, make):
    gradient = np.array([[0.10, 0.04, -0.02], [0.03, -0.15, 0.05], [0.01, 0.02, 0.20]])
    field_grid = grid.padded(10.0)
    field = (make.centers(field_grid) - grid.center_lps) @ gradient.T
    affine = make.affine()
    transform = PhysicalTransform(affine, field.astype(np.float32), field_grid)
    expected = np.linalg.det(affine[:3, :3]) * np.linalg.det(np.eye(3) + gradient)
    found = jacobian_determinant(transform, grid)
    assert found.shape == grid.shape_dhw
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    assert abs(expected - 1.0) > 0.1


def test_a_curved_field_on_an_unrelated_field_grid(make, oblique):
    def wave(points):
        return make.waves(points, oblique.center_lps, amplitude=5.0)

    def determinant_of_formula(points):
        h = 1e-4
        columns = [(wave(points + h * e) - wave(points - h * e)) / (2 * h) for e in np.eye(3)]
        return np.linalg.det(np.eye(3) + np.stack(columns, axis=-1))

    field_grid = VolumeGrid((100, 100, 100), (0.9,) * 3, oblique.center_lps - 45.0, np.eye(3))
    field = wave(make.centers(field_grid)).astype(np.float32)
    found = jacobian_determinant(PhysicalTransform(np.eye(4), field, field_grid), oblique)
    expected = determinant_of_formula(make.centers(oblique))
    assert np.ptp(expected) > 0.5
    # Central differences over up to 5 mm of 40 mm waves are short by (kh)^2 / 6, 2.5 %.
    assert np.abs(found - expected).max() < 0.08


def test_agrees_with_sitk_where_sitk_is_right_and_differs_where_it_is_wrong(make):
    """For identity directions SimpleITK's filter is an oracle; for a flipped one it is known to be wrong."""
    gradient = np.array([[0.10, 0.04, -0.02], [0.03, -0.15, 0.05], [0.01, 0.02, 0.20]])
    for direction, right in ((np.eye(3), True), (np.diag([-1.0, -1.0, 1.0]), False)):
        grid = VolumeGrid((20, 18, 16), (1.0, 1.5, 2.0), (5.0, 6.0, 7.0), direction)
        field = (make.centers(grid) @ gradient.T).astype(np.float32)
        transform = PhysicalTransform(np.eye(4), field, grid)
        image = transform._field_to_sitk().GetDisplacementField()
        oracle = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))
        inner = (slice(2, -2),) * 3
        difference = np.abs(jacobian_determinant(transform, grid) - oracle)[inner].max()
        assert difference < 1e-4 if right else difference > 0.1


def test_folds_are_negative_and_mirrors_too(make, oblique):
    size = oblique.shape_dhw
    centers = make.centers(oblique) - oblique.center_lps
    collapse = (-1.5 * centers).astype(np.float32)
    folded = jacobian_determinant(PhysicalTransform(np.eye(4), collapse, oblique), oblique)
    np.testing.assert_allclose(folded[2:-2, 2:-2, 2:-2], -0.125, rtol=1e-4)
    mirror = PhysicalTransform(np.diag([-1.0, 1, 1, 1]), np.zeros((*size, 3), np.float32), oblique)
    np.testing.assert_allclose(jacobian_determinant(mirror, oblique), -1.0, rtol=1e-6)


@pytest.mark.parametrize("size", [(4, 4, 1), (1, 5, 4)])
def test_thin_grids(size):
    grid = VolumeGrid(size, (1.0, 1.0, 3.0), (0, 0, 0), np.eye(3))
    zero = PhysicalTransform(np.eye(4), np.zeros((*grid.shape_dhw, 3), np.float32), grid)
    np.testing.assert_array_equal(jacobian_determinant(zero, grid), 1.0)
