"""Which pairs are to be registered: from a table, from one fixed image and many moving ones."""

from __future__ import annotations

import csv
import glob
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from ..paths import given_path
from ..text_files import cut, exists, read_text, shown

#: Columns that hold a file, by what `carlreg register` calls it.
FILE_COLUMNS = (
    *("fixed", "moving", "fixed_mask", "moving_mask", "fixed_ignore", "moving_ignore"),
    *("fixed_labels", "moving_labels", "label_names", "landmarks"),
    *("initial_transform", "landmarks_guide", "fixed_landmarks_guide", "moving_landmarks_guide"),
    *("fixed_segments_guide", "moving_segments_guide", "segments_match", "rigid_segments", "stiff_segments"),
    "settings",
)
COLUMNS = ("name", *FILE_COLUMNS)
MOST_PAIRS = 100_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_ENDING = re.compile(r"(\.seg)?\.(nii|nrrd|nhdr|mha|mhd|hdr|img)(\.gz)?$", re.IGNORECASE)
_SHOWN = 10


@dataclass(frozen=True)
class PlannedPair:
    """One pair. name: of its folder. files: absolute paths by column, `fixed` and `moving` among them.

    entities: of a BIDS file name, for derivatives; empty for others.
    """

    name: str
    files: dict[str, str]
    entities: dict[str, str] = field(default_factory=dict)


def read_plan(path: str | os.PathLike) -> list[PlannedPair]:
    """The pairs of a CSV table with at least the columns `fixed` and `moving`; paths are relative to its folder.

    Raises InputError: no table, unknown columns, empty or equal names, and, all at once, the files that are missing.
    """
    file = given_path(path, "plan").resolve()
    text = read_text(file, f"plan ({file.name})", "a table of pairs (CSV)")
    rows = list(csv.reader(io.StringIO(text), delimiter=_delimiter(text)))
    rows = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    header = [cell.lower() for cell in rows[0]] if rows else []
    unknown = [cut(column) for column in header if column not in COLUMNS]
    twice = [column for column, count in Counter(header).items() if count > 1]
    if not {"fixed", "moving"} <= set(header) or unknown or twice:
        what = f"got {', '.join(map(cut, header)) or 'nothing'}"
        what = f"{', '.join(unknown)} is none of them" if unknown else what
        what = f"{', '.join(twice)} is there twice" if twice else what
        raise InputError(
            f"plan ({file.name}): expected a first line with the columns fixed and moving, and any of "
            f"{', '.join(column for column in COLUMNS if column not in ('fixed', 'moving'))}; {what}."
        )
    pairs = []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) > len(header):
            raise InputError(f"plan ({file.name}): line {number} has {len(row)} columns, the first {len(header)}.")
        cells = dict(zip(header, row, strict=False))
        lacking = [side for side in ("fixed", "moving") if not cells.get(side)]
        if lacking:
            raise InputError(f"plan ({file.name}): line {number} names no {' and no '.join(lacking)} image.")
        files = {column: os.path.abspath(file.parent / cells[column]) for column in FILE_COLUMNS if cells.get(column)}
        pairs.append(PlannedPair(cells.get("name", ""), files))
    return checked(pairs, f"plan ({file.name})")


def to_one_fixed(fixed: str, moving: Sequence[str]) -> list[PlannedPair]:
    """All the moving images (paths, or patterns such as `sub-*/anat/*.nii.gz`) onto one fixed image.

    The fixed image itself is left out where a pattern finds it. Raises InputError.
    """
    target = os.path.abspath(given_path(fixed, "fixed"))
    found: dict[str, None] = {}
    for pattern in moving:
        matches = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else [pattern]
        if not matches:
            raise InputError(f"moving: expected images at {cut(pattern)}; found none. Check the pattern, in quotes.")
        found.update(dict.fromkeys(map(os.path.abspath, matches)))
    pairs = [PlannedPair("", {"fixed": target, "moving": path}) for path in found if path != target]
    return checked(pairs, "cohort")


def checked(pairs: list[PlannedPair], what: str) -> list[PlannedPair]:
    """The pairs, each with a name of its own. Raises InputError as `read_plan` says."""
    if not pairs:
        raise InputError(f"{what}: expected at least one pair; found none.")
    if len(pairs) > MOST_PAIRS:
        raise InputError(f"{what}: expected at most {MOST_PAIRS} pairs, got {len(pairs)}. Divide it into several.")
    missing = list(dict.fromkeys(path for pair in pairs for path in pair.files.values() if not exists(path)))
    if missing:
        more = "" if len(missing) <= _SHOWN else f"\n  and {len(missing) - _SHOWN} more"
        listed = "\n  ".join(missing[:_SHOWN])
        raise InputError(f"{what}: {len(missing)} files are missing; nothing was run:\n  {listed}{more}")
    pairs = _named(pairs)
    wrong = [shown(pair.name, 40) for pair in pairs if not _NAME.fullmatch(pair.name)]
    if wrong:
        raise InputError(
            f"{what}: names become folders, so letters, digits and . _ + - are expected, at most 100; got {wrong[0]}"
            + (f" and {len(wrong) - 1} more." if len(wrong) > 1 else ".")
        )
    # Some file systems take a name in small and in large letters for the same.
    equal = [name for name, count in Counter(pair.name.lower() for pair in pairs).items() if count > 1]
    if equal:
        raise InputError(f"{what}: each pair needs a name of its own; {', '.join(equal[:_SHOWN])} is there twice.")
    return pairs


def _named(pairs: list[PlannedPair]) -> list[PlannedPair]:
    """Pairs without a name get one: of the moving image; with its folder, or the fixed image's, where that is not one.

    What is still not unique is numbered, in the plan's order.
    """
    given = {pair.name.lower() for pair in pairs if pair.name}
    without = [pair for pair in pairs if not pair.name]
    makers = (
        lambda pair: _stem(pair.files["moving"]),
        lambda pair: f"{_stem(os.path.dirname(pair.files['moving']))}_{_stem(pair.files['moving'])}",
        lambda pair: f"{_stem(pair.files['moving'])}_to_{_stem(pair.files['fixed'])}",
    )
    names: Iterable[str] = ()
    for make in makers:
        names = [make(pair)[:100] for pair in without]
        lowered = {name.lower() for name in names}
        if len(lowered) == len(without) and not lowered & given:
            break
    else:
        names = [f"pair_{number:0{len(str(len(pairs)))}d}" for number in range(1, len(without) + 1)]
    fresh = iter(names)
    return [pair if pair.name else PlannedPair(next(fresh), pair.files, pair.entities) for pair in pairs]


def _stem(path: str) -> str:
    """A file's name without its ending, of letters that a folder's name may have."""
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", _ENDING.sub("", Path(path).name)).lstrip("._+-")
    return name or "image"


def _delimiter(text: str) -> str:
    """Of the first line: comma, semicolon (as some spreadsheets write) or tab."""
    first = text.lstrip("\ufeff").partition("\n")[0]
    return max(",;\t", key=first.count)
