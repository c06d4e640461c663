"""Text, JSON and TOML from anywhere, read with limits: of bytes, of nesting, of numbers; one plain sentence otherwise.

Every reader of a file that somebody else may have written comes here, so that a device, a pipe, a file without an
end, brackets in brackets or a number of 400 digits is an `InputError` and never an error of a library.
"""

from __future__ import annotations

import codecs
import json
import math
import os
import re
import stat
from typing import Any

from .errors import InputError, NotEnoughMemory
from .paths import given_path

MOST_BYTES = 16 * 2**20
DEEPEST = 64
_MOST_TOML_BYTES, _LONGEST_TOML_LINE = 2**18, 2**13  # the parser's time grows with the square of a line's length
_LARGEST_WHOLE = 2**63
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,9})?")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def is_file(path: str | os.PathLike) -> bool:
    """Whether a regular file is there; no path, however odd, raises."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):  # names too long, with a zero byte, with letters that the system has not
        return False


def exists(path: str | os.PathLike) -> bool:
    """Whether a regular file or a folder is there; no path, however odd, raises."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def read_bytes(path: str | os.PathLike, name: str, most_bytes: int = MOST_BYTES) -> bytes:
    """What a regular file holds. Raises InputError: none there, a folder, a device or pipe, too large, not readable.

    Of these, NotEnoughMemory when memory does not hold it.
    """
    file = given_path(path, name)
    try:
        known = os.stat(file)
        mode, size = known.st_mode, min(known.st_size, most_bytes)
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
            raise InputError(f"{name}: expected a file, got {what} ({file}).")
        with file.open("rb") as stream:
            content = stream.read(size + 1)  # memory for so much is taken before it is read
            if len(content) > size:  # it grew, or the system does not tell its size
                content += stream.read(most_bytes + 1 - len(content))
    except OSError as error:
        where = "" if str(file) == name else f"{file} "
        raise InputError(f"{name}: {where}cannot be read: {error.strerror or error}.") from error
    except MemoryError as error:
        raise NotEnoughMemory(f"{name}: {file.name} is larger than what memory is left.") from error
    if len(content) > most_bytes:
        raise InputError(f"{name}: expected at most {_size(most_bytes)}, got more. Is it the right file?")
    return content


def decoded(content: bytes, name: str, expected: str = "a text file") -> str:
    """Bytes as text: UTF-8, or UTF-16 that says so, as Windows writes it. Raises InputError."""
    try:
        text = content.decode("utf-16" if content.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: cannot be read as {expected}: its bytes are no UTF-8 text.") from error
    if "\0" in text:
        raise InputError(f"{name}: cannot be read as {expected}: it holds zero bytes, as binary files do.")
    return text


def read_text(path: str | os.PathLike, name: str, expected: str = "a text file", most_bytes: int = MOST_BYTES) -> str:
    """The text of a file. Raises InputError."""
    return decoded(read_bytes(path, name, most_bytes), name, expected)


def parse_json(text: str, name: str, expected: str = "JSON") -> Any:
    """What a JSON text says; at most 64 levels deep, each key once, finite numbers only. Raises InputError."""
    try:
        content = json.loads(text, object_pairs_hook=_each_key_once)
    except (RecursionError, MemoryError) as error:
        raise InputError(f"{name}: expected {expected}; brackets are nested too deeply.") from error
    except ValueError as error:
        raise InputError(f"{name}: expected {expected}; it is damaged or something else ({_short(error)}).") from error
    return _checked(content, name, expected)


def read_json(path: str | os.PathLike, name: str, expected: str = "a JSON file", most_bytes: int = MOST_BYTES) -> Any:
    """What a JSON file says, as `parse_json`. Raises InputError."""
    return parse_json(read_text(path, name, expected, most_bytes), name, expected)


def read_json_object(
    path: str | os.PathLike, name: str, expected: str = "a JSON file", most_bytes: int = MOST_BYTES
) -> dict[str, Any]:
    """As `read_json`, of a file whose values have names. Raises InputError for a list, a number or a text alone."""
    content = read_json(path, name, expected, most_bytes)
    if not isinstance(content, dict):
        raise InputError(f"{name}: expected {expected} with values by name, got {_kind(content)} alone.")
    return content


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """What a TOML text says, with the same limits. Raises InputError."""
    if len(text) > _MOST_TOML_BYTES or any(len(line) > _LONGEST_TOML_LINE for line in text.splitlines()):
        raise InputError(
            f"{name}: expected a TOML file of at most {_size(_MOST_TOML_BYTES)} with lines of at most "
            f"{_LONGEST_TOML_LINE} letters; it has more."
        )
    if any(_dots_in_names(line) > DEEPEST for line in text.splitlines()):
        raise InputError(f"{name}: expected a TOML file; its names are nested too deeply.")
    try:  # here: every command would wait for it
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib  # pyright: ignore[reportMissingImports]
    try:
        content = tomllib.loads(text)
    except (RecursionError, MemoryError) as error:
        raise InputError(f"{name}: expected a TOML file; its brackets are nested too deeply.") from error
    except (ValueError, OverflowError) as error:
        raise InputError(f"{name}: expected a TOML file: {_short(error)}.") from error
    return _checked(content, name, "a TOML file")


def _dots_in_names(line: str) -> int:
    """How many dots join the names in a line; all of the line where names may stand in it anywhere."""
    return (line if "{" in line else line.partition("=")[0]).count(".") if len(line) > DEEPEST else 0


def read_toml(path: str | os.PathLike, name: str) -> dict[str, Any]:
    """What a TOML file says. Raises InputError."""
    return parse_toml(read_text(path, name, "a TOML file", 2 * _MOST_TOML_BYTES), name)


def number(word: Any) -> float | None:
    """A number, or a text that is one in plain ASCII, as float; None for anything else, infinite ones too."""
    if isinstance(word, str):
        word = word.strip(" \t")
        if not _NUMBER.fullmatch(word):
            return None
    elif isinstance(word, bool) or not isinstance(word, (int, float)):
        return None
    try:
        value = float(word)
    except (OverflowError, ValueError):
        return None
    return value if math.isfinite(value) else None


def shown(value: Any, most: int = 80) -> str:
    """A value for a message: its `repr`, cut off where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # whole numbers of thousands of digits, lists in lists
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def cut(text: str, most: int = 80) -> str:
    """A name or a word for a message: as it is, or its beginning."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in text[: most + 1])
    return clean if len(text) <= most else f"{clean[: most - 4]} ..."


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # pyright: ignore[reportUnusedExpression]
        raise ValueError(f"the name {shown(twice, 40)} is there twice")
    return found


def _checked(content: Any, name: str, expected: str) -> Any:
    """The content, when it is not too deep and all its numbers and texts can be used."""
    left = [(content, 0)]
    while left:
        value, depth = left.pop()
        if isinstance(value, (dict, list)):
            if depth >= DEEPEST:
                raise InputError(f"{name}: expected {expected}; brackets are nested too deeply.")
            if isinstance(value, dict):
                left.extend((key, depth) for key in value)
                value = list(value.values())
            left.extend((inner, depth + 1) for inner in value)
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise InputError(f"{name}: expected finite numbers, got {value}.")
        elif isinstance(value, int):
            if abs(value) >= _LARGEST_WHOLE:
                raise InputError(f"{name}: a whole number in it is too large ({shown(value, 24)}).")
        elif isinstance(value, str) and not _is_text(value):
            raise InputError(f"{name}: a text in it has letters that no text has (zero bytes, halves of letters).")
    return content


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # halves of letters, as "\ud800"
        return False
    return "\0" not in value


def _short(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text.rstrip(".") if len(text) <= 120 else f"{text[:116]} ..."


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _size(count: int) -> str:
    return f"{count // 2**20} MB" if count >= 2**20 else f"{count // 2**10} KB"
