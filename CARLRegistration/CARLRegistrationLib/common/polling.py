"""Things that run in the background: one way to follow them, and one to wait for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import qt
import slicer

from .errors import RegistrationError


class Pollable(Protocol):
    """What can be followed: a command of the engine, a registration, an application of a transform."""

    @property
    def cancelling(self) -> bool: ...

    def poll(self) -> Any:
        """None while it runs, then its result. Raises RegistrationError."""

    def cancel(self) -> None:
        """Ask it to stop; `poll` says when it has."""

    def abort(self) -> None:
        """End it now; nothing of it is left."""


class Poller:
    """Follows one thing at a time with a timer, and calls back when it has ended."""

    def __init__(self, intervalMs: int) -> None:
        self.task: Any = None
        self._callbacks: tuple = ()
        self._timer = qt.QTimer()
        self._timer.setInterval(intervalMs)
        self._timer.connect("timeout()", self._onTimer)

    def follow(
        self,
        task: Pollable,
        onDone: Callable[[Any], None],
        onFailed: Callable[[RegistrationError], None],
        onRunning: Callable[[Any], None] | None = None,
    ) -> None:
        """Call back with the result or the error; and with the task at each poll while it runs."""
        self.task, self._callbacks = task, (onDone, onFailed, onRunning)
        self._timer.start()

    def forget(self) -> Any:
        """Follow it no more; returns what was followed, or None."""
        self._timer.stop()
        task, self.task, self._callbacks = self.task, None, ()
        return task

    def _onTimer(self) -> None:
        task = self.task
        if task is None:
            self._timer.stop()
            return
        onDone, onFailed, onRunning = self._callbacks
        try:
            result = task.poll()
        except RegistrationError as error:
            self.forget()
            onFailed(error)
            return
        if result is not None:
            self.forget()
            onDone(result)
        elif onRunning is not None:
            onRunning(task)


def waitFor(task: Pollable, seconds: float = 0.05) -> Any:
    """Poll to the end and return the result; Slicer's events go on meanwhile. Raises RegistrationError."""
    while True:
        result = task.poll()
        if result is not None:
            return result
        slicer.app.processEvents()
        time.sleep(seconds)


__all__ = ["Pollable", "Poller", "waitFor"]
