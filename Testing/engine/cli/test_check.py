"""`carlreg check`: what this Python has."""

import importlib.metadata
import json
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.cli import check, worker

from .command import carlreg


@pytest.mark.cold_start  # the versions and devices of a process that has imported nothing yet
def test_it_tells_versions_and_devices(capsys):
    outcome = carlreg("check", "--json")
    found = json.loads(outcome.out)
    assert outcome.code == 0 and found["missing"] == {} and found["executable"] == sys.executable
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    for package in ("numpy", "SimpleITK", "safetensors", "pydicom"):
        assert found["versions"][package].startswith(importlib.metadata.version(package)[:5])
    assert found["devices"][0]["name"] == "cpu" and found["devices"][0]["free_mb"] > 100
    assert worker.main(["check"]) == 0
    text = capsys.readouterr().out
    assert found["versions"]["torch"] in text and "GB free" in text


def test_what_is_missing_or_broken_is_said(monkeypatch):
    real = importlib.import_module

    def broken(name):
        if name == "torch":
            raise OSError("libtorch.so: wrong ELF class")
        if name == "SimpleITK":
            raise ModuleNotFoundError("No module named 'SimpleITK'")
        return real(name)

    monkeypatch.setattr(check.importlib, "import_module", broken)
    found = check.inspect_python()
    assert found["missing"] == {
        "torch": "OSError: libtorch.so: wrong ELF class",
        "SimpleITK": "ModuleNotFoundError: No module named 'SimpleITK'",
    }
    assert [device["name"] for device in found["devices"]] == ["cpu"]


def test_two_images_are_looked_at(pair, tmp_path):
    """Two blobs, shifted by 4 mm along two axes and 2 mm along one: the start is the shift."""
    outcome = carlreg("check", *pair, "--start", tmp_path / "start.tfm", "--json")
    found = json.loads(outcome.out)
    assert outcome.code == 0 and found["verdict"]["word"] in ("good", "check")
    start = sitk.ReadTransform(str(tmp_path / "start.tfm"))
    center = np.array([48.0, 44.0, 40.0])
    moved = np.array(start.TransformPoint(center.tolist()))
    assert np.linalg.norm(moved - [50.0, 40.0, 44.0]) < 2.0  # half a voxel
    np.testing.assert_allclose(moved, (np.array(found["matrix"]) @ [*center, 1])[:3], atol=1e-3)
    text = carlreg("check", *pair)
    assert text.code == 0 and text.out.startswith("verdict on the pair: ") and "best start: " in text.out


def test_one_image_is_no_pair(pair, tmp_path):
    outcome = carlreg("check", pair[0])
    assert outcome.code == 2 and "expected two images, or none" in outcome.err
    outcome = carlreg("check", *pair, "--start", tmp_path / "start.txt")
    assert outcome.code == 2 and "ends in .h5 or .tfm" in outcome.err
    outcome = carlreg("check", pair[0], tmp_path / "no.nii.gz")
    assert outcome.code == 2 and "does not exist" in outcome.err
