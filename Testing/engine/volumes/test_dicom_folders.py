"""What lies in a DICOM folder: other files, files without a preamble, links, lists of files, many files."""

from __future__ import annotations

import time

import numpy as np
import pytest
from carlreg.errors import InputError
from carlreg.volumes import read_volume
from carlreg.volumes.dicom import reading
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from .dicom_files import DOSE, SEGMENTATION, enhanced, image, item, positions, save, save_series, values


def without_preamble(file, syntax):
    """The file from its first element on, without what a file of before 1993 does not have."""
    content = file.read_bytes()
    file.write_bytes(content[content.index(b"\x08\x00\x16\x00") :])


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_files_without_a_preamble(tmp_path, syntax):
    save_series(tmp_path, values(), syntax=syntax)
    for file in tmp_path.iterdir():
        without_preamble(file, syntax)
    for path in (tmp_path, tmp_path / "003.dcm"):
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.array, values())
        np.testing.assert_allclose(volume.grid.spacing, (2, 2.5, 3))


def test_names_do_not_count(tmp_path):
    save_series(tmp_path, values())
    for number, name in enumerate(["IM0", "IM1.DCM", "a.txt", "b", "ÄÖ .ima", "c.nii"]):
        (tmp_path / f"{number:03d}.dcm").rename(tmp_path / name)
    np.testing.assert_array_equal(read_volume(tmp_path).array, values())
    np.testing.assert_array_equal(read_volume(tmp_path / "c.nii").array, values())


def test_other_files_do_not_disturb(tmp_path):
    save_series(tmp_path, values())
    for name, content in {
        "notes.txt": b"slices 1 to 6",
        "empty.dcm": b"",
        "Thumbs.db": bytes(5000),
        "a.nii": b"\x5c\x01\0\0" + bytes(400),
        "short": b"\x08\0\x16\0",
        "counts.mrc": b"\x08\0\0\0" + b"\x20\0\0\0" * 100,
        "looks.like": b"\x08\0\x05\0CS" + b"x" * 100,
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    save_series(tmp_path / "folder" / "deeper", values(seed=3))
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, values())
    assert all("looks.like" in warning for warning in volume.warnings)


def structure(**elements):
    """A DICOM file without an image."""
    made = item(SOPInstanceUID="1.2.8", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.9", **elements)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = "1.2.8"
    return made


def test_dicom_files_that_are_no_image_are_named(tmp_path):
    save_series(tmp_path, values())
    save(structure(SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3", Modality="RTSTRUCT"), tmp_path / "rs.dcm")
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, values())
    assert len(volume.warnings) == 1 and "left out: rs.dcm" in volume.warnings[0]
    with pytest.raises(InputError, match=r"rs\.dcm cannot be read as a DICOM image: it holds no image"):
        read_volume(tmp_path / "rs.dcm")
    for file in tmp_path.glob("0*.dcm"):
        file.unlink()
    with pytest.raises(InputError, match=r"without DICOM images.*that are no image, or damaged: rs\.dcm"):
        read_volume(tmp_path)


def test_a_list_of_files_is_passed_over_and_refused_by_itself(tmp_path):
    save_series(tmp_path, values())
    save(structure(SOPClassUID="1.2.840.10008.1.3.10"), tmp_path / "DICOMDIR")
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, values())
    assert volume.warnings == ()
    with pytest.raises(InputError, match="DICOMDIR is a list of files"):
        read_volume(tmp_path / "DICOMDIR")


@pytest.mark.parametrize("kind", [DOSE, SEGMENTATION])
def test_a_dose_or_segmentation_beside_a_scan_does_not_stand_for_it(tmp_path, kind):
    save_series(tmp_path, values())
    made = enhanced(values(8, 0, 2), positions(8), kind=kind, SeriesInstanceUID="1.2.3.99", number=50)
    save(made, tmp_path / "other.dcm")
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, values())
    assert len(volume.warnings) == 1 and "the one with 6 slices was read" in volume.warnings[0]


def test_a_file_that_goes_away_while_it_is_read(tmp_path, monkeypatch):
    save_series(tmp_path, values())
    place = reading.place

    def late(*arguments, **options):
        (tmp_path / "003.dcm").unlink()
        return place(*arguments, **options)

    monkeypatch.setattr(reading, "place", late)
    with pytest.raises(InputError, match=r"003\.dcm cannot be read: No such file"):
        read_volume(tmp_path)


def test_a_second_name_of_a_file_is_no_second_slice(tmp_path):
    save_series(tmp_path, values())
    (tmp_path / "link.dcm").symlink_to("002.dcm")
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, values())
    assert volume.warnings == ()


def test_color_is_refused(tmp_path):
    for made in (
        image(
            np.zeros((6, 7, 15)), bits=8, signed=False, SamplesPerPixel=3, PhotometricInterpretation="RGB", Columns=5
        ),
        image(values(low=0, high=255), bits=8, signed=False, PhotometricInterpretation="PALETTE COLOR"),
    ):
        with pytest.raises(InputError, match="color image with 3 per voxel"):
            read_volume(save(made, tmp_path / "c.dcm"))


def test_many_files_are_scanned_fast(tmp_path):
    """A folder of 400 files in four series of 100: the one that is asked for, without reading the others' pixels."""
    for series in range(4):
        stored = values(100, seed=series)
        places = [(0.0, 0.0, float(k)) for k in range(100)]
        save_series(tmp_path / str(series), stored, places, SeriesInstanceUID=f"1.2.3.{series}")
    for series in range(4):
        for file in (tmp_path / str(series)).iterdir():
            file.rename(tmp_path / f"{series}-{file.name}")
    start = time.process_time()
    volume = read_volume(tmp_path / "2-000.dcm")
    assert time.process_time() - start < 4  # less than a second on an idle machine
    np.testing.assert_array_equal(volume.array, values(100, seed=2))
    with pytest.raises(InputError, match=r"got 4 in (?s:.*)100 files"):
        read_volume(tmp_path)
