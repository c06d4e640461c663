"""Paths that people type, and temporary folders that are taken away."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

PREFIX = "CARLRegistration-"
_KEPT = "kept"  # a file in a folder that the user wants to keep
_LEFT = "left"  # a file in a folder that could not be removed
# Windows holds the files of a process that was just ended for some milliseconds.
_PAUSES_SECONDS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
_STALE_SECONDS = 7 * 86400.0  # no run leaves its folder untouched for so long


def typedPath(text: str | os.PathLike | None) -> str | None:
    """The absolute path that is meant by `~`, one relative to Slicer's folder, or one in quotes; None for nothing."""
    text = os.fspath(text).strip().strip("\"'").strip() if text is not None else ""
    return os.path.abspath(os.path.expanduser(text)) if text else None


def keep(folder: Path) -> None:
    """The user wants it: no `sweep` removes it."""
    (folder / _KEPT).touch()


def removeFolder(folder: Path) -> None:
    """Remove a temporary folder; what is held by someone is marked, and removed by the next `sweep`."""
    for pause in _PAUSES_SECONDS:
        time.sleep(pause)
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            if not folder.exists():
                return
        except OSError:
            continue
        else:
            return
    with contextlib.suppress(OSError):
        (folder / _LEFT).touch()


def sweep(parent: Path) -> None:
    """Remove folders that could not be removed when their task ended, or whose Slicer ended before they did."""
    with contextlib.suppress(OSError):
        for folder in parent.glob(PREFIX + "*"):
            if folder.is_symlink() or not folder.is_dir():
                continue
            stale = (folder / _LEFT).exists() or _age(folder) > _STALE_SECONDS
            if stale and not (folder / _KEPT).exists():
                shutil.rmtree(folder, ignore_errors=True)


def _age(folder: Path) -> float:
    """Seconds since something in it was changed."""
    newest = folder.stat().st_mtime
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            newest = max(newest, path.stat().st_mtime)
    return time.time() - newest


__all__ = ["PREFIX", "keep", "removeFolder", "sweep", "typedPath"]
