"""Masks and label maps land on the volume's grid; the oracle is the position of voxels in mm."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import GeometryError, InputError
from carlreg.quality.segments import label_names
from carlreg.volumes import read_labels, read_mask, volume_from_image

SHAPE = (12, 14, 16)


def on_grid(array, spacing=(2.0, 2.0, 2.0), origin=(10.0, -5.0, 3.0)) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    return image


@pytest.fixture
def volume():
    return volume_from_image(on_grid(np.random.default_rng(0).random(SHAPE, np.float32)), "fixed image")


def box(value=1, dtype=np.uint8):
    array = np.zeros(SHAPE, dtype)
    array[3:7, 4:9, 5:11] = value
    return array


@pytest.mark.parametrize(("value", "dtype"), [(1, np.uint8), (255, np.uint8), (0.4, np.float32), (7, np.int16)])
def test_everything_above_zero_counts(tmp_path, volume, value, dtype):
    sitk.WriteImage(on_grid(box(value, dtype)), str(tmp_path / "m.nii.gz"))
    mask = read_mask(tmp_path / "m.nii.gz", volume)
    assert mask.image.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(mask.array, box())


def test_mask_on_another_grid_is_resampled(tmp_path, volume):
    """Twice as fine, another origin: a voxel counts when the mask's voxel at its center does."""
    fine = np.zeros((24, 28, 32), np.uint8)
    fine[6:14, 8:18, 10:22] = 1
    sitk.WriteImage(on_grid(fine, (1, 1, 1), (9.5, -5.5, 2.5)), str(tmp_path / "m.nrrd"))
    mask = read_mask(tmp_path / "m.nrrd", volume)
    np.testing.assert_array_equal(mask.array, box())
    assert mask.image.GetOrigin() == volume.image.GetOrigin()


def test_labels_keep_their_values(tmp_path, volume):
    array = box(3, np.int16)
    array[8:10, 2:4, 2:4] = 700
    for dtype in (np.int16, np.float32):
        sitk.WriteImage(on_grid(array.astype(dtype)), str(tmp_path / "l.nii.gz"))
        labels = sitk.GetArrayFromImage(read_labels(tmp_path / "l.nii.gz", volume))
        assert labels.dtype.kind == "i"
        np.testing.assert_array_equal(labels, array)


@pytest.mark.parametrize(
    ("array", "origin", "reader", "message"),
    [
        (box(0), (10, -5, 3), read_mask, "empty one"),
        (box(-1, np.int16), (10, -5, 3), read_mask, "empty one"),
        (box(), (500, -5, 3), read_mask, "no part of it lies on fixed image"),
        (box(0), (10, -5, 3), read_labels, "without any label"),
        (box(2), (10, -5, 900), read_labels, "none of its labels lies on fixed image"),
        (box(0.5, np.float32), (10, -5, 3), read_labels, "expected whole numbers"),
    ],
)
def test_useless_masks_and_labels(tmp_path, volume, array, origin, reader, message):
    sitk.WriteImage(on_grid(array, origin=origin), str(tmp_path / "m.mha"))
    with pytest.raises(InputError, match=message):
        reader(tmp_path / "m.mha", volume)


def test_not_a_mask(tmp_path, volume):
    (tmp_path / "m.nii.gz").write_text("hello")
    with pytest.raises(InputError, match=r"fixed mask \(m.nii.gz\): not an image"):
        read_mask(tmp_path / "m.nii.gz", volume, "fixed mask")
    with pytest.raises(InputError, match="got a folder"):
        read_mask(tmp_path, volume)
    sitk.WriteImage(on_grid(box())[:, :, 0], str(tmp_path / "flat.nrrd"))
    with pytest.raises(InputError, match="single slice"):
        read_mask(tmp_path / "flat.nrrd", volume)
    sheared = on_grid(box())
    sheared.SetDirection((1, 0, 0, 0, 1, 0.2, 0, 0, 1))
    with pytest.raises(GeometryError, match="orthonormal"):
        read_mask(sheared, volume)


def test_images_in_memory(volume):
    np.testing.assert_array_equal(read_mask(on_grid(box(5)), volume).array, box())


@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_names_of_segments_stay_with_their_labels(volume, tmp_path, shift):
    """On the volume's grid and on another."""
    image = sitk.Cast(volume.image, sitk.sitkInt16) * 0 + 3
    image.SetOrigin([value + shift for value in volume.image.GetOrigin()])
    image.SetMetaData("Segment0_LabelValue", "3")
    image.SetMetaData("Segment0_Name", "liver")
    sitk.WriteImage(image, str(tmp_path / "l.seg.nrrd"))
    labels = read_labels(tmp_path / "l.seg.nrrd", volume)
    assert label_names(labels) == {3: "liver"}
    assert labels.GetOrigin() == volume.image.GetOrigin()
