"""What a reader may do in a child process, and what comes of it here."""

from __future__ import annotations

import math
import sys
import time

import pytest
import SimpleITK as sitk
from carlreg.errors import GeometryError, InputError, NotEnoughMemory
from carlreg.io import guarded as module
from carlreg.io.guarded import guarded


def test_results_come_back(tmp_path):
    assert guarded("math:hypot", 3.0, 4.0, name="file") == math.hypot(3.0, 4.0)
    image = sitk.GaussianSource(sitk.sitkFloat32, [8, 9, 10])
    image.SetSpacing((1.5, 2.5, 3.5))
    image.SetOrigin((10, 20, 30))
    sitk.WriteImage(image, str(tmp_path / "ä b.vtk"))
    found = guarded("SimpleITK:ReadImage", str(tmp_path / "ä b.vtk"), name="file")
    assert sitk.Hash(found) == sitk.Hash(image) and found.GetSpacing() == image.GetSpacing()
    assert found.GetOrigin() == image.GetOrigin()


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [("os:abort", (), "crashes on it"), ("os:_exit", (9,), r"crashes on it \(code 9"), ("os:_exit", (0,), "crashes")],
)
def test_a_child_that_dies_is_bad_input(function, arguments, message):
    with pytest.raises(InputError, match=f"^moving image: cannot be read: .*{message}"):
        guarded(function, *arguments, name="moving image")


@pytest.mark.parametrize(("function", "arguments"), [("time:sleep", (100,)), ("builtins:pow", (3, 10**9))])
def test_a_child_that_takes_too_long_is_ended(function, arguments):
    """Waiting, and computing in C without ever giving the interpreter back."""
    began = time.monotonic()
    with pytest.raises(InputError, match="file: reading it takes longer than 1 s"):
        guarded(function, *arguments, name="file", seconds=1)
    assert time.monotonic() - began < 30


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is watched, not limited")
def test_a_child_that_takes_too_much_memory_is_ended():
    assert len(guarded("builtins:bytes", 50 * 2**20, name="file", memory_mb=100)) == 50 * 2**20
    with pytest.raises(NotEnoughMemory, match=r"file: reading it takes more than 0\.1 GB"):
        guarded("builtins:bytes", 200 * 2**20, name="file", memory_mb=100)
    with pytest.raises(NotEnoughMemory):
        guarded("SimpleITK:Image", 1000, 1000, 1000, sitk.sitkUInt8, name="file", memory_mb=100)


def test_errors_arrive_as_what_they_are():
    with pytest.raises(InputError, match="file: /nowhere does not exist"):
        guarded("carlreg.io.checks:existing_path", "/nowhere", "file", name="file")
    with pytest.raises(GeometryError, match="off by"):
        guarded("carlreg.spaces:VolumeGrid", (4, 4, 4), (1, 1, 1), (0, 0, 0), [1] * 9, name="file")
    with pytest.raises(ValueError, match="invalid literal"):
        guarded("builtins:int", "x", name="file")
    with pytest.raises(RuntimeError, match="does not exist"):
        guarded("SimpleITK:ReadImage", "/nowhere.nrrd", name="file")


def test_modules_where_the_child_starts_are_not_taken(tmp_path, monkeypatch):
    (tmp_path / "math.py").write_text("raise SystemExit")
    (tmp_path / "SimpleITK.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    assert guarded("SimpleITK:Version_MajorVersion", name="file") >= 2


def test_python_is_found_beside_a_program_that_is_none(monkeypatch):
    assert module.python() == sys.executable
    monkeypatch.setattr(sys, "executable", "/opt/Application/bin/Application")
    assert "python" in module.python().lower()
    monkeypatch.setattr(sys, "prefix", "/nowhere")
    monkeypatch.setattr(sys, "base_prefix", "/nowhere")
    with pytest.raises(InputError, match="No Python interpreter"):
        module.python()
