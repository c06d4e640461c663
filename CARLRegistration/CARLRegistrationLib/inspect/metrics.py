"""Figures of a registration as nodes of the scene: a table in words, and charts with tables of their own.

They come from the engine's quality (see quality.json); what it lacks is left out.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

_KIND = "CARLRegistration.Figure"
_WORDS = ("good", "check", "poor")
BEFORE_COLOR, AFTER_COLOR = (0.62, 0.64, 0.68), (0.10, 0.45, 0.80)


@dataclass
class Figures:
    """table: the node of all figures. charts: title -> chart node. rows: (figure, before, after) as text."""

    table: Any
    charts: dict = field(default_factory=dict)
    rows: list = field(default_factory=list)


def verdictOf(quality: dict) -> tuple[str, list[str]]:
    """("good", "check", "poor" or "", reasons)."""
    verdict = quality.get("verdict") or {}
    return str(verdict.get("word") or ""), [str(reason) for reason in verdict.get("reasons") or []]


def joined(former: dict, found: dict) -> dict:
    """The quality of a registration with what an evaluation adds; what only the registration knows stays."""
    made = former | {name: block for name, block in found.items() if block}
    checks = {
        one["name"]: one for quality in (former, found) for one in (quality.get("verdict") or {}).get("checks", [])
    }
    bad = sorted((one for one in checks.values() if one["word"] != "good"), key=lambda one: -_WORDS.index(one["word"]))
    said = bad or [one for one in checks.values() if not one["name"].endswith("_change")]
    word = bad[0]["word"] if bad else "good"
    reasons = [one["text"] for one in said]
    made["verdict"] = {
        **(found.get("verdict") or {}),
        "word": word,
        "reasons": reasons,
        "checks": list(checks.values()),
    }
    return made


def rowsOf(quality: dict, names: dict | None = None) -> list[tuple[str, str, str]]:
    """The figures as text: (figure, before, after). names: of segments by label."""
    rows = []
    similarity = quality.get("similarity") or {}
    for key, title in (("lncc", _("Local correlation")), ("ncc", _("Correlation")), ("mi", _("Mutual information"))):
        pair = _pair(similarity, key)
        if pair != (None, None):
            rows.append((title, _text(pair[0], ".3f"), _text(pair[1], ".3f")))
    rows += _single(quality.get("overlap_percent"), _("Overlap, % of the fixed body"), ".1f")
    jacobian = quality.get("jacobian") or {}
    rows += _single(jacobian.get("fold_percent"), _("Folded, % of the body"), ".3g")
    rows += _single(jacobian.get("min"), _("Smallest Jacobian"), ".3g")
    rows += _single(jacobian.get("max"), _("Largest Jacobian"), ".3g")
    rows += _single((quality.get("inverse_error_mm") or {}).get("mean"), _("Inverse consistency error, mm"), ".2f")
    uncertainty = quality.get("uncertainty") or {}
    rows += _single(uncertainty.get("median_mm"), _("Median uncertainty, mm"), ".2f")
    rows += _single(uncertainty.get("p90_mm"), _("90 % uncertainty, mm"), ".2f")
    rows += _single(uncertainty.get("unknown_percent"), _("Uncertainty unknown, % of the body"), ".1f")
    labels = quality.get("labels") or {}
    if labels:
        pair = _pair(labels, "mean")
        rows.append((_("Dice, mean"), _text(pair[0], ".3f"), _text(pair[1], ".3f")))
        for label in _labelKeys(labels):
            name = nameOf(quality, label, names)
            dice = [((labels.get(when) or {}).get("per_label") or {}).get(label) for when in ("before", "after")]
            rows.append((_("Dice, {name}").format(name=name), _text(dice[0], ".3f"), _text(dice[1], ".3f")))
            surface = [_surface(labels, when, label, "mean") for when in ("before", "after")]
            if surface != [None, None]:
                title = _("Surface distance, {name}, mm").format(name=name)
                rows.append((title, _text(surface[0], ".2f"), _text(surface[1], ".2f")))
            far = [_surface(labels, when, label, "hausdorff95") for when in ("before", "after")]
            if far != [None, None]:
                title = _("Surface distance, 95 %, {name}, mm").format(name=name)
                rows.append((title, _text(far[0], ".2f"), _text(far[1], ".2f")))
    landmarks = quality.get("landmarks") or {}
    for key, title in (("mean_mm", _("Landmarks, mean, mm")), ("max_mm", _("Landmarks, largest, mm"))):
        pair = _pair(landmarks, key)
        if pair != (None, None):
            rows.append((title, _text(pair[0], ".2f"), _text(pair[1], ".2f")))
    for segment in quality.get("segments") or []:
        name = nameOf(quality, str(segment.get("label")), names)
        change = segment.get("volume_change_percent")
        rows += _single(change, _("Volume change, {name}, %").format(name=name), "+.1f")
    return rows


def makeFigures(quality: dict, about, names: dict | None = None) -> Figures:
    """Make or fill again the table and the charts about a transform node."""
    rows = rowsOf(quality, names)
    title = about.GetName()
    table = _table("figures", about, _("Figures, {name}").format(name=title))
    fillColumns(
        table,
        [
            (_("Figure"), [row[0] for row in rows]),
            (_("Before"), [row[1] for row in rows]),
            (_("After"), [row[2] for row in rows]),
        ],
    )
    table.SetUseColumnTitleAsColumnHeader(True) if hasattr(table, "SetUseColumnTitleAsColumnHeader") else None
    made = Figures(table, {}, rows)
    _charts(made, quality, about, names)
    for node in _tagged(about):  # of an earlier evaluation that had more
        if node.GetAttribute(_KIND).split("|")[0] not in _kept(made):
            slicer.mrmlScene.RemoveNode(node)
    return made


def _kept(made: Figures) -> set:
    kinds = {"figures"}
    for chart in made.charts.values():
        kinds.add(chart.GetAttribute(_KIND).split("|")[0])
        for n in range(chart.GetNumberOfPlotSeriesNodes()):
            series = chart.GetNthPlotSeriesNode(n)
            kinds |= {series.GetAttribute(_KIND).split("|")[0], series.GetTableNode().GetAttribute(_KIND).split("|")[0]}
    return kinds


def _charts(made: Figures, quality: dict, about, names) -> None:
    similarity = quality.get("similarity") or {}
    keys = [(k, t) for k, t in (("lncc", _("Local")), ("ncc", _("Global")), ("mi", _("Mutual information, nats")))]
    keys = [(key, text) for key, text in keys if None not in _pair(similarity, key)]
    if keys:
        values = [[_pair(similarity, key)[n] for key, _text_ in keys] for n in (0, 1)]
        _bars(made, "similarity", _("Similarity"), about, [text for _key, text in keys], values[0], values[1], "")
    histogram = (quality.get("jacobian") or {}).get("histogram") or {}
    edges, counts = histogram.get("log2_edges") or [], histogram.get("counts") or []
    if counts and len(edges) == len(counts) + 1:
        _histogram(made, about, edges, counts)
    labels = quality.get("labels") or {}
    if labels:
        present = _labelKeys(labels)
        texts = [nameOf(quality, label, names) for label in present]
        dice = [
            [((labels.get(when) or {}).get("per_label") or {}).get(label) or 0.0 for label in present]
            for when in ("before", "after")
        ]
        _bars(made, "dice", _("Dice"), about, texts, dice[0], dice[1], _("Dice"))
        surface = [[_surface(labels, when, label, "mean") for label in present] for when in ("before", "after")]
        known = [n for n in range(len(present)) if surface[0][n] is not None and surface[1][n] is not None]
        if known:
            values = [[side[n] for n in known] for side in surface]
            _bars(
                made, "surface", _("Surface distance"), about, [texts[n] for n in known], values[0], values[1], _("mm")
            )
    landmarks = quality.get("landmarks") or {}
    errors = [(landmarks.get(when) or {}).get("errors_mm") or [] for when in ("before", "after")]
    pairs = [(n, *pair) for n, pair in enumerate(zip(*errors, strict=False), start=1) if None not in pair]
    if pairs and len(errors[0]) == len(errors[1]):
        texts, before, after = ([pair[column] for pair in pairs] for column in range(3))
        _bars(made, "landmarks", _("Landmark errors"), about, [str(n) for n in texts], before, after, _("mm"))
    changes = [one for one in quality.get("segments") or [] if one.get("volume_change_percent") is not None]
    if changes:
        texts = [nameOf(quality, str(one.get("label")), names) for one in changes]
        values = [one["volume_change_percent"] for one in changes]
        _bars(made, "volume", _("Volume change"), about, texts, None, values, _("%"))


def _bars(made: Figures, kind: str, title: str, about, texts, before, after, unit: str) -> None:
    table = _table(f"{kind} table", about, _("{title}, {name}").format(title=title, name=about.GetName()))
    columns = [(_("Name"), list(texts)), ("x", [float(n) for n in range(len(texts))])]
    columns += [(_("Before"), [float(v) for v in before])] if before is not None else []
    columns += [(_("After"), [float(v) for v in after])]
    fillColumns(table, columns)
    chart = _chart(made, kind, title, about, "", unit)
    sides = [(_("Before"), BEFORE_COLOR)] if before is not None else []
    for side, color in (*sides, (_("After"), AFTER_COLOR)):
        series = _node("vtkMRMLPlotSeriesNode", f"{kind} {side}", about, side)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetPlotType(series.PlotTypeBar)
        series.SetLabelColumnName(_("Name"))
        series.SetXColumnName("x")
        series.SetYColumnName(side)
        series.SetColor(*color)
        chart.AddAndObservePlotSeriesNodeID(series.GetID())


def _histogram(made: Figures, about, edges, counts) -> None:
    title = _("Jacobian histogram")
    table = _table("jacobian table", about, _("{title}, {name}").format(title=title, name=about.GetName()))
    total = float(sum(counts)) or 1.0
    centers = [0.5 * (a + b) for a, b in itertools.pairwise(edges)]
    percents = [100.0 * count / total for count in counts]
    x, y = _("log2 of the Jacobian"), _("% of the body")
    fillColumns(table, [(x, centers), (y, percents)])
    chart = _chart(made, "jacobian", title, about, _("log2 of the Jacobian: -1 half, 0 same, 1 twice the volume"), y)
    chart.SetLegendVisibility(False)
    used = [n for n, percent in enumerate(percents) if percent > 0.01] or [0, len(centers) - 1]
    reach = max(0.5, abs(centers[used[0]]), abs(centers[used[-1]]))
    chart.SetXAxisRangeAuto(False)
    chart.SetXAxisRange(-reach, reach)
    series = _node("vtkMRMLPlotSeriesNode", "jacobian series", about, title)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetPlotType(series.PlotTypeScatter)
    series.SetXColumnName(x)
    series.SetYColumnName(y)
    series.SetMarkerStyle(series.MarkerStyleNone)
    series.SetLineStyle(series.LineStyleSolid)
    series.SetLineWidth(2)
    series.SetColor(*AFTER_COLOR)
    chart.AddAndObservePlotSeriesNodeID(series.GetID())


def _chart(made: Figures, kind: str, title: str, about, x: str, y: str):
    chart = _node("vtkMRMLPlotChartNode", kind, about, _("{title}, {name}").format(title=title, name=about.GetName()))
    chart.RemoveAllPlotSeriesNodeIDs()
    chart.SetTitle(title)
    chart.SetXAxisTitle(x)
    chart.SetYAxisTitle(y)
    made.charts[title] = chart
    return chart


def _table(kind: str, about, name: str):
    return _node("vtkMRMLTableNode", kind, about, name)


def _node(className: str, kind: str, about, name: str):
    """The node of a kind about a transform: the one that is there, or a new one."""
    tag = f"{kind}|{about.GetID()}"
    for node in slicer.util.getNodesByClass(className):
        if node.GetAttribute(_KIND) == tag:
            return node
    node = slicer.mrmlScene.CreateNodeByClass(className)
    node.UnRegister(None)
    node.SetName(name)
    node.SetAttribute(_KIND, tag)
    return slicer.mrmlScene.AddNode(node)


def _tagged(about) -> list:
    found = []
    for className in ("vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode", "vtkMRMLTableNode"):
        for node in slicer.util.getNodesByClass(className):
            if (node.GetAttribute(_KIND) or "").endswith(f"|{about.GetID()}"):
                found.append(node)
    return found


def fillColumns(table, columns) -> None:
    """Fill a table node with (name, texts or numbers) of each column."""
    modified = table.StartModify()
    table.RemoveAllColumns()
    for name, values in columns:
        array = vtk.vtkStringArray() if values and isinstance(values[0], str) else vtk.vtkDoubleArray()
        array.SetName(name)
        for value in values:
            array.InsertNextValue(value)
        table.AddColumn(array)
    table.EndModify(modified)
    table.GetTable().Modified()


def nameOf(quality: dict, label: str, names: dict | None) -> str:
    """A segment's name by its label, from the caller, from the engine, or the number itself."""
    if names and label.lstrip("-").isdigit() and int(label) in names:
        return names[int(label)]
    for segment in quality.get("segments") or []:
        if str(segment.get("label")) == label and segment.get("name"):
            return str(segment["name"])
    return label


def _labelKeys(labels: dict) -> list[str]:
    found = ((labels.get("after") or {}).get("per_label") or {}).keys()
    return sorted(found, key=lambda text: int(text) if text.lstrip("-").isdigit() else 0)


def _surface(labels: dict, when: str, label: str, key: str):
    return (((labels.get(when) or {}).get("surface_mm") or {}).get(label) or {}).get(key)


def _pair(block: dict, key: str) -> tuple:
    return tuple((block.get(when) or {}).get(key) for when in ("before", "after"))


def _single(value, title: str, style: str) -> list:
    return [] if value is None else [(title, "", _text(value, style))]


def _text(value, style: str) -> str:
    return "" if value is None else format(value, style)


def showChart(chart, table) -> None:
    """Show a chart and a table in the views that are for them."""
    logic = slicer.app.applicationLogic()
    selection = logic.GetSelectionNode()
    selection.SetActivePlotChartID(chart.GetID())
    logic.PropagatePlotChartSelection()
    selection.SetActiveTableID(table.GetID())
    logic.PropagateTableSelection()


__all__ = ["Figures", "fillColumns", "joined", "makeFigures", "nameOf", "rowsOf", "showChart", "verdictOf"]
