"""A picture of a series over time: how far the body moves, how alike it is, how the volumes of segments change."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from ..io.writing import write_picture

_MOST_SEGMENTS = 12


def draw(rows: Sequence[dict], segments: Sequence[dict], path: Path) -> None:
    """Write a PNG from the rows of frames.csv and segments.csv; nothing where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = 3 if segments else 2
    figure = Figure(figsize=(4.2 * count, 3.2), layout="constrained", dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(1, count)
    times = [row["time"] for row in rows]
    axes[0].plot(times, [row["mean_mm"] for row in rows], marker="o", label="mean")
    axes[0].plot(times, [row["max_mm"] for row in rows], marker="o", label="largest")
    jumping = [row for row in rows if row["jump"]]
    if jumping:
        axes[0].plot([row["time"] for row in jumping], [row["mean_mm"] for row in jumping], "rx", ms=12, label="jump")
    axes[0].set_title("displacement in the body, mm", fontsize=10)
    for key, label in (("lncc_before", "before"), ("lncc_after", "after")):
        axes[1].plot(times, [np.nan if row[key] is None else row[key] for row in rows], marker="o", label=label)
    axes[1].set_title("local correlation with the reference", fontsize=10)
    labels = list(dict.fromkeys(row["label"] for row in segments))[:_MOST_SEGMENTS]
    for label in labels:
        own = [row for row in segments if row["label"] == label]
        name = own[0]["name"] or f"label {label}"
        axes[2].plot([row["time"] for row in own], [row["change_percent"] for row in own], marker=".", label=name)
    if segments:
        axes[2].set_title("volume of segments, change in %", fontsize=10)
    for axis in axes:
        axis.set_xlabel("time", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if axis is axes[-1] and segments else {}
        axis.legend(fontsize=7, frameon=False, **beside)
    canvas.draw()
    write_picture(np.asarray(canvas.buffer_rgba())[..., :3], path)
