"""The deformation drawn over the slice views: grid lines or arrows."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..mrml.copies import hidden, newNode
from .case import Case
from .partial import PartialMap


class Deformation:
    """Slicer's own display of transforms, on a temporary node: of the whole, or of what is left beside the affine."""

    def __init__(self) -> None:
        self._key = None
        self._temporary: Any = None
        self._made: list = []

    @property
    def shown(self) -> bool:
        return self._key is not None

    def show(self, case: Case, partial: PartialMap, arrows: bool, spacing_mm: float, local: bool = True) -> None:
        """Grid lines or arrows in the slice views, at a spacing in mm. local: without the affine part."""
        key = (case.transform.GetID(), local)
        if self._key != key:
            self.hide()
            self._key = key
            node = newNode("vtkMRMLTransformNode")
            node.SetName(_("Inspect: deformation of {name}").format(name=case.transform.GetName()))
            self._temporary = hidden(node)
            if local:
                node.SetAndObserveTransformToParent(partial.local())
            else:
                node.SetAndObserveTransformFromParent(case.worldMap())
            self._made = _addDisplay(node)
        display = self._temporary.GetDisplayNode()
        modified = display.StartModify()
        kind = slicer.vtkMRMLTransformDisplayNode
        display.SetVisualizationMode(kind.VIS_MODE_GLYPH if arrows else kind.VIS_MODE_GRID)
        display.SetGridSpacingMm(spacing_mm)
        display.SetGridResolutionMm(max(1.0, spacing_mm / 4))
        display.SetGridScalePercent(100)
        display.SetGlyphSpacingMm(spacing_mm)
        display.SetGlyphScalePercent(100)
        display.SetGlyphDisplayRangeMinMm(0.0)
        display.SetGlyphDisplayRangeMaxMm(1000.0)
        display.SetVisibility(True)
        display.SetVisibility2D(True)
        display.EndModify(modified)

    def legend(self) -> str:
        """What the colors mean, in words: mm by which a place is displaced."""
        colors = self._temporary.GetDisplayNode().GetColorNode() if self._temporary is not None else None
        function = colors.GetColorTransferFunction() if colors is not None else None
        if function is None:
            return ""
        values = [[0.0] * 6 for _n in range(function.GetSize())]
        for n, value in enumerate(values):
            function.GetNodeValue(n, value)
        steps = [_("{color} {mm:g}").format(color=_colorName(value[1:4]), mm=value[0]) for value in values]
        return _("Displacement: {steps} mm").format(steps=", ".join(steps)) if steps else ""

    def hide(self) -> None:
        """What was made here is removed."""
        made, temporary = self._made, self._temporary
        self._key, self._temporary, self._made = None, None, []
        for node in (*made, temporary):
            if node is not None and slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)


def _colorName(rgb) -> str:
    named = {
        _("gray"): (0.2, 0.2, 0.2),
        _("black"): (0, 0, 0),
        _("white"): (1, 1, 1),
        _("red"): (1, 0, 0),
        _("green"): (0, 1, 0),
        _("blue"): (0, 0, 1),
        _("yellow"): (1, 1, 0),
        _("cyan"): (0, 1, 1),
        _("magenta"): (1, 0, 1),
    }
    return min(named, key=lambda name: float(np.abs(np.subtract(named[name], rgb)).sum()))


def _addDisplay(transform) -> list:
    """Give it a display node with its colors, which are not saved; returns both."""
    transform.CreateDefaultDisplayNodes()
    display = transform.GetDisplayNode()
    display.SetDefaultColors()  # otherwise made when it is drawn, and left behind
    made = [display, display.GetColorNode()]
    for node in made:
        node.SetSaveWithScene(False)
    return made


def usefulSpacing(box: np.ndarray) -> float:
    """Spacing of grid lines (mm) for a box (2 x 3, RAS mm): about twenty over its longest side, 2, 5, 10, ... mm."""
    wanted = float((box[1] - box[0]).max()) / 22
    return float(min((1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 100), key=lambda step: abs(np.log(step / max(wanted, 0.1)))))
