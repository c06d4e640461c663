"""NIfTI headers that SimpleITK refuses, or takes and silently changes."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import GeometryError, InputError
from carlreg.io.nifti_header import new_header, parse, put
from carlreg.spaces import VolumeGrid
from carlreg.volumes import read_volume

nib = pytest.importorskip("nibabel")

PLAIN = [[2.0, 0, 0, 1], [0, 2, 0, 2], [0, 0, 3, 3]]


def write(path, rows, sform_code=1, qform_code=0, spacing=(2, 2, 3), order="<"):
    """A file with exactly these header fields; the qform, when its code says so, is axis-aligned at the origin."""
    header = nib.Nifti1Header(endianness=order)
    header.set_data_shape((10, 9, 8))
    header.set_data_dtype(np.float32)
    header["sform_code"], header["qform_code"] = sform_code, qform_code
    header["srow_x"], header["srow_y"], header["srow_z"] = rows
    header["pixdim"][:4] = (1, *spacing)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    values = np.random.default_rng(0).random(720).astype(f"{order}f4").tobytes()
    path.write_bytes(header.binaryblock + b"\0\0\0\0" + values)
    return path


@pytest.mark.parametrize("order", "<>")
def test_plain_sform(tmp_path, order):
    volume = read_volume(write(tmp_path / "a.nii", PLAIN, order=order))
    np.testing.assert_allclose(volume.grid.spacing, (2, 2, 3))
    np.testing.assert_allclose(volume.grid.origin_lps, (-1, -2, 3))
    assert volume.warnings == ()


@pytest.mark.parametrize("qform_code", [0, 1])
@pytest.mark.parametrize(
    ("third", "message"),
    [((0.0, 0.6, 3.0), "11 degrees"), ((0, 0.01, 3), "0.19 degrees"), ((0, 0, 0), "singular"), ((2, 0, 0), "singular")],
)
def test_sheared_and_singular_sform(tmp_path, qform_code, third, message):
    """With a qform beside it SimpleITK would take that one and say nothing on the result."""
    rows = np.array(PLAIN)
    rows[:, 2] = third
    path = write(tmp_path / "a.nii", rows, qform_code=qform_code)
    if qform_code and message != "singular":
        assert sitk.ReadImage(str(path)).GetSize() == (10, 9, 8)
    with pytest.raises(GeometryError, match=message):
        read_volume(path)


def test_not_a_number_in_the_sform(tmp_path):
    rows = np.array(PLAIN)
    rows[0, 3] = np.nan
    with pytest.raises(GeometryError, match="not a number"):
        read_volume(write(tmp_path / "a.nii", rows))


def test_rounded_axes_are_taken_although_the_reader_alone_refuses(tmp_path):
    rows = np.array(PLAIN)
    rows[1, 2] = 0.002  # 0.04 degrees
    path = write(tmp_path / "a.nii", rows)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(path))
    grid = read_volume(path).grid
    np.testing.assert_allclose(grid.direction.T @ grid.direction, np.eye(3), atol=1e-9)
    exact = np.diag([-1.0, -1, 1]) @ (rows[:, :3] @ [9, 8, 7] + rows[:, 3])
    np.testing.assert_allclose(grid.lps_from_ijk[:3] @ [9, 8, 7, 1], exact, atol=0.03)
    with pytest.raises(RuntimeError, match="orthonormal"):  # the tolerance ended with the call
        sitk.ReadImage(str(path))


def test_two_geometries_that_differ_are_said(tmp_path):
    turned = [[0.0, 2, 0, 1], [-2, 0, 0, 2], [0, 0, 3, 3]]
    volume = read_volume(write(tmp_path / "a.nii", turned, sform_code=2, qform_code=1))
    assert len(volume.warnings) == 1 and "two geometries, up to 32" in volume.warnings[0]


def test_sform_of_another_space_beside_a_scanner_qform_may_be_sheared(tmp_path):
    """Tools store an affine to a template there (code 4); the qform stays the scanner's."""
    rows = np.array(PLAIN)
    rows[1, 2] = 0.6
    volume = read_volume(write(tmp_path / "a.nii", rows, sform_code=4, qform_code=1))
    assert len(volume.warnings) == 1


def test_no_geometry_at_all_is_said(tmp_path):
    volume = read_volume(write(tmp_path / "a.nii", PLAIN, sform_code=0))
    assert len(volume.warnings) == 1 and "does not say where" in volume.warnings[0]


def test_cut_off_file_that_the_reader_would_fill_with_zeros(tmp_path):
    whole = write(tmp_path / "a.nii", PLAIN).read_bytes()
    packed = tmp_path / "b.nii.gz"
    packed.write_bytes(gzip.compress(whole)[:-500])
    assert sitk.ReadImage(str(packed)).GetSize() == (10, 9, 8)
    with pytest.raises(InputError, match="ends before the 3232 bytes"):
        read_volume(packed)
    packed.write_bytes(gzip.compress(whole[:-400]))  # a whole archive of a part
    with pytest.raises(InputError, match="ends before the 3232 bytes"):
        read_volume(packed)


def test_archives_of_several_parts_and_with_padding_are_whole(tmp_path):
    whole = write(tmp_path / "a.nii", PLAIN).read_bytes()
    for name, packed in (
        ("parts.nii.gz", gzip.compress(whole[:1000]) + gzip.compress(whole[1000:])),
        ("padded.nii.gz", gzip.compress(whole + b"\0" * 100)),
        ("plain.nii.gz", whole),
    ):
        (tmp_path / name).write_bytes(packed)
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, read_volume(tmp_path / "a.nii").array)


def test_nifti_2_is_named(tmp_path):
    nib.save(nib.Nifti2Image(np.zeros((8, 8, 8), np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="a NIfTI-2 file"):
        read_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("order", "<>")
def test_fields_are_those_that_nibabel_wrote(order):
    header = nib.Nifti1Header(endianness=order)
    header.set_data_shape((10, 9, 8, 1, 3))
    header.set_data_dtype(np.float64)
    header.set_intent(1006)
    header.set_xyzt_units("mm")
    header.set_sform(np.diag([2.0, 3.0, 4.0, 1.0]), code=2)
    header.set_qform(np.eye(4), code=1)
    header["vox_offset"] = 368
    found = parse(header.binaryblock + bytes(20))
    assert found is not None and found.sizes == (10, 9, 8, 1, 3) and found.intent == 1006
    assert (found.data_offset, found.data_bytes, found.voxel_count) == (368, 368 + 10 * 9 * 8 * 3 * 8, 2160)
    assert found.float_type == np.dtype(f"{order}f8") and found.in_mm
    assert (found.qform_code, found.sform_code) == (1, 2)
    np.testing.assert_array_equal(found.ras_from_ijk, np.diag([2.0, 3.0, 4.0, 1.0]))


def test_what_is_no_header_is_none():
    assert parse(bytes(348)) is None and parse(b"") is None
    assert parse(nib.Nifti1Header().binaryblock[:347]) is None


def test_headers_that_are_made_say_to_nibabel_what_was_put_in():
    grid = VolumeGrid((5, 6, 7), (1.5, 2.0, 2.5), (10.0, 20.0, 30.0), np.diag([-1.0, -1.0, 1.0]))
    made = new_header(np.dtype(np.float32), grid, vectors=True, sizes=(5, 5, 6, 7, 1, 3, 1, 1))
    put(made, "intent_code", 1007)
    put(made, "intent_name", b"name")
    put(made, "descrip", b"made here")
    put(made, "scl_slope", 2.0, -1.0)
    read = nib.Nifti1Header(bytes(made[:348]))
    assert read.get_data_shape() == (5, 6, 7, 1, 3) and int(read["intent_code"]) == 1007
    assert bytes(read["intent_name"].item()) == b"name" and bytes(read["descrip"].item()) == b"made here"
    assert read.get_slope_inter() == (2.0, -1.0)
    np.testing.assert_allclose(read.get_sform()[:3, 3], [-10.0, -20.0, 30.0])
    np.testing.assert_allclose(read.get_zooms()[:3], (1.5, 2.0, 2.5))
