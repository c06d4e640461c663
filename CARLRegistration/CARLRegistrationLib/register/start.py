"""Preview start: the pair at its best start in the views, with a verdict, before minutes are spent on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from carlreg.errors import CarlError
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..common.notices import notice
from ..common.polling import Poller
from ..engine import dependencies
from ..engine.task import Task, preparing
from ..engine.words import RESULT, inPanelWords
from ..mrml.preview import ViewPreview
from ..mrml.transforms import readTransform
from .finite import withLeave
from .job import Job, checkJob, withWholePaths
from .run import panelWords, writePair

_POLL_MS = 100
_START_FILE = "start.h5"


@dataclass(frozen=True)
class Start:
    """What the engine found. fromFixed: vtkAbstractTransform, points of the world. told: see `carlreg check --json`."""

    fromFixed: Any
    told: dict


def startPreview(job: Job) -> Task:
    """Have the engine look at a job's volumes, without guidance; the task gives a Start. Raises RegistrationError."""
    checkJob(job)
    if job.continueTransform is not None:
        raise RegistrationError(
            _("No start is looked for: it continues from {name}. Inspect shows it.").format(
                name=job.continueTransform.GetName()
            )
        )
    job = withWholePaths(job)
    if job.enginePython is None:
        dependencies.ensure()
    with preparing(Task(job.enginePython)) as task:
        arguments, _notes, _images = writePair(job, task.folder)
        return task.start(["check", *arguments, "--start", _START_FILE], _found, panelWords(job))


def _found(task: Task) -> Start:
    return Start(readTransform(task.folder / _START_FILE), task.told())


class StartControls:
    """The button, and the line below it that says what the engine thinks of the pair.

    Args: ui: of the panel. preview: of the views. job: what the panel describes now. mayShow: whether the views may be
    used now.
    """

    def __init__(self, ui, preview: ViewPreview, job: Callable[[], Job], mayShow: Callable[[], bool]) -> None:
        self._ui, self._preview, self._job, self._mayShow = ui, preview, job, mayShow
        self._of: Job | None = None
        self._poller = Poller(_POLL_MS)
        ui.startButton.connect("clicked(bool)", self.onStart)
        self._say("")

    @property
    def running(self) -> bool:
        return self._poller.task is not None

    def onStart(self) -> None:
        """Look at the pair; or stop looking, or remove what is shown."""
        if self.running or self._preview.shown:
            self.clear()
            return
        try:
            self._of = withLeave(self._job())
            task = startPreview(self._of)
        except (RegistrationError, CarlError) as error:
            self._say(str(error), "error")
            return
        self._say(_("Looking for the best start ..."))
        self._poller.follow(task, self._onFound, self._onFailed)
        self.refresh()

    def clear(self) -> None:
        """Stop looking, and put the views back."""
        task = self._poller.forget()
        if task is not None:
            task.abort()
        self._of = None
        self._preview.hide()
        self._say("")
        self.refresh()

    def refresh(self, problem: str | None = None) -> None:
        """What the button does now. problem: why the pair cannot be registered; None for no news."""
        button = self._ui.startButton
        if problem is not None:
            button.enabled = not problem
        if self.running:
            button.text = _("Stop looking")
        elif self._preview.shown:
            button.text = _("Remove preview")
        else:
            button.text = _("&Preview start")

    def followChoice(self, fixed, moving) -> None:
        """Other volumes are chosen: what was found of the former ones goes."""
        if self._of is not None and (fixed is not self._of.fixedVolume or moving is not self._of.movingVolume):
            self.clear()

    def _onFound(self, found: Start) -> None:
        verdict = found.told["verdict"]
        lines = [_("Start: {word}.").format(word=verdict["word"]) + " " + " ".join(verdict["reasons"])]
        lines += [_("Check: {text}").format(text=text) for text in found.told["warnings"]]
        self._say("\n".join(inPanelWords(line, RESULT) for line in lines), verdict["word"])
        if self._of is not None and self._mayShow():
            self._preview.show(self._of.fixedVolume, self._of.movingVolume, found.fromFixed)
        self.refresh()

    def _onFailed(self, error: RegistrationError) -> None:
        self._say(str(error), "error")
        self.refresh()

    def _say(self, text: str, kind: str = "") -> None:
        notice(self._ui.startLabel, text, kind)


__all__ = ["StartControls", "startPreview"]
