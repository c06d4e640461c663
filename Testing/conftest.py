"""What all tests share: one thread, this checkout, groups of tests that belong in one process, and a time limit."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import types
from pathlib import Path

import pytest
from data_folder import MISSING, find_data_folder
from support.computing_time import computing_seconds
from support.scheduling import GroupScheduling, rank
from support.warm_engine import COLD_START

# Every core has a process of its own (pytest -n auto), so one thread is enough in each. Threads that sleep while they
# wait: spinning ones take several times as long on a busy machine. Child processes of tests inherit this.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Child processes of tests import this checkout, installed or not.
_ENGINE = str(Path(__file__).resolve().parents[1] / "CARLRegistration")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_ENGINE, os.environ.get("PYTHONPATH")]))

# Collecting tests makes some millions of objects that stay. Looking for garbage among them again and again took a third
# of that time and a tenth of the tests' own: they are left out (pytest_collection_finish).
gc.disable()

# Seconds of computing that a test may take which is not marked `slow`, and four times as many with `whole`; 0 = any.
LIMIT_VARIABLE = "CARLREG_TEST_SECONDS"
LIMIT_SECONDS = float(os.environ.get(LIMIT_VARIABLE, "5"))
WHOLE_FACTOR = 4
_USED = pytest.StashKey[dict[str, float]]()


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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several processes, what takes longest begins first."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: rank(item.nodeid))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Tests that share an expensive fixture run in one process, so that it is made once (`--dist loadscope`)."""
    return GroupScheduling(config, log) if config.getoption("dist") in ("loadscope", "loadgroup") else None


def _measured(item: pytest.Item, phase: str):
    """Note what this process computes meanwhile; waiting and other programs do not count."""
    before = computing_seconds()
    try:
        return (yield)
    finally:
        item.stash.setdefault(_USED, {})[phase] = computing_seconds() - before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item):
    return (yield from _measured(item, "setup"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    return (yield from _measured(item, "call"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item):
    return (yield from _measured(item, "teardown"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """A test that passed but computes too long for the marker that it has fails; fixtures do not count."""
    report = yield
    used = item.stash.get(_USED, {}).get(call.when, 0.0)
    report.user_properties.append(("computed", used))
    limit = LIMIT_SECONDS * (WHOLE_FACTOR if item.get_closest_marker("whole") else 1)
    if call.when == "call" and report.passed and not item.get_closest_marker("slow") and 0 < limit < used:
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid} computed for {used:.1f} s; without the marker `slow` it may take {limit:g} s. Make it "
            f"smaller or mark it `slow`; on a slow machine set {LIMIT_VARIABLE} (now {LIMIT_SECONDS:g}, 0 = no limit)."
        )
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """With --durations: what each test computed, which other programs' work changes little (support/durations.py)."""
    count = config.option.durations
    if count is None:
        return
    found = [
        (dict(report.user_properties).get("computed", 0.0), report.when, report.nodeid)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport)
    ]
    found.sort(reverse=True)
    terminalreporter.write_sep("=", "most computing")
    for seconds, when, name in found[: count or None]:
        if seconds >= 0.005:
            terminalreporter.write_line(f"{seconds:.2f}s computed in {when:8s} {name}")
