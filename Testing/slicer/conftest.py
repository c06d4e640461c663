"""The module in the test host: real scene, real nodes, imitated application."""

import functools
import importlib
import sys
from pathlib import Path

import pytest
from carlreg import phantom
from support.recorded_jobs import Recordings
from support.warm_jobs import Subprocess

_PAINT = phantom.make_pair
MODULE_FILE = Path(__file__).resolve().parents[2] / "CARLRegistration" / "CARLRegistration.py"


@pytest.fixture(scope="session")
def host():
    """The running host; tests that need it are skipped where Slicer's code or Qt is not installed."""
    for name in ("slicer_core", "trame_slicer", "PySide6"):
        pytest.importorskip(name)
    return importlib.import_module("host").start()


@pytest.fixture(scope="session")
def recordings(tmp_path_factory):
    """The registrations that were computed in this session."""
    return Recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(autouse=True)
def engineProcesses(monkeypatch, recordings):
    """The panel's engine starts warm, and computes each registration once; the same one again is replayed.

    A test marked `cold_start` starts the engine as a user's computer does.
    """
    from CARLRegistrationLib.engine import process

    monkeypatch.setattr(process, "subprocess", Subprocess(recordings.popen()))
    monkeypatch.setattr(phantom, "make_pair", _makePair)


@pytest.fixture
def heldEngine(recordings):
    """A registration stays at its first optimization step until it is ended: for the tests of stopping."""
    recordings.any()
    recordings.held_at = "optimize"
    yield
    recordings.held_at = ""


@pytest.fixture
def replayedEngine(recordings):
    """Every registration ends at once with some result: for the tests of what the panel does with it."""
    recordings.any()
    recordings.any_will_do = True
    yield
    recordings.any_will_do = False


@functools.lru_cache(maxsize=4)
def _makePair(seed=0, spacing_mm=3.0):
    """The generated pair, painted once; nothing writes into its images."""
    return _PAINT(seed, spacing_mm)


_left: list[tuple] = []


def _state(scene):
    """Changes with every change of the scene or of one of its nodes: VTK counts them for all objects together."""
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    return scene.GetMTime(), len(nodes), max((node.GetMTime() for node in nodes), default=0)


@pytest.fixture
def scene(host):
    """An empty scene. Closing costs as much as a short test: it is not done again where nothing has come since."""
    import slicer

    if _left != [_state(slicer.mrmlScene)]:
        host.close_scene()
    yield slicer.mrmlScene
    host.close_scene()
    _left[:] = [_state(slicer.mrmlScene)]


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
