"""The waiting half of the command line: starts the worker process, and stops it within two seconds when asked.

A cancel comes as SIGINT, SIGTERM or SIGHUP, or over standard input (`--control stdin`: a line `cancel`, or its end).
SIGUSR1 or a line `stop` asks an optimization to keep what it has; the worker goes on to its end.
The worker is asked first; when it has not come out after a second (it may be importing a library or inside a long
kernel, where no Python runs) it is killed, and what it had begun to write is removed.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..atomic import RUN_VARIABLE
from ..io.being_read import NOTE_VARIABLE, crash_sentence, noted
from ..processes import own_mark
from .console import say

_IMPATIENT_SECONDS = 2.0
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
FAILED, BAD_INPUT, CANCELLED = 1, 2, 3
# How a worker ends with FAILED: it has said why in one line, or it met something unexpected and shows its traceback.
REPORTED, UNEXPECTED = 41, 42
_TOLD = (BAD_INPUT, REPORTED, UNEXPECTED)
#: Lines of standard input, of the command line and of the worker.
CANCEL, STOP_HERE = b"cancel", b"stop"
USER_STDERR = "CARLREG_STDERR"
_CRASHES = [-getattr(signal, name, 0) for name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL")]
MEMORY_WORDS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate",
    "bad_alloc",
    "bad allocation",
    "defaultcpuallocator",
    "failed to map segment",
    "thread creation failed",
)

Cleanup = Callable[[], object]


@dataclass(frozen=True)
class StopPolicy:
    """How a command is stopped, and what is said when it does not finish.

    grace_seconds: how long it may take to come out when asked; a second Ctrl-C ends it at once.
    kept: what is left behind. memory_remedy: what to do about a lack of memory.
    """

    grace_seconds: float = 1.0
    kept: str = "nothing was written"
    memory_remedy: str = "Close other programs, or choose a smaller --grid or a larger --field-spacing."


class Supervisor:
    """Listens for a cancel from construction on; a context manager that gives the signal handlers back.

    to_the_end: it keeps them. Signals that are ignored (`nohup`) stay so.
    """

    def __init__(self, listen_stdin: bool, to_the_end: bool = False) -> None:
        self._cancelled = threading.Event()
        self._stop_here = threading.Event()
        self._asked_at = math.inf
        self._at_once = False
        self._listen_stdin = listen_stdin
        self._to_the_end = to_the_end
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> Supervisor:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, lambda number, _: self._cancel(number))
            if hasattr(signal, "SIGUSR1"):
                self._handlers[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, lambda *_: self._stop_here.set())
        if self._listen_stdin:
            threading.Thread(target=self._listen, name="carlreg-control", daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        if not self._to_the_end:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)  # type: ignore[arg-type]

    def _cancel(self, number: int | None = None) -> None:
        now = time.monotonic()
        # Not the other signals: programs that start several of us send one after the other.
        self._at_once |= number == signal.SIGINT and now - self._asked_at > _IMPATIENT_SECONDS
        self._asked_at = min(self._asked_at, now)
        self._cancelled.set()

    def run(self, arguments: Sequence[str], cleanup: Cleanup, policy: StopPolicy) -> int:
        """Run the worker on these command-line arguments; returns its exit code, or 3 after a cancel.

        cleanup: removes what the worker may have left, and is true when that had delivered all before it ended.
        """
        with _kept_file() as library_output, _kept_file() as reading:
            code = self._wait_for(_start_worker(arguments, library_output, reading), policy.grace_seconds)
            delivered = bool(cleanup())
            if code == 0:
                return 0  # done, even when a cancel came too late
            if delivered and (code < 0 or code == CANCELLED or self._cancelled.is_set()) and code not in _TOLD:
                say("The run was stopped after its results had been written; they are complete.")
                return 0
            if self._cancelled.is_set() or code in (CANCELLED, -signal.SIGINT, -signal.SIGTERM):
                say(f"Cancelled: the run was stopped on request; {policy.kept}.")
                return CANCELLED
            if code not in (BAD_INPUT, REPORTED):
                return _explain(code, library_output, reading, policy)
            return code if code == BAD_INPUT else FAILED

    def _wait_for(self, worker: subprocess.Popen, grace_seconds: float) -> int:
        """The worker's exit code, negative when a signal ended it; stops it after a cancel."""
        deadline, told = None, False
        while True:
            try:
                code = worker.wait(timeout=0.05)
                break
            except subprocess.TimeoutExpired:
                pass
            if self._stop_here.is_set() and not told:
                told = True
                _tell(worker, STOP_HERE)
            if self._cancelled.is_set() and deadline is None:
                deadline = time.monotonic() + grace_seconds
                _tell(worker, CANCEL)
            if deadline is not None and (time.monotonic() > deadline or self._at_once):
                worker.kill()
                code = worker.wait()
                break
        if worker.stdin is not None:
            with contextlib.suppress(OSError):  # the worker was gone before the last message
                worker.stdin.close()
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
            lines = [line.strip() for line in lines]
            if STOP_HERE in lines:
                self._stop_here.set()
            if not block or CANCEL in lines:
                self._cancel()
                return


def _start_worker(arguments: Sequence[str], library_output, reading) -> subprocess.Popen:
    # The worker finds this very package, however it was found here.
    root = str(Path(__file__).resolve().parents[2])
    environment = dict(os.environ)
    # Threads that sleep while they wait: spinning ones take three times as long as soon as other programs compute too.
    environment.setdefault("OMP_WAIT_POLICY", "passive")
    environment[RUN_VARIABLE] = own_mark()  # what it leaves can be found from here
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "carlreg.cli.worker", *arguments]
    # Ctrl-C reaches the whole process group; the worker inherits the ignored signal and waits to be asked.
    before = signal.getsignal(signal.SIGINT)
    main_thread = threading.current_thread() is threading.main_thread()
    if main_thread:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    user_stderr = None
    try:
        if library_output is None or reading is None:
            return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
        user_stderr = os.dup(2)
        environment[USER_STDERR] = str(user_stderr)
        environment[NOTE_VARIABLE] = str(reading.fileno())
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            env=environment,
            stderr=library_output,
            pass_fds=[user_stderr, reading.fileno()],
        )
    finally:
        if user_stderr is not None:
            os.close(user_stderr)
        if main_thread:
            signal.signal(signal.SIGINT, before)


def _tell(worker: subprocess.Popen, line: bytes) -> None:
    with contextlib.suppress(OSError):  # it is ending by itself
        worker.stdin.write(line + b"\n")  # type: ignore[union-attr]
        worker.stdin.flush()  # type: ignore[union-attr]


def _explain(code: int, library_output, reading, policy: StopPolicy) -> int:
    """Say why a worker ended that has not said so itself, with the end of what C libraries printed; the exit code.

    A crash while it read a file is that file's fault.
    """
    text = ""
    if library_output is not None:
        library_output.seek(0)
        text = library_output.read().decode(errors="replace").strip()[-4000:]
    if code != UNEXPECTED:
        if code == -getattr(signal, "SIGKILL", 9) or any(word in text.lower() for word in MEMORY_WORDS):
            remedy = f"{policy.kept}. {policy.memory_remedy}"
            say(f"Error: the run was ended by the system, most likely for lack of memory; {remedy}")
            return FAILED
        crashed = code > 0 or code in _CRASHES
        file = noted(reading.fileno()) if crashed and reading is not None else None
        if file is not None:
            say(f"Error: {crash_sentence(file[0], code, file[1])}")
            return BAD_INPUT
        how = f"crashed (signal {-code})" if code < 0 else f"stopped with code {code}"
        say(f"Error: the computing process {how}; {policy.kept}. Please report it with all of this.")
    if text:
        say(text)
    return FAILED


@contextlib.contextmanager
def _kept_file():
    """A file for what the worker leaves, whatever ends it; None where that cannot be.

    What C libraries print of their own accord, at length, and what is being read.
    """
    if os.name != "posix":
        yield None
        return
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115
    except OSError:  # no room for temporary files
        yield None
        return
    with file:
        yield file
