"""What all image files have in common: lengths that can be, other formats in a child process, no endless reading."""

from __future__ import annotations

import gzip
import time

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import GeometryError, InputError
from carlreg.registration import register_pair
from carlreg.volumes import read_image, read_labels, read_mask, read_volume, volume_from_image


def image(spacing=(1.5, 0.8, 2.5), origin=(-20.0, 31.0, 7.5)) -> sitk.Image:
    made = sitk.GetImageFromArray(np.random.default_rng(0).uniform(0, 900, (8, 9, 10)).astype("i2"))
    made.SetSpacing(spacing)
    made.SetOrigin(origin)
    return made


@pytest.mark.parametrize("suffix", [".vtk", ".gipl", ".mrc"])
def test_other_formats_are_read_as_itk_reads_them(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(sitk.Cast(image(), sitk.sitkFloat32), str(path))
    found, itk = read_volume(path).image, sitk.ReadImage(str(path))
    assert sitk.Hash(found) == sitk.Hash(itk)
    assert found.GetSpacing() == itk.GetSpacing() and found.GetOrigin() == itk.GetOrigin()


def test_pictures_do_not_say_where_they_are(tmp_path):
    sitk.WriteImage(sitk.Cast(image(), sitk.sitkUInt16), str(tmp_path / "a.tiff"))
    assert "does not say where the volume lies" in "".join(read_volume(tmp_path / "a.tiff").warnings)
    sitk.WriteImage(sitk.Cast(image()[:, :, 0], sitk.sitkUInt16), str(tmp_path / "a.png"))
    with pytest.raises(InputError, match="single slice"):
        read_volume(tmp_path / "a.png")


@pytest.mark.parametrize(
    "suffix", [".vtk", ".gipl", ".tiff", ".h5", ".mrc", ".txt", ".nii", ".nii.gz", ".mha", ".nrrd"]
)
def test_damaged_files_of_other_formats_and_none_are_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    for content in (b"\0" * 3000, bytes(range(256)) * 8):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"^moving image \(a{suffix}\): "):
            read_volume(path, "moving image")


def test_a_file_of_one_format_called_by_another(tmp_path):
    sitk.WriteImage(image(), str(tmp_path / "a.nrrd"))
    (tmp_path / "a.nrrd").rename(tmp_path / "a.nii.gz")
    assert sitk.Hash(read_volume(tmp_path / "a.nii.gz").image) == sitk.Hash(image())
    sitk.WriteImage(image(), str(tmp_path / "b.nii"))
    (tmp_path / "b.nii").rename(tmp_path / "b.mha")
    with pytest.raises(InputError, match="not an image file"):
        read_volume(tmp_path / "b.mha")


ABSURD = [
    ((1e20, 1, 1), (0, 0, 0), "expected voxels of"),
    ((1e-20, 1, 1), (0, 0, 0), "expected voxels of"),
    ((1e-9,) * 3, (0, 0, 0), "expected voxels of"),
    ((1e9,) * 3, (0, 0, 0), "expected voxels of"),
    ((1e6, 1, 1), (0, 0, 0), "1000 times"),
    ((3, 3, 3), (1e300, 0, 0), "away from the origin"),
    ((3, 3, 3), (0, -1e8, 0), "away from the origin"),
    ((1e-6,) * 3, (100, 0, 0), "away from the origin"),
]


@pytest.mark.parametrize(("spacing", "origin", "message"), ABSURD)
def test_lengths_that_cannot_be(tmp_path, spacing, origin, message):
    made = image(spacing, origin)
    sitk.WriteImage(made, str(tmp_path / "a.nrrd"))
    scan = volume_from_image(image())
    for use in (
        lambda: read_volume(tmp_path / "a.nrrd"),
        lambda: read_image(tmp_path / "a.nrrd", "input"),
        lambda: read_mask(tmp_path / "a.nrrd", scan),
        lambda: read_labels(tmp_path / "a.nrrd", scan),
        lambda: read_mask(made, scan),
        lambda: volume_from_image(made),
    ):
        with pytest.raises(GeometryError, match=message):
            use()


@pytest.mark.parametrize(
    ("spacing", "origin"),
    [((1e-6,) * 3, (0, 0, 0)), ((1e6,) * 3, (1e9, 0, 0)), ((0.05, 0.05, 10), (0, 0, -900)), ((0.3,) * 3, (2e5, 0, 0))],
)
def test_lengths_from_microscopes_to_satellites(tmp_path, spacing, origin):
    sitk.WriteImage(image(spacing, origin), str(tmp_path / "a.mha"))
    np.testing.assert_allclose(read_volume(tmp_path / "a.mha").grid.spacing, spacing)


def test_a_pair_of_which_one_is_in_another_unit():
    fixed, moving = (volume_from_image(image((s,) * 3), name) for s, name in ((1.0, "fixed"), (1e-4, "moving")))
    with pytest.raises(GeometryError, match=r"fixed is 10 mm long, moving 0\.001 mm"):
        register_pair(fixed, moving)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_what_claims_to_be_huge_costs_nothing(tmp_path, suffix):
    """A file of a few kilobytes that says it holds 2000 x 2000 x 2000 voxels."""
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image(), str(path), useCompression=True)
    content = path.read_bytes()
    if suffix == ".nii.gz":
        raw = bytearray(gzip.decompress(content))
        raw[42:48] = (2000).to_bytes(2, "little") * 3
        content = gzip.compress(bytes(raw))
    else:
        content = content.replace(b"10 9 8", b"2000 2000 2000")
    path.write_bytes(content)
    began = time.monotonic()
    with pytest.raises(InputError, match="cut off or damaged"):
        read_volume(path)
    assert time.monotonic() - began < 2


def test_masks_that_hold_no_numbers(tmp_path):
    scan = volume_from_image(image())
    array = np.zeros((8, 9, 10), np.float32)
    array[2:4] = 1
    array[6] = np.nan
    made = sitk.GetImageFromArray(array)
    made.CopyInformation(image())
    for suffix in (".nii.gz", ".mha", ".nrrd"):
        sitk.WriteImage(made, str(tmp_path / f"m{suffix}"))
        for reader in (read_mask, read_labels):
            with pytest.raises(InputError, match="90 of 720 voxels are NaN"):
                reader(tmp_path / f"m{suffix}", scan)


def test_what_is_said_of_masks_and_labels(tmp_path, caplog):
    made = sitk.Cast(image() > 300, sitk.sitkUInt8)
    sitk.WriteImage(made, str(tmp_path / "m.mha"))
    content = (tmp_path / "m.mha").read_bytes()
    (tmp_path / "m.mha").write_bytes(content.replace(b"ElementSpacing", b"Position = 1 2 3\nElementSpacing"))
    scan = volume_from_image(image())
    assert "that differ" in read_mask(tmp_path / "m.mha", scan).warnings[0]
    read_labels(tmp_path / "m.mha", scan)
    assert "that differ" in caplog.text
