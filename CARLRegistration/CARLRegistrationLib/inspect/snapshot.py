"""The views as they were, to put them back: at once, or when a scene is loaded that was saved in between.

Slicer tells nobody that it is going to save a scene (`StartSaveEvent` is declared and never invoked). So what the views
showed before is kept in the parameter node for as long as they show something temporary.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import qt
import slicer

from ..mrml import views
from ..mrml.preview import giveBack

_COMPOSITE = (
    "ForegroundOpacity",
    "LabelOpacity",
    "LinkedControl",
    "HotLinkedControl",
    "Compositing",
    "ClipToBackgroundVolume",
)
_CROSSHAIR = ("CrosshairMode", "CrosshairBehavior", "CrosshairThickness")
_LAYERS = ("Background", "Foreground", "Label")
# In the parameter node: the rest as JSON, and the volumes as references, whose IDs Slicer changes where it must.
PARAMETER = "inspectFormerViews"
_ROLE = "inspectFormer"


@dataclass
class Snapshot:
    """Everything of the views that is changed here, to put it back.

    maximized: names of views that fill the layout. layers, composites: by composite node ID; slices: by slice node ID.
    """

    layout: int
    maximized: list[str] = field(default_factory=list)
    layers: dict = field(default_factory=dict)
    composites: dict = field(default_factory=dict)
    slices: dict = field(default_factory=dict)
    crosshair: dict = field(default_factory=dict)

    @classmethod
    def take(cls) -> Snapshot:
        """What the views show now, without a preview."""
        giveBack()
        manager = slicer.app.layoutManager()  # None where Slicer runs without a main window
        made = cls(manager.layout if manager is not None else -1, _maximized())
        for sliceNode, composite in views.sliceViews():
            made.layers[composite.GetID()] = tuple(getattr(composite, f"Get{one}VolumeID")() for one in _LAYERS)
            made.composites[composite.GetID()] = {name: getattr(composite, "Get" + name)() for name in _COMPOSITE}
            made.slices[sliceNode.GetID()] = views.placement(sliceNode)
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
            for layer, volumeId in zip(_LAYERS, self.layers[nodeId], strict=True):
                getattr(composite, f"Set{layer}VolumeID")(_ifThere(volumeId))
            for name, value in values.items():
                getattr(composite, "Set" + name)(value)
        views.placeAll(self.slices)
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
        if manager is not None:
            manager.setLayout(self.layout)
            showMaximized(self.maximized)

    # --- in the parameter node

    def keep(self, parameterNode) -> None:
        """Keep it with the scene."""
        scene = slicer.mrmlScene
        composites, slices, volumes = {}, {}, []
        for sliceNode, composite in views.sliceViews():
            name, nodeId = sliceNode.GetLayoutName(), composite.GetID()
            if nodeId in self.composites and sliceNode.GetID() in self.slices:
                matrix, *rest = self.slices[sliceNode.GetID()]
                composites[name], slices[name] = self.composites[nodeId], [matrix.tolist(), *rest]
                volumes.append(self.layers[nodeId])
        written = {
            "layout": self.layout,
            "maximized": self.maximized,
            "composites": composites,
            "slices": slices,
            "crosshair": self.crosshair,
        }
        with slicer.util.NodeModify(parameterNode):
            forget(parameterNode)
            parameterNode.SetParameter(PARAMETER, json.dumps(written))
            for number, ids in enumerate(volumes):
                for layer, volumeId in zip(_LAYERS, ids, strict=True):
                    if volumeId and scene.GetNodeByID(volumeId) is not None:
                        parameterNode.SetNodeReferenceID(f"{_ROLE}{layer}{number}", volumeId)

    @classmethod
    def kept(cls, parameterNode) -> Snapshot | None:
        """The one that is kept; None for none, or for one that cannot be read."""
        try:
            written = json.loads(parameterNode.GetParameter(PARAMETER) or "null")
            if not isinstance(written, dict):
                return None
            made = cls(int(written["layout"]), list(written["maximized"]), crosshair=dict(written["crosshair"]))
            there = {sliceNode.GetLayoutName(): (sliceNode, composite) for sliceNode, composite in views.sliceViews()}
            for number, (name, values) in enumerate(written["composites"].items()):
                if name in there:
                    sliceNode, composite = there[name]
                    roles = [f"{_ROLE}{layer}{number}" for layer in _LAYERS]
                    made.layers[composite.GetID()] = tuple(parameterNode.GetNodeReferenceID(role) for role in roles)
                    made.composites[composite.GetID()] = {key: values[key] for key in _COMPOSITE}
                    matrix, *rest = written["slices"][name]
                    made.slices[sliceNode.GetID()] = (np.array(matrix).reshape(4, 4), *map(_tupled, rest))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # of another version
            return None
        return made


def forget(parameterNode) -> None:
    """Nothing is kept with the scene any more."""
    with slicer.util.NodeModify(parameterNode):
        parameterNode.UnsetParameter(PARAMETER)
        roles = [parameterNode.GetNthNodeReferenceRole(n) for n in range(parameterNode.GetNumberOfNodeReferenceRoles())]
        for role in roles:
            if role.startswith(_ROLE):
                parameterNode.RemoveNodeReferenceIDs(role)


def restoreKept() -> None:
    """A scene was loaded: where it was saved while the views showed something temporary, they show what was before."""
    for parameterNode in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"):
        if not parameterNode.GetParameter(PARAMETER):
            continue
        former = Snapshot.kept(parameterNode)
        forget(parameterNode)
        if former is not None:
            former.restore()
            # Once more when all have seen the new scene: lists of nodes that are made anew let go of what they showed.
            qt.QTimer.singleShot(0, lambda node=parameterNode, one=former: _again(node, one))


def _again(parameterNode, former: Snapshot) -> None:
    if not parameterNode.GetParameter(PARAMETER):  # or the views show something temporary already
        former.restore()


def jumpTo(position) -> None:
    """Center the slice views on a point of the world (3, RAS mm), with the crosshair there."""
    for sliceNode in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        sliceNode.JumpSliceByCentering(*map(float, position))
    node = crosshairNode()
    if node is not None:
        node.SetCrosshairRAS(*map(float, position))


def crosshairNode():
    """The scene's, or None."""
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")


def _layoutNode():
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")


def _maximized() -> list[str]:
    """Names of the views that fill the layout for the time being (a double click on a view)."""
    node = _layoutNode()
    if node is None or not hasattr(node, "GetNumberOfMaximizedViewNodes"):
        return []
    found = [node.GetMaximizedViewNode(n) for n in range(node.GetNumberOfMaximizedViewNodes())]
    return [view.GetLayoutName() for view in found if view is not None]


def showMaximized(names: list[str]) -> None:
    """Let these views fill the layout, and no others."""
    node = _layoutNode()
    if node is None or _maximized() == names:
        return
    with slicer.util.NodeModify(node):
        node.RemoveAllMaximizedViewNodes()
        for view in slicer.util.getNodesByClass("vtkMRMLAbstractViewNode"):
            if view.GetLayoutName() in names:
                node.AddMaximizedViewNode(view)


def showLayout(layout: int) -> None:
    """A layout, with none of its views maximized; nothing where Slicer has no layout manager."""
    manager = slicer.app.layoutManager()
    if manager is not None:
        manager.setLayout(layout)
        showMaximized([])


def _ifThere(nodeId):
    return nodeId if nodeId and slicer.mrmlScene.GetNodeByID(nodeId) is not None else None


def _tupled(value):
    return tuple(value) if isinstance(value, list) else value
