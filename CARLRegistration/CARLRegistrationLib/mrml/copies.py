"""Nodes that are not, or not for long, in the scene: new ones, hidden ones, and stand-ins for inputs."""

from __future__ import annotations

from contextlib import contextmanager

import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
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
