"""The table of the networks beside each other, from rows that are made up."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from benchmarks import family, run
from benchmarks.cases import Case
from benchmarks.family import Task, as_markdown, keep, row_of, tasks
from benchmarks.judging import inverse_error_mm

HERE = {"cpu": "an invented processor", "cores": 2, "threads": 2, "system": "none"}


def row(**figures) -> dict:
    return {
        "seconds": 40.0,
        "cpu_seconds": 12.4,
        "peak_gb": 1.26,
        "load_before": 0.0,
        "inverse_error_mm": 0.01234,
        **figures,
    }


def results(**rows) -> dict:
    return {"machine": HERE, "date": "2026-01-02", "versions": {}, "rows": rows}


def table_after(text: str, heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without the line below its header."""
    lines = [*text.split(heading, 1)[1].lstrip(":\n").splitlines(), ""]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[: lines.index("")]]
    return [found[0], *found[2:]]


def small_case(name: str) -> Case:
    array = np.zeros((20, 24, 28), dtype=np.int16)
    array[5:15, 6:18, 7:21] = 100
    image = sitk.GetImageFromArray(array)
    fixed, moving = np.array([[0.0, 0.0, 0.0]]), np.array([[3.0, 4.0, 0.0]])
    return Case(name, image, image, 0.0, landmarks_fixed_lps=fixed, landmarks_moving_lps=moving)


def test_models_are_columns_and_cases_rows():
    before = {"landmarks_mean_mm": 7.6, "fold_percent": 0.0}
    no_io = {"eoir": row(landmarks_mean_mm=2.0, fold_percent=0.5), "carl-compact": row(landmarks_mean_mm=1.634)}
    text = as_markdown(
        results(
            lung={"before": before, run.OURS_NO_IO: no_io, run.OURS: {"carl-compact": row(landmarks_mean_mm=1.4)}},
            lung_rot90={run.OURS_NO_IO: {"eoir": {"failed": "no memory", "load_before": 0.0}}},
            brain={"before": {"dice_mean": 0.423}, run.OURS_NO_IO: {"another": row(dice_mean=0.56, load_before=9.0)}},
        )
    )
    assert table_after(text, "Accuracy, without instance optimization") == [
        ["case", "unit", "before", "carl-compact", "eoir", "another"],
        ["lung", "mm", "7.60", "1.63", "2.00 (0.5 % folds)", ""],
        ["brain", "Dice", "0.423", "", "", "0.560"],
        ["lung_rot90", "", "", "", "failed", ""],
    ]
    assert table_after(text, "Accuracy, with instance optimization")[1:] == [["lung", "mm", "7.60", "1.40", "", ""]]
    assert table_after(text, "Error of the inverse, mm, without instance optimization")[1] == [
        *("lung", "0.0123", "0.0123", ""),
    ]
    seconds = table_after(text, "beside other work, up to double)")
    assert seconds[1:3] == [["lung", "12", "12", ""], ["brain", "", "", "12*"]]
    assert "- lung_rot90, eoir, without instance optimization: no memory" in text
    assert "Moving's content" not in text


def test_shifts_are_beside_each_other():
    rows = {
        name: {run.OURS: {"eoir": row(landmarks_mean_mm=1.2 + off), "nephi": row(landmarks_mean_mm=2.0)}}
        for name, off in (("eth19_1_6", 0.0), ("eth19_1_6+15", 0.25), ("eth19_1_6+30", -0.1))
    }
    found = table_after(as_markdown(results(**rows)), "longer than 100, with instance optimization")
    assert found == [
        ["case", "model", "unit", "0", "15", "30", "45", "largest change"],
        ["eth19_1_6", "eoir", "mm", "1.20", "1.45", "1.10", "", "0.25"],
        ["eth19_1_6", "nephi", "mm", "2.00", "2.00", "2.00", "", "0.00"],
    ]


def test_rows_are_kept_one_by_one(tmp_path):
    file, case = tmp_path / "family.json", small_case("lung")
    first, second = (Task("lung", run.OURS, model) for model in ("eoir", "nephi"))
    keep(file, HERE, first, case, row(landmarks_mean_mm=2.0))
    keep(file, HERE, second, case, row(landmarks_mean_mm=3.0))
    found = json.loads(file.read_text())
    assert row_of(found, first)["landmarks_mean_mm"] == 2.0 and row_of(found, second)["landmarks_mean_mm"] == 3.0
    assert row_of(found, Task("lung", run.OURS_NO_IO, "eoir")) is None
    assert found["rows"]["lung"]["before"]["landmarks_mean_mm"] == 5.0
    assert "| lung | mm | 5.00 | 2.00 | 3.00 |" in file.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("change", "rows"),
    [({"system": "a newer kernel"}, 2), ({"threads": 1}, 1), ({"cpu": "another"}, 1), ({"cores": 64}, 1)],
)
def test_rows_of_another_processor_or_of_other_threads_are_not_mixed(tmp_path, change, rows):
    file, case = tmp_path / "family.json", small_case("lung")
    keep(file, HERE, Task("lung", run.OURS, "eoir"), case, row(landmarks_mean_mm=2.0))
    keep(file, HERE | change, Task("lung", run.OURS, "nephi"), case, row(landmarks_mean_mm=3.0))
    assert len(json.loads(file.read_text())["rows"]["lung"][run.OURS]) == rows


def test_what_is_quick_comes_first():
    todo = list(tasks(["eoir"], ["lung", "brain"], ["no", "yes"]))
    assert [(task.method, task.case) for task in todo] == [
        *(("no", "lung"), ("no", "brain")),
        *(("yes", "lung"), ("yes", "brain")),
    ]
    assert set(family.SHIFTED) >= {"lung+15", "abdomen_40+45"} and len(family.SHIFTED) == 12


def test_the_way_there_and_back():
    case = small_case("lung")
    there = sitk.TranslationTransform(3, (4.0, 0.0, 0.0))
    assert inverse_error_mm(case, there, there.GetInverse()) == pytest.approx(0.0, abs=1e-9)
    assert inverse_error_mm(case, there, sitk.TranslationTransform(3, (-4.0, 0.0, 1.5))) == pytest.approx(1.5)
    away = sitk.TranslationTransform(3, (400.0, 0.0, 0.0))
    assert np.isnan(inverse_error_mm(case, away, away.GetInverse()))
