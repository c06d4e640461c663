"""What the slice views show of a case: overlay, checkerboard, flicker, difference, side by side, layers, deformation.

The warped volume is a display copy of the moving volume (it shares the voxels) under a transform of its own, so the
views resample only what they show. All nodes made here are temporary, hidden and not saved; `leave` removes them and
puts the views back exactly as they were.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from ..mrml import colors, views
from ..mrml.copies import hidden
from ..mrml.display import copyDisplay, windowLevel
from ..mrml.geometry import arrayFrom, matrixFrom, rasFromIjk
from .case import Case, PartialMap, resampled

TEMPORARY = "CARLRegistration.Temporary"
# Above these the difference is shown at every second voxel first, and completely right after.
_PREVIEW_VOXELS = 3_000_000
_CT_LOWEST = -500.0
HOUNSFIELD = "HU"


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


# --- as it was -------------------------------------------------------------------------------------------------------

_COMPOSITE = (
    "ForegroundOpacity",
    "LabelOpacity",
    "LinkedControl",
    "HotLinkedControl",
    "Compositing",
    "ClipToBackgroundVolume",
)
_CROSSHAIR = ("CrosshairMode", "CrosshairBehavior", "CrosshairThickness")


@dataclass
class Snapshot:
    """Everything of the views that is changed here, to put it back."""

    layout: int
    layers: dict = field(default_factory=dict)
    composites: dict = field(default_factory=dict)
    slices: dict = field(default_factory=dict)
    crosshair: dict = field(default_factory=dict)

    @classmethod
    def take(cls) -> Snapshot:
        made = cls(slicer.app.layoutManager().layout)
        for sliceNode, composite in views.sliceViews():
            made.layers[composite.GetID()] = (
                composite.GetBackgroundVolumeID(),
                composite.GetForegroundVolumeID(),
                composite.GetLabelVolumeID(),
            )
            made.composites[composite.GetID()] = {name: getattr(composite, "Get" + name)() for name in _COMPOSITE}
            made.slices[sliceNode.GetID()] = _placement(sliceNode)
        node = _crosshairNode()
        if node is not None:
            made.crosshair = {name: getattr(node, "Get" + name)() for name in _CROSSHAIR}
            made.crosshair["CrosshairRAS"] = tuple(node.GetCrosshairRAS())
        return made

    def restore(self) -> None:
        """Views and volumes that are gone are left out."""
        self.restoreLayout()
        scene = slicer.mrmlScene
        for nodeId, values in self.composites.items():
            composite = scene.GetNodeByID(nodeId)
            if composite is None:
                continue
            background, foreground, label = (_ifThere(one) for one in self.layers[nodeId])
            composite.SetBackgroundVolumeID(background)
            composite.SetForegroundVolumeID(foreground)
            composite.SetLabelVolumeID(label)
            for name, value in values.items():
                getattr(composite, "Set" + name)(value)
        for nodeId, placement in self.slices.items():
            _place(scene.GetNodeByID(nodeId), placement)
        node = _crosshairNode()
        if node is not None and self.crosshair:
            for name in _CROSSHAIR:
                getattr(node, "Set" + name)(self.crosshair[name])
            node.SetCrosshairRAS(self.crosshair["CrosshairRAS"])

    def restoreClipping(self) -> None:
        for nodeId, values in self.composites.items():
            composite = slicer.mrmlScene.GetNodeByID(nodeId)
            if composite is not None:
                composite.SetClipToBackgroundVolume(values["ClipToBackgroundVolume"])

    def restoreLayout(self) -> None:
        manager = slicer.app.layoutManager()
        if manager.layout != self.layout:
            manager.setLayout(self.layout)


def _placement(sliceNode) -> tuple:
    return (
        arrayFrom(sliceNode.GetSliceToRAS()),
        tuple(sliceNode.GetFieldOfView()),
        tuple(sliceNode.GetXYZOrigin()),
        sliceNode.GetDefaultOrientation(),
    )


def _place(sliceNode, placement) -> None:
    if sliceNode is None:
        return
    matrix, fieldOfView, origin, orientation = placement
    sliceNode.GetSliceToRAS().DeepCopy(matrixFrom(matrix))
    sliceNode.SetFieldOfView(*fieldOfView)
    sliceNode.SetXYZOrigin(*origin)
    if orientation:
        sliceNode.SetDefaultOrientation(orientation)
    sliceNode.UpdateMatrices()


def _crosshairNode():
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")


def _ifThere(nodeId):
    return nodeId if nodeId and slicer.mrmlScene.GetNodeByID(nodeId) is not None else None


# --- the views -------------------------------------------------------------------------------------------------------


class InspectViews:
    """Shows a case in the slice views. `show` as often as wanted, then `leave`."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._case: Case | None = None
        self._map: PartialMap | None = None
        self._nodes: dict = {}
        self._windows: dict = {}
        self._share = None
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
    def showsFront(self) -> bool:
        """In flicker: whether the warped volume is shown at this moment."""
        return self._front

    def enter(self, case: Case) -> None:
        """Take a case; the views are remembered, linked and centered on the common part."""
        if self._case is not None and self._case != case:
            self._removeNodes()
        first = self._snapshot is None
        if first:
            self._snapshot = Snapshot.take()
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
            views.fitTo(self._case.commonBox())

    def show(self, mode: Mode, look: Look, layer=None) -> None:
        """Show a mode. layer: the volume node of JACOBIAN and UNCERTAINTY."""
        changed = mode is not self._mode
        self._flicker.stop()
        self._refine.stop()
        if changed and self._mode is Mode.SIDE_BY_SIDE:
            self._endSideBySide()
        if changed and self._mode is Mode.CHECKERBOARD:
            self._snapshot.restoreClipping()
        if changed:
            self._hideLegends()
        self._mode, self._look = mode, look
        if mode is not Mode.DIFFERENCE or look.share != self._share:
            self._step = 0
        self._warp(look.share)
        getattr(self, "_show_" + mode.name.lower())(layer)

    def deform(self, arrows: bool, spacing_mm: float, local: bool = True) -> None:
        """Draw the deformation over what is shown."""
        self.deformation.show(self._case, self._partial(), arrows, spacing_mm, local)

    def leave(self) -> None:
        """The views as they were; no timer runs, no temporary node is left."""
        self._flicker.stop()
        self._refine.stop()
        self.deformation.hide()
        self._hideLegends()
        if self._snapshot is not None:
            self._snapshot.restore()
        self._removeNodes()
        self._snapshot = self._case = self._mode = None

    # -- modes

    def _show_overlay(self, layer) -> None:
        if not self._look.redCyan:
            self._layers(self._case.fixed, self._warpedNode(), self._look.opacity)
            return
        # In the middle of the slider both are at full strength, so that what is equal is gray.
        red, cyan = self._tinted("fixed", "Red"), self._tinted("moving", "Cyan")
        strength = max(1e-3, min(1.0, 2.0 * (1.0 - self._look.opacity)))
        window = self._windows["fixed"] / strength
        red.GetDisplayNode().SetWindowLevel(window, window / 2)
        self._layers(red, cyan, min(1.0, 2.0 * self._look.opacity), slicer.vtkMRMLSliceCompositeNode.Add)

    def _show_checkerboard(self, layer) -> None:
        warped = self._warpedNode()
        for sliceNode, composite in views.sliceViews():
            composite.SetClipToBackgroundVolume(False)  # the fixed cells are seen where moving has nothing, too
            _compose(composite, warped, self._checkers(sliceNode, self._look.checkerMm), 1.0)

    def _show_flicker(self, layer) -> None:
        self._layers(self._case.fixed, self._warpedNode(), 1.0 if self._front else 0.0)
        self._flicker.start(max(1, round(1000 / self._look.flickerHz)))

    def _show_difference(self, layer) -> None:
        if self._step == 0:
            large = np.prod([float(n) for n in self._case.fixed.GetImageData().GetDimensions()]) > _PREVIEW_VOXELS
            self._makeDifference(2 if large else 1)
        node = self._nodes["difference"]
        self._layers(node, None, 0.0)
        colors.showLegend(node, True)

    def _show_side_by_side(self, layer) -> None:
        manager = slicer.app.layoutManager()
        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
        byName = {sliceNode.GetLayoutName(): (sliceNode, composite) for sliceNode, composite in views.sliceViews()}
        self.link(True)
        for name, volume in (("Red", self._case.fixed), ("Yellow", self._warpedNode())):
            if name not in byName:
                continue
            sliceNode, composite = byName[name]
            sliceNode.SetOrientation(self._look.plane)
            _compose(composite, volume, None, 0.0)
        self.center()
        node = _crosshairNode()
        if node is not None:
            node.SetCrosshairMode(node.ShowBasic)
            node.SetCrosshairBehavior(node.OffsetJumpSlice)
            node.SetCrosshairRAS(*self._case.commonBox().mean(axis=0).tolist())

    def _endSideBySide(self) -> None:
        self._snapshot.restoreLayout()
        for nodeId in self._snapshot.slices:
            sliceNode = slicer.mrmlScene.GetNodeByID(nodeId)
            if sliceNode is not None:
                matrix = self._snapshot.slices[nodeId][0]
                sliceNode.GetSliceToRAS().DeepCopy(matrixFrom(matrix))
                sliceNode.UpdateMatrices()
        node = _crosshairNode()
        if node is not None and self._snapshot.crosshair:
            node.SetCrosshairMode(self._snapshot.crosshair["CrosshairMode"])
            node.SetCrosshairBehavior(self._snapshot.crosshair["CrosshairBehavior"])
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
            self._remove(key)
            name = _("{name}, {title}").format(name=layer.GetName(), title=scale.title)
            node = self._volume(key, name, make(slicer.util.arrayFromVolume(layer)), layer)
            node.SetAttribute(TEMPORARY, layer.GetID())
            colors.style(node, scale, True)
        return node

    def _showLayer(self, node) -> None:
        self._hideLegends()
        self._layers(self._case.fixed, node, self._look.layerOpacity)
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

    def _layers(self, background, foreground, opacity: float, compositing=None) -> None:
        for _slice, composite in views.sliceViews():
            _compose(composite, background, foreground, opacity, compositing)

    def _warpedNode(self):
        if "warped" not in self._nodes:
            case = self._case
            name = _("{name} (warped, Inspect)").format(name=case.moving.GetName())
            node = self._sharing("warped", name, case.moving)
            transform = slicer.mrmlScene.CreateNodeByClass("vtkMRMLTransformNode")
            transform.UnRegister(None)
            transform.SetName(_("Inspect: share of the transform"))
            self._nodes["share"] = hidden(transform)
            node.SetAndObserveTransformNodeID(self._nodes["share"].GetID())
        return self._nodes["warped"]

    def _warp(self, share: float) -> None:
        self._warpedNode()
        if share != self._share:
            whole = share >= 1.0
            made = self._case.fullMap() if whole else self._partial().at(share)
            self._nodes["share"].SetAndObserveTransformFromParent(made)
            self._share = share

    def _partial(self) -> PartialMap:
        if self._map is None:
            self._map = PartialMap(self._case)
        return self._map

    def _tinted(self, side: str, color: str):
        """A copy in shades of one color whose black is 0, as which views show what lies outside a volume."""
        if side not in self._nodes:
            source = getattr(self._case, side)
            window, level = windowLevel(source)
            values = slicer.util.arrayFromVolume(source)
            black, (low, high) = round(level - window / 2), source.GetImageData().GetScalarRange()
            fits = values.dtype == np.int16 and min(black, low - black) >= -32768 and max(black, high - black) <= 32767
            values = values - np.int16(black) if fits else values.astype(np.float32) - np.float32(black)
            name = _("{name} ({color})").format(name=source.GetName(), color=color)
            node = self._volume(side, name, values, source)
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
        fixed = self._case.fixed
        values = slicer.util.arrayFromVolume(fixed)
        low, high = (float(x) for x in fixed.GetImageData().GetScalarRange())
        matrix = self._case.fixedMatrix()
        see = _cells(rasFromIjk(fixed) if matrix is None else matrix, values.shape, axes, cell_mm)
        # So far below that an interpolated edge is sharp to a thousandth of a voxel.
        hole = np.float32(low - 1000.0 * max(high - low, 1.0))
        shown = np.where(see, hole, values.astype(np.float32, copy=False))
        if key in self._nodes:
            slicer.util.updateVolumeFromArray(self._nodes[key], shown)
        else:
            node = self._volume(key, _("{name} (checkerboard)").format(name=fixed.GetName()), shown, fixed)
            copyDisplay(fixed, node, interpolation=True)
            node.GetDisplayNode().SetApplyThreshold(True)
            node.GetDisplayNode().SetThreshold(low - 1.0, high + 1.0)
        self._checkers_made[key] = made
        return self._nodes[key]

    def _makeDifference(self, step: int) -> None:
        case = self._case
        values, matrix = case.fixedInWorld()
        warped, inside, lattice = self._warpedLike(values, matrix, step)
        difference, unit = differenceOf(values[::step, ::step, ::step], warped, inside)
        half = 0.5 * windowLevel(case.fixed)[0] if unit == HOUNSFIELD else 50.0
        scale = colors.differenceScale(colors.niceAbove(half), unit)
        # Not in both: far below the threshold, so that nothing is shown there and its edge is sharp.
        np.clip(difference, -4.0 * scale.high, 4.0 * scale.high, out=difference)
        difference[~inside] = -1e4 * scale.high
        self._remove("difference")
        name = _("Difference, {moving} - {fixed}").format(moving=case.moving.GetName(), fixed=case.fixed.GetName())
        node = self._volume("difference", name, difference, None, lattice)
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
        case, whole = self._case, self._share >= 1.0
        partial = self._partial()
        through = partial.linear() if whole else partial.at(self._share)
        return resampled(case.moving, through, matrix, values.shape[::-1], step)

    def _onRefine(self) -> None:
        if self._mode is Mode.DIFFERENCE and self._step > 1:
            self._makeDifference(1)
            self._show_difference(None)

    def _sharing(self, key: str, name: str, source):
        """A display copy that shares another volume's voxels."""
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
        node.UnRegister(None)
        node.SetName(name)
        node.SetIJKToRASMatrix(matrixFrom(rasFromIjk(source)))
        node = hidden(node)
        _ownDisplay(node)
        node.SetAndObserveImageData(source.GetImageData())
        copyDisplay(source, node, interpolation=True)
        self._nodes[key] = node
        return node

    def _volume(self, key: str, name: str, values: np.ndarray, like, matrix=None):
        """A volume with values of its own, placed like another one, or by a 4 x 4 to the world."""
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
        node.UnRegister(None)
        node.SetName(name)
        node = hidden(node)
        node.SetIJKToRASMatrix(matrixFrom(rasFromIjk(like) if matrix is None else matrix))
        _ownDisplay(node)
        slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(values))
        if like is not None:
            node.SetAndObserveTransformNodeID(like.GetTransformNodeID())
        self._nodes[key] = node
        return node

    def _remove(self, key: str) -> None:
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

    def _removeNodes(self) -> None:
        for key in list(self._nodes):
            self._remove(key)
        self._checkers_made.clear()
        table = slicer.mrmlScene.GetFirstNodeByName("CARLRegistration difference")
        if table is not None:
            slicer.mrmlScene.RemoveNode(table)
        self._map = self._share = self._legendOf = None
        self._step = 0


def _cells(matrix: np.ndarray, shape, axes: np.ndarray, cell_mm: float) -> np.ndarray:
    """Bool, broadcastable to a volume (k, j, i): in every second cell of a checkerboard.

    Args: matrix: 4 x 4 of the voxels to the world. axes: 2 x 3, unit vectors along which cells alternate.
    """
    middle = matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    parity = 0
    for axis in axes:
        steps = axis @ matrix[:3, :3] / cell_mm
        at = np.full((1, 1, 1), -float(axis @ middle) / cell_mm)
        for n, place in enumerate(((1, 1, -1), (1, -1, 1), (-1, 1, 1))):
            if abs(steps[n]) > 1e-9:  # along the others nothing changes, and the array stays small
                at = at + (steps[n] * np.arange(shape[2 - n])).reshape(place)
        parity = parity + np.floor(at).astype(np.int32)
    return parity % 2 == 1


def differenceOf(fixed: np.ndarray, warped: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, str]:
    """Warped less fixed (float32, 0 outside) and its unit: intensities of CT as they are, others in % of the range."""
    if float(fixed.min()) < _CT_LOWEST and inside.any() and float(warped[inside].min()) < _CT_LOWEST:
        difference, unit = warped - fixed.astype(np.float32), HOUNSFIELD
    else:
        difference = _percent(warped, warped[inside]) - _percent(fixed, fixed)
        unit = _("% of the range")
    return np.where(inside, difference, np.float32(0.0)).astype(np.float32), unit


def _percent(values: np.ndarray, of: np.ndarray) -> np.ndarray:
    thinned = of.reshape(-1)[:: max(1, of.size // 200_000)]
    low, high = (float(x) for x in np.percentile(thinned, (1, 99))) if thinned.size else (0.0, 1.0)
    return ((values.astype(np.float32) - low) * (100.0 / max(high - low, 1e-6))).astype(np.float32)


def _compose(composite, background, foreground, opacity: float, compositing=None) -> None:
    composite.SetCompositing(slicer.vtkMRMLSliceCompositeNode.Alpha if compositing is None else compositing)
    composite.SetBackgroundVolumeID(background.GetID() if background is not None else None)
    composite.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
    composite.SetForegroundOpacity(opacity if foreground is not None else 0.0)


def _ownDisplay(node) -> None:
    """A display node that is not saved; made before there are voxels, whose histogram it would look at first."""
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    display.SetAutoWindowLevel(False)
    display.SetAutoThreshold(False)


# --- the deformation -------------------------------------------------------------------------------------------------


class Deformation:
    """Slicer's own display of transforms, switched on and put back.

    Of the whole transform, on its own display node; or of what is left beside the best affine, on a temporary one.
    """

    def __init__(self) -> None:
        self._key = None
        self._display = None
        self._former = None
        self._temporary = None

    @property
    def shown(self) -> bool:
        return self._key is not None

    def show(self, case: Case, partial: PartialMap, arrows: bool, spacing_mm: float, local: bool = True) -> None:
        """Grid lines or arrows in the slice views, at a spacing in mm. local: without the affine part."""
        key = (case.transform.GetID(), local)
        if self._key != key:
            self.hide()
            self._key = key
            if local:
                node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLTransformNode")
                node.UnRegister(None)
                node.SetName(_("Inspect: deformation of {name}").format(name=case.transform.GetName()))
                self._temporary = hidden(node)
                self._temporary.SetAndObserveTransformToParent(partial.local())
            transform = self._temporary if local else case.transform
            self._display = transform.GetDisplayNode()
            if self._display is not None:
                self._former = slicer.mrmlScene.CreateNodeByClass(self._display.GetClassName())
                self._former.UnRegister(None)
                self._former.CopyContent(self._display, True)
            else:
                transform.CreateDefaultDisplayNodes()
                self._display = transform.GetDisplayNode()
                self._display.SetSaveWithScene(False)
        display = self._display
        modified = display.StartModify()
        kind = slicer.vtkMRMLTransformDisplayNode
        display.SetVisualizationMode(kind.VIS_MODE_GLYPH if arrows else kind.VIS_MODE_GRID)
        display.SetGridSpacingMm(spacing_mm)
        display.SetGridResolutionMm(max(1.0, spacing_mm / 4))
        display.SetGridScalePercent(100)
        display.SetGlyphSpacingMm(spacing_mm)
        display.SetGlyphScalePercent(100)
        display.SetGlyphDisplayRangeMinMm(0.0)
        display.SetGlyphDisplayRangeMaxMm(1000.0)
        display.SetVisibility(True)
        display.SetVisibility2D(True)
        display.EndModify(modified)

    def hide(self) -> None:
        """The display of the transform as it was; what was made here is removed."""
        display, former, temporary = self._display, self._former, self._temporary
        self._key = self._display = self._former = self._temporary = None
        scene = slicer.mrmlScene
        if display is not None and scene.IsNodePresent(display):
            if former is not None:
                display.CopyContent(former, True)
            else:
                colors = display.GetColorNode()
                scene.RemoveNode(display)
                if colors is not None and not scene.GetNodesByClass("vtkMRMLTransformDisplayNode").GetNumberOfItems():
                    scene.RemoveNode(colors)
        if temporary is not None and scene.IsNodePresent(temporary):
            scene.RemoveNode(temporary)


def usefulSpacing(box: np.ndarray) -> float:
    """Spacing of grid lines (mm) for a box (2 x 3, RAS mm): about twenty over its longest side, 2, 5, 10, ... mm."""
    wanted = float((box[1] - box[0]).max()) / 22
    return float(min((1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 100), key=lambda step: abs(np.log(step / max(wanted, 0.1)))))


__all__ = ["Deformation", "InspectViews", "Look", "Mode", "Snapshot", "differenceOf", "usefulSpacing"]
