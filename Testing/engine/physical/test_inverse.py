"""The numerical inverse undoes the delivered map."""

from __future__ import annotations

import dataclasses

import carlreg.physical.inverse as inverse_module
import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.physical import FormerInverse, PhysicalTransform, invert, to_fixed_grid
from carlreg.spaces import VolumeGrid
from support.geometry import index_at


def moving_grid_of(transform: PhysicalTransform, fixed: VolumeGrid, direction) -> VolumeGrid:
    """A moving volume that covers where the fixed one lands."""
    corners = transform.apply(fixed.corners_lps()) @ direction
    low, high = corners.min(axis=0) - 4.0, corners.max(axis=0) + 4.0
    spacing = np.array([1.4, 1.7, 2.0])
    return VolumeGrid(np.ceil((high - low) / spacing).astype(int) + 1, spacing, direction @ low, direction)


@pytest.mark.parametrize("degrees", [0.0, 25.0, 180.0])
def test_there_and_back(grid, make, degrees):
    working = grid.with_spacing(1.5).padded(3.0)
    residual = make.waves(make.centers(working), grid.center_lps, amplitude=2.5).astype(np.float32)
    transform = to_fixed_grid(make.affine(degrees, about=grid.center_lps), residual, working, grid)
    direction = np.linalg.qr(grid.direction + 0.1)[0]
    moving = moving_grid_of(transform, grid, direction)
    inverse, report = invert(transform, moving)
    assert report["without_inverse"] == 0
    assert report["residual_max_mm"] < 0.002

    points = make.points(grid, 2000)
    error = np.linalg.norm(inverse.apply(transform.apply(points)) - points, axis=1)
    assert error.mean() < 0.02
    assert error.max() < 0.25
    # The same through the files' transforms.
    forward, backward = transform.to_sitk(), inverse.to_sitk()
    for point in points[:50].tolist():
        again = backward.TransformPoint(forward.TransformPoint(point))
        assert np.linalg.norm(np.subtract(again, point)) < 0.25

    np.testing.assert_allclose(inverse.grid.direction, direction)
    np.testing.assert_allclose(inverse.affine_lps, np.linalg.inv(transform.affine_lps))
    for axis in range(3):
        assert (np.take(inverse.displacement_lps, [0, -1], axis) == 0.0).all()


def test_of_a_map_that_changed_in_a_part_only_that_is_solved_anew(make, monkeypatch):
    grid = VolumeGrid((60, 54, 48), (1.5, 1.5, 1.5), (-20.0, 10.0, 5.0), np.diag([-1.0, -1, 1]))
    working = grid.padded(9.0).with_spacing(3.0)
    residual = make.waves(make.centers(working), grid.center_lps, amplitude=4.0).astype(np.float32)
    before = to_fixed_grid(make.affine(20.0, about=grid.center_lps), residual, working, grid)
    away = np.linalg.norm(make.centers(before.grid) - grid.center_lps - [12.0, 0, 0], axis=-1)
    push = np.where(away < 9, 1.5 * np.cos(np.pi * away / 18) ** 2, 0.0)[..., None] * [0.7, 0.6, -0.4]
    after = dataclasses.replace(before, displacement_lps=before.displacement_lps + push.astype(np.float32))
    direction = np.linalg.qr(grid.direction + 0.1)[0]
    moving = moving_grid_of(before, grid, direction)
    known, report = invert(before, moving)
    assert report["without_inverse"] == 0
    whole, _ = invert(after, moving)
    assert (whole.displacement_lps != known.displacement_lps).any(-1).sum() > 50
    solved = []
    newton = inverse_module._Solver._newton
    monkeypatch.setattr(
        inverse_module._Solver, "_newton", lambda *given: (solved.append(len(given[1])), newton(*given))[1]
    )
    again, report = invert(after, moving, former=FormerInverse(before, known, 0))
    np.testing.assert_array_equal(again.displacement_lps, whole.displacement_lps)
    assert report["nodes"] == whole.grid.voxel_count and sum(solved) < 0.6 * whole.grid.voxel_count
    # Nothing is taken from the inverse of another map.
    other = dataclasses.replace(before, affine_lps=make.affine(21.0, about=grid.center_lps))
    again, _ = invert(after, moving, former=FormerInverse(other, known, 0))
    np.testing.assert_array_equal(again.displacement_lps, whole.displacement_lps)


def test_nodes_are_exact(make, oblique):
    """At its own nodes the inverse is the solution, not an interpolation."""
    working = oblique.with_spacing(2.0).padded(3.0)
    residual = make.waves(make.centers(working), oblique.center_lps, amplitude=3.0).astype(np.float32)
    transform = to_fixed_grid(np.eye(4), residual, working, oblique)
    moving = oblique
    inverse, _ = invert(transform, moving, spacing_mm=2.0)
    nodes = make.centers(inverse.grid).reshape(-1, 3)
    index = index_at(moving, nodes)
    inside = ((index > -0.5) & (index < np.asarray(moving.size_ijk) - 0.5)).all(axis=1)
    error = np.linalg.norm(transform.apply(inverse.apply(nodes[inside])) - nodes[inside], axis=1)
    assert error.max() < 0.005


def test_strong_expansion_where_a_fixed_point_iteration_fails(make):
    """A field with slope 1.9: x = -d(x) diverges, Newton's steps do not."""
    grid = VolumeGrid((60, 20, 20), (1.0,) * 3, (0, 0, 0), np.eye(3))
    x = np.arange(60) - 29.5
    bump = np.where(np.abs(x) < 8, 1.9 * x, 1.9 * 8 * np.sign(x) * np.clip((29.5 - np.abs(x)) / 21.5, 0, 1))
    field = np.zeros((20, 20, 60, 3), np.float32)
    field[..., 0] = bump
    transform = PhysicalTransform(np.eye(4), field, grid)
    inverse, report = invert(transform, grid, spacing_mm=0.5)
    assert report["without_inverse"] == 0
    points = np.stack([np.linspace(12, 47, 200), np.full(200, 9.3), np.full(200, 9.7)], axis=1)
    error = np.linalg.norm(inverse.apply(transform.apply(points)) - points, axis=1)
    assert error.max() < 0.4  # at the kinks, where the inverse's slope jumps by 3 within its spacing of 0.5 mm
    assert error.mean() < 0.02


def test_points_without_an_inverse_are_counted_and_left_smooth():
    """A field that jumps to zero at its edge tears space: nothing maps into the gap."""
    grid = VolumeGrid((24, 24, 24), (1.0,) * 3, (0, 0, 0), np.eye(3))
    field = np.zeros((24, 24, 24, 3), np.float32)
    field[..., 0] = 6.0
    transform = PhysicalTransform(np.eye(4), field, grid)
    wide = VolumeGrid((48, 24, 24), (1.0,) * 3, (-12.0, 0, 0), np.eye(3))
    inverse, report = invert(transform, wide)
    assert report["without_inverse"] > 1000
    assert np.isfinite(inverse.displacement_lps).all()
    inside = np.array([[12.0, 12, 12], [15, 8, 9]])
    np.testing.assert_allclose(inverse.apply(inside), inside - [6, 0, 0], atol=1e-4)


def test_sitk_agrees_on_the_inverse_of_the_field(make, oblique):
    """SimpleITK's own field inversion as an oracle."""
    working = oblique.with_spacing(1.5).padded(3.0)
    residual = make.waves(make.centers(working), oblique.center_lps, amplitude=1.5).astype(np.float32)
    transform = to_fixed_grid(np.eye(4), residual, working, oblique)
    image = sitk.Cast(transform._field_to_sitk().GetDisplacementField(), sitk.sitkVectorFloat64)
    oracle = sitk.DisplacementFieldTransform(
        sitk.InvertDisplacementField(
            image, maximumNumberOfIterations=80, maxErrorToleranceThreshold=1e-3, meanErrorToleranceThreshold=1e-4
        )
    )
    inverse, _ = invert(transform, oblique)
    points = make.points(oblique, 200)
    expected = np.array([oracle.TransformPoint(point) for point in points.tolist()])
    difference = np.linalg.norm(inverse.apply(points) - expected, axis=1)
    assert difference.mean() < 0.02
    assert difference.max() < 0.2
