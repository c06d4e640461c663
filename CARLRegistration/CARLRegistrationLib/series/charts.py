"""Tables and charts of a series over time, of the engine's tables."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ..inspect.metrics import fillColumns
from ..mrml.copies import newNode

_PALETTE = (
    *((0.12, 0.47, 0.71), (0.84, 0.35, 0.10), (0.17, 0.63, 0.17), (0.58, 0.40, 0.74), (0.55, 0.34, 0.29)),
    *((0.89, 0.47, 0.76), (0.50, 0.50, 0.50), (0.74, 0.74, 0.13), (0.09, 0.75, 0.81)),
)


def readRows(path: Path) -> list[dict]:
    """The rows of a table of the engine; none where there is no such file."""
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def addCharts(folder: Path, name: str, values, indexName: str) -> dict[str, tuple]:
    """(chart node, table node) by title, of a result folder: displacement, volumes of segments, landmarks.

    values: of the frames in the sequences, and what they are.
    """
    frames = readRows(folder / "frames.csv")
    segments, points = readRows(folder / "segments.csv"), readRows(folder / "trajectories.csv")
    first = (indexName, [float(value) for value in values])
    wide = {
        _("Displacement in the body"): (
            _("mm"),
            [(_("mean"), _column(frames, "mean_mm")), (_("largest"), _column(frames, "max_mm"))],
        ),
    }
    if segments:
        called = lambda row: row["name"] or _("label {number}").format(number=row["label"])  # noqa: E731
        wide[_("Volume of segments")] = (_("change, %"), _grouped(segments, "label", called, "change_percent"))
        wide[_("Volume of segments, ml")] = (_("ml"), _grouped(segments, "label", called, "volume_ml"))
    if points:
        called = lambda row: row["name"] or _("point {number}").format(number=row["point"])  # noqa: E731
        wide[_("Landmarks")] = (_("displacement, mm"), _grouped(points, "point", called, "displacement_mm"))
    charts = {}
    for title, (unit, columns) in wide.items():
        charts[title] = _chart(f"{name}: {title}", title, unit, first, columns)
    return charts


def _column(rows: list[dict], key: str) -> list[float]:
    return [float(row[key]) if row[key] else float("nan") for row in rows]


def _grouped(rows: list[dict], key: str, called: Callable[[dict], str], value: str) -> list[tuple[str, list[float]]]:
    """One column for each thing, in order; things of one name are told apart by their numbers."""
    columns, names = {}, {}
    for row in rows:
        columns.setdefault(row[key], []).append(float(row[value]))
        names.setdefault(row[key], called(row))
    taken = list(names.values())
    return [
        (name if taken.count(name) == 1 else f"{name} ({number})", columns[number]) for number, name in names.items()
    ]


def _chart(name: str, title: str, unit: str, first: tuple, columns: list) -> tuple:
    table = _node("vtkMRMLTableNode", name)
    fillColumns(table, [first, *columns])
    chart = _node("vtkMRMLPlotChartNode", name)
    chart.SetTitle(title)
    chart.SetXAxisTitle(first[0])
    chart.SetYAxisTitle(unit)
    for number, (column, _values) in enumerate(columns):
        series = _node("vtkMRMLPlotSeriesNode", column)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetPlotType(series.PlotTypeScatter)
        series.SetXColumnName(first[0])
        series.SetYColumnName(column)
        series.SetMarkerStyle(series.MarkerStyleCircle)
        series.SetLineStyle(series.LineStyleSolid)
        series.SetColor(*_PALETTE[number % len(_PALETTE)])
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    return chart, table


def _node(className: str, name: str):
    node = newNode(className)
    node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
    return slicer.mrmlScene.AddNode(node)


__all__ = ["addCharts", "readRows"]
