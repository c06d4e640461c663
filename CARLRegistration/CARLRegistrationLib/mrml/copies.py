"""Nodes that are not, or not for long, in the scene: new ones, hidden ones, and stand-ins for inputs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from .display import copyDisplay
from .geometry import matrixFrom, parents, rasFromIjk

TEMPORARY = "CARLRegistration.Temporary"


def newNode(className: str):
    """A node that is not in the scene yet."""
    node = slicer.mrmlScene.CreateNodeByClass(className)
    node.UnRegister(None)
    return node


def hidden(node):
    """Add a node that is neither listed nor saved."""
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetAttribute(TEMPORARY, "1")
    return slicer.mrmlScene.AddNode(node)


@contextmanager
def withoutTransform(node, transform):
    """The node itself, or, when it is placed under the transform already, a temporary copy that is not."""
    above = parents(node)
    if transform not in above:
        yield node
        return
    copy = newNode(node.GetClassName())
    copy.SetHideFromEditors(True)
    copy.SetSaveWithScene(False)
    copy.SetName(node.GetName())
    copy = slicer.mrmlScene.AddNode(copy)
    try:
        if node.IsA("vtkMRMLSegmentationNode"):
            copy.GetSegmentation().DeepCopy(node.GetSegmentation())
        else:
            copy.SetAndObserveImageData(node.GetImageData())
            copy.SetIJKToRASMatrix(matrixFrom(rasFromIjk(node)))
        below = above[: above.index(transform)]
        if len(below) > 1:
            raise RegistrationError(
                _("{name} is under several transforms and {transform}. Harden them, or take it out of them.").format(
                    name=node.GetName(), transform=transform.GetName()
                )
            )
        if below:  # its own parent goes up to the transform: a copy of it stands alone
            alone = slicer.mrmlScene.AddNode(_copyOfTransform(below[0]))
            copy.SetAndObserveTransformNodeID(alone.GetID())
        yield copy
    finally:
        alone = copy.GetParentTransformNode()
        slicer.mrmlScene.RemoveNode(copy)
        if alone is not None:
            slicer.mrmlScene.RemoveNode(alone)


def _copyOfTransform(node):
    copy = newNode(node.GetClassName())
    copy.CopyContent(node, True)
    copy.SetHideFromEditors(True)
    copy.SetSaveWithScene(False)
    return copy


class TemporaryNodes:
    """Hidden nodes by name of their purpose: neither listed nor saved, and gone when they are cleared."""

    def __init__(self) -> None:
        self._nodes: dict[str, Any] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._nodes

    def __getitem__(self, key: str):
        return self._nodes[key]

    def get(self, key: str):
        return self._nodes.get(key)

    def transform(self, key: str, name: str):
        """A new transform node."""
        node = newNode("vtkMRMLTransformNode")
        node.SetName(name)
        self._nodes[key] = hidden(node)
        return self._nodes[key]

    def sharing(self, key: str, name: str, source):
        """A new volume that shares another's voxels, and looks like it."""
        node = self._newVolume(key, name, rasFromIjk(source))
        node.SetAndObserveImageData(source.GetImageData())
        copyDisplay(source, node, interpolation=True)
        return node

    def volume(self, key: str, name: str, values: np.ndarray, like, matrix: np.ndarray | None = None):
        """A new volume with values of its own, placed like another one, or by a 4 x 4 to the world (like: None)."""
        node = self._newVolume(key, name, rasFromIjk(like) if matrix is None else matrix)
        slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(values))
        if like is not None:
            node.SetAndObserveTransformNodeID(like.GetTransformNodeID())
        return node

    def remove(self, key: str) -> None:
        """With its display nodes; nothing where it is not there."""
        node = self._nodes.pop(key, None)
        if node is None:
            return
        displays = []
        if node.IsA("vtkMRMLDisplayableNode"):
            displays = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
        displays.sort(key=lambda one: one is None or not one.IsA("vtkMRMLColorLegendDisplayNode"))  # it needs the rest
        for one in (*displays, node):
            if one is not None and slicer.mrmlScene.IsNodePresent(one):
                slicer.mrmlScene.RemoveNode(one)

    def clear(self) -> None:
        for key in list(self._nodes):
            self.remove(key)

    def _newVolume(self, key: str, name: str, matrix: np.ndarray):
        node = newNode("vtkMRMLScalarVolumeNode")
        node.SetName(name)
        node.SetIJKToRASMatrix(matrixFrom(matrix))
        node = hidden(node)
        # A display node that is not saved; made before there are voxels, whose histogram it would look at first.
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetSaveWithScene(False)
        display.SetAutoWindowLevel(False)
        display.SetAutoThreshold(False)
        self._nodes[key] = node
        return node
