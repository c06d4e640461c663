"""How much memory is free, and refusing a job that will not fit before it starts."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from ..errors import NotEnoughMemory


def available_memory_mb() -> float | None:
    """Memory (MB) that this process may still take: the machine's, its container's and its own limit.

    None where the platform does not say.
    """
    candidates = [_machine_mb(), _cgroup_mb(), _address_space_mb()]
    known = [value for value in candidates if value is not None]
    return min(known) if known else None


def require_memory(needed_mb: float, what: str, remedy: str) -> None:
    """Raise NotEnoughMemory when `what` needs more than is free; `remedy` says what to choose instead."""
    free = available_memory_mb()
    if free is not None and needed_mb > free:
        raise NotEnoughMemory(
            f"Not enough memory for {what}: about {needed_mb / 1024:.1f} GB needed, {free / 1024:.1f} GB free. {remedy}"
        )


def _machine_mb() -> float | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError, IndexError):
        pass
    if sys.platform == "win32":
        return _windows_mb()
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (AttributeError, ValueError, OSError):  # not on macOS
        return None


def _windows_mb() -> float | None:
    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong) for name in ("total", "available", "tp", "ap", "tv", "av", "ax")
        ]

    status = Status(length=ctypes.sizeof(Status))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # type: ignore[attr-defined]
        return None
    return status.available / 2**20


def _cgroup_mb(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """What the tightest memory limit of this process's control groups leaves (version 2, then 1)."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    left: list[float] = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            base, limit, used, cache = root, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            base, limit, used, cache = (
                root / "memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
        else:
            continue
        folder = base / group.lstrip("/")
        for level in [folder, *folder.parents]:
            if level == base.parent:
                break
            left += _group_left_mb(level, limit, used, cache)
    return min(left) if left else None


def _group_left_mb(folder: Path, limit: str, used: str, cache: str) -> list[float]:
    try:
        most, taken = (folder / limit).read_text().strip(), int((folder / used).read_text())
        if most == "max" or int(most) > 2**60:
            return []
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        # File cache that can be dropped is free memory.
        return [max(int(most) - taken + int(stat.get(cache, 0)), 0) / 2**20]
    except (OSError, ValueError):
        return []


def _address_space_mb() -> float | None:
    """What `ulimit -v` leaves."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit in (resource.RLIM_INFINITY, -1):
            return None
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return max(limit - pages * os.sysconf("SC_PAGE_SIZE"), 0) / 2**20
    except (ImportError, OSError, ValueError):
        return None
