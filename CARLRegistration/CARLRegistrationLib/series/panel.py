"""The Series section of the panel: which frames, to which reference, and what became of them over time."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk
from carlreg.errors import CarlError
from carlreg.settings import RegistrationSettings
from slicer.i18n import tr as _

from ..common.errors import RegistrationCancelled, RegistrationError, withLog
from ..common.notices import breakable, notice
from ..common.section import Section
from ..engine import dependencies
from ..engine.process import Report
from ..inspect.metrics import showChart
from ..inspect.snapshot import showLayout
from ..mrml import colors, views
from ..mrml.display import copyDisplay
from ..mrml.sequences import proxyOf
from . import run
from .choices import SeriesReference, SeriesSource
from .job import SeriesJob, problemOf
from .loading import SeriesScene, loadResult

_POLL_MS = 250
_OF_SEQUENCE = ("seriesSequenceLabel", "seriesSequenceSelector")
_OF_FILES = ("seriesFileLabel", "seriesFileLineEdit", "seriesFileButton", "seriesFileFolderButton")
_FRAME = re.compile(r"frame (\d+)\b:?")  # how the engine's messages begin
_COUNT = re.compile(r"(\d+) frames")


class SeriesPanel(Section):
    """Wires the section.

    Args: parent: widget whose layout takes it. python: called for the engine's Python, None for Slicer's own.
        settings: called for those that the parameters hold; raises what is wrong with them.
    """

    def __init__(
        self,
        parent,
        python: Callable[[], str | None],
        settings: Callable[[Any], RegistrationSettings],
    ) -> None:
        super().__init__(parent, "CARLRegistrationSeries.ui", python, _POLL_MS)
        self._settings = settings
        self.result: SeriesScene | None = None
        self._sequence: Any = None  # that is followed
        self._begun: dict[int, None] = {}
        self._count = 0  # of the frames, 0 as long as it is not known
        self._filling = False
        self._connect()
        self._showIdle()
        self._showResult()

    def _connect(self) -> None:
        ui = self.ui
        ui.seriesCollapsibleButton.connect("contentsCollapsed(bool)", lambda collapsed: self._check())
        ui.seriesFileButton.connect("clicked(bool)", lambda checked: self.onChooseFile())
        ui.seriesFileFolderButton.connect("clicked(bool)", lambda checked: self._chooseFolder("seriesFile"))
        ui.seriesFolderButton.connect("clicked(bool)", lambda checked: self._chooseFolder("seriesFolder"))
        ui.seriesRunButton.connect("clicked(bool)", lambda checked: self.onRun())
        ui.seriesLoadButton.connect("clicked(bool)", lambda checked: self.onLoad())
        ui.seriesCancelButton.connect("clicked(bool)", lambda checked: self.onCancel())
        ui.seriesShownSlider.connect("valueChanged(double)", lambda value: self.onFrame(round(value)))
        ui.seriesOverlayComboBox.connect("currentIndexChanged(int)", lambda index: self._showLayers())
        ui.seriesChartButton.connect("clicked(bool)", lambda checked: self.onChart())
        ui.seriesRemoveButton.connect("clicked(bool)", lambda checked: self.onRemove())

    # --- what would be done

    def _follow(self) -> None:
        self._followSequence()
        self._showIdle()

    def setResult(self, result) -> None:
        """The last registration: nothing here depends on it."""

    def _onParameters(self, caller=None, event=None) -> None:
        if self._parameters is not None and not slicer.mrmlScene.IsImporting():
            self._followSequence()
            self._check()

    def _followSequence(self) -> None:
        """Frames that are added to the chosen sequence count, too."""
        sequence = self._parameters.seriesSequence if self._parameters is not None else None
        if sequence is self._sequence:
            return
        event = vtk.vtkCommand.ModifiedEvent
        if self._sequence is not None and self.hasObserver(self._sequence, event, self._onSequence):
            self.removeObserver(self._sequence, event, self._onSequence)
        self._sequence = sequence
        if sequence is not None:
            self.addObserver(sequence, event, self._onSequence)

    def _onSequence(self, caller, event) -> None:
        self._check()

    def job(self) -> SeriesJob:
        """What the section describes. Raises RegistrationError, CarlError for settings that are not allowed."""
        p = self._parameters
        return SeriesJob(
            p.seriesSource,
            p.seriesSequence,
            p.seriesFile,
            p.seriesReference,
            p.seriesFrame,
            p.seriesChain,
            p.seriesCyclic,
            p.seriesSmoothness,
            p.seriesSegmentation,
            p.seriesLandmarks,
            p.seriesFolder,
            self._settings(p),
            self._python(),
        )

    def _check(self) -> None:
        """Show what fits the choices, and why it cannot be begun."""
        ui, p = self.ui, self._parameters
        if p is None or self.task is not None or ui.seriesCollapsibleButton.collapsed:
            return
        files = p.seriesSource is SeriesSource.FILES
        for names, shown in ((_OF_SEQUENCE, not files), (_OF_FILES, files)):
            for name in names:
                getattr(ui, name).visible = shown
        ui.seriesFrameSpinBox.visible = p.seriesReference is SeriesReference.FRAME
        ui.seriesSettingsLabel.text = breakable(
            _("Transform (now: {kind}), preset and similarity as chosen at Registration; masks do not count.").format(
                kind=p.transformKind.label()
            )
        )
        try:
            reason = problemOf(self.job())
        except (RegistrationError, CarlError) as error:
            reason = str(error)
        notice(ui.seriesWhyLabel, reason)
        ui.seriesRunButton.enabled = not reason
        ui.seriesRunButton.toolTip = reason or _("Register all frames with the settings of the section Registration.")

    def onChooseFile(self) -> None:
        """Ask for the file of the frames."""
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(),
            _("Series"),
            self._parameters.seriesFile,
            _("Images (*.nii *.nii.gz *.nrrd *.nhdr *.mha *.mhd);;All files (*)"),
        )
        if path:
            self._parameters.seriesFile = path

    def _chooseFolder(self, name: str) -> None:
        path = qt.QFileDialog.getExistingDirectory(
            slicer.util.mainWindow(), _("Folder"), getattr(self._parameters, name)
        )
        if path:
            setattr(self._parameters, name, path)

    # --- running

    def onRun(self) -> None:
        """Register the series; what cannot be done is said."""
        self._say("")
        try:
            if self._python() is None:
                dependencies.ensure()
            slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
            try:
                job = self.job()
                task = run.begin(job, self._onReport)
            finally:
                slicer.app.restoreOverrideCursor()
        except (RegistrationError, CarlError) as error:
            self._onFailed(error)
            return
        sequence = job.sequence if job.source is SeriesSource.SEQUENCE else None
        self._begun, self._count = {}, sequence.GetNumberOfDataNodes() if sequence is not None else 0
        self.ui.seriesProgressBar.value = 0
        self.ui.seriesBusyLabel.text = _("Reading the frames ...")
        like = proxyOf(sequence) if sequence is not None else None
        self._runTask(task, lambda made: self._onDone(made, like), self._onFailed)
        self._showIdle()

    def _onReport(self, report: Report) -> None:
        for record in report.records:
            self.ui.seriesProgressBar.value = round(1000 * float(record.get("fraction") or 0.0))
            text = str(record.get("warning") or record.get("message") or "")
            counted = _COUNT.fullmatch(text)
            if counted is not None:
                self._count = int(counted[1])
                continue
            begun = _FRAME.match(text)
            if begun is not None and record.get("stage") == "frames":
                self._begun[int(begun[1])] = None
            if text and self._count and self._begun and record.get("stage") == "frames":
                # The reference is in place: of n frames n - 1 are registered.
                text = _("{number} of {count}: {text}").format(
                    number=min(len(self._begun), self._count), count=self._count, text=text
                )
            if record.get("stage") == "write":
                text = _("writing {text}").format(text=text)
            if text and not self._cancelling():
                self.ui.seriesBusyLabel.text = breakable(text)

    def _cancelling(self) -> bool:
        return self.task is not None and self.task.cancelling

    def _onDone(self, made: SeriesScene, like=None) -> None:
        """The result is in the scene: show it, and say what is to be looked at."""
        self._showIdle()
        warped = made.shown(made.nodes.warped)
        if like is not None and slicer.mrmlScene.IsNodePresent(like) and warped is not None:
            copyDisplay(like, warped)
        self.result = made
        self._showResult()
        self._showLayers()
        moves = {int(row["frame"]): float(row["mean_mm"]) for row in made.rows}
        most = max(moves, key=moves.__getitem__)
        lines = [
            _("{count} frames; frame {number} moves most, by {mm:.1f} mm on average.").format(
                count=len(moves), number=most, mm=moves[most]
            ),
            *made.notes,
        ]
        jumps = any(row["jump"] == "1" for row in made.rows)
        self._say("\n".join(lines), "check" if jumps else "")

    def _onFailed(self, error) -> None:
        self._showIdle()
        self._say(withLog(error), "" if isinstance(error, RegistrationCancelled) else "error")

    def onCancel(self) -> None:
        """Ask the engine to stop; nothing is changed."""
        if self.task is not None:
            self.ui.seriesBusyLabel.text = _("Stopping ...")
            self.ui.seriesCancelButton.enabled = False
            self.task.cancel()

    def onLoad(self) -> None:
        """Load a result that is there as files."""
        path = qt.QFileDialog.getExistingDirectory(
            slicer.util.mainWindow(), _("Folder of a series"), self._parameters.seriesFolder
        )
        if not path:
            return
        slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
        try:
            made = loadResult(path)
        except RegistrationError as error:
            self._onFailed(error)
            return
        finally:
            slicer.app.restoreOverrideCursor()
        self._onDone(made)

    def _showIdle(self) -> None:
        ui, idle = self.ui, self.task is None
        ui.seriesBusyWidget.visible = not idle
        for widget in (ui.seriesChoiceWidget, ui.seriesRunButton, ui.seriesLoadButton):
            widget.enabled = idle
        ui.seriesCancelButton.enabled = not idle
        if not idle:
            notice(ui.seriesWhyLabel, "")
        self._check()

    def _say(self, text: str, kind: str = "") -> None:
        notice(self.ui.seriesInfoLabel, text, kind)

    # --- the result

    def _letGo(self) -> None:
        super()._letGo()
        self.result = None
        self._say("")
        self._showResult()

    def _showResult(self) -> None:
        """The controls of the last result."""
        ui, made = self.ui, self.result
        ui.seriesResultWidget.visible = made is not None
        if made is None:
            return
        self._filling = True
        try:
            ui.seriesShownSlider.maximum = len(made.rows) - 1
            ui.seriesShownSlider.value = made.nodes.browser.GetSelectedItemNumber()
            for box, texts in (
                (ui.seriesOverlayComboBox, list(self._overlays(made))),
                (ui.seriesChartComboBox, list(made.charts)),
            ):
                box.clear()
                box.addItems(texts)
        finally:
            self._filling = False

    def _overlays(self, made: SeriesScene) -> dict[str, Any]:
        return {
            _("Nothing"): None,
            _("Ventilation"): made.shown(made.nodes.ventilation),
            _("Mean displacement"): made.maps["mean"],
            _("Maximum displacement"): made.maps["max"],
        }

    def onFrame(self, number: int) -> None:
        """Show another frame."""
        if self.result is not None and not self._filling and self._isThere(self.result.nodes.browser):
            self.result.nodes.browser.SetSelectedItemNumber(number)

    def _showLayers(self) -> None:
        """The warped frame with what was chosen over it."""
        if self.result is None or self._filling:
            return
        overlays = self._overlays(self.result)
        chosen = overlays.get(self.ui.seriesOverlayComboBox.currentText)
        warped = self.result.shown(self.result.nodes.warped)
        for node in overlays.values():
            if self._isThere(node):
                colors.showLegend(node, node is chosen)
        if self._isThere(warped):
            views.showLayers(warped, chosen if self._isThere(chosen) else None)

    def onChart(self) -> None:
        """The chosen chart and its table, in the layout of Slicer that has both."""
        found = self.result.charts.get(self.ui.seriesChartComboBox.currentText) if self.result is not None else None
        if found is not None and all(map(self._isThere, found)):
            showLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotTableView)
            showChart(*found)

    def onRemove(self) -> None:
        """Take the last result out of the scene."""
        if self.result is not None:
            self.result.undo.apply()
            self.result = None
            self._say("")
            self._showResult()

    @staticmethod
    def _isThere(node) -> bool:
        return node is not None and bool(slicer.mrmlScene.IsNodePresent(node))


__all__ = ["SeriesPanel"]
