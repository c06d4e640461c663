"""The moving volume under a map that is not yet a result, in the slice views, and the views as they were afterwards.

What is shown is a hidden copy that shares the voxels: nothing of the user's nodes is changed, and Slicer resamples only
what the views show.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from . import views
from .copies import TemporaryNodes
from .geometry import arrayFrom

_MAP, _COPY = "map", "copy"
_previews: weakref.WeakSet = weakref.WeakSet()


class ViewPreview:
    """`show` as often as wanted, then `hide`, which does nothing where nothing is shown.

    Args: keep: called with True before the views are changed, and with False when they are as they were.
    """

    def __init__(self, keep: Callable[[bool], None] = lambda on: None) -> None:
        self._keep = keep
        self._nodes = TemporaryNodes()
        self._former: views.ViewState | None = None
        self._fitted = False
        _previews.add(self)

    @property
    def shown(self) -> bool:
        return self._former is not None

    def show(self, fixed, moving, fromFixed) -> None:
        """The moving volume in front of the fixed one, under a map of points of the world (vtkAbstractTransform, RAS).

        The first time both are put into all slice views, which are centered on the fixed volume where they show another
        place. After that the user's choices stay, and only the map changes.
        """
        if not all(slicer.mrmlScene.IsNodePresent(volume) for volume in (fixed, moving)):
            self.hide()
            return
        if not self.shown:
            self._keep(True)
            self._former = views.remember()
            transform = self._nodes.transform(_MAP, _("Preview"))
            copy = self._nodes.sharing(_COPY, _("{name} (preview)").format(name=moving.GetName()), moving)
            copy.SetAndObserveTransformNodeID(transform.GetID())
            views.showLayers(fixed, copy)
            box = boundsOf(fixed)
            self._fitted = not _isShown(box)
            if self._fitted:
                views.fitTo(box)
        self._nodes[_MAP].SetAndObserveTransformFromParent(_toOwnPoints(moving, fromFixed))

    def hide(self) -> None:
        """Put back the layers of the views that still show the preview, and the planes where they were moved."""
        former, self._former = self._former, None
        if former is None:
            return
        copy = self._nodes[_COPY].GetID()
        showing = [composite for _slice, composite in views.sliceViews() if composite.GetForegroundVolumeID() == copy]
        layers = {one.GetID(): former.layers[one.GetID()] for one in showing if one.GetID() in former.layers}
        for composite in showing:
            composite.SetForegroundVolumeID(None)
        views.restore(views.ViewState(layers, former.slices if self._fitted else {}))
        self._nodes.clear()
        self._keep(False)


def giveBack() -> None:
    """Hide every preview: something else is going to use the views, and to remember what they show."""
    for preview in list(_previews):
        preview.hide()


def boundsOf(volume) -> np.ndarray:
    """2 x 3, lowest and highest corner of a volume in the world, RAS mm."""
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    return np.array(bounds).reshape(3, 2).T


def _isShown(box: np.ndarray) -> bool:
    """Whether the middle of every slice view lies in a box."""
    middles = [arrayFrom(sliceNode.GetSliceToRAS())[:3, 3] for sliceNode, _composite in views.sliceViews()]
    return all(bool(np.all((box[0] <= middle) & (middle <= box[1]))) for middle in middles)


def _toOwnPoints(moving, fromFixed):
    """A map of points of the world as one to the moving volume's own points, below its parent transforms."""
    toOwn = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, moving.GetParentTransformNode(), toOwn)
    joined = vtk.vtkGeneralTransform()
    joined.PostMultiply()
    joined.Concatenate(fromFixed)
    joined.Concatenate(toOwn)
    return joined


__all__ = ["ViewPreview", "boundsOf", "giveBack"]
