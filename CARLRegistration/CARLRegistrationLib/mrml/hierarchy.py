"""Where nodes stand in Slicer's subject hierarchy: patient, study, and the DICOM identifiers that exports look for.

SlicerRT offers to export a transform as a DICOM spatial registration when its item's data node refers to the fixed and
the moving volume; when it reads one it takes the volume of the same study for the fixed one, and the other for the
moving one (SlicerRT, DicomSroImportExport). So a transform stands beside its fixed volume, and names both volumes'
instances.
"""

from __future__ import annotations

import slicer
import vtk


def _tree():
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def _names():
    return slicer.vtkMRMLSubjectHierarchyConstants


def itemOf(node) -> int:
    """The node's item; 0 when it has none."""
    tree = _tree()
    return tree.GetItemByDataNode(node) if tree is not None and node is not None else 0


def placeBeside(node, other) -> None:
    """Put a node of the scene where another one stands: in its study, or folder. Where it was put already, it stays."""
    tree = _tree()
    if tree is None:
        return
    there = itemOf(other)
    parent = tree.GetItemParent(there) if there else tree.GetSceneItemID()
    item = itemOf(node)
    if not item:
        tree.CreateItem(parent, node)
    elif tree.GetItemParent(item) == tree.GetSceneItemID():
        tree.SetItemParent(item, parent)


def placeInFolder(nodes, name: str) -> None:
    """Put nodes of the scene into the folder of this name at the top; a new one where there is none."""
    tree = _tree()
    if tree is None:
        return
    top = tree.GetSceneItemID()
    folder = tree.GetItemChildWithName(top, name) or tree.CreateFolderItem(top, name)
    for node in nodes:
        item = itemOf(node)
        if item:
            tree.SetItemParent(item, folder)
        else:
            tree.CreateItem(folder, node)


def forget(node) -> None:
    """Take a node's item away; what stands below it moves up. To be called before the node is removed."""
    tree, item = _tree(), itemOf(node)
    if item:
        tree.RemoveItem(item, False, False)


def neighbors(node) -> list:
    """The nodes of the same study (without one: of the same folder), the node itself among them."""
    tree, item = _tree(), itemOf(node)
    if not item:
        return []
    branch = tree.GetItemAncestorAtLevel(item, _names().GetDICOMLevelStudy()) or tree.GetItemParent(item)
    if not branch or branch == tree.GetSceneItemID():
        return []
    found = vtk.vtkIdList()
    tree.GetItemChildren(branch, found, True)
    nodes = [tree.GetItemDataNode(found.GetId(n)) for n in range(found.GetNumberOfIds())]
    return [one for one in nodes if one is not None]


def frameOfReference(node) -> str:
    """The DICOM frame of reference of a node, "" where it is not known."""
    item = itemOf(node)
    if not item:
        return ""
    name = _names().GetDICOMFrameOfReferenceUIDAttributeName()
    return _tree().GetItemUID(item, name) or _tree().GetItemAttribute(item, name) or ""


def instances(node) -> str:
    """The DICOM instance UIDs of a node's series, with blanks between, "" where they are not known."""
    item = itemOf(node)
    return (_tree().GetItemUID(item, _names().GetDICOMInstanceUIDName()) or "") if item else ""


def describe(node, space=None, sources=()) -> None:
    """Say in which DICOM frame of reference a node lies, and which series it was made of.

    Args: space: volume whose space it is in. sources: volumes that it refers to. Nothing is said of what is unknown.
    The node gets no series UID of its own: that belongs to files, and is made when they are exported.
    """
    item = itemOf(node)
    if not item:
        return
    tree, names = _tree(), _names()
    frame = frameOfReference(space)
    if frame:
        name = names.GetDICOMFrameOfReferenceUIDAttributeName()
        tree.SetItemUID(item, name, frame)
        tree.SetItemAttribute(item, name, frame)
    known = " ".join(filter(None, (instances(one) for one in sources)))
    if known:
        tree.SetItemAttribute(item, names.GetDICOMReferencedInstanceUIDsAttributeName(), known)


def keepModality(node, source) -> None:
    """Give a volume the modality of the series it was made of, for the default values of a DICOM export."""
    item, there = itemOf(node), itemOf(source)
    name = _names().GetDICOMSeriesModalityAttributeName()
    if item and there and _tree().GetItemAttribute(there, name):
        _tree().SetItemAttribute(item, name, _tree().GetItemAttribute(there, name))


def addTransform(node, fixed, moving) -> None:
    """Where a transform from fixed to moving points stands, and what it refers to."""
    kind = slicer.vtkMRMLTransformNode
    node.SetNodeReferenceID(kind.GetFixedNodeReferenceRole(), fixed.GetID())
    node.SetNodeReferenceID(kind.GetMovingNodeReferenceRole(), moving.GetID())
    placeBeside(node, fixed)
    describe(node, fixed, (fixed, moving))


def addImage(node, source, space) -> None:
    """Where a volume (or what else belongs to a series) stands that was made of `source`, in the space of `space`."""
    placeBeside(node, source)
    describe(node, space, (source,))
    keepModality(node, source)


__all__ = [
    "addImage",
    "addTransform",
    "describe",
    "forget",
    "frameOfReference",
    "instances",
    "itemOf",
    "keepModality",
    "neighbors",
    "placeBeside",
    "placeInFolder",
]
