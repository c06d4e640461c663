"""`carlreg check`: what this Python has."""

import importlib.metadata
import json
import sys

import pytest
from carlreg.cli import check

from .command import carlreg


@pytest.mark.cold_start  # the versions and devices of a process that has imported nothing yet
def test_it_tells_versions_and_devices():
    outcome = carlreg("check", "--json")
    found = json.loads(outcome.out)
    assert outcome.code == 0 and found["missing"] == {} and found["executable"] == sys.executable
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    for package in ("numpy", "SimpleITK", "safetensors", "pydicom"):
        assert found["versions"][package].startswith(importlib.metadata.version(package)[:5])
    assert found["devices"][0]["name"] == "cpu" and found["devices"][0]["free_mb"] > 100
    text = carlreg("check").out
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
