"""Running `carlreg` as a user does: a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from support.warm_engine import Popen


@dataclass(frozen=True)
class Outcome:
    """What a finished process left: exit code, both outputs, wall seconds."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def records(self) -> list[dict]:
        """The JSON lines of `--progress json`."""
        return [json.loads(line) for line in self.out.splitlines()]


def start(*arguments, fakes: Path | None = None, **options) -> subprocess.Popen:
    """Start `python -m carlreg ARGUMENTS`; fakes: a folder whose sitecustomize.py is loaded in every process of it."""
    environment = dict(os.environ)
    if fakes is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(fakes), environment["PYTHONPATH"]])
    pipe = subprocess.PIPE
    options = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "encoding": "utf-8", "env": environment, **options}
    return Popen([sys.executable, "-m", "carlreg", *map(str, arguments)], **options)


def finish(process: subprocess.Popen, timeout: float = 300.0) -> Outcome:
    """Wait for it; standard input stays open until it has ended by itself."""
    begin = time.monotonic()
    stdin, process.stdin = process.stdin, None
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
        if stdin is not None:
            stdin.close()
    return Outcome(process.returncode, out, err, time.monotonic() - begin)


def carlreg(*arguments, timeout: float = 300.0, **options) -> Outcome:
    return finish(start(*arguments, **options), timeout)


def names(folder: Path) -> list[str]:
    """Everything in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())
