"""Placing a pair of points by two clicks: the place in the fixed volume, then where it belongs in the moving one."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer
from slicer.util import VTKObservationMixin

from .points import Points


class PairPlacing(VTKObservationMixin):
    """Two clicks in the views with Slicer's own placing of points; Escape gives up.

    Args: onSide: called with the side ("fixed", "moving") whose point is waited for. onPlaced: with the pair's label.
        onGivenUp: when the placing ended without a pair.
    """

    def __init__(
        self, onSide: Callable[[str], None], onPlaced: Callable[[str], None], onGivenUp: Callable[[], None]
    ) -> None:
        VTKObservationMixin.__init__(self)
        self._onSide, self._onPlaced, self._onGivenUp = onSide, onPlaced, onGivenUp
        self._points: Points | None = None
        self._side, self._label = "", ""
        self._known: set[str] = set()
        self._later = qt.QTimer()  # when Slicer is done with the click
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.connect("timeout()", self._advance)

    @property
    def active(self) -> bool:
        return self._points is not None

    def begin(self, points: Points) -> None:
        """Wait for the two clicks; the lists of points are there."""
        self.end()
        points.dropUnpaired()
        self._points, self._label = points, points.newLabel()
        for node in points.nodes():
            self.addObserver(node, slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent, self._onEvent)
        interaction = _interaction()
        self.addObserver(interaction, interaction.InteractionModeChangedEvent, self._onEvent)
        self._waitFor(points, "fixed")

    def end(self) -> None:
        """Give up, or be done: no point without a partner is left, and the mouse does what it did before."""
        points, self._points = self._points, None
        if points is None:
            return
        self._later.stop()
        self.removeObservers()
        interaction = _interaction()
        if interaction.GetCurrentInteractionMode() == interaction.Place:
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)
        points.dropUnpaired()

    def _waitFor(self, points: Points, side: str) -> None:
        self._side, self._known = side, points.labels(side)
        selection, interaction = slicer.app.applicationLogic().GetSelectionNode(), _interaction()
        selection.SetReferenceActivePlaceNodeClassName("vtkMRMLMarkupsFiducialNode")
        selection.SetActivePlaceNodeID(points.node(side).GetID())
        interaction.SetPlaceModePersistence(0)
        interaction.SetCurrentInteractionMode(interaction.Place)
        self._onSide(side)

    def _onEvent(self, caller, event) -> None:
        self._later.start()

    def _advance(self) -> None:
        points, interaction = self._points, _interaction()
        if points is None:
            return
        if points.nameNew(self._side, self._known, self._label):
            if self._side == "fixed":
                self._waitFor(points, "moving")
                return
            self.end()
            self._onPlaced(self._label)
        elif interaction.GetCurrentInteractionMode() != interaction.Place:
            self.end()
            self._onGivenUp()


def _interaction():
    return slicer.app.applicationLogic().GetInteractionNode()


__all__ = ["PairPlacing"]
