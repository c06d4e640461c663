"""The text of the report: one HTML page with everything inside. Whatever comes from files is escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path, PurePosixPath, PureWindowsPath

from ... import __version__
from ...quality.warnings import beyond_verdict
from ...spaces import VolumeGrid
from ..sheet import BLUE, FOLD, RED, WHITE
from . import charts
from .case import ReportCase
from .guidance import guidance
from .pictures import UNCERTAIN, UNSEEN, Picture, Slices
from .tables import esc, framed, metrics_table, motions_table, number, segments_table
from .volumes import viewer_data

_FILES = Path(__file__).with_name("html")
_MOST_FOLDS = 10
# Nothing is fetched, whatever a name or a value says.
_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {script}; connect-src data: blob:"
)
_SETTINGS = (
    ("transform", "Transform"),
    ("model", "Model"),
    ("weights", "Weights"),
    ("robustness", "Robustness"),
    ("fixed_modality", "Fixed modality (asked for)"),
    ("moving_modality", "Moving modality (asked for)"),
    ("similarity", "Similarity"),
    ("io_method", "Instance optimization"),
    ("effort", "Effort"),
    ("io_steps", "Steps (none given: the default)"),
    ("smoothness", "Smoothness"),
    ("grid", "Network grid, voxels"),
    ("field_spacing_mm", "Field spacing asked for, mm"),
    ("seed", "Seed"),
)

# Of these, what a linear transform has no use for.
_OF_DEFORMATION = ("io_method", "effort", "io_steps", "smoothness", "field_spacing_mm")


def page(case: ReportCase) -> str:
    """The whole report as HTML."""
    slices = Slices(case)
    scripts = {name: (_FILES / name).read_text(encoding="utf-8") for name in ("niivue.umd.js", "viewer.js")}
    sections = [
        ("summary", "Summary", _summary(case)),
        ("guidance", "Transform and guidance", guidance(case)),
        ("pictures", "Before and after", _before_and_after(slices)),
        ("viewer-section", "Viewer", _viewer(case, slices)),
        ("figures", "Figures", metrics_table(case)),
        ("change", "Volume change", _change(case, slices)),
        ("motions", "Motion of segments", motions_table(case)),
        ("uncertainty", "Uncertainty", _uncertainty(case, slices)),
        ("montage", "Slices", _montage(slices)),
        ("settings", "Settings", _settings(case)),
    ]
    sections = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title, _ in sections)
    body = "".join(f'<section id="{key}"><h2>{title}</h2>{content}</section>' for key, title, content in sections)
    script = " ".join(f"'sha256-{_sum(text)}'" for text in scripts.values())
    policy = _POLICY.format(script=script + " 'wasm-unsafe-eval'")
    license_text = (_FILES / "niivue.LICENSE.txt").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Registration report</title>
<link rel="icon" href="data:,">
<style>{(_FILES / "report.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
<header>
<h1>{_title(case)}</h1>
<div class="soft">{_subtitle(case)}</div>
<nav>{links}</nav>
</header>
{body}
<footer>
<p>Written by carlreg {esc(__version__)}. Left and right as in radiology: the patient's right is on the left. Not a
medical device; for research only. The figures and the verdict say what deserves a look, not what is right.</p>
<details class="license"><summary>The viewer is NiiVue; its license</summary><pre>{esc(license_text)}</pre></details>
</footer>
</main>
<script>{scripts["niivue.umd.js"]}</script>
<script>{scripts["viewer.js"]}</script>
</body>
</html>
"""


def _sum(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _title(case: ReportCase) -> str:
    fixed, moving = (case.names[side] for side in ("fixed", "moving"))
    if fixed and moving:
        return f"Registration of {esc(moving)} to {esc(fixed)}"
    return "Registration report"


def _subtitle(case: ReportCase) -> str:
    parts = []
    for side in ("fixed", "moving"):
        parts.append(f"{side.capitalize()}: {esc(_modality(case, side))}, {_grid(case.grids[side])}")
    return " &nbsp;·&nbsp; ".join(parts)


def _modality(case: ReportCase, side: str) -> str:
    return str((case.settings.get("info") or {}).get(f"{side}_modality") or "image").upper().replace("IMAGE", "image")


def _grid(grid: VolumeGrid) -> str:
    spacing = " x ".join(f"{s:.3g}" for s in grid.spacing)
    return f"{' x '.join(map(str, grid.size_ijk))} voxels of {spacing} mm"


def _summary(case: ReportCase) -> str:
    verdict = case.quality["verdict"]
    word = verdict["word"] if verdict["word"] in ("good", "check", "poor") else "check"
    reasons = "".join(f"<li>{esc(reason)}</li>" for reason in verdict["reasons"])
    notes = "".join(f"<li>{esc(_private(warning, case))}</li>" for warning in beyond_verdict(case.quality))
    notes = f'<div class="notes"><ul>{notes}</ul></div>' if notes else ""
    rows = []
    for check in verdict.get("checks") or []:
        limits = verdict["thresholds"].get(check["name"])
        if limits:
            value = "-" if check["value"] is None else format(check["value"], ".3g")
            sign = "below" if limits.get("below") else "above"
            poor = "never poor" if limits.get("poor") is None else f"poor {sign} {limits['poor']:.4g} {limits['unit']}"
            asked = f"check {sign} {limits['check']:.4g}, {poor}"
            rows.append(
                f'<tr><td class="word-{esc(check["word"])}">{esc(check["word"])}</td><td>{esc(limits["meaning"])}</td>'
                f'<td class="n">{value}</td><td>{esc(asked)}</td></tr>'
            )
    table = (
        '<details><summary>How the verdict was reached</summary><table><tr><th>Word</th><th>Figure</th><th class="n">'
        f"Value</th><th>Limits</th></tr>{''.join(rows)}</table></details>"
        if rows
        else ""
    )
    return f'<div class="verdict {word}"><div class="word">{word}</div><ul>{reasons}</ul></div>{notes}{table}'


def _private(warning: str, case: ReportCase) -> str:
    """A warning without the file's name where names are not to be told, and without folders in any case."""
    for side in ("fixed", "moving"):
        recorded = case.settings["inputs"][side].get("file")
        if recorded and case.names[side] is None:
            warning = warning.replace(f" ({recorded})", "").replace(recorded, f"{side} image")
    return re.sub(r"(?:[A-Za-z]:)?[\\/](?:[^\\/\s]+[\\/])+", "", warning)


def _pictures(columns: list[str], rows: list[list[Picture]], named: bool = True) -> str:
    count = len(rows[0])
    cells = [f'<div class="head">{esc(column)}</div>' for column in columns]
    for row in rows:
        for n, picture in enumerate(row):
            what = columns[n] if columns else "slice"
            name = f'<span class="mark name">{picture.plane}</span>' if n == 0 and named else ""
            cells.append(
                f'<figure><img src="{picture.uri}" alt="{esc(what)}, {picture.plane.lower()}">{name}'
                f'<span class="mark left">{picture.left}</span><span class="mark right">{picture.right}</span></figure>'
            )
    return f'<div class="pictures" style="grid-template-columns: repeat({count}, 1fr)">{"".join(cells)}</div>'


def _before_and_after(slices: Slices) -> str:
    plain = _pictures(
        ["Fixed", "Moving, before", "Moving, after", "Overlay, before", "Overlay, after"],
        slices.rows(["fixed", "moving before", "moving after", "overlay before", "overlay after"]),
    )
    pairs = _pictures(
        ["Checkerboard, before", "Checkerboard, after", "Difference, before", "Difference, after"],
        slices.rows(["checkerboard before", "checkerboard after", "difference before", "difference after"]),
    )
    before = esc((slices.case.quality.get("notes") or {}).get("before") or "headers as they are")
    return f"""<p class="soft">Planes through the middle of what both images show. Before: {before}. Overlay: fixed red,
moving cyan, gray where they agree.</p>{plain}
<p class="legend">Checkerboard: fixed and moving in turn. Difference of the displayed gray values:
moving darker {_ramp((BLUE, WHITE, RED))} moving brighter, white where they agree,
<span class="chip" style="background: rgb{UNSEEN}"></span>outside the moving image.</p>{pairs}"""


def _ramp(colors) -> str:
    stops = ", ".join(f"rgb{tuple(color)}" for color in colors)
    return f'<span class="ramp" style="background: linear-gradient(to right, {stops})"></span>'


def _change_legend() -> str:
    chip = f'<span class="chip" style="background: rgb{FOLD}"></span>fold'
    return f"half {_ramp((BLUE, WHITE, RED))} twice the volume in the moving image, white: same {chip}"


def _uncertain_legend(largest_mm: float) -> str:
    return f'0 {_ramp(UNCERTAIN)} {largest_mm:g} mm or more <span class="chip unknown"></span>unknown'


def _change(case: ReportCase, slices: Slices) -> str:
    jacobian = case.quality["jacobian"]
    rows = [
        ("Mean of the determinant ± SD", f"{number(jacobian.get('mean'))} ± {number(jacobian.get('sd'))}"),
        ("Middle 90 % of the body", f"{number(jacobian.get('p5'))} to {number(jacobian.get('p95'))}"),
        ("Smallest and largest", f"{number(jacobian.get('min'))} to {number(jacobian.get('max'))}"),
        ("Folded part of the body", f"{number(jacobian.get('fold_percent'), 4)} %"),
    ]
    table = "".join(f'<tr><td>{name}</td><td class="n">{value}</td></tr>' for name, value in rows)
    chart = charts.volume_change(case.quality) if charts.available() else None
    row = slices.rows(["jacobian"])
    return f"""<p class="soft">The determinant of the map's Jacobian: 1 keeps volume, 2 is twice as large in the moving
image, 0 or less is folded.</p>
{_pictures([], [[planes[0] for planes in row]])}<p class="legend">{_change_legend()}</p>
<div class="columns"><table>{table}</table>{framed(chart)}</div>
{_folds(jacobian, slices)}{segments_table(case)}"""


def _folds(jacobian: dict, slices: Slices) -> str:
    folds = jacobian.get("folds") or []
    if not folds:
        return ""
    rows = "".join(
        f'<tr><td>{n}</td><td class="n">{fold["voxels"]:,d}</td><td class="n">{fold["volume_mm3"]:.1f}</td>'
        f"<td>{esc(_place(fold['center_lps']))}</td></tr>"
        for n, fold in enumerate(folds[:_MOST_FOLDS], 1)
    )
    return f"""<h3>Folds: {jacobian.get("fold_regions", len(folds)):,d} regions</h3>
<table><tr><th>#</th><th class="n">Voxels</th><th class="n">mm³</th><th>Center</th></tr>{rows}</table>
<p class="soft">Planes through the largest:</p>{_pictures([], [slices.at_point("jacobian", folds[0]["center_lps"])])}"""


def _place(center_lps) -> str:
    letters = (("L", "R"), ("P", "A"), ("S", "I"))
    return (
        ", ".join(f"{names[0 if x >= 0 else 1]} {abs(x):.1f}" for names, x in zip(letters, center_lps, strict=True))
        + " mm"
    )


def _uncertainty(case: ReportCase, slices: Slices) -> str:
    if case.uncertainty_mm is None:
        return ""
    uncertainty = case.quality.get("uncertainty") or {}
    rows = [
        ("Mean", number(uncertainty.get("mean_mm"), 2, "mm")),
        ("Median", number(uncertainty.get("median_mm"), 2, "mm")),
        ("90 % of the body below", number(uncertainty.get("p90_mm"), 2, "mm")),
        ("Unknown", number(uncertainty.get("unknown_percent"), 1, "% of the body")),
    ]
    table = (
        "".join(f'<tr><td>{name}</td><td class="n">{value}</td></tr>' for name, value in rows) if uncertainty else ""
    )
    meaning = str(uncertainty.get("meaning") or "").partition(";")[0].rstrip(".")
    return f"""<p class="soft">How far the map may be off, in mm{f": {esc(meaning)}" if meaning else ""}.
Unknown: the moving image does not show that place.</p>
{_pictures([], [[planes[0] for planes in slices.rows(["uncertainty"])]])}
<p class="legend">{_uncertain_legend(slices.largest_mm)}</p><table>{table}</table>"""


def _montage(slices: Slices) -> str:
    kinds = ["fixed", "moving after", "overlay before", "overlay after"]
    if slices.case.uncertainty_mm is not None:
        kinds.append("uncertainty")
    parts = []
    for plane, name in enumerate(("Axial", "Coronal", "Sagittal")):
        parts.append(f"<h3>{name}</h3>{_pictures([], slices.montage(plane, kinds), named=False)}")
    names = "fixed, moving after, overlay before, overlay after" + (", uncertainty" if len(kinds) == 5 else "")
    return f'<p class="soft">Through the common part; rows: {names}.</p>{"".join(parts)}'


def _viewer(case: ReportCase, slices: Slices) -> str:
    data = viewer_data(case, slices.middle)
    radios = "".join(
        f'<label><input type="radio" name="viewer-layer" value="{layer["key"]}">{esc(layer["name"])}</label>'
        for layer in data["layers"][1:]
    )
    legends = f'<span class="legend" data-legend="jacobian" hidden>{_change_legend()}</span>'
    if case.uncertainty_mm is not None:
        legend = _uncertain_legend(slices.largest_mm)
        legends += f'<span class="legend" data-legend="uncertainty" hidden>{legend}</span>'
    # "<" is the only letter that could end the script element.
    content = json.dumps(data).replace("<", "\\u003c")
    return f"""<div id="viewer"><div id="viewer-bar">
<fieldset><span>Over the fixed image:</span>{radios}</fieldset>
<label>Opacity <input type="range" id="viewer-opacity" min="0" max="100" value="60">
<span id="viewer-percent"></span></label>
<label>Planes <select id="viewer-planes"><option value="all">all</option><option value="axial">axial</option>
<option value="coronal">coronal</option><option value="sagittal">sagittal</option></select></label>
<button type="button" id="viewer-flicker">Flicker</button>{legends}</div>
<div id="viewer-stage"><canvas id="viewer-canvas"></canvas></div>
<div id="viewer-text">Click into a slice for the values there; scroll for other slices; right button: zoom.</div></div>
<p class="soft">At reduced size: at most 128 voxels along an axis, 8 bits.</p>
<script type="application/json" id="viewer-data">{content}</script>"""


def _settings(case: ReportCase) -> str:
    settings, asked = case.settings, case.settings.get("settings") or {}
    info = settings.get("info") or {}
    linear = info.get("linear") or {}
    hidden = _OF_DEFORMATION if linear else ()
    rows = [(name, _plain(asked[key])) for key, name in _SETTINGS if asked.get(key) is not None and key not in hidden]
    for side in ("fixed", "moving"):
        rows.append((f"{side.capitalize()} image", f"{_modality(case, side)}, {_grid(case.grids[side])}"))
    masks = settings.get("masks") or {}
    rows.append(("Masks", ", ".join(side for side in ("fixed", "moving") if masks.get(side)) or "none"))
    rows.append(("Started from", _plain(case.quality.get("start") or "-")))
    steps = case.quality.get("optimization") or {}
    if steps.get("asked"):
        rows.append(("Steps taken", f"{steps.get('done', 0)} of {steps['asked']}"))
    run = [("Device", _plain(settings.get("device") or info.get("device") or "-"))]
    run.append(("Weights, SHA-256", str(settings.get("weights_sha256") or "-")[:16]))
    software = settings.get("software") or {}
    versions = [f"{name} {software[name]}" for name in ("python", "torch", "SimpleITK", "numpy") if software.get(name)]
    run.append(("Software", ", ".join([f"carlreg {settings.get('carlreg', '?')}", *versions])))
    stages = case.quality.get("stages") or []
    run += [(f"Stage: {stage.get('name')}", f"{stage.get('seconds', 0.0):.1f} s") for stage in stages]
    if stages:
        run.append(("Together", f"{sum(stage.get('seconds', 0.0) for stage in stages):.1f} s"))
    tables = [
        "<table>" + "".join(f"<tr><td>{esc(name)}</td><td>{esc(value)}</td></tr>" for name, value in part) + "</table>"
        for part in (rows, run)
    ]
    return f'<div class="columns">{"".join(tables)}</div>'


def _plain(value) -> str:
    """A setting as text; of a path its last part only, so that no folder is named."""
    text = str(value)
    if "/" in text or "\\" in text:
        text = PureWindowsPath(PurePosixPath(text).name).name
    return text
