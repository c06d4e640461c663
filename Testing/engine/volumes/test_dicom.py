"""DICOM folders: the right series, in order, refused when its slices are no regular grid."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import GeometryError, InputError
from carlreg.volumes import dicom_references, read_volume

ORIENTATION = np.array([0.0, 0.8, 0.6, 0.0, -0.6, 0.8])  # rows run to posterior-superior, columns to anterior-superior
NORMAL = np.cross(ORIENTATION[:3], ORIENTATION[3:])
STEP = 2.5


def write_series(folder, uid="1.2.3.1", count=6, offsets=None, description="Abdomen", shift=(0, 0, 0), color=False):
    """Slices 5 x 7, 1.5 x 0.8 mm, named against their order; returns what each slice holds, by position."""
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    offsets = np.arange(count) * STEP if offsets is None else np.asarray(offsets, dtype=float)
    arrays = np.random.default_rng(len(uid)).integers(-1000, 1000, (len(offsets), 7, 5)).astype(np.int16)
    for number, offset in enumerate(offsets):
        position = np.array([10.0, -20, 30]) + offset * NORMAL + number * np.asarray(shift)
        slice_image = sitk.GetImageFromArray(arrays[number][None])
        if color:
            slice_image = sitk.Compose([sitk.Cast(sitk.Abs(slice_image) / 4, sitk.sitkUInt8)] * 3)
        slice_image.SetSpacing((1.5, 0.8, 1))
        for tag, value in {
            "0008|0060": "CT",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{uid}.{number + 1}",
            "0008|103e": description,
            "0020|000d": "1.2.3",
            "0020|0052": "1.2.3.4.5",
            "0010|0010": "Nobody^Known",
            "0010|0020": "secret",
            "0020|000e": uid,
            "0020|0013": str(number),
            "0020|0032": "\\".join(f"{x:.6f}" for x in position),
            "0020|0037": "\\".join(f"{x:.6f}" for x in ORIENTATION),
            "0028|1052": "0",
            "0028|1053": "1",
        }.items():
            slice_image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{uid}-{len(offsets) - number:03d}.dcm"))
        writer.Execute(slice_image)
    return arrays


def test_series_with_position_order_and_attributes(tmp_path):
    arrays = write_series(tmp_path / "CT Größe")
    volume = read_volume(tmp_path / "CT Größe", "fixed image")
    np.testing.assert_array_equal(volume.array, arrays)
    np.testing.assert_allclose(volume.grid.origin_lps, (10, -20, 30), atol=1e-5)
    np.testing.assert_allclose(volume.grid.spacing, (1.5, 0.8, STEP), atol=1e-5)
    np.testing.assert_allclose(volume.grid.direction[:, 2], NORMAL, atol=1e-5)
    assert volume.dicom["Modality"] == "CT" and volume.dicom["SeriesDescription"] == "Abdomen"
    assert volume.warnings == ()


def test_what_registration_objects_refer_to_is_kept_and_nobody_is_named(tmp_path):
    write_series(tmp_path, "1.2.3.1", count=5)
    volume = read_volume(tmp_path)
    found = dicom_references(volume.dicom)
    assert found == {
        "FrameOfReferenceUID": "1.2.3.4.5",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.1",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "Modality": "CT",
        "SOPInstanceUIDs": [f"1.2.3.1.{n + 1}" for n in range(5)],
    }
    text = str(volume.dicom)
    assert "Nobody" not in text and "secret" not in text
    assert dicom_references({}) == {}


def test_one_file_stands_for_its_series(tmp_path):
    arrays = write_series(tmp_path, "1.2.3.1")
    write_series(tmp_path, "1.2.3.44", count=5)
    volume = read_volume(tmp_path / "1.2.3.1-003.dcm")
    np.testing.assert_array_equal(volume.array, arrays)
    assert "whole DICOM series" in volume.warnings[0]


def test_several_series_are_listed(tmp_path):
    write_series(tmp_path, "1.2.3.1", description="Arterial")
    write_series(tmp_path, "1.2.3.44", count=5, description="Venous")
    with pytest.raises(InputError, match=r"(?s)got 2 .*CT (Arterial|Venous), \d files.*CT (Arterial|Venous), \d files"):
        read_volume(tmp_path)


def test_localizers_are_passed_over_and_that_is_said(tmp_path):
    arrays = write_series(tmp_path, "1.2.3.1")
    write_series(tmp_path, "1.2.3.44", count=1, description="Scout")
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, arrays)
    assert len(volume.warnings) == 1 and "2 DICOM series; the one with 6 slices" in volume.warnings[0]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"offsets": [0, 2.5, 5, 10, 12.5, 15]},
            GeometryError,
            "missing or unevenly spaced: .* from 2.5 to 5 mm",
        ),
        ({"shift": 0.4 * ORIENTATION[:3]}, GeometryError, "gantry tilt of 9.1 degrees"),
        ({"offsets": [0, 0, 2.5, 2.5, 5, 5, 7.5, 7.5]}, InputError, "8 slices at 4 positions"),
        ({"count": 1}, InputError, "single slice"),
        ({"color": True}, InputError, "color image with 3 per voxel"),
    ],
)
def test_what_is_no_regular_scalar_grid_is_refused(tmp_path, change, error, message):
    write_series(tmp_path / "a", **change)
    with pytest.raises(error, match=message):
        read_volume(tmp_path / "a")


def test_slightly_uneven_slices_are_taken_with_a_warning(tmp_path):
    write_series(tmp_path / "a", offsets=[0, 2.5, 5.1, 7.5, 10, 12.5])
    volume = read_volume(tmp_path / "a")
    assert len(volume.warnings) == 1 and "vary by 0.1 mm" in volume.warnings[0]


def test_damaged_slice(tmp_path):
    write_series(tmp_path / "a")
    victim = tmp_path / "a" / "1.2.3.1-003.dcm"
    victim.write_bytes(victim.read_bytes()[:-40])
    with pytest.raises(InputError, match="slices are missing"):
        read_volume(tmp_path / "a")


def test_damaged_last_slice_is_said(tmp_path):
    write_series(tmp_path / "a")
    victim = tmp_path / "a" / "1.2.3.1-001.dcm"
    victim.write_bytes(victim.read_bytes()[:-40])
    volume = read_volume(tmp_path / "a")
    assert volume.grid.size_ijk[2] == 5
    assert len(volume.warnings) == 1 and "1 DICOM file in the folder cannot be read" in volume.warnings[0]
