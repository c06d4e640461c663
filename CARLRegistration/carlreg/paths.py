"""Paths as users give them: checked before anything is done with them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from .errors import InputError

_NO_PATH = {
    errno.ENAMETOOLONG: "a name in it, or all of it, is longer than the file system allows. Shorten it.",
    errno.ELOOP: "it is a link that leads to itself. Give the file itself.",
    errno.EINVAL: "it has letters that the file system does not allow. Rename it.",
}


def given_path(path: str | os.PathLike, what: str) -> Path:
    """The path with `~` and `~user` replaced; what: names it in messages. Whether something is there is not asked.

    Raises InputError for what cannot be a path: empty, of bytes that are no UTF-8 (readers end the process on those),
    too long, of an unknown user, behind a folder that may not be looked into.
    """
    try:
        text = os.fspath(path)
    except TypeError as error:
        raise InputError(f"{what}: expected a path, got {type(path).__name__}.") from error
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    if not text:
        raise InputError(f"{what}: expected a path, got an empty path.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        shown = text.encode("utf-8", "backslashreplace").decode()
        raise InputError(f"{what}: the name {shown} has bytes that are no UTF-8 letters. Rename the file.") from error
    if "\0" in text:
        raise InputError(f"{what}: expected a path, got one with a zero byte in it. Check it for typing errors.")
    found = Path(os.path.expanduser(text))
    try:
        if text.startswith("~") and str(found) == str(Path(text)) and not os.path.lexists(found.parts[0]):
            raise InputError(f"{what}: {text}: there is no user {found.parts[0][1:]!r} here. Write the whole path.")
        os.stat(found)
    except OSError as error:
        shown = text if len(text) < 120 else f"{text[:50]}...{text[-50:]}"
        if error.errno in _NO_PATH:
            raise InputError(f"{what}: {shown}: {_NO_PATH[error.errno]}") from error
        if isinstance(error, PermissionError):
            raise InputError(f"{what}: {shown} cannot be opened: {error.strerror or error}.") from error
    return found
