"""A function of the engine in a child process, so that a reader that dies, hangs or eats memory takes nothing along.

For what C++ readers may do with a damaged file of a format whose header is not checked here first. It costs the start
of a Python and the import of its libraries, half a second.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import importlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from .. import errors
from ..errors import CarlError, InputError, NotEnoughMemory
from .being_read import AS_VOLUME, crash_sentence

_ROOT = str(Path(__file__).resolve().parents[2])
# Runs in the child. The first entry of its path is the folder it starts in, where anything may lie.
_START = "import sys; sys.path[0] = sys.argv.pop(1); from carlreg.io.guarded import child; child(sys.argv[1])"
_JOB, _STARTED, _RESULT = "job", "started", "result"
_START_SECONDS = 120.0  # Python and the libraries take half a second, on a machine that is busy or cold many
_OUT_OF_MEMORY, _NO_SPACE = 43, 44
_MEMORY_WORDS = ("allocate memory", "failed to allocate", "bad_alloc", "bad allocation", "out of memory")
_WATCH_SECONDS = 0.25


def guarded(
    function: str,
    *arguments: Any,
    name: str,
    save_as: str = AS_VOLUME,
    seconds: float = 60.0,
    memory_mb: float = 2048.0,
) -> Any:
    """Call a function in a child process; returns what it returns.

    Args:
        function: "module:function", of this engine. arguments: what pickle takes; paths should be absolute.
        name: what messages call the file that is read. save_as: what they say it may be saved as, see `being_read`.
        seconds, memory_mb: more time, or more memory beyond what the libraries themselves take, ends the child.
    Returns: the function's result, which pickle takes (SimpleITK's images are fine).
    Raises: InputError when the child dies, takes too long or too much memory; any CarlError of the function as it is;
        RuntimeError, ValueError, OSError and other built-in exceptions of the function with their message.
    """
    with tempfile.TemporaryDirectory(prefix="carlreg.") as folder:
        with open(Path(folder, _JOB), "wb") as file:
            pickle.dump((function, arguments, seconds, memory_mb), file, protocol=5)
        ended, code = _wait(_start(folder, save_as), Path(folder, _STARTED), seconds, memory_mb)
        if ended is None and code in (_OUT_OF_MEMORY, -getattr(signal, "SIGKILL", 9)):
            ended = "memory"
        if ended == "memory":
            raise NotEnoughMemory(
                f"{name}: reading it takes more than {memory_mb / 1024:.1f} GB of memory, more than its content can "
                f"need; it may be damaged. Copy it again, or save it {save_as}."
            )
        if ended == "time" or code == -getattr(signal, "SIGXCPU", 24):
            raise InputError(
                f"{name}: reading it takes longer than {seconds:.0f} s; it may be damaged. Copy it again, or save it "
                f"{save_as}."
            )
        if code == _NO_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
        if code != 0 or not Path(folder, _RESULT).is_file():
            raise InputError(crash_sentence(name, code, save_as))
        with open(Path(folder, _RESULT), "rb") as file:
            found, value = pickle.load(file)  # noqa: S301 (written by the child)
    if found:
        return value
    raise _error(*value)


def python(save_as: str = AS_VOLUME) -> str:
    """The interpreter that runs this, also where the program that runs it is no Python itself."""
    if "python" in Path(sys.executable or "").name.lower():
        return sys.executable
    names = ("python.exe",) if os.name == "nt" else ("bin/python3", "bin/python", "bin/PythonSlicer")
    for prefix in (sys.prefix, sys.base_prefix, str(Path(sys.executable or ".").parent.parent)):
        for name in (*names, "bin/PythonSlicer.exe"):
            if Path(prefix, name).is_file():
                return str(Path(prefix, name))
    raise InputError(
        f"No Python interpreter found beside {sys.executable or 'this program'}: this format is read in a process of "
        f"its own. Save the file {save_as}."
    )


def _start(folder: str, save_as: str) -> subprocess.Popen:
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"}
    environment["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    hidden = {"creationflags": subprocess.CREATE_NO_WINDOW} if sys.platform == "win32" else {}
    return subprocess.Popen(
        [python(save_as), "-c", _START, _ROOT, folder],
        stdin=subprocess.PIPE,  # its end tells the child that nobody waits any more
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        **hidden,
    )


def _wait(process: subprocess.Popen, started: Path, seconds: float, memory_mb: float) -> tuple[str | None, int]:
    """Why the child was ended ("time", "memory", or None when it ended itself), and its exit code.

    started: a file that the child makes when its libraries are there; its time counts from then on.
    """
    deadline, waiting, why = time.monotonic() + _START_SECONDS, True, None
    try:
        while True:
            try:
                return why, process.wait(timeout=_WATCH_SECONDS)
            except subprocess.TimeoutExpired:
                if waiting and started.exists():
                    deadline, waiting = time.monotonic() + seconds, False
                if time.monotonic() > deadline:
                    why = "time"
                elif (_memory_mb(process) or 0.0) > memory_mb + 1024.0:
                    why = "memory"
                if why is not None:
                    process.kill()
    finally:
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _memory_mb(process: subprocess.Popen) -> float | None:
    """What a process holds in memory, where the child itself cannot be given a limit; else None."""
    if sys.platform == "win32":
        return _windows_memory_mb(int(process._handle))  # type: ignore[attr-defined]
    if sys.platform == "darwin":
        done = subprocess.run(["/bin/ps", "-o", "rss=", "-p", str(process.pid)], capture_output=True, text=True)
        return int(done.stdout) / 1024 if done.stdout.strip().isdigit() else None
    return None


def _windows_memory_mb(handle: int) -> float | None:
    class Counters(ctypes.Structure):
        _fields_ = [("size", ctypes.c_ulong), ("faults", ctypes.c_ulong)] + [
            (name, ctypes.c_size_t) for name in ("peak", "working", "a", "b", "c", "d", "pagefile", "peak_pagefile")
        ]

    counters = Counters(size=ctypes.sizeof(Counters))
    query = ctypes.windll.kernel32.K32GetProcessMemoryInfo  # type: ignore[attr-defined]
    if not query(ctypes.c_void_p(handle), ctypes.byref(counters), counters.size):
        return None
    return max(counters.working, counters.pagefile) / 2**20


def _error(kind: str, text: str, is_own: bool, number: int | None) -> BaseException:
    if number is not None:
        return OSError(number, os.strerror(number))
    known = getattr(errors if is_own else builtins, kind, None)
    if isinstance(known, type) and issubclass(known, CarlError if is_own else Exception):
        try:
            return known(text)
        except TypeError:  # such as UnicodeDecodeError, which wants more than a text
            pass
    return RuntimeError(f"{kind}: {text}")


def child(folder: str) -> None:
    """What the child process does: the job of a folder, its result beside it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with open(Path(folder, _JOB), "rb") as file:
        function, arguments, seconds, memory_mb = pickle.load(file)  # noqa: S301 (written by the parent)
    module, _, attribute = function.partition(":")
    call = getattr(importlib.import_module(module), attribute)
    _limit(seconds, memory_mb)
    Path(folder, _STARTED).touch()
    outcome: tuple[bool, Any]
    try:
        outcome = True, call(*arguments)
    except MemoryError:
        os._exit(_OUT_OF_MEMORY)
    except Exception as error:
        if not isinstance(error, CarlError) and any(word in str(error).lower() for word in _MEMORY_WORDS):
            os._exit(_OUT_OF_MEMORY)
        number = error.errno if isinstance(error, OSError) else None
        outcome = False, (type(error).__name__, str(error), isinstance(error, CarlError), number)
    _limit(None, None)  # what follows is our own
    part = Path(folder, _RESULT + ".part")
    try:
        with open(part, "wb") as file:
            pickle.dump(outcome, file, protocol=5)
        os.replace(part, Path(folder, _RESULT))
    except OSError:
        os._exit(_NO_SPACE)
    os._exit(0)  # skips the teardown of libraries, which can crash


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _limit(seconds: float | None, memory_mb: float | None) -> None:
    """Limits of the system's own for this process, beyond what it has taken so far; None lifts them."""
    try:
        import resource
    except ImportError:  # Windows: the parent watches
        return

    def set_soft(kind: int, limit: float | None) -> None:
        hard = resource.getrlimit(kind)[1]
        wanted = hard if limit is None else int(limit)
        resource.setrlimit(kind, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    set_soft(resource.RLIMIT_CPU, None if seconds is None else time.process_time() + seconds + 1)
    if sys.platform.startswith("linux"):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        set_soft(resource.RLIMIT_AS, None if memory_mb is None else pages * resource.getpagesize() + memory_mb * 2**20)
