"""Points in files: landmark pairs and CSV tables, 3D Slicer's markups (.mrk.json) and its older lists (.fcsv)."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError
from .checks import existing_path

COLUMNS = ("x", "y", "z")
PAIR_COLUMNS = ("fixed_x", "fixed_y", "fixed_z", "moving_x", "moving_y", "moving_z")
_FLIP = np.array([-1.0, -1.0, 1.0])
# Regions and planes are boxes and frames: a curved map does not keep them what they are.
_CURVES = ("Fiducial", "Line", "Angle", "Curve", "ClosedCurve")
Mapping = Callable[[np.ndarray], np.ndarray]


def read_landmarks(path: str | os.PathLike, name: str = "landmarks") -> tuple[np.ndarray, np.ndarray]:
    """Corresponding points, (N, 3) fixed and (N, 3) moving, LPS mm, float64.

    The file: CSV with a header line and the columns fixed_x ... moving_z; further columns are left alone.
    Raises InputError for anything else.
    """
    file = existing_path(path, name)
    points = _read_table(file, f"{name} ({file.name})", PAIR_COLUMNS, "pair of points")[2]
    return points[:, :3], points[:, 3:]


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


def _text(file: Path, label: str, what: str) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{label}: cannot be read as {what}.") from error


def _numbers(words: Sequence, where: str) -> list[float]:
    """The words as numbers; InputError names the first that is none."""
    numbers = []
    for word in words:
        try:
            number = float(word)
        except (TypeError, ValueError):
            number = float("nan")
        if not np.isfinite(number):
            raise InputError(f"{where}: expected a number in mm, got {word!r}.")
        numbers.append(number)
    return numbers


def _point(words: Sequence, where: str) -> list[float]:
    if len(words) != 3:
        raise InputError(f"{where}: expected three numbers in mm, got {list(words)}.")
    return _numbers(words, where)


def _read_table(
    file: Path, label: str, columns: Sequence[str], what: str
) -> tuple[list[str], list[dict[str, str]], np.ndarray]:
    """Header, rows and the numbers in some columns (rows x columns) of a CSV file. what: of a row, for messages."""
    try:
        reader = csv.DictReader(io.StringIO(_text(file, label, "a CSV text file")))
        header = [column.strip() for column in reader.fieldnames or []]
        reader.fieldnames = header
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{label}: cannot be read as a CSV text file.") from error
    missing = [column for column in columns if column not in header]
    if missing:
        raise InputError(
            f"{label}: expected a CSV file with the columns {', '.join(columns)} (LPS mm); "
            f"{', '.join(missing)} not found."
        )
    if not rows:
        raise InputError(f"{label}: expected at least one {what}, got none.")
    numbers = [_numbers([row[column] for column in columns], f"{label}, line {line}") for line, row in rows]
    return header, [row for _, row in rows], np.array(numbers, dtype=np.float64)


def _table(file: Path, mapping: Mapping) -> str:
    header, rows, points = _read_table(file, file.name, COLUMNS, "point")
    out = io.StringIO()
    writer = csv.DictWriter(out, header, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row, point in zip(rows, mapping(points), strict=True):
        writer.writerow({**row, **{c: f"{value:.6f}" for c, value in zip(COLUMNS, point, strict=True)}})
    return out.getvalue()


def _space(word: str, file: Path) -> np.ndarray:
    """Signs that turn coordinates of a named space into LPS."""
    known = {"LPS": np.ones(3), "1": np.ones(3), "RAS": _FLIP, "0": _FLIP}
    if word.upper() not in known:
        raise InputError(f"{file.name}: expected coordinates in LPS or RAS, got {word!r}.")
    return known[word.upper()]


def _markups(file: Path, mapping: Mapping) -> str:
    try:
        content = json.loads(_text(file, file.name, "a markups file"))
        lists = content["markups"]
        if not isinstance(lists, list):
            raise TypeError  # noqa: TRY301
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file.name}: expected 3D Slicer's markups (.mrk.json).") from error
    for entry in lists:
        kind = entry.get("type", "")
        if kind not in _CURVES:
            raise InputError(
                f"{file.name}: markups of the type {kind!r} are not points or curves. Place them under the transform "
                "in 3D Slicer."
            )
        signs = _space(str(entry.get("coordinateSystem", "LPS")), file)
        placed = [p for p in entry.get("controlPoints", []) if p.get("positionStatus", "defined") == "defined"]
        if placed:
            points = [_point(p.get("position", []), f"{file.name}, point {p.get('label', '')}") for p in placed]
            for p, found in zip(placed, mapping(np.array(points) * signs) * signs, strict=True):
                p["position"] = [round(float(value), 9) for value in found]
        entry.pop("measurements", None)  # lengths and angles of before; Slicer computes them on loading
    return json.dumps(content, indent=4) + "\n"


def _fiducials(file: Path, mapping: Mapping) -> str:
    lines = _text(file, file.name, "a fiducial list").splitlines()
    signs, rows = None, []
    for number, line in enumerate(lines):
        if line.startswith("#"):
            if "coordinatesystem" in line.lower().replace(" ", ""):
                signs = _space(line.split("=", 1)[-1].strip(), file)
        elif line.strip():
            rows.append((number, line.split(",")))
    if signs is None:
        raise InputError(f"{file.name}: expected a line '# CoordinateSystem = LPS' (or RAS), found none.")
    if not rows:
        raise InputError(f"{file.name}: expected at least one point, got none.")
    points = [_point(words[1:4], f"{file.name}, line {number + 1}") for number, words in rows]
    for (number, words), found in zip(rows, mapping(np.array(points) * signs) * signs, strict=True):
        words[1:4] = [f"{value:.6f}" for value in found]
        lines[number] = ",".join(words)
    return "\n".join(lines) + "\n"
