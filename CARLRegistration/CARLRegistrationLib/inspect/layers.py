"""The volumes that slice views are given to show."""

from __future__ import annotations

import qt
import slicer
from slicer.util import VTKObservationMixin

from ..mrml import views


class Layers(VTKObservationMixin):
    """Gives slice views their volumes, and again what they have lost.

    The selectors of slice views do not list hidden nodes. When such a list is made anew (a scene or other data came in)
    the selector may take "None" for its choice and pass it on to the view.
    """

    def __init__(self) -> None:
        VTKObservationMixin.__init__(self)
        self._given: dict = {}  # composite node -> background, foreground
        self._later = qt.QTimer()  # after the selectors
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.connect("timeout()", self._again)

    def showAll(self, background, foreground, opacity: float, compositing=None) -> None:
        """In every view."""
        for _slice, composite in views.sliceViews():
            self.show(composite, background, foreground, opacity, compositing)

    def show(self, composite, background, foreground, opacity: float, compositing=None) -> None:
        """Volume nodes or None. opacity: of the foreground. compositing: of vtkMRMLSliceCompositeNode, None: alpha."""
        if not self._given:
            self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndBatchProcessEvent, self._onBatchEnd)
        self._given[composite] = (background, foreground)
        composite.SetCompositing(slicer.vtkMRMLSliceCompositeNode.Alpha if compositing is None else compositing)
        composite.SetBackgroundVolumeID(background.GetID() if background is not None else None)
        composite.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
        composite.SetForegroundOpacity(opacity if foreground is not None else 0.0)

    def clear(self) -> None:
        """They are the user's again."""
        self._later.stop()
        self._given.clear()
        self.removeObservers()

    def _onBatchEnd(self, caller, event) -> None:
        self._later.start()

    def _again(self) -> None:
        for composite, (background, foreground) in self._given.items():
            if not slicer.mrmlScene.IsNodePresent(composite):
                continue
            if composite.GetBackgroundVolumeID() is None and _isThere(background):
                composite.SetBackgroundVolumeID(background.GetID())
            if composite.GetForegroundVolumeID() is None and _isThere(foreground):
                composite.SetForegroundVolumeID(foreground.GetID())


def _isThere(node) -> bool:
    return node is not None and slicer.mrmlScene.IsNodePresent(node)


__all__ = ["Layers"]
