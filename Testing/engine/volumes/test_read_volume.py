"""Volumes come in with their values and geometry, or not at all and with a message that helps."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.atomic import check_file
from carlreg.errors import GeometryError, InputError
from carlreg.volumes import pair_warnings, read_volume, volume_from_image, write_image
from support.geometry import DIRECTIONS, rotation

nib = pytest.importorskip("nibabel")


def noise(shape=(8, 9, 10), seed=0, dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-100, 1000, shape).astype(dtype)


def image(shape=(8, 9, 10), dtype=np.float32) -> sitk.Image:
    made = sitk.GetImageFromArray(noise(shape, dtype=dtype))
    made.SetSpacing((1.5, 0.8, 2.5))
    made.SetOrigin((-20.0, 31.0, 7.5))
    return made


AXES = {name: np.diag([-1.0, -1.0, 1.0]) @ direction for name, direction in DIRECTIONS.items()}  # RAS


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_position_of_every_voxel_is_that_of_nibabel(tmp_path, axes, suffix):
    ras_from_ijk = np.eye(4)
    ras_from_ijk[:3, :3] = AXES[axes] * [0.9, 1.3, 4.0]
    ras_from_ijk[:3, 3] = [11, -170, 40]
    array = noise((10, 9, 8))
    nib.save(nib.Nifti1Image(array, ras_from_ijk), tmp_path / f"a{suffix}")
    volume = read_volume(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(volume.grid.lps_from_ijk, np.diag([-1.0, -1, 1, 1]) @ ras_from_ijk, atol=2e-4)
    np.testing.assert_array_equal(volume.array, array.transpose(2, 1, 0))
    assert volume.warnings == ()


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_formats_and_types(tmp_path, suffix, dtype):
    original = image(dtype=dtype)
    original.SetDirection(rotation([0, 1, 1], 20).ravel())
    sitk.WriteImage(original, str(tmp_path / f"a{suffix}"))
    volume = read_volume(str(tmp_path / f"a{suffix}"), "fixed image")
    assert volume.array.dtype == np.float32 and volume.array.shape == (8, 9, 10)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(original).astype(np.float32))
    np.testing.assert_allclose(volume.grid.corners_lps(), type(volume.grid).of(original).corners_lps(), atol=1e-4)
    assert volume.name == f"fixed image (a{suffix})"


def test_path_with_spaces_and_other_letters(tmp_path):
    folder = tmp_path / "Bauch CT, Größe Å 日本"
    folder.mkdir()
    write_image(image(), folder / "né à 3 mm.nii.gz")
    assert read_volume(folder / "né à 3 mm.nii.gz").grid.size_ijk == (10, 9, 8)


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes")
def test_names_that_are_no_utf8_are_refused_before_the_reader_crashes(tmp_path):
    write_image(image(), tmp_path / "a.nii.gz")
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/Gr\xf6\xdfe.nii.gz")
    os.rename(tmp_path / "a.nii.gz", strange)
    with pytest.raises(InputError, match=r"Gr\\udcf6\\udcdfe.nii.gz has bytes that are no UTF-8 letters"):
        read_volume(strange)
    with pytest.raises(InputError, match="no UTF-8 letters"):
        check_file(strange)


def test_array_is_a_copy_that_outlives_the_volume():
    array = volume_from_image(image()).array
    array += 1.0
    np.testing.assert_allclose(array, noise() + 1.0)


def test_a_fourth_axis_of_length_one_is_dropped(tmp_path):
    sitk.WriteImage(sitk.JoinSeries([image()]), str(tmp_path / "a.nrrd"))
    assert read_volume(tmp_path / "a.nrrd").grid.size_ijk == (10, 9, 8)


def broken(tmp_path, kind):
    """A path to a file that is wrong in one way."""
    path = tmp_path / "a.nii.gz"
    good = image()
    array = sitk.GetArrayFromImage(good)
    if kind == "missing":
        return tmp_path / "nowhere.nii.gz"
    if kind == "empty path":
        return ""
    if kind == "empty file":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not an image")
    elif kind == "folder":
        (tmp_path / "sub").mkdir()
        return tmp_path
    elif kind == "2-D":
        sitk.WriteImage(good[:, :, 0], str(path))
    elif kind == "one slice":
        sitk.WriteImage(good[:, :, 0:1], str(path))
    elif kind == "three slices":
        sitk.WriteImage(good[:, :, 0:3], str(path))
    elif kind == "time series":
        sitk.WriteImage(sitk.JoinSeries([good] * 5), str(path))
    elif kind == "color":
        sitk.WriteImage(sitk.Compose([sitk.Cast(good, sitk.sitkUInt8)] * 3), str(path))
    elif kind == "vectors":
        path = tmp_path / "a.nrrd"
        sitk.WriteImage(sitk.Compose([good] * 2), str(path))
    elif kind == "complex":
        sitk.WriteImage(sitk.RealAndImaginaryToComplex(good, good), str(path))
    elif kind.split()[0] in ("NaN", "infinite", "huge"):
        array[1, 2, 3] = {"NaN": np.nan, "infinite": -np.inf, "huge": 1e30}[kind.split()[0]]
        path = tmp_path / f"a{kind.split()[1]}"
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    elif kind == "constant":
        sitk.WriteImage(good * 0 + 7, str(path))
    elif kind.startswith("cut off"):
        path = tmp_path / f"a{kind.split()[-1]}"
        sitk.WriteImage(good, str(path), useCompression=True)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "does not exist"),
        ("empty path", "empty path"),
        ("empty file", "0 bytes"),
        ("text", "not an image file"),
        ("folder", "without DICOM images.*sub"),
        ("2-D", r"single slice \(10 x 9\)"),
        ("one slice", r"single slice \(10 x 9 x 1\)"),
        ("three slices", "at least 4 voxels"),
        ("time series", "series of 5 volumes.*Extract one"),
        ("color", "color image with 3 per voxel.*Extract one"),
        ("vectors", "vector image with 2 per voxel"),
        ("complex", "2 per voxel"),
        ("NaN .nii.gz", "1 of 720 voxels are NaN or infinite"),
        ("NaN .nii", "1 of 720 voxels are NaN or infinite"),
        ("NaN .nrrd", "1 of 720 voxels are NaN or infinite"),
        ("infinite .nii.gz", "1 of 720 voxels are NaN or infinite"),
        ("infinite .mha", "1 of 720 voxels are NaN or infinite"),
        ("huge .nii.gz", "rescale them"),
        ("constant", "all voxels have the value 7"),
        ("cut off .nii.gz", "cut off or damaged"),
        ("cut off .nii", "cut off or damaged"),
        ("cut off .nrrd", "damaged or cut off"),
        ("cut off .mha", "cut off or damaged"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, kind, message):
    with pytest.raises(InputError, match=f"(?s){message}") as caught:
        read_volume(broken(tmp_path, kind), "moving image")
    assert str(caught.value).startswith("moving image")
    assert caught.value.exit_code == 2


def test_unreadable_file(tmp_path):
    path = tmp_path / "a.nii.gz"
    write_image(image(), path)
    path.chmod(0)
    try:
        path.open("rb").close()
    except PermissionError:
        with pytest.raises(InputError, match="cannot be opened: Permission denied"):
            read_volume(path)
    else:
        pytest.skip("this user may read everything")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("problem", ["sheared", "singular", "flat"])
def test_sheared_and_singular_axes(tmp_path, suffix, problem):
    path = tmp_path / f"a{suffix}"
    plain = image()
    plain.SetSpacing((1, 1, 1))
    sitk.WriteImage(plain, str(path))
    axes = {"sheared": "0 0.3 1", "singular": "0 1 0", "flat": "0 0 0"}[problem]
    content = path.read_bytes()
    for before, after in (
        (b"1 0 0 0 1 0 0 0 1", b"1 0 0 0 1 0 " + axes.encode()),
        (b"(1,0,0) (0,1,0) (0,0,1)", b"(1,0,0) (0,1,0) (" + axes.replace(" ", ",").encode() + b")"),
    ):
        content = content.replace(before, after)
    path.write_bytes(content)
    with pytest.raises(GeometryError, match=r"(?s)sheared.*regular grid first"):
        read_volume(path)


def test_images_are_checked_like_files():
    assert volume_from_image(image(), "fixed").grid.size_ijk == (10, 9, 8)
    with pytest.raises(InputError, match="expected a SimpleITK image or a path, got ndarray"):
        volume_from_image(noise())
    with pytest.raises(InputError, match="all voxels have the value 0"):
        volume_from_image(image() * 0)
    with pytest.raises(InputError, match="color"):
        volume_from_image(sitk.Compose([image()] * 3))
    sheared = image()
    sheared.SetDirection((1, 0, 0, 0, 1, 0.2, 0, 0, 1))
    with pytest.raises(GeometryError, match=r"fixed: .*orthonormal"):
        volume_from_image(sheared, "fixed")


def test_same_volume_twice_is_said(tmp_path):
    write_image(image(), tmp_path / "a.nii.gz")
    (tmp_path / "b.nii.gz").write_bytes((tmp_path / "a.nii.gz").read_bytes())
    write_image(image() + 1, tmp_path / "c.nii.gz")
    first, copy, other = (read_volume(tmp_path / f"{name}.nii.gz") for name in "abc")
    assert len(pair_warnings(first, first)) == 1 and "same volume" in pair_warnings(first, first)[0]
    assert pair_warnings(first, copy) == pair_warnings(first, first)
    assert pair_warnings(first, other) == []


def test_writing_refuses_unknown_formats_and_missing_folders(tmp_path):
    with pytest.raises(InputError, match=r"ends in \.nii\.gz"):
        write_image(image(), tmp_path / "a.xyz")
    with pytest.raises(InputError, match="folder does not exist"):
        write_image(image(), tmp_path / "none" / "a.nii.gz")


@pytest.mark.realdata
def test_real_volumes_are_read_without_complaint(data_folder):
    files = sorted(data_folder.glob("*_fixed.nii.gz"))
    assert len(files) >= 4
    for file in files:
        assert read_volume(file).warnings == ()
