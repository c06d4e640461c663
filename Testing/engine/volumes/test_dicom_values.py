"""Series of single slices: values, types and grids are those of ITK's own reader, or the right ones where it errs."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import GeometryError, InputError
from carlreg.volumes import read_volume
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from .dicom_files import MR, ORIGIN, PET, SPACING, moved, positions, save_series, values

OBLIQUE = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]


def by_itk(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def assert_same(found, expected):
    assert found.GetPixelID() == expected.GetPixelID()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(expected))
    for part in ("GetOrigin", "GetSpacing", "GetDirection", "GetSize"):
        assert getattr(found, part)() == getattr(expected, part)()


@pytest.mark.parametrize(("bits", "used"), [(8, 8), (16, 16), (16, 12), (32, 32)])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize(
    "scaling", [None, (1, 0), (1, -1024), (2, 5), (-1, 0), (0.5, 0), (1, 0.5), (100000, 0)], ids=str
)
def test_values_types_and_grids_are_those_of_itk(tmp_path, bits, used, signed, scaling):
    low, high = (-(2 ** (used - 1)), 2 ** (used - 1)) if signed else (0, 2**used)
    rows, columns = OBLIQUE[0], OBLIQUE[1]
    places = [ORIGIN + 2.3 * k * np.cross(rows, columns) for k in range(5)]
    elements = {} if scaling is None else {"RescaleSlope": f"{scaling[0]:g}", "RescaleIntercept": scaling[1]}
    syntax = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)[bits // 16 % 2]
    save_series(
        tmp_path,
        values(5, low, high),
        places,
        axes=(*rows, *columns),
        bits=bits,
        used=used,
        signed=signed,
        syntax=syntax,
        **elements,
    )
    assert_same(read_volume(tmp_path).image, by_itk(tmp_path))


@pytest.mark.parametrize("kind", [MR, PET, "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.481.1"])
def test_every_kind_of_image_is_scaled(tmp_path, kind):
    save_series(tmp_path, values(), kind=kind, RescaleSlope=2, RescaleIntercept=-5)
    np.testing.assert_array_equal(read_volume(tmp_path).array, values() * 2 - 5)


def test_big_endian(tmp_path):
    save_series(tmp_path, values(), syntax=ExplicitVRBigEndian)
    assert_same(read_volume(tmp_path).image, by_itk(tmp_path))


@pytest.mark.parametrize("compressor", ["JPEG2000", "JPEG"])
def test_compressed_series_are_those_of_itk(tmp_path, compressor):
    stored = np.random.default_rng(0).integers(0, 1000, (6, 32, 40)).astype(np.int16)
    scan, writer = sitk.GetImageFromArray(stored), sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    for k in range(6):
        plane = scan[:, :, k]
        for tag, value in {"0008|0060": "MR", "0020|000e": "1.2.3.4", "0020|0032": f"0\\0\\{3 * k}"}.items():
            plane.SetMetaData(tag, value)
        plane.SetMetaData("0020|0037", "1\\0\\0\\0\\1\\0")
        writer.SetFileName(str(tmp_path / f"{k}.dcm"))
        writer.Execute(plane)
    found = read_volume(tmp_path).image
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), stored)
    assert_same(found, by_itk(tmp_path))


def test_each_slice_has_its_own_slope(tmp_path):
    """As in PET; the first slice's is whole, which made ITK round the others."""
    slopes = [1.0, 0.37, 0.0001, 2.5, 0.125, 1.0]
    stored = values(low=0, high=30000)
    save_series(tmp_path, stored, kind=PET, change=lambda k: {"RescaleSlope": slopes[k], "RescaleIntercept": 0})
    volume = read_volume(tmp_path)
    np.testing.assert_allclose(volume.array, stored * np.array(slopes)[:, None, None], rtol=1e-6)
    assert volume.image.GetPixelID() == sitk.sitkFloat64


def test_whole_slopes_of_which_the_first_is_small_do_not_wrap(tmp_path):
    """ITK takes the first slice's type for all: 300 times 3000 would not fit."""
    save_series(
        tmp_path,
        values(low=0, high=30000),
        signed=False,
        change=lambda k: {"RescaleSlope": 1 if k == 0 else 100 * k, "RescaleIntercept": -k},
    )
    factors, offsets = np.array([1, 100, 200, 300, 400, 500]), np.arange(6)
    expected = values(low=0, high=30000) * factors[:, None, None] - offsets[:, None, None]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_volume(tmp_path).image), expected)


@pytest.mark.parametrize(("signed", "used"), [(False, 12), (False, 16), (True, 16)])
def test_bright_by_low_numbers_is_inverted_as_itk_does_and_said(tmp_path, signed, used):
    stored = values(low=0, high=2000)
    save_series(tmp_path, stored, signed=signed, used=used, PhotometricInterpretation="MONOCHROME1")
    volume = read_volume(tmp_path)
    assert_same(volume.image, by_itk(tmp_path))
    assert len(volume.warnings) == 1 and "MONOCHROME1" in volume.warnings[0]


def test_a_slope_of_zero_counts_as_one(tmp_path):
    save_series(tmp_path, values(), RescaleSlope=0, RescaleIntercept=0)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, values())
    assert len(volume.warnings) == 1 and "slope of 0" in volume.warnings[0]


def test_a_missing_pixel_spacing_is_said(tmp_path):
    save_series(tmp_path, values(), PixelSpacing=None)
    volume = read_volume(tmp_path)
    assert volume.grid.spacing.tolist() == [1, 1, 3] and "size of a pixel" in volume.warnings[0]
    save_series(tmp_path / "b", values(), PixelSpacing=None, ImagerPixelSpacing=[2.5, 2.0])
    np.testing.assert_allclose(read_volume(tmp_path / "b").grid.spacing, SPACING)


@pytest.mark.parametrize("numbered", [True, False])
def test_slices_without_places_go_by_number_else_by_name(tmp_path, numbered):
    save_series(
        tmp_path,
        values(),
        change=lambda k: {"ImagePositionPatient": None, "InstanceNumber": 6 - k if numbered else 1},
        SliceThickness=4,
    )
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, values()[::-1] if numbered else values())
    assert volume.grid.spacing[2] == 4 and "do not say where they lie" in volume.warnings[0]


def test_slices_that_differ_in_pixel_spacing_are_refused(tmp_path):
    save_series(tmp_path, values(), change=lambda k: {"PixelSpacing": [2.5, 2.0 + 0.1 * (k == 3)]})
    with pytest.raises(GeometryError, match="differ in size or orientation"):
        read_volume(tmp_path)


def test_slices_beside_a_straight_line_are_refused(tmp_path):
    places = [moved(9 * (k == 3), 0, 0, start=place) for k, place in enumerate(positions(6))]
    save_series(tmp_path, values(), places)
    with pytest.raises(GeometryError, match="straight line: some are 9 mm beside it"):
        read_volume(tmp_path)


def test_a_slice_without_a_place_among_others_is_refused(tmp_path):
    save_series(tmp_path, values(), change=lambda k: {"ImagePositionPatient": None} if k == 5 else {})
    with pytest.raises(GeometryError, match=r"2: 5 x 7 pixels, .*without a position, 1 slices"):
        read_volume(tmp_path)


def test_mosaics_are_refused(tmp_path):
    save_series(tmp_path, values(), ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])
    with pytest.raises(InputError, match="mosaics"):
        read_volume(tmp_path)


def test_a_text_in_another_alphabet(tmp_path):
    save_series(tmp_path, values(), SpecificCharacterSet="ISO_IR 144", SeriesDescription="Голова")
    assert read_volume(tmp_path).dicom["SeriesDescription"] == "Голова"
