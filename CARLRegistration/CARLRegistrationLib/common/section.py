"""What the parts of the panel have in common: following the parameter node, running a task, entering and leaving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
import vtk
from slicer.util import VTKObservationMixin

from .errors import RegistrationError
from .polling import Pollable, Poller

_UI = Path(__file__).resolve().parents[2] / "Resources" / "UI"


class ParameterView(VTKObservationMixin):
    """Widgets that show the parameter node: `_onParameters` is called for each of its changes."""

    def __init__(self, ui) -> None:
        VTKObservationMixin.__init__(self)
        self.ui = ui
        self._parameters: Any = None
        self._guiTag: Any = None
        self._guiObservers: list[int] = []

    @property
    def parameters(self):
        return self._parameters

    def setParameterNode(self, parameters) -> None:
        """Follow another parameter node, or none."""
        event = vtk.vtkCommand.ModifiedEvent
        if self._parameters is not None:
            self._letGo()
            self._disconnectGui()
            self.removeObserver(self._parameters.parameterNode, event, self._onParameters)
        self._parameters = parameters
        if parameters is not None:
            self._connectGui()
            self.addObserver(parameters.parameterNode, event, self._onParameters)
        self._follow()

    def _connectGui(self) -> None:
        """Connect the widgets, and note the observers that this adds: Slicer 5.10 never removes them."""
        parameters, tags = self._parameters, []

        def add(event, callback, priority=0.0):
            tags.append(parameters.parameterNode.AddObserver(event, callback, priority))
            return tags[-1]

        parameters.AddObserver = add
        try:
            self._guiTag = parameters.connectGui(self.ui)
        finally:
            del parameters.AddObserver
        self._guiObservers = tags

    def _disconnectGui(self) -> None:
        self._parameters.disconnectGui(self._guiTag)
        for tag in self._guiObservers:
            self._parameters.parameterNode.RemoveObserver(tag)
        self._guiObservers = []

    def _letGo(self) -> None:
        """The parameter node that was followed is about to be left."""

    def _follow(self) -> None:
        """Another parameter node, or None, is followed now."""

    def _onParameters(self, caller=None, event=None) -> None:
        raise NotImplementedError

    def leave(self) -> None:
        """Another module is shown, or the part is closed."""

    def cleanup(self) -> None:
        """Let go of everything."""
        self.setParameterNode(None)
        self.removeObservers()


class Section(ParameterView):
    """A section of the panel: its widgets, the transform it works on, and one task in the background.

    Args: parent: widget whose layout takes it. file: of `Resources/UI`. python: called for the engine's Python, None
        for Slicer's own. pollMs: how often a task is asked how it is.
    """

    def __init__(self, parent, file: str, python: Callable[[], str | None], pollMs: int) -> None:
        widget = slicer.util.loadUI(str(_UI / file))
        parent.layout().addWidget(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        super().__init__(slicer.util.childWidgetVariables(widget))
        self.widget = widget
        self._python = python
        self._result: Any = None
        self._transform: Any = None
        self._poller = Poller(pollMs)

    # --- the task

    @property
    def task(self):
        """What runs in the background, or None."""
        return self._poller.task

    def _runTask(
        self,
        task: Pollable,
        onDone: Callable[[Any], None],
        onFailed: Callable[[RegistrationError], None],
        onRunning: Callable[[Any], None] | None = None,
    ) -> None:
        """Follow a started task; the callbacks find the section idle again."""
        self._poller.follow(task, onDone, onFailed, onRunning)

    def _endTask(self) -> None:
        """End what runs, and wait for it; nothing of it is left."""
        task = self._poller.forget()
        if task is not None:
            task.abort()

    def _letGo(self) -> None:
        self._endTask()

    # --- the last registration

    def setResult(self, result) -> None:
        """The last registration, or None when it was taken back."""
        raise NotImplementedError

    def releaseResult(self) -> None:
        """Its nodes are going to be removed: a selector that shows one would choose another in its place."""

    # --- the transform

    def _observe(self, transform) -> None:
        """Call `_onTransform` whenever this transform changes, and no other any more."""
        event = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
        if self._transform is not None and self.hasObserver(self._transform, event, self._onTransform):
            self.removeObserver(self._transform, event, self._onTransform)
        self._transform = transform
        if transform is not None:
            self.addObserver(transform, event, self._onTransform)

    def _onTransform(self, caller, event) -> None:
        raise NotImplementedError


__all__ = ["ParameterView", "Section"]
