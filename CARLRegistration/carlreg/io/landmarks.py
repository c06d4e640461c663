"""Landmark pairs from CSV files."""

from __future__ import annotations

import csv
import os

import numpy as np

from ..errors import InputError
from .checks import existing_path

COLUMNS = ("fixed_x", "fixed_y", "fixed_z", "moving_x", "moving_y", "moving_z")


def read_landmarks(path: str | os.PathLike, name: str = "landmarks") -> tuple[np.ndarray, np.ndarray]:
    """Corresponding points, (N, 3) fixed and (N, 3) moving, LPS mm, float64.

    The file: CSV with a header line and the columns fixed_x ... moving_z; further columns are left alone.
    Raises InputError for anything else.
    """
    file = existing_path(path, name)
    label = f"{name} ({file.name})"
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            header = [column.strip() for column in reader.fieldnames or []]
            missing = [column for column in COLUMNS if column not in header]
            if missing:
                raise InputError(
                    f"{label}: expected a CSV file with the columns {', '.join(COLUMNS)} (LPS mm); "
                    f"{', '.join(missing)} not found."
                )
            reader.fieldnames = header
            rows = [[_number(row[column], label, reader.line_num) for column in COLUMNS] for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{label}: cannot be read as a CSV text file.") from error
    if not rows:
        raise InputError(f"{label}: expected at least one pair of points, got none.")
    points = np.array(rows, dtype=np.float64)
    return points[:, :3], points[:, 3:]


def _number(text: str | None, label: str, line: int) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise InputError(f"{label}, line {line}: expected a number in mm, got {text!r}.")
    return value
