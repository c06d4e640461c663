"""Points in files: CSV tables, 3D Slicer's markups (.mrk.json) and its older fiducial lists (.fcsv)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import InputError

COLUMNS = ("x", "y", "z")
_FLIP = np.array([-1.0, -1.0, 1.0])
# Regions and planes are boxes and frames: a curved map does not keep them what they are.
_CURVES = ("Fiducial", "Line", "Angle", "Curve", "ClosedCurve")
Mapping = Callable[[np.ndarray], np.ndarray]


def mapped_points(file: Path, mapping: Mapping) -> str:
    """The text of a points file with its points mapped (n x 3 LPS mm to n x 3); all else is kept."""
    name = file.name.lower()
    if name.endswith(".mrk.json"):
        return _markups(file, mapping)
    if name.endswith(".fcsv"):
        return _fiducials(file, mapping)
    return _table(file, mapping)


def _text(file: Path, what: str) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file.name}: cannot be read as {what}.") from error


def _numbers(words, file: Path, where: str) -> list[float]:
    try:
        point = [float(word) for word in words]
    except (TypeError, ValueError):
        point = [float("nan")]
    if len(point) != 3 or not np.isfinite(point).all():
        raise InputError(f"{file.name}, {where}: expected three numbers in mm, got {list(words)}.")
    return point


def _table(file: Path, mapping: Mapping) -> str:
    try:
        reader = csv.DictReader(io.StringIO(_text(file, "a CSV text file")))
        header = [column.strip() for column in reader.fieldnames or []]
        reader.fieldnames = header
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{file.name}: cannot be read as a CSV text file.") from error
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise InputError(
            f"{file.name}: expected a CSV file with columns x, y, z (LPS mm); {', '.join(missing)} not found."
        )
    if not rows:
        raise InputError(f"{file.name}: expected at least one point, got none.")
    points = [_numbers([row[c] for c in COLUMNS], file, f"line {line}") for line, row in enumerate(rows, start=2)]
    out = io.StringIO()
    writer = csv.DictWriter(out, header, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row, point in zip(rows, mapping(np.array(points)), strict=True):
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
        content = json.loads(_text(file, "a markups file"))
        lists = content["markups"]
        if not isinstance(lists, list):
            raise TypeError
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
            points = [_numbers(p.get("position", []), file, f"point {p.get('label', '')}") for p in placed]
            for p, found in zip(placed, mapping(np.array(points) * signs) * signs, strict=True):
                p["position"] = [round(float(value), 9) for value in found]
        entry.pop("measurements", None)  # lengths and angles of before; Slicer computes them on loading
    return json.dumps(content, indent=4) + "\n"


def _fiducials(file: Path, mapping: Mapping) -> str:
    lines = _text(file, "a fiducial list").splitlines()
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
    points = [_numbers(words[1:4], file, f"line {number + 1}") for number, words in rows]
    for (number, words), found in zip(rows, mapping(np.array(points) * signs) * signs, strict=True):
        words[1:4] = [f"{value:.6f}" for value in found]
        lines[number] = ",".join(words)
    return "\n".join(lines) + "\n"
