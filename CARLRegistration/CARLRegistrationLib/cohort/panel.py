"""The Cohort section of the panel: which pairs, into which folder, what becomes of each, and a pair in Inspect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from carlreg.cohort.study import DONE, FAILED
from carlreg.errors import CarlError
from carlreg.settings import RegistrationSettings
from slicer.i18n import tr as _

from ..common.errors import RegistrationCancelled, RegistrationError, withLog
from ..common.files import typedPath
from ..common.notices import breakable, notice
from ..common.section import Section
from ..engine import dependencies
from ..engine.process import Report
from ..inspect.case import Case
from . import run
from .choices import CohortSource
from .job import CohortJob, isStudy, problemOf, studyFolder
from .opening import WrittenNodes, openPair
from .pair_table import PairTable
from .rows import StudyRows
from .volume_list import VolumeList

_POLL_MS = 250
_SUMMARY = "summary.html"
_OF_PLAN = ("cohortPlanLabel", "cohortPlanLineEdit", "cohortPlanButton")
_OF_VOLUMES = ("cohortOntoLabel", "cohortVolumesTable", "cohortAllButton", "cohortNoneButton")


class CohortPanel(Section):
    """Wires the section.

    Args: parent: widget whose layout takes it. python: called for the engine's Python, None for Slicer's own.
        settings: called for those that the parameters hold; raises what is wrong with them. inspect: called to show a
        case in the Inspect section.
    """

    def __init__(
        self,
        parent,
        python: Callable[[], str | None],
        settings: Callable[[Any], RegistrationSettings],
        inspect: Callable[[Case], None],
    ) -> None:
        super().__init__(parent, "CARLRegistrationCohort.ui", python, _POLL_MS)
        self._settings, self._inspect = settings, inspect
        self._rows: StudyRows | None = None
        self._written = WrittenNodes()
        self._table = PairTable(self.ui.cohortPairsTable)
        self._volumes = VolumeList(self.ui.cohortVolumesTable, lambda: self._parameters, self._check)
        self._connect()
        self._showIdle()

    def _connect(self) -> None:
        ui = self.ui
        ui.cohortCollapsibleButton.connect("contentsCollapsed(bool)", lambda collapsed: self._onOpened())
        ui.cohortPlanButton.connect("clicked(bool)", lambda checked: self.onChoosePlan())
        ui.cohortFolderButton.connect("clicked(bool)", lambda checked: self.onChooseFolder())
        ui.cohortAllButton.connect("clicked(bool)", lambda checked: self._volumes.checkAll(True))
        ui.cohortNoneButton.connect("clicked(bool)", lambda checked: self._volumes.checkAll(False))
        ui.cohortRunButton.connect("clicked(bool)", lambda checked: self.onRun())
        ui.cohortResumeButton.connect("clicked(bool)", lambda checked: self.onResume())
        ui.cohortCancelButton.connect("clicked(bool)", lambda checked: self.onCancel())
        ui.cohortSummaryButton.connect("clicked(bool)", lambda checked: self.onSummary())
        ui.cohortPairsTable.connect("cellDoubleClicked(int,int)", lambda row, column: self.onPair(row))

    # --- what would be done

    def _follow(self) -> None:
        self._volumes.follow(self._parameters is not None)
        self._written = WrittenNodes()
        self._showIdle()
        self._onOpened()

    def setResult(self, result) -> None:
        """The last registration: nothing here depends on it."""

    def cleanup(self) -> None:
        """Let go of everything."""
        self._volumes.follow(False)
        super().cleanup()

    def _onParameters(self, caller=None, event=None) -> None:
        if self._parameters is not None and not slicer.mrmlScene.IsImporting():
            self._check()

    def _onOpened(self) -> None:
        if self._parameters is not None:
            self._volumes.fill()
        self._check()

    @property
    def folder(self) -> Path | None:
        """The study folder that is chosen."""
        path = typedPath(self._parameters.cohortFolder) if self._parameters is not None else None
        return Path(path) if path else None

    def job(self) -> CohortJob:
        """What the section describes. Raises RegistrationError, CarlError for settings that are not allowed."""
        p = self._parameters
        volumes = tuple(self._volumes.checked()) if p.cohortSource is CohortSource.VOLUMES else ()
        return CohortJob(
            p.cohortFolder,
            p.cohortSource,
            p.cohortPlan,
            p.fixedVolume,
            volumes,
            self._settings(p),
            self._python(),
        )

    def _check(self) -> None:
        """Show what fits the choices, what the folder holds, and why it cannot be begun."""
        ui, p = self.ui, self._parameters
        if p is None or self.task is not None or ui.cohortCollapsibleButton.collapsed:
            return
        fromScene = p.cohortSource is CohortSource.VOLUMES
        for names, shown in ((_OF_PLAN, not fromScene), (_OF_VOLUMES, fromScene)):
            for name in names:
                getattr(ui, name).visible = shown
        fixed = p.fixedVolume.GetName() if p.fixedVolume is not None else _("the fixed volume")
        ui.cohortOntoLabel.text = breakable(_("Each that is checked is brought onto {fixed}.").format(fixed=fixed))
        try:
            reason = problemOf(self.job())
        except (RegistrationError, CarlError) as error:
            reason = str(error)
        there = self.folder is not None and isStudy(self.folder)
        notice(ui.cohortWhyLabel, "" if there else reason)
        ui.cohortRunButton.enabled = not reason
        ui.cohortRunButton.toolTip = reason or _("Register all pairs with the settings of the section Registration.")
        ui.cohortResumeButton.enabled = ui.cohortRetryCheckBox.enabled = there
        self._showStudy()

    def _showStudy(self) -> None:
        """Fill the table with what the chosen folder holds."""
        folder = self.folder
        rows = self._rows
        if rows is None or rows.folder != folder or (rows.study is None and isStudy(rows.folder)):
            self._table.clear()
            self._say("")
            self._rows = StudyRows(folder) if folder is not None else None
            self._update(settled=True)
        self.ui.cohortPairsTable.visible = bool(self._rows is not None and self._rows.rows)
        self.ui.cohortSummaryButton.visible = folder is not None and (folder / _SUMMARY).is_file()

    def _update(self, settled: bool = False) -> None:
        """Read what is new of the study. settled: nothing is at work on it."""
        rows = self._rows
        if rows is None:
            return
        try:
            changed = dict.fromkeys(rows.update())
        except RegistrationError as error:
            self._say(str(error), "error")
            return
        if settled:
            changed |= dict.fromkeys(rows.settle())
        if changed:
            self._table.show(rows.rows[name] for name in changed)
            self.ui.cohortPairsTable.visible = True

    def onChoosePlan(self) -> None:
        """Ask for the table."""
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), _("Plan"), self._parameters.cohortPlan, _("Tables (*.csv *.tsv);;All files (*)")
        )
        if path:
            self._parameters.cohortPlan = path

    def onChooseFolder(self) -> None:
        """Ask for the study's folder."""
        path = qt.QFileDialog.getExistingDirectory(
            slicer.util.mainWindow(), _("Study folder"), self._parameters.cohortFolder
        )
        if path:
            self._parameters.cohortFolder = path

    # --- running

    def onRun(self) -> None:
        """Begin a new study."""
        self._start(lambda: run.begin(self.job(), self._onReport))

    def onResume(self) -> None:
        """Go on with the study in the folder, with its own pairs and settings."""
        retry = self._parameters.cohortRetryFailed
        folder = studyFolder(self._parameters.cohortFolder)
        self._start(lambda: run.resume(folder, retry, self._python(), self._onReport))

    def _start(self, begin: Callable[[], run.CohortTask]) -> None:
        """Start a task; what cannot be done is said."""
        self._say("")
        try:
            if self._python() is None:
                dependencies.ensure(*run.PACKAGES)
            slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
            try:
                task = begin()
            finally:
                slicer.app.restoreOverrideCursor()
        except (RegistrationError, CarlError) as error:
            self._say(str(error), "" if isinstance(error, RegistrationCancelled) else "error")
            return
        self._written.add(task.nodes)
        self._table.clear()
        self._rows = StudyRows(task.study)
        self.ui.cohortProgressBar.value = 0
        self.ui.cohortBusyLabel.text = _("Planning ...")
        self._runTask(task, lambda done: self._onEnd(None), self._onEnd, lambda running: self._update())
        self._showIdle()

    def _onReport(self, report: Report) -> None:
        for record in report.records:
            self.ui.cohortProgressBar.value = round(1000 * float(record.get("fraction") or 0.0))
            text = str(record.get("warning") or record.get("message") or "")
            if text:
                self.ui.cohortBusyLabel.text = breakable(text)

    def _onEnd(self, error: RegistrationError | None) -> None:
        """It is over: all done, some failed, stopped, or nothing could be begun."""
        self._update(settled=True)
        self._showIdle()
        states = [row.state for row in self._rows.rows.values()] if self._rows is not None else []
        counted = _("{done} of {all} pairs done, {failed} failed.").format(
            done=states.count(DONE), all=len(states), failed=states.count(FAILED)
        )
        if error is None:
            self._say(counted)
        elif isinstance(error, RegistrationCancelled):
            self._say(_("Stopped. {counted} Resume goes on.").format(counted=counted) if states else str(error))
        else:
            self._say(withLog(error), "error")

    def onCancel(self) -> None:
        """Ask the engine to stop; what is done stays."""
        if self.task is not None:
            self.ui.cohortBusyLabel.text = _("Stopping ...")
            self.ui.cohortCancelButton.enabled = False
            self.task.cancel()

    def _letGo(self) -> None:
        super()._letGo()
        self._rows = None
        self._table.clear()

    def onSummary(self) -> None:
        """Show the engine's summary in the browser."""
        if self.folder is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self.folder / _SUMMARY)))

    def _showIdle(self) -> None:
        ui, idle = self.ui, self.task is None
        ui.cohortBusyWidget.visible = not idle
        for widget in (ui.cohortChoiceWidget, ui.cohortRunButton, ui.cohortResumeButton, ui.cohortRetryCheckBox):
            widget.enabled = idle
        ui.cohortCancelButton.enabled = not idle
        if not idle:
            notice(ui.cohortWhyLabel, "")
        self._check()

    def _say(self, text: str, kind: str = "") -> None:
        notice(self.ui.cohortInfoLabel, text, kind)

    # --- a pair

    def onPair(self, row: int) -> None:
        """Show a done pair in Inspect; of a failed one say why."""
        name = self._table.nameAt(row)
        if self._rows is None or self._rows.study is None or name not in self._rows.rows:
            return
        one = self._rows.rows[name]
        if one.state != DONE:
            text = _("{name}: {reason}").format(name=name, reason=one.reason) if one.reason else ""
            self._say(text or _("{name} is not done yet.").format(name=name), "error" if one.reason else "")
            return
        slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
        try:
            case = openPair(self._rows.study, self._rows.study.pair(name), self._written)
        except RegistrationError as error:
            self._say(str(error), "error")
            return
        finally:
            slicer.app.restoreOverrideCursor()
        self._say("")
        self._inspect(case)


__all__ = ["CohortPanel"]
