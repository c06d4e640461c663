"""The module in the test host: real scene, real nodes, imitated application."""

import importlib
import sys
from pathlib import Path

import pytest
from support.warm_engine import warm_subprocess

MODULE_FILE = Path(__file__).resolve().parents[2] / "CARLRegistration" / "CARLRegistration.py"


@pytest.fixture(scope="session")
def host():
    """The running host; tests that need it are skipped where Slicer's code or Qt is not installed."""
    for name in ("slicer_core", "trame_slicer", "PySide6"):
        pytest.importorskip(name)
    return importlib.import_module("host").start()


@pytest.fixture(autouse=True)
def warmEngine(monkeypatch):
    """The panel's engine starts warm; a test marked `cold_start` starts it as a user's computer does."""
    from CARLRegistrationLib.engine import process

    monkeypatch.setattr(process, "subprocess", warm_subprocess)


@pytest.fixture
def scene(host):
    """An empty scene."""
    import slicer

    host.close_scene()
    yield slicer.mrmlScene
    host.close_scene()


@pytest.fixture(scope="session")
def moduleWidget(host):
    """The loaded module's widget."""
    return host.load_module(MODULE_FILE)


@pytest.fixture
def logic(scene, moduleWidget):
    """A fresh logic of the loaded module."""
    made = sys.modules["CARLRegistration"].CARLRegistrationLogic()
    yield made
    made.cleanup()
