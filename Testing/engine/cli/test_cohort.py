"""`carlreg cohort`: many pairs in one go, and going on."""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.cli import cohort, cohort_pair
from carlreg.cohort import Study
from carlreg.cohort.running import Outcome
from carlreg.errors import InputError
from carlreg.progress import Progress

from .command import carlreg, names

FAST = ("--transform", "rigid", "--threads", "1")


def parameters(folder):
    return np.array(sitk.ReadTransform(str(folder / "transform.h5")).GetParameters())


@pytest.mark.whole  # two workers and a run to compare with load PyTorch, each in a process of its own
def test_a_cohort_is_registered_and_gone_on_with(pair, tmp_path):
    fixed, moving = pair
    (tmp_path / "broken.nii.gz").write_text("no image")
    plan, study = tmp_path / "plan.csv", tmp_path / "study"
    lines = ["name,fixed,moving", f"there,{fixed},{moving}", f"bad,{fixed},broken.nii.gz", f"back,{moving},{fixed}"]
    plan.write_text("\n".join(lines), encoding="utf-8")
    first = carlreg("cohort", plan, "--out", study, "--workers", "1", *FAST)
    assert first.code == 1, first.err
    assert "1 of 3 pairs failed: bad" in first.err
    assert names(study) == ["failed", "manifest.jsonl", "pairs", "study.json", "summary.csv", "summary.html"]
    assert names(study / "pairs") == ["back", "there"]
    with open(study / "summary.csv", encoding="utf-8") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert [rows[name]["state"] for name in ("there", "bad", "back")] == ["done", "failed", "done"]
    assert "broken.nii.gz" in rows["bad"]["reason"]
    assert float(rows["there"]["lncc_after"]) > float(rows["there"]["lncc_before"])

    alone = carlreg("register", fixed, moving, "--out", tmp_path / "alone", *FAST)
    assert alone.code == 0
    assert np.array_equal(parameters(study / "pairs" / "there"), parameters(tmp_path / "alone"))  # to the bit

    before = (study / "manifest.jsonl").read_text()
    again = carlreg("cohort", study, "--resume")  # a failure is not tried again unless asked for
    assert again.code == 1
    assert (study / "manifest.jsonl").read_text() == before

    sitk.WriteImage(sitk.ReadImage(str(moving)), str(tmp_path / "broken.nii.gz"))  # mended: another input
    one = carlreg("cohort", study, "--pair", "bad")
    assert one.code == 0, one.err
    done = carlreg("cohort", study, "--summary", "--export", "slurm-array")
    assert done.code == 0
    assert "--array=0-2" in (study / "cohort.sbatch").read_text()
    assert np.array_equal(parameters(study / "pairs" / "bad"), parameters(study / "pairs" / "there"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "one of PLAN.csv"),
        (["{plan}"], "--out STUDY"),
        (["{plan}", "--bids", "."], "several"),
        (["{plan}", "--out", "x", "--resume"], "is none"),
        (["{plan}", "--out", "x", "--retry-failed"], "--resume with it"),
        (["{plan}", "--out", "x", "--workers", "0"], "workers"),
        (["--moving", "{plan}", "--out", "x"], "--fixed too"),
        (["{folder}"], "study.json"),
        (["{plan}", "--out", "x", "--scheduler", "tcp://127.0.0.1:9"], "none answers"),
    ],
)
def test_bad_input(pair, tmp_path, arguments, words):
    plan = tmp_path / "plan.csv"
    plan.write_text(f"fixed,moving\n{pair[0]},{pair[1]}\n", encoding="utf-8")
    given = [text.format(plan=plan, folder=tmp_path) for text in arguments]
    outcome = carlreg("cohort", *given, cwd=tmp_path)
    assert outcome.code == 2, outcome.err
    assert words in outcome.err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_a_worker_keeps_the_memory_that_it_frees():
    """Dask has it give all back at once: each new array of 8 MB then costs up to 2048 page faults."""
    code = (
        "import resource, sys, threading; import numpy as np; from carlreg.cli.cohort_pair import _keep_freed_memory\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def work(): [np.ones(2**20) for _ in range(2)]; a = faults(); [np.ones(2**20).sum() for _ in range(20)]; "
        "print(faults() - a)\n"
        "if len(sys.argv) > 1: _keep_freed_memory()\n"
        "one = threading.Thread(target=work); one.start(); one.join()"
    )
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    given_back, kept = (
        int(
            subprocess.run([sys.executable, "-c", code, *more], env=environment, capture_output=True, check=True).stdout
        )
        for more in ((), ("keep",))
    )
    assert given_back >= 20  # a page may be as large as 8 MB
    assert kept < 0.1 * given_back


@pytest.fixture
def numbered(pair, tmp_path):
    """A study of pairs that are called by numbers; nothing is registered. Also the parser, and its plan."""
    parser = argparse.ArgumentParser()
    cohort.add_arguments(parser)
    plan = tmp_path / "plan.csv"
    plan.write_text("name,fixed,moving\n" + "".join(f"{name},{pair[0]},{pair[1]}\n" for name in ("2", "0", "1")))
    given = parser.parse_args([str(plan), "--out", str(tmp_path / "study"), "--threads", "1"])
    return cohort._planned_study(given), parser, plan


def test_a_pair_called_by_a_number_is_not_another_ones_place(numbered, monkeypatch):
    study, begun = numbered[0], []
    monkeypatch.setattr(cohort_pair, "run_pair", lambda study, name, _: begun.append(name) or Outcome("done"))
    display = argparse.Namespace(result=lambda _: None)
    for which in ("0", "1", "2", "#0", "#1", "#2"):
        cohort._one_pair(study, which, Progress(), display)
    assert begun == ["0", "1", "2", "2", "0", "1"]
    for which in ("3", "#3", "#-1", "#"):
        with pytest.raises(InputError, match="none called so"):
            cohort._one_pair(study, which, Progress(), display)


def test_a_command_that_is_refused_leaves_the_study_of_the_other_alone(numbered):
    study, parser, plan = numbered
    other = parser.parse_args([str(plan), "--out", str(study.folder), "--resume", "--transform", "affine"])
    with study.locked(), pytest.raises(InputError, match="another command"):
        cohort.run(other, Progress(), argparse.Namespace())
    assert Study.read(study.folder) == study
