"""What the sections of the panel have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import qt
import slicer
from slicer.util import VTKObservationMixin

_UI = Path(__file__).resolve().parents[2] / "Resources" / "UI"


class Section(VTKObservationMixin):
    """A section's widgets, the transform it works on, and a timer for what runs in the background.

    Args: parent: widget whose layout takes it. file: of `Resources/UI`. python: called for the engine's Python, None
        for Slicer's own. pollMs: how often `_onTimer` is called while the timer runs.
    """

    def __init__(self, parent, file: str, python: Callable[[], str | None], pollMs: int) -> None:
        VTKObservationMixin.__init__(self)
        widget = slicer.util.loadUI(str(_UI / file))
        parent.layout().addWidget(widget)
        self.widget = widget
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self._python = python
        self._parameters = self._guiTag = None
        self._result = None
        self._transform = None
        self._timer = qt.QTimer()
        self._timer.setInterval(pollMs)
        self._timer.connect("timeout()", self._onTimer)

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

    def _onTimer(self) -> None:
        raise NotImplementedError


__all__ = ["Section"]
