"""The picture sheet: radiological orientation, true proportions, folds that catch the eye."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.outputs import sheet, write_sheet
from carlreg.spaces import VolumeGrid

GRID = VolumeGrid((50, 40, 30), (1.0, 1.0, 2.0), (-25.0, -20.0, -30.0), np.eye(3))


def with_marks() -> sitk.Image:
    """A block with bright marks at the patient's right, in front, and at the top."""
    array = np.full(GRID.shape_dhw, 20.0, np.float32)
    array[4:26, 5:35, 6:44] = 100
    array[13:18, 15:25, 6:12] = 250  # right: small L
    array[13:18, 5:10, 20:30] = 250  # anterior: small P
    array[22:26, 15:25, 20:30] = 250  # superior: large S
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(GRID.spacing.tolist())
    image.SetOrigin(GRID.origin_lps.tolist())
    return image


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LAS", "PIR", "SAL"])
def test_planes_look_the_same_from_every_orientation(orientation):
    image = sitk.DICOMOrient(with_marks(), orientation)
    (axial, coronal, sagittal), mm = sheet.planes(image, sheet._middle(image))
    assert axial.shape == (40, 50)
    assert coronal.shape == (30, 50)
    assert sagittal.shape == (30, 40)
    assert mm == [(1.0, 1.0), (2.0, 1.0), (2.0, 1.0)]
    marks = [np.argwhere(plane > 200).mean(axis=0) / plane.shape for plane in (axial, coronal, sagittal)]
    bright = axial > 200
    assert bright[:, :25].sum() > bright[:, 30:].sum()  # right of the patient on the left
    assert bright[:20].sum() > bright[20:].sum()  # front up
    assert (coronal > 200)[:10].any()  # top up
    assert not (coronal > 200)[20:].any()
    assert (sagittal > 200)[10:20, :12].any()  # nose to the left
    assert all(mark.min() > 0 for mark in marks)


@pytest.mark.parametrize("captions", [True, False])
def test_sheet_is_written_with_and_without_pillow(tmp_path, monkeypatch, captions):
    if captions:
        pytest.importorskip("PIL")
    else:
        monkeypatch.setitem(sys.modules, "PIL", None)
    image = with_marks()
    array = sitk.GetArrayFromImage(image)
    jacobian = np.ones_like(array)
    jacobian[tuple(sheet._middle(image)[::-1])] = -0.5
    path = tmp_path / "sheet.png"
    write_sheet(image, array[:, :, ::-1], array, jacobian, path)
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert picture.shape[1] == 7 * (sheet.CELL + sheet.GAP) + sheet.GAP
    header = picture[: sheet.HEADER - 2]
    assert header.any() == captions

    def cell(row, column):
        top, left = sheet.HEADER + row * (sheet.CELL + sheet.GAP), sheet.GAP + column * (sheet.CELL + sheet.GAP)
        return picture[top : top + sheet.CELL, left : left + sheet.CELL].astype(int)

    # Equal volumes: a gray overlay and an even difference; a mirrored one is neither.
    overlay = cell(0, 3)
    assert np.abs(overlay[..., 0] - overlay[..., 1]).max() <= 1
    rows = slice(60, 180)  # the picture's part of the cell
    assert np.ptp(cell(0, 5)[rows]) <= 1
    assert np.ptp(cell(0, 4)[rows]) > 50
    # One folded voxel is seen in every plane through it.
    magenta = (np.abs(cell(0, 6) - [255, 0, 255]).max(axis=-1) == 0).sum()
    assert magenta >= (sheet.CELL / 50) ** 2 * 0.6


def test_a_single_fold_survives_shrinking():
    picture = np.zeros((600, 500, 3), np.float32)
    picture[333, 123] = sheet._FOLD
    cell = sheet._cell(picture, (1.0, 1.0), smooth=False)
    assert (np.abs(cell.astype(int) - [255, 0, 255]).max(axis=-1) == 0).any()
