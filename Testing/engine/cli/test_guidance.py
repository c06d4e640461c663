"""Guidance on the command line: landmarks reach the map and the result folder, and a result is gone on from."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.cli import worker
from carlreg.io.guide_points import read_guide
from carlreg.volumes import read_transform

QUICK = ["--allow-untrained", "--grid", "32", "--threads", "1", "--progress", "none"]


@pytest.mark.whole
def test_landmarks_and_continue(pair, tmp_path):
    table = tmp_path / "points.csv"
    table.write_text(
        "name,fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z,on\n"
        "tip,48,44,40,50,41,44,1\nwrong,20,20,20,70,20,20,0\nedge,60,50,40,62.5,46,44,1\n"
    )
    first, second = tmp_path / "first", tmp_path / "second"
    options = ["--landmarks-guide", str(table), "--landmarks-accuracy", "0", "--io-steps", "4"]
    assert worker.main(["register", *map(str, pair), "--out", str(first), *QUICK, *options]) == 0
    itk, points = read_transform(first / "transform.h5"), read_guide(first / "guide.csv")
    assert points.names == ("tip", "wrong", "edge") and points.on.tolist() == [True, False, True]
    fixed, moving, _ = points.used
    missed = [
        np.linalg.norm(np.subtract(itk.TransformPoint(a), b)) for a, b in zip(fixed.tolist(), moving, strict=True)
    ]
    assert max(missed) < 0.1  # of 4 mm
    stored = json.loads((first / "settings.json").read_text())
    assert stored["settings"]["landmarks_accuracy_mm"] == 0 and stored["info"]["landmarks_guide"]["count"] == 2
    assert "guide.csv" in stored["files"]

    options = ["--continue", str(first), "--io-steps", "0"]
    assert worker.main(["register", *map(str, pair), "--out", str(second), *QUICK, *options]) == 0
    again = read_transform(second / "transform.h5")
    for point in fixed.tolist():
        np.testing.assert_allclose(again.TransformPoint(point), itk.TransformPoint(point), atol=1e-3)
    assert json.loads((second / "quality.json").read_text())["start"] == "continued"


def test_rigid_segments_in_a_continued_result(pair, tmp_path):
    """One segment, made rigid in a map that stretches: settings, table, report and the delivered map agree."""
    fixed = sitk.ReadImage(str(pair[0]))
    array = np.zeros(fixed.GetSize()[::-1], dtype=np.uint8)
    middle = tuple(slice(n // 2 - 4, n // 2 + 4) for n in array.shape)
    array[middle] = 3
    labels = sitk.GetImageFromArray(array)
    labels.CopyInformation(fixed)
    sitk.WriteImage(labels, str(tmp_path / "bone.nii.gz"))
    stretch = sitk.AffineTransform(3)
    stretch.Scale((1.04, 0.98, 1.0))
    sitk.WriteTransform(stretch, str(tmp_path / "stretch.tfm"))
    options = ["--continue", str(tmp_path / "stretch.tfm"), "--io-steps", "0", "--report"]
    options += ["--rigid-segments", str(tmp_path / "bone.nii.gz"), "--rigid-reference", "3"]
    out = tmp_path / "out"
    assert worker.main(["register", *map(str, pair), "--out", str(out), *QUICK, *options]) == 0
    jacobian = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "jacobian.nii.gz")))
    assert np.abs(jacobian[middle] - 1).max() < 0.01 and jacobian.min() > 0
    (one,) = json.loads((out / "quality.json").read_text())["motions"]
    assert one["name"] == "3" and one["voxels"] == 512 and one["rotation_degrees"] < 1e-6
    info = json.loads((out / "settings.json").read_text())["info"]
    assert info["rigid_segments"] == ["3"] and info["rigid_reference"] == "3"
    page = (out / "report.html").read_text()
    assert "Motion of segments" in page and "relative to 3" in page
    assert (out / "motions.csv").read_text().startswith("segment,kind,relative_to,rotation_degrees")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rigid-reference", "L5"], "rigid reference: expected --rigid-segments too"),
        (["--rigid-segments", "nowhere.nii.gz"], "rigid segments: nowhere.nii.gz does not exist"),
        (["--stiff-segments", "nowhere.nii.gz"], "stiff segments: nowhere.nii.gz does not exist"),
    ],
)
def test_bodies_that_cannot_be_used_are_refused_at_once(pair, tmp_path, capsys, options, message):
    assert worker.main(["register", *map(str, pair), "--out", str(tmp_path / "out"), *QUICK, *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
