"""The size of a volume from its headers alone, as reading all of it finds it."""

from __future__ import annotations

import pytest
import SimpleITK as sitk
from carlreg.errors import InputError
from carlreg.volumes import read_size, read_volume

from .dicom_files import save_series, values

SIZE = (9, 8, 7)


def gradient() -> sitk.Image:
    image = sitk.GaussianSource(sitk.sitkFloat32, SIZE, mean=(4.0, 4.0, 3.0))
    image.SetSpacing((1.0, 2.0, 3.0))
    return image


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".gipl"])
def test_the_header_says_it(ending, tmp_path):
    file = tmp_path / f"volume{ending}"
    sitk.WriteImage(gradient(), str(file))
    assert read_size(file) == SIZE == read_volume(file).grid.size_ijk


def test_of_a_dicom_series(tmp_path):
    stored = values(count=6)
    save_series(tmp_path / "series", stored)
    expected = (stored.shape[2], stored.shape[1], 6)
    assert read_size(tmp_path / "series") == expected == read_volume(tmp_path / "series").grid.size_ijk
    one = next((tmp_path / "series").iterdir())
    assert read_size(one, "fixed image") == expected


@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha"])
def test_voxels_are_not_read(ending, tmp_path):
    file = tmp_path / f"volume{ending}"
    sitk.WriteImage(gradient(), str(file))
    file.write_bytes(file.read_bytes()[: -4 * SIZE[0] * SIZE[1]])
    assert read_size(file) == SIZE
    with pytest.raises(InputError):
        read_volume(file)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_vectors_and_sequences_are_refused(ending, tmp_path):
    vectors, frames = tmp_path / f"vectors{ending}", tmp_path / f"frames{ending}"
    sitk.WriteImage(sitk.Compose([gradient()] * 3), str(vectors))
    sitk.WriteImage(sitk.JoinSeries([gradient()] * 2), str(frames))
    with pytest.raises(InputError, match="one value per voxel"):
        read_size(vectors)
    with pytest.raises(InputError, match="a series of 2 volumes"):
        read_size(frames)
    (tmp_path / f"text{ending}").write_text("no image")
    with pytest.raises(InputError, match="text"):
        read_size(tmp_path / f"text{ending}", "fixed image")
