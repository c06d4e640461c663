"""Slice views that get their size later than they are shown.

A layout that was just set is only described: Qt gives its views their sizes when it handles events, and Slicer then
keeps the height of a view's field in mm and changes its width, so that what had been fitted is cut left and right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from .geometry import arrayFrom


class PlacedViews(VTKObservationMixin):
    """Slice views that are placed now, and again when they get another size, until someone else moves them.

    There is one of it, `placed`.
    """

    def __init__(self) -> None:
        VTKObservationMixin.__init__(self)
        self._place: Callable[[Any], None] = lambda sliceNode: None
        self._states: dict[Any, tuple] = {}  # slice node -> as it was placed
        self._resized: list = []
        self._placing = False
        # Not at once: whoever draws the view is still busy with its new size.
        self._later = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.connect("timeout()", self._onLater)

    def place(self, sliceNodes: Iterable, place: Callable[[Any], None]) -> None:
        """Place them with this from now on, and no longer those of before."""
        self.stop()
        self._place = place
        for node in sliceNodes:
            self._now(node)
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._onModified)

    def stop(self) -> None:
        """They stay as they are."""
        self._later.stop()
        self._states.clear()
        self._resized.clear()
        self.removeObservers()

    def _now(self, node) -> None:
        self._placing = True
        try:
            self._place(node)
        finally:
            self._placing = False
        self._states[node] = (_size(node), _placement(node))

    def _onModified(self, node, event) -> None:
        if self._placing or node not in self._states or node in self._resized:
            return
        size, placement = self._states[node]
        if _size(node) != size:
            self._resized.append(node)
            self._later.start()
        elif _placement(node) != placement:  # scrolled, moved or zoomed: it belongs to the user
            self._letGo(node)

    def _onLater(self) -> None:
        resized, self._resized = self._resized, []
        for node in resized:
            if node in self._states:
                if slicer.mrmlScene is not None and slicer.mrmlScene.IsNodePresent(node):
                    self._now(node)
                else:
                    self._letGo(node)

    def _letGo(self, node) -> None:
        del self._states[node]
        self.removeObserver(node, vtk.vtkCommand.ModifiedEvent, self._onModified)


def _size(node) -> tuple:
    return tuple(node.GetDimensions()[:2])


def _placement(node) -> tuple:
    return (
        arrayFrom(node.GetSliceToRAS()).round(6).tobytes(),
        tuple(round(x, 6) for x in node.GetFieldOfView()[:2]),
        tuple(node.GetXYZOrigin()[:2]),
    )


placed = PlacedViews()  # who places the views last owns them

__all__ = ["PlacedViews", "placed"]
