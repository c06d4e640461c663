"""The controls of the masks: a segmentation or label map for each side, and which of its segments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

_SIDES = ("fixed", "moving")


class MaskControls:
    """Args: ui: of the panel. editable: the parameter node, or None while the panel writes into its controls itself."""

    def __init__(self, ui, editable: Callable[[], Any]) -> None:
        self._ui = ui
        self._editable = editable
        for side in _SIDES:
            selector = getattr(ui, f"{side}MaskSelector")
            selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node, s=side: self._onMask(s, node))
            self._segments(side).connect("currentIndexChanged(int)", lambda index, s=side: self._onSegment(s, index))

    def show(self, parameters) -> None:
        """Show what is chosen."""
        for side in _SIDES:
            mask = getattr(parameters, f"{side}Mask")
            getattr(self._ui, f"{side}MaskSelector").setCurrentNode(mask)
            self._fill(self._segments(side), mask, getattr(parameters, f"{side}MaskSegment"))

    def _segments(self, side: str):
        return getattr(self._ui, f"{side}MaskSegmentComboBox")

    def _onMask(self, side: str, node) -> None:
        parameters = self._editable()
        if parameters is not None and node is not getattr(parameters, f"{side}Mask"):
            with slicer.util.NodeModify(parameters):
                setattr(parameters, f"{side}Mask", node)
                setattr(parameters, f"{side}MaskSegment", "")

    def _onSegment(self, side: str, index: int) -> None:
        parameters, name = self._editable(), f"{side}MaskSegment"
        if parameters is None or index < 0:
            return
        value = self._segments(side).itemData(index) or ""
        if getattr(parameters, name) != value:
            setattr(parameters, name, value)

    def _fill(self, box, mask, chosen: str) -> None:
        entries = [(_("All segments"), "")]
        if mask is not None and mask.IsA("vtkMRMLSegmentationNode"):
            segmentation = mask.GetSegmentation()
            for index in range(segmentation.GetNumberOfSegments()):
                segmentId = segmentation.GetNthSegmentID(index)
                entries.append((segmentation.GetSegment(segmentId).GetName(), segmentId))
        present = [(box.itemText(i), box.itemData(i)) for i in range(box.count)]
        if present != entries:
            box.clear()
            for name, segmentId in entries:
                box.addItem(name, segmentId)
        box.visible = len(entries) > 1
        box.currentIndex = max(0, box.findData(chosen))


__all__ = ["MaskControls"]
