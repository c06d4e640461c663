"""What all tests share: one thread, this checkout, groups of tests that belong in one process, and a time limit."""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from pathlib import Path

import pytest
from data_folder import MISSING, find_data_folder
from support.computing_time import computing_seconds
from support.warm_engine import COLD_START

# Every core has a process of its own (pytest -n auto), so one thread is enough in each. Threads that sleep while they
# wait: spinning ones take several times as long on a busy machine. Child processes of tests inherit this.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Child processes of tests import this checkout, installed or not.
_ENGINE = str(Path(__file__).resolve().parents[1] / "CARLRegistration")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_ENGINE, os.environ.get("PYTHONPATH")]))

# Seconds of computing that a test without the marker `slow` may take; 0 = no limit.
LIMIT_VARIABLE = "CARLREG_TEST_SECONDS"
LIMIT_SECONDS = float(os.environ.get(LIMIT_VARIABLE, "5"))
_USED = pytest.StashKey[float]()
# Folders whose tests share one application, which is started once.
_ONE_APPLICATION = ("slicer", "host_tests")
# Fixtures of a whole session that cost nothing: tests that share no other may run anywhere.
_CHEAP = {"data_folder"}


def _stand_in_for_itk() -> None:
    """The authors' packages import `itk` (1.5 GB) for their file handling, which no test uses."""

    def attribute(name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})

    module = types.ModuleType("itk")
    module.__getattr__ = attribute  # type: ignore[method-assign]
    sys.modules["itk"] = module


if importlib.util.find_spec("itk") is None:
    _stand_in_for_itk()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with the evaluation volumes; skips the test when it is missing."""
    folder = find_data_folder()
    if folder is None:
        pytest.skip(MISSING)
    return folder


@pytest.fixture(autouse=True)
def _cold_start(request, monkeypatch):
    """A test marked `cold_start` gets no warm engine (support/warm_engine.py)."""
    if request.node.get_closest_marker("cold_start"):
        monkeypatch.setenv(COLD_START, "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share an expensive fixture run in one process (`--dist loadgroup`), so that it is made once."""
    for item in items:
        group = None if item.get_closest_marker("xdist_group") else _group(item)
        if group is not None:
            item.add_marker(pytest.mark.xdist_group(group))


def _group(item: pytest.Item) -> str | None:
    folder = item.path.relative_to(Path(__file__).parent)
    if folder.parts[0] in _ONE_APPLICATION:
        return "panel"
    here = str(Path(__file__).parent)
    definitions = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    scopes = {
        found[-1].scope
        for name, found in definitions.items()
        if name not in _CHEAP and found[-1].func.__code__.co_filename.startswith(here)
    }
    if scopes & {"package", "session"}:
        return str(folder.parent)
    return str(folder) if "module" in scopes else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """Measure what the test itself computes, not its fixtures; waiting and other programs do not count."""
    before = computing_seconds()
    try:
        return (yield)
    finally:
        item.stash[_USED] = computing_seconds() - before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """A test that passed but computes too long for the marker that it has fails."""
    report = yield
    used = item.stash.get(_USED, 0.0)
    slow = item.get_closest_marker("slow") is not None
    if call.when == "call" and report.passed and not slow and LIMIT_SECONDS and used > LIMIT_SECONDS:
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid} computed for {used:.1f} s; a test without the marker `slow` may take {LIMIT_SECONDS:g} s. "
            f"Make it smaller or mark it `slow`; on a slow machine set {LIMIT_VARIABLE} (0 = no limit)."
        )
    return report
