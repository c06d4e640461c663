"""Points in files: landmark pairs and CSV tables, 3D Slicer's markups (.mrk.json) and its older lists (.fcsv)."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..text_files import number, read_json_object, read_text, shown
from .checks import existing_path
from .numbers import FARTHEST_MM

COLUMNS = ("x", "y", "z")
PAIR_COLUMNS = ("fixed_x", "fixed_y", "fixed_z", "moving_x", "moving_y", "moving_z")
_MOST_BYTES, _MOST_POINTS, _MOST_COLUMNS = 64 * 2**20, 1_000_000, 1000
_FLIP = np.array([-1.0, -1.0, 1.0])
# Regions and planes are boxes and frames: a curved map does not keep them what they are.
_CURVES = ("Fiducial", "Line", "Angle", "Curve", "ClosedCurve")
Mapping = Callable[[np.ndarray], np.ndarray]


def read_landmarks(path: str | os.PathLike, name: str = "landmarks") -> tuple[np.ndarray, np.ndarray]:
    """Corresponding points, (N, 3) fixed and (N, 3) moving, LPS mm, float64.

    The file: CSV with a header line and the columns fixed_x ... moving_z; further columns are left alone. Between the
    columns stands a comma, a semicolon or a tabulator.
    Raises InputError for anything else.
    """
    file = existing_path(path, name)
    points = read_table(file, f"{name} ({file.name})", PAIR_COLUMNS, "pair of points").points
    return points[:, :3], points[:, 3:]


def read_point_list(file: Path, label: str) -> tuple[np.ndarray, list[str]]:
    """n x 3 points (LPS mm) of a markups file, a fiducial list or a CSV file with x, y, z; and their names ("" = none).

    label: for messages. Raises InputError for a file that holds no points.
    """
    name, found = file.name.lower(), [np.zeros((0, 3))]

    def kept(points: np.ndarray) -> np.ndarray:
        found.append(points)
        return points

    names: list[str] = []
    if name.endswith(".mrk.json"):
        for entry in json.loads(_markups(file, kept))["markups"]:
            names += [str(point.get("label", "")) for point in _placed(entry, file)]
    elif name.endswith(".fcsv"):
        rows = [line.split(",") for line in _fiducials(file, kept).splitlines() if line and not line.startswith("#")]
        names = [row[11].strip() if len(row) > 11 else "" for row in rows]
    else:
        table = read_table(file, f"{label} ({file.name})", COLUMNS, "point")
        kept(table.points)
        columns = [column for column in ("name", "label") if column in table.header]
        names = [row[table.header.index(columns[0])].strip() if columns else "" for row in table.rows]
    points = np.concatenate(found)
    if not len(points):
        raise InputError(f"{label} ({file.name}): expected at least one point, got none.")
    return points, names


def map_points_file(file: Path, mapping: Mapping) -> str:
    """The text of a points file with its points mapped (n x 3 LPS mm to n x 3); all else is kept.

    Raises InputError for a file that holds no points.
    """
    name = file.name.lower()
    if name.endswith(".mrk.json"):
        return _markups(file, mapping)
    if name.endswith(".fcsv"):
        return _fiducials(file, mapping)
    return _table(file, mapping)


def _numbers(words: Sequence, where: str) -> list[float]:
    """The words as numbers; InputError names the first that is none."""
    numbers = []
    for word in words:
        value = number(word)
        if value is None:
            raise InputError(f"{where}: expected a number in mm, got {shown(word)}.")
        if abs(value) > FARTHEST_MM:
            raise InputError(
                f"{where}: expected a coordinate in mm, got {shown(word)}: that is more than ten kilometers away."
            )
        numbers.append(value)
    return numbers


def _point(words: Any, where: str) -> list[float]:
    if not isinstance(words, list) or len(words) != 3:
        raise InputError(f"{where}: expected three numbers in mm, got {shown(words)}.")
    return _numbers(words, where)


def _mapped(mapping: Mapping, points: list[list[float]], signs: np.ndarray) -> np.ndarray:
    """The points (in LPS, or in RAS and then with signs) where the mapping takes them, in the same space."""
    return mapping(np.array(points, dtype=np.float64) * signs) * signs


class PointTable:
    """A CSV file: the header's words, the rows' words, what separates them, and some columns' numbers."""

    def __init__(self, header: list[str], rows: list[list[str]], separator: str, points: np.ndarray) -> None:
        self.header, self.rows, self.separator, self.points = header, rows, separator, points


def read_table(file: Path, label: str, columns: Sequence[str], what: str) -> PointTable:
    """A CSV file with the numbers in some columns (rows x columns). what: of a row, for messages."""
    text = read_text(file, label, "a CSV text file", _MOST_BYTES)
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=first[:10_000].count)  # the first of those that are there as often
    header: list[str] = []
    rows: list[tuple[int, list[str]]] = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        for words in reader:
            if not header:
                header = [word.strip() for word in words]
            elif any(word.strip() for word in words):
                rows.append((reader.line_num, words))
            if len(rows) > _MOST_POINTS or len(words) > _MOST_COLUMNS:
                raise InputError(
                    f"{label}: expected at most {_MOST_POINTS} points in {_MOST_COLUMNS} columns; it has more."
                )
    except csv.Error as error:
        raise InputError(f"{label}: cannot be read as a CSV text file ({error}).") from error
    missing = [column for column in columns if column not in header]
    if missing:
        raise InputError(
            f"{label}: expected a CSV file with the columns {', '.join(columns)} (LPS mm); "
            f"{', '.join(missing)} not found."
        )
    twice = [column for column in columns if header.count(column) > 1]
    if twice:
        raise InputError(f"{label}: expected each column once; {', '.join(twice)} is there twice.")
    if not rows:
        raise InputError(f"{label}: expected at least one {what}, got none.")
    places = [header.index(column) for column in columns]
    numbers = []
    for line, words in rows:
        words += [""] * (len(header) - len(words))
        numbers.append(_numbers([words[place] for place in places], f"{label}, line {line}"))
    return PointTable(header, [words for _, words in rows], separator, np.array(numbers, dtype=np.float64))


def _table(file: Path, mapping: Mapping) -> str:
    table = read_table(file, file.name, COLUMNS, "point")
    out = io.StringIO()
    writer = csv.writer(out, delimiter=table.separator, lineterminator="\n")
    writer.writerow(table.header)
    places = [table.header.index(column) for column in COLUMNS]
    for words, point in zip(table.rows, mapping(table.points), strict=True):
        for place, value in zip(places, point, strict=True):
            words[place] = f"{value:.6f}"
        writer.writerow(words[: len(table.header)])
    return out.getvalue()


def _space(word: str, file: Path) -> np.ndarray:
    """Signs that turn coordinates of a named space into LPS."""
    known = {"LPS": np.ones(3), "1": np.ones(3), "RAS": _FLIP, "0": _FLIP}
    if word.upper() not in known:
        raise InputError(f"{file.name}: expected coordinates in LPS or RAS, got {shown(word)}.")
    return known[word.upper()]


def _markups(file: Path, mapping: Mapping) -> str:
    expected = "3D Slicer's markups (.mrk.json)"
    content = read_json_object(file, file.name, expected, _MOST_BYTES)
    lists = content.get("markups")
    if not isinstance(lists, list) or not all(isinstance(entry, dict) for entry in lists):
        raise InputError(f"{file.name}: expected {expected}, with a list of markups; it has none.")
    for entry in lists:
        kind = entry.get("type", "")
        if kind not in _CURVES:
            raise InputError(
                f"{file.name}: markups of the type {shown(kind)} are not points or curves. Place them under the "
                "transform in 3D Slicer."
            )
        signs = _space(str(entry.get("coordinateSystem", "LPS")), file)
        placed = _placed(entry, file)
        points = [_point(p.get("position"), f"{file.name}, point {shown(p.get('label', ''), 40)}") for p in placed]
        if placed:
            for p, found in zip(placed, _mapped(mapping, points, signs), strict=True):
                p["position"] = [round(float(value), 9) for value in found]
        entry.pop("measurements", None)  # lengths and angles of before; Slicer computes them on loading
    return json.dumps(content, indent=4) + "\n"


def _placed(entry: dict[str, Any], file: Path) -> list[dict[str, Any]]:
    """The points of a list that have a place. Raises InputError where there is no list of points."""
    given = entry.get("controlPoints", [])
    if not isinstance(given, list) or not all(isinstance(point, dict) for point in given):
        raise InputError(f"{file.name}: expected controlPoints to be a list of points, got {shown(given)}.")
    if len(given) > _MOST_POINTS:
        raise InputError(f"{file.name}: expected at most {_MOST_POINTS} points, got {len(given)}.")
    return [point for point in given if point.get("positionStatus", "defined") == "defined"]


def _fiducials(file: Path, mapping: Mapping) -> str:
    lines = read_text(file, file.name, "a fiducial list", _MOST_BYTES).splitlines()
    signs, rows = None, []
    for number_of, line in enumerate(lines):
        if line.startswith("#"):
            if line[:200].lower().replace(" ", "").startswith("#coordinatesystem"):
                signs = _space(line.split("=", 1)[-1].strip(), file)
        elif line.strip():
            rows.append((number_of, line.split(",")))
    if signs is None:
        raise InputError(f"{file.name}: expected a line '# CoordinateSystem = LPS' (or RAS), found none.")
    if not rows:
        raise InputError(f"{file.name}: expected at least one point, got none.")
    if len(rows) > _MOST_POINTS:
        raise InputError(f"{file.name}: expected at most {_MOST_POINTS} points, got {len(rows)}.")
    points = [_point(words[1:4], f"{file.name}, line {number_of + 1}") for number_of, words in rows]
    for (number_of, words), found in zip(rows, _mapped(mapping, points, signs), strict=True):
        words[1:4] = [f"{value:.6f}" for value in found]
        lines[number_of] = ",".join(words)
    return "\n".join(lines) + "\n"
