"""Which process made something, and whether it is still there: a name that stays true after a restart or a reused pid.

A mark is `HOST-PID-START`: a hash of the computer and of its process namespace, the process's number, when it began.
"""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

#: What a mark looks like, as a regular expression.
MARK = r"[0-9a-f]{8}-[0-9]+-[0-9a-f]+"
_STILL_ACTIVE, _QUERY_LIMITED, _NO_SUCH_PROCESS = 259, 0x1000, 87


class _Unknown(Exception):
    """The system does not tell."""


def own_mark() -> str:
    """The mark of this process."""
    pid = os.getpid()
    try:
        began = _began(pid)
    except _Unknown:
        began = None
    return f"{_host()}-{pid}-{began or '0'}"


def is_running(mark: str) -> bool | None:
    """Whether the process of a mark is there; None where that cannot be known (another computer, an unknown mark)."""
    host, _, rest = mark.partition("-")
    pid, _, began = rest.partition("-")
    if host != _host() or not pid.isdigit():
        return None
    try:
        now = _began(int(pid))
    except _Unknown:
        return None
    if now is None:
        return False
    return None if began == "0" else now == began


@functools.cache
def _host() -> str:
    """Containers of one computer number their processes each for itself, so the namespace counts, too."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return _hash(f"{socket.gethostname()} {space}")


def _hash(text: str) -> str:
    import hashlib  # here: every command would wait for it

    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:8]


def _began(pid: int) -> str | None:
    """When a living process began, in hexadecimal digits; None when there is none of this number. Raises _Unknown."""
    try:
        if sys.platform == "win32":
            return _began_windows(pid)
        if Path("/proc/self/stat").exists():
            return _began_linux(pid)
        return _began_posix(pid)
    except (OSError, AttributeError, ValueError, subprocess.SubprocessError) as error:
        raise _Unknown from error


def _began_linux(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        try:
            os.kill(pid, 0)  # somebody else's may be hidden
        except ProcessLookupError:
            return None
        raise
    if stat[0] in (b"Z", b"X"):  # ended; nobody has collected it yet
        return None
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    return f"{_hash(boot)}{int(stat[19]):x}"


def _began_posix(pid: int) -> str | None:
    done = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
    )
    state, _, began = done.stdout.strip().partition(" ")
    if done.returncode and done.stderr.strip():
        raise OSError(done.stderr)
    return None if not began or state.startswith("Z") else _hash(" ".join(began.split()))


def _began_windows(pid: int) -> str | None:
    import ctypes
    from ctypes import wintypes

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    kernel.OpenProcess.restype = wintypes.HANDLE
    kernel.OpenProcess.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
    kernel.GetExitCodeProcess.argtypes = (wintypes.HANDLE, ctypes.POINTER(wintypes.DWORD))
    kernel.GetProcessTimes.argtypes = (wintypes.HANDLE, *[ctypes.POINTER(wintypes.FILETIME)] * 4)
    kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
    handle = kernel.OpenProcess(_QUERY_LIMITED, False, pid)
    if not handle:
        if ctypes.get_last_error() == _NO_SUCH_PROCESS:  # type: ignore[attr-defined]
            return None
        raise OSError
    try:
        code = wintypes.DWORD()
        if not kernel.GetExitCodeProcess(handle, ctypes.byref(code)) or code.value != _STILL_ACTIVE:
            return None
        times = [wintypes.FILETIME() for _ in range(4)]
        if not kernel.GetProcessTimes(handle, *map(ctypes.byref, times)):
            return None
        return f"{times[0].dwHighDateTime << 32 | times[0].dwLowDateTime:x}"
    finally:
        kernel.CloseHandle(handle)
