"""What is said of a run while it goes on: the line below the bar, and the log."""

from __future__ import annotations

import time

from slicer.i18n import tr as _

from .estimate import duration
from .run import Status


def statusText(status: Status) -> str:
    """Stage, time so far and time left, in a line."""
    parts = [_("Cancelling") if status.cancelling else _stageName(status.stage)]
    if status.message:
        parts[0] += f": {status.message}"
    parts.append(_("{duration} elapsed").format(duration=duration(status.elapsed)))
    if status.seconds_left is not None and not status.cancelling:
        parts.append(_("about {duration} left").format(duration=duration(status.seconds_left)))
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
        "predict": _("Predicting the map"),
        "starts": _("Trying starts"),
        "affine": _("Aligning"),
        "optimize": _("Refining the map"),
        "uncertainty": _("Estimating the uncertainty"),
        "inverse": _("Inverting the map"),
        "measure": _("Measuring the quality"),
        "write": _("Writing results"),
        "done": _("Loading results"),
    }
    return names.get(stage, stage)


__all__ = ["RunLog", "statusText"]
