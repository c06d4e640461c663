"""What is known at the mouse cursor: displacement, Jacobian and uncertainty."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import slicer
from carlreg.spaces import apply_affine
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from ..mrml.geometry import rasFromIjk, transformPoints, worldFromNode
from .case import Case
from .snapshot import crosshairNode


def textAt(case: Case, jacobian, ras) -> str:
    """What is known at a point of the world (RAS mm), in a line. jacobian: volume node, or None."""
    point = np.asarray(ras, dtype=float)
    moved = transformPoints(case.worldMap(), point[None])[0] - point
    parts = [
        _("{length:.1f} mm displaced (R {r:+.1f}, A {a:+.1f}, S {s:+.1f})").format(
            length=float(np.linalg.norm(moved)), r=moved[0], a=moved[1], s=moved[2]
        )
    ]
    value = _valueAt(jacobian, point)
    if value is not None:
        parts.append(_("Jacobian {value:.2f}").format(value=value))
    if case.uncertainty is not None:
        value = _valueAt(case.uncertainty, point)
        if value is not None:
            unknown = _("uncertainty unknown")
            parts.append(_("uncertainty {value:.1f} mm").format(value=value) if value >= 0 else unknown)
    return ", ".join(parts)


def _valueAt(node, point: np.ndarray) -> float | None:
    """The value of the nearest voxel at a point of the world, None outside."""
    if node is None or node.GetImageData() is None:
        return None
    fromWorld = worldFromNode(node).GetInverse()
    own = transformPoints(fromWorld, point[None])[0]
    inverse = np.linalg.inv(rasFromIjk(node))
    index = np.rint(apply_affine(inverse, own)).astype(int)
    size = node.GetImageData().GetDimensions()
    if not all(0 <= i < n for i, n in zip(index, size, strict=True)):
        return None
    return float(node.GetImageData().GetScalarComponentAsDouble(*index.tolist(), 0))


class CursorLine(VTKObservationMixin):
    """Args: label: that shows what is known at the cursor. tell: says it, at a point of the world (RAS mm)."""

    def __init__(self, label, tell: Callable[[list], str]) -> None:
        VTKObservationMixin.__init__(self)
        self._label, self._tell = label, tell

    def begin(self) -> None:
        """Follow the cursor."""
        node = crosshairNode()
        event = slicer.vtkMRMLCrosshairNode.CursorPositionModifiedEvent
        if node is not None and not self.hasObserver(node, event, self._onCursor):
            self.addObserver(node, event, self._onCursor)
            self._label.text = _("Move the mouse over a slice view: displacement and Jacobian are shown here.")

    def end(self) -> None:
        self.removeObservers()

    def _onCursor(self, caller, event) -> None:
        ras = [0.0] * 3
        if caller.GetCursorPositionRAS(ras):
            self._label.text = self._tell(ras)


__all__ = ["CursorLine", "textAt"]
