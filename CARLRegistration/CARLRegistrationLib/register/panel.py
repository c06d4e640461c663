"""The panel: what each control does, and what is shown while a registration is idle, running or cancelled.

Controls that the .ui binds to a parameter by `SlicerParameterName` are kept in step by the parameter node itself; the
rest (masks with their segments, device, files) is bound here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable

import qt
import slicer
from carlreg.errors import CarlError
from carlreg.settings import RegistrationSettings
from slicer.i18n import tr as _

from ..apply.panel import ApplyPanel
from ..cohort.panel import CohortPanel
from ..common.errors import RegistrationCancelled, RegistrationError
from ..common.notices import notice
from ..common.section import ParameterView
from ..engine import dependencies
from ..inspect.opening import showCase
from ..inspect.panel import InspectPanel
from ..inspect.snapshot import Snapshot, forget
from ..mrml import views
from ..mrml.preview import ViewPreview
from ..series.panel import SeriesPanel
from ..transforms.panel import TransformsPanel
from .estimate import learn, secondsHere, voxelsOf
from .finite import withLeave
from .inputs import InputControls
from .job import Job, problemOf
from .kind import KindControls
from .live import LiveControls
from .machine import MachineControls
from .masks import MaskControls
from .mending import Mender
from .output_controls import OUTPUTS, OutputControls, chooseOutputs
from .own_presets import OwnPresets
from .parameters import Model, Preset, Robustness, TransformKind, checkedSettings, exchangeSides, jobFrom
from .presets import applyPreset
from .progress import RunLog, TimeLeft, statusText
from .recipe import commandLine, pythonLines
from .result import Result
from .result_controls import ResultControls
from .run import Status
from .start import StartControls
from .texts import showTexts


class Panel(ParameterView):
    """Wires one loaded .ui to the logic. `setParameterNode(None)` lets go of the scene, `cleanup()` of everything."""

    def __init__(self, ui, logic) -> None:
        super().__init__(ui)
        self.logic = logic
        self._preset = None
        self._updating = False
        self._formerViews = None  # before the run that goes on
        self._asked: Job | None = None  # when Apply was pressed last
        self._failed: Job | None = None  # whose error is shown
        self._runLog = RunLog()
        self._left = TimeLeft()
        self._doubts: list[str] = []  # what the run that goes on said against its pair
        self._running = False
        self.inspect = InspectPanel(ui.inspectWidget, self._enginePython, Mender(lambda: self._parameters))
        self.transforms = TransformsPanel(ui.transformsWidget, self._enginePython)
        self.apply = ApplyPanel(ui.applyWidget, self._enginePython)
        show = lambda case: showCase(self.inspect, case)  # noqa: E731
        self.cohort = CohortPanel(ui.cohortWidget, self._enginePython, checkedSettings, show)
        self.series = SeriesPanel(ui.seriesWidget, self._enginePython, checkedSettings)
        self._sections = (self.inspect, self.transforms, self.apply, self.cohort, self.series)
        self.results = ResultControls(ui, logic.undo, self._sections, lambda: self._parameters)
        self.outputs = OutputControls(ui)
        self.inputs = InputControls(ui, lambda: None if self._running else self._editable())
        self.kind = KindControls(ui)
        self.ownPresets = OwnPresets(ui, self._editable)
        self.masks = MaskControls(ui, self._editable)
        self.machine = MachineControls(ui, self._editable, self._onParameters)
        self._away = False  # another module is shown
        self.preview = ViewPreview(self._keepViews)
        self.live = LiveControls(ui, self.preview, logic.stopHere, self._mayShow)
        self.start = StartControls(ui, self.preview, lambda: jobFrom(self._parameters), self._mayShow)
        self._connect()
        self._showIdle()

    # --- binding

    def _connect(self) -> None:
        ui = self.ui
        ui.swapButton.connect("clicked(bool)", self.onSwap)
        ui.presetResetButton.connect("clicked(bool)", lambda checked: applyPreset(self._parameters))
        ui.rotationModelButton.connect(
            "clicked(bool)", lambda checked: setattr(self._parameters, "model", Model("carl-compact-rotation"))
        )
        ui.demoButton.connect("clicked(bool)", self.onDemo)
        ui.applyButton.connect("clicked(bool)", self.onApply)
        ui.copyLogButton.connect("clicked(bool)", self.onCopyLog)
        ui.showFolderButton.connect("clicked(bool)", self.onShowFolder)
        ui.copyCommandLineButton.connect("clicked(bool)", lambda checked: self._copy(commandLine))
        ui.copyPythonButton.connect("clicked(bool)", lambda checked: self._copy(pythonLines))

        # The sections came after the log, which stands below them.
        chain = (self.series.ui.seriesRemoveButton, ui.logCollapsibleButton, ui.logText, ui.copyLogButton)
        for one, following in itertools.pairwise(chain):
            qt.QWidget.setTabOrder(one, following)

    def _follow(self) -> None:
        self._preset = None
        self.start.clear()
        self.kind.forget()
        self.outputs.forget()
        for section in self._sections:
            section.setParameterNode(self._parameters)
        if self._parameters is not None:
            self._preset = self._parameters.preset
            self._onParameters()

    def cleanup(self) -> None:
        """Stop what runs and let go of the scene."""
        self.machine.stop()
        self.logic.abort()
        self.start.clear()
        self.results.forget()
        self.inputs.cleanup()
        for section in self._sections:
            section.cleanup()
        super().cleanup()

    def leave(self) -> None:
        """Another module is shown: the views that are used here go back."""
        self._away = True
        self.preview.hide()
        for section in self._sections:
            section.leave()

    def enter(self) -> None:
        """This module is shown again; of a run that goes on the views show the next map."""
        self._away = False

    def _mayShow(self) -> bool:
        return not (self._away or self.inspect.views.active)

    def _keepViews(self, on: bool) -> None:
        """What the views showed before is saved with the scene, as long as they show something temporary."""
        if self._parameters is not None:
            node = self._parameters.parameterNode
            Snapshot.take().keep(node) if on else forget(node)
        if not on:
            self.start.refresh()

    def _enginePython(self) -> str | None:
        return (self._parameters.enginePython.strip() or None) if self._parameters is not None else None

    def _editable(self):
        """The parameter node while the user may change it; None while the panel writes into its controls itself."""
        return None if self._updating else self._parameters

    def _onParameters(self, caller=None, event=None) -> None:
        parameters = self._parameters
        if parameters is None or self._updating:
            return
        if slicer.mrmlScene.IsImporting():  # a loaded scene's values are not changed by its preset
            self._preset = None
            self.kind.forget()
            self.outputs.forget()
            return
        if self._preset is None:
            self._preset = parameters.preset
        if parameters.preset is not self._preset:
            self._preset = parameters.preset
            applyPreset(parameters)  # comes back here
            return
        if self.kind.letGo(parameters) or self.outputs.letGo(parameters):  # comes back here
            return
        self._updating = True
        try:
            self.kind.show(parameters)
            self.ownPresets.show(parameters)
            self.masks.show(parameters)
            self.machine.show(parameters)
        finally:
            self._updating = False
        showTexts(self.ui, parameters, self.machine)
        self.start.followChoice(parameters.fixedVolume, parameters.movingVolume)
        self._updateApply()
        self.results.updateJacobian()

    # --- texts

    def _updateApply(self) -> None:
        if self._running:
            return
        job, reason = None, ""
        try:
            job = jobFrom(self._parameters)
            reason = problemOf(job) or self.machine.problem(self._parameters)
        except CarlError as error:
            reason = str(error)
        if job is not None:
            self.outputs.show(job)
        if self._failed is not None and job != self._failed:  # its error is of what was chosen before
            self._failed = None
            notice(self.ui.warningLabel, "")
        self.ui.applyButton.enabled = not reason
        self.start.refresh(reason)
        self.ui.applyButton.toolTip = reason or _("Register the moving volume to the fixed one.")
        notice(self.ui.whyLabel, reason)

    # --- running

    def onSwap(self) -> None:
        exchangeSides(self._parameters)

    def onDemo(self) -> None:
        """Load the sample pair and register it, instead of what is chosen."""
        from .sample_data import loadSamplePair

        p = self._parameters
        if p.fixedVolume is not None or p.movingVolume is not None:
            question = _("The demo loads a generated pair and chooses it instead of your volumes. Go on?")
            if not slicer.util.confirmYesNoDisplay(question, windowTitle=_("Try the demo")):
                return
        slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
        try:
            fixed, moving = loadSamplePair()
        finally:
            slicer.app.restoreOverrideCursor()
        with slicer.util.NodeModify(p):
            p.transformKind = TransformKind.DEFORMABLE
            p.preset = Preset.GENERAL
            p.robustness = Robustness.TRANSLATION
            p.model, p.weightsFile = Model(RegistrationSettings().model), ""
            p.fixedMask = p.movingMask = p.initialTransform = p.continueTransform = None
            p.fixedMaskSegment = p.movingMaskSegment = ""
            p.fixedLandmarks = p.movingLandmarks = p.fixedSegmentation = p.movingSegmentation = None
            p.fixedIgnore = p.movingIgnore = p.rigidSegmentation = p.stiffSegmentation = None
            p.outputTransform = p.outputInverse = p.outputWarped = p.outputJacobian = p.outputUncertainty = None
            p.fixedVolume, p.movingVolume = fixed, moving
        views.showLayers(fixed, moving)
        self.onApply()

    def onApply(self) -> None:
        """Start, or cancel what runs."""
        if self._running:
            self.ui.applyButton.enabled = False
            self.ui.applyButton.text = _("Cancelling ...")
            self.logic.cancel()
            return
        self.results.silence()
        self._failed, self._doubts = None, []
        self.ui.logText.plainText = ""
        try:
            self._asked = jobFrom(self._parameters)
            job = dataclasses.replace(withLeave(self._asked), keepForReport=True)
            if job.enginePython is None:
                dependencies.ensure()
            self.inspect.leave()
            self.start.clear()
            self._formerViews = views.remember()
            self._showRunning()
            self.live.begin(job)
            voxels = voxelsOf(job.fixedVolume), voxelsOf(job.movingVolume)
            self._left = TimeLeft(secondsHere(*voxels, job.settings) if job.continueTransform is None else None)
            self.logic.startRegistration(job, self._onStatus, self._onDone, self._onFailed)
        except (RegistrationError, CarlError) as error:
            self._onFailed(error)

    def _onStatus(self, status: Status) -> None:
        ui = self.ui
        ui.progressBar.value = round(1000 * status.fraction)
        ui.progressLabel.text = statusText(status, self._left)
        self.live.follow(status)
        if status.warning:
            self._doubts.append(status.warning)
            choice = _("The registration goes on. Cancel it if the two do not belong together.")
            notice(ui.warningLabel, "\n".join([*self._doubts, choice]), "poor")
        self._runLog.add(status)
        shown = self._runLog.text(self.logic.log())
        if ui.logText.plainText != shown:
            ui.logText.plainText = shown

    def _onDone(self, result: Result) -> None:
        self._running = False
        self.live.end()
        job = result.job
        if job.continueTransform is None:  # what is skipped then would be missed elsewhere
            learn(voxelsOf(job.fixedVolume), voxelsOf(job.movingVolume), job.settings, result.seconds)
        if result.job_folder is not None:
            self.ui.logText.appendPlainText(_("Job folder: {path}").format(path=result.job_folder))
        chooseOutputs(self._parameters, dict.fromkeys(OUTPUTS.values()))  # of the next run
        self.results.add(result, self._formerViews, self._doubts)
        self._showIdle()

    def _onFailed(self, error) -> None:
        self._running = False
        self.live.end()
        self._failed = self._asked
        self._showIdle()
        notice(self.ui.resultLabel, "")
        log = getattr(error, "log", "")
        if log and log.strip() not in self.ui.logText.plainText:
            self.ui.logText.appendPlainText(log.strip())
        text = str(error)
        if getattr(error, "unexpected", False):
            text += " " + _("Copy the log below.")
            self.ui.logCollapsibleButton.collapsed = False
        cancelled = isinstance(error, RegistrationCancelled)
        notice(self.ui.warningLabel, text, "" if cancelled else "error")
        if cancelled:
            self.ui.progressLabel.text = ""

    def _showRunning(self) -> None:
        self._running = True
        self._runLog = RunLog()
        ui = self.ui
        ui.applyButton.text = _("Cance&l")
        ui.applyButton.toolTip = _("Stop the registration; nothing is changed.")
        ui.applyButton.enabled = True
        ui.progressBar.value = 0
        ui.progressLabel.text = _("Writing the volumes for the engine ...")
        ui.progressWidget.visible = True
        ui.startButton.visible = False
        for widget in (ui.whyLabel, ui.overwriteLabel, ui.resultLabel, ui.warningLabel, ui.resultWidget):
            widget.visible = False
        for widget in self._inputWidgets():
            widget.enabled = False
        slicer.app.processEvents()

    def _showIdle(self) -> None:
        ui = self.ui
        ui.applyButton.text = _("&Apply")
        ui.progressWidget.visible = False
        ui.startButton.visible = True
        for widget in self._inputWidgets():
            widget.enabled = True
        ui.resultLabel.visible = bool(ui.resultLabel.text)
        ui.warningLabel.visible = bool(ui.warningLabel.text)
        self.results.show()
        if self._parameters is not None:
            self._updateApply()

    def _inputWidgets(self) -> list:
        ui = self.ui
        return [
            ui.inputsCollapsibleButton,
            ui.registrationCollapsibleButton,
            ui.masksCollapsibleButton,
            ui.outputsCollapsibleButton,
            ui.guidanceCollapsibleButton,
            ui.advancedCollapsibleButton,
        ]

    # --- after a run

    def onCopyLog(self) -> None:
        slicer.app.clipboard().setText(self.ui.logText.plainText)

    def onShowFolder(self) -> None:
        result = self.results.result
        if result is not None and result.job_folder is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(result.job_folder)))

    def _copy(self, text: Callable[[Job], str]) -> None:
        """Copy the present choices in some form; what is not allowed is said beside Apply already."""
        with contextlib.suppress(CarlError):
            slicer.app.clipboard().setText(text(jobFrom(self._parameters)))

    def forgetResult(self) -> None:
        """The scene is gone, and with it all that a result refers to."""
        self.results.forget()
        self._formerViews, self._failed, self._doubts = None, None, []
        self.results.silence()
        self._showIdle()


__all__ = ["Panel"]
