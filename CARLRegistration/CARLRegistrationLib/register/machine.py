"""The controls of what computes: the device, the weights file, and the engine's Python with its check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..common.files import typedPath
from ..common.polling import Poller
from ..engine import dependencies

_CHECK_INTERVAL_MS = 150


class MachineControls:
    """Devices and free memory are asked for in the background, and shown when the answer comes.

    Args: ui: of the panel. editable: the parameter node, or None while the panel writes into its controls itself.
        onChecked: called when something is known of the engine's Python.
    """

    def __init__(self, ui, editable: Callable[[], Any], onChecked: Callable[[], None]) -> None:
        self._ui = ui
        self._editable = editable
        self._onChecked = onChecked
        self.checked: dict = {}  # devices, and error where there is one
        self._checkedPython = ""  # that this was found of
        self._poller = Poller(_CHECK_INTERVAL_MS)
        ui.weightsFileButton.connect("clicked(bool)", lambda checked: self.chooseWeights())
        ui.enginePythonButton.connect("clicked(bool)", lambda checked: self.choosePython())
        ui.checkPythonButton.connect("clicked(bool)", lambda checked: self.check())
        ui.weightsFileLineEdit.connect("textChanged(QString)", lambda text: self._write("weightsFile", text))
        ui.enginePythonLineEdit.connect("textChanged(QString)", lambda text: self._write("enginePython", text))
        ui.enginePythonLineEdit.connect("editingFinished()", self._onPythonTyped)
        ui.deviceComboBox.connect("currentIndexChanged(int)", self._onDevice)
        ui.advancedCollapsibleButton.connect("contentsCollapsed(bool)", self._onAdvanced)
        self._fillDevices([])

    def show(self, parameters) -> None:
        """Show what is chosen."""
        ui = self._ui
        for line, name in ((ui.weightsFileLineEdit, "weightsFile"), (ui.enginePythonLineEdit, "enginePython")):
            if line.text != getattr(parameters, name):
                line.text = getattr(parameters, name)
        index = ui.deviceComboBox.findData(parameters.device)
        if index < 0:  # from another computer's scene: shown as it is, so that nothing changes silently
            ui.deviceComboBox.addItem(parameters.device, parameters.device)
            index = ui.deviceComboBox.findData(parameters.device)
        ui.deviceComboBox.currentIndex = index

    def problem(self, parameters) -> str:
        """What is known to stand against the engine's Python and the device, in a line, or ""."""
        if not self.checked or self._checkedPython != parameters.enginePython.strip():
            return ""
        if self.checked.get("error") and parameters.enginePython.strip():
            return _("Engine Python: {problem} When that is mended, press Check under Advanced.").format(
                problem=self.checked["error"]
            )
        names = [device["name"] for device in self.checked.get("devices", [])]
        if names and parameters.device.startswith("cuda") and not any(name.startswith("cuda") for name in names):
            return _("Device: the engine's Python finds no CUDA card here. Choose Automatic or CPU.")
        return ""

    def _onPythonTyped(self) -> None:
        parameters = self._editable()
        if parameters is not None and parameters.enginePython.strip() != self._checkedPython:
            self.check()

    def text(self, need: str) -> str:
        """What is needed, what is wrong with the engine's Python, and the memory that is free, in a line."""
        parts = [need] if need else []
        if "error" in self.checked:
            parts.append(self.checked["error"])
        for device in self.checked.get("devices", []):
            free = device.get("free_mb")
            name = _("CPU") if device["name"] == "cpu" else device["title"]
            if free is not None:
                parts.append(_("{name}: {free:.1f} GB free").format(name=name, free=free / 1024))
        return "; ".join(parts)[:1].upper() + "; ".join(parts)[1:]

    def chooseWeights(self) -> None:
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(),
            _("Weights file"),
            "",
            _("Weights (*.safetensors *.trch *.pt *.pth);;All files (*)"),
        )
        if path:
            self._ui.weightsFileLineEdit.text = path

    def choosePython(self) -> None:
        path = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), _("Python executable"), "", "")
        if path:
            self._ui.enginePythonLineEdit.text = path
            self.check()

    def check(self) -> None:
        """Ask the engine's Python what it has; the answer comes later."""
        self.stop()
        parameters = self._editable()
        if parameters is None:
            return
        python = typedPath(parameters.enginePython)
        self._checkedPython = parameters.enginePython.strip()
        try:
            check = dependencies.PythonCheck(python)
        except RegistrationError as error:
            self.checked = {"error": str(error)}
            self._onChecked()
            return
        self._ui.deviceInfoLabel.text = _("Checking ...")
        self._poller.follow(check, lambda found: self._onFound(found, python is not None), self._onFailed)

    def stop(self) -> None:
        """End a check that runs."""
        check = self._poller.forget()
        if check is not None:
            check.abort()

    def _onFound(self, found: dict, another: bool) -> None:
        problem = dependencies.checkProblem(found, another)
        self.checked = {"devices": found.get("devices", [])} | ({"error": problem} if problem else {})
        self._fillDevices(self.checked["devices"])
        self._onChecked()

    def _onFailed(self, error: RegistrationError) -> None:
        self.checked = {"devices": [], "error": str(error)}
        self._fillDevices([])
        self._onChecked()

    def _fillDevices(self, found: list[dict]) -> None:
        box = self._ui.deviceComboBox
        entries = [(_("Automatic"), "auto"), (_("CPU"), "cpu")]
        entries += [(f"{d['title']} ({d['name']})", d["name"]) for d in found if d["name"] != "cpu"]
        if not any(name.startswith("cuda") for _title, name in entries):
            entries.append((_("CUDA"), "cuda"))
        was = box.blockSignals(True)
        box.clear()
        for title, name in entries:
            box.addItem(title, name)
        box.blockSignals(was)

    def _onDevice(self, index: int) -> None:
        if index >= 0:
            self._write("device", self._ui.deviceComboBox.itemData(index))
            cuda = self._ui.deviceComboBox.itemData(index).startswith("cuda")
            if cuda and self._editable() is not None and not self.checked and self._poller.task is None:
                self.check()

    def _onAdvanced(self, collapsed: bool) -> None:
        """Asked when it comes into view, once."""
        if not collapsed and not self.checked and self._poller.task is None:
            self.check()

    def _write(self, name: str, value) -> None:
        parameters = self._editable()
        if parameters is not None and getattr(parameters, name) != value:
            setattr(parameters, name, value)


__all__ = ["MachineControls"]
