"""A cancel works at any moment and leaves nothing behind.

Two seconds are promised. Here they are measured against a generous limit, one test after the other: the machine may be
busy with other tests, and a run that is not stopped takes a minute.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

import pytest

from .command import finish, names, start

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
GENEROUS_SECONDS = 10.0

# Where the run is when the cancel comes: fake code for the registration or the output writer.
MOMENTS = {
    "while a library loads": {"registration": "ready(); hold_the_interpreter(60)"},
    "in a loop that asks": {
        "registration": """
def run(progress):
    ready()
    while True:
        progress.update(0.5)
        time.sleep(0.01)
"""
    },
    "in a kernel": {"registration": "def run(progress):\n    ready(); time.sleep(60)"},
    "in a kernel that holds Python's lock": {
        "registration": "def run(progress):\n    ready(); hold_the_interpreter(60)"
    },
    "while files are written": {"outputs": "def write(folder, progress):\n    ready(); time.sleep(60)"},
    "when errors are swallowed": {
        "registration": """
def run(progress):
    ready()
    while True:
        try:
            progress.check()
        except BaseException:
            pass
        time.sleep(0.01)
"""
    },
}


def ask(process, how):
    if how == "cancel":
        process.stdin.write("cancel\n")
        process.stdin.flush()
    elif how == "end of input":
        process.stdin.close()
        process.stdin = None
    elif how == "ctrl-c":  # reaches every process of the group
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(getattr(signal, how))


def run_and_cancel(pair, out, how, folder_of_fakes, *more):
    process = start(
        "register", *pair, "--out", out, "--control", "stdin", *more, fakes=folder_of_fakes, start_new_session=True
    )
    for line in process.stderr:
        if line.strip() == "READY":
            break
    begin = time.monotonic()
    ask(process, how)
    outcome = finish(process, timeout=20)
    return outcome, time.monotonic() - begin


def assert_cancelled(outcome, seconds):
    assert outcome.code == 3
    assert seconds < GENEROUS_SECONDS
    assert "Cancelled: the run was stopped on request" in outcome.err


@pytest.mark.parametrize("moment", MOMENTS)
def test_moments(pair, tmp_path, fakes, moment):
    before = names(tmp_path)
    assert_cancelled(*run_and_cancel(pair, tmp_path / "new" / "out", "cancel", fakes(**MOMENTS[moment])))
    assert names(tmp_path) == before


@pytest.mark.parametrize("how", ["end of input", "SIGINT", "SIGTERM", "SIGHUP", "ctrl-c"])
@pytest.mark.parametrize("moment", ["while files are written", "in a loop that asks"])
def test_ways(pair, tmp_path, fakes, how, moment):
    before = names(tmp_path)
    assert_cancelled(*run_and_cancel(pair, tmp_path / "out", how, fakes(**MOMENTS[moment])))
    assert names(tmp_path) == before


@pytest.mark.cold_start
def test_at_once(pair, tmp_path):
    """Before anything but the interpreter has started."""
    process = start("register", *pair, "--out", tmp_path / "out", "--control", "stdin", stdin=-3)  # DEVNULL: ended
    outcome = finish(process, timeout=20)
    assert outcome.code == 3 and outcome.seconds < GENEROUS_SECONDS
    assert names(tmp_path) == [pair[0].parent.name]


def test_earlier_result_stays(pair, tmp_path, fakes):
    out = tmp_path / "out"
    out.mkdir()
    (out / "quality.json").write_text("earlier")
    folder_of_fakes = fakes(**MOMENTS["while files are written"])
    assert_cancelled(*run_and_cancel(pair, out, "SIGTERM", folder_of_fakes, "--overwrite"))
    assert names(tmp_path) == sorted([pair[0].parent.name, "out"])
    assert names(out) == ["quality.json"] and (out / "quality.json").read_text() == "earlier"


def test_other_lines_and_an_open_input_do_not_cancel(pair, tmp_path, fakes):
    process = start("register", *pair, "--out", tmp_path / "out", "--control", "stdin", fakes=fakes())
    process.stdin.write("hello\ncancelled?\n\n")
    process.stdin.flush()
    assert finish(process).code == 0
    assert names(tmp_path / "out") == ["quality.json", "warped.nii.gz"]


def test_without_control_standard_input_is_left_alone(pair, tmp_path, fakes):
    process = start("register", *pair, "--out", tmp_path / "out", fakes=fakes(), stdin=-3)
    assert finish(process).code == 0


def test_the_worker_ends_when_its_supervisor_is_killed(pair, tmp_path, fakes):
    code = "def run(progress):\n    print('PID', os.getpid(), file=sys.stderr, flush=True); time.sleep(60)"
    process = start("register", *pair, "--out", tmp_path / "out", fakes=fakes(registration=code))
    pid = next(int(line.split()[1]) for line in process.stderr if line.startswith("PID"))
    process.kill()
    finish(process, timeout=20)
    deadline = time.monotonic() + 5
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            with open(f"/proc/{pid}/stat") as status:
                if status.read().split()[2] == "Z":  # ended; nobody has collected it yet
                    return
            time.sleep(0.05)
        pytest.fail("the worker is still there")
