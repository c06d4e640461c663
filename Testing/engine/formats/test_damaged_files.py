"""Files of other programs that are damaged, or meant to be: refused in a sentence, in bounded time."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg import formats
from carlreg.cli.register import read_label_names
from carlreg.errors import InputError
from carlreg.formats.elastix import is_parameter_file
from carlreg.formats.surfaces import map_surface
from carlreg.io import points
from carlreg.io.points import map_points_file, read_landmarks

AFFINE = '(Transform "AffineTransform")\n(TransformParameters 1 0 0 0 1 0 0 0 1 4 5 6)\n(CenterOfRotationPoint 0 0 0)\n'
SPLINE = (
    '(Transform "BSplineTransform")\n(GridSize 5 6 7)\n(GridIndex 0 0 0)\n(GridSpacing 60 50 40)\n(GridOrigin 1 2 3)\n'
    "(GridDirection 1 0 0 0 1 0 0 0 1)\n(BSplineTransformSplineOrder 3)\n"
)
COEFFICIENTS = np.random.default_rng(0).normal(0, 3, 3 * 5 * 6 * 7)
SPLINE += f"(TransformParameters {' '.join(map(repr, COEFFICIENTS.tolist()))})\n"
HEADER = "fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z\n"


def read(path: Path, text: str):
    path.write_text(text)
    return formats.read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (AFFINE + "(FixedImageDimension )\n", "a value for FixedImageDimension"),
        (AFFINE + "(FixedImageDimension 2)\n", "expected a 3-D transform"),
        (AFFINE + '(InitialTransformParameterFileName "' + "x" * 3000 + '")\n', "which is not there"),
        (AFFINE + '(InitialTransformParameterFileName "a\tb")\n', "which is not there"),
        (AFFINE + "(CenterOfRotationPoint 0 0 0)\n", "is there twice"),
        (AFFINE.replace("4 5 6)", "4 5 nan)"), "got 'nan'"),
        (AFFINE.replace("4 5 6)", "4 5 1e308)"), "ten kilometers"),
        (AFFINE.replace("4 5 6)", "4 5)"), "expected 12 numbers"),
        (AFFINE + "(Size 1 2 3\n", "lines like"),
        (AFFINE + '(Size "1 2 3)\n', "lines like"),
        ('(Transform "DeformationFieldTransform")\n(DeformationFieldFileName )\n', "a value for Deformation"),
        ('(Transform "DeformationFieldTransform")\n', "which is not there"),
        (SPLINE.replace("Order 3", "Order 7"), "order 1, 2 or 3, got 7"),
        (SPLINE.replace("Order 3", "Order 2.5"), "order 1, 2 or 3, got 2.5"),
        (SPLINE.replace("Spacing 60", "Spacing 0"), "positive voxel spacing"),
        (SPLINE.replace("Spacing 60", "Spacing -60"), "positive voxel spacing"),
        (SPLINE.replace("Direction 1", "Direction 0"), "orthonormal"),
        (SPLINE.replace("Size 5 6 7", "Size -5 -6 7"), "at least 4 nodes"),
        (SPLINE.replace("Size 5 6 7", "Size 5 6 8"), "expected 720 parameters"),
        (SPLINE.replace("Index 0 0 0", "Index 1e308 0 0"), "ten kilometers"),
    ],
)
def test_elastix_files_that_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path / "e.txt", text)
    assert len(str(caught.value)) < 400


def test_an_elastix_spline_is_itks(tmp_path):
    found = read(tmp_path / "e.txt", SPLINE).transform
    ours = sitk.BSplineTransform(3, 3)
    ours.SetFixedParameters([5, 6, 7, 1, 2, 3, 60, 50, 40, 1, 0, 0, 0, 1, 0, 0, 0, 1])
    ours.SetParameters(COEFFICIENTS.tolist())
    for point in ((130.0, 140.0, 150.0), (100.0, 160.0, 120.0)):
        np.testing.assert_allclose(found.TransformPoint(point), ours.TransformPoint(point), atol=1e-9)


def test_long_blanks_take_no_time(tmp_path):
    begin = time.perf_counter()
    for blanks in ("\n" * 60_000, " " * 60_000, "( " * 30_000, "(Transform " + " " * 60_000):
        assert not is_parameter_file(blanks.encode())
        with pytest.raises(InputError):
            read(tmp_path / "e.txt", AFFINE + blanks + "(")
    assert time.perf_counter() - begin < 3


def test_a_chain_of_forty_files_is_refused(tmp_path):
    for number in range(40):
        text = AFFINE + f'(InitialTransformParameterFileName "{number + 1}.txt")\n'
        (tmp_path / f"{number}.txt").write_text(text)
    with pytest.raises(InputError, match="more than 32"):
        formats.read(tmp_path / "0.txt")


def test_a_field_of_nan_that_an_elastix_file_names_is_refused(tmp_path):
    image = sitk.GetImageFromArray(np.full((8, 8, 8, 3), np.nan), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "f.mha"))
    text = '(Transform "DeformationFieldTransform")\n(DeformationFieldFileName "f.mha")\n'
    with pytest.raises(InputError, match=r"the field f\.mha"):
        read(tmp_path / "e.txt", text)


def test_a_matrix_before_more_text_than_is_looked_at_is_no_matrix(tmp_path):
    (tmp_path / "m.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1" + " " * 70_000 + "and more")
    with pytest.raises(InputError, match="expected an ITK transform"):
        formats.read(tmp_path / "m.txt", convention="lps")


def markups(points: str) -> str:
    return f'{{"markups": [{{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": {points}}}]}}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (markups('[{"position": null}]'), "three numbers"),
        (markups('[{"position": true}]'), "three numbers"),
        (markups('[{"position": [true, 0, 0]}]'), "a number in mm, got True"),
        (markups(f'[{{"position": [{"9" * 400}, 0, 0]}}]'), "too large"),
        (markups('[{"position": [1e300, 0, 0]}]'), "more than ten kilometers"),
        (markups('[{"position": {"x": 1}}]'), "three numbers"),
        (markups("null"), "a list of points, got None"),
        (markups("[1]"), "a list of points"),
        ('{"markups": ["a"]}', "with a list of markups"),
        ('{"markups": null}', "with a list of markups"),
        ("[]", "with values by name"),
        ('{"markups": ' + "[" * 100_000, "nested too deeply"),
        (markups("[]").replace("Fiducial", "ROI"), "'ROI' are not points"),
        (markups("[]").replace("LPS", "IJK"), "LPS or RAS, got 'IJK'"),
    ],
)
def test_markups_that_are_refused(tmp_path, text, message):
    (tmp_path / "p.mrk.json").write_text(text)
    with pytest.raises(InputError, match=message):
        map_points_file(tmp_path / "p.mrk.json", lambda points: points)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "1e308,2,3,4,5,6\n", "more than ten kilometers"),
        (HEADER + "1_0,2,3,4,5,6\n", "a number in mm, got '1_0'"),
        (HEADER.replace("moving_z", "moving_z,fixed_x") + "1,2,3,4,5,6,7\n", "fixed_x is there twice"),
    ],
)
def test_landmarks_that_are_refused(tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_landmarks(tmp_path / "p.csv")


def test_too_many_landmarks_are_refused(tmp_path, monkeypatch):
    assert points._MOST_POINTS == 1_000_000
    monkeypatch.setattr(points, "_MOST_POINTS", 1000)
    (tmp_path / "p.csv").write_text(HEADER + "1,2,3,4,5,6\n" * 1000)
    assert len(read_landmarks(tmp_path / "p.csv")[0]) == 1000
    (tmp_path / "p.csv").write_text(HEADER + "1,2,3,4,5,6\n" * 1001)
    with pytest.raises(InputError, match="at most 1000 points"):
        read_landmarks(tmp_path / "p.csv")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_are_kept(tmp_path, separator):
    (tmp_path / "p.csv").write_text("name,x,y,z\na,1,2,3\n".replace(",", separator))
    found = map_points_file(tmp_path / "p.csv", lambda points: points + 1)
    assert found == "name,x,y,z\na,2.000000,3.000000,4.000000\n".replace(",", separator)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"x": "liver"}', '{"1": null}', '{"1e9": "a"}', "[]", '{"1": "\\ud800"}']
)
def test_label_names_that_are_refused(tmp_path, text):
    (tmp_path / "n.json").write_text(text)
    with pytest.raises(InputError, match="label names"):
        read_label_names(str(tmp_path / "n.json"))
    (tmp_path / "n.json").write_text(json.dumps({"3": "liver"}))
    assert read_label_names(str(tmp_path / "n.json")) == {3: "liver"}


@pytest.mark.parametrize(("ending", "binary"), [("vtk", True), ("vtk", False), ("stl", True), ("ply", True)])
def test_surface_models_that_are_cut_off_are_refused(tmp_path, ending, binary):
    """VTK itself makes half a model of some, and ends the process on others."""
    pytest.importorskip("vtkmodules")
    from vtkmodules.vtkFiltersSources import vtkSphereSource
    from vtkmodules.vtkIOGeometry import vtkSTLWriter
    from vtkmodules.vtkIOLegacy import vtkPolyDataWriter
    from vtkmodules.vtkIOPLY import vtkPLYWriter

    sphere = vtkSphereSource()
    writer = {"vtk": vtkPolyDataWriter, "stl": vtkSTLWriter, "ply": vtkPLYWriter}[ending]()
    writer.SetInputConnection(sphere.GetOutputPort())
    writer.SetFileName(str(tmp_path / f"m.{ending}"))
    if binary:
        writer.SetFileTypeToBinary()
    writer.Write()
    whole = (tmp_path / f"m.{ending}").read_bytes()
    assert map_surface(tmp_path / f"m.{ending}", tmp_path / f"o.{ending}", lambda points: points + 1.0, "lps") == "lps"
    (tmp_path / f"c.{ending}").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(InputError, match=rf"c\.{ending}: "):
        map_surface(tmp_path / f"c.{ending}", tmp_path / f"p.{ending}", lambda points: points, "lps")
    assert not (tmp_path / f"p.{ending}").exists()
