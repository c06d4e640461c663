"""The Inspect section of the panel: which button shows what, of the last result or of anything chosen."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..common.notices import breakable, notice
from ..mrml import views
from ..mrml.sizes import placed
from .case import Case
from .deformation import usefulSpacing
from .doubtful_controls import DoubtfulControls
from .figures import FiguresSection
from .folds import FoldsControls
from .jacobian import MadeJacobian
from .mend_controls import MendControls
from .metrics import showChart
from .mode_controls import BUTTONS, WARPS, lookOf, showMode
from .readout import CursorLine, textAt
from .snapshot import Snapshot, crosshairNode, forget, jumpTo, showLayout
from .views import InspectViews, Mode

_POLL_MS = 150
_CHOSEN = {
    "inspectFixed": "fixed",
    "inspectMoving": "moving",
    "inspectTransform": "transform",
    "inspectUncertainty": "uncertainty",
    "inspectFixedSegmentation": "fixedSegmentation",
    "inspectMovingSegmentation": "movingSegmentation",
    "inspectFixedPoints": "fixedPoints",
    "inspectMovingPoints": "movingPoints",
}


class InspectPanel(FiguresSection):
    """Wires the section.

    Args: parent: widget whose layout takes it. python: called for the engine's Python, None for Slicer's own.
        mender: see MendControls.
    """

    def __init__(self, parent, python, mender) -> None:
        super().__init__(parent, "CARLRegistrationInspect.ui", python, _POLL_MS)
        self.views = InspectViews(self._keep)
        self._changed = False  # the last result's transform, by somebody else
        self._unchecked = False  # what is compared did not make sense when it was last to be shown
        self._jacobian = MadeJacobian()
        self._folds = FoldsControls(self.ui)
        self._cursor = CursorLine(self.ui.cursorLabel, self.textAt)
        self.mending = MendControls(
            self.ui,
            mender,
            lambda: self._result if self._ofResult() else None,
            self._sideBySide,
            self._choose,
            self._renew,
        )
        self.doubtful = DoubtfulControls(
            self.ui, lambda mode: None if self.views.active else self._show(mode), self._jacobianNode
        )
        self._connect()
        self._showMode(None)
        self._showFigures(None)
        self._folds.show(None, self._case.fixedSegmentation)

    def _connect(self) -> None:
        ui = self.ui
        for mode, name in BUTTONS.items():
            getattr(ui, name).connect("clicked(bool)", lambda checked, m=mode: self.onMode(m, checked))
        ui.inspectOffButton.connect("clicked(bool)", lambda checked: self.leave())
        ui.inspectCollapsibleButton.connect("contentsCollapsed(bool)", self._onCollapsed)
        ui.lastResultButton.connect("clicked(bool)", lambda checked: self.chooseResult())
        for name in ("opacitySlider", "checkerSlider", "flickerSlider", "shareSlider"):
            getattr(ui, name).connect("valueChanged(double)", lambda value: self._update())
        for name in ("mixingComboBox", "planeComboBox", "scaleComboBox"):
            getattr(ui, name).connect("currentIndexChanged(int)", lambda index: self._update())
        ui.beforeButton.connect("clicked(bool)", lambda checked: setattr(ui.shareSlider, "value", 0))
        ui.afterButton.connect("clicked(bool)", lambda checked: setattr(ui.shareSlider, "value", 100))
        ui.linkCheckBox.connect("toggled(bool)", lambda on: self.views.link(on) if self.views.active else None)
        ui.centerButton.connect("clicked(bool)", lambda checked: self._guarded(self.views.center))
        ui.deformationComboBox.connect("currentIndexChanged(int)", lambda index: self._guarded(self._deform))
        ui.deformationSpacingSpinBox.connect("valueChanged(double)", lambda value: self._guarded(self._deform))
        ui.deformationLocalCheckBox.connect("toggled(bool)", lambda on: self._guarded(self._deform))
        ui.chartButton.connect("clicked(bool)", lambda checked: self.showChart())

    # --- what is compared

    def _letGo(self) -> None:
        self.leave()
        self.mending.stop()
        self._stopTask()

    def _follow(self) -> None:
        scene = slicer.mrmlScene
        for event in (scene.StartImportEvent, scene.StartRestoreEvent):
            if self.hasObserver(scene, event, self._onOtherScene):
                self.removeObserver(scene, event, self._onOtherScene)
            if self._parameters is not None:
                self.addObserver(scene, event, self._onOtherScene)
        if self._parameters is not None:
            self._onParameters()

    def setResult(self, result) -> None:
        """The last registration, or None when it was taken back; it is what is compared then."""
        self.leave()
        self.mending.stop()
        self.mending.forget()
        self._result, self._changed = result, False
        self._jacobian.forget()
        self._showFigures(None)
        self._folds.show(None, self._case.fixedSegmentation)
        if result is not None:
            self.chooseResult()
            if "transform" in result.nodes:
                self._judge(result.quality)
        self._check()

    def chooseResult(self) -> None:
        """Put the last registration's nodes into the selectors."""
        if self._result is None or self._parameters is None:
            return
        made, job = self._result.nodes, self._result.job
        with slicer.util.NodeModify(self._parameters):
            self._parameters.inspectFixed = job.fixedVolume
            self._parameters.inspectMoving = job.movingVolume
            self._parameters.inspectTransform = made.get("transform")
            self._parameters.inspectUncertainty = made.get("uncertainty")

    def _onParameters(self, caller=None, event=None) -> None:
        if self._parameters is None or slicer.mrmlScene.IsImporting():
            return
        chosen = {field: getattr(self._parameters, name) for name, field in _CHOSEN.items()}
        case = Case(**chosen)
        if case == self._case:
            self._check()
            return
        compared = (case.fixed, case.moving, case.transform) != (
            self._case.fixed,
            self._case.moving,
            self._case.transform,
        )
        self._case = case
        if compared:
            self.leave()
            self._folds.show(None, self._case.fixedSegmentation)
            self._showFigures(None)
            self._observe(case.transform)
            self.mending.show(case)
        self.doubtful.choose(case)
        self._check()

    def _onTransform(self, caller, event) -> None:
        """What was shown is no longer true."""
        self._jacobian.forget()
        if self.mending.filling:
            return
        self._changed = True
        self.doubtful.forget()
        self.mending.forget()
        if self.views.active:
            self.leave()
            self._say(_("The transform was changed; show the views again."))

    def _ofResult(self) -> bool:
        """True when the last registration is what is compared."""
        if self._result is None:
            return False
        made, job = self._result.nodes, self._result.job
        mine = (job.fixedVolume, job.movingVolume, made.get("transform"))
        return mine == (self._case.fixed, self._case.moving, self._case.transform) and mine[2] is not None

    def _known(self) -> dict | None:
        return self._result.quality if self._ofResult() and not self._changed else None

    def _check(self) -> None:
        """Say what is compared, or what is missing; cheap: positions are looked at when something is to be shown."""
        case, ui = self._case, self.ui
        ui.lastResultButton.visible = self._result is not None and not self._ofResult()
        reported = self._result is not None and self._result.report_folder is not None
        ui.reportButton.enabled = ui.reportSaveButton.enabled = reported
        missing = [
            text
            for node, text in (
                (case.fixed, _("a fixed volume")),
                (case.moving, _("a moving volume")),
                (case.transform, _("a transform")),
            )
            if node is None
        ]
        if missing:
            ui.inspectWhatLabel.text = _("Choose {things} at 'What is compared', or register first.").format(
                things=", ".join(missing)
            )
        else:
            names = {what: getattr(case, what).GetName() for what in ("moving", "fixed", "transform")}
            text = _("Fixed: {fixed}\nMoving: {moving}\nTransform: {transform}").format(**names)
            ui.inspectWhatLabel.text = _("Last registration") if self._ofResult() else breakable(text)
            ui.inspectWhatLabel.toolTip = text
        ui.uncertaintyModeButton.enabled = case.uncertainty is not None
        for name in BUTTONS.values():
            if name != "uncertaintyModeButton":
                getattr(ui, name).enabled = not missing
        self._allowFigures(not missing)

    # --- views

    def onMode(self, mode: Mode, checked: bool = True) -> None:
        """Show a mode; its button a second time gives the former views back."""
        if not checked:
            self.leave()
            return
        self._guarded(lambda: self._show(mode))

    def _show(self, mode: Mode) -> None:
        self._say("")
        case = self._case
        if not self.views.active or self._unchecked:
            self._unchecked = True
            case.check()
            self._unchecked = False
        layer = None
        if mode is Mode.JACOBIAN:
            layer = self._jacobianNode()
        elif mode is Mode.UNCERTAINTY:
            layer = case.uncertaintyLayer()
        self.views.enter(case)
        self._cursor.begin()
        self.views.show(mode, lookOf(self.ui), layer)
        if self.ui.deformationComboBox.currentIndex:
            self._deform()
        self._showMode(mode)
        hint = case.madeFor()
        if hint:
            self._say(hint)
        elif mode in WARPS and self.ui.shareSlider.value < 100 and case.shareBefore() < 0.05:
            self._say(_("Before, the volumes hardly overlap: the way begins with their centers aligned."))

    def _update(self) -> None:
        """An option was changed."""
        mode = self.views.mode
        if mode is not None:
            self._guarded(lambda: self._show(mode))

    def _showMode(self, mode: Mode | None) -> None:
        showMode(self.ui, mode, self.views.active)
        self.mending.viewsChanged(mode is Mode.SIDE_BY_SIDE)

    def _deform(self) -> None:
        ui = self.ui
        if ui.deformationComboBox.currentIndex == 0:
            self.views.deformation.hide()
            notice(ui.deformationInfoLabel, "")
            return
        if self._case.transform is None:
            raise RegistrationError(_("Choose a transform, or register first."))
        if not self.views.active:
            self._show(Mode.OVERLAY)  # comes back here
            return
        if not self.views.deformation.shown:
            was = ui.deformationSpacingSpinBox.blockSignals(True)
            ui.deformationSpacingSpinBox.value = usefulSpacing(self._case.commonBox())
            ui.deformationSpacingSpinBox.blockSignals(was)
        arrows = ui.deformationComboBox.currentIndex == 2
        self.views.deform(arrows, ui.deformationSpacingSpinBox.value, ui.deformationLocalCheckBox.checked)
        notice(ui.deformationInfoLabel, self.views.deformation.legend())

    def leave(self) -> None:
        """The views as they were before this section used them."""
        self._cursor.end()
        notice(self.ui.deformationInfoLabel, "")
        if self.views.active:
            self.views.leave()
        combo = self.ui.deformationComboBox
        was = combo.blockSignals(True)
        combo.currentIndex = 0
        combo.blockSignals(was)
        slider = self.ui.shareSlider
        was = slider.blockSignals(True)
        slider.value = 100
        slider.blockSignals(was)
        self._showMode(None)
        self._say("")

    def cleanup(self) -> None:
        """Let go of everything."""
        self.leave()
        self._stopTask()
        self.mending.cleanup()
        placed.stop()
        super().cleanup()

    def _onCollapsed(self, collapsed: bool) -> None:
        if collapsed:
            self.leave()

    def _onOtherScene(self, caller, event) -> None:
        """Another scene or view comes in; what it shows is not to be put back to what was before."""
        self.leave()

    def _keep(self, former: Snapshot | None) -> None:
        """What the views showed before is saved with the scene, as long as they show something temporary."""
        if self._parameters is not None:
            node = self._parameters.parameterNode
            forget(node) if former is None else former.keep(node)

    def _guarded(self, action) -> None:
        """Do it; what goes wrong is shown as a message."""
        try:
            action()
        except RegistrationError as error:
            self.leave()
            self._say(str(error), "error")

    def _say(self, text: str, kind: str = "") -> None:
        notice(self.ui.inspectWhyLabel, text, kind)

    # --- the cursor

    def textAt(self, ras) -> str:
        """What is known at a point of the world (RAS mm), in a line."""
        return textAt(self._case, self._knownJacobian(), ras)

    # --- Jacobian

    def _knownJacobian(self):
        node = self._result.nodes.get("jacobian") if self._ofResult() else None
        there = node is not None and slicer.mrmlScene.IsNodePresent(node)
        return node if there else self._jacobian.known(self._case)

    def _jacobianNode(self):
        """The Jacobian of what is compared; made when there is none, to stay in the scene."""
        node, note = self._knownJacobian(), ""
        if node is None:
            node, note = self._jacobian.make(self._case)
        if not self._folds.isShown(node, self._case.fixedSegmentation):
            self._folds.show(node, self._case.fixedSegmentation, note)
        return node

    # --- mending

    def _choose(self, transform) -> None:
        mode, placements = self.views.mode, views.remember().slices
        self._parameters.inspectTransform = transform
        self._showAgain(mode, placements)

    def _showAgain(self, mode: Mode | None, placements: dict) -> None:
        """A mode where the views were, with the crosshair where it is."""
        node = crosshairNode()
        if mode is None:
            return
        crosshair = node.GetCrosshairRAS() if node is not None else ()
        self._guarded(lambda: self._show(mode))
        views.placeAll(placements)
        if node is not None:
            node.SetCrosshairRAS(*crosshair)

    def _sideBySide(self) -> None:
        """Fixed and warped beside each other, where the views are now."""
        if self.views.mode is not Mode.SIDE_BY_SIDE:
            place = views.middle()
            self._show(Mode.SIDE_BY_SIDE)
            jumpTo(place)

    def _renew(self, quality: dict | None) -> None:
        """The map was changed on purpose: the views show the new one, where they are."""
        mode, placements = self.views.mode, views.remember().slices
        self._folds.show(None, self._case.fixedSegmentation)
        self.doubtful.forget()
        if mode is not None:
            self.views.renew()
        self._showAgain(mode, placements)
        self._showFigures(None)
        if quality:
            self._judge(quality)

    # --- charts

    def showChart(self) -> None:
        """The chosen chart and the table of figures, in the layout of Slicer that has both."""
        figures = self.figures
        chart = figures.charts.get(self.ui.chartComboBox.currentText) if figures is not None else None
        if figures is None or chart is None or not slicer.mrmlScene.IsNodePresent(chart):
            return
        try:
            if not self.views.active:
                self._show(Mode.OVERLAY)
        except RegistrationError as error:
            self._say(str(error), "error")
            return
        if self.views.mode is Mode.SIDE_BY_SIDE:
            self._show(Mode.OVERLAY)
        showLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotTableView)
        showChart(chart, figures.table)


__all__ = ["InspectPanel"]
