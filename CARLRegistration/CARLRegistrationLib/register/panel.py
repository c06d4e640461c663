"""The panel: what each control does, and what is shown while a registration is idle, running or cancelled.

Controls that the .ui binds to a parameter by `SlicerParameterName` are kept in step by the parameter node itself; the
rest (masks with their segments, device, files) is bound here.
"""

from __future__ import annotations

import dataclasses
import os
import time

import qt
import slicer
from carlreg.errors import CarlError
from carlreg.resources import cpu_seconds, memory_mb
from carlreg.settings import RegistrationSettings
from slicer.i18n import tr as _

from ..apply.panel import ApplyPanel
from ..common.errors import RegistrationCancelled, RegistrationError
from ..common.section import ParameterView
from ..engine import dependencies
from ..inspect.panel import InspectPanel
from ..mrml import colors, views
from ..transforms.panel import TransformsPanel
from .job import problemOf
from .parameters import PRESETS, Model, Preset, Robustness, applyPreset, jobFrom, presetChanged, settingsFrom
from .result import Result
from .run import Status

_CHECK_INTERVAL_MS = 150
# Of a run on this computer to what the estimate for two CPU cores says; kept between sessions, see _learnSpeed.
_SPEED_KEY = "CARLRegistration/SecondsPerEstimatedSecond/{device}"
_CORES_OF_ESTIMATE = 2
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
        self._shownViews = None
        self._jacobianShown = False
        self._lines: list[str] = []
        self._lastLine = ""
        self._running = False
        self._pythonCheck: dependencies.PythonCheck | None = None
        self._checked: dict = {}
        self._checkTimer = qt.QTimer()
        self._checkTimer.setInterval(_CHECK_INTERVAL_MS)
        self._checkTimer.connect("timeout()", self._onCheckTimer)
        self.inspect = InspectPanel(ui.inspectWidget, self._enginePython)
        self.transforms = TransformsPanel(ui.transformsWidget, self._enginePython)
        self.apply = ApplyPanel(ui.applyWidget, self._enginePython)
        self._sections = (self.inspect, self.transforms, self.apply)
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
        ui.checkPythonButton.connect("clicked(bool)", self.onCheckPython)
        ui.advancedCollapsibleButton.connect("contentsCollapsed(bool)", self._onAdvanced)
        ui.weightsFileButton.connect("clicked(bool)", self.onChooseWeights)
        ui.enginePythonButton.connect("clicked(bool)", self.onChoosePython)
        ui.weightsFileLineEdit.connect("textChanged(QString)", lambda text: self._write("weightsFile", text))
        ui.enginePythonLineEdit.connect("textChanged(QString)", lambda text: self._write("enginePython", text))
        ui.deviceComboBox.connect("currentIndexChanged(int)", self._onDevice)
        for side in ("fixed", "moving"):
            selector = getattr(ui, f"{side}MaskSelector")
            selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node, s=side: self._onMask(s, node))
            segments = getattr(ui, f"{side}MaskSegmentComboBox")
            segments.connect("currentIndexChanged(int)", lambda index, s=side: self._onSegment(s, index))
        self._fillDevices([])

    def _follow(self) -> None:
        self._preset = None
        for section in self._sections:
            section.setParameterNode(self._parameters)
        if self._parameters is not None:
            self._preset = self._parameters.preset
            self._onParameters()

    def cleanup(self) -> None:
        """Stop what runs and let go of the scene."""
        self._stopCheck()
        self.logic.abort()
        self._forget()
        for section in self._sections:
            section.cleanup()
        super().cleanup()

    def leave(self) -> None:
        """Another module is shown: the views that sections use go back."""
        for section in self._sections:
            section.leave()

    def _enginePython(self) -> str | None:
        return (self._parameters.enginePython.strip() or None) if self._parameters is not None else None

    def _forget(self) -> None:
        """The last result, with the files that were kept for its report."""
        result, self._result = self._result, None
        if result is not None:
            result.discard()
        for section in self._sections:
            section.setResult(None)

    def _write(self, name: str, value) -> None:
        if self._parameters is not None and not self._updating and getattr(self._parameters, name) != value:
            setattr(self._parameters, name, value)

    def _onParameters(self, caller=None, event=None) -> None:
        parameters = self._parameters
        if parameters is None or self._updating:
            return
        if slicer.mrmlScene.IsImporting():  # a loaded scene's values are not changed by its preset
            self._preset = None
            return
        if self._preset is None:
            self._preset = parameters.preset
        if parameters.preset is not self._preset:
            self._preset = parameters.preset
            applyPreset(parameters)  # comes back here
            return
        self._updating = True
        try:
            self._updateManual()
        finally:
            self._updating = False
        self._updateTexts()
        self._updateApply()
        self._updateJacobian()

    def _updateManual(self) -> None:
        """The controls that the parameter node does not keep in step itself."""
        ui, parameters = self.ui, self._parameters
        for line, name in ((ui.weightsFileLineEdit, "weightsFile"), (ui.enginePythonLineEdit, "enginePython")):
            if line.text != getattr(parameters, name):
                line.text = getattr(parameters, name)
        index = ui.deviceComboBox.findData(parameters.device)
        if index < 0:  # from another computer's scene: shown as it is, so that nothing changes silently
            ui.deviceComboBox.addItem(parameters.device, parameters.device)
            index = ui.deviceComboBox.findData(parameters.device)
        ui.deviceComboBox.currentIndex = index
        for side in ("fixed", "moving"):
            mask = getattr(parameters, f"{side}Mask")
            getattr(ui, f"{side}MaskSelector").setCurrentNode(mask)
            self._fillSegments(side, mask)

    # --- masks

    def _onMask(self, side: str, node) -> None:
        if self._updating or self._parameters is None:
            return
        if node is not getattr(self._parameters, f"{side}Mask"):
            with slicer.util.NodeModify(self._parameters):
                setattr(self._parameters, f"{side}Mask", node)
                setattr(self._parameters, f"{side}MaskSegment", "")

    def _onSegment(self, side: str, index: int) -> None:
        if index >= 0:
            self._write(f"{side}MaskSegment", getattr(self.ui, f"{side}MaskSegmentComboBox").itemData(index) or "")

    def _fillSegments(self, side: str, mask) -> None:
        box = getattr(self.ui, f"{side}MaskSegmentComboBox")
        entries = [(_("All segments"), "")]
        if mask is not None and mask.IsA("vtkMRMLSegmentationNode"):
            segmentation = mask.GetSegmentation()
            for index in range(segmentation.GetNumberOfSegments()):
                segmentId = segmentation.GetNthSegmentID(index)
                entries.append((segmentation.GetSegment(segmentId).GetName(), segmentId))
        present = [(box.itemText(i), box.itemData(i)) for i in range(box.count)]
        if present != entries:
            box.clear()
            for name, segmentId in entries:
                box.addItem(name, segmentId)
        box.visible = len(entries) > 1
        box.currentIndex = max(0, box.findData(getattr(self._parameters, f"{side}MaskSegment")))

    # --- texts

    def _updateTexts(self) -> None:
        parameters, ui = self._parameters, self.ui
        text = PRESETS[parameters.preset].text()
        ui.presetInfoLabel.text = text + (" " + _("(changed below)") if presetChanged(parameters) else "")
        ui.robustnessInfoLabel.text = {
            Robustness.TRANSLATION: _(
                "For scans in similar poses, however far apart and whatever part of the body each shows. Try it first."
            ),
            Robustness.ROTATION: _(
                "When one scan may be turned by any angle (prone and supine, specimens, lost orientation). Slower."
            ),
        }[parameters.robustness]
        try:
            settings = settingsFrom(parameters)
        except CarlError:
            ui.timeInfoLabel.text = ui.deviceInfoLabel.text = ""
            return
        voxels = [_voxels(node) for node in (parameters.fixedVolume, parameters.movingVolume)]
        if not all(voxels):
            ui.timeInfoLabel.text = _(
                "0 skips the refinement. The expected time is shown once both volumes are chosen."
            )
            ui.deviceInfoLabel.text = self._deviceText("")
            return
        seconds = cpu_seconds(*voxels, settings) * self._speed(parameters.device)
        where = _("on this computer") if self._isLearned(parameters.device) else _("on this computer's CPU (a guess)")
        ui.timeInfoLabel.text = _("About {duration} {where}.").format(duration=_duration(seconds), where=where)
        need = _("about {gigabytes:.1f} GB needed").format(gigabytes=memory_mb(*voxels, settings) / 1024)
        ui.deviceInfoLabel.text = self._deviceText(need)

    def _deviceText(self, need: str) -> str:
        parts = [need] if need else []
        if "error" in self._checked:
            parts.append(self._checked["error"])
        for device in self._checked.get("devices", []):
            free = device.get("free_mb")
            name = _("CPU") if device["name"] == "cpu" else device["title"]
            if free is not None:
                parts.append(_("{name}: {free:.1f} GB free").format(name=name, free=free / 1024))
        return "; ".join(parts)[:1].upper() + "; ".join(parts)[1:]

    def _updateApply(self) -> None:
        if self._running:
            return
        try:
            reason = problemOf(jobFrom(self._parameters))
        except CarlError as error:
            reason = str(error)
        self.ui.applyButton.enabled = not reason
        self.ui.applyButton.toolTip = reason or _("Register the moving volume to the fixed one.")
        self.ui.whyLabel.text = reason
        self.ui.whyLabel.visible = bool(reason)

    # --- device and Python

    def _fillDevices(self, found: list[dict]) -> None:
        box = self.ui.deviceComboBox
        entries = [(_("Automatic"), "auto"), (_("CPU"), "cpu")]
        entries += [(f"{d['title']} ({d['name']})", d["name"]) for d in found if d["name"] != "cpu"]
        if not any(name.startswith("cuda") for _title, name in entries):
            entries.append((_("CUDA"), "cuda"))
        updating, self._updating = self._updating, True
        try:
            box.clear()
            for title, name in entries:
                box.addItem(title, name)
        finally:
            self._updating = updating
        if self._parameters is not None:
            self._onParameters()

    def _onDevice(self, index: int) -> None:
        if index >= 0:
            self._write("device", self.ui.deviceComboBox.itemData(index))

    def onChooseWeights(self) -> None:
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(),
            _("Weights file"),
            "",
            _("Weights (*.safetensors *.trch *.pt *.pth);;All files (*)"),
        )
        if path:
            self.ui.weightsFileLineEdit.text = path

    def onChoosePython(self) -> None:
        path = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), _("Python executable"), "", "")
        if path:
            self.ui.enginePythonLineEdit.text = path
            self.onCheckPython()

    def _onAdvanced(self, collapsed: bool) -> None:
        """Devices and free memory are asked for when they come into view, once."""
        if not collapsed and not self._checked and self._pythonCheck is None and self._parameters is not None:
            self.onCheckPython()

    def onCheckPython(self) -> None:
        """Ask the engine's Python what it has; the answer comes later."""
        self._stopCheck()
        python = self._parameters.enginePython.strip() or None
        try:
            self._pythonCheck = dependencies.PythonCheck(python)
        except RegistrationError as error:
            self._checked = {"error": str(error)}
            self._stopCheck()
            self._updateTexts()
            return
        self.ui.deviceInfoLabel.text = _("Checking ...")
        self._checkTimer.start()

    def _onCheckTimer(self) -> None:
        try:
            found = self._pythonCheck.poll() if self._pythonCheck is not None else {}
        except RegistrationError as error:
            found = {"error": str(error)}
        if found is None:
            return
        self._stopCheck()
        problem = found.get("error", "")
        if "python" in found:
            problem = dependencies.checkProblem(found, bool(self._parameters and self._parameters.enginePython.strip()))
        self._checked = {"devices": found.get("devices", [])} | ({"error": problem} if problem else {})
        self._fillDevices(self._checked["devices"])

    def _stopCheck(self) -> None:
        self._checkTimer.stop()
        if self._pythonCheck is not None:
            self._pythonCheck.abort()
            self._pythonCheck = None

    # --- running

    def onSwap(self) -> None:
        p = self._parameters
        with slicer.util.NodeModify(p):
            p.fixedVolume, p.movingVolume = p.movingVolume, p.fixedVolume
            p.fixedMask, p.movingMask = p.movingMask, p.fixedMask
            p.fixedMaskSegment, p.movingMaskSegment = p.movingMaskSegment, p.fixedMaskSegment
            p.fixedModality, p.movingModality = p.movingModality, p.fixedModality

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
            p.preset = Preset.GENERAL
            p.robustness = Robustness.TRANSLATION
            p.model, p.weightsFile = Model(RegistrationSettings().model), ""
            p.fixedMask = p.movingMask = p.initialTransform = None
            p.fixedMaskSegment = p.movingMaskSegment = ""
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
            self._formerViews = views.remember()
            self._showRunning()
            self.logic.startRegistration(job, self._onStatus, self._onDone, self._onFailed)
        except (RegistrationError, CarlError) as error:
            self._onFailed(error)

    def _onStatus(self, status: Status) -> None:
        ui = self.ui
        ui.progressBar.value = round(1000 * status.fraction)
        stage = _stageName(status.stage)
        parts = [_("Cancelling") if status.cancelling else stage]
        if status.message:
            parts[0] += f": {status.message}"
        parts.append(_("{duration} elapsed").format(duration=_duration(status.elapsed)))
        if status.seconds_left is not None and not status.cancelling:
            parts.append(_("about {duration} left").format(duration=_duration(status.seconds_left)))
        ui.progressLabel.text = ", ".join(parts)
        text = self.logic.log()
        # Steps are counted in the line above the log; the log keeps what changes.
        line = f"{status.stage}: {status.message}".rstrip(": ")
        if line and not (status.message.startswith("step ") and self._lastLine.startswith(f"{status.stage}: step ")):
            if line != self._lastLine:
                self._lines.append(f"{time.strftime('%H:%M:%S')}  {line}")
            self._lastLine = line
        shown = "\n".join([*self._lines, text]).strip()
        if ui.logText.plainText != shown:
            ui.logText.plainText = shown

    def _onDone(self, result: Result) -> None:
        self._running = False
        self._forget()
        self._result = result
        self._learnSpeed(result)
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
        self._lines, self._lastLine = [], ""
        ui = self.ui
        ui.applyButton.text = _("Cancel")
        ui.applyButton.toolTip = _("Stop the registration; nothing is changed.")
        ui.applyButton.enabled = True
        ui.progressBar.value = 0
        ui.progressLabel.text = _("Writing the volumes for the engine ...")
        ui.progressWidget.visible = True
        for widget in (ui.whyLabel, ui.resultLabel, ui.warningLabel, ui.resultWidget):
            widget.visible = False
        for widget in self._inputWidgets():
            widget.enabled = False
        slicer.app.processEvents()

    def _showIdle(self) -> None:
        ui = self.ui
        ui.applyButton.text = _("Apply")
        ui.progressWidget.visible = False
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

    # --- time

    def _speed(self, device: str) -> float:
        """Seconds here per second of the estimate: learned from the last run, or guessed from the cores."""
        stored = slicer.util.settingsValue(_SPEED_KEY.format(device=device), 0.0, converter=float)
        if stored > 0:
            return stored
        return (_CORES_OF_ESTIMATE / max(1, min(os.cpu_count() or 1, 16))) ** 0.6

    def _isLearned(self, device: str) -> bool:
        return slicer.util.settingsValue(_SPEED_KEY.format(device=device), 0.0, converter=float) > 0

    def _learnSpeed(self, result: Result) -> None:
        voxels = [_voxels(node) for node in (result.job.fixedVolume, result.job.movingVolume)]
        estimate = cpu_seconds(*voxels, result.job.settings) if all(voxels) else 0.0
        if estimate > 0:
            key = _SPEED_KEY.format(device=result.job.settings.device)
            qt.QSettings().setValue(key, round(result.seconds / estimate, 4))


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


def _voxels(node) -> int:
    image = node.GetImageData() if node is not None else None
    return image.GetNumberOfPoints() if image is not None else 0


def _duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 90:
        return _("{seconds} s").format(seconds=seconds)
    return _("{minutes} min").format(minutes=round(seconds / 60))
