"""Hidden folders in which results grow, and what becomes of those that a run has left.

A hidden folder is called `.carlreg.MARK.NUMBER.STATE` and lies in the folder for which its content is meant; MARK says
which run made it (`processes`). Its subfolders hold what is to be moved there. States:

- `part`: being written; goes when its run is over.
- `old`: what lay there before, moved aside for a moment; comes back unless the new content is complete.
- `done`: complete; whatever is still in it belongs in its place. An empty one tells a supervisor that all is delivered.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .processes import MARK, is_running, own_mark

# Names the run whose parts are to be cleaned up, across the processes of one run; without it each process is a run.
RUN_VARIABLE = "CARLREG_RUN"
PART, OLD, DONE = "part", "old", "done"
_NAME = re.compile(rf"\.carlreg\.({MARK}|\w+)\.(\d+)\.({PART}|{OLD}|{DONE})")
# Of runs on other computers, which may be at work still.
_STALE_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Hidden:
    """One hidden folder."""

    path: Path
    mark: str
    number: int
    state: str

    @property
    def here(self) -> Path:
        """The folder for which its content is meant."""
        return self.path.parent


def run_mark() -> str:
    """The mark of the run that this process belongs to."""
    return os.environ.get(RUN_VARIABLE) or own_mark()


def hidden_path(here: Path, number: int, state: str) -> Path:
    return here / f".carlreg.{run_mark()}.{number}.{state}"


def is_hidden(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def entries(folder: Path) -> list[Path]:
    """What is in a folder but for hidden folders of runs."""
    return [path for path in folder.iterdir() if not is_hidden(path.name)]


def hidden_in(folder: Path) -> list[Hidden]:
    found = []
    with suppress(OSError):  # not there, or not readable
        for path in folder.iterdir():
            match = _NAME.fullmatch(path.name)
            if match is not None:
                found.append(Hidden(path, match[1], int(match[2]), match[3]))
    return found


def sweep(folders: Iterable[Path]) -> None:
    """Tidy up what runs that were ended hard (kill -9, a power cut) have left; runs that are at work keep theirs."""
    _settle(folders, _is_abandoned)


def settle_run(folders: Iterable[Path]) -> bool:
    """Tidy up after this run, which is over; whether it had delivered all (what was still to be moved is moved)."""
    mark = run_mark()
    return _settle(folders, lambda found: found.mark == mark)


def _settle(folders: Iterable[Path], chosen: Callable[[Hidden], bool]) -> bool:
    found = [hidden for folder in dict.fromkeys(folders) for hidden in hidden_in(folder) if chosen(hidden)]
    # Renamed one after the other: with one of a run's folders complete, all of them are.
    complete = {(hidden.mark, hidden.number) for hidden in found if hidden.state == DONE}
    settled = True
    for hidden in sorted(found, key=lambda one: one.state != OLD):  # what was there before comes back first
        try:
            if (hidden.mark, hidden.number) not in complete:
                if hidden.state == OLD:
                    put_back(hidden.path)
            elif hidden.state != OLD:
                move_out(hidden.path)
            remove(hidden.path)
        except OSError:  # somebody else's, or busy: left for the next run
            settled = False
    return bool(complete) and settled


def _is_abandoned(hidden: Hidden) -> bool:
    running = is_running(hidden.mark)
    if running is not None:
        return not running
    with suppress(OSError):
        newest = max(path.stat().st_mtime for path in (hidden.path, *hidden.path.rglob("*")))
        return time.time() - newest > _STALE_SECONDS
    return False


def move_out(hidden: Path) -> dict[Path, Path]:
    """Move what is in the subfolders of a hidden folder to its place: where each is meant to be, and where it is now.

    Where that cannot be replaced (another result in the meantime, a file open elsewhere) it gets the next free name.
    """
    moved = {}
    for source in [path for folder in sorted(hidden.iterdir()) if folder.is_dir() for path in sorted(folder.iterdir())]:
        target = hidden.parent / source.name
        moved[target] = move(source, target)
    return moved


def move(source: Path, target: Path) -> Path:
    """Move a file onto a file, or a folder to where none is; returns the place, with the next free name if need be."""
    number, place = 1, target
    while True:
        try:
            if source.is_dir() and place.is_dir():
                place.rmdir()  # an empty one makes room
            os.replace(source, place)
        except OSError:
            if not source.exists() or not os.path.lexists(place):
                raise
            number += 1
            place = _numbered(target, number)
        else:
            return place


def _numbered(path: Path, number: int) -> Path:
    """NAME_2 for NAME; endings stay."""
    stem, dot, ending = (path.name, "", "") if path.is_dir() else path.name.partition(".")
    return path.with_name(f"{stem}_{number}{dot}{ending}")


def put_back(old: Path) -> None:
    """What had been moved aside comes back where nothing has taken its place."""
    for path in sorted(old.iterdir()):
        if not os.path.lexists(old.parent / path.name):
            path.rename(old.parent / path.name)


def remove(path: Path) -> None:
    """Remove a folder, also while a process that is ending still writes into it."""
    for _ in range(3):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.05)
