"""Guidance on the command line: landmarks reach the map and the result folder, and a result is gone on from."""

import json

import numpy as np
import pytest
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
