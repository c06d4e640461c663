"""What a process that registers many pairs keeps from one to the next: the last network, the last prepared fixed image.

Nothing is kept unless the process asks for it (`keeping`), and only the last of each kind, so that memory is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

Made = TypeVar("Made")
_current: ContextVar[Kept | None] = ContextVar("kept", default=None)


class Kept:
    """The last thing of each kind. Whoever gets one must leave it as it is: others get the same."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[Hashable, Any]] = {}

    def get(self, kind: str, key: Hashable, make: Callable[[], Made]) -> Made:
        """What was made of this kind last, if by an equal key; else what `make` gives now."""
        known = self._last.get(kind)
        if known is not None and known[0] == key:
            return known[1]
        self._last.pop(kind, None)  # first: memory may hold one of them, but not two
        known = None
        made = make()
        self._last[kind] = key, made
        return made


@contextmanager
def keeping(kept: Kept) -> Iterator[None]:
    """Within the block, and in this thread alone, the engine takes from `kept` what it would make again."""
    token = _current.set(kept)
    try:
        yield
    finally:
        _current.reset(token)


def kept() -> Kept | None:
    """What this process keeps; None where nothing is kept."""
    return _current.get()


def file_identity(path: Path) -> tuple[int, ...] | None:
    """Equal for a file that nobody has changed since; None when there is none."""
    try:
        known = path.stat()
    except OSError:
        return None
    return known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns
