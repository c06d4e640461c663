"""The selectors of a slice view: which volumes it shows, as qMRMLSliceControllerWidget keeps them in step."""

import vtk

from .mrml_widgets import qMRMLNodeComboBox
from .signals import connect

_LAYERS = {
    "Background": "vtkMRMLVolumeNode",
    "Foreground": "vtkMRMLVolumeNode",
    "Label": "vtkMRMLLabelMapVolumeNode",
}


class SliceLists:
    """Libs/MRML/Widgets/qMRMLSliceControllerWidget.cxx: its three node selectors and the slice composite node.

    The selectors follow the composite node with blocked signals, but not while the scene is in batch processing; what
    is chosen in a selector, by a user or because its list was made anew, goes to the composite node. Hidden nodes are
    not listed: a view that shows one has "None" in its selector.
    """

    def __init__(self, scene, composite, priority=0.0):
        self._scene, self._composite = scene, composite
        self.selectors = {}
        for layer, node_type in _LAYERS.items():
            selector = qMRMLNodeComboBox()
            selector.noneEnabled = True
            selector.addEnabled = selector.removeEnabled = False
            selector._observer_priority = priority
            selector.setNodeTypes([node_type])
            was_blocked = selector.blockSignals(True)
            selector.setMRMLScene(scene)
            selector.blockSignals(was_blocked)
            connect(selector, "currentNodeChanged(vtkMRMLNode*)", lambda node, one=layer: self._on_selected(one, node))
            self.selectors[layer] = selector
        composite.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._update())
        scene.AddObserver(scene.EndBatchProcessEvent, lambda caller, event: self._update())
        self._update()

    def _update(self):
        if self._scene.IsBatchProcessing():
            return
        for layer, selector in self.selectors.items():
            was_blocked = selector.blockSignals(True)
            selector.setCurrentNodeID(getattr(self._composite, f"Get{layer}VolumeID")() or "")
            selector.blockSignals(was_blocked)

    def _on_selected(self, layer, node):
        getattr(self._composite, f"Set{layer}VolumeID")(node.GetID() if node is not None else None)
