"""Guarded readers in forks of this process, which has their libraries already: some milliseconds instead of a second.

What a guarded reader does in its child process stays what it is, its limits and its end included; only how the process
starts is another. Not where processes cannot fork.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time

from carlreg.io import guarded

_DEFAULT = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGALRM", "SIGXCPU", "SIGTERM", "SIGINT")


class Forked:
    """What `guarded` asks of a process that it has started."""

    def __init__(self, folder: str) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(writing)
                os.dup2(reading, 0)  # its end tells the child that nobody waits any more
                for name in _DEFAULT:  # not the fuzzing engine's, which take any crash for theirs
                    signal.signal(getattr(signal, name), signal.SIG_DFL)
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 1)
                os.dup2(null, 2)
                guarded.child(folder)
            finally:
                os._exit(1)
        os.close(reading)
        self.stdin = os.fdopen(writing, "wb")
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        end = time.monotonic() + (1e9 if timeout is None else timeout)
        while self.returncode is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                raise subprocess.TimeoutExpired("a guarded reader", timeout or 0.0)
            else:
                time.sleep(0.002)
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)


def use_forks() -> None:
    """Start guarded readers so from now on, in this process."""
    if hasattr(os, "fork"):
        guarded._start = lambda folder, save_as: Forked(folder)
