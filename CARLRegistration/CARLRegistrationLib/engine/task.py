"""A command of the engine in the background: started in a folder of its own, polled, cancelled, and tidied up.

The only place that starts the engine, reads its messages and makes temporary folders.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationCancelled, RegistrationError
from ..common.files import PREFIX, removeFolder, sweep, typedPath
from .process import BAD_INPUT, CANCELLED, DONE, GRACE_SECONDS, EngineProcess, Report, engine_environment
from .words import inPanelWords, loadProblem

log = logging.getLogger("CARLRegistration")

# How a command tells its progress, and how it is cancelled.
_PROGRESS = ("--progress", "json", "--control", "stdin")
_ERROR = "Error: "  # begins the line in which the engine says why it could not do something


class Task:
    """One command of the engine (or one after the other) and its files.

    `start`, then `poll` until it returns something or raises; `cancel` or `abort` in between. After that the folder is
    gone, unless `keepFolder` is set.

    Args: python: that runs the engine; None for Slicer's own. graceSeconds: that `abort` waits before it kills.
    """

    def __init__(self, python: str | None = None, graceSeconds: float = GRACE_SECONDS) -> None:
        self.python = typedPath(python)
        self.folder = _newFolder()
        self.keepFolder = False
        self._graceSeconds = graceSeconds
        self._process: EngineProcess | None = None
        self._finish: Callable[[Task], Any] = lambda task: task
        self._watch: Callable[[Report], None] = lambda report: None
        self._words: Mapping[str, str] = {}
        self._log = ""

    def start(
        self,
        arguments: Sequence[str],
        finish: Callable[[Task], Any] | None = None,
        words: Mapping[str, str] | None = None,
        watch: Callable[[Report], None] | None = None,
    ) -> Task:
        """Start a command in the folder; returns the task itself.

        Args:
            finish: makes the result of the finished task, never None. words: of its messages, see `engine.words`.
            watch: called with what is new at each poll.
        Raises: RegistrationError when it cannot be started.
        """
        self._finish, self._watch = finish or self._finish, watch or self._watch
        self._words = words or {}
        try:
            self.launch([*arguments, *_PROGRESS])
        except OSError as error:
            raise RegistrationError(
                _(
                    "The engine could not be started: {error}. Is the disk full, or the engine Python no program?"
                ).format(error=error.strerror or error)
            ) from error
        return self

    def launch(self, arguments: Sequence[str]) -> None:
        """Start a command as it is. Raises OSError."""
        environment = engine_environment(self.python, _startupEnvironment() if self.python else None)
        self._process = EngineProcess(arguments, self.folder, self.python, environment)
        log.info("CARLRegistration started: %s", " ".join(self._process.command))

    def poll(self) -> Any:
        """None while it runs, then what `finish` makes of it. Raises RegistrationCancelled, RegistrationError."""
        report = self.advance()
        self._watch(report)
        if report.running:
            return None
        try:
            self.raiseFailure(report.exit_code)
            return self._finish(self)
        except RegistrationError:
            raise
        except Exception as error:
            raise RegistrationError(
                _("The result could not be loaded. Please report this with the log. {error}").format(error=error),
                self.log(),
                unexpected=True,
            ) from error
        finally:
            self.close()

    def advance(self) -> Report:
        """What is new of the command that was started last."""
        return self.process.poll()

    def raiseFailure(self, code: int | None) -> None:
        """Raise what an exit code and the messages say, in the words of the panel; nothing for a success."""
        if code == DONE:
            return
        written = self.log()
        if code == CANCELLED:
            raise RegistrationCancelled(_("Cancelled; nothing was changed."), written)
        messages = [line.removeprefix(_ERROR) for line in written.splitlines() if line.startswith(_ERROR)]
        text = inPanelWords(messages[-1], self._words) if messages else ""
        problem = loadProblem(written)
        if problem:
            raise RegistrationError(problem, written)
        unexpected = not text or (code != BAD_INPUT and "Please report it" in text)
        if unexpected:
            text = _("The engine stopped unexpectedly (code {code}). Please report this with the log. {text}").format(
                code=code, text=text
            )
        raise RegistrationError(text.strip(), written, unexpected)

    def told(self) -> dict:
        """What the command told of its result (its figures, files and notes)."""
        told: dict = {}
        for line in self.process.output().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                told |= record.get("figures") or {}
        return told

    @property
    def process(self) -> EngineProcess:
        if self._process is None:
            raise RuntimeError("the task was not started")
        return self._process

    @property
    def elapsed(self) -> float:
        """Seconds since the command was started."""
        return self._process.elapsed if self._process is not None else 0.0

    @property
    def cancelling(self) -> bool:
        return self._process is not None and self._process.cancelling

    def log(self) -> str:
        """What the engine wrote for people, so far or in all."""
        if self._process is not None and self.folder.is_dir():
            self._log = self._process.log()
        return self._log

    def stopHere(self) -> None:
        """Ask an optimization to keep what it has; the command goes on to its end."""
        if self._process is not None:
            self._process.stop_here()

    def cancel(self) -> None:
        """Ask it to stop; `poll` says when it has."""
        if self._process is not None:
            self._process.cancel()

    def abort(self) -> None:
        """Stop it and wait: nothing of it is left. What it was writing is taken away by the engine itself."""
        if self._process is not None:
            self._process.stop(self._graceSeconds)
        self.close()

    def close(self) -> None:
        """Remove its files, unless they are to be kept."""
        self.log()
        if not self.keepFolder:
            removeFolder(self.folder)


AnyTask = TypeVar("AnyTask", bound=Task)


@contextmanager
def preparing(task: AnyTask) -> Iterator[AnyTask]:
    """Write a task's files and start it inside: when that fails nothing of it is left.

    Raises: RegistrationError for what cannot be written, too.
    """
    try:
        yield task
    except (OSError, RuntimeError) as error:  # SimpleITK's are RuntimeErrors
        task.abort()
        raise RegistrationError(
            _("{path} could not be written; the disk may be full. Free some space and try again.").format(
                path=task.folder
            ),
            log=str(error),
        ) from error
    except BaseException:
        task.abort()
        raise


def _newFolder() -> Path:
    """A new temporary folder where Slicer has its own; elsewhere when that is not there."""
    folder = getattr(slicer.app, "temporaryPath", None)
    try:
        parent = Path(folder) if folder and Path(folder).is_dir() else Path(tempfile.gettempdir())
        sweep(parent)
        return Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    except OSError as error:
        raise RegistrationError(
            _("{path} could not be written; the disk may be full. Free some space and try again.").format(
                path=folder or tempfile.gettempdir()
            ),
            log=str(error),
        ) from error


def _startupEnvironment() -> dict | None:
    """The environment that Slicer was started in, without Slicer's own libraries; for another Python."""
    try:
        return dict(slicer.util.startupEnvironment())
    except (AttributeError, RuntimeError):  # not in an installed Slicer
        return None


__all__ = ["Task", "preparing"]
