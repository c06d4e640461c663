"""The Inspect section of the panel: which button shows what, of the last result or of anything chosen."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..common.section import Section
from ..mrml.geometry import rasFromIjk, transformPoints, worldFromNode
from . import evaluation, metrics
from . import jacobian as inspect_jacobian
from .case import Case
from .views import InspectViews, Look, Mode, usefulSpacing

_POLL_MS = 150
_BUTTONS = {
    Mode.OVERLAY: "overlayModeButton",
    Mode.CHECKERBOARD: "checkerboardModeButton",
    Mode.FLICKER: "flickerModeButton",
    Mode.DIFFERENCE: "differenceModeButton",
    Mode.SIDE_BY_SIDE: "sideBySideModeButton",
    Mode.JACOBIAN: "jacobianModeButton",
    Mode.UNCERTAINTY: "uncertaintyModeButton",
}
# Options with their labels, and the modes in which they are shown; the rest is always there.
_OPTIONS = {
    ("opacityLabel", "opacitySlider"): (Mode.OVERLAY, Mode.JACOBIAN, Mode.UNCERTAINTY),
    ("mixingLabel", "mixingComboBox"): (Mode.OVERLAY,),
    ("checkerLabel", "checkerSlider"): (Mode.CHECKERBOARD,),
    ("flickerLabel", "flickerSlider"): (Mode.FLICKER,),
    ("planeLabel", "planeComboBox"): (Mode.SIDE_BY_SIDE,),
    ("scaleLabel", "scaleComboBox"): (Mode.JACOBIAN,),
}
_WARPS = (Mode.OVERLAY, Mode.CHECKERBOARD, Mode.FLICKER, Mode.DIFFERENCE, Mode.SIDE_BY_SIDE)
_SHARE_WIDGETS = ("shareLabel", "beforeButton", "shareSlider", "afterButton")
_PLANES = ("Axial", "Sagittal", "Coronal")
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
_WORDS = {"good": "#2e9e5b", "check": "#d9902f", "poor": "#d64545"}


class InspectPanel(Section):
    """Wires the section.

    Args: parent: widget whose layout takes it. python: called for the engine's Python, None for Slicer's own.
    """

    def __init__(self, parent, python) -> None:
        super().__init__(parent, "CARLRegistrationInspect.ui", python, _POLL_MS)
        self.views = InspectViews()
        self.figures: metrics.Figures | None = None
        self._case = Case()
        self._problem = ""
        self._jacobian = None  # (node, fixed ID, transform ID)
        self._folds: list = []
        self._fold = -1
        self._reportFolder: Path | None = None
        self._connect()
        self._showMode(None)
        self._showFigures(None)
        self._showFolds(None)

    def _connect(self) -> None:
        ui = self.ui
        for mode, name in _BUTTONS.items():
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
        ui.linkCheckBox.connect("toggled(bool)", self._onLink)
        ui.centerButton.connect("clicked(bool)", lambda checked: self._guarded(self._center))
        ui.deformationComboBox.connect("currentIndexChanged(int)", lambda index: self._guarded(self._deform))
        ui.deformationSpacingSpinBox.connect("valueChanged(double)", lambda value: self._guarded(self._deform))
        ui.deformationLocalCheckBox.connect("toggled(bool)", lambda on: self._guarded(self._deform))
        ui.nextFoldButton.connect("clicked(bool)", lambda checked: self.nextFold())
        ui.foldsTable.connect("cellClicked(int,int)", lambda row, column: self._goTo(row))
        ui.figuresButton.connect("clicked(bool)", lambda checked: self.onFigures())
        ui.reportButton.connect("clicked(bool)", lambda checked: self.onReport())
        ui.chartButton.connect("clicked(bool)", lambda checked: self.showChart())

    # --- what is compared

    def _letGo(self) -> None:
        self.leave()
        self._stopTask()

    def _follow(self) -> None:
        scene, event = slicer.mrmlScene, slicer.mrmlScene.StartSaveEvent
        if self.hasObserver(scene, event, self._onSave):
            self.removeObserver(scene, event, self._onSave)
        if self._parameters is not None:
            self.addObserver(scene, event, self._onSave)
            self._onParameters()

    def setResult(self, result) -> None:
        """The last registration, or None when it was taken back; it is what is compared then."""
        self.leave()
        self._result = result
        self._jacobian = None
        self._showFigures(None)
        self._showFolds(None)
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
            self._showFolds(None)
            self._showFigures(None)
            self._observe(case.transform)
        self._check()

    def _onTransform(self, caller, event) -> None:
        """What was shown is no longer true."""
        self._jacobian = None
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

    def _check(self) -> None:
        """Say what is compared, or what is missing; cheap: positions are looked at when something is to be shown."""
        case, ui = self._case, self.ui
        ui.lastResultButton.visible = self._result is not None and not self._ofResult()
        ui.reportButton.enabled = self._result is not None and self._result.report_folder is not None
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
            ui.inspectWhatLabel.text = _("Choose {things} below 'What is compared', or register first.").format(
                things=", ".join(missing)
            )
        else:
            ui.inspectWhatLabel.text = _("{moving} to {fixed} by {transform}").format(
                moving=case.moving.GetName(), fixed=case.fixed.GetName(), transform=case.transform.GetName()
            )
        ui.uncertaintyModeButton.enabled = case.uncertainty is not None
        for name in (*_BUTTONS.values(), "figuresButton"):
            if name != "uncertaintyModeButton":
                getattr(ui, name).enabled = not missing

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
        if not self.views.active or self._problem:
            self._problem = "?"
            case.check()
            self._problem = ""
        layer = None
        if mode is Mode.JACOBIAN:
            layer = self._jacobianNode()
        elif mode is Mode.UNCERTAINTY:
            layer = self._uncertaintyNode()
        self.views.enter(case)
        self._observeCursor()
        self.views.show(mode, self._look(), layer)
        if self.ui.deformationComboBox.currentIndex:
            self._deform()
        self.ui.linkCheckBox.checked = True if self.views.mode is None else self.ui.linkCheckBox.checked
        self._showMode(mode)
        hint = case.madeFor()
        if hint:
            self._say(hint)
        elif mode in _WARPS and self.ui.shareSlider.value < 100 and case.shareBefore() < 0.05:
            self._say(_("Before, the volumes hardly overlap: the way begins with their centers aligned."))

    def _update(self) -> None:
        """An option was changed."""
        if self.views.mode is not None:
            self._guarded(lambda: self._show(self.views.mode))

    def _look(self) -> Look:
        ui = self.ui
        return Look(
            opacity=ui.opacitySlider.value,
            layerOpacity=ui.opacitySlider.value,
            redCyan=ui.mixingComboBox.currentIndex == 1,
            checkerMm=ui.checkerSlider.value,
            flickerHz=ui.flickerSlider.value,
            share=ui.shareSlider.value / 100.0,
            log=ui.scaleComboBox.currentIndex == 0,
            plane=_PLANES[max(0, ui.planeComboBox.currentIndex)],
        )

    def _showMode(self, mode: Mode | None) -> None:
        ui = self.ui
        for one, name in _BUTTONS.items():
            getattr(ui, name).checked = one is mode
        for names, modes in _OPTIONS.items():
            for name in names:
                getattr(ui, name).visible = mode in modes
        for name in _SHARE_WIDGETS:
            getattr(ui, name).visible = mode in _WARPS
        ui.inspectOffButton.enabled = self.views.active
        ui.centerButton.enabled = self.views.active
        ui.cursorLabel.visible = self.views.active
        if not self.views.active:
            ui.cursorLabel.text = ""

    def _center(self) -> None:
        self.views.center()

    def _onLink(self, on: bool) -> None:
        if self.views.active:
            self.views.link(on)

    def _deform(self) -> None:
        ui = self.ui
        if ui.deformationComboBox.currentIndex == 0:
            self.views.deformation.hide()
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

    def leave(self) -> None:
        """The views as they were before this section used them."""
        node, event = _crosshair(), slicer.vtkMRMLCrosshairNode.CursorPositionModifiedEvent
        if node is not None and self.hasObserver(node, event, self._onCursor):
            self.removeObserver(node, event, self._onCursor)
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
        super().cleanup()
        if self._reportFolder is not None:
            shutil.rmtree(self._reportFolder, ignore_errors=True)
            self._reportFolder = None

    def _onCollapsed(self, collapsed: bool) -> None:
        if collapsed:
            self.leave()

    def _onSave(self, caller, event) -> None:
        """Saved views show what the scene holds, not what is made here for a moment."""
        self.leave()

    def _guarded(self, action) -> None:
        """Do it; what goes wrong is said in words."""
        try:
            action()
        except RegistrationError as error:
            self.leave()
            self._say(str(error))

    def _say(self, text: str) -> None:
        self.ui.inspectWhyLabel.text = text
        self.ui.inspectWhyLabel.visible = bool(text)

    # --- the cursor

    def _observeCursor(self) -> None:
        node = _crosshair()
        event = slicer.vtkMRMLCrosshairNode.CursorPositionModifiedEvent
        if node is not None and not self.hasObserver(node, event, self._onCursor):
            self.addObserver(node, event, self._onCursor)
            self.ui.cursorLabel.text = _("Move the mouse over a slice view: displacement and Jacobian are shown here.")

    def _onCursor(self, caller, event) -> None:
        ras = [0.0] * 3
        if caller.GetCursorPositionRAS(ras):
            self.ui.cursorLabel.text = self.textAt(ras)

    def textAt(self, ras) -> str:
        """What is known at a point of the world (RAS mm), in a line."""
        point = np.asarray(ras, dtype=float)
        moved = transformPoints(self._case.worldMap(), point[None])[0] - point
        parts = [
            _("{length:.1f} mm displaced (R {r:+.1f}, A {a:+.1f}, S {s:+.1f})").format(
                length=float(np.linalg.norm(moved)), r=moved[0], a=moved[1], s=moved[2]
            )
        ]
        jacobian = self._knownJacobian()
        value = _valueAt(jacobian, point)
        if value is not None:
            parts.append(_("Jacobian {value:.2f}").format(value=value))
        if self._case.uncertainty is not None:
            value = _valueAt(self._case.uncertainty, point)
            if value is not None:
                unknown = _("uncertainty unknown")
                parts.append(_("uncertainty {value:.1f} mm").format(value=value) if value >= 0 else unknown)
        return ", ".join(parts)

    # --- Jacobian

    def _knownJacobian(self):
        if self._ofResult():
            node = self._result.nodes.get("jacobian")
            if node is not None and slicer.mrmlScene.IsNodePresent(node):
                return node
        if self._jacobian is not None and self._case.fixed is not None and self._case.transform is not None:
            node, fixedId, transformId = self._jacobian
            same = (fixedId, transformId) == (self._case.fixed.GetID(), self._case.transform.GetID())
            if same and slicer.mrmlScene.IsNodePresent(node):
                return node
        return None

    def _jacobianNode(self):
        """The Jacobian of what is compared; made when there is none, to stay in the scene."""
        node, note = self._knownJacobian(), ""
        if node is None:
            slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
            try:
                node, note = inspect_jacobian.addJacobian(self._case)
            finally:
                slicer.app.restoreOverrideCursor()
            self._jacobian = (node, self._case.fixed.GetID(), self._case.transform.GetID())
        if self._foldsOf is not node or self._segmentsOf is not self._case.fixedSegmentation:
            self._showFolds(node, note)
        return node

    _foldsOf = _segmentsOf = None

    def _uncertaintyNode(self):
        node = self._case.uncertainty
        if node is None or node.GetImageData() is None:
            raise RegistrationError(_("Choose the uncertainty that a registration made, or register again."))
        values = slicer.util.arrayFromVolume(node)
        if not (values >= 0).any():
            raise RegistrationError(_("{name}: the uncertainty is unknown everywhere.").format(name=node.GetName()))
        return node

    def _showFolds(self, node, note: str = "") -> None:
        ui = self.ui
        self._foldsOf, self._fold = node, -1
        self._segmentsOf = self._case.fixedSegmentation
        self._folds = inspect_jacobian.folds(node) if node is not None else []
        total = sum(fold.volume_mm3 for fold in self._folds)
        if node is None:
            text = _("Press Jacobian: folds are listed here, and the volume change of each segment.")
        elif not self._folds:
            text = _("No folds: the determinant is above 0 everywhere.")
        else:
            text = _("{count} folded regions, {volume} in all.").format(count=len(self._folds), volume=_volume(total))
            if len(self._folds) == 1:
                text = _("1 folded region, {volume}.").format(volume=_volume(total))
        ui.jacobianInfoLabel.text = " ".join(filter(None, [text, note]))
        _fill(
            ui.foldsTable,
            [_("No."), _("Volume"), _("Voxels"), _("R, A, S (mm)")],
            [
                [str(f.number), _volume(f.volume_mm3), str(f.voxels), ", ".join(f"{x:.1f}" for x in f.position_ras)]
                for f in self._folds
            ],
        )
        ui.foldsTable.visible = ui.nextFoldButton.visible = bool(self._folds)
        if self._folds:
            ui.jacobianCollapsibleButton.collapsed = False
        self._showSegments(node)

    def _showSegments(self, node) -> None:
        ui, segmentation = self.ui, self._case.fixedSegmentation
        rows, text = [], ""
        if node is not None and segmentation is not None:
            try:
                found, without = inspect_jacobian.segmentChanges(node, segmentation)
                rows = [
                    [
                        one.name,
                        f"{one.change_percent:+.1f} %",
                        f"{one.mean:.3f}",
                        f"{one.sd:.3f}",
                        *(f"{one.percentiles[p]:.2f}" for p in (5, 50, 95)),
                        _volume(one.volume_mm3),
                    ]
                    for one in found
                ]
                text = _("How much larger (+) or smaller (-) each segment is in the moving volume:")
                if without:
                    text = _("Empty or outside, and left out: {names}.").format(names=", ".join(without)) + " " + text
            except RegistrationError as error:
                text = str(error)
        elif node is not None:
            text = _("Choose segments of the fixed volume above for the volume change of each.")
        ui.segmentsInfoLabel.text = text
        ui.segmentsInfoLabel.visible = bool(text)
        titles = [_("Segment"), _("Volume"), _("Mean"), _("SD"), "5 %", "50 %", "95 %", _("Size")]
        _fill(ui.segmentsTable, titles, rows)
        ui.segmentsTable.visible = bool(rows)

    def nextFold(self) -> None:
        """Go to the next folded region, after the last to the first."""
        if self._folds:
            self._goTo((self._fold + 1) % len(self._folds))

    def _goTo(self, row: int) -> None:
        if not 0 <= row < len(self._folds):
            return
        self._fold = row
        self.ui.foldsTable.selectRow(row)
        position = self._folds[row].position_ras
        for sliceNode in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            sliceNode.JumpSliceByCentering(*position)
        node = _crosshair()
        if node is not None:
            node.SetCrosshairRAS(*position)

    # --- figures

    def onFigures(self) -> None:
        """Judge what is compared, in the background."""
        if self.task is not None:
            self._stopTask()
            self._showFigures(self.figures)
            return
        try:
            self._case.check()
            task = evaluation.startEvaluation(self._case, self._python())
        except RegistrationError as error:
            self._say(str(error))
            return
        self._say("")
        self.ui.figuresButton.text = _("Stop")
        self.ui.figuresInfoLabel.text = _("Computing the figures in the background ...")
        self.ui.figuresInfoLabel.visible = True
        self._runTask(task, self._onEvaluated, self._onFailed)

    def onReport(self) -> None:
        """Make the report of the last registration and open it."""
        self._stopTask()
        try:
            folder = self._result.report_folder if self._result is not None else None
            task = evaluation.startReport(folder, self._python())
        except RegistrationError as error:
            self._say(str(error))
            return
        self._say("")
        self.ui.figuresInfoLabel.text = _("Making the report ...")
        self.ui.figuresInfoLabel.visible = True
        self.ui.reportButton.enabled = False
        self._runTask(task, self._onReportMade, self._onFailed)

    def _onEvaluated(self, found: evaluation.Evaluation) -> None:
        self._stopTask()
        self._judge(found.quality, found.names)
        if found.notes:
            self._say(" ".join(found.notes))

    def _onReportMade(self, path: Path) -> None:
        if self._reportFolder is not None:
            shutil.rmtree(self._reportFolder, ignore_errors=True)
        self._reportFolder = path.parent  # the browser reads it
        self._stopTask()
        self._showFigures(self.figures)
        if not qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path))):
            self._say(_("The report is {path}; no browser could be opened.").format(path=path))

    def _onFailed(self, error: RegistrationError) -> None:
        self._stopTask()
        self._showFigures(self.figures)
        self._say(str(error))

    def _stopTask(self) -> None:
        self._endTask()
        self.ui.figuresButton.text = _("Compute figures")
        self.ui.figuresInfoLabel.visible = False
        self._check()

    def _judge(self, quality: dict, names: dict | None = None) -> None:
        self.figures = metrics.makeFigures(quality, self._case.transform, names)
        self._showFigures(self.figures, quality)

    def _showFigures(self, figures, quality: dict | None = None) -> None:
        ui = self.ui
        self.figures = figures
        if quality is not None or figures is None:
            word, reasons = metrics.verdictOf(quality or {})
            titles = {"good": _("Good"), "check": _("Check"), "poor": _("Poor")}
            ui.verdictLabel.text = titles.get(word, word)
            ui.verdictLabel.visible = bool(word)
            ui.verdictLabel.styleSheet = (
                f"font-weight: bold; font-size: 15px; color: {_WORDS.get(word, '#888888')};" if word else ""
            )
            ui.reasonsLabel.text = "\n".join(f"\u2022 {reason}" for reason in reasons)
            ui.reasonsLabel.visible = bool(reasons)
        rows = figures.rows if figures is not None else []
        _fill(ui.figuresTable, [_("Figure"), _("Before"), _("After")], [list(row) for row in rows])
        ui.figuresTable.visible = bool(rows)
        charts = list(figures.charts) if figures is not None else []
        ui.chartComboBox.clear()
        for title in charts:
            ui.chartComboBox.addItem(title)
        ui.chartComboBox.visible = ui.chartButton.visible = bool(charts)

    def showChart(self) -> None:
        """The chosen chart and the table of figures, in the layout of Slicer that has both."""
        chart = self.figures.charts.get(self.ui.chartComboBox.currentText) if self.figures is not None else None
        if chart is None or not slicer.mrmlScene.IsNodePresent(chart):
            return
        try:
            if not self.views.active:
                self._show(Mode.OVERLAY)
        except RegistrationError as error:
            self._say(str(error))
            return
        if self.views.mode is Mode.SIDE_BY_SIDE:
            self._show(Mode.OVERLAY)
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotTableView)
        logic = slicer.app.applicationLogic()
        selection = logic.GetSelectionNode()
        selection.SetActivePlotChartID(chart.GetID())
        logic.PropagatePlotChartSelection()
        selection.SetActiveTableID(self.figures.table.GetID())
        logic.PropagateTableSelection()


def _crosshair():
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")


def _valueAt(node, point: np.ndarray) -> float | None:
    """The value of the nearest voxel at a point of the world, None outside."""
    if node is None or node.GetImageData() is None:
        return None
    fromWorld = worldFromNode(node).GetInverse()
    own = transformPoints(fromWorld, point[None])[0]
    inverse = np.linalg.inv(rasFromIjk(node))
    index = np.rint(inverse[:3, :3] @ own + inverse[:3, 3]).astype(int)
    size = node.GetImageData().GetDimensions()
    if not all(0 <= i < n for i, n in zip(index, size, strict=True)):
        return None
    return float(node.GetImageData().GetScalarComponentAsDouble(*index.tolist(), 0))


def _volume(mm3: float) -> str:
    return _("{value:.2f} ml").format(value=mm3 / 1000) if mm3 >= 100 else _("{value:.3g} mm\u00b3").format(value=mm3)


def _fill(table, titles: list[str], rows: list[list[str]]) -> None:
    """Fill a QTableWidget with text."""
    table.setColumnCount(len(titles))
    table.setRowCount(len(rows))
    table.setHorizontalHeaderLabels(titles)
    table.verticalHeader().setVisible(False)
    for row, texts in enumerate(rows):
        for column, text in enumerate(texts):
            table.setItem(row, column, qt.QTableWidgetItem(text))
    table.resizeColumnsToContents()
    table.horizontalHeader().setStretchLastSection(True)
    table.resizeRowsToContents()
