"""The panel: what each control does, and what is shown while a registration is idle, running or cancelled.

Controls that the .ui binds to a parameter by `SlicerParameterName` are kept in step by the parameter node itself; the
rest (masks with their segments, device, files) is bound here.
"""

from __future__ import annotations

import dataclasses

import qt
import slicer
from carlreg.errors import CarlError
from carlreg.settings import RegistrationSettings
from slicer.i18n import tr as _

from ..apply.panel import ApplyPanel
from ..common.errors import RegistrationCancelled, RegistrationError
from ..common.section import ParameterView
from ..engine import dependencies
from ..inspect.panel import InspectPanel
from ..inspect.snapshot import Snapshot, forget
from ..mrml import colors, views
from ..mrml.preview import ViewPreview
from ..transforms.panel import TransformsPanel
from .estimate import learn, voxelsOf
from .job import problemOf
from .kind import KindControls
from .live import LiveControls
from .machine import MachineControls
from .masks import MaskControls
from .mending import Mender
from .parameters import Model, Preset, Robustness, TransformKind, exchangeSides, jobFrom
from .presets import applyPreset
from .progress import RunLog, statusText
from .result import Result
from .run import Status
from .start import StartControls
from .texts import showTexts

# Kinds of results, and the parameters that hold their nodes.
_OUTPUTS = {
    "transform": "outputTransform",
    "inverse_transform": "outputInverse",
    "warped": "outputWarped",
    "jacobian": "outputJacobian",
    "uncertainty": "outputUncertainty",
}


class Panel(ParameterView):
    """Wires one loaded .ui to the logic. `setParameterNode(None)` lets go of the scene, `cleanup()` of everything."""

    def __init__(self, ui, logic) -> None:
        super().__init__(ui)
        self.logic = logic
        self._preset = None
        self._updating = False
        self._result: Result | None = None
        self._formerViews = None
        self._jacobianShown = False
        self._runLog = RunLog()
        self._running = False
        self.inspect = InspectPanel(ui.inspectWidget, self._enginePython, Mender(lambda: self._parameters))
        self.transforms = TransformsPanel(ui.transformsWidget, self._enginePython)
        self.apply = ApplyPanel(ui.applyWidget, self._enginePython)
        self._sections = (self.inspect, self.transforms, self.apply)
        self.kind = KindControls(ui)
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
        ui.demoButton.connect("clicked(bool)", self.onDemo)
        ui.applyButton.connect("clicked(bool)", self.onApply)
        ui.undoButton.connect("clicked(bool)", self.onUndo)
        ui.restoreViewsButton.connect("clicked(bool)", self.onRestoreViews)
        ui.copyLogButton.connect("clicked(bool)", self.onCopyLog)

    def _follow(self) -> None:
        self._preset = None
        self.start.clear()
        self.kind.forget()
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
        self._forget()
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

    def _forget(self) -> None:
        """The last result, with the files that were kept for its report."""
        result, self._result = self._result, None
        if result is not None:
            result.discard()
        for section in self._sections:
            section.setResult(None)

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
            return
        if self._preset is None:
            self._preset = parameters.preset
        if parameters.preset is not self._preset:
            self._preset = parameters.preset
            applyPreset(parameters)  # comes back here
            return
        if self.kind.letGo(parameters):  # comes back here
            return
        self._updating = True
        try:
            self.kind.show(parameters)
            self.masks.show(parameters)
            self.machine.show(parameters)
        finally:
            self._updating = False
        showTexts(self.ui, parameters, self.machine)
        self.start.followChoice(parameters.fixedVolume, parameters.movingVolume)
        self._updateApply()
        self._updateJacobian()

    # --- texts

    def _updateApply(self) -> None:
        if self._running:
            return
        try:
            reason = problemOf(jobFrom(self._parameters))
        except CarlError as error:
            reason = str(error)
        self.ui.applyButton.enabled = not reason
        self.start.refresh(reason)
        self.ui.applyButton.toolTip = reason or _("Register the moving volume to the fixed one.")
        self.ui.whyLabel.text = reason
        self.ui.whyLabel.visible = bool(reason)

    # --- running

    def onSwap(self) -> None:
        exchangeSides(self._parameters)

    def onDemo(self) -> None:
        """Load the sample pair and register it."""
        from .sample_data import loadSamplePair

        slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
        try:
            fixed, moving = loadSamplePair()
        finally:
            slicer.app.restoreOverrideCursor()
        p = self._parameters
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
        self.ui.warningLabel.text = self.ui.resultLabel.text = ""
        self.ui.logText.plainText = ""
        try:
            job = dataclasses.replace(jobFrom(self._parameters), keepForReport=True)
            if job.enginePython is None:
                dependencies.ensure()
            self.inspect.leave()
            self.start.clear()
            self._formerViews = views.remember()
            self._showRunning()
            self.live.begin(job)
            self.logic.startRegistration(job, self._onStatus, self._onDone, self._onFailed)
        except (RegistrationError, CarlError) as error:
            self._onFailed(error)

    def _onStatus(self, status: Status) -> None:
        ui = self.ui
        ui.progressBar.value = round(1000 * status.fraction)
        ui.progressLabel.text = statusText(status)
        self.live.follow(status)
        if status.warning:
            ui.warningLabel.text = "\n".join(filter(None, [ui.warningLabel.text, status.warning]))
            ui.warningLabel.visible = True
        self._runLog.add(status)
        shown = self._runLog.text(self.logic.log())
        if ui.logText.plainText != shown:
            ui.logText.plainText = shown

    def _onDone(self, result: Result) -> None:
        self._running = False
        self.live.end()
        self._forget()
        self._result = result
        job = result.job
        if job.continueTransform is None:  # what is skipped then would be missed elsewhere
            learn(voxelsOf(job.fixedVolume), voxelsOf(job.movingVolume), job.settings, result.seconds)
        self._showIdle()
        ui = self.ui
        ui.resultLabel.text = result.line()
        ui.warningLabel.text = "\n".join([*(_("Check: {text}").format(text=w) for w in result.warnings), *result.notes])
        if result.job_folder is not None:
            ui.logText.appendPlainText(_("Job folder: {path}").format(path=result.job_folder))
        warped, jacobian = result.nodes.get("warped"), result.nodes.get("jacobian")
        if jacobian is not None:
            views.styleJacobian(jacobian)
        with slicer.util.NodeModify(self._parameters):
            for kind, name in _OUTPUTS.items():
                if kind in result.nodes:
                    setattr(self._parameters, name, result.nodes[kind])
            self._parameters.showJacobian = False
        if warped is not None:
            views.showLayers(result.job.fixedVolume, warped)
            views.fitTo(views.commonBox(result.job.fixedVolume, warped))
        for section in self._sections:
            section.setResult(result)
        self._showIdle()

    def _onFailed(self, error) -> None:
        self._running = False
        self.live.end()
        self._showIdle()
        self.ui.resultLabel.text = ""
        log = getattr(error, "log", "")
        if log and log.strip() not in self.ui.logText.plainText:
            self.ui.logText.appendPlainText(log.strip())
        text = str(error)
        if getattr(error, "unexpected", False):
            text += " " + _("Copy the log below.")
            self.ui.logCollapsibleButton.collapsed = False
        self.ui.warningLabel.text = text
        self.ui.warningLabel.visible = True
        if isinstance(error, RegistrationCancelled):
            self.ui.progressLabel.text = ""

    def _showRunning(self) -> None:
        self._running = True
        self._runLog = RunLog()
        ui = self.ui
        ui.applyButton.text = _("Cancel")
        ui.applyButton.toolTip = _("Stop the registration; nothing is changed.")
        ui.applyButton.enabled = True
        ui.progressBar.value = 0
        ui.progressLabel.text = _("Writing the volumes for the engine ...")
        ui.progressWidget.visible = True
        ui.startButton.visible = False
        for widget in (ui.whyLabel, ui.resultLabel, ui.warningLabel, ui.resultWidget):
            widget.visible = False
        for widget in self._inputWidgets():
            widget.enabled = False
        slicer.app.processEvents()

    def _showIdle(self) -> None:
        ui = self.ui
        ui.applyButton.text = _("Apply")
        ui.progressWidget.visible = False
        ui.startButton.visible = True
        for widget in self._inputWidgets():
            widget.enabled = True
        ui.resultLabel.visible = bool(ui.resultLabel.text)
        ui.warningLabel.visible = bool(ui.warningLabel.text)
        ui.resultWidget.visible = self._result is not None
        ui.undoButton.enabled = self.logic.canUndo
        ui.restoreViewsButton.enabled = self._formerViews is not None
        ui.showJacobianCheckBox.enabled = self._result is not None and "jacobian" in self._result.nodes
        if self._parameters is not None:
            self._updateApply()

    def _inputWidgets(self) -> list:
        ui = self.ui
        return [
            ui.inputsCollapsibleButton,
            ui.registrationCollapsibleButton,
            ui.outputsCollapsibleButton,
            ui.guidanceCollapsibleButton,
            ui.advancedCollapsibleButton,
        ]

    # --- after a run

    def onUndo(self) -> None:
        made = self._result.nodes if self._result is not None else {}
        self.inspect.leave()
        for section in self._sections:
            section.releaseResult()
        chosen = {name: made[kind] for kind, name in _OUTPUTS.items() if kind in made}
        chosen = {name: node for name, node in chosen.items() if getattr(self._parameters, name) is node}
        # The selectors let go first: of a node that is removed they would choose another in its place.
        self._chooseOutputs(dict.fromkeys(chosen))
        self.logic.undo()
        there = {name: node for name, node in chosen.items() if slicer.mrmlScene.IsNodePresent(node)}
        self._chooseOutputs(there)
        self._forget()
        self.onRestoreViews()
        self.ui.resultLabel.text = _("The last registration was taken back.")
        self.ui.warningLabel.text = ""
        self._showIdle()

    def _chooseOutputs(self, nodes: dict) -> None:
        with slicer.util.NodeModify(self._parameters):
            for name, node in nodes.items():
                setattr(self._parameters, name, node)

    def onRestoreViews(self) -> None:
        self.inspect.leave()
        if self._parameters is not None:
            self._parameters.showJacobian = False
        if self._formerViews is not None:
            views.restore(self._formerViews)
            self._formerViews = None
        self._showIdle()

    def onCopyLog(self) -> None:
        slicer.app.clipboard().setText(self.ui.logText.plainText)

    def forgetResult(self) -> None:
        """The scene is gone, and with it all that a result refers to."""
        self._forget()
        self._formerViews = None
        self.ui.resultLabel.text = self.ui.warningLabel.text = ""
        self._showIdle()

    def _updateJacobian(self) -> None:
        """Show the Jacobian in front, or the warped volume again."""
        if self._result is None:
            return
        jacobian, warped = self._result.nodes.get("jacobian"), self._result.nodes.get("warped")
        wanted = bool(self._parameters.showJacobian) and jacobian is not None
        if wanted == self._jacobianShown or jacobian is None:
            return
        self._jacobianShown = wanted
        self.inspect.leave()
        views.showLayers(self._result.job.fixedVolume, jacobian if wanted else warped)
        colors.showLegend(jacobian, wanted)  # last: the legend looks for a view that shows its volume


__all__ = ["Panel"]
