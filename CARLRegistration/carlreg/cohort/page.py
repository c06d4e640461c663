"""`summary.html` of a cohort: what failed, how each figure is spread, every pair with picture and link, worst first.

It shows the pictures of the pairs' folders beside it. Whatever comes from files is escaped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from urllib.parse import quote

import numpy as np

from .. import __version__
from .figures import FIGURES, Row
from .study import DONE, FAILED, Study

_BINS, _WIDTH, _HEIGHT = 24, 300, 70
# Of the largest value: figures that differ by less are all alike, but for rounding.
_ALIKE = 1e-6
_MOST_PICTURES = 400
_POLICY = "default-src 'none'; img-src 'self' file: data:; style-src 'unsafe-inline'"
_STYLE = """
:root { --ink: #1d2733; --soft: #5a6877; --line: #d9dfe6; --wash: #f4f6f8; --accent: #1f5fa8;
  --good: #1f7a4d; --check: #a86500; --poor: #b3261e; }
body { margin: 0; background: var(--wash); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 28px; background: #fff; min-height: 100vh; }
h1 { font-size: 26px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 32px 0 10px; border-bottom: 1px solid var(--line); padding-bottom: 5px; }
.soft { color: var(--soft); font-size: 13px; } a { color: var(--accent); text-decoration: none; }
.counts { display: flex; flex-wrap: wrap; gap: 10px; margin: 14px 0; }
.counts div { border: 1px solid var(--line); border-radius: 4px; padding: 6px 16px; background: var(--wash); }
.counts b { font-size: 22px; display: block; line-height: 1.2; }
.good { color: var(--good); } .check { color: var(--check); } .poor, .failed { color: var(--poor); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); gap: 18px; }
figure { margin: 0; } figcaption { font-size: 13px; font-weight: 600; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
td.n, th.n { text-align: right; } td.n { white-space: nowrap; } th { font-weight: 600; vertical-align: bottom; }
tr.first td { border-bottom: none; padding-top: 12px; } tr.first td:first-child { font-weight: 600; }
td:first-child, th:first-child { min-width: 190px; } td:nth-child(2), th:nth-child(2) { min-width: 70px; }
td.out { background: #fdeceb; } img { width: 100%; max-width: 860px; display: block; border-radius: 3px; }
"""
#: Columns of the table of pairs; the others are in the charts and in the CSV.
_SHOWN = (
    *("lncc_after", "dice_after", "landmarks_after_mm", "fold_percent", "jacobian_min", "jacobian_max"),
    "uncertainty_p90_mm",
)


def page(study: Study, rows: Sequence[Row]) -> str:
    """The page as HTML."""
    words = Counter(row.verdict if row.state == DONE else row.state for row in rows)
    order = ("failed", "poor", "check", "good", "changed", "planned")
    said = {"changed": "to run again", "planned": "not run"}
    counts = "".join(
        f'<div class="{word}"><b>{words[word]}</b>{said.get(word, word)}</div>' for word in order if words[word]
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>Cohort {escape(study.folder.name)}</title><link rel="icon" href="data:,"><style>{_STYLE}</style></head>
<body><main>
<h1>Cohort {escape(study.folder.name)}</h1>
<p class="soft">{len(rows)} pairs, carlreg {escape(__version__)}. All figures: <a href="summary.csv">summary.csv</a>
</p>
<div class="counts">{counts}</div>
{_failures(rows)}{_charts(rows)}{_pairs(study, rows)}
</main></body></html>
"""


def _failures(rows: Sequence[Row]) -> str:
    failed = [row for row in rows if row.state == FAILED]
    if not failed:
        return ""
    lines = "".join(f"<tr><td>{escape(row.name)}</td><td>{escape(row.reason)}</td></tr>" for row in failed)
    again = "Run them again with <code>carlreg cohort FOLDER --resume --retry-failed</code>."
    return f'<h2>Failed</h2><table><tr><th>Pair</th><th>Why</th></tr>{lines}</table><p class="soft">{again}</p>'


def _charts(rows: Sequence[Row]) -> str:
    charts = []
    for column, (_, title, _) in FIGURES.items():
        values = np.array([row.figures[column] for row in rows if column in row.figures])
        if values.size > 1 and np.ptp(values) > _ALIKE * np.abs(values).max():
            outliers = sum(column in row.outlier_of for row in rows)
            charts.append(_histogram(title, values, outliers))
    return f'<h2>Spread of the figures</h2><div class="charts">{"".join(charts)}</div>' if charts else ""


def _histogram(title: str, values: np.ndarray, outliers: int) -> str:
    counts, edges = np.histogram(values, bins=_BINS)
    width = _WIDTH / _BINS
    bars = "".join(
        f'<rect x="{number * width + 0.5:.1f}" y="{_HEIGHT - height:.1f}" width="{width - 1:.1f}" '
        f'height="{height:.1f}" fill="#1f5fa8"/>'
        for number, height in enumerate(counts / counts.max() * _HEIGHT)
        if height
    )
    middle = (np.median(values) - edges[0]) / (edges[-1] - edges[0]) * _WIDTH
    far = f", {outliers} outlier{'s' if outliers > 1 else ''}" if outliers else ""
    said = f"{edges[0]:.3g} to {edges[-1]:.3g}, median {np.median(values):.3g}{far}"
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT + 2}" role="img" '
        f'aria-label="{escape(title)}: {said}">{bars}<line x1="{middle:.1f}" x2="{middle:.1f}" y1="0" y2="{_HEIGHT}" '
        f'stroke="#b3261e"/><line x1="0" x2="{_WIDTH}" y1="{_HEIGHT + 1}" y2="{_HEIGHT + 1}" stroke="#d9dfe6"/></svg>'
        f'<span class="soft">{said}</span></figure>'
    )


def _pairs(study: Study, rows: Sequence[Row]) -> str:
    done = [row for row in rows if row.state == DONE]
    if not done:
        return ""
    columns = [column for column in _SHOWN if any(column in row.figures for row in done)]
    head = "".join(f'<th class="n">{escape(FIGURES[column][1])}</th>' for column in columns)
    lines = "".join(_line(study, row, columns, number < _MOST_PICTURES) for number, row in enumerate(done))
    return (
        '<h2>Pairs, the worst first</h2><p class="soft">Fixed; moving before and after; both laid over each other; '
        "differences before and after; volume change. Marked: figures that lie far from the others' on the worse "
        f"side.</p><table><tr><th>Pair</th><th>Verdict</th>{head}</tr>{lines}</table>"
    )


def _line(study: Study, row: Row, columns: Sequence[str], picture: bool) -> str:
    folder = f"pairs/{quote(row.name)}"
    there = study.result(row.name)
    name = escape(row.name)
    if (there / "report.html").is_file():
        name = f'<a href="{folder}/report.html">{name}</a>'
    cells = "".join(
        f'<td class="n{" out" if column in row.outlier_of else ""}">{row.figures[column]:.3g}</td>'
        if column in row.figures
        else "<td></td>"
        for column in columns
    )
    word = escape(row.verdict)
    first = f'<tr class="first"><td>{name}</td><td class="{word}">{word}</td>{cells}</tr>'
    shown = ""
    if picture and (there / "sheet.png").is_file():
        image = f'<img src="{folder}/sheet.png" alt="{escape(row.name)}" loading="lazy">'
        shown = f'<a href="{folder}/sheet.png">{image}</a>'
    return f'{first}<tr><td colspan="{len(columns) + 2}">{shown}</td></tr>'
