"""What cannot be used, from the command line: a message that helps, exit code 2, nothing written."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.cli import worker

from .command import carlreg, names


@pytest.fixture
def wrong(pair, tmp_path):
    """wrong(kind): a path in the pair's folder to a file that is wrong in that way."""
    folder, good = pair[0].parent, sitk.ReadImage(str(pair[0]))
    array = sitk.GetArrayFromImage(good)
    array[2, 3, 4] = np.nan
    with_nan = sitk.GetImageFromArray(array)
    far_mask = sitk.Image(good > 400)
    far_mask.SetOrigin((5000, 0, 0))
    sheared = sitk.Image(good)
    sheared.SetDirection((1, 0, 0, 0, 1, 0.3, 0, 0, 1))
    images = {
        "flat.nii.gz": good[:, :, 3],
        "slice.nii.gz": good[:, :, 3:4],
        "series.nii.gz": sitk.JoinSeries([good, good]),
        "color.nii.gz": sitk.Compose([sitk.Cast(good > 100, sitk.sitkUInt8)] * 3),
        "nan.nii.gz": with_nan,
        "constant.nii.gz": good * 0 + 3,
        "sheared.mha": sheared,
        "empty mask.nii.gz": good > 1e6,
        "far mask.nii.gz": far_mask,
        "no labels.nii.gz": good,
    }
    texts = {
        "text.nii.gz": "hello",
        "text.h5": "hello",
        "text.trch": "hello",
        "text.csv": "hello",
        "half.csv": "x,y\n1,2",
        "outside.csv": "fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z\n40,44,48,44,40,50\n999,0,0,0,0,0\n",
    }

    def make(kind):
        path = folder / kind
        if kind in images:
            sitk.WriteImage(images[kind], str(path))
        elif kind in texts:
            path.write_text(texts[kind])
        elif kind == "folder":
            path.mkdir()
        return path

    return make


REGISTER = ["register", "{fixed}", "{moving}"]
CASES = [
    (["register", "text.nii.gz", "{moving}"], r"fixed image \(text.nii.gz\): not an image file"),
    (["register", "{fixed}", "folder"], "moving image.*without DICOM images"),
    (["register", "{fixed}", "flat.nii.gz"], "single slice"),
    (["register", "slice.nii.gz", "{moving}"], "single slice"),
    (["register", "series.nii.gz", "{moving}"], "series of 2 volumes.*Extract one"),
    (["register", "{fixed}", "color.nii.gz"], "color image.*Extract one"),
    (["register", "nan.nii.gz", "{moving}"], "1 of 10560 voxels are NaN"),
    (["register", "{fixed}", "constant.nii.gz"], "nothing to register"),
    (["register", "{fixed}", "sheared.mha"], "sheared"),
    ([*REGISTER, "--fixed-mask", "empty mask.nii.gz"], "fixed mask.*empty one"),
    ([*REGISTER, "--moving-mask", "far mask.nii.gz"], "moving mask.*no part of it lies on moving image"),
    ([*REGISTER, "--fixed-labels", "no labels.nii.gz", "--moving-labels", "{moving}"], "expected whole numbers"),
    ([*REGISTER, "--initial-transform", "text.h5"], "initial transform.*expected an ITK transform"),
    ([*REGISTER, "--initial-transform", "{fixed}"], "initial transform.*expected a displacement field.*got a volume"),
    ([*REGISTER, "--landmarks", "text.csv"], "landmarks.*fixed_x.* not found"),
    ([*REGISTER, "--landmarks-guide", "text.csv"], "landmarks guide.*fixed_x.* not found"),
    ([*REGISTER, "--landmarks-guide", "outside.csv"], "inside the fixed volume; 2 lies outside"),
    ([*REGISTER, "--fixed-landmarks-guide", "text.csv"], "or both --fixed-landmarks-guide and --moving-landmarks"),
    ([*REGISTER, "--fixed-segments-guide", "{fixed}"], "both --fixed-segments-guide and --moving-segments-guide"),
    ([*REGISTER, "--fixed-ignore", "empty mask.nii.gz"], "fixed ignore.*empty one"),
    ([*REGISTER, "--continue", "text.h5"], "continue.*expected an ITK transform"),
    ([*REGISTER, "--continue", "folder"], "continue: .*transform.h5 does not exist"),
    ([*REGISTER, "--continue", "text.h5", "--initial-transform", "text.h5"], "expected it alone"),
    ([*REGISTER, "--model", "carl-giant"], "carl-giant"),
    ([*REGISTER, "--model", "unigradicon"], "needs a weights file"),
    ([*REGISTER, "--weights", "text.trch"], "text.trch"),
    ([*REGISTER, "--model", "unigradicon", "--weights", "text.trch"], "text.trch"),
    ([*REGISTER, "--device", "cuda:7"], "cuda:7.*Choose cpu or auto"),
    (["apply", "text.h5", "{moving}"], "expected an ITK transform"),
    (["apply", "identity.tfm", "text.nii.gz"], "not an image file"),
    (["apply", "identity.tfm", "half.csv"], "z not found"),
    (["apply", "identity.tfm", "{moving}", "--reference", "text.nii.gz"], "not an image file"),
    (["evaluate", "text.h5", "{fixed}", "{moving}"], "expected an ITK transform"),
    (["evaluate", "identity.tfm", "{fixed}", "constant.nii.gz"], "nothing to register"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_refused(pair, wrong, tmp_path, capfd, arguments, message):
    sitk.WriteTransform(sitk.TranslationTransform(3), str(pair[0].parent / "identity.tfm"))
    names_of_options = {"register", "apply", "evaluate", "carl-giant", "unigradicon", "cuda:7"}
    places = {"fixed": pair[0], "moving": pair[1]}
    filled = [
        text.format(**places)
        if text.startswith("{")
        else text
        if text in names_of_options or text[0] == "-"
        else str(pair[0].parent / text if text == "identity.tfm" else wrong(text))
        for text in arguments
    ]
    out = tmp_path / ("out.csv" if filled[-1].endswith("half.csv") else "out.nii.gz" if filled[0] == "apply" else "out")
    before = names(tmp_path), names(pair[0].parent)
    assert worker.main([*filled, "--out", str(out), "--progress", "none"]) == 2
    printed, err = capfd.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert printed == "" and len(errors) == 1
    assert re.search(message, errors[0])
    assert "Traceback" not in err
    assert (names(tmp_path), names(pair[0].parent)) == before


def test_as_a_process(pair, wrong, tmp_path):
    outcome = carlreg("register", wrong("nan.nii.gz"), pair[1], "--out", tmp_path / "out", "--progress", "json")
    assert outcome.code == 2 and "NaN" in outcome.err
    assert [record["stage"] for record in outcome.records] == ["read"]
    assert names(tmp_path) == [pair[0].parent.name]


def test_json_lines(pair, tmp_path, fakes):
    fake = """
def run(progress):
    progress.weights = {'a': 1.0}
    with progress.stage('a', 'to "b"\\né'):
        pass
"""
    outcome = carlreg(
        "register", *pair, "--out", tmp_path / "out", "--progress", "json", fakes=fakes(registration=fake)
    )
    assert outcome.code == 0
    for record in outcome.records:
        assert set(record) == {"stage", "fraction", "seconds_left", "message"}
        assert 0.0 <= record["fraction"] <= 1.0
    assert [record["stage"] for record in outcome.records] == ["read", "read", "load", "a", "done"]
    assert outcome.records[-2]["message"] == 'to "b"\né' and outcome.records[-1]["fraction"] == 1.0
    assert json.loads((tmp_path / "out" / "quality.json").read_text()) == {"warnings": []}
