"""What has been computed is delivered, whatever happens at the end; and what a hard end leaves goes."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from .command import carlreg, finish, names, start

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and devices")
RESULT = ["quality.json", "warped.nii.gz"]
FULL = "/dev/full"
_WAITING = """
def run(progress):
    ready()
    while not os.path.exists(os.environ["GO"]):
        time.sleep(0.02)
"""
_KILLED = """
import signal
def write_result(result, out, *, overwrite, progress, **more):
    with staged_folder(out, overwrite) as folder:
        (folder / "warped.nii.gz").write_text("whole")
        (folder / "quality.json").write_text("{}")
    HOW
"""
_SLOW = "def write(folder, progress):\n    ready(); time.sleep(60)"


def wait_for_ready(process):
    for line in process.stderr:
        if line.strip() == "READY":
            return
    pytest.fail("it ended before it was ready")


@pytest.mark.skipif(not os.path.exists(FULL), reason="no /dev/full")
def test_standard_output_that_takes_nothing_does_not_cost_the_result(pair, tmp_path, fakes):
    for mode in ("none", "json"):
        out = tmp_path / mode
        with open(FULL, "w") as full:
            outcome = carlreg("register", *pair, "--out", out, "--progress", mode, fakes=fakes(), stdout=full)
        assert outcome.code == 0 and names(out) == RESULT
        assert (
            f"Standard output could not be written (No space left on device); the results are in {out}" in outcome.err
        )
    with open(FULL, "w") as full:
        outcome = carlreg("models", stdout=full)
    assert outcome.code == 1 and outcome.err.count("\n") == 1 and "standard output could not be written" in outcome.err


@pytest.mark.cold_start
def test_standard_files_that_are_closed(pair, tmp_path, fakes):
    """The next file that is opened would get the number of standard output, and what is printed."""
    closed = {"stdin": None, "stdout": None, "preexec_fn": lambda: [os.close(number) for number in (0, 1)]}
    outcome = carlreg("register", *pair, "--out", tmp_path / "out", "--progress", "none", fakes=fakes(), **closed)
    assert outcome.code == 0 and names(tmp_path / "out") == RESULT
    assert "the results are in" in outcome.err
    assert (tmp_path / "out" / "warped.nii.gz").read_text() == "half"


def test_a_reader_that_leaves(pair, tmp_path, fakes, monkeypatch):
    monkeypatch.setenv("GO", str(tmp_path / "go"))
    process = start("register", *pair, "--out", tmp_path / "out", fakes=fakes(_WAITING))
    wait_for_ready(process)
    process.stdout.close()
    process.stdout = None
    (tmp_path / "go").touch()
    outcome = finish(process)
    assert outcome.code == 0 and names(tmp_path / "out") == RESULT and "Broken pipe" in outcome.err


def test_a_slow_run_keeps_its_result_when_a_fast_one_wrote_to_the_same_place(pair, tmp_path, fakes, monkeypatch):
    monkeypatch.setenv("GO", str(tmp_path / "go"))
    slow = start("register", *pair, "--out", "out", "--progress", "none", fakes=fakes(_WAITING), cwd=tmp_path)
    wait_for_ready(slow)
    fast = carlreg("register", *pair, "--out", "out", "--progress", "none", fakes=fakes(), cwd=tmp_path)
    (tmp_path / "go").touch()
    slow = finish(slow)
    assert (fast.code, slow.code) == (0, 0), slow.err
    assert fast.out.splitlines()[-1] == "results in out" and slow.out.splitlines()[-1] == "results in out_2"
    assert names(tmp_path / "out") == names(tmp_path / "out_2") == RESULT


def test_an_input_that_is_deleted_during_the_run(pair, tmp_path, fakes, monkeypatch):
    monkeypatch.setenv("GO", str(tmp_path / "go"))
    process = start("register", *pair, "--out", tmp_path / "out", fakes=fakes(_WAITING))
    wait_for_ready(process)
    for file in pair:
        file.unlink()
    (tmp_path / "go").touch()
    outcome = finish(process)
    assert outcome.code == 0 and names(tmp_path / "out") == RESULT, outcome.err


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_what_was_delivered_before_the_end_counts(pair, tmp_path, fakes, how):
    code = _KILLED.replace("HOW", f"os.kill(os.getpid(), signal.{how})")
    outcome = carlreg("register", *pair, "--out", tmp_path / "out", "--progress", "none", fakes=fakes(outputs=code))
    assert outcome.code == 0 and "they are complete" in outcome.err
    assert names(tmp_path) == sorted([pair[0].parent.name, "out"]) and names(tmp_path / "out") == RESULT


def test_a_defect_after_the_delivery_says_where_the_results_are(pair, tmp_path, fakes):
    outcome = carlreg(
        *("register", *pair, "--out", tmp_path / "out", "--progress", "none"),
        fakes=fakes(outputs=_KILLED.replace("HOW", "return 1 / 0")),
    )
    assert outcome.code == 1 and f"the results are in {tmp_path / 'out'}" in outcome.err
    assert names(tmp_path / "out") == RESULT


def test_a_supervisor_that_is_killed_leaves_nothing(pair, tmp_path, fakes):
    process = start("register", *pair, "--out", tmp_path / "new" / "out", fakes=fakes(outputs=_SLOW))
    wait_for_ready(process)
    assert any(name.startswith(".carlreg.") for name in names(tmp_path / "new"))
    process.kill()
    finish(process)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (tmp_path / "new").exists():
        time.sleep(0.05)
    assert names(tmp_path) == [pair[0].parent.name]


def test_a_run_that_is_killed_as_a_whole_is_tidied_up_by_the_next_one_there(pair, tmp_path, fakes):
    """Whatever that writes: here a file of another name, by another command."""
    process = start("register", *pair, "--out", tmp_path / "out", fakes=fakes(outputs=_SLOW), start_new_session=True)
    wait_for_ready(process)
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    assert any(name.startswith(".carlreg.") for name in names(tmp_path))
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    (tmp_path / "t.tfm").write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: TranslationTransform_double_3_3\n"
        "Parameters: 1 2 3\nFixedParameters:\n"
    )
    outcome = carlreg("apply", tmp_path / "t.tfm", tmp_path / "p.csv", "--out", tmp_path / "mapped.csv")
    assert outcome.code == 0, outcome.err
    assert names(tmp_path) == sorted([pair[0].parent.name, "mapped.csv", "p.csv", "t.tfm"])


def test_nohup(pair, tmp_path, fakes, monkeypatch):
    """A signal that was ignored when the run was started is ignored."""
    monkeypatch.setenv("GO", str(tmp_path / "go"))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start("register", *pair, "--out", tmp_path / "out", fakes=fakes(_WAITING))
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for_ready(process)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    (tmp_path / "go").touch()
    assert finish(process).code == 0 and names(tmp_path / "out") == RESULT
