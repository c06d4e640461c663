"""What the slice views show of a result, and putting them back as they were."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
from carlreg.spaces import apply_affine

from . import colors
from .geometry import arrayFrom, rasFromIjk

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
        slices[sliceNode.GetID()] = (arrayFrom(sliceNode.GetSliceToRAS()), tuple(sliceNode.GetFieldOfView()))
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
    for nodeId, (matrix, fieldOfView) in state.slices.items():
        sliceNode = scene.GetNodeByID(nodeId)
        if sliceNode is not None:
            for i in range(4):
                for j in range(4):
                    sliceNode.GetSliceToRAS().SetElement(i, j, matrix[i, j])
            sliceNode.SetFieldOfView(*fieldOfView)
            sliceNode.UpdateMatrices()


def showLayers(background, foreground, opacity: float = LAYER_OPACITY) -> None:
    """Background and foreground volumes (None: nothing) in all slice views."""
    for _slice, composite in sliceViews():
        composite.SetBackgroundVolumeID(background.GetID() if background is not None else None)
        composite.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
        composite.SetForegroundOpacity(opacity if foreground is not None else 0.0)


def fitTo(box: np.ndarray) -> None:
    """Center and zoom the slice views on a box: 2 x 3, lowest and highest corner, RAS mm."""
    center, extent = box.mean(axis=0), np.maximum(box[1] - box[0], 1.0)
    for sliceNode, _composite in sliceViews():
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
    "remember",
    "restore",
    "showLayers",
    "sliceViews",
    "styleJacobian",
]
