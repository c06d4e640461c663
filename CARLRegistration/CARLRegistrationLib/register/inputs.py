"""Which volumes are offered as inputs: those that are there, those that are loaded later, or the demo's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from ..mrml.volumes import inputVolumes

_QUIET_MS = 60  # a volume that is loaded gets its name and its contents after it is added


def chooseInputs(parameters) -> None:
    """Choose the first volumes of the scene where none, or the same twice, is chosen."""
    fixed, moving = parameters.fixedVolume, parameters.movingVolume
    if fixed is not None and moving is not None and fixed is not moving:
        return
    others = [node for node in inputVolumes() if node is not fixed and node is not moving]
    with slicer.util.NodeModify(parameters):
        if fixed is None and others:
            fixed = parameters.fixedVolume = others.pop(0)
        if (moving is None or moving is fixed) and others:
            parameters.movingVolume = others.pop(0)


class InputControls(VTKObservationMixin):
    """Args: ui: of the panel. editable: the parameter node while inputs may be chosen, else None."""

    def __init__(self, ui, editable: Callable[[], Any]) -> None:
        VTKObservationMixin.__init__(self)
        self._ui, self._editable = ui, editable
        self._later = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.setInterval(_QUIET_MS)
        self._later.connect("timeout()", self._onQuiet)
        for event in (slicer.mrmlScene.NodeAddedEvent, slicer.mrmlScene.NodeRemovedEvent):
            self.addObserver(slicer.mrmlScene, event, self._onScene)
        self.show()

    def cleanup(self) -> None:
        self._later.stop()
        self.removeObservers()

    def _onScene(self, caller, event) -> None:
        self._later.start()

    def _onQuiet(self) -> None:
        scene, parameters = slicer.mrmlScene, self._editable()
        if scene is None or scene.IsImporting() or scene.IsClosing():
            return
        if parameters is not None:
            chooseInputs(parameters)
        self.show()

    def show(self) -> None:
        """Lead on where there is nothing to choose."""
        empty = not inputVolumes()
        self._ui.inputsInfoLabel.text = _("No volumes yet: load two, or try the demo.") if empty else ""
        self._ui.inputsInfoLabel.visible = self._ui.demoButton.visible = empty
        self._ui.swapButton.visible = not empty


__all__ = ["InputControls", "chooseInputs"]
