"""Landmark and transform files."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import GeometryError, InputError
from carlreg.io.itk_transform import field_image, is_linear, linear_matrix, map_points
from carlreg.spaces import VolumeGrid
from carlreg.volumes import read_landmarks, read_transform
from support.geometry import OBLIQUE, assert_close, to_image

HEADER = "fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z"


def test_landmarks_by_column_name(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(
        "\ufeffgroup, moving_z,moving_y,moving_x,fixed_z,fixed_y,fixed_x\nliver,6,5,4,3,2,1\n,0,-1e1,2,3,4,.5\n",
        encoding="utf-8",
    )
    fixed, moving = read_landmarks(path)
    np.testing.assert_array_equal(fixed, [[1, 2, 3], [0.5, 4, 3]])
    np.testing.assert_array_equal(moving, [[4, 5, 6], [2, -10, 0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "fixed_x, fixed_y, fixed_z, moving_x, moving_y, moving_z not found"),
        (HEADER.replace("moving_z", "z") + "\n1,2,3,4,5,6\n", "moving_z not found"),
        (HEADER + "\n", "at least one pair"),
        ("", "0 bytes"),
        (HEADER + "\n1,2,3,4,5,6\n1,2,3,4,5,x\n", "line 3: expected a number in mm, got 'x'"),
        (HEADER + "\n1,2,3,4,5\n", "line 2: expected a number"),
        (HEADER + "\n1,2,3,4,5,nan\n", "line 2: expected a number"),
    ],
)
def test_wrong_landmarks(tmp_path, text, message):
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_landmarks(tmp_path / "points.csv", "landmarks")


def test_landmarks_that_are_not_text(tmp_path):
    (tmp_path / "points.csv").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="cannot be read as a CSV"):
        read_landmarks(tmp_path / "points.csv")


@pytest.mark.realdata
def test_real_landmarks(data_folder):
    fixed, moving = read_landmarks(data_folder / "lung_ct_landmarks_lps.csv")
    assert fixed.shape == moving.shape == (51, 3)
    assert np.linalg.norm(fixed - moving, axis=1).mean() == pytest.approx(35.27, abs=0.02)


@pytest.mark.parametrize("suffix", [".h5", ".tfm", ".txt", ".mat"])
def test_transform_formats(tmp_path, suffix):
    transform = sitk.AffineTransform(3)
    transform.Rotate(0, 1, 0.3)
    transform.SetTranslation((1, 2, 3))
    sitk.WriteTransform(transform, str(tmp_path / f"Größe{suffix}"))
    read = read_transform(tmp_path / f"Größe{suffix}")
    np.testing.assert_allclose(read.TransformPoint((10.0, 20, 30)), transform.TransformPoint((10.0, 20, 30)), atol=1e-6)


def test_what_is_no_transform(tmp_path):
    for name, content in (("a.h5", b"text"), ("a.tfm", b"text"), ("a.txt", b"text"), ("a.xyz", b"text"), ("b.h5", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"expected an ITK transform|0 bytes"):
            read_transform(tmp_path / name)
    sitk.WriteTransform(sitk.Euler2DTransform(), str(tmp_path / "flat.tfm"))
    with pytest.raises(InputError, match="expected a 3-D transform, got a 2-D one"):
        read_transform(tmp_path / "flat.tfm")
    singular = tmp_path / "singular.tfm"
    sitk.WriteTransform(sitk.AffineTransform(3), str(singular))
    text = singular.read_text()
    assert "Parameters: 1 0 0 0 1 0 0 0 1" in text
    singular.write_text(text.replace("Parameters: 1 0 0 0 1 0 0 0 1", "Parameters: 1 0 0 0 1 0 0 0 0"))
    with pytest.raises(InputError, match=r"a singular one|is not one"):
        read_transform(singular)
    with pytest.raises(InputError, match="does not exist"):
        read_transform(tmp_path / "none.h5")


def composite() -> tuple[sitk.CompositeTransform, sitk.CompositeTransform]:
    """Two linear transforms, and the same after a displacement field."""
    turn = sitk.Euler3DTransform((10.0, -20.0, 5.0), 0.3, -0.2, 0.5, (3.0, 4.0, 5.0))
    scale = sitk.ScaleTransform(3, (1.1, 0.9, 1.2))
    grid = VolumeGrid((7, 6, 5), (8.0, 9.0, 10.0), (-20.0, -25.0, -15.0), OBLIQUE)
    field = to_image(np.random.default_rng(3).normal(0, 2, (5, 6, 7, 3)), grid)
    return (
        sitk.CompositeTransform([turn, scale]),
        sitk.CompositeTransform([turn, scale, sitk.DisplacementFieldTransform(field)]),
    )


def test_points_through_transforms_are_simpleitks():
    points = np.random.default_rng(4).uniform(-20, 20, (50, 3))
    for transform, linear in zip(composite(), (True, False), strict=True):
        expected = [transform.TransformPoint(point) for point in points.tolist()]
        assert is_linear(transform) is linear
        assert_close(map_points(transform, points), expected, scale=100)
        assert map_points(transform, np.zeros((0, 3))).shape == (0, 3)


def test_matrix_of_a_linear_composite():
    transform = composite()[0]
    matrix = linear_matrix(transform)
    for point in ((0.0, 0.0, 0.0), (30.0, -40.0, 50.0)):
        assert_close((matrix @ [*point, 1.0])[:3], transform.TransformPoint(point), scale=100)


def test_displacements_at_a_grids_voxels():
    transform, grid = composite()[1], VolumeGrid((4, 3, 2), (3.0, 4.0, 5.0), (-5.0, -6.0, 2.0), OBLIQUE)
    image = field_image(transform, grid)
    for index in ((0, 0, 0), (3, 2, 1), (1, 2, 0)):
        point = image.TransformIndexToPhysicalPoint(index)
        moved = np.array(transform.TransformPoint(point))
        assert_close(image.GetPixel(index), moved - point, scale=100)


def test_a_composite_with_a_singular_part_is_refused(tmp_path):
    flat = sitk.AffineTransform(3)
    flat.SetMatrix((1, 0, 0, 0, 1, 0, 0, 0, 1e-9))
    sitk.WriteTransform(
        sitk.CompositeTransform([flat, sitk.TranslationTransform(3, (1, 2, 3))]), str(tmp_path / "flat.h5")
    )
    with pytest.raises(GeometryError, match=r"initial \(flat.h5\): Expected an invertible affine"):
        read_transform(tmp_path / "flat.h5", "initial")
