"""The commands as a user runs them, one after the other, on a generated pair with a known map."""

from __future__ import annotations

import csv
import json
import sys
import time

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.cli import worker
from carlreg.phantom import make_pair

from .command import carlreg, finish, names, start
from .test_cancel import assert_cancelled

FILES = ["inverse_transform.h5", "jacobian.nii.gz", "quality.json", "settings.json", "transform.h5"]
FILES += ["uncertainty.nii.gz", "warped.nii.gz"]
# Untrained: these tests are about the command line; the registration finds its start without the network.
QUICK = ["--allow-untrained", "--grid", "64", "--io-steps", "12", "--threads", "1", "--seed", "3"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The pair on disk and one registration of it."""
    folder = tmp_path_factory.mktemp("Größe 3 mm")
    pair = make_pair(spacing_mm=8.0)
    for name in ("fixed", "moving", "fixed_labels", "moving_labels"):
        sitk.WriteImage(getattr(pair, name), str(folder / f"{name}.nii.gz"))
    with open(folder / "points.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([f"{side}_{axis}" for side in ("fixed", "moving") for axis in "xyz"])
        writer.writerows(np.hstack(pair.landmarks).tolist())
    options = [*QUICK, "--progress", "json", "--report"]
    outcome = carlreg("register", *inputs(folder), "--out", folder / "a" / "out", *options)
    return folder, pair, outcome


def inputs(folder, evidence=True):
    files = [folder / "fixed.nii.gz", folder / "moving.nii.gz"]
    if evidence:
        files += ["--fixed-labels", folder / "fixed_labels.nii.gz", "--moving-labels", folder / "moving_labels.nii.gz"]
        files += ["--landmarks", folder / "points.csv"]
    return files


def test_register(run):
    folder, pair, outcome = run
    assert outcome.code == 0, outcome.err
    out = folder / "a" / "out"
    assert names(out) == sorted([*FILES, "report.html"]) and names(folder / "a") == ["out"]
    assert (out / "report.html").stat().st_size > 2_000_000
    quality = json.loads((out / "quality.json").read_text())
    assert quality["landmarks"]["before"]["mean_mm"] > 100  # the headers have nothing in common: centers
    assert quality["landmarks"]["after"]["mean_mm"] < 8.0  # a voxel
    assert quality["landmarks"]["after"]["n"] == len(pair.landmarks[0])
    assert quality["jacobian"]["fold_percent"] == 0.0
    assert quality["labels"]["after"]["mean"] > quality["labels"]["before"]["mean"] + 0.3
    settings = json.loads((out / "settings.json").read_text())
    assert settings["seed"] == 3 and settings["settings"]["io_steps"] == 12
    warped = sitk.ReadImage(str(out / "warped.nii.gz"))
    assert warped.GetSize() == pair.fixed.GetSize()
    np.testing.assert_allclose(warped.GetOrigin(), pair.fixed.GetOrigin(), atol=1e-3)


def test_progress_lines(run):
    records = run[2].records
    fractions = [record["fraction"] for record in records]
    assert fractions == sorted(fractions) and fractions[0] == 0.0 and fractions[-1] == 1.0
    assert records[-1]["stage"] == "done"
    assert {"read", "load", "prepare", "predict", "starts", "affine", "optimize", "write"} <= {
        record["stage"] for record in records
    }


def test_transform_file_sends_fixed_points_to_moving_points(run):
    folder, pair, _ = run
    transform = sitk.ReadTransform(str(folder / "a" / "out" / "transform.h5"))
    mapped = np.array([transform.TransformPoint(point) for point in pair.landmarks[0].tolist()])
    quality = json.loads((folder / "a" / "out" / "quality.json").read_text())
    errors = np.linalg.norm(mapped - pair.landmarks[1], axis=1)
    assert errors.mean() == pytest.approx(quality["landmarks"]["after"]["mean_mm"], abs=0.02)


def test_apply_to_volume_labels_and_points(run, tmp_path):
    folder, pair, _ = run
    transform = folder / "a" / "out" / "transform.h5"
    outcome = carlreg("apply", transform, folder / "moving.nii.gz", "--out", tmp_path / "é é.nii.gz")
    assert outcome.code == 0 and "wrote" in outcome.out
    ours, delivered = (sitk.ReadImage(str(p)) for p in (tmp_path / "é é.nii.gz", transform.parent / "warped.nii.gz"))
    difference = sitk.GetArrayFromImage(ours).astype(float) - sitk.GetArrayFromImage(delivered)
    assert np.mean(np.abs(difference) > 2) < 0.01

    arguments = ["--out", tmp_path / "l.nrrd", "--interpolation", "nearest", "--reference", folder / "fixed.nii.gz"]
    assert carlreg("apply", transform, folder / "moving_labels.nii.gz", *arguments).code == 0
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "l.nrrd")))
    assert set(np.unique(labels)) <= set(np.unique(sitk.GetArrayViewFromImage(pair.moving_labels)))

    (tmp_path / "points.csv").write_text(
        "x,y,z,name\n" + "\n".join(f"{x},{y},{z},p{n}" for n, (x, y, z) in enumerate(pair.landmarks[0]))
    )
    assert carlreg("apply", transform, tmp_path / "points.csv", "--out", tmp_path / "mapped.csv").code == 0
    with open(tmp_path / "mapped.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    itk = sitk.ReadTransform(str(transform))
    expected = [itk.TransformPoint(point) for point in pair.landmarks[0].tolist()]
    np.testing.assert_allclose([[float(row[axis]) for axis in "xyz"] for row in rows], expected, atol=1e-4)
    assert rows[0]["name"] == "p0"


def test_evaluate_says_what_register_said(run, tmp_path):
    folder, _, _ = run
    arguments = ["evaluate", folder / "a" / "out" / "transform.h5", *inputs(folder), "--out", tmp_path / "quality.json"]
    outcome = carlreg(*arguments)
    assert outcome.code == 0 and "landmarks, mean error" in outcome.out
    again = json.loads((tmp_path / "quality.json").read_text())
    first = json.loads((folder / "a" / "out" / "quality.json").read_text())
    assert again["landmarks"]["after"]["errors_mm"] == pytest.approx(first["landmarks"]["after"]["errors_mm"], rel=1e-3)
    assert again["labels"]["after"]["mean"] == pytest.approx(first["labels"]["after"]["mean"], rel=1e-3)
    assert again["similarity"]["after"] == pytest.approx(first["similarity"]["after"], rel=1e-2)


def test_evaluate_with_names_and_volumes(run, tmp_path):
    folder = run[0]
    (tmp_path / "names.json").write_text('{"4": "liver"}')
    outcome = carlreg(
        *("evaluate", folder / "a" / "out" / "transform.h5", *inputs(folder, evidence=False)),
        *("--fixed-labels", folder / "fixed_labels.nii.gz", "--label-names", tmp_path / "names.json"),
        *("--uncertainty", folder / "a" / "out" / "uncertainty.nii.gz"),
        *("--out", tmp_path / "o" / "q.json", "--warped", tmp_path / "w.nii.gz", "--jacobian", tmp_path / "j.nii.gz"),
    )
    assert outcome.code == 0 and "verdict: " in outcome.out, outcome.err
    assert names(tmp_path) == ["j.nii.gz", "names.json", "o", "w.nii.gz"]
    found = json.loads((tmp_path / "o" / "q.json").read_text())
    first = json.loads((folder / "a" / "out" / "quality.json").read_text())
    assert {s["label"]: s["name"] for s in found["segments"]}[4] == "liver"
    assert found["uncertainty"]["unknown_percent"] == pytest.approx(first["uncertainty"]["unknown_percent"], abs=0.01)
    (tmp_path / "names.json").write_text("[1]")
    outcome = carlreg(
        *("evaluate", folder / "a" / "out" / "transform.h5", *inputs(folder), "--label-names", tmp_path / "names.json"),
        *("--warped", tmp_path / "again.nii.gz"),
    )
    assert outcome.code == 2 and "expected a JSON file such as" in outcome.err
    assert "again.nii.gz" not in names(tmp_path)


def test_report(run, tmp_path):
    """The inputs are found where the run read them, from any working folder."""
    folder = run[0]
    outcome = carlreg("report", folder / "a" / "out", "--out", tmp_path / "é.html", cwd=tmp_path)
    assert outcome.code == 0 and "wrote" in outcome.out, outcome.err
    text = (tmp_path / "é.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
    assert "moving.nii.gz" in text and str(folder) not in text and "Größe" not in text
    assert names(tmp_path) == ["é.html"]


@pytest.mark.slow  # a second whole run; the engine's own test of it is in registration/test_run.py
def test_same_seed_same_result(run, tmp_path):
    folder, _, _ = run
    assert carlreg("register", *inputs(folder, evidence=False), "--out", tmp_path / "out", *QUICK).code == 0
    first, second = (
        sitk.ReadTransform(str(place / "transform.h5")) for place in (folder / "a" / "out", tmp_path / "out")
    )
    for point in ((0.0, 0, 0), (40, 20, 60), (-60, 30, 100)):
        np.testing.assert_allclose(first.TransformPoint(point), second.TransformPoint(point), atol=1e-5)


@pytest.mark.whole
def test_initial_transform_and_masks_are_taken(run, tmp_path):
    folder, pair, _ = run
    fixed, moving = (points - points.mean(0) for points in pair.landmarks)
    u, _, vt = np.linalg.svd(moving.T @ fixed)
    rigid = sitk.AffineTransform(3)
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    rigid.SetMatrix(rotation.ravel().tolist())
    rigid.SetTranslation((pair.landmarks[1].mean(0) - rotation @ pair.landmarks[0].mean(0)).tolist())
    sitk.WriteTransform(rigid, str(tmp_path / "start.tfm"))
    outcome = carlreg(
        "register",
        *inputs(folder, evidence=False),
        *("--landmarks", folder / "points.csv"),
        "--out",
        tmp_path / "out",
        *QUICK,
        *("--io-steps", "0", "--initial-transform", tmp_path / "start.tfm"),
        *("--fixed-mask", folder / "fixed_labels.nii.gz", "--moving-mask", folder / "moving_labels.nii.gz"),
    )
    assert outcome.code == 0, outcome.err
    quality = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert quality["landmarks"]["after"]["mean_mm"] < 12
    written = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert "initial transform" in written["info"]["candidates"]  # one of the best; which wins is close here
    assert written["masks"] == {"fixed": True, "moving": True}


def test_cancel_in_the_real_registration(pair, tmp_path):
    process = start(
        *("register", *pair, "--out", tmp_path / "out", *QUICK, "--io-steps", "4000"),
        *("--progress", "json", "--control", "stdin"),
    )
    for line in process.stdout:
        if json.loads(line)["stage"] == "optimize":
            break
    begin = time.monotonic()
    process.stdin.write("cancel\n")
    process.stdin.flush()
    outcome = finish(process)
    assert_cancelled(outcome, time.monotonic() - begin)
    assert names(tmp_path) == [pair[0].parent.name]


@pytest.mark.skipif(sys.platform == "win32", reason="limits as on POSIX")
def test_full_disk(pair, tmp_path, tmp_path_factory):
    """Files may not grow beyond 20 kB: the first transform does not fit."""
    limits = tmp_path_factory.mktemp("limits")
    (limits / "sitecustomize.py").write_text(
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (20_000,) * 2)"
    )
    options = [*QUICK, "--grid", "32", "--io-steps", "1", "--progress", "none"]
    outcome = carlreg("register", *pair, "--out", tmp_path / "out", *options, fakes=limits)
    assert outcome.code == 1 and names(tmp_path) == [pair[0].parent.name]
    assert "could not be written" in outcome.err and "free some space" in outcome.err


DEMO = ["demo", "--spacing", "8", "--threads", "1", "--progress", "none"]


@pytest.fixture
def demo_output(tmp_path):
    """A folder where the demo writes, with a file of somebody's in it."""
    out = tmp_path / "demo_output"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    return out


def test_the_demo_keeps_other_files(demo_output, tmp_path):
    outcome = carlreg(*DEMO, cwd=tmp_path)
    assert outcome.code == 2 and "more than results of carlreg" in outcome.err
    assert names(demo_output) == ["notes.txt"]


@pytest.mark.slow  # the shipped model's whole run; .ci/run makes the demo too
def test_demo(demo_output, tmp_path):
    """The shipped model on the generated pair; an earlier result is replaced."""
    (demo_output / "notes.txt").rename(demo_output / "quality.json")
    outcome = carlreg(*DEMO, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert names(tmp_path) == ["demo_output"] and names(demo_output) == sorted([*FILES, "input", "sheet.png"])
    quality = json.loads((demo_output / "quality.json").read_text())
    assert quality["true_map"]["after"]["mean_mm"] < 8.0 and quality["true_map"]["after"]["n"] > 1000
    assert "true map, mean error" in outcome.out and "make demo FIXED=a.nii.gz MOVING=b.nii.gz" in outcome.out


def test_models_for_a_pair(tmp_path, capsys):
    """Headers alone are read: the voxels of these files are missing."""
    for name, size in (("fixed", (200, 200, 150)), ("moving", (100, 100, 50))):
        sitk.WriteImage(sitk.Image(size, sitk.sitkInt16), str(tmp_path / f"{name}.nii"))
        with open(tmp_path / f"{name}.nii", "r+b") as file:
            file.truncate(352)
    pair = [str(tmp_path / f"{name}.nii") for name in ("fixed", "moving")]
    assert worker.main(["models", *pair, "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["unigradicon"]["seconds"] == pytest.approx(rows["carl-compact"]["seconds"] + 80)
    assert rows["unigradicon"]["memory_mb"] > 6000 > rows["carl-compact"]["memory_mb"] > 900
    assert worker.main(["models", *pair]) == 0
    shown = capsys.readouterr().out
    assert f"about {rows['carl-compact']['seconds']:.0f} s, " in shown and "estimates for two CPU cores" in shown
    outcome = carlreg("models", pair[0])
    assert outcome.code == 2 and "expected two volumes, FIXED and MOVING" in outcome.err


def test_models(capsys):
    outcome = carlreg("models", "--json")
    rows = {row["name"]: row for row in json.loads(outcome.out)}
    assert outcome.code == 0 and rows["carl-paper-abdomen"]["parameters"] == 56_997_503
    assert worker.main(["models"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in rows) and "56,997,503" in text
    assert set(rows) >= {
        *("carl-compact", "carl-paper-abdomen", "carl-paper-brain", "carl-paper-rotation"),
        *("unigradicon", "multigradicon"),
    }
