"""Landmark and transform files."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import InputError
from carlreg.volumes import read_landmarks, read_transform

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
