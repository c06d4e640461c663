"""The controls of the masks: a segmentation or label map for each, and which of its segments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

# With them the rigid segments, of which one may be the reference.
_RIGID = "rigidSegmentation"
_MASKS = ("fixedMask", "movingMask", "fixedIgnore", "movingIgnore", _RIGID)


class MaskControls:
    """Args: ui: of the panel. editable: the parameter node, or None while the panel writes into its controls itself."""

    def __init__(self, ui, editable: Callable[[], Any]) -> None:
        self._ui = ui
        self._editable = editable
        for name in _MASKS:
            selector = getattr(ui, f"{name}Selector")
            selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node, n=name: self._onMask(n, node))
            self._segments(name).connect("currentIndexChanged(int)", lambda index, n=name: self._onSegment(n, index))

    def show(self, parameters) -> None:
        """Show what is chosen."""
        for name in _MASKS:
            mask = getattr(parameters, name)
            getattr(self._ui, f"{name}Selector").setCurrentNode(mask)
            first, each = (
                (_("No reference"), _("Relative to {name}")) if name == _RIGID else (_("All segments"), "{name}")
            )
            self._fill(self._segments(name), mask, getattr(parameters, f"{name}Segment"), first, each)

    def _segments(self, name: str):
        return getattr(self._ui, f"{name}SegmentComboBox")

    def _onMask(self, name: str, node) -> None:
        parameters = self._editable()
        if parameters is not None and node is not getattr(parameters, name):
            with slicer.util.NodeModify(parameters):
                setattr(parameters, name, node)
                setattr(parameters, f"{name}Segment", "")

    def _onSegment(self, name: str, index: int) -> None:
        parameters, chosen = self._editable(), f"{name}Segment"
        if parameters is None or index < 0:
            return
        value = self._segments(name).itemData(index) or ""
        if getattr(parameters, chosen) != value:
            setattr(parameters, chosen, value)

    def _fill(self, box, mask, chosen: str, first: str, each: str) -> None:
        entries = [(first, "")]
        if mask is not None and mask.IsA("vtkMRMLSegmentationNode"):
            segmentation = mask.GetSegmentation()
            for index in range(segmentation.GetNumberOfSegments()):
                segmentId = segmentation.GetNthSegmentID(index)
                entries.append((each.format(name=segmentation.GetSegment(segmentId).GetName()), segmentId))
        present = [(box.itemText(i), box.itemData(i)) for i in range(box.count)]
        if present != entries:
            box.clear()
            for name, segmentId in entries:
                box.addItem(name, segmentId)
        box.visible = len(entries) > 1
        box.currentIndex = max(0, box.findData(chosen))


__all__ = ["MaskControls"]
