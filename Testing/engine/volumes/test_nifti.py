"""NIfTI and Analyze files by the standard; nibabel reads what they hold, SimpleITK says where 3D Slicer puts it."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import GeometryError, InputError
from carlreg.spaces import VolumeGrid
from carlreg.volumes import read_image, read_volume

nib = pytest.importorskip("nibabel")

RAS = np.array([[2.0, 0, 0, -20], [0, 3, 0, 11], [0, 0, 4, 7], [0, 0, 0, 1]])
TURNED = np.array([[0.0, -3, 0, -20], [2, 0, 0, 11], [0, 0, 4, 7], [0, 0, 0, 1]])
# Where fields are in the header, with their struct format.
FIELDS = {"dim0": (40, "h"), "dim1": (42, "h"), "dim3": (46, "h"), "type": (70, "h"), "bits": (72, "h")} | {
    "qfac": (76, "f"),
    "pixdim1": (80, "f"),
    "vox_offset": (108, "f"),
    "slope": (112, "f"),
    "intercept": (116, "f"),
    "units": (123, "B"),
    "quatern_b": (256, "f"),
    "magic": (344, "4s"),
}


def values(dtype=np.int16, shape=(9, 8, 7)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def nifti(path, array=None, affine=RAS, sform=1, qform=0, order="<", **fields):
    """A file as nibabel writes it, with some header fields replaced by anything."""
    array = values() if array is None else array
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(array.dtype)
    image = nib.Nifti1Image(array, affine, header)
    image.set_sform(affine if sform else None, code=sform)
    image.set_qform(affine if qform else None, code=qform)
    content = bytearray(image.to_bytes())
    for name, value in fields.items():
        offset, kind = FIELDS[name]
        struct.pack_into(order + kind, content, offset, value)
    path.write_bytes(gzip.compress(bytes(content)) if path.name.endswith(".gz") else content)
    return path


def array_of(path) -> np.ndarray:
    """Indexed [i, j, k], as nibabel does."""
    return sitk.GetArrayFromImage(read_volume(path).image).T


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_type_in_both_byte_orders(tmp_path, dtype, order):
    array = values(dtype)
    path = nifti(tmp_path / "a.nii.gz", array, order=order)
    found = array_of(path)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    np.testing.assert_array_equal(found, np.asarray(nib.load(path).dataobj))


@pytest.mark.parametrize(
    ("slope", "intercept"),
    [(0, -1000), (np.nan, 5), (np.inf, 5), (1, 0), (2, 1), (1, -10), (-1, 0), (1e-17, 0), (1e-3, 7)],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float64])
def test_values_are_scaled_as_nibabel_scales_them(tmp_path, slope, intercept, dtype):
    path = nifti(tmp_path / "a.nii", values(dtype), slope=slope, intercept=intercept)
    expected = nib.load(path).get_fdata()
    found = array_of(path)
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()
    said = any("taken as they are stored" in warning for warning in read_volume(path).warnings)
    assert said == (slope == 0 or not np.isfinite(slope))
    if slope == 0 or not np.isfinite(slope):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, values(dtype))


def test_a_scaling_by_nothing_known_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected a number"):
        read_volume(nifti(tmp_path / "a.nii", slope=1.0, intercept=np.nan))
    with pytest.raises(InputError, match="NaN or infinite"):
        read_volume(nifti(tmp_path / "a.nii", slope=3e38, intercept=0))


@pytest.mark.parametrize(("code", "factor", "said"), [(0, 1, ""), (1, 1000, "meters"), (2, 1, ""), (3, 1e-3, "micro")])
@pytest.mark.parametrize("forms", [{"sform": 1}, {"sform": 0, "qform": 1}, {"sform": 1, "qform": 1}])
def test_lengths_in_other_units_become_mm(tmp_path, code, factor, said, forms):
    volume = read_volume(nifti(tmp_path / "a.nii", units=code, **forms))
    expected = np.diag([-1.0, -1, 1, 1]) @ RAS
    expected[:3] *= factor
    np.testing.assert_allclose(volume.grid.lps_from_ijk, expected, rtol=1e-6, atol=1e-6 * factor)
    assert len(volume.warnings) == bool(said) and said in "".join(volume.warnings)


def test_a_unit_that_is_none_is_said(tmp_path):
    volume = read_volume(nifti(tmp_path / "a.nii", units=7))
    assert len(volume.warnings) == 1 and "unit that is not known" in volume.warnings[0]
    np.testing.assert_allclose(volume.grid.spacing, (2, 3, 4))


@pytest.mark.parametrize("affine", [RAS, TURNED])
@pytest.mark.parametrize(("sform", "qform"), [(1, 0), (2, 0), (0, 1), (0, 4), (1, 1), (2, 1), (1, 2), (4, 1)])
def test_the_geometry_is_that_of_itk_and_slicer(tmp_path, affine, sform, qform):
    path = nifti(tmp_path / "a.nii", affine=affine, sform=sform, qform=qform)
    found, itk = read_volume(path), VolumeGrid.of(sitk.ReadImage(str(path)))
    assert found.grid.same_as(itk) and found.warnings == ()
    np.testing.assert_allclose(found.grid.lps_from_ijk, np.diag([-1.0, -1, 1, 1]) @ nib.load(path).affine, atol=1e-4)


def test_no_geometry_is_that_of_itk(tmp_path):
    path = nifti(tmp_path / "a.nii", sform=0)
    found = read_volume(path)
    assert found.grid.same_as(VolumeGrid.of(sitk.ReadImage(str(path))))
    assert len(found.warnings) == 1 and "does not say where" in found.warnings[0]


def test_the_sform_counts_where_the_voxel_size_beside_it_is_stale(tmp_path):
    """ITK mixes both; the standard and nibabel take the sform alone."""
    path = nifti(tmp_path / "a.nii", pixdim1=1.0)
    volume = read_volume(path)
    np.testing.assert_allclose(volume.grid.spacing, (2, 3, 4))
    np.testing.assert_allclose(volume.grid.lps_from_ijk, np.diag([-1.0, -1, 1, 1]) @ nib.load(path).affine)
    assert len(volume.warnings) == 1 and "1 x 3 x 4 mm (pixdim) and 2 x 3 x 4 mm" in volume.warnings[0]
    assert read_volume(nifti(tmp_path / "b.nii", pixdim1=np.nan)).grid.same_as(volume.grid)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pixdim1": 0.0}, "positive voxel sizes"),
        ({"pixdim1": np.nan}, "positive voxel sizes"),
        ({"quatern_b": 3.0}, "expected a rotation"),
        ({"quatern_b": np.nan}, "expected a rotation"),
        ({"qfac": -0.5}, "-0.5 where -1 or 1 should be"),
        ({"pixdim1": 1e20}, "expected voxels of"),
        ({"pixdim1": 1e-20}, "expected voxels of"),
        ({"pixdim1": 1e6}, "1000 times as long as wide"),
    ],
)
def test_a_qform_that_is_no_geometry(tmp_path, fields, message):
    with pytest.raises(GeometryError, match=message):
        read_volume(nifti(tmp_path / "a.nii", sform=0, qform=1, **fields))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("offset", [np.nan, np.inf, -5.0, 16.0, 348.0, 351.5, 353.5])
def test_voxels_that_begin_where_they_cannot(tmp_path, suffix, offset):
    with pytest.raises(InputError, match="the voxels begin at byte"):
        read_volume(nifti(tmp_path / f"a{suffix}", vox_offset=offset))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("offset", [353.0, 1e6, 1e30])
def test_voxels_that_begin_behind_the_end(tmp_path, suffix, offset):
    with pytest.raises(InputError, match="cut off or damaged"):
        read_volume(nifti(tmp_path / f"a{suffix}", vox_offset=offset))


def test_where_the_voxels_begin_may_be_left_out(tmp_path):
    path = nifti(tmp_path / "a.nii", vox_offset=0.0)
    np.testing.assert_array_equal(array_of(path), values())
    content = path.read_bytes()
    path.write_bytes(content[:348] + content[352:])  # no room for extensions
    np.testing.assert_array_equal(array_of(path), values())
    path.write_bytes(content + b"something else")
    with pytest.raises(InputError, match="begin at byte 0"):
        read_volume(path)


def test_extensions_before_the_voxels_are_skipped(tmp_path):
    content = nifti(tmp_path / "a.nii", vox_offset=371.0).read_bytes()
    (tmp_path / "a.nii").write_bytes(content[:352] + b"x" * 19 + content[352:])
    np.testing.assert_array_equal(array_of(tmp_path / "a.nii"), values())


def test_the_type_counts_where_bits_contradict_it(tmp_path):
    floats = values(np.float32)
    volume = read_volume(nifti(tmp_path / "a.nii", floats, bits=8))
    np.testing.assert_array_equal(volume.array.T, floats)
    assert len(volume.warnings) == 1 and "says 8 bits per voxel" in volume.warnings[0]
    content = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cut off"):
        read_volume(tmp_path / "a.nii")
    floats[-1, 2, 3] = np.nan
    with pytest.raises(InputError, match="1 of 504 voxels are NaN"):
        read_volume(nifti(tmp_path / "b.nii", floats, bits=8))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dim0": 0}, "1 to 7 positive sizes"),
        ({"dim0": 8}, "1 to 7 positive sizes"),
        ({"dim0": -3}, "1 to 7 positive sizes"),
        ({"dim0": 2}, "single slice"),
        ({"dim1": -9}, "1 to 7 positive sizes"),
        ({"dim1": 0}, "1 to 7 positive sizes"),
        ({"dim3": 32000}, "cut off"),
        ({"type": 1536}, "type code 1536"),
        ({"type": 1}, "type code 1"),
        ({"type": 64}, "cut off"),
        ({"magic": b"ni1\0"}, "a pair of .hdr and .img"),
        ({"magic": b"\0\0\0\0"}, "a pair of .hdr and .img"),
    ],
)
def test_headers_that_cannot_be(tmp_path, fields, message):
    for suffix in (".nii", ".nii.gz"):
        with pytest.raises(InputError, match=message):
            read_volume(nifti(tmp_path / f"a{suffix}", **fields))


def test_a_claim_of_much_costs_no_time_and_no_memory(tmp_path):
    """32767^3 voxels of 8 bytes in a file of a kilobyte."""
    path = nifti(tmp_path / "a.nii.gz", values(np.uint8, (32, 32, 32)), type=64)
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<3h", content, 42, 2000, 2000, 30)
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(InputError, match=r"cut off|Not enough memory"):
        read_volume(path)


def test_damage_inside_a_packed_file_is_found(tmp_path):
    path = nifti(tmp_path / "a.nii.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 255  # of the checksum
    path.write_bytes(content)
    with pytest.raises(InputError, match="cut off or damaged"):
        read_volume(path)


@pytest.mark.parametrize("kind", ["Nifti1Pair", "AnalyzeImage"])
@pytest.mark.parametrize("ending", [".hdr", ".img"])
def test_pairs_of_header_and_voxels(tmp_path, kind, ending):
    array = values(np.float32)
    nib.save(getattr(nib, kind)(array, RAS), tmp_path / "a.hdr")
    found = read_volume(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(found.array.T, array)
    assert found.grid.same_as(VolumeGrid.of(sitk.ReadImage(str(tmp_path / f"a{ending}"))))
    assert ("does not say where" in "".join(found.warnings)) == (kind == "AnalyzeImage")
    content = (tmp_path / "a.img").read_bytes()
    (tmp_path / "a.img").write_bytes(content[:-1])
    with pytest.raises(InputError, match="cut off"):
        read_volume(tmp_path / f"a{ending}")
    (tmp_path / "a.img").unlink()
    with pytest.raises(InputError, match=r"a\.img does not exist"):
        read_volume(tmp_path / f"a{ending}")


def test_sequences_colors_and_vectors_are_those_of_itk(tmp_path):
    frames = values(np.float32, (9, 8, 7, 5))
    nifti(tmp_path / "t.nii.gz", frames)
    color = np.zeros((9, 8, 7), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for name in "RGB":
        color[name] = np.random.default_rng(ord(name)).integers(0, 255, (9, 8, 7))
    nib.save(nib.Nifti1Image(color, RAS), tmp_path / "c.nii.gz")
    vectors = nib.Nifti1Image(values(np.float32, (9, 8, 7, 1, 3)), RAS)
    vectors.header.set_intent("vector")
    nib.save(vectors, tmp_path / "v.nii.gz")
    for name in ("t", "c", "v"):
        found, notes = read_image(tmp_path / f"{name}.nii.gz", "input")
        itk = sitk.ReadImage(str(tmp_path / f"{name}.nii.gz"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(itk))
        np.testing.assert_allclose(found.GetSpacing(), itk.GetSpacing())
        np.testing.assert_allclose(found.GetOrigin(), itk.GetOrigin())
        np.testing.assert_allclose(found.GetDirection(), itk.GetDirection())
        assert found.GetNumberOfComponentsPerPixel() == itk.GetNumberOfComponentsPerPixel() and notes == []
    with pytest.raises(InputError, match="series of 5 volumes"):
        read_volume(tmp_path / "t.nii.gz")
    with pytest.raises(InputError, match="color image"):
        read_volume(tmp_path / "c.nii.gz")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_sequences_that_are_cut_off_or_hold_no_numbers(tmp_path, suffix):
    frames = values(np.float32, (9, 8, 7, 5))
    path = nifti(tmp_path / f"a{suffix}", frames)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="cut off"):
        read_image(path, "input")
    frames[3, 2, 1, 4] = np.nan
    with pytest.raises(InputError, match="1 of 2520 voxels are NaN"):
        read_image(nifti(path, frames), "input")


def test_what_is_called_nifti_and_is_not(tmp_path):
    for name in ("a.nii", "a.nii.gz", "a.hdr"):
        (tmp_path / name).write_bytes(b"x" * 1000)
        (tmp_path / "a.img").write_bytes(b"x" * 1000)
        with pytest.raises(InputError, match="not an image file that can be read"):
            read_volume(tmp_path / name)
