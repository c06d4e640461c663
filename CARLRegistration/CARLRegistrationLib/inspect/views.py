"""What the slice views show of a case: overlay, checkerboard, flicker, difference, side by side, layers, deformation.

The warped volume is a display copy of the moving volume (it shares the voxels) under a transform of its own, so the
views resample only what they show. All nodes made here are temporary, hidden and not saved; `leave` removes them and
puts the views back exactly as they were.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..mrml import colors, views
from ..mrml.copies import TEMPORARY, TemporaryNodes
from ..mrml.display import copyDisplay, windowLevel
from ..mrml.geometry import arrayFrom, matrixFrom, rasFromIjk
from .case import Case
from .comparisons import HOUNSFIELD, checkerCells, differenceOf
from .deformation import Deformation
from .layers import Layers
from .partial import PartialMap, resampled
from .snapshot import Snapshot, crosshairNode, showLayout

# Above these the difference is shown at every second voxel first, and completely right after.
_PREVIEW_VOXELS = 3_000_000


class Mode(enum.Enum):
    OVERLAY = "overlay"
    CHECKERBOARD = "checkerboard"
    FLICKER = "flicker"
    DIFFERENCE = "difference"
    SIDE_BY_SIDE = "side by side"
    JACOBIAN = "jacobian"
    UNCERTAINTY = "uncertainty"


@dataclass(frozen=True)
class Look:
    """How a mode is shown. share: of the transform, 0 to 1. plane: of side by side."""

    opacity: float = 0.5
    layerOpacity: float = 0.5
    redCyan: bool = False
    checkerMm: float = 30.0
    flickerHz: float = 2.0
    share: float = 1.0
    log: bool = True
    plane: str = "Axial"


class InspectViews:
    """Shows a case in the slice views. `show` as often as wanted, then `leave`.

    Args: keep: called with the views as they were before the first change, and with None when they are put back.
    """

    def __init__(self, keep: Callable[[Snapshot | None], None] = lambda snapshot: None) -> None:
        self._keep = keep
        self._snapshot: Snapshot | None = None
        self._case: Case | None = None
        self._map: PartialMap | None = None
        self._nodes = TemporaryNodes()
        self._layers = Layers()
        self._windows: dict = {}
        self._share = -1.0  # of the transform in the views; none yet
        self._look = Look()
        self._mode: Mode | None = None
        self._checkers_made: dict = {}
        self._step = 0  # of the difference in the views
        self._front = True
        self._flicker = qt.QTimer()
        self._flicker.connect("timeout()", self._onFlicker)
        self._refine = qt.QTimer()
        self._refine.setSingleShot(True)
        self._refine.setInterval(150)
        self._refine.connect("timeout()", self._onRefine)
        self.deformation = Deformation()

    @property
    def active(self) -> bool:
        return self._snapshot is not None

    @property
    def mode(self) -> Mode | None:
        return self._mode

    @property
    def case(self) -> Case:
        """What is shown. Raises RegistrationError for nothing."""
        if self._case is None:
            raise RegistrationError(_("Choose a transform, or register first."))
        return self._case

    @property
    def _former(self) -> Snapshot:
        if self._snapshot is None:
            self._snapshot = Snapshot.take()
            self._keep(self._snapshot)
        return self._snapshot

    def enter(self, case: Case) -> None:
        """Take a case; the views are remembered, linked and centered on the common part."""
        if self._case is not None and self._case != case:
            self._removeNodes()
        first = self._snapshot is None
        _ = self._former  # taken now
        if self._case != case:
            self._case = case
            self.center()
        if first:
            self.link(True)

    def link(self, linked: bool) -> None:
        for _slice, composite in views.sliceViews():
            composite.SetLinkedControl(linked)

    def center(self) -> None:
        """Center and zoom on what both volumes show."""
        if self._case is not None:
            views.fitTo(self.case.commonBox())

    def show(self, mode: Mode, look: Look, layer=None) -> None:
        """Show a mode. layer: the volume node of JACOBIAN and UNCERTAINTY."""
        changed = mode is not self._mode
        self._flicker.stop()
        self._refine.stop()
        if changed and self._mode is Mode.SIDE_BY_SIDE:
            self._endSideBySide()
        if changed and self._mode is Mode.CHECKERBOARD:
            self._former.restoreClipping()
        if changed:
            self._hideLegends()
        self._mode, self._look = mode, look
        if mode is not Mode.DIFFERENCE or look.share != self._share:
            self._step = 0
        self._warp(look.share)
        getattr(self, "_show_" + mode.name.lower())(layer)

    def deform(self, arrows: bool, spacing_mm: float, local: bool = True) -> None:
        """Draw the deformation over what is shown."""
        self.deformation.show(self.case, self._partial(), arrows, spacing_mm, local)

    def renew(self) -> None:
        """The transform has changed: what was made of it goes, and `show` makes it anew."""
        self.deformation.hide()
        self._removeNodes()

    def leave(self) -> None:
        """The views as they were; no timer runs, no temporary node is left."""
        self._flicker.stop()
        self._refine.stop()
        self.deformation.hide()
        self._hideLegends()
        if self._snapshot is not None:
            self._layers.clear()
            self._snapshot.restore()
            self._keep(None)
        self._removeNodes()
        self._snapshot = self._case = self._mode = None

    # -- modes

    def _show_overlay(self, layer) -> None:
        if not self._look.redCyan:
            self._layers.showAll(self.case.fixed, self._warpedNode(), self._look.opacity)
            return
        # In the middle of the slider both are at full strength, so that what is equal is gray.
        red, cyan = self._tinted("fixed", "Red"), self._tinted("moving", "Cyan")
        strength = max(1e-3, min(1.0, 2.0 * (1.0 - self._look.opacity)))
        window = self._windows["fixed"] / strength
        red.GetDisplayNode().SetWindowLevel(window, window / 2)
        self._layers.showAll(red, cyan, min(1.0, 2.0 * self._look.opacity), slicer.vtkMRMLSliceCompositeNode.Add)

    def _show_checkerboard(self, layer) -> None:
        warped = self._warpedNode()
        for sliceNode, composite in views.sliceViews():
            composite.SetClipToBackgroundVolume(False)  # the fixed cells are seen where moving has nothing, too
            self._layers.show(composite, warped, self._checkers(sliceNode, self._look.checkerMm), 1.0)

    def _show_flicker(self, layer) -> None:
        self._layers.showAll(self.case.fixed, self._warpedNode(), 1.0 if self._front else 0.0)
        self._flicker.start(max(1, round(1000 / self._look.flickerHz)))

    def _show_difference(self, layer) -> None:
        if self._step == 0:
            large = np.prod([float(n) for n in self.case.fixed.GetImageData().GetDimensions()]) > _PREVIEW_VOXELS
            self._makeDifference(2 if large else 1)
        node = self._nodes["difference"]
        self._layers.showAll(node, None, 0.0)
        colors.showLegend(node, True)

    def _show_side_by_side(self, layer) -> None:
        showLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
        byName = {sliceNode.GetLayoutName(): (sliceNode, composite) for sliceNode, composite in views.sliceViews()}
        self.link(True)
        for name, volume in (("Red", self.case.fixed), ("Yellow", self._warpedNode())):
            if name not in byName:
                continue
            sliceNode, composite = byName[name]
            sliceNode.SetOrientation(self._look.plane)
            self._layers.show(composite, volume, None, 0.0)
        node = crosshairNode()
        if node is not None:
            node.SetCrosshairMode(node.ShowBasic)
            node.SetCrosshairBehavior(node.OffsetJumpSlice)
            node.SetCrosshairRAS(*self.case.commonBox().mean(axis=0).tolist())
        self.center()  # last: what moves the views afterwards is the user

    def _endSideBySide(self) -> None:
        self._former.restoreLayout()
        for nodeId in self._former.slices:
            sliceNode = slicer.mrmlScene.GetNodeByID(nodeId)
            if sliceNode is not None:
                matrix = self._former.slices[nodeId][0]
                sliceNode.GetSliceToRAS().DeepCopy(matrixFrom(matrix))
                sliceNode.UpdateMatrices()
        node = crosshairNode()
        if node is not None and self._former.crosshair:
            node.SetCrosshairMode(self._former.crosshair["CrosshairMode"])
            node.SetCrosshairBehavior(self._former.crosshair["CrosshairBehavior"])
        self.center()

    def _show_jacobian(self, layer) -> None:
        scale = colors.logScale() if self._look.log else colors.determinantScale()
        make = colors.logLayer if self._look.log else colors.determinantLayer
        self._showLayer(self._displayed("log" if self._look.log else "determinant", layer, scale, make))

    def _show_uncertainty(self, layer) -> None:
        scale = colors.uncertaintyScale(colors.uncertaintyRange(layer))
        self._showLayer(self._displayed("uncertainty", layer, scale, lambda v: colors.striped(v, scale)))

    def _displayed(self, key: str, layer, scale, make):
        """A copy of a layer for display, made once."""
        node = self._nodes.get(key)
        if node is None or node.GetAttribute(TEMPORARY) != layer.GetID():
            self._nodes.remove(key)
            name = _("{name}, {title}").format(name=layer.GetName(), title=scale.title)
            node = self._nodes.volume(key, name, make(slicer.util.arrayFromVolume(layer)), layer)
            node.SetAttribute(TEMPORARY, layer.GetID())
            colors.style(node, scale, True)
        return node

    def _showLayer(self, node) -> None:
        self._hideLegends()
        self._layers.showAll(self.case.fixed, node, self._look.layerOpacity)
        colors.showLegend(node, True)  # last: the legend looks for a view that shows its volume
        self._legendOf = node

    _legendOf = None

    def _hideLegends(self) -> None:
        for node in (self._legendOf, self._nodes.get("difference")):
            if node is not None and slicer.mrmlScene.IsNodePresent(node):
                colors.showLegend(node, False)
        self._legendOf = None

    def _onFlicker(self) -> None:
        self._front = not self._front
        for _slice, composite in views.sliceViews():
            composite.SetForegroundOpacity(1.0 if self._front else 0.0)

    # -- nodes

    def _warpedNode(self):
        if "warped" not in self._nodes:
            case = self.case
            name = _("{name} (warped, Inspect)").format(name=case.moving.GetName())
            node = self._nodes.sharing("warped", name, case.moving)
            transform = self._nodes.transform("share", _("Inspect: share of the transform"))
            node.SetAndObserveTransformNodeID(transform.GetID())
        return self._nodes["warped"]

    def _warp(self, share: float) -> None:
        self._warpedNode()
        if share != self._share:
            whole = share >= 1.0
            made = self.case.fullMap() if whole else self._partial().at(share)
            self._nodes["share"].SetAndObserveTransformFromParent(made)
            self._share = share

    def _partial(self) -> PartialMap:
        if self._map is None:
            self._map = PartialMap(self.case)
        return self._map

    def _tinted(self, side: str, color: str):
        """A copy in shades of one color whose black is 0, as which views show what lies outside a volume."""
        if side not in self._nodes:
            source = getattr(self.case, side)
            window, level = windowLevel(source)
            values = slicer.util.arrayFromVolume(source)
            black, (low, high) = round(level - window / 2), source.GetImageData().GetScalarRange()
            fits = values.dtype == np.int16 and min(black, low - black) >= -32768 and max(black, high - black) <= 32767
            values = values - np.int16(black) if fits else values.astype(np.float32) - np.float32(black)
            name = _("{name} ({color})").format(name=source.GetName(), color=color)
            node = self._nodes.volume(side, name, values, source)
            if side == "moving":
                node.SetAndObserveTransformNodeID(self._nodes["share"].GetID())
            node.GetDisplayNode().SetWindowLevel(window, window / 2)
            node.GetDisplayNode().SetAndObserveColorNodeID(f"vtkMRMLColorTableNode{color}")
            self._windows[side] = window
        return self._nodes[side]

    def _checkers(self, sliceNode, cell_mm: float):
        """The fixed volume with every second cell far below its threshold, so that what lies behind is seen there.

        Cells are columns along a view's normal: across it nothing alternates, so no slice falls between two layers.
        """
        key = f"checkers {sliceNode.GetLayoutName()}"
        axes = arrayFrom(sliceNode.GetSliceToRAS())[:3, :2].T
        made = (cell_mm, axes.round(6).tolist())
        if key in self._nodes and self._checkers_made.get(key) == made:
            return self._nodes[key]
        fixed = self.case.fixed
        values = slicer.util.arrayFromVolume(fixed)
        low, high = (float(x) for x in fixed.GetImageData().GetScalarRange())
        matrix = self.case.fixedMatrix()
        see = checkerCells(rasFromIjk(fixed) if matrix is None else matrix, values.shape, axes, cell_mm)
        # So far below that an interpolated edge is sharp to a thousandth of a voxel.
        hole = np.float32(low - 1000.0 * max(high - low, 1.0))
        shown = np.where(see, hole, values.astype(np.float32, copy=False))
        if key in self._nodes:
            slicer.util.updateVolumeFromArray(self._nodes[key], shown)
        else:
            node = self._nodes.volume(key, _("{name} (checkerboard)").format(name=fixed.GetName()), shown, fixed)
            copyDisplay(fixed, node, interpolation=True)
            node.GetDisplayNode().SetApplyThreshold(True)
            node.GetDisplayNode().SetThreshold(low - 1.0, high + 1.0)
        self._checkers_made[key] = made
        return self._nodes[key]

    def _makeDifference(self, step: int) -> None:
        case = self.case
        values, matrix = case.fixedInWorld()
        warped, inside, lattice = self._warpedLike(values, matrix, step)
        difference, unit = differenceOf(values[::step, ::step, ::step], warped, inside)
        half = 0.5 * windowLevel(case.fixed)[0] if unit == HOUNSFIELD else 50.0
        scale = colors.differenceScale(colors.niceAbove(half), unit)
        # Not in both: far below the threshold, so that nothing is shown there and its edge is sharp.
        np.clip(difference, -4.0 * scale.high, 4.0 * scale.high, out=difference)
        difference[~inside] = -1e4 * scale.high
        self._nodes.remove("difference")
        name = _("Difference, {moving} - {fixed}").format(moving=case.moving.GetName(), fixed=case.fixed.GetName())
        node = self._nodes.volume("difference", name, difference, None, lattice)
        colors.style(node, scale, True)
        display = node.GetDisplayNode()
        display.SetInterpolate(True)
        display.SetApplyThreshold(True)
        display.SetThreshold(-4.1 * scale.high, 4.1 * scale.high)
        self._step = step
        if step > 1:
            self._refine.start()

    def _warpedLike(self, values: np.ndarray, matrix: np.ndarray, step: int):
        """The moving volume on the fixed grid at every n-th voxel, as far warped as is shown: see `resampled`."""
        case, whole = self.case, self._share >= 1.0
        partial = self._partial()
        through = partial.linear() if whole else partial.at(self._share)
        return resampled(case.moving, through, matrix, values.shape[::-1], step)

    def _onRefine(self) -> None:
        if self._mode is Mode.DIFFERENCE and self._step > 1:
            self._makeDifference(1)
            self._show_difference(None)

    def _removeNodes(self) -> None:
        self._nodes.clear()
        self._checkers_made.clear()
        table = slicer.mrmlScene.GetFirstNodeByName("CARLRegistration difference")
        if table is not None:
            slicer.mrmlScene.RemoveNode(table)
        self._map = self._legendOf = None
        self._share = -1.0
        self._step = 0


__all__ = ["InspectViews", "Look", "Mode"]
