"""The waiting half of the command line: starts the worker process, and stops it within two seconds when asked.

A cancel comes as SIGINT, SIGTERM or SIGHUP, or over standard input (`--control stdin`: a line `cancel`, or its end).
The worker is asked first; when it has not come out after a second (it may be importing a library or inside a long
kernel, where no Python runs) it is killed, and what it had begun to write is removed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .report import say

_GRACE_SECONDS = 1.0
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
CANCELLED, FAILED = 3, 1

Cleanup = Callable[[], None]


class Supervisor:
    """Listens for a cancel from construction on; a context manager that gives the signal handlers back."""

    def __init__(self, listen_stdin: bool) -> None:
        self._cancelled = threading.Event()
        self._listen_stdin = listen_stdin
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> Supervisor:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._handlers[number] = signal.signal(number, lambda *_: self._cancelled.set())
        if self._listen_stdin:
            threading.Thread(target=self._listen, name="carlreg-control", daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def run(self, arguments: Sequence[str], cleanup: Cleanup) -> int:
        """Run the worker on these command-line arguments; returns its exit code, or 3 after a cancel.

        cleanup: removes what a killed worker may have left; called whenever it did not finish.
        """
        worker = _start_worker(arguments)
        deadline = None
        while True:
            try:
                code = worker.wait(timeout=0.05)
                break
            except subprocess.TimeoutExpired:
                pass
            if self._cancelled.is_set() and deadline is None:
                deadline = time.monotonic() + _GRACE_SECONDS
                _ask_to_stop(worker)
            if deadline is not None and time.monotonic() > deadline:
                worker.kill()
                code = worker.wait()
                break
        if worker.stdin is not None:
            with contextlib.suppress(OSError):  # the worker was gone before the last message
                worker.stdin.close()
        if code == 0:
            return 0  # done, even when a cancel came too late
        cleanup()
        if self._cancelled.is_set() or code in (CANCELLED, -signal.SIGINT, -signal.SIGTERM):
            say("Cancelled: the run was stopped on request; nothing was written.")
            return CANCELLED
        if code < 0:
            killed = code == -getattr(signal, "SIGKILL", 9)
            why = "the system killed it, most likely for lack of memory" if killed else f"it crashed (signal {-code})"
            remedy = (
                "Free memory, or choose a smaller --grid or a larger --field-spacing." if killed else "Please report."
            )
            say(f"Error: the computing process ended early: {why}; nothing was written. {remedy}")
            return FAILED
        return code

    def _listen(self) -> None:
        pending = b""
        while True:
            try:
                block = os.read(0, 4096)
            except OSError:
                block = b""
            pending += block
            *lines, pending = pending.split(b"\n")
            if not block or any(line.strip() == b"cancel" for line in lines):
                self._cancelled.set()
                return


def _start_worker(arguments: Sequence[str]) -> subprocess.Popen:
    # The worker finds this very package, however it was found here.
    root = str(Path(__file__).resolve().parents[2])
    environment = dict(os.environ)
    # Threads that sleep while they wait: spinning ones take three times as long as soon as other programs compute too.
    environment.setdefault("OMP_WAIT_POLICY", "passive")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "carlreg.cli.worker", *arguments]
    # Ctrl-C reaches the whole process group; the worker inherits the ignored signal and waits to be asked.
    before = signal.getsignal(signal.SIGINT)
    main_thread = threading.current_thread() is threading.main_thread()
    if main_thread:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
    finally:
        if main_thread:
            signal.signal(signal.SIGINT, before)


def _ask_to_stop(worker: subprocess.Popen) -> None:
    with contextlib.suppress(OSError):  # it is ending by itself
        worker.stdin.write(b"cancel\n")  # type: ignore[union-attr]
        worker.stdin.flush()  # type: ignore[union-attr]
