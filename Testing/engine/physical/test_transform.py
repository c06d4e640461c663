"""The delivered map against SimpleITK's composite, and delivery onto the fixed volume's field grid."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import GeometryError, InputError
from carlreg.physical import PhysicalTransform, to_fixed_grid
from carlreg.physical.repair import smallest_determinants
from carlreg.physical.transform import tensor_from_array
from carlreg.spaces import VolumeGrid
from support.geometry import index_at


def by_sitk(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    return np.array([transform.TransformPoint(point.tolist()) for point in points.reshape(-1, 3)]).reshape(points.shape)


@pytest.fixture
def transform(grid, make) -> PhysicalTransform:
    field = make.waves(make.centers(grid), grid.center_lps).astype(np.float32)
    return PhysicalTransform(make.affine(about=grid.center_lps), field, grid)


def test_points_map_as_sitk_maps_them_inside_at_the_border_and_outside(transform, make):
    points = make.points(transform.grid, 600, margin=4.0)
    moved = transform.apply(points)
    np.testing.assert_allclose(moved, by_sitk(transform.to_sitk(), points), atol=1e-5)
    assert np.abs(moved - points).max() > 5.0


@pytest.mark.parametrize("other", ["parallel", "flipped", "turned"])
def test_lattices_map_as_sitk_maps_them(transform, make, other):
    grid = transform.grid
    direction = grid.direction
    if other == "flipped":
        direction = direction @ np.diag([-1.0, 1.0, -1.0])
    elif other == "turned":
        direction = np.linalg.qr(direction + 0.2)[0]
    size, spacing = (9, 13, 11), np.array([4.1, 2.9, 5.3])
    origin = grid.center_lps - direction @ ((np.array(size) - 1) / 2 * spacing)
    lattice = VolumeGrid(size, spacing, origin, direction)
    mapped = transform.on_grid(lattice)
    assert mapped.shape == (11, 13, 9, 3)
    assert mapped.dtype == np.float32
    np.testing.assert_allclose(mapped, by_sitk(transform.to_sitk(), make.centers(lattice)), atol=1e-3)


def test_file_and_back(transform, make, tmp_path):
    path = tmp_path / "transform.h5"
    sitk.WriteTransform(transform.to_sitk(), str(path))
    read = sitk.ReadTransform(str(path))
    again = PhysicalTransform.from_sitk(read)
    points = make.points(transform.grid, 200, margin=3.0)
    np.testing.assert_allclose(again.apply(points), transform.apply(points), atol=1e-9)
    np.testing.assert_array_equal(again.displacement_lps, transform.displacement_lps)
    assert again.grid.same_as(transform.grid)


def test_linear_transforms_are_joined(make):
    first, second = sitk.Euler3DTransform(), sitk.ScaleTransform(3, (1.1, 0.9, 1.0))
    first.SetRotation(0.2, -0.3, 1.0)
    first.SetTranslation((4, 5, 6))
    composite = sitk.CompositeTransform([first, sitk.CompositeTransform([second])])
    points = np.random.default_rng(1).normal(size=(20, 3)) * 100
    np.testing.assert_allclose(
        PhysicalTransform.from_sitk(composite).apply(points), by_sitk(composite, points), atol=1e-9
    )


def test_what_is_not_affine_after_field_is_refused(transform):
    field_last = sitk.CompositeTransform([transform._field_to_sitk(), sitk.TranslationTransform(3, (1, 2, 3))])
    with pytest.raises(InputError, match="one affine and one displacement field"):
        PhysicalTransform.from_sitk(field_last)


def test_bad_parts_are_refused(grid):
    field = np.zeros((*grid.shape_dhw, 3), np.float32)
    flat = np.diag([1.0, 1.0, 0.0, 1.0])
    with pytest.raises(GeometryError, match="invertible"):
        PhysicalTransform(flat, field, grid)
    with pytest.raises(GeometryError, match="4x4"):
        PhysicalTransform(np.eye(3), field, grid)
    with pytest.raises(InputError, match="shape"):
        PhysicalTransform(np.eye(4), field[1:], grid)
    field[0, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="finite"):
        PhysicalTransform(np.eye(4), field, grid)


def test_delivery_keeps_the_inside_and_fades_to_zero_around_it(grid, make):
    residual_grid = grid.with_spacing(2.0).padded(3.0)
    residual = make.waves(make.centers(residual_grid), grid.center_lps).astype(np.float32)
    affine = make.affine(about=grid.center_lps)
    delivered = to_fixed_grid(affine, residual, residual_grid, grid)
    field = delivered.displacement_lps

    # Axes of the fixed volume, and at least a tenth of its extent more on each side.
    np.testing.assert_allclose(delivered.grid.direction, grid.direction)
    np.testing.assert_allclose(delivered.grid.spacing, 2.0)
    corners = (delivered.grid.corners_lps() - grid.origin_lps) @ grid.direction
    low, high = -0.5 * grid.spacing, -0.5 * grid.spacing + grid.extent_mm
    assert (corners.min(axis=0) <= low - 0.1 * grid.extent_mm + 1e-6).all()
    assert (corners.max(axis=0) >= high + 0.1 * grid.extent_mm - 1e-6).all()

    for axis in range(3):
        assert (np.take(field, [0, -1], axis) == 0.0).all()
    inside = make.points(grid, 500)
    index = index_at(residual_grid, inside)
    working = PhysicalTransform(affine, residual, residual_grid)
    assert (index > 0).all()
    np.testing.assert_allclose(delivered.apply(inside), working.apply(inside), atol=1e-4)
    assert (
        smallest_determinants(
            tensor_from_array(field).permute(3, 0, 1, 2), delivered.grid.spacing, grid.direction
        ).min()
        > 0.02
    )
    # A fade: no step between neighbors that the field or a cosine over the margin does not explain.
    assert max(np.abs(np.diff(field, axis=a)).max() for a in range(3)) < 1.5


def test_delivery_of_another_orientation_and_spacing(make, oblique):
    residual_grid = VolumeGrid((30, 30, 34), (2.5,) * 3, oblique.center_lps - 36.0, np.eye(3))
    residual = make.waves(make.centers(residual_grid), oblique.center_lps, length=80.0).astype(np.float32)
    delivered = to_fixed_grid(np.eye(4), residual, residual_grid, oblique, spacing_mm=1.5)
    np.testing.assert_allclose(delivered.grid.spacing, 1.5)
    points = make.points(oblique, 300)
    expected = points + make.waves(points, oblique.center_lps, length=80.0)
    assert np.abs(delivered.apply(points) - expected).max() < 0.06  # two linear interpolations of a 2 mm wave


def test_delivery_continues_a_small_working_field_and_lets_it_decay(make, oblique):
    half = oblique.cropped((6, 6, 4), (26, 22, 17)).with_spacing(1.5)
    residual = np.broadcast_to(np.float32([3.0, -2.0, 1.0]), (*half.shape_dhw, 3))
    delivered = to_fixed_grid(np.eye(4), residual, half, oblique)
    size = np.linalg.norm(delivered.displacement_lps, axis=-1)
    k, j, i = (n // 2 for n in size.shape)
    for line in (size[k, j], size[k, :, i], size[:, j, i]):
        top = int(line.argmax())
        assert abs(line.max() - np.sqrt(14)) < 1e-5
        assert (np.diff(line[top:]) <= 1e-6).all()
        assert line[0] == line[-1] == 0.0
        inside_faces = line[len(line) // 8 : -len(line) // 8]
        assert inside_faces.min() > 0.2  # continued beyond the working field, not cut off


def test_a_large_field_gets_a_wider_margin_instead_of_folds(make, oblique):
    residual_grid = oblique.with_spacing(2.0).padded(4.0)
    residual = np.broadcast_to(np.float32([20.0, 0.0, -15.0]), (*residual_grid.shape_dhw, 3))
    delivered = to_fixed_grid(np.eye(4), residual, residual_grid, oblique)
    field = tensor_from_array(delivered.displacement_lps).permute(3, 0, 1, 2)
    assert smallest_determinants(field, delivered.grid.spacing, oblique.direction).min() > 0.02
    points = make.points(oblique, 300)
    np.testing.assert_allclose(delivered.apply(points) - points, np.broadcast_to([20.0, 0, -15], (300, 3)), atol=1e-4)
