"""Progress: fractions that grow to one, stages with their times, a cancel that is noticed."""

from __future__ import annotations

import sys
import threading
import time
from itertools import pairwise

import pytest
from carlreg.errors import Cancelled
from carlreg.progress import Progress, Step, forget_peak_memory, peak_memory_mb


def test_fractions_follow_the_weights_and_never_fall():
    records = []
    progress = Progress(on_record=records.append, weights={"a": 1.0, "b": 3.0})
    with progress.stage("a", "first"):
        progress.update(0.5)
    with progress.stage("b"):
        for step in range(4):
            progress.update((step + 1) / 4, f"step {step}")
    fractions = [record.fraction for record in records]
    assert fractions == pytest.approx([0, 0.125, 0.25, 0.4375, 0.625, 0.8125, 1.0])
    assert [record.stage for record in records] == ["a", "a", "b", "b", "b", "b", "b"]
    assert records[0].message == "first" and records[0].seconds_left is None
    assert records[-1].seconds_left == pytest.approx(0.0)


def test_a_stage_without_a_weight_counts_as_one_and_turns_nothing_back():
    records = []
    progress = Progress(on_record=records.append, weights={"a": 1.0, "c": 2.0})
    for name in "abc":
        with progress.stage(name):
            progress.update(0.5)
    fractions = [record.fraction for record in records]
    assert fractions == pytest.approx([0, 1 / 6, 1 / 4, 1.5 / 4, 2 / 4, 3 / 4])


def test_seconds_left_from_the_pace():
    records = []
    progress = Progress(on_record=records.append, weights={"a": 1.0})
    with progress.stage("a"):
        time.sleep(0.2)
        progress.update(0.25)
    assert 0.4 < records[-1].seconds_left < 3.0  # 0.6 at an even pace


def test_stages_are_timed():
    progress = Progress()
    with progress.stage("a"):
        time.sleep(0.05)
    (timing,) = progress.timings
    assert timing.name == "a" and 0.05 <= timing.seconds < 2.0
    assert timing.peak_mb == pytest.approx(peak_memory_mb(), rel=0.2)


def test_cancel_from_another_thread_ends_a_loop():
    progress = Progress(weights={"a": 1.0})
    threading.Timer(0.05, progress.cancel).start()
    begin = time.monotonic()
    with pytest.raises(Cancelled, match="nothing was written"), progress.stage("a"):
        while time.monotonic() - begin < 5.0:
            progress.update(0.1)
    assert time.monotonic() - begin < 2.0
    with pytest.raises(Cancelled):
        progress.check()
    with pytest.raises(Cancelled), progress.stage("b"):
        pytest.fail("a stage began after the cancel")


def test_records_are_plain_values():
    records = []
    progress = Progress(on_record=records.append, weights={"a": 1.0})
    with progress.stage("a", "text"):
        pass
    assert records[0].as_dict() == {"stage": "a", "fraction": 0.0, "seconds_left": None, "message": "text"}


def test_steps_are_reported_and_kept():
    records = []
    progress = Progress(on_record=records.append, weights={"a": 1.0})
    with progress.stage("a"):
        progress.stepped(Step(1, 4, 0.25))
        progress.stepped(Step(2, 4, 0.5, 1))
    assert [record.fraction for record in records] == pytest.approx([0, 0.25, 0.5])
    assert records[0].step is None
    assert records[2].as_dict()["step"] == {"done": 2, "total": 4, "similarity": 0.5, "level": 1}
    assert progress.steps == [Step(1, 4, 0.25), Step(2, 4, 0.5, 1)]


def test_stop_here_is_no_cancel():
    progress = Progress()
    assert not progress.stopping
    progress.stop_here()
    progress.check()
    assert progress.stopping


def test_maps_are_shown_seldom(monkeypatch):
    """Once a second, and less often where showing one takes long: a map of 0.1 s at most every 3 s."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    made, shown = [], []

    def make():
        made.append(now[0])
        now[0] += 0.1
        return "map"

    Progress().offer_map(make)
    assert made == []  # nobody watches
    progress = Progress(on_map=shown.append)
    for _ in range(1000):
        progress.offer_map(make)
        now[0] += 0.01
    assert shown == ["map"] * len(made)
    assert 3.0 <= min(b - a for a, b in pairwise(made)) < 3.2
    assert 0.1 * len(made) < 0.05 * (now[0] - 100)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems cannot")
def test_the_peak_of_memory_begins_anew():
    block = b"x" * (200 * 2**20)
    before = peak_memory_mb()
    del block
    assert forget_peak_memory()
    assert peak_memory_mb() < before - 150
