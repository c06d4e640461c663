"""How long this process and its children have computed: unlike a clock, other programs' work is not in it."""

from __future__ import annotations

import time

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Computed by children of another process on behalf of this one, which the system does not add to this one's account.
_elsewhere = 0.0


def add_elsewhere(seconds: float) -> None:
    """Count what a job computed that was not this process's child."""
    global _elsewhere
    _elsewhere += seconds


def computing_seconds() -> float:
    """CPU seconds of this process, of its children that have ended and been waited for, and of jobs elsewhere."""
    if resource is None:
        return time.process_time() + _elsewhere
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + _elsewhere
