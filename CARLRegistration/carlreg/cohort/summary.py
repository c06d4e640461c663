"""What came of a cohort: one row per pair, outliers marked, as a table for programs and a page for people."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

import numpy as np

from ..atomic import staged_file
from ..text_files import read_json_object
from .figures import FIGURES, Row, figures_of
from .page import page
from .study import DONE, FAILED, Study

#: By which pairs are ordered within a verdict, the first that any of them has; all are in `FIGURES`.
ORDER = ("landmarks_after_mm", "dice_after", "lncc_after")
OUTLIER = 3.5  # robust z-score, as Iglewicz and Hoaglin (1993) recommend
_LEAST = 8  # pairs, below which spread says nothing
_WORST = {"poor": 0, "check": 1, "good": 2}
COLUMNS = ("name", "state", "verdict", "outlier_of", *FIGURES, "seconds", "peak_mb", "reason", "fixed", "moving")


def rows_of(study: Study) -> list[Row]:
    """All pairs of a study, the failed and the worst first."""
    times = {}
    for event in study.events():
        if event.get("event") in (DONE, FAILED):
            times[event.get("name")] = event
    rows = []
    for pair in study.pairs:
        state, event = study.state(pair), times.get(pair.name, {})
        row = Row(pair.name, state.word, pair.files, seconds=event.get("seconds"), peak_mb=event.get("peak_mb"))
        if state.word == FAILED:
            row.reason = str(state.record.get("reason", ""))
        elif state.word == DONE:
            figures = figures_of(read_json_object(study.result(pair.name) / "quality.json", f"{pair.name}: quality"))
            row.verdict = figures.pop("verdict")
            row.figures = figures
        rows.append(row)
    mark_outliers(rows)
    key = next((column for column in ORDER if any(column in row.figures for row in rows)), None)
    return sorted(rows, key=lambda row: _badness(row, key))


def mark_outliers(rows: Sequence[Row]) -> None:
    """Say in which figures a row lies far on the worse side: robust z-score (median, MAD) above `OUTLIER`."""
    for column, (_, _, worse) in FIGURES.items():
        having = [row for row in rows if column in row.figures]
        if not worse or len(having) < _LEAST:
            continue
        scores = robust_z(np.array([row.figures[column] for row in having])) * worse
        for row, score in zip(having, scores, strict=True):
            if score > OUTLIER:
                row.outlier_of.append(column)


def robust_z(values: np.ndarray) -> np.ndarray:
    """0.6745 (x - median) / MAD; by the mean absolute deviation (times 1.2533) where more than half are equal."""
    off = values - np.median(values)
    spread = np.median(np.abs(off)) / 0.6745
    if not spread:
        spread = np.mean(np.abs(off)) * 1.2533
    return off / spread if spread else np.zeros_like(off)


def write_summary(study: Study) -> list[Row]:
    """Write `summary.csv` and `summary.html`; returns the rows. Raises ResourceError."""
    rows = rows_of(study)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(row, column) for column in COLUMNS] for row in rows)
    with staged_file(study.folder / "summary.csv", final=False) as written:
        written.write_text(table.getvalue(), encoding="utf-8")
    with staged_file(study.folder / "summary.html", final=False) as written:
        written.write_text(page(study, rows), encoding="utf-8")
    return rows


def _cell(row: Row, column: str) -> str:
    if column in FIGURES:
        return f"{row.figures[column]:.6g}" if column in row.figures else ""
    if column in ("fixed", "moving"):
        return row.files[column]
    value = getattr(row, column)
    if column == "outlier_of":
        return " ".join(value)
    return "" if value is None else str(value)


def _badness(row: Row, key: str | None) -> tuple:
    first = 0 if row.state == FAILED else 1 if row.state == DONE else 2
    value = row.figures.get(key, math.inf) if key else 0.0
    if key:
        value *= -FIGURES[key][2]
    return first, _WORST.get(row.verdict, 3), -len(row.outlier_of), value, row.name
