"""What a series shows over time, as tables: figures of each frame, trajectories of points, volumes of segments."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..physical import jacobian_determinant
from ..quality.segments import volume_changes
from .register import SeriesResult

FRAME_COLUMNS = (
    *("frame", "time", "start", "mean_mm", "max_mm", "lncc_before", "lncc_after", "fold_percent", "jacobian_min"),
    *("jacobian_max", "verdict", "jump", "cpu_seconds"),
)
POINT_COLUMNS = ("point", "name", "frame", "time", "x", "y", "z", "displacement_mm")
SEGMENT_COLUMNS = ("label", "name", "frame", "time", "volume_ml", "change_percent")


def frame_rows(result: SeriesResult, lengths_mm: Sequence[tuple[float, float]]) -> list[dict]:
    """One row per frame. lengths_mm: mean and largest displacement of each."""
    rows = []
    for n, (frame, (mean, largest)) in enumerate(zip(result.frames, lengths_mm, strict=True)):
        similarity = frame.quality.get("similarity") or {}
        jacobian = frame.quality.get("jacobian") or {}
        rows.append(
            {
                "frame": n,
                "time": result.series.times[n],
                "start": frame.start,
                "mean_mm": mean,
                "max_mm": largest,
                "lncc_before": (similarity.get("before") or {}).get("lncc"),
                "lncc_after": (similarity.get("after") or {}).get("lncc"),
                "fold_percent": jacobian.get("fold_percent"),
                "jacobian_min": jacobian.get("min"),
                "jacobian_max": jacobian.get("max"),
                "verdict": (frame.quality.get("verdict") or {}).get("word"),
                "jump": int(frame.jump),
                "cpu_seconds": round(frame.cpu_seconds, 3),
            }
        )
    return rows


def point_rows(result: SeriesResult, points_lps: np.ndarray, names: Sequence[str]) -> list[dict]:
    """Where points of the reference (N x 3, LPS mm) are in each frame."""
    places = np.stack([frame.transform.apply(points_lps) for frame in result.frames])
    rows = []
    for p, name in enumerate(names):
        for n, time in enumerate(result.series.times):
            x, y, z = places[n, p].tolist()
            length = float(np.linalg.norm(places[n, p] - points_lps[p]))
            values = (p, name, n, time, x, y, z, length)
            rows.append(dict(zip(POINT_COLUMNS, values, strict=True)))
    return rows


def segment_rows(result: SeriesResult, labels: np.ndarray, names: Mapping[int, str]) -> list[dict]:
    """The volume of each segment of the reference (D, H, W) in each frame, by the determinant of its map."""
    grid, rows = result.reference.grid, []
    for n, (frame, time) in enumerate(zip(result.frames, result.series.times, strict=True)):
        for entry in volume_changes(labels, jacobian_determinant(frame.transform, grid), grid, names):
            change = entry["volume_change_percent"]
            ml = entry["volume_mm3"] * (1 + change / 100) / 1000
            values = (entry["label"], entry["name"] or "", n, time, ml, change)
            rows.append(dict(zip(SEGMENT_COLUMNS, values, strict=True)))
    return rows


def table(columns: Sequence[str], rows: Iterable[Mapping]) -> str:
    """CSV text; numbers with six significant digits, nothing for what is not known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row[column]) for column in columns] for row in rows)
    return out.getvalue()


def _cell(value) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
