"""What a transform can be applied to: the kinds of nodes, where they are listed from, and how they are described."""

from __future__ import annotations

import enum

import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..mrml import hierarchy
from ..mrml.sequences import frames, proxyOf


class Kind(enum.Enum):
    VOLUME = "volume"
    LABELS = "labels"
    SEGMENTATION = "segmentation"
    MARKUPS = "markups"
    MODEL = "model"
    SEQUENCE = "sequence"


_CLASSES = (
    ("vtkMRMLLabelMapVolumeNode", Kind.LABELS),
    ("vtkMRMLScalarVolumeNode", Kind.VOLUME),
    ("vtkMRMLSegmentationNode", Kind.SEGMENTATION),
    ("vtkMRMLMarkupsNode", Kind.MARKUPS),
    ("vtkMRMLModelNode", Kind.MODEL),
    ("vtkMRMLSequenceNode", Kind.SEQUENCE),
)
_LISTED = ("vtkMRMLVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLMarkupsNode", "vtkMRMLModelNode")


def kindOf(node) -> Kind | None:
    """What a node is to this section; None when a transform cannot be applied to it."""
    if _holdsDirections(node):
        return None
    kind = next((kind for name, kind in _CLASSES if node.IsA(name)), None)
    if kind is Kind.SEQUENCE:
        first = node.GetNthDataNode(0) if node.GetNumberOfDataNodes() else None
        return kind if first is not None and kindOf(first) not in (None, Kind.SEQUENCE) else None
    return kind


def _holdsDirections(node) -> bool:
    """True for voxels that would have to be turned with the transform, which is not done here; false for colors."""
    if not node.IsA("vtkMRMLTensorVolumeNode"):
        return False
    if not node.IsA("vtkMRMLVectorVolumeNode") or node.IsA("vtkMRMLDiffusionImageVolumeNode"):
        return True
    return node.GetVoxelVectorType() == slicer.vtkMRMLVolumeNode.VoxelVectorTypeSpatial


def sample(node):
    """The node itself; of a sequence the first frame with something in it (landmarks are not seen in every frame)."""
    if kindOf(node) is not Kind.SEQUENCE:
        return node
    found = frames(node)
    return next((frame for frame in found if not _isEmpty(frame, kindOf(frame))), found[0])


def candidates() -> list:
    """All nodes of the scene that a transform can be applied to, in the scene's order; a sequence for its frames."""
    sequences = [n for n in slicer.util.getNodesByClass("vtkMRMLSequenceNode") if kindOf(n) is not None]
    shown = {proxy.GetID() for proxy in map(proxyOf, sequences) if proxy is not None}
    nodes = [node for name in _LISTED for node in slicer.util.getNodesByClass(name)] + sequences
    wanted = {n.GetID() for n in nodes if not n.GetHideFromEditors() and n.GetID() not in shown}
    scene = slicer.mrmlScene
    ordered = (scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes()))
    return [node for node in ordered if node.GetID() in wanted and kindOf(node) is not None]


def together(node) -> list:
    """What can be applied to of the study that a node belongs to."""
    near = {one.GetID() for one in hierarchy.neighbors(node)}
    found = []
    for one in candidates():
        proxy = proxyOf(one) if kindOf(one) is Kind.SEQUENCE else None
        if one.GetID() in near or one is node or (proxy is not None and (proxy.GetID() in near or proxy is node)):
            found.append(one)
    return found


def kindName(node) -> str:
    kind = kindOf(node)
    if kind is Kind.MARKUPS:
        return node.GetMarkupType() if hasattr(node, "GetMarkupType") else _("Markups")
    return {
        Kind.VOLUME: _("Volume"),
        Kind.LABELS: _("Label map"),
        Kind.SEGMENTATION: _("Segmentation"),
        Kind.MODEL: _("Model"),
        Kind.SEQUENCE: _("Sequence"),
        None: node.GetNodeTagName(),
    }[kind]


def describe(node) -> str:
    """Size or number of what a node holds, and the transform it is under, in a few words."""
    kind = kindOf(node)
    if kind in (Kind.VOLUME, Kind.LABELS):
        image = node.GetImageData()
        parts = ["x".join(map(str, image.GetDimensions()))] if image is not None else [_("no voxels")]
    elif kind is Kind.SEGMENTATION:
        parts = [_("{count} segments").format(count=node.GetSegmentation().GetNumberOfSegments())]
    elif kind is Kind.MARKUPS:
        parts = [_("{count} points").format(count=node.GetNumberOfControlPoints())]
    elif kind is Kind.MODEL:
        mesh = node.GetMesh()
        parts = [_("{count} points").format(count=mesh.GetNumberOfPoints() if mesh is not None else 0)]
    else:
        parts = [_("{count} frames").format(count=node.GetNumberOfDataNodes())]
    placed = proxyOf(node) if kind is Kind.SEQUENCE else node
    parent = placed.GetParentTransformNode() if placed is not None else None
    if parent is not None:
        parts.append(_("under {name}").format(name=parent.GetName()))
    return ", ".join(parts)


def checkNode(node) -> Kind:
    """The node's kind. Raises RegistrationError when nothing can be done with it: unsupported, or empty."""
    kind = kindOf(node)
    name = node.GetName()
    if kind is None and node.IsA("vtkMRMLSequenceNode"):
        raise RegistrationError(
            _("{name}: the sequence has no frames that a transform can be applied to.").format(name=name)
        )
    if kind is None:
        raise RegistrationError(
            _(
                "{name}: a transform cannot be applied to a {kind} here. Choose volumes, label maps, segmentations, "
                "markups, models or sequences of these."
            ).format(name=name, kind=node.GetNodeTagName())
        )
    if kind is Kind.SEQUENCE:
        checkNode(sample(node))
        for frame in frames(node):
            if kindOf(frame) in (Kind.VOLUME, Kind.LABELS):
                checkNode(frame)
        return kind
    empty = {
        Kind.VOLUME: _("{name} has no voxels. Load it again, or uncheck it."),
        Kind.LABELS: _("{name} has no voxels. Load it again, or uncheck it."),
        Kind.SEGMENTATION: _("{name}: the segmentation is empty. Draw something in it, or uncheck it."),
        Kind.MARKUPS: _("{name} has no points. Place some, or uncheck it."),
        Kind.MODEL: _("{name} has no points. Load it again, or uncheck it."),
    }[kind]
    if _isEmpty(node, kind):
        raise RegistrationError(empty.format(name=name))
    return kind


def _isEmpty(node, kind: Kind | None) -> bool:
    if kind in (Kind.VOLUME, Kind.LABELS):
        image = node.GetImageData()
        return image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None
    if kind is Kind.MARKUPS:
        return node.GetNumberOfControlPoints() == 0
    if kind is Kind.MODEL:
        return node.GetMesh() is None or node.GetMesh().GetNumberOfPoints() == 0
    bounds = [0.0] * 6
    node.GetSegmentation().GetBounds(bounds)
    return node.GetSegmentation().GetNumberOfSegments() == 0 or any(bounds[n] > bounds[n + 1] for n in (0, 2, 4))


__all__ = [
    "Kind",
    "candidates",
    "checkNode",
    "describe",
    "kindName",
    "kindOf",
    "sample",
    "together",
]
