"""The fast NIfTI writer writes what SimpleITK writes."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.io.nifti_writing import rounded_mantissa, write_nifti_gz
from carlreg.spaces import VolumeGrid
from support.geometry import DIRECTIONS, to_image


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_bytes_are_those_of_sitk(tmp_path, dtype, direction):
    grid = VolumeGrid((33, 21, 17), (0.7, 1.3, 2.2), (-31.5, 4.25, 900.0), direction)
    array = np.random.default_rng(0).integers(0, 200, grid.shape_dhw).astype(dtype)
    write_nifti_gz(tmp_path / "ours.nii.gz", array, grid)
    sitk.WriteImage(to_image(array, grid), str(tmp_path / "theirs.nii"))
    assert gzip.decompress((tmp_path / "ours.nii.gz").read_bytes()) == (tmp_path / "theirs.nii").read_bytes()
    read = sitk.ReadImage(str(tmp_path / "ours.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), array)
    assert VolumeGrid.of(read).same_as(grid)


def test_many_chunks_make_one_stream(tmp_path):
    grid = VolumeGrid((160, 170, 180), (1, 1, 1), (0, 0, 0), np.eye(3))
    array = np.random.default_rng(0).normal(size=grid.shape_dhw).astype(np.float32)  # 19 MB: five chunks
    write_nifti_gz(tmp_path / "large.nii.gz", array, grid)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "large.nii.gz"))), array)


def test_rounding_keeps_twelve_bits_and_the_sign():
    values = np.array([0.0, -0.0, 1.0, 1e-20, -3.14159, 0.999999, 123.456, -1e-6], dtype=np.float32)
    rounded = rounded_mantissa(values)
    np.testing.assert_allclose(rounded, values, rtol=2.0**-12)
    np.testing.assert_array_equal(np.signbit(rounded), np.signbit(values))
    assert not (rounded.view(np.uint32) & 0xFFF).any()
