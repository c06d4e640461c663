"""The engine as a child process: started, watched through files, cancelled, killed with all its children.

Neither slicer nor qt is needed here. Nothing blocks: whoever owns a run calls `poll()` now and then. Records and
messages come through files and not through pipes, because a pipe wants a reader, and a reader thread does not run
while Slicer's event loop is idle (https://discourse.slicer.org/t/32299).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENGINE_FOLDER = Path(__file__).resolve().parents[2]
DONE, FAILED, BAD_INPUT, CANCELLED = 0, 1, 2, 3
# The engine comes out within two seconds of being asked, later where much else is computed; nobody waits for it.
CANCEL_SECONDS = 15.0
# When Slicer waits (a scene is closed, Slicer quits): what has not come out by then is killed.
GRACE_SECONDS = 2.2
# Set by Slicer or by virtual environments for their own Python: they would lead another one astray.
_FOREIGN_VARIABLES = ("PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE")
# Slicer's launcher leads these to Slicer's libraries; before it, in the environment of the start, they are the user's.
_LIBRARY_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_WINDOWS = os.name == "nt"
# Names that exist on Windows alone; without a window no console flashes.
_NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0x08000000)
_NEW_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x00000200)


@dataclass
class Report:
    """Where a run stands. records: what is new since the last poll, oldest first (stage, fraction, seconds_left...)."""

    running: bool
    exit_code: int | None = None
    records: list[dict] = field(default_factory=list)


class EngineProcess:
    """One `python -m carlreg ...` with its files in `folder`.

    Args:
        arguments: of the command line. folder: exists; gets progress.jsonl and log.txt.
        python: the interpreter; None = this one. environment: its environment; None = this process's.
    Raises: OSError when the interpreter cannot be started.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, python: str | None = None, environment: dict | None = None
    ) -> None:
        self.folder = Path(folder)
        self.command = [python or sys.executable, "-m", "carlreg", *map(str, arguments)]
        self.began = time.monotonic()
        self._records_file = self.folder / "progress.jsonl"
        self._log_file = self.folder / "log.txt"
        self._position = 0
        self._asked_at: float | None = None
        with open(self._records_file, "wb") as out, open(self._log_file, "wb") as log:
            self._process: Any = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=log,
                cwd=self.folder,
                env=environment if environment is not None else engine_environment(None),
                **_own_group(),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    @property
    def cancelling(self) -> bool:
        return self._asked_at is not None

    def poll(self) -> Report:
        """What is new; kills the process when it was asked to stop and has not within the grace time."""
        code = self._process.poll()
        if code is None and self._asked_at is not None and time.monotonic() - self._asked_at > CANCEL_SECONDS:
            self.kill()
            code = self._process.poll()
        records = self._new_records()
        if code is None:
            return Report(True, None, records)
        self._close_input()
        if self._asked_at is not None and code != DONE:
            code = CANCELLED
        return Report(False, code, records)

    def cancel(self) -> None:
        """Ask the run to stop; returns at once."""
        if self._asked_at is None and self._process.poll() is None:
            self._asked_at = time.monotonic()
            self._say(b"cancel\n")

    def stop_here(self) -> None:
        """Ask an optimization to keep what it has; the run goes on to its end."""
        if self._process.poll() is None:
            self._say(b"stop\n")

    def stop(self, seconds: float = GRACE_SECONDS) -> None:
        """Cancel and wait until the process and its children are gone, at most `seconds` and a moment."""
        if self._process.poll() is None:
            self.cancel()
            try:
                self._process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        self._close_input()

    def kill(self) -> None:
        """End the process and all that it started (Slicer's Python is a launcher: the engine is its child)."""
        if self._process.poll() is not None:
            return
        if _WINDOWS:
            command = ["taskkill", "/T", "/F", "/PID", str(self.pid)]
            subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL, **_windowless())
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        # One that stays is in an uninterruptible system call; nothing more can be done from here.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)

    def output(self) -> str:
        """Everything that the command has printed so far."""
        return self._records_file.read_text(encoding="utf-8", errors="replace")

    def log(self) -> str:
        """What the engine said to people (errors included) so far."""
        return self._log_file.read_text(encoding="utf-8", errors="replace")

    def _new_records(self) -> list[dict]:
        try:
            with open(self._records_file, "rb") as file:
                file.seek(self._position)
                block = file.read()
        except FileNotFoundError:  # tidied up already, by whoever ended it
            return []
        whole = block.rfind(b"\n") + 1
        self._position += whole
        records = []
        for line in block[:whole].splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # something else was printed
                continue
            if isinstance(record, dict) and "stage" in record:
                records.append(record)
        return records

    def _say(self, line: bytes) -> None:
        with contextlib.suppress(OSError):  # it is ending by itself
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def _close_input(self) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.close()


def engine_environment(python: str | None, startup: dict | None = None) -> dict:
    """The environment of the child: the engine is found in this module's folder, it is not installed anywhere.

    Args:
        python: another interpreter than this one, or None. startup: the environment Slicer itself was started in, for
            another interpreter (Slicer's own points at Slicer's libraries).
    """
    environment = dict(os.environ if python is None or startup is None else startup)
    if python is not None:
        for name in _FOREIGN_VARIABLES if startup is not None else (*_FOREIGN_VARIABLES, *_LIBRARY_VARIABLES):
            environment.pop(name, None)
    paths = [str(ENGINE_FOLDER), environment.get("PYTHONPATH")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    environment["PYTHONIOENCODING"] = "utf-8"
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # the module's folder may not be the user's to write in
    return environment


def _own_group() -> dict:
    """A process group of its own, so that the whole tree can be killed; no console window on Windows."""
    if _WINDOWS:
        return {"creationflags": _NEW_GROUP | _NO_WINDOW}
    return {"start_new_session": True}


def _windowless() -> dict:
    return {"creationflags": _NO_WINDOW}
