"""What a study's files say, whatever was killed or changed; how pairs are begun, tried again and given up."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from carlreg.cohort import Study
from carlreg.cohort.figures import FIGURES, Row
from carlreg.cohort.lock import LOCK, STALE_SECONDS
from carlreg.cohort.page import _charts
from carlreg.cohort.plan import PlannedPair
from carlreg.cohort.pool import Pool, workers_that_fit
from carlreg.cohort.running import MEMORY, STOP, Outcome, Pairs, run_jobs
from carlreg.cohort.study import (
    INPUTS,
    MANIFEST,
    PAIR,
    check_place,
    fingerprint,
    inputs_of,
    new_study,
    write_json,
)
from carlreg.cohort.summary import mark_outliers, robust_z, rows_of
from carlreg.errors import InputError, ResourceError
from carlreg.processes import own_mark
from carlreg.progress import Progress
from carlreg.settings import RegistrationSettings


@pytest.fixture
def study(tmp_path):
    """Three pairs of files that are no images: nothing is registered here."""
    pairs = []
    for name in "abc":
        (tmp_path / f"{name}.nii").write_text(name)
        pairs.append(PlannedPair(name, {"fixed": str(tmp_path / "a.nii"), "moving": str(tmp_path / f"{name}.nii")}))
    settings = {name: RegistrationSettings(io_steps=3) for name in "abc"}
    return new_study(tmp_path / "study", pairs, settings, 2, False)


def finish(study, name):
    """As a worker does."""
    known = inputs_of(study.pair(name), None)
    folder = study.result(name)
    folder.mkdir()
    write_json(folder / "quality.json", {"verdict": {"word": "good"}, "similarity": {"after": {"lncc": 0.5}}})
    write_json(folder / PAIR, {"fingerprint": fingerprint(study.settings[name], known), "inputs": known})


def words(study):
    return [state.word for state in study.states().values()]


def test_a_study_is_read_as_it_was_written(study):
    again = Study.read(study.folder)
    assert again == study
    assert again.threads == 2


def test_the_inputs_of_a_study_may_lie_in_its_folder(tmp_path):
    (tmp_path / INPUTS).mkdir()
    (tmp_path / INPUTS / "a.mha").write_text("a")
    assert check_place(tmp_path) == tmp_path
    (tmp_path / "other").write_text("b")
    with pytest.raises(InputError, match="not empty"):
        check_place(tmp_path)


def test_what_changed_is_to_be_done_again(study, tmp_path):
    finish(study, "a")
    finish(study, "b")
    study.failed(study.pair("c"), "no image", {})
    assert words(study) == ["done", "done", "failed"]
    (tmp_path / "c.nii").write_text("now one")
    (tmp_path / "b.nii").write_text("other")
    assert words(study) == ["done", "changed", "planned"]
    (tmp_path / "b.nii").write_text("b")  # the same content at another time
    assert words(study) == ["done", "done", "planned"]
    other = replace(study, settings=study.settings | {"a": RegistrationSettings(io_steps=4)})
    assert words(other) == ["changed", "done", "planned"]
    other = replace(study, settings=study.settings | {"b": RegistrationSettings(io_steps=5)})
    other.failed(other.pair("b"), "diverged", {})  # the older result does not hide it
    assert words(other) == ["done", "failed", "planned"]
    (study.result("a") / PAIR).write_text("{")  # damaged: no proof of anything
    assert words(study)[0] == "planned"


def test_a_line_that_a_kill_cut_off_spoils_no_other(study):
    study.log("running", name="a")
    with open(study.folder / MANIFEST, "a") as file:
        file.write('{"event": "do')
    study.log("done", name="b")
    assert [(event["event"], event["name"]) for event in study.events()] == [("running", "a"), ("done", "b")]


def test_one_command_at_a_time_but_dead_ones_do_not_count(study):
    with study.locked(), pytest.raises(InputError, match="another command"), study.locked():
        pass
    assert not (study.folder / LOCK).exists()
    host, pid, _ = own_mark().split("-")
    (study.folder / LOCK).write_text(f"{host}-{pid}-123abc")  # of a process whose number we have now
    with study.locked():
        assert (study.folder / LOCK).read_text() == own_mark()
    # Of another computer: over when nobody has renewed it for a while, or when the user says so.
    lock = study.folder / LOCK
    lock.write_text("01234567-1-1")
    with pytest.raises(InputError, match="--unlock"), study.locked():
        pass
    with study.locked(unlock=True):
        assert lock.read_text() == own_mark()
        lock.write_text("01234567-1-1")  # who took this one for dead keeps the place
    assert lock.exists()
    os.utime(lock, (time.time() - STALE_SECONDS - 5,) * 2)
    with study.locked():
        assert lock.read_text() == own_mark()


def test_a_lock_is_kept_young(study, monkeypatch):
    monkeypatch.setattr("carlreg.cohort.lock.BEAT_SECONDS", 0.01)
    with study.locked():
        os.utime(study.folder / LOCK, (1, 1))
        for _ in range(500):
            time.sleep(0.01)
            if (study.folder / LOCK).stat().st_mtime > 1:
                break
        assert (study.folder / LOCK).stat().st_mtime > 1


def test_a_damaged_study_is_refused(study):
    for content in ("{}", '{"format": 9}', json.dumps({"format": 1, "settings": [], "pairs": [{"name": "a"}]})):
        (study.folder / "study.json").write_text(content)
        with pytest.raises(InputError):
            Study.read(study.folder)


class Client:
    """Answers at once, by a script: outcomes of each pair's tries, `None` for a kill. begun: pairs, and with whom."""

    def __init__(self, script):
        self.script = {name: list(outcomes) for name, outcomes in script.items()}
        self.begun, self.running = [], []

    def submit(self, run_pair, folder, name, pure):
        self.running.append(name)
        self.begun.append((name, tuple(self.running)))
        return Future(self, name)


class Future:
    """Ends when it is asked a second time, so that others can begin beside it."""

    def __init__(self, client, name):
        self.client, self.name, self.asked = client, name, 0

    def done(self):
        self.asked += 1
        if self.asked == 2:
            self.client.running.remove(self.name)
            self.answer = self.client.script[self.name].pop(0)
        return self.asked >= 2

    @property
    def status(self):
        return "error" if self.answer is None else "finished"

    def result(self):
        return self.answer

    def exception(self):
        from distributed.scheduler import KilledWorker

        return KilledWorker(self.name, SimpleNamespace(address="x"), 0)

    def cancel(self):
        pass


DONE = Outcome("done", "", {"seconds": 1.0})


def run(study, client, most=2, memory_mb=None):
    told = []
    tally = run_jobs(Pairs(study), list("abc"), None, Pool(client, most, True, memory_mb), Progress(), told.append)
    return tally, told


def test_a_killed_pair_is_tried_again_at_last_alone_and_given_up(study):
    client = Client({"a": [None, None, None], "b": [DONE], "c": [Outcome(MEMORY, "too little"), DONE]})
    tally, told = run(study, client)
    assert (tally.done, tally.failed) == (["b", "c"], ["a"])
    assert [name for name, _ in client.begun].count("a") == 3
    assert client.begun[-1] == ("a", ("a",))
    assert any("at most 1 at once" in line for line in told)
    assert "3 times" in study.state(study.pair("a")).record["reason"]
    assert [event["event"] for event in study.events() if event["name"] == "a"] == ["running", "killed"] * 3 + [
        "failed"
    ]


def test_memory_decides_how_many_at_once(study):
    client = Client({name: [DONE] for name in "abc"})
    run(study, client, most=3, memory_mb=1.0)  # less than one needs
    assert [beside for _, beside in client.begun] == [("a",), ("b",), ("c",)]
    client = Client({name: [DONE] for name in "abc"})
    run(study, client, most=3)
    assert client.begun[-1] == ("c", ("a", "b", "c"))


def test_a_full_disk_ends_it_and_failures_do_not(study):
    client = Client({"a": [Outcome("failed", "no image")], "b": [Outcome(STOP, "The disk is full.")], "c": [DONE]})
    with pytest.raises(ResourceError, match="go on with --resume"):
        run(study, client, most=1)
    assert words(study) == ["failed", "planned", "planned"]


@pytest.mark.parametrize(
    ("threads", "needs", "free", "gpus", "expected"),
    [(1, 1500, 1e9, 0, None), (1, 1500, 5000, 0, 2), (1, 9e9, 5000, 0, 1), (1, 1, 1e9, 3, 3)],
)
def test_how_many_fit(threads, needs, free, gpus, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert workers_that_fit(threads, needs, free, gpus) == (expected or 8)


def test_outliers_lie_far_on_the_worse_side():
    values = np.array([1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.02, 5.0, -3.0])
    median = np.median(values)
    mad = np.median(np.abs(values - median))
    np.testing.assert_allclose(robust_z(values), 0.6745 * (values - median) / mad, rtol=1e-12)
    rows = [Row(str(value), "done", {}, figures={"landmarks_after_mm": value, "lncc_after": value}) for value in values]
    mark_outliers(rows)
    assert [(row.name, row.outlier_of) for row in rows if row.outlier_of] == [
        ("5.0", ["landmarks_after_mm"]),
        ("-3.0", ["lncc_after"]),
    ]
    assert (robust_z(np.ones(5)) == 0).all()
    assert all(worse in (-1, 0, 1) for _, _, worse in FIGURES.values())


def test_rows_show_the_failed_and_the_worst_first(study):
    finish(study, "a")
    study.failed(study.pair("b"), "unreadable", {})
    rows = rows_of(study)
    assert [(row.name, row.state, row.reason) for row in rows] == [
        ("b", "failed", "unreadable"),
        ("a", "done", ""),
        ("c", "planned", ""),
    ]
    assert rows[1].figures == {"lncc_after": 0.5}
    alike = [Row(str(n), "done", {}, figures={"lncc_after": 0.5 + n * 2**-53}) for n in range(3)]
    assert _charts(alike) == ""  # numpy makes no bins of them
    assert "0.5 to 0.7" in _charts([*alike, Row("x", "done", {}, figures={"lncc_after": 0.7})])
