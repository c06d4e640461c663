"""What was changed in the scene, to take it back."""

from __future__ import annotations

import slicer

from . import hierarchy
from .copies import newNode
from .sequences import browserOf

#: What a result's transform refers to.
OUTPUT_KINDS = ("inverse_transform", "warped", "jacobian", "uncertainty")


def outputRole(kind: str) -> str:
    return f"CARLRegistration.{kind}"


class Undo:
    """Takes back what was done to the scene.

    New nodes go (`isNew`), nodes that were filled get their content back (`willFill`), and nodes that were placed their
    parent (`willPlace`). All that comes into the scene between `begin` and `end` goes, too: display nodes, proxies of
    sequences. No events may be handled in between: what a user adds meanwhile would count.
    """

    def __init__(self) -> None:
        self._new: list[str] = []
        self._filled: list[tuple] = []
        self._placed: list[tuple] = []
        self._before: set[str] | None = None
        self._came: list[str] = []

    def isNew(self, node) -> None:
        self._new.append(node.GetID())

    def willFill(self, node) -> None:
        backup = newNode(node.GetClassName())
        backup.CopyContent(node, True)
        references = {role: node.GetNodeReferenceID(role) for role in _referenceRoles(node)}
        self._filled.append((node.GetID(), backup, node.GetTransformNodeID(), references, _called(node)))

    def willPlace(self, node) -> None:
        self._placed.append((node.GetID(), node.GetTransformNodeID()))

    def begin(self) -> None:
        self._before = set(_allIds())

    def end(self) -> None:
        if self._before is not None:
            self._came = [one for one in _allIds() if one not in self._before]
            self._before = None

    def apply(self) -> None:
        """Take it back; a second time nothing is left to do."""
        self.end()
        scene = slicer.mrmlScene
        came = [scene.GetNodeByID(one) for one in self._came]
        came = [node for node in came if node is not None]
        for node in came:
            if node.IsA("vtkMRMLSequenceNode"):
                _leaveBrowser(node)
        # What was placed under a transform that came along is taken out first.
        for nodeId, parentId in self._placed:
            node = scene.GetNodeByID(nodeId)
            if node is not None:
                node.SetAndObserveTransformNodeID(parentId)
        for nodeId, backup, parentId, references, called in self._filled:
            node = scene.GetNodeByID(nodeId)
            if node is not None:
                node.CopyContent(backup, True)
                node.SetAndObserveTransformNodeID(parentId)
                for role, reference in references.items():
                    node.SetNodeReferenceID(role, reference)
                _call(node, called)
        new = [scene.GetNodeByID(one) for one in self._new]
        # Browsers first: they would make new nodes for the sequences that they show.
        came.sort(key=lambda node: not node.IsA("vtkMRMLSequenceBrowserNode"))
        for node in (*new, *came):
            if node is not None and scene.IsNodePresent(node):
                hierarchy.forget(node)
                scene.RemoveNode(node)
        self._new, self._filled, self._placed, self._came = [], [], [], []


def _leaveBrowser(sequence) -> None:
    browser = browserOf(sequence)
    if browser is not None and browser.GetMasterSequenceNode() is not sequence:
        browser.RemoveSynchronizedSequenceNode(sequence.GetID())


def _called(node) -> tuple[str, dict]:
    """Name and attributes of a node, which its content does not hold."""
    return node.GetName(), {name: node.GetAttribute(name) for name in node.GetAttributeNames()}


def _call(node, called: tuple[str, dict]) -> None:
    name, attributes = called
    node.SetName(name)
    for one in node.GetAttributeNames():
        if one not in attributes:
            node.RemoveAttribute(one)
    for one, value in attributes.items():
        node.SetAttribute(one, value)


def _referenceRoles(node) -> list[str]:
    if not node.IsA("vtkMRMLTransformNode"):
        return []
    kind = slicer.vtkMRMLTransformNode
    sides = [kind.GetFixedNodeReferenceRole(), kind.GetMovingNodeReferenceRole()]
    return [*sides, *map(outputRole, OUTPUT_KINDS)]


def _allIds() -> list[str]:
    scene = slicer.mrmlScene
    return [scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())]
