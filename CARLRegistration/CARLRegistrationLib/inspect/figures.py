"""Metrics and report of what is compared: computed in the background, shown as verdict, table and charts."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..common.files import removeFolder
from ..common.notices import showVerdict
from ..common.section import Section
from ..engine.words import RESULT, inPanelWords
from .case import Case
from .evaluation import Evaluation, startEvaluation, startReport
from .metrics import Figures, joined, makeFigures, verdictOf
from .tables import fillTable


class FiguresSection(Section):
    """The part of the Inspect section that has the engine judge what is compared."""

    def __init__(self, parent, file: str, python, pollMs: int) -> None:
        super().__init__(parent, file, python, pollMs)
        self.figures: Figures | None = None
        self._case = Case()
        self._reportFolder: Path | None = None
        self.ui.figuresButton.connect("clicked(bool)", lambda checked: self.onFigures())
        self._saveAs: Path | None = None  # where the report that is being made goes; None: into the browser
        self.ui.reportButton.connect("clicked(bool)", lambda checked: self.onReport())
        self.ui.reportSaveButton.connect("clicked(bool)", lambda checked: self.onSaveReport())

    def cleanup(self) -> None:
        super().cleanup()
        if self._reportFolder is not None:
            removeFolder(self._reportFolder)
            self._reportFolder = None

    def _say(self, text: str, kind: str = "") -> None:
        """What is wrong, in words; "" when nothing is. kind: see `common.notices`."""
        raise NotImplementedError

    def _known(self) -> dict | None:
        """The quality of what is compared, where a registration has told it and nothing was changed since."""
        raise NotImplementedError

    def _check(self) -> None:
        """Say what is compared, or what is missing."""
        raise NotImplementedError

    def _allowFigures(self, complete: bool) -> None:
        """They can be computed where they add something. complete: there is something to compare."""
        case = self._case
        more = (case.fixedSegmentation, case.movingSegmentation, case.fixedPoints, case.movingPoints)
        whole = self._known() is not None and more == (None,) * 4 and self.task is None
        self.ui.figuresButton.enabled = complete and not whole
        self.ui.figuresButton.toolTip = (
            _("All figures of the last registration are shown; segments or points at 'What is compared' add more.")
            if whole
            else _("Judge the transform: similarity, folds, segments, landmarks, before and after, in the background.")
        )

    def onFigures(self) -> None:
        """Judge what is compared, in the background."""
        if self.task is not None:
            self._stopTask()
            self._showFigures(self.figures)
            return
        try:
            self._case.check()
            task = startEvaluation(self._case, self._python())
        except RegistrationError as error:
            self._say(str(error), "error")
            return
        self._say("")
        self.ui.figuresButton.text = _("Stop")
        self.ui.figuresInfoLabel.text = _("Computing the figures in the background ...")
        self.ui.figuresInfoLabel.visible = True
        self._runTask(task, self._onEvaluated, self._onFailed)

    def onSaveReport(self) -> None:
        """Make the report of the last registration, as a file of the user's."""
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Save report"), str(Path.home() / "report.html"), _("Web page (*.html)")
        )
        if path:
            self.onReport(Path(path))

    def onReport(self, saveAs: Path | None = None) -> None:
        """Make the report of the last registration, and open it where it is not to be saved."""
        self._stopTask()
        self._saveAs = saveAs
        try:
            folder = self._result.report_folder if self._result is not None else None
            task = startReport(folder, self._python(), saveAs)
        except RegistrationError as error:
            self._say(str(error), "error")
            return
        self._say("")
        self.ui.figuresInfoLabel.text = _("Making the report ...")
        self.ui.figuresInfoLabel.visible = True
        self.ui.reportButton.enabled = self.ui.reportSaveButton.enabled = False
        self._runTask(task, self._onReportMade, self._onFailed)

    def _onEvaluated(self, found: Evaluation) -> None:
        self._stopTask()
        former = self._known()
        self._judge(found.quality if former is None else joined(former, found.quality), found.names)
        if found.notes:
            self._say(" ".join(found.notes))

    def _onReportMade(self, path: Path) -> None:
        self._stopTask()
        self._showFigures(self.figures)
        if self._saveAs is not None:
            self._say(_("The report was saved as {path}.").format(path=path))
            return
        if self._reportFolder is not None:
            removeFolder(self._reportFolder)
        self._reportFolder = path.parent  # the browser reads it
        if not qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path))):
            self._say(_("The report is {path}; no browser could be opened.").format(path=path))

    def _onFailed(self, error: RegistrationError) -> None:
        self._stopTask()
        self._showFigures(self.figures)
        self._say(str(error), "error")

    def _stopTask(self) -> None:
        self._endTask()
        self.ui.figuresButton.text = _("Compute figures")
        self.ui.figuresInfoLabel.visible = False
        self._check()

    def _judge(self, quality: dict, names: dict | None = None) -> None:
        self.figures = makeFigures(quality, self._case.transform, names)
        self._showFigures(self.figures, quality)

    def _showFigures(self, figures: Figures | None, quality: dict | None = None) -> None:
        """Show verdict, table and charts of an evaluation (None: of none). quality: when it is a new one."""
        ui = self.ui
        self.figures = figures
        if quality is not None or figures is None:
            word, reasons = verdictOf(quality or {})
            showVerdict(ui.verdictLabel, word, 15)
            ui.reasonsLabel.text = "\n".join(f"\u2022 {inPanelWords(reason, RESULT)}" for reason in reasons)
            ui.reasonsLabel.visible = bool(reasons)
        rows = figures.rows if figures is not None else []
        fillTable(ui.figuresTable, [_("Figure"), _("Before"), _("After")], [list(row) for row in rows])
        ui.figuresTable.visible = bool(rows)
        charts = list(figures.charts) if figures is not None else []
        ui.chartComboBox.clear()
        for title in charts:
            ui.chartComboBox.addItem(title)
        ui.chartComboBox.visible = ui.chartButton.visible = bool(charts)


__all__ = ["FiguresSection"]
