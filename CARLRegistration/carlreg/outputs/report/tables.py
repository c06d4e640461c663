"""The report's tables of numbers."""

from __future__ import annotations

import html
import math

import numpy as np

from ...quality.limits import shown
from . import charts
from .case import ReportCase

MOST_ROWS = 60


def esc(value) -> str:
    return html.escape(str(value), quote=True)


def number(value, digits: int = 3, unit: str = "") -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    text = f"{value:,d}" if isinstance(value, int) else shown(value, digits)
    return text + (f"&nbsp;{unit}" if unit else "")


def segments_table(case: ReportCase) -> str:
    segments = case.quality.get("segments") or []
    if not segments:
        return ""
    rows = "".join(_segment(segment) for segment in segments[:MOST_ROWS])
    chart = charts.segment_volumes(case.quality) if charts.available() else None
    return f"""<h3>Per segment of the fixed label map</h3>
<p class="soft">Change: how much larger (+) or smaller (-) the segment is in the moving image.</p>
<div class="columns"><table><tr><th>Segment</th><th class="n">mL</th><th class="n">Change, %</th><th class="n">
Determinant</th><th class="n">5-95 %</th></tr>{rows}</table>{framed(chart)}</div>{first_rows(len(segments))}"""


def first_rows(count: int) -> str:
    """What to say below a table that shows only the first of so many rows."""
    return f"<p class='soft'>The first {MOST_ROWS} of {count}.</p>" if count > MOST_ROWS else ""


def _segment(segment: dict) -> str:
    determinant = segment["determinant"]
    return (
        f"<tr><td>{esc(segment.get('name') or 'label ' + str(segment['label']))}</td>"
        f'<td class="n">{shown(segment["volume_mm3"] / 1000, 1)}</td>'
        f'<td class="n">{segment["volume_change_percent"]:+.1f}</td>'
        f'<td class="n">{determinant["mean"]:.3f} ± {determinant["sd"]:.3f}</td>'
        f'<td class="n">{determinant["p5"]:.2f} to {determinant["p95"]:.2f}</td></tr>'
    )


def motions_table(case: ReportCase) -> str:
    """How rigid and stiff segments moved; empty without any."""
    motions = case.quality.get("motions") or []
    if not motions:
        return ""
    rows = "".join(_motion(motion) for motion in motions[:MOST_ROWS])
    reference = motions[0].get("relative_to")
    to = f"relative to {esc(reference)}, which is held still" if reference else "from the fixed to the moving image"
    return f"""<p class="soft">The rigid motion of each segment, {to}: rotation about the axis, the same in turn
about the axes L, P and S, and the shift of the segment's center. Deviation: how far the map is
from it inside the segment, root mean square and largest.</p>
<table><tr><th>Segment</th><th>Kind</th><th class="n">Rotation</th><th class="n">Axis (L, P, S)</th>
<th class="n">About L, P, S</th><th class="n">Shift, mm (L, P, S)</th><th class="n">Length, mm</th>
<th class="n">Deviation, mm</th><th class="n">Determinant</th></tr>{rows}</table>{first_rows(len(motions))}"""


def _motion(motion: dict) -> str:
    def three(key: str, digits: int) -> str:
        return ", ".join(f"{value:.{digits}f}" for value in motion[key])

    determinant = motion["determinant"]
    cells = (
        f"{motion['rotation_degrees']:.2f}°",
        three("axis_lps", 2),
        three("euler_degrees", 2) + "°",
        three("translation_lps", 2),
        f"{motion['translation_mm']:.2f}",
        f"{motion['deviation_rms_mm']:.3f}, {motion['deviation_max_mm']:.3f}",
        f"{determinant['min']:.3f} to {determinant['max']:.3f}",
    )
    return (
        f"<tr><td>{esc(motion['name'])}</td><td>{esc(motion['kind'])}</td>"
        + "".join(f'<td class="n">{cell}</td>' for cell in cells)
        + "</tr>"
    )


def framed(chart: str | None) -> str:
    return f"<figure>{chart}</figure>" if chart else ""


def metrics_table(case: ReportCase) -> str:
    quality = case.quality
    before, after = quality["similarity"]["before"], quality["similarity"]["after"]
    rows = [
        ("Correlation (NCC)", number(before.get("ncc")), number(after.get("ncc"))),
        ("Local correlation (LNCC)", number(before.get("lncc")), number(after.get("lncc"))),
        ("Mutual information, nats", number(before.get("mi")), number(after.get("mi"))),
    ]
    labels, landmarks, true_map = (quality.get(key) or {} for key in ("labels", "landmarks", "true_map"))
    if labels:
        first, second = (labels[when] for when in ("before", "after"))
        rows.append(("Labels, mean Dice", number(first["mean"]), number(second["mean"])))
        if "surface_mm" in second:
            for key, name in (("mean", "mean surface distance"), ("hausdorff95", "95 % Hausdorff distance")):
                before_mm, after_mm = (_mean_surface(block["surface_mm"], key) for block in (first, second))
                rows.append((f"Labels, {name}, mm", number(before_mm, 2), number(after_mm, 2)))
    if landmarks:
        for key, name in (("mean_mm", "mean"), ("max_mm", "largest")):
            before_mm, after_mm = (landmarks[when][key] for when in ("before", "after"))
            rows.append((f"Landmarks, {name} error, mm", number(before_mm, 2), number(after_mm, 2)))
    if true_map.get("after"):
        rows.append(("True map, mean error, mm", "", number(true_map["after"].get("mean_mm"), 2)))
    rows.append(("Fixed body inside the moving volume, %", "", number(quality.get("overlap_percent"), 1)))
    if quality.get("inverse_error_mm"):
        rows.append(("There and back, mean error, mm", "", number(quality["inverse_error_mm"].get("mean"), 3)))
    table = "".join(f'<tr><td>{name}</td><td class="n">{b}</td><td class="n">{a}</td></tr>' for name, b, a in rows)
    table = f'<table><tr><th>Figure</th><th class="n">Before</th><th class="n">After</th></tr>{table}</table>'
    if not charts.available():
        return table + '<p class="soft">Charts need matplotlib: pip install matplotlib.</p>'
    drawn = [
        ("Similarity", charts.similarity(quality)),
        ("Similarity while the map was optimized", charts.optimization(quality)),
        ("Landmarks", charts.landmarks(quality)),
        ("Overlap of labels", charts.per_label(quality, "dice")),
        ("Surfaces of labels", charts.per_label(quality, "surface")),
    ]
    shown = "".join(f"<figure><h3>{name}</h3>{chart}</figure>" for name, chart in drawn if chart)
    return f'{table}<div class="charts">{shown}</div>'


def _mean_surface(surfaces: dict, key: str) -> float | None:
    values = [each[key] for each in surfaces.values() if each]
    return float(np.mean(values)) if values else None
