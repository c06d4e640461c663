"""The lock of a folder (a study, a template): one command at a time works on it, on whichever computer that sees it.

A command keeps its lock young. One that is over is known by its process on this computer, and by the lock's age on
others, where a walltime or a kill may have ended it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError
from ..processes import is_running, own_mark

LOCK = ".running"
#: A lock is renewed so often; another computer's that is older than the second is nobody's. Folders on a network show
#: what others wrote up to a minute late.
BEAT_SECONDS, STALE_SECONDS = 20.0, 300.0


@contextmanager
def locked(folder: Path, unlock: bool = False) -> Iterator[None]:
    """Hold a folder's lock. unlock: whoever calls knows that a command on another computer is over.

    Raises InputError when another command is at work, or nothing can be written there.
    """
    lock = folder / LOCK
    while not _taken(lock):
        mark = _mark_in(lock)
        if mark is not None and not _is_over(lock, mark, unlock):
            raise InputError(
                f"{folder}: another command is at work on it. Wait for it. If it was killed on another "
                f"computer, go on when {STALE_SECONDS / 60:.0f} minutes have passed, or at once with --unlock."
            )
        with suppress(OSError):
            lock.unlink()
    over = threading.Event()
    beat = threading.Thread(target=_renew, args=(lock, over), name="carlreg-lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        over.set()
        beat.join()
        if _mark_in(lock) == own_mark():  # not another's that took this one for dead, as after a computer's sleep
            with suppress(OSError):
                lock.unlink()


def _taken(lock: Path) -> bool:
    """Write the lock; False when there is one. Raises InputError where it cannot be written."""
    try:
        with open(lock, "x", encoding="ascii") as file:
            try:
                file.write(own_mark())
                file.flush()
            except OSError:
                with suppress(OSError):
                    lock.unlink()
                raise
    except FileExistsError:
        return False
    except OSError as error:
        raise InputError(f"{lock.parent}: nothing can be written there ({error.strerror}).") from error
    return True


def _renew(lock: Path, over: threading.Event) -> None:
    while not over.wait(BEAT_SECONDS):
        with suppress(OSError):
            os.utime(lock)


def _is_over(lock: Path, mark: str, unlock: bool) -> bool:
    running = is_running(mark)
    return (unlock or _age(lock) > STALE_SECONDS) if running is None else not running


def _age(lock: Path) -> float:
    """Seconds since a lock was renewed, by the clock of the disk, which may be another computer's."""
    try:
        os.utime(lock.parent)
        return lock.parent.stat().st_mtime - lock.stat().st_mtime
    except OSError:
        return 0.0


def _mark_in(lock: Path) -> str | None:
    """Whose lock it is; None when it is gone or was left empty a while ago."""
    try:
        mark = lock.read_text(encoding="ascii", errors="replace").strip()
        return mark or (None if time.time() - lock.stat().st_mtime > 2 else "new")
    except OSError:
        return None
