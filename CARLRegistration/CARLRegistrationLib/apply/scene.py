"""What an application adds to the scene: new nodes and sequences, transforms to place nodes under, hardening."""

from __future__ import annotations

import json

import slicer
from slicer.i18n import tr as _

from ..mrml import hierarchy
from ..mrml.copies import newNode
from ..mrml.display import showLike
from ..mrml.sequences import browserOf, proxyOf
from ..mrml.transforms import flatTransform
from ..mrml.undo import Undo
from .choices import ApplyGrid, ApplyMethod
from .items import ResampleItem
from .job import ApplyJob, gridVolume
from .maps import MappingDirection, Placement
from .nodes import Kind, kindOf

SOURCE_ROLE, TRANSFORM_ROLE = "CARLRegistration.Source", "CARLRegistration.Transform"
ATTRIBUTE = "CARLRegistration.Applied"


def addResults(job: ApplyJob, mapping: MappingDirection, items: list[ResampleItem]) -> list:
    """Add what was made of each node; returns (node, what was made of it)."""
    made = []
    for node in job.nodes:
        mine = [item for item in items if item.source is node]
        if kindOf(node) is Kind.SEQUENCE:
            new = _addSequence(job, mapping, node, mine)
        else:
            new = _add(job, mapping, mine[0].made, node)
        made.append((node, new))
    return made


def _add(job: ApplyJob, mapping: MappingDirection, made, node):
    """A finished node into the scene, beside the one it was made of and with its looks."""
    made.SetName(_name(job, mapping, node))
    made = slicer.mrmlScene.AddNode(made)
    if made.IsA("vtkMRMLSegmentationNode"):
        grid = gridVolume(job, mapping)
        if grid is not None:
            made.SetReferenceImageGeometryParameterFromVolumeNode(grid)
    showLike(made, node)
    _remember(job, made, node)
    hierarchy.addImage(made, node, mapping.sides.target or gridVolume(job, mapping))
    return made


def _addSequence(job: ApplyJob, mapping: MappingDirection, sequence, items: list[ResampleItem]):
    made = newNode("vtkMRMLSequenceNode")
    made.SetName(_name(job, mapping, sequence))
    made.SetIndexType(sequence.GetIndexType())
    made.SetIndexName(sequence.GetIndexName())
    made.SetIndexUnit(sequence.GetIndexUnit())
    made.SetNumericIndexValueTolerance(sequence.GetNumericIndexValueTolerance())
    made = slicer.mrmlScene.AddNode(made)
    for n, item in enumerate(items):
        item.made.SetName(item.frame.GetName())
        made.SetDataNodeAtValue(item.made, sequence.GetNthIndexValue(n))
        item.made = None
    _remember(job, made, sequence)
    hierarchy.placeBeside(made, sequence)
    browser, proxy = browserOf(sequence), proxyOf(sequence)
    if browser is None:
        browser = slicer.mrmlScene.AddNewNodeByClass(
            "vtkMRMLSequenceBrowserNode", unique(_("{name} browser").format(name=made.GetName()))
        )
        browser.SetAndObserveMasterSequenceNodeID(made.GetID())
    else:
        browser.AddSynchronizedSequenceNode(made.GetID())
    shown = browser.GetProxyNode(made)
    if shown is not None:
        showLike(shown, proxy)
        hierarchy.addImage(shown, proxy or sequence, mapping.sides.target or gridVolume(job, mapping))
    return made


def _name(job: ApplyJob, mapping: MappingDirection, node) -> str:
    target = mapping.sides.target
    if job.method is ApplyMethod.RESAMPLE and job.grid is ApplyGrid.REFERENCE:
        target = target or job.reference
    if target is None:
        name = _("{name} by {transform}").format(name=node.GetName(), transform=job.transform.GetName())
    else:
        name = _("{name} in {target}").format(name=node.GetName(), target=target.GetName())
    return unique(name)


def _remember(job: ApplyJob, made, node) -> None:
    """What was done, on the node itself."""
    made.SetNodeReferenceID(SOURCE_ROLE, node.GetID())
    made.SetNodeReferenceID(TRANSFORM_ROLE, job.transform.GetID())
    said = {"transform": job.transform.GetName(), "direction": job.direction.value, "method": job.method.value}
    if job.method is ApplyMethod.RESAMPLE:
        said |= {"interpolation": job.interpolation.value, "grid": job.grid.value}
        said |= {"massPreserving": job.massPreserving}
    made.SetAttribute(ATTRIBUTE, json.dumps(said))


def addInverse(mapping: MappingDirection, undo: Undo):
    """A node that leads the other way than the chosen transform."""
    transform = mapping.transform
    node = flatTransform(mapping.map(), mapping.matrix)
    node.SetName(unique(_("{name} (inverse)").format(name=transform.GetName())))
    node = slicer.mrmlScene.AddNode(node)
    undo.isNew(node)
    source, target = mapping.sides.source, mapping.sides.target
    if source is not None and target is not None:
        hierarchy.addTransform(node, target, source)
    else:
        hierarchy.placeBeside(node, transform)
    return node


def addOwnPlace(shown, acting, undo: Undo):
    """What a node is under already, as one transform under the one that acts; others that are there stay."""
    placed = Placement(shown, acting)
    node = flatTransform(placed.toWorld, placed.linear)
    names = {"parent": shown.GetParentTransformNode().GetName(), "transform": acting.GetName()}
    node.SetName(unique(_("{parent} under {transform}").format(**names)))
    node = slicer.mrmlScene.AddNode(node)
    undo.isNew(node)
    node.SetAndObserveTransformNodeID(acting.GetID())
    hierarchy.placeBeside(node, acting)
    return node


def harden(node, matrix, general) -> None:
    """Slicer's own hardening: volumes ask the transform that they are under for the box that they need."""
    under = flatTransform(general, matrix)
    under.SetHideFromEditors(True)
    under.SetSaveWithScene(False)
    under = slicer.mrmlScene.AddNode(under)
    try:
        node.SetAndObserveTransformNodeID(under.GetID())
        node.HardenTransform()
    finally:
        node.SetAndObserveTransformNodeID(None)
        slicer.mrmlScene.RemoveNode(under)


def unique(name: str) -> str:
    """The name itself where it is free."""
    if slicer.mrmlScene.GetFirstNodeByName(name) is None:
        return name
    return slicer.mrmlScene.GenerateUniqueName(name)
