"""What quality.json and settings.json of a result folder must look like for a report: checked, name by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...text_files import cut, is_file, read_json_object, shown

_LARGEST = 1e12
Leaf = tuple[str, Callable[[Any], bool]]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _is_whole(value: Any) -> bool:
    return _is_number(value) and isinstance(value, int)


def _three(value: Any, each: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(each(part) for part in value)


_NUMBER: Leaf = ("a number", _is_number)
_WHOLE: Leaf = ("a whole number", _is_whole)
_TEXT: Leaf = ("a text", lambda value: isinstance(value, str))
_MAYBE: Leaf = ("a number or null", lambda value: value is None or _is_number(value))
_MAYBE_TEXT: Leaf = ("a text or null", lambda value: value is None or isinstance(value, str))
_ANY: Leaf = ("anything", lambda value: True)
_THREE: Leaf = ("three numbers", lambda value: _three(value, _is_number))
_SIZES: Leaf = ("three whole numbers", lambda value: _three(value, _is_whole))
_MATRIX: Leaf = ("three rows of three numbers", lambda value: _three(value, _THREE[1]))

# A name with ! must be there; one without may be missing or null. * stands for all names that are not listed.
_SIMILAR = {"*": _MAYBE}
_LABELS = {
    "mean!": _MAYBE,
    "per_label!": {"*": _NUMBER},
    "surface_mm": {"*": {"mean!": _NUMBER, "hausdorff95!": _NUMBER}},
}
_LANDMARKS = {"mean_mm!": _MAYBE, "max_mm!": _MAYBE, "errors_mm": [_NUMBER], "*": _ANY}
_SEGMENT = {
    "label!": _WHOLE,
    "name": _TEXT,
    "volume_mm3!": _NUMBER,
    "volume_change_percent!": _NUMBER,
    "determinant!": {"mean!": _NUMBER, "sd!": _NUMBER, "p5!": _NUMBER, "p95!": _NUMBER, "*": _MAYBE},
    "*": _ANY,
}
_QUALITY = {
    "verdict": {
        "word!": _TEXT,
        "reasons!": [_TEXT],
        "checks": [{"name!": _TEXT, "word!": _TEXT, "value!": _MAYBE, "*": _ANY}],
        "thresholds!": {"*": {"check!": _NUMBER, "poor": _NUMBER, "unit!": _TEXT, "meaning!": _TEXT, "*": _ANY}},
        "*": _ANY,
    },
    "similarity!": {"before!": _SIMILAR, "after!": _SIMILAR},
    "jacobian!": {
        "histogram": {"log2_edges!": [_NUMBER], "counts!": [_NUMBER]},
        "folds": [{"voxels!": _WHOLE, "volume_mm3!": _NUMBER, "center_lps!": _THREE, "*": _ANY}],
        "fold_regions": _WHOLE,
        "*": _MAYBE,
    },
    "size": {"mean": _NUMBER, "stretched": _NUMBER},
    "overlap_percent": _MAYBE,
    "inverse_error_mm": {"*": _MAYBE},
    "labels": {"before!": _LABELS, "after!": _LABELS},
    "segments": [_SEGMENT],
    "landmarks": {"before!": _LANDMARKS, "after!": _LANDMARKS},
    "true_map": {"before": {"*": _ANY}, "after": {"mean_mm": _MAYBE, "*": _ANY}, "*": _ANY},
    "guidance": {
        "landmarks": {
            "accuracy_mm!": _NUMBER,
            "points!": [{"name!": _TEXT, "before_mm!": _MAYBE, "after_mm!": _MAYBE}],
            "contradicting": [[_TEXT]],
        },
        "segments": [{"name!": _TEXT, "weight!": _NUMBER, "dice_before!": _NUMBER, "dice_after!": _NUMBER}],
        "ignored_ml": {"*": _NUMBER},
    },
    "uncertainty": {"meaning": _TEXT, "*": _MAYBE},
    "optimization": {"asked": _WHOLE, "done": _WHOLE, "similarity": _TEXT, "curve": [_NUMBER], "levels": [_WHOLE]},
    "stages": [{"name!": _TEXT, "seconds!": _NUMBER, "*": _ANY}],
    "warnings": [_TEXT],
    "notes": {"moving_voxel_mm": _NUMBER, "fixed_body_mm": _NUMBER, "fixed_voxel_mm": _NUMBER, "*": _ANY},
    "*": _ANY,
}
_IMAGE = {
    "size!": _SIZES,
    "spacing!": _THREE,
    "origin!": _THREE,
    "direction!": _MATRIX,
    "file": _TEXT,
    "relative_path": _TEXT,
    "*": _ANY,
}
_SETTINGS = {
    "inputs!": {"fixed!": _IMAGE, "moving!": _IMAGE, "*": _ANY},
    "settings": {"*": _ANY},
    "info": {
        "landmarks_guide": {
            "count!": _WHOLE,
            "accuracy_mm!": _NUMBER,
            "rms_mm!": _NUMBER,
            "max_mm!": _NUMBER,
            "*": _ANY,
        },
        "segments_guide": [{"name!": _TEXT, "weight!": _NUMBER}],
        "mended": {"points": [{"name!": _TEXT, "before_mm!": _NUMBER, "after_mm!": _NUMBER}], "*": _ANY},
        "linear": {
            "kind": _TEXT,
            "turn_degrees": _NUMBER,
            "turn_axis_lps": _THREE,
            "shift_of_center_mm": _THREE,
            "stretches": _THREE,
            "*": _ANY,
        },
        "*": _ANY,
    },
    "masks": {"*": _ANY},
    "software": {"*": _ANY},
    "*": _ANY,
}


def read_recorded(folder: Path) -> tuple[dict, dict]:
    """The figures and the settings that a result folder holds, checked. Raises InputError naming what is wrong."""
    quality = _read(folder, "quality.json", _QUALITY)
    settings = _read(folder, "settings.json", _SETTINGS)
    histogram = quality["jacobian"].get("histogram")
    if histogram:
        edges, counts = histogram["log2_edges"], histogram["counts"]
        if len(edges) != len(counts) + 1 or edges != sorted(set(edges)) or min(counts, default=0) < 0:
            raise _wrong(folder / "quality.json", "jacobian.histogram", "edges that rise, one more than counts", counts)
    return quality, settings


def _read(folder: Path, name: str, shape: dict) -> dict:
    path = folder / name
    if not is_file(path):
        raise InputError(
            f"{folder}: expected a result folder of `carlreg register` with a {name}; there is none. Check the path."
        )
    content = read_json_object(path, str(path), "JSON as `carlreg register` writes it")
    _check(content, shape, path, "")
    return content


def _wrong(path: Path, where: str, expected: str, got: Any) -> InputError:
    return InputError(
        f"{path}: {cut(where)}: expected {expected}, got {shown(got, 60)}. The file lacks what a report needs: "
        "register again, or give a folder that `carlreg register` wrote."
    )


def _check(value: Any, shape: Any, path: Path, where: str) -> None:
    if isinstance(shape, tuple):
        expected, fits = shape
        if not fits(value):
            raise _wrong(path, where, expected, value)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise _wrong(path, where, "a list", value)
        for number, inner in enumerate(value):
            _check(inner, shape[0], path, f"{where}[{number}]")
    elif not isinstance(value, dict):
        raise _wrong(path, where, "values by name", value)
    else:
        for name in (name[:-1] for name in shape if name.endswith("!")):
            if name not in value:
                raise _wrong(path, where or "it", f"a value called {name}", "none")
        for name, inner in value.items():
            must, may = shape.get(f"{name}!"), shape.get(name, shape.get("*", _ANY))
            if must is not None or inner is not None:
                _check(inner, may if must is None else must, path, f"{where}.{name}".lstrip("."))
