"""What the slice views show of a result, and putting them back as they were."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
from carlreg.spaces import apply_affine

from . import colors
from .geometry import arrayFrom, matrixFrom, rasFromIjk
from .sizes import placed

LAYER_OPACITY = 0.5


@dataclass(frozen=True)
class ViewState:
    """What each slice view showed: layers of the composite nodes, placement of the slice nodes."""

    layers: dict
    slices: dict


def sliceViews() -> list[tuple]:
    """(slice node, its composite node) of every slice view."""
    composites = {node.GetLayoutName(): node for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")}
    found = []
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        if node.GetLayoutName() in composites:
            found.append((node, composites[node.GetLayoutName()]))
    return found


def remember() -> ViewState:
    """The state of the slice views now."""
    layers, slices = {}, {}
    for sliceNode, composite in sliceViews():
        layers[composite.GetID()] = (
            composite.GetBackgroundVolumeID(),
            composite.GetForegroundVolumeID(),
            composite.GetLabelVolumeID(),
            composite.GetForegroundOpacity(),
        )
        slices[sliceNode.GetID()] = placement(sliceNode)
    return ViewState(layers, slices)


def restore(state: ViewState) -> None:
    """Put the slice views back; views and volumes that are gone are left out."""
    scene = slicer.mrmlScene
    for nodeId, (background, foreground, label, opacity) in state.layers.items():
        composite = scene.GetNodeByID(nodeId)
        if composite is not None:
            composite.SetBackgroundVolumeID(_ifThere(background))
            composite.SetForegroundVolumeID(_ifThere(foreground))
            composite.SetLabelVolumeID(_ifThere(label))
            composite.SetForegroundOpacity(opacity)
    placeAll(state.slices)


def showLayers(background, foreground, opacity: float = LAYER_OPACITY) -> None:
    """Background and foreground volumes (None: nothing) in all slice views."""
    for _slice, composite in sliceViews():
        composite.SetBackgroundVolumeID(background.GetID() if background is not None else None)
        composite.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
        composite.SetForegroundOpacity(opacity if foreground is not None else 0.0)


def placement(sliceNode) -> tuple:
    """How a slice view is placed, for `place`."""
    return (
        arrayFrom(sliceNode.GetSliceToRAS()),
        tuple(sliceNode.GetFieldOfView()),
        tuple(sliceNode.GetXYZOrigin()),
        sliceNode.GetDefaultOrientation(),
        tuple(sliceNode.GetDimensions()[:2]),
    )


def place(sliceNode, how: tuple) -> None:
    """As it was; in a view of another size as high as it was, and as wide as the view."""
    matrix, fieldOfView, origin, orientation, size = how
    width, height = sliceNode.GetDimensions()[:2]
    across = fieldOfView[0] if (width, height) == size else fieldOfView[1] * width / max(1, height)
    sliceNode.GetSliceToRAS().DeepCopy(matrixFrom(matrix))
    sliceNode.SetFieldOfView(across, *fieldOfView[1:])
    sliceNode.SetXYZOrigin(*origin)
    if orientation:
        sliceNode.SetDefaultOrientation(orientation)
    sliceNode.UpdateMatrices()


def placeAll(placements: dict) -> None:
    """By slice node ID; again when the views get their sizes. Those that are gone are left out."""
    nodes = [slicer.mrmlScene.GetNodeByID(nodeId) for nodeId in placements]
    placed.place([node for node in nodes if node is not None], lambda node: place(node, placements[node.GetID()]))


def middle() -> np.ndarray:
    """The point (3, RAS mm) in which the planes of the slice views meet, nearest to their middles."""
    planes = [arrayFrom(sliceNode.GetSliceToRAS()) for sliceNode, _composite in sliceViews()]
    center = np.mean([plane[:3, 3] for plane in planes], axis=0)
    normals = np.array([plane[:3, 2] for plane in planes])
    offsets = np.array([plane[:3, 2] @ (plane[:3, 3] - center) for plane in planes])
    return center + np.linalg.lstsq(normals, offsets, rcond=None)[0]


def fitTo(box: np.ndarray) -> None:
    """Center and zoom the slice views on a box: 2 x 3, lowest and highest corner, RAS mm; in their later sizes, too."""
    placed.place([sliceNode for sliceNode, _composite in sliceViews()], lambda sliceNode: _fit(sliceNode, box))


def _fit(sliceNode, box: np.ndarray) -> None:
    center, extent = box.mean(axis=0), np.maximum(box[1] - box[0], 1.0)
    axes = np.abs(arrayFrom(sliceNode.GetSliceToRAS())[:3, :3])
    across, up = float(extent @ axes[:, 0]) * 1.1, float(extent @ axes[:, 1]) * 1.1
    width, height = (max(1, n) for n in sliceNode.GetDimensions()[:2])
    scale = max(across / width, up / height)
    sliceNode.SetFieldOfView(scale * width, scale * height, sliceNode.GetFieldOfView()[2])
    sliceNode.SetSliceOrigin(0, 0, 0)
    sliceNode.JumpSliceByCentering(*center.tolist())


def commonBox(fixed, warped) -> np.ndarray:
    """Box (2 x 3, RAS mm, world) around what fixed and warped both show; the fixed volume where that is nothing.

    Both are on one grid, except where the fixed volume had to be resampled: then the warped volume's content decides.
    """
    values = slicer.util.arrayFromVolume(warped)
    shown = values > values.min()
    fixedValues = slicer.util.arrayFromVolume(fixed)
    if fixedValues.shape == values.shape:
        shown &= fixedValues > fixedValues.min()
    if not shown.any():
        bounds = [0.0] * 6
        fixed.GetRASBounds(bounds)
        return np.array(bounds).reshape(3, 2).T
    ranges = [np.flatnonzero(shown.any(axis=tuple(a for a in range(3) if a != axis)))[[0, -1]] for axis in (2, 1, 0)]
    corners = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    matrix = rasFromIjk(warped)
    points = apply_affine(matrix, corners)
    return np.stack([points.min(axis=0), points.max(axis=0)])


# --- Jacobian --------------------------------------------------------------------------------------------------------


def styleJacobian(node) -> None:
    """Colors, range and legend for a Jacobian volume."""
    colors.style(node, colors.determinantScale())


def _ifThere(nodeId: str | None) -> str | None:
    return nodeId if nodeId and slicer.mrmlScene.GetNodeByID(nodeId) is not None else None


__all__ = [
    "ViewState",
    "commonBox",
    "fitTo",
    "place",
    "placeAll",
    "placement",
    "remember",
    "restore",
    "showLayers",
    "sliceViews",
    "styleJacobian",
]
