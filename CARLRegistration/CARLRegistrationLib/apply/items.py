"""What is mapped one after the other: a node, or each frame of a sequence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import slicer

from ..mrml.sequences import frames, proxyOf
from .nodes import Kind, kindOf


@dataclass
class ResampleItem:
    """One node, or one frame of a sequence, and its files. source: node of the scene that it is, or that shows it.

    files: of a volume one, of a segmentation one for each layer. made: the node that it became, outside the scene.
    """

    source: Any
    frame: Any
    kind: Kind | None
    files: list[str] = field(default_factory=list)
    made: Any = None

    @property
    def placedBy(self):
        """The node whose place in the scene it has."""
        return shownBy(self.source)

    @property
    def labels(self) -> bool:
        return self.kind in (Kind.LABELS, Kind.SEGMENTATION)

    def isResampled(self) -> bool:
        """True for what has voxels; segments that are surfaces have none and are mapped point by point."""
        if self.kind is Kind.SEGMENTATION:
            return self.frame.GetSegmentation().GetSourceRepresentationName() == binaryLabelmap()
        return self.kind in (Kind.VOLUME, Kind.LABELS)


def itemsOf(node) -> list[ResampleItem]:
    """The node itself, or the frames of a sequence."""
    if kindOf(node) is Kind.SEQUENCE:
        return [ResampleItem(node, frame, kindOf(frame)) for frame in frames(node)]
    return [ResampleItem(node, node, kindOf(node))]


def shownBy(node):
    """The node that has a place in the scene: of a sequence the one that shows it, or its first frame."""
    if kindOf(node) is not Kind.SEQUENCE:
        return node
    return proxyOf(node) or node.GetNthDataNode(0)


def binaryLabelmap() -> str:
    """What Slicer calls segments that are voxels."""
    return slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
