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
    """Slicer's own display of transforms, switched on and put back.

    Of the whole transform, on its own display node; or of what is left beside the best affine, on a temporary one.
    """

    def __init__(self) -> None:
        self._key = None
        self._display: Any = None
        self._former: Any = None
        self._temporary: Any = None

    @property
    def shown(self) -> bool:
        return self._key is not None

    def show(self, case: Case, partial: PartialMap, arrows: bool, spacing_mm: float, local: bool = True) -> None:
        """Grid lines or arrows in the slice views, at a spacing in mm. local: without the affine part."""
        key = (case.transform.GetID(), local)
        if self._key != key:
            self.hide()
            self._key = key
            if local:
                node = newNode("vtkMRMLTransformNode")
                node.SetName(_("Inspect: deformation of {name}").format(name=case.transform.GetName()))
                self._temporary = hidden(node)
                self._temporary.SetAndObserveTransformToParent(partial.local())
            transform = self._temporary if local else case.transform
            self._display = transform.GetDisplayNode()
            if self._display is not None:
                self._former = newNode(self._display.GetClassName())
                self._former.CopyContent(self._display, True)
            else:
                transform.CreateDefaultDisplayNodes()
                self._display = transform.GetDisplayNode()
                self._display.SetSaveWithScene(False)
        display = self._display
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

    def hide(self) -> None:
        """The display of the transform as it was; what was made here is removed."""
        display, former, temporary = self._display, self._former, self._temporary
        self._key = self._display = self._former = self._temporary = None
        scene = slicer.mrmlScene
        if display is not None and scene.IsNodePresent(display):
            if former is not None:
                display.CopyContent(former, True)
            else:
                colors = display.GetColorNode()
                scene.RemoveNode(display)
                if colors is not None and not scene.GetNodesByClass("vtkMRMLTransformDisplayNode").GetNumberOfItems():
                    scene.RemoveNode(colors)
        if temporary is not None and scene.IsNodePresent(temporary):
            scene.RemoveNode(temporary)


def usefulSpacing(box: np.ndarray) -> float:
    """Spacing of grid lines (mm) for a box (2 x 3, RAS mm): about twenty over its longest side, 2, 5, 10, ... mm."""
    wanted = float((box[1] - box[0]).max()) / 22
    return float(min((1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 100), key=lambda step: abs(np.log(step / max(wanted, 0.1)))))
