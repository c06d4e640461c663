"""The Transforms section of the panel: files for other programs, files of them, and transforms made of transforms."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationCancelled, RegistrationError
from ..common.section import Section
from ..engine import dependencies
from ..inspect.case import Case
from ..mrml.geometry import parents
from ..mrml.transforms import sidesOf
from . import tasks as engine
from .choices import Convention, Direction, Which
from .files import TransformSelection, antsAffineBeside, directionOf
from .tasks import Export, TaskResult

_POLL_MS = 150
_NO_ERROR_MM = 1e-6
_READ = "*.h5 *.hdf5 *.tfm *.txt *.mat *.lta *.nii *.nii.gz *.nrrd *.nhdr *.mha *.mhd"
# Wait for a transform and for nothing to run; the rest of the section can be used meanwhile.
_OF_TRANSFORM = ("previewButton", "saveButton", "useAsInitialButton", "invertButton", "resampleButton", "linearButton")
_OF_TRANSFORM += ("addToChainButton", "composeButton")


# By whether a file leads from moving to fixed points.
_WAYS = {
    False: _("Leads from fixed to moving points: resamples the moving image onto the fixed one."),
    True: _("Leads from moving to fixed points: resamples the fixed image onto the moving one."),
}


class TransformsPanel(Section):
    """Wires the section.

    Args: parent: widget whose layout takes it. python: called for the engine's Python, None for Slicer's own.
    """

    def __init__(self, parent, python: Callable[[], str | None]) -> None:
        super().__init__(parent, "CARLRegistrationTransforms.ui", python, _POLL_MS)
        self._asMade = None
        self._preview: tuple[tuple, str, TaskResult] | None = None  # (what it is of, file name, what it told)
        self._chain: list[str] = []
        self._folder = ""
        self._connect()
        self._showIdle()

    def _connect(self) -> None:
        ui = self.ui
        for button, action in (
            (ui.transformsLastResultButton, self.chooseResult),
            (ui.transformsStopButton, self.onStop),
            (ui.previewButton, self.onPreview),
            (ui.saveButton, self.onSave),
            (ui.copyCommandButton, self.onCopyCommand),
            (ui.importFileButton, self.onChooseFile),
            (ui.importButton, self.onImport),
            (ui.useAsInitialButton, self.onUseAsInitial),
            (ui.invertButton, self.onInvert),
            (ui.resampleButton, self.onResample),
            (ui.linearButton, self.onLinear),
            (ui.addToChainButton, self.onAddToChain),
            (ui.composeButton, self.onCompose),
            (ui.clearChainButton, self.onClearChain),
        ):
            button.connect("clicked(bool)", lambda checked, do=action: do())
        ui.importFileLineEdit.connect("textChanged(QString)", lambda text: self._forgetAnswers())

    # --- what is worked on

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
        known = known and self._asMade == (_placeOf(p.transformsTransform), _placeOf(inverse))
        return TransformSelection(
            p.transformsTransform,
            p.transformsFixed,
            p.transformsMoving,
            p.transformsInitial,
            inverse if known else None,
        )

    @property
    def export(self) -> Export:
        p = self._parameters
        return Export(p.exportWhich, p.exportFormat, p.exportSpacing, p.exportPrecision, p.exportFlatten)

    def _letGo(self) -> None:
        self.stop()

    def _follow(self) -> None:
        p = self._parameters
        self._observe(p.transformsTransform if p is not None else None)
        self._chain = []
        if p is not None:
            self._onParameters()
        else:
            self._say("")
            self._show("")

    def setResult(self, result) -> None:
        """The last registration, or None when it was taken back; it is what is worked on then."""
        self._result = result
        made = result.nodes if result is not None else {}
        # Each is the other's inverse as long as nobody changes one.
        self._asMade = (_placeOf(made.get("transform")), _placeOf(made.get("inverse_transform")))
        if result is not None and result.nodes.get("transform") is not None:
            self.chooseResult()
        self._update()

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
            self._chain = []
            self._show("")
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
        self._update()

    def _onTransform(self, caller, event) -> None:
        """Sizes and errors that are shown are those of what it was."""
        self._preview = None
        self._update()

    def _update(self) -> None:
        """Say what is worked on, and show what can be chosen for it."""
        ui, p = self.ui, self._parameters
        if p is None:
            return
        subject, export = self.subject, self.export
        made = self._result.nodes.get("transform") if self._result is not None else None
        ui.transformsLastResultButton.visible = made is not None and subject.transform is not made
        ui.transformsWhatLabel.text = self._whatText(subject)
        ui.exportInitialLabel.visible = ui.exportInitialSelector.visible = export.which is Which.WITH_INITIAL
        ui.exportFormatInfoLabel.text = export.format.text()
        for names, offered in (
            (("exportSpacingLabel", "exportSpacingSpinBox"), export.offersSpacing),
            (("exportPrecisionLabel", "exportPrecisionComboBox"), export.offersPrecision),
            (("exportFlattenCheckBox",), export.offersFlatten),
        ):
            for name in names:
                getattr(ui, name).enabled = offered
        self._showNumbers()
        names = [node.GetName() for node in self._chained()]
        first = subject.transform.GetName() if subject.transform is not None else ""
        ui.chainLabel.text = _("{names}").format(names=" \u2192 ".join([first, *names])) if names else ""
        ui.chainLabel.visible = ui.composeButton.visible = ui.clearChainButton.visible = bool(names)
        self._enable()

    def _whatText(self, subject: TransformSelection) -> str:
        if subject.transform is None:
            return _("Choose a transform, or register first.")
        name = subject.transform.GetName()
        if subject.fixed is None or subject.moving is None:
            return _("{name}. Fixed and moving volume are only needed where this is said.").format(name=name)
        text = _("{name} brings {moving} onto {fixed}.").format(
            name=name, moving=subject.moving.GetName(), fixed=subject.fixed.GetName()
        )
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
        return f"{text} {hint.strip()}".strip()

    # --- one task at a time

    def _start(self, doing: str, begin: Callable[[], engine.TransformTask], then: Callable[[TaskResult], None]) -> None:
        """Start a task; what cannot be done is said."""
        self.stop()
        self._say("")
        self._show("")
        try:
            if self._python() is None:
                dependencies.ensure()
            slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
            try:
                task = begin()
            finally:
                slicer.app.restoreOverrideCursor()
        except RegistrationError as error:
            self._say(str(error))
            return

        def running(followed: engine.TransformTask) -> None:
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
        if isinstance(error, engine.ConventionNeeded):
            self.ui.importCollapsibleButton.collapsed = False
            self.ui.importConventionComboBox.setFocus()
            text += " " + _("Choose it under Numbers, and press Import again.")
        if error.unexpected and error.log.strip():
            text += "\n" + error.log.strip()
        if isinstance(error, RegistrationCancelled):
            self._show(text)
        else:
            self._say(text)

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
        self._update() if self._parameters is not None else self._enable()

    def _enable(self) -> None:
        ui = self.ui
        idle = self.task is None and self._parameters is not None
        for name in _OF_TRANSFORM:
            getattr(ui, name).enabled = idle and self._parameters.transformsTransform is not None
        ui.importButton.enabled = idle

    def _say(self, text: str) -> None:
        """What is wrong, in words; "" when nothing is."""
        self.ui.transformsWhyLabel.text = text
        self.ui.transformsWhyLabel.visible = bool(text)

    def _show(self, text: str) -> None:
        """What came of the last action."""
        self.ui.transformsResultLabel.text = text
        self.ui.transformsResultLabel.visible = bool(text)

    # --- export

    def _key(self) -> tuple:
        """What the shown sizes and errors are those of."""
        subject, export = self.subject, self.export
        initial = subject.initial if export.which is Which.WITH_INITIAL else None
        nodes = (subject.transform, subject.fixed, subject.moving, initial)
        return (dataclasses.astuple(export), *map(_placeOf, nodes))

    def onPreview(self) -> None:
        """Compute sizes and error; nothing is saved."""
        self._computePreview(lambda: None)

    def _computePreview(self, then: Callable[[], None]) -> None:
        subject, export, key = self.subject, self.export, self._key()
        name = self._suggested()

        def shown(made: TaskResult) -> None:
            self._preview = (key, name, made)
            self._update()
            then()

        self._preview = None
        begin = lambda: engine.startExport(subject, export, name, True, self._python())  # noqa: E731
        self._start(_("Computing sizes and error ..."), begin, shown)

    def onSave(self) -> None:
        """Ask for the file, once sizes and error are shown."""
        if self._preview is None or self._preview[0] != self._key():
            self._computePreview(self._askAndSave)
        else:
            self._askAndSave()

    def _suggested(self) -> str:
        """A file name that says which image the file brings where."""
        subject, export = self.subject, self.export
        names = [node.GetName() if node is not None else "" for node in (subject.moving, subject.fixed)]
        if export.which is Which.INVERSE:
            names.reverse()
        stem = f"{names[0]}_onto_{names[1]}" if all(names) else subject.transform.GetName()
        stem = re.sub(r"[^\w.-]+", "_", stem).strip("._") or "transform"
        return stem + export.endings[0]

    def _askAndSave(self) -> None:
        key, name, seen = self._preview
        export, subject = self.export, self.subject
        endings = " ".join(f"*{ending}" for ending in export.endings)
        asked = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(),
            _("Save transform"),
            str(Path(self._folder or Path.home()) / name),
            f"{export.format.label()} ({endings})",
        )
        if not asked:
            self._show(_("Nothing was saved."))
            return
        out = export.named(Path(asked))
        self._folder = str(out.parent)
        if not self._mayReplace(engine.filesFor(seen, name, out), Path(asked)):
            self._show(_("Nothing was saved."))
            return

        def saved(made: TaskResult) -> None:
            self._preview = (key, out.name, made)
            self._update()
            names = ", ".join(name for name, _size in made.files)
            self._show(_("Saved in {folder}: {names}").format(folder=out.parent, names=names))

        begin = lambda: engine.startExport(subject, export, out, False, self._python())  # noqa: E731
        self._start(_("Saving ..."), begin, saved)

    def _mayReplace(self, files: list[Path], asked: Path) -> bool:
        """Ask about files that are there; the file dialog has asked about its own, and its sidecar goes with it."""
        known = {asked, asked.with_name(f"{asked.name}.json")} if asked.exists() else set()
        there = [file.name for file in files if file.exists() and file not in known]
        if not there:
            return True
        question = _("{folder} already holds:\n\n{names}\n\nReplace them?").format(
            folder=files[0].parent, names="\n".join(there)
        )
        return slicer.util.confirmYesNoDisplay(question, windowTitle=_("Save transform"))

    def _showNumbers(self) -> None:
        """Sizes, error and command of the preview, while they are true."""
        ui = self.ui
        made = self._preview[2] if self._preview is not None and self._preview[0] == self._key() else None
        text = ""
        if made is not None:
            lines = [made.sizes(), _("Error: {error}").format(error=errorText(made.error))]
            lines.append(_WAYS[made.sidecar.get("maps", "").startswith("moving")])
            text = "\n".join([*lines, *made.notes])
        ui.exportNumbersLabel.text = text
        ui.exportNumbersLabel.visible = bool(text)
        self._showCommand(made)

    def _showCommand(self, made: TaskResult | None) -> None:
        command = made.sidecar.get("command", "") if made is not None else ""
        self.ui.exportCommandLineEdit.text = command
        self.ui.exportCommandLineEdit.cursorPosition = 0  # its beginning is what is read
        self.ui.exportCommandWidget.visible = bool(command)

    def onCopyCommand(self) -> None:
        slicer.app.clipboard().setText(self.ui.exportCommandLineEdit.text)

    # --- import

    def onChooseFile(self) -> None:
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(),
            _("Transform file"),
            self._folder,
            _("Transforms ({endings});;All files (*)").format(endings=_READ),
        )
        if path:
            self._folder = str(Path(path).parent)
            self.ui.importFileLineEdit.text = path

    def _forgetAnswers(self) -> None:
        """What was said of one file is not taken for another."""
        if self._parameters is not None:
            with slicer.util.NodeModify(self._parameters):
                self._parameters.importConvention = Convention.FILE
                self._parameters.importDirection = Direction.FILE

    def onImport(self) -> None:
        """Make a transform node of the file."""
        if not self.ui.importFileLineEdit.text.strip():
            self.onChooseFile()
        text = self.ui.importFileLineEdit.text.strip()
        if not text:
            self._say(_("Choose a transform file."))
            return
        p, path = self._parameters, Path(text).expanduser()
        self._show("")
        if not path.is_file():
            self._say(_("{path} is not there. Choose a transform file.").format(path=path))
            return
        direction, why = self._directionOf(path)
        if direction is None:
            self._say("")
            self._show(_("Nothing was imported."))
            return
        paths = [path]
        affine = antsAffineBeside(path)
        if affine is not None:
            question = _(
                "{affine} lies beside {warp}. ANTs writes both for one registration. Import them together, as one "
                "transform?"
            ).format(affine=affine.name, warp=path.name)
            if slicer.util.confirmYesNoDisplay(question, windowTitle=_("Import transform")):
                paths.append(affine)
        fixed, moving = p.transformsFixed, p.transformsMoving
        wanted, convention = bool(self.ui.importInitialCheckBox.checked), p.importConvention

        def begin() -> engine.TransformTask:
            together = len(paths) > 1 and direction is Direction.INVERSE
            if together:
                raise RegistrationError(_("ANTs' pair can only be imported in its own direction. Import each file."))
            return engine.startImport(
                paths,
                convention=convention,
                direction=direction,
                fixed=fixed,
                moving=moving,
                python=self._python(),
            )

        def imported(made: TaskResult) -> None:
            self._onImported(made, path, direction, why, wanted)

        self._start(_("Importing {name} ...").format(name=path.name), begin, imported)

    def _directionOf(self, path: Path) -> tuple[Direction | None, str]:
        """Which way a file leads and how that is known: by the panel, the file, or an answer; None: cancelled."""
        p = self._parameters
        if p.importDirection is not Direction.FILE:
            return p.importDirection, _("as chosen")
        found, why = directionOf(path)
        if found:
            return Direction(found), why
        if p.importConvention in (Convention.FSL, Convention.FSL_ABSOLUTE):
            return Direction.FORWARD, _("as FSL's files do")
        question = _(
            "{name} does not say which way it leads.\n\nDoes it bring the moving image onto the fixed one, as files "
            "for resampling do (from fixed to moving points)? No: it leads the other way, and is inverted."
        ).format(name=path.name)
        buttons = qt.QMessageBox.Yes | qt.QMessageBox.No | qt.QMessageBox.Cancel
        answer = qt.QMessageBox.question(slicer.util.mainWindow(), _("Import transform"), question, buttons)
        if answer not in (qt.QMessageBox.Yes, qt.QMessageBox.No):
            return None, ""
        p.importDirection = Direction.FORWARD if answer == qt.QMessageBox.Yes else Direction.INVERSE
        return p.importDirection, _("as answered")

    def _onImported(self, made: TaskResult, path: Path, direction: Direction, why: str, asInitial: bool) -> None:
        node = made.nodes[0]
        self._forgetAnswers()
        self._parameters.transformsTransform = node
        way = _("It leads from fixed to moving points")
        if direction is Direction.INVERSE:
            way = _("The file leads from moving to fixed points, so it was inverted")
        lines = [_("Imported {name}. {way} ({why}).").format(name=node.GetName(), way=way, why=why), *made.notes]
        subject = self.subject
        if not _reaches(subject):
            lines.append(
                _(
                    "Check: under it no part of {fixed} lies in {moving}. Is it their transform, in this direction?"
                ).format(fixed=subject.fixed.GetName(), moving=subject.moving.GetName())
            )
        if asInitial:
            lines.append(self._setInitial(node))
        self._show("\n".join(lines))

    # --- made of the transform

    def onUseAsInitial(self) -> None:
        """The next registration starts from the transform."""
        self._say("")
        self._show(self._setInitial(self._parameters.transformsTransform))

    def _setInitial(self, node) -> str:
        self._parameters.initialTransform = node
        text = _("The next registration starts from {name}.").format(name=node.GetName())
        moving = self._parameters.movingVolume
        if node in parents(moving):
            text += " " + _("Take {moving} out of it first: it is placed under it already.").format(
                moving=moving.GetName()
            )
        return text

    def onInvert(self) -> None:
        subject, spacing = self.subject, self._parameters.toolSpacing

        def shown(made: TaskResult) -> None:
            report = made.figures.get("inverse") or {}
            text = _("Made '{name}'. There and back again: {error}.").format(
                name=made.nodes[0].GetName(), error=errorText(report.get("error_mm") or {})
            )
            if len(made.nodes) > 1:
                text += "\n" + _("No inverse in {percent:.2g} % of the volume, shown by '{name}'.").format(
                    percent=report["not_inverted_percent"], name=made.nodes[1].GetName()
                )
            self._showMade(made, text)

        self._start(_("Inverting ..."), lambda: engine.startInvert(subject, spacing, self._python()), shown)

    def onResample(self) -> None:
        subject, spacing = self.subject, self._parameters.toolSpacing

        def shown(made: TaskResult) -> None:
            text = _("Made '{name}'. Error: {error}.").format(name=made.nodes[0].GetName(), error=errorText(made.error))
            self._showMade(made, text)

        self._start(_("Resampling ..."), lambda: engine.startResample(subject, spacing, self._python()), shown)

    def onLinear(self) -> None:
        subject, kind = self.subject, self._parameters.linearKind

        def shown(made: TaskResult) -> None:
            text = _("Made '{name}'. It leaves: {error}.").format(
                name=made.nodes[0].GetName(), error=errorText(made.figures.get("left_mm") or {})
            )
            made.notes = [note for note in made.notes if not note.startswith("the ")]  # the same in the engine's words
            self._showMade(made, text)

        self._start(_("Fitting ..."), lambda: engine.startLinear(subject, kind, self._python()), shown)

    def _chained(self) -> list:
        nodes = [slicer.mrmlScene.GetNodeByID(one) for one in self._chain]
        return [node for node in nodes if node is not None]

    def onAddToChain(self) -> None:
        node = self.ui.chainSelector.currentNode()
        if node is None:
            self._say(_("Choose the transform that comes next."))
            return
        self._say("")
        self._chain.append(node.GetID())
        self._update()

    def onClearChain(self) -> None:
        self._chain = []
        self._update()

    def onCompose(self) -> None:
        subject, others = self.subject, self._chained()
        count = len(others) + 1

        def shown(made: TaskResult) -> None:
            self._chain = []
            self._update()
            text = _("Made '{name}' of {count} transforms.").format(name=made.nodes[0].GetName(), count=count)
            self._showMade(made, text)

        self._start(_("Composing ..."), lambda: engine.startCompose(subject, others, self._python()), shown)

    def _showMade(self, made: TaskResult, text: str) -> None:
        self._show("\n".join([text, *made.notes]))


def _placeOf(node) -> tuple:
    """What changes when another node is chosen, or it is moved by transforms."""
    if node is None:
        return ()
    above = node if node.IsA("vtkMRMLTransformNode") else node.GetParentTransformNode()
    return (node.GetID(), above.GetID(), above.GetTransformToWorldMTime()) if above is not None else (node.GetID(),)


def errorText(error: dict) -> str:
    """mean, 99 % and largest in mm, in a line."""
    if error.get("mean") is None:
        return _("unknown")
    if error["max"] < _NO_ERROR_MM:
        return _("none")
    return _("mean {mean:.2g} mm, 99 % below {p99:.2g}, largest {max:.2g}").format(**error)


def _reaches(subject: TransformSelection) -> bool:
    """False when no part of the fixed volume lands in the moving one, where both are known and as in their files."""
    volumes = (subject.fixed, subject.moving)
    if None in volumes or any(parents(node) for node in volumes):
        return True
    return bool(Case(subject.fixed, subject.moving, subject.transform).commonShare())


__all__ = ["TransformsPanel", "errorText"]
