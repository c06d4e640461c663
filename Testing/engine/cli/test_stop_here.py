"""Stop here: an optimization keeps what it has, and the run goes on to its end; and the file that shows the map."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest
import SimpleITK as sitk

from .command import carlreg, finish, names, start

# Fake code for the registration: steps until it is asked to stop, or has done all.
STEPS = """
from carlreg.progress import Step
def run(progress):
    with progress.stage("optimize"):
        ready()
        for step in range(1, 3001):
            progress.stepped(Step(step, 3000, step / 3000))
            if progress.stopping:
                break
            time.sleep(0.01)
"""
MAPS = """
from carlreg.physical import PhysicalTransform
def run(progress):
    import numpy as np
    shift = np.eye(4)
    shift[:3, 3] = [1, 2, 3]
    progress.offer_map(lambda: PhysicalTransform.from_affine(shift))
    ready()
    while not progress.stopping:
        time.sleep(0.01)
"""


def started(pair, out, fakes, code, *more):
    """A run whose optimization goes on."""
    process = start(
        "register", *pair, "--out", out, "--progress", "json", *more, fakes=fakes(registration=code),
        start_new_session=True,
    )  # fmt: skip
    assert any(line.strip() == "READY" for line in process.stderr)
    return process


def ask(process, how: str) -> None:
    if how == "line":
        process.stdin.write("stop\n")
        process.stdin.flush()
    elif how == "signal":
        process.send_signal(signal.SIGUSR1)
    else:  # reaches every process of the group
        os.killpg(process.pid, signal.SIGUSR1)


@pytest.mark.parametrize(
    "how",
    [
        "line",
        *(
            pytest.param(way, marks=pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"))
            for way in ("signal", "signal to all")
        ),
    ],
)
def test_the_run_goes_on_to_its_end(pair, tmp_path, fakes, how):
    process = started(pair, tmp_path / "out", fakes, STEPS, "--control", "stdin")
    ask(process, how)
    outcome = finish(process)
    assert outcome.code == 0, outcome.err
    assert names(tmp_path / "out") == ["quality.json", "warped.nii.gz"]
    steps = [record["step"] for record in outcome.records if "step" in record]
    assert 1 <= steps[-1]["done"] < 3000 and steps[-1]["total"] == 3000
    assert [step["done"] for step in steps] == list(range(1, len(steps) + 1))  # none is left out
    assert outcome.records[-1]["stage"] == "done"


def test_a_cancel_afterwards_still_cancels(pair, tmp_path, fakes):
    process = started(pair, tmp_path / "out", fakes, MAPS.replace("not progress.stopping", "True or progress.check()"))
    process.send_signal(signal.SIGUSR1)
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 3 and not (tmp_path / "out").exists()


def test_the_map_is_in_a_file_while_it_is_optimized(pair, tmp_path, fakes):
    file = tmp_path / "map.h5"
    process = started(pair, tmp_path / "out", fakes, MAPS, "--control", "stdin", "--preview", file)
    assert sitk.ReadTransform(str(file)).TransformPoint((10.0, 20.0, 30.0)) == pytest.approx((11, 22, 33))
    ask(process, "line")
    assert finish(process).code == 0
    assert names(tmp_path) == sorted([pair[0].parent.name, "out"])


def test_a_preview_that_would_replace_something_is_refused(pair, tmp_path):
    there = tmp_path / "map.h5"
    there.write_text("mine")
    for file, message in (
        (there, "is there already"),
        (tmp_path / "map.nii", "ends in .h5 or .tfm"),
        (tmp_path / "no" / "map.h5", "does not exist"),
    ):
        outcome = carlreg("register", *pair, "--out", tmp_path / "out", "--preview", file)
        assert outcome.code == 2 and message in outcome.err
    assert there.read_text() == "mine" and not (tmp_path / "out").exists()


def test_without_an_optimization_stop_changes_nothing(tmp_path):
    process = start("check", "--json")
    process.stdin.write("stop\n")
    process.stdin.flush()
    outcome = finish(process)
    assert outcome.code == 0 and json.loads(outcome.out)["missing"] == {}
