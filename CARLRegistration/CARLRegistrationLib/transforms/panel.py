"""The Transforms section of the panel: files for other programs, files of them, and transforms made of transforms."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import qt
import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationCancelled, RegistrationError
from ..common.notices import breakable, notice
from ..common.section import Section
from ..engine import dependencies
from ..inspect.case import Case
from ..mrml.geometry import parents
from ..mrml.transforms import sidesOf
from . import tasks
from .choices import Which
from .export_controls import ExportControls
from .files import TransformSelection
from .import_controls import ImportControls
from .tasks import TaskResult
from .texts import placeOf
from .tool_controls import ToolControls

_POLL_MS = 150
# Wait for a transform and for nothing to run; the rest of the section can be used meanwhile.
_OF_TRANSFORM = ("previewButton", "saveButton", "useAsInitialButton", "invertButton", "resampleButton", "linearButton")
_OF_TRANSFORM += ("addToChainButton", "composeButton")


class TransformsPanel(Section):
    """Wires the section.

    Args: parent: widget whose layout takes it. python: called for the engine's Python, None for Slicer's own.
    """

    def __init__(self, parent, python: Callable[[], str | None]) -> None:
        super().__init__(parent, "CARLRegistrationTransforms.ui", python, _POLL_MS)
        self._asMade = None
        self._places: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # of each result, when it was made
        self.folder = ""  # where files were last saved or read
        self.exporting = ExportControls(self)
        self.importing = ImportControls(self)
        self.tools = ToolControls(self)
        self._connect()
        self._showIdle()

    def _connect(self) -> None:
        ui = self.ui
        ui.transformsLastResultButton.connect("clicked(bool)", lambda checked: self.chooseResult())
        ui.transformsStopButton.connect("clicked(bool)", lambda checked: self.onStop())

    # --- what is worked on

    def python(self) -> str | None:
        """The engine's Python, None for Slicer's own."""
        return self._python()

    @property
    def subject(self) -> TransformSelection:
        """The chosen nodes, with the registration's own inverse where the last result is chosen."""
        p = self._parameters
        if p is None:
            return TransformSelection()
        made = self._result.nodes if self._result is not None else {}
        inverse = made.get("inverse_transform")
        known = inverse is not None and slicer.mrmlScene.IsNodePresent(inverse)
        known = known and p.transformsTransform is not None and p.transformsTransform is made.get("transform")
        known = known and self._asMade == (placeOf(p.transformsTransform), placeOf(inverse))
        return TransformSelection(
            p.transformsTransform,
            p.transformsFixed,
            p.transformsMoving,
            p.transformsInitial,
            inverse if known else None,
        )

    def _letGo(self) -> None:
        self.stop()

    def _follow(self) -> None:
        p = self._parameters
        self._observe(p.transformsTransform if p is not None else None)
        self.tools.forgetChain()
        if p is not None:
            self._onParameters()
        else:
            self.say("")
            self.show("")

    def setResult(self, result) -> None:
        """The last registration, or None when it was taken back; it is what is worked on then."""
        self._result = result
        made = result.nodes if result is not None else {}
        # Each is the other's inverse as long as nobody changes one; a result may come back after the next was undone.
        places = (placeOf(made.get("transform")), placeOf(made.get("inverse_transform")))
        self._asMade = self._places.setdefault(result, places) if result is not None else None
        if result is not None and result.nodes.get("transform") is not None:
            self.chooseResult()
        self.update()

    def releaseResult(self) -> None:
        """Its nodes are going to be removed: the selector would choose another in their place."""
        p, made = self._parameters, self._result.nodes if self._result is not None else {}
        if p is not None and p.transformsTransform is not None and p.transformsTransform in made.values():
            p.transformsTransform = None

    def chooseResult(self) -> None:
        """Put the last registration's nodes into the selectors."""
        if self._result is None or self._parameters is None:
            return
        job = self._result.job
        with slicer.util.NodeModify(self._parameters):
            self._parameters.transformsTransform = self._result.nodes.get("transform")
            self._parameters.transformsFixed, self._parameters.transformsMoving = job.fixedVolume, job.movingVolume

    def _onParameters(self, caller=None, event=None) -> None:
        p = self._parameters
        if p is None or slicer.mrmlScene.IsImporting():
            return
        if p.transformsTransform is not self._transform:
            self._observe(p.transformsTransform)
            self.tools.forgetChain()
            self.show("")
            fixed, moving = sidesOf(self._transform) if self._transform is not None else (None, None)
            if fixed is not None and moving is not None and (fixed, moving) != (p.transformsFixed, p.transformsMoving):
                with slicer.util.NodeModify(p):  # comes back here
                    p.transformsFixed, p.transformsMoving = fixed, moving
                return
        if p.exportWhich is Which.WITH_INITIAL and p.transformsInitial is None:
            above = [one for one in parents(p.transformsMoving) if one is not p.transformsTransform]
            if above:
                p.transformsInitial = above[0]  # comes back here
                return
        self.update()

    def _onTransform(self, caller, event) -> None:
        """Sizes and errors that are shown are those of what it was."""
        self.exporting.forgetPreview()
        self.update()

    def update(self) -> None:
        """Say what is worked on, and show what can be chosen for it."""
        ui, p = self.ui, self._parameters
        if p is None:
            return
        subject = self.subject
        made = self._result.nodes.get("transform") if self._result is not None else None
        ui.transformsLastResultButton.visible = made is not None and subject.transform is not made
        ui.transformsWhatLabel.text = breakable(self._whatText(subject))
        self.exporting.update()
        self.tools.update()
        self._enable()

    def _whatText(self, subject: TransformSelection) -> str:
        if subject.transform is None:
            return _("Choose a transform, or register first.")
        name = subject.transform.GetName()
        if subject.fixed is None or subject.moving is None:
            return _("{name}. Fixed and moving volume are only needed where this is said.").format(name=name)
        text = _("{name}\nbrings {moving}\nonto {fixed}.").format(
            name=name, moving=subject.moving.GetName(), fixed=subject.fixed.GetName()
        )
        if self._result is not None and subject.transform is self._result.nodes.get("transform"):
            text = _("Last registration.")
        hint = Case(subject.fixed, subject.moving, subject.transform).madeFor()
        above = [one for one in parents(subject.moving) if one is not subject.transform]
        below = subject.transform in parents(subject.moving)
        if above and not below:
            hint += " " + _(
                "{moving} is placed under {parent}: files lead to where it is shown. To lead to the volume's own file, "
                "compose that as the initial transform."
            ).format(moving=subject.moving.GetName(), parent=above[0].GetName())
        if parents(subject.fixed):
            hint += " " + _("{fixed} is placed under {parent}: files lead from where it is shown.").format(
                fixed=subject.fixed.GetName(), parent=parents(subject.fixed)[0].GetName()
            )
        return f"{text}\n{hint.strip()}".strip()

    # --- one task at a time

    def start(self, doing: str, begin: Callable[[], tasks.TransformTask], then: Callable[[TaskResult], None]) -> None:
        """Start a task; what cannot be done is said."""
        self.stop()
        self.say("")
        self.show("")
        try:
            if self.python() is None:
                dependencies.ensure()
            slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
            try:
                task = begin()
            finally:
                slicer.app.restoreOverrideCursor()
        except RegistrationError as error:
            self.say(str(error))
            return

        def running(followed: tasks.TransformTask) -> None:
            text = _("Stopping ...") if followed.cancelling else f"{doing} {followed.elapsed:.0f} s"
            self.ui.transformsBusyLabel.text = text

        def done(made: TaskResult) -> None:
            self._showIdle()
            then(made)

        self.ui.transformsBusyLabel.text = doing
        self._runTask(task, done, self._onFailed, running)
        self._showIdle()

    def _onFailed(self, error: RegistrationError) -> None:
        self._showIdle()
        text = str(error)
        if isinstance(error, tasks.ConventionNeeded):
            text += " " + self.importing.askForConvention()
        if error.unexpected and error.log.strip():
            text += "\n" + error.log.strip()
        if isinstance(error, RegistrationCancelled):
            self.show(text)
        else:
            self.say(text)

    def onStop(self) -> None:
        """Ask what runs to stop; it says so when it has."""
        if self.task is not None:
            self.task.cancel()

    def stop(self) -> None:
        """End what runs, and wait for it; nothing of it is left."""
        if self.task is not None:
            self._endTask()
            self._showIdle()

    def _showIdle(self) -> None:
        self.ui.transformsBusyWidget.visible = self.task is not None
        self.update() if self._parameters is not None else self._enable()

    def _enable(self) -> None:
        ui = self.ui
        idle = self.task is None and self._parameters is not None
        chosen = self.subject.transform is not None
        for name in _OF_TRANSFORM:
            getattr(ui, name).enabled = idle and chosen
        ui.importButton.enabled = idle

    def at(self, part: str) -> None:
        """What is said and shown from now on stands under a part: export, import or derived."""
        layout = getattr(self.ui, f"{part}CollapsibleButton").layout()
        for name in ("BusyWidget", "WhyLabel", "ResultLabel"):
            layout.addWidget(getattr(self.ui, f"transforms{name}"))

    def say(self, text: str) -> None:
        """What is wrong, in words; "" when nothing is."""
        notice(self.ui.transformsWhyLabel, text, "error")

    def show(self, text: str) -> None:
        """What came of the last action."""
        notice(self.ui.transformsResultLabel, text)


__all__ = ["TransformsPanel"]
