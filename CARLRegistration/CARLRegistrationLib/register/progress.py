"""What is said of a run while it goes on: the line below the bar, and the log."""

from __future__ import annotations

import time

from slicer.i18n import tr as _

from .estimate import duration
from .run import Status

# What the engine calls the whole of a stage: the stage's own name says it.
_SAME = ("loading libraries", "normalizing both images", "refining the affine", "scoring candidate starts")
_SAME += ("instance optimization", "how far the map may be off", "warping")
# The engine's pace is known by then; before, the estimate of the whole run counts.
_SURE_FRACTION = 0.5
_NONE_LEFT_SECONDS = 1.5


class TimeLeft:
    """Seconds left of a run, without leaps: from what was expected of it over to the pace that it has.

    Args: expected: seconds of the whole run.
    """

    def __init__(self, expected: float | None = None) -> None:
        self._expected = expected

    def seconds(self, status: Status) -> float | None:
        """None: nothing is known, or it has taken longer than was expected."""
        told = None if status.seconds_left is None else status.elapsed + status.seconds_left
        sure = min(1.0, status.fraction / _SURE_FRACTION)
        if self._expected is None:
            total = told
        elif told is None:
            total = self._expected
        else:
            total = (1 - sure) * self._expected + sure * told
        left = None if total is None else total - status.elapsed
        return left if left is not None and left >= _NONE_LEFT_SECONDS else None


def statusText(status: Status, left: TimeLeft | None = None) -> str:
    """Stage, time so far and time left, in a line."""
    parts = [_("Cancelling") if status.cancelling else _stageName(status.stage)]
    if status.message and not status.message.startswith(_SAME):
        parts[0] += f": {status.message}"
    parts.append(_("{duration} elapsed").format(duration=duration(status.elapsed)))
    seconds = (left or TimeLeft()).seconds(status)
    if seconds is not None and not status.cancelling:
        parts.append(_("about {duration} left").format(duration=duration(seconds)))
    return ", ".join(parts)


class RunLog:
    """The log of a run: what the engine told, with the time. Steps are counted in the line above it, not in it."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._last = ""

    def add(self, status: Status) -> None:
        line = f"{status.stage}: {status.message}".rstrip(": ")
        if not line or (status.message.startswith("step ") and self._last.startswith(f"{status.stage}: step ")):
            return
        if line != self._last:
            self._lines.append(f"{time.strftime('%H:%M:%S')}  {line}")
        self._last = line

    def text(self, written: str) -> str:
        """written: what the engine wrote for people."""
        return "\n".join([*self._lines, written]).strip()


def _stageName(stage: str) -> str:
    """What the engine's stage is called in the panel."""
    names = {
        "": _("Starting"),
        "check": _("Checking the engine's Python"),
        "load": _("Loading libraries"),
        "read": _("Reading"),
        "prepare": _("Preparing both volumes"),
        "predict": _("Predicting the transform"),
        "starts": _("Trying starts"),
        "affine": _("Aligning"),
        "optimize": _("Refining the transform"),
        "uncertainty": _("Estimating the uncertainty"),
        "inverse": _("Inverting the transform"),
        "measure": _("Measuring the quality"),
        "write": _("Writing results"),
        "done": _("Loading results"),
    }
    return names.get(stage, stage)


__all__ = ["RunLog", "TimeLeft", "statusText"]
