"""The views as they were, to put them back."""

from __future__ import annotations

from dataclasses import dataclass, field

import slicer

from ..mrml import views
from ..mrml.geometry import arrayFrom, matrixFrom

_COMPOSITE = (
    "ForegroundOpacity",
    "LabelOpacity",
    "LinkedControl",
    "HotLinkedControl",
    "Compositing",
    "ClipToBackgroundVolume",
)
_CROSSHAIR = ("CrosshairMode", "CrosshairBehavior", "CrosshairThickness")


@dataclass
class Snapshot:
    """Everything of the views that is changed here, to put it back."""

    layout: int
    layers: dict = field(default_factory=dict)
    composites: dict = field(default_factory=dict)
    slices: dict = field(default_factory=dict)
    crosshair: dict = field(default_factory=dict)

    @classmethod
    def take(cls) -> Snapshot:
        made = cls(slicer.app.layoutManager().layout)
        for sliceNode, composite in views.sliceViews():
            made.layers[composite.GetID()] = (
                composite.GetBackgroundVolumeID(),
                composite.GetForegroundVolumeID(),
                composite.GetLabelVolumeID(),
            )
            made.composites[composite.GetID()] = {name: getattr(composite, "Get" + name)() for name in _COMPOSITE}
            made.slices[sliceNode.GetID()] = _placement(sliceNode)
        node = crosshairNode()
        if node is not None:
            made.crosshair = {name: getattr(node, "Get" + name)() for name in _CROSSHAIR}
            made.crosshair["CrosshairRAS"] = tuple(node.GetCrosshairRAS())
        return made

    def restore(self) -> None:
        """Views and volumes that are gone are left out."""
        self.restoreLayout()
        scene = slicer.mrmlScene
        for nodeId, values in self.composites.items():
            composite = scene.GetNodeByID(nodeId)
            if composite is None:
                continue
            background, foreground, label = (_ifThere(one) for one in self.layers[nodeId])
            composite.SetBackgroundVolumeID(background)
            composite.SetForegroundVolumeID(foreground)
            composite.SetLabelVolumeID(label)
            for name, value in values.items():
                getattr(composite, "Set" + name)(value)
        for nodeId, placement in self.slices.items():
            _place(scene.GetNodeByID(nodeId), placement)
        node = crosshairNode()
        if node is not None and self.crosshair:
            for name in _CROSSHAIR:
                getattr(node, "Set" + name)(self.crosshair[name])
            node.SetCrosshairRAS(self.crosshair["CrosshairRAS"])

    def restoreClipping(self) -> None:
        for nodeId, values in self.composites.items():
            composite = slicer.mrmlScene.GetNodeByID(nodeId)
            if composite is not None:
                composite.SetClipToBackgroundVolume(values["ClipToBackgroundVolume"])

    def restoreLayout(self) -> None:
        manager = slicer.app.layoutManager()
        if manager.layout != self.layout:
            manager.setLayout(self.layout)


def _placement(sliceNode) -> tuple:
    return (
        arrayFrom(sliceNode.GetSliceToRAS()),
        tuple(sliceNode.GetFieldOfView()),
        tuple(sliceNode.GetXYZOrigin()),
        sliceNode.GetDefaultOrientation(),
    )


def _place(sliceNode, placement) -> None:
    if sliceNode is None:
        return
    matrix, fieldOfView, origin, orientation = placement
    sliceNode.GetSliceToRAS().DeepCopy(matrixFrom(matrix))
    sliceNode.SetFieldOfView(*fieldOfView)
    sliceNode.SetXYZOrigin(*origin)
    if orientation:
        sliceNode.SetDefaultOrientation(orientation)
    sliceNode.UpdateMatrices()


def crosshairNode():
    """The scene's, or None."""
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")


def _ifThere(nodeId):
    return nodeId if nodeId and slicer.mrmlScene.GetNodeByID(nodeId) is not None else None
