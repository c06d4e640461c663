"""Corresponding points that guide a registration, in files: one table of pairs, or two lists of 3D Slicer's."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..text_files import cut, shown
from .checks import existing_path
from .points import PAIR_COLUMNS, read_point_list, read_table

NAME_COLUMNS, ON_COLUMN = ("name", "label"), "on"
_OFF, _ON = ("0", "no", "false", "off"), ("1", "yes", "true", "on", "")
_LISTED = 6


@dataclass(frozen=True, eq=False)
class GuidePoints:
    """fixed_lps, moving_lps: n x 3, LPS mm. names: n. on: n bool, which are used."""

    fixed_lps: np.ndarray
    moving_lps: np.ndarray
    names: tuple[str, ...]
    on: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def used(self) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Fixed points, moving points and names of those that are on."""
        names = tuple(name for name, on in zip(self.names, self.on, strict=True) if on)
        return self.fixed_lps[self.on], self.moving_lps[self.on], names

    def text(self) -> str:
        """The table as a CSV file that `read_guide` reads."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([NAME_COLUMNS[0], *PAIR_COLUMNS, ON_COLUMN])
        for name, fixed, moving, on in zip(self.names, self.fixed_lps, self.moving_lps, self.on, strict=True):
            writer.writerow([name, *(f"{value:.6f}" for value in (*fixed, *moving)), int(on)])
        return out.getvalue()


def read_guide(
    path: str | os.PathLike, moving_path: str | os.PathLike | None = None, name: str = "landmarks guide"
) -> GuidePoints:
    """Corresponding points from a CSV table, or from two lists of points.

    path: a table with the columns fixed_x ... moving_z (LPS mm); name and on (0 = not used) may be there. With
        moving_path: the list of the fixed points, and moving_path that of the moving ones (.mrk.json, .fcsv, or CSV
        with x, y, z in LPS mm). Lists whose points have the same names go together by name, others by their order.
    Raises InputError for files that hold something else, and for lists that do not go together.
    """
    if moving_path is not None:
        return _of_two_lists(path, moving_path, name)
    file = existing_path(path, name)
    if file.name.lower().endswith((".mrk.json", ".fcsv")):
        raise InputError(
            f"{name} ({file.name}): expected a CSV file of pairs, or two lists, one of each image; got one list. Give "
            "both lists."
        )
    label = f"{name} ({file.name})"
    table = read_table(file, label, PAIR_COLUMNS, "pair of points")
    column = next((column for column in NAME_COLUMNS if column in table.header), None)
    names = tuple(
        (cut(row[table.header.index(column)].strip()) if column else "") or str(number + 1)
        for number, row in enumerate(table.rows)
    )
    on = np.ones(len(names), dtype=bool)
    if ON_COLUMN in table.header:
        words = [row[table.header.index(ON_COLUMN)].strip().lower() for row in table.rows]
        wrong = next((word for word in words if word not in _ON + _OFF), None)
        if wrong is not None:
            raise InputError(f"{label}: column {ON_COLUMN}: expected 1 or 0, got {shown(wrong)}.")
        on = np.array([word in _ON for word in words])
    points = table.points
    return GuidePoints(points[:, :3], points[:, 3:], names, on)


def _of_two_lists(fixed_path: str | os.PathLike, moving_path: str | os.PathLike, name: str) -> GuidePoints:
    files = [existing_path(path, f"{side} {name}") for side, path in (("fixed", fixed_path), ("moving", moving_path))]
    (fixed, fixed_names), (moving, moving_names) = (_list(file, name) for file in files)
    if len(set(fixed_names)) == len(fixed_names) and set(fixed_names) == set(moving_names):
        moving = moving[[moving_names.index(each) for each in fixed_names]]
    elif len(fixed) != len(moving):
        raise InputError(
            f"{name}: expected as many fixed as moving points, got {len(fixed)} in {files[0].name} and {len(moving)} "
            f"in {files[1].name}{_without_partner(fixed_names, moving_names)}."
        )
    return GuidePoints(fixed, moving, tuple(fixed_names), np.ones(len(fixed), dtype=bool))


def _list(file: Path, name: str) -> tuple[np.ndarray, list[str]]:
    points, names = read_point_list(file, name)
    return points, [cut(each) or str(number + 1) for number, each in enumerate(names)]


def _without_partner(fixed: Sequence[str], moving: Sequence[str]) -> str:
    """A part of a sentence that names points of one list alone, where some are in both."""
    if not set(fixed) & set(moving):
        return ""
    alone = [each for each in fixed if each not in moving] + [each for each in moving if each not in fixed]
    if not alone:
        return ""
    more = " and more" if len(alone) > _LISTED else ""
    return f"; without a partner: {', '.join(alone[:_LISTED])}{more}"


def joined(parts: Sequence[GuidePoints]) -> GuidePoints:
    """Several tables as one; of points with the same name the last one counts, at the place of the first."""
    rows: dict[str, tuple] = {}
    for part in parts:
        for name, *row in zip(part.names, part.fixed_lps, part.moving_lps, part.on, strict=True):
            rows[name] = tuple(row)
    fixed, moving, on = zip(*rows.values(), strict=True)
    return GuidePoints(np.array(fixed), np.array(moving), tuple(rows), np.array(on, dtype=bool))
