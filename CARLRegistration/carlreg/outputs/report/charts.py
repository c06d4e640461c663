"""The report's charts, drawn by matplotlib as SVG text; None where it is not installed or there is nothing to draw."""

from __future__ import annotations

import importlib.util
import io
import math
import re

import numpy as np

BEFORE, AFTER, INK, SOFT = "#b9c3ce", "#1f5fa8", "#1d2733", "#5a6877"
_MOST_ROWS = 40
_SIMILARITY = (
    ("ncc", "Correlation\n(NCC)"),
    ("lncc", "Local correlation\n(LNCC)"),
    ("mi", "Mutual information\n(nats)"),
)

_OPTIMIZED = {"lncc2": "squared LNCC", "lncc": "LNCC", "mind": "-(MIND distance)"}


def available() -> bool:
    """Whether matplotlib is there; the report says so where it is not."""
    return importlib.util.find_spec("matplotlib") is not None


def similarity(quality: dict) -> str | None:
    """Bars of the three figures, before and after."""
    before, after = quality["similarity"]["before"], quality["similarity"]["after"]
    shown = [(key, label) for key, label in _SIMILARITY if None not in (before.get(key), after.get(key))]
    if not shown:
        return None
    figure, axes = _figure(2.5, columns=len(shown))
    for axis, (key, label) in zip(axes, shown, strict=True):
        bars = axis.bar(["before", "after"], [before[key], after[key]], color=[BEFORE, AFTER], width=0.62)
        axis.bar_label(bars, fmt="%.3f", fontsize=9, padding=2)
        axis.set_title(label, fontsize=9.5)
        low, high = min(0.0, before[key], after[key]), max(before[key], after[key], 0.05)
        axis.set_ylim(low * 1.25, high * 1.22)
        axis.axhline(0, color=INK, linewidth=0.8)
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
    return _svg(figure, "Similarity before and after")


def optimization(quality: dict) -> str | None:
    """The similarity at each step, one line for each resolution: figures of different ones are not comparable."""
    told = quality.get("optimization") or {}
    curve = [math.nan if value is None else value for value in told.get("curve") or []]
    levels = told.get("levels") or []
    if len(curve) < 2 or sum(levels) != len(curve):
        return None
    figure, (axis,) = _figure(2.5)
    ends = np.cumsum(levels)
    for begin, end in zip(ends - levels, ends, strict=True):
        axis.plot(np.arange(begin, end) + 1, curve[begin:end], color=AFTER, linewidth=1.8)
        if 0 < begin < len(curve):
            axis.axvline(begin + 0.5, color="#e6eaee", linewidth=1)
    axis.set_xlim(0, told.get("asked") or len(curve))
    axis.set_xlabel("step; the resolution grows at each line")
    axis.set_ylabel(_OPTIMIZED.get(str(told.get("similarity")), "similarity"))
    return _svg(figure, "Instance optimization")


def volume_change(quality: dict) -> str | None:
    """Histogram of the Jacobian determinant in the body, on a logarithmic axis."""
    histogram = quality["jacobian"].get("histogram")
    if not histogram or not sum(histogram["counts"]):
        return None
    from matplotlib.colors import LinearSegmentedColormap

    edges, counts = np.array(histogram["log2_edges"]), np.array(histogram["counts"], dtype=float)
    share = 100.0 * counts / counts.sum()
    colors = LinearSegmentedColormap.from_list("change", ["#2150b4", "#d5d9de", "#be1e23"])
    figure, (axis,) = _figure(2.5)
    middles = (edges[1:] + edges[:-1]) / 2
    axis.bar(middles, share, width=np.diff(edges), color=colors(np.clip(middles / 2 + 0.5, 0, 1)))
    filled = np.flatnonzero(counts)
    reach = max(1.05, float(np.abs(edges[[filled[0], filled[-1] + 1]]).max()))
    axis.set_xlim(-reach, reach)
    ticks = [t for t in (-3, -2, -1, -0.5, 0, 0.5, 1, 2, 3) if abs(t) <= reach]
    axis.set_xticks(ticks, [f"{2.0**t:.2g}" if t < 2 else f"{2**t}" for t in ticks])
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.set_xlabel("Jacobian determinant (1: same volume, 2: twice as large in the moving image)")
    axis.set_ylabel("% of the body")
    return _svg(figure, "Volume change in the body")


def per_label(quality: dict, what: str) -> str | None:
    """Each label before and after: `what` is 'dice' or 'surface'."""
    labels = quality.get("labels")
    if not labels or (what == "surface" and "surface_mm" not in labels["after"]):
        return None
    names = {str(s["label"]): s["name"] for s in quality.get("segments") or [] if s.get("name")}
    if what == "dice":
        before, after = (labels[when]["per_label"] for when in ("before", "after"))
        caption, unit = "Overlap per label", "Dice (1: the same)"
    else:
        before, after = (
            {label: figures["mean"] for label, figures in labels[when]["surface_mm"].items() if figures}
            for when in ("before", "after")
        )
        caption, unit = "Distance of surfaces per label", "mean surface distance, mm"
    shown = [label for label in after if label in before][:_MOST_ROWS]
    if not shown:
        return None
    figure, (axis,) = _figure(1.0 + 0.23 * len(shown))
    rows = np.arange(len(shown))[::-1]
    first, second = ([values[label] for label in shown] for values in (before, after))
    axis.hlines(rows, first, second, color="#d5dbe2", linewidth=3, zorder=1)
    axis.scatter(first, rows, color=BEFORE, s=30, zorder=2, label="before", edgecolor=SOFT, linewidth=0.5)
    axis.scatter(second, rows, color=AFTER, s=30, zorder=3, label="after")
    axis.set_yticks(rows, [_short(names.get(label) or f"label {label}") for label in shown])
    axis.set_ylim(-0.7, len(shown) - 0.3)
    axis.set_xlim(left=0.0, right=1.0 if what == "dice" else None)
    axis.set_xlabel(unit + ("" if len(shown) == len(after) else f"; the first {len(shown)} of {len(after)} labels"))
    axis.grid(axis="x", color="#e6eaee", linewidth=0.8)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9)
    return _svg(figure, caption)


def segment_volumes(quality: dict) -> str | None:
    """Bars of each segment's volume change."""
    segments = (quality.get("segments") or [])[:_MOST_ROWS]
    if not segments:
        return None
    figure, (axis,) = _figure(0.9 + 0.23 * len(segments))
    rows = np.arange(len(segments))[::-1]
    change = [s["volume_change_percent"] for s in segments]
    axis.barh(rows, change, color=["#2150b4" if c < 0 else "#be1e23" for c in change], height=0.62)
    axis.set_yticks(rows, [_short(s.get("name") or f"label {s['label']}") for s in segments])
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.set_ylim(-0.7, len(segments) - 0.3)
    axis.grid(axis="x", color="#e6eaee", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_xlabel("% larger (+) or smaller (-) in the moving image")
    return _svg(figure, "Volume change per segment")


def landmarks(quality: dict) -> str | None:
    """Share of the landmarks whose error is below so many mm."""
    blocks = quality.get("landmarks") or {}
    errors = {
        when: [error for error in (blocks.get(when) or {}).get("errors_mm") or [] if error is not None]
        for when in ("before", "after")
    }
    if not all(errors.values()):
        return None
    figure, (axis,) = _figure(2.5)
    for when, color in (("before", BEFORE), ("after", AFTER)):
        values = np.sort(errors[when])
        share = 100.0 * np.arange(1, len(values) + 1) / len(values)
        axis.step([0, *values], [0, *share], where="post", color=color, linewidth=2.2, label=when)
    axis.set_xlim(left=0)
    axis.set_ylim(0, 102)
    axis.set_xlabel("error, mm")
    axis.set_ylabel("% of landmarks below")
    axis.grid(color="#e6eaee", linewidth=0.8)
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    return _svg(figure, f"Errors of {len(errors['after'])} landmarks")


def _figure(height: float, columns: int = 1):
    # The object interface: no window system, and nothing of the caller's matplotlib settings is changed.
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.tick_params(labelsize=9, colors=INK, length=3)
        axis.xaxis.label.set_size(9)
        axis.yaxis.label.set_size(9)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axis.spines[side].set_color(SOFT)
    return figure, axes


def _svg(figure, caption: str) -> str:
    """The <svg> element alone: no XML head, no metadata, no addresses but the namespaces that XML needs no more."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace('xmlns="http://www.w3.org/2000/svg"', "").replace("xlink:href", "href")
    text = re.sub(r'\sxmlns:xlink="[^"]*"', "", text)
    # One page holds several charts: their inner names must not meet.
    prefix = re.sub(r"\W+", "_", caption.lower()) + "_"
    names = set(re.findall(r'\bid="([^"]+)"', text))
    text = re.sub(r'\bid="([^"]+)"', lambda m: f'id="{prefix}{m[1]}"', text)
    text = re.sub(r'(href="#|url\(#)([^")]+)', lambda m: m[1] + (prefix if m[2] in names else "") + m[2], text)
    return text.strip()


def _short(name: str) -> str:
    short = name if len(name) <= 26 else name[:25] + "…"
    return short.replace("$", r"\$")  # else the beginning of a formula
