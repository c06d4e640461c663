"""Configuration files: TOML tables as frozen dataclasses whose values are checked against their annotations.

A section is a `Section` whose fields say in their type what is allowed:

    @dataclass(frozen=True, kw_only=True)
    class OptimizerSettings(Section):
        rate: Annotated[float, Range(1e-8, 1.0)] = 1e-4

A wrong key or value is an `InputError` that names the key, what was expected, what arrived, and the known keys.
"""

from __future__ import annotations

import difflib
import json
import math
import types
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import InputError
from ..text_files import parse_toml, shown
from ..text_files import read_toml as read_toml_file


@dataclass(frozen=True)
class Range:
    """What a number may be, both ends included."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Section:
    """Base of the sections: checks and converts every field on construction."""

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            object.__setattr__(self, name, _converted(getattr(self, name), hint, name))


def read_toml(path: str | Path) -> dict[str, Any]:
    """The table in a TOML file. Raises InputError when it cannot be read or is no TOML."""
    return read_toml_file(path, str(path))


def with_overrides(table: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """A copy of a table with `section.key=value` put in; values are TOML, a bare word is text."""
    result = json.loads(json.dumps(table, default=str))
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        keys = [key.strip() for key in name.split(".")]
        if not equals or not all(keys):
            raise InputError(f"--set: expected section.key=value, e.g. optimizer.rate=1e-4; got {assignment!r}.")
        try:
            value = parse_toml(f"value = {text}", f"--set {assignment[:80]}")["value"]
        except InputError:
            value = text
        inner = result
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                raise InputError(f"--set {assignment}: {key} is a value, not a section.")
        inner[keys[-1]] = value
    return result


def read_section(kind: type, table: Any, where: str = "") -> Any:
    """A dataclass from a table, its own sections from the tables inside. Raises InputError."""
    label = where or "the configuration"
    if not isinstance(table, dict):
        raise InputError(f"{label}: expected a table with the keys {_listed(_hints(kind))}; got {shown(table)}.")
    hints = _hints(kind)
    for key in table:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, 1)
            guess = f" Did you mean {near[0]}?" if near else ""
            raise InputError(f"{label}: unknown key {shown(key)}.{guess} Known keys: {_listed(hints)}.")
    prefix = f"{where}." if where else ""
    values = {key: _converted(value, hints[key], prefix + key) for key, value in table.items()}
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(f"{label}: {error}") from error


def to_toml(section: Any) -> str:
    """A section as TOML that `read_section` reads back to an equal one; what is None is left out."""
    return "\n".join(_toml_lines(asdict(section), "")).strip() + "\n"


def _toml_lines(table: dict[str, Any], where: str) -> list[str]:
    values = {key: value for key, value in table.items() if value is not None}
    lines = [f"{key} = {_toml_value(value)}" for key, value in values.items() if not isinstance(value, dict)]
    if lines and where:
        lines = [f"[{where}]", *lines]
    for key, value in values.items():
        if isinstance(value, dict):
            lines += ["", *_toml_lines(value, f"{where}.{key}" if where else key)]
    return lines


def _toml_value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    if isinstance(value, float):
        return repr(value) if "e" not in repr(value) or "." in repr(value) else repr(value).replace("e", ".0e")
    return json.dumps(value, ensure_ascii=False)


def _hints(kind: type) -> dict[str, Any]:
    known = get_type_hints(kind, include_extras=True)
    return {field.name: known[field.name] for field in fields(kind)}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _converted(value: Any, hint: Any, key: str) -> Any:
    """The value as its annotation asks for it; raises InputError naming the key."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        inner = [h for h in get_args(hint) if h is not type(None)]
        if value is None and len(inner) < len(get_args(hint)):
            return None
        return _converted(value, inner[0], key)
    if isinstance(hint, type) and is_dataclass(hint):
        return value if isinstance(value, hint) else read_section(hint, value, key)
    limits = None
    if origin is Annotated:
        hint, limits, *_ = get_args(hint)
    if _fits(value, hint, limits):
        if get_origin(hint) is tuple:
            return tuple(_converted(v, get_args(hint)[0], key) for v in value)
        return float(value) if hint is float else value
    raise InputError(f"{key}: expected {_described(hint, limits)}; got {shown(value)}.")


def _fits(value: Any, hint: Any, limits: Range | None) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, (list, tuple))
    if hint in (int, float):
        number = isinstance(value, int) or (hint is float and isinstance(value, float) and math.isfinite(value))
        return number and not isinstance(value, bool) and (limits is None or limits.low <= value <= limits.high)
    return isinstance(value, hint) if isinstance(hint, type) else True


def _described(hint: Any, limits: Range | None) -> str:
    if get_origin(hint) is Literal:
        return f"one of {_listed(repr(v) for v in get_args(hint))}"
    if get_origin(hint) is tuple:
        return "a list"
    name = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(hint, str(hint))
    return name if limits is None else f"{name} from {limits.low:g} to {limits.high:g}"
