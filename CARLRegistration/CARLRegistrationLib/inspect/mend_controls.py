"""The controls of mending: Wrong here, the table of points, Mend, Everywhere and Undo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from ..common.errors import RegistrationError
from ..common.files import removeFolder
from ..common.notices import notice
from ..common.polling import Poller
from ..mrml import views
from ..mrml.undo import Undo
from .case import Case
from .placing import PairPlacing
from .points import SIDES, Pair, Points
from .snapshot import jumpTo

_POLL_MS = 150
_TITLES = ("No.", "Fixed R, A, S", "Moving R, A, S", "Before", "Now")
_SIDE_BY_SIDE = {"fixed": "Red", "moving": "Yellow"}
_MOST_STEPS = 10  # that can be undone: each keeps the nodes as they were before


@dataclass
class Mended:
    """What came of a mending. nodes: by kind, as of a result. undo: takes it back. before: mm off, by the points'
    labels. warnings, notes: in words. folder: of the engine's files.
    """

    nodes: dict
    quality: dict
    undo: Undo
    before: dict
    warnings: list[str]
    notes: list[str]
    folder: Path


@dataclass
class Step:
    """A mending that was done. transform: that was mended. result: the registration that it belongs to, or None, with
    its quality and its folder for the report before.
    """

    mended: Mended
    transform: Any
    result: Any
    quality: dict | None
    folder: Path | None


class MendControls(VTKObservationMixin):
    """Args:
    ui: of the section. mender: starts a mending of a case, see register/mending. result: the last registration
        where it is what is compared, else None. sideBySide: shows the case so. choose: makes a transform
        what is compared. renew: the map was changed; called with the new quality, or with None where none is known.
    """

    def __init__(
        self,
        ui,
        mender: Any,
        result: Callable[[], Any],
        sideBySide: Callable[[], None],
        choose: Callable[[Any], None],
        renew: Callable[[dict | None], None],
    ) -> None:
        VTKObservationMixin.__init__(self)
        self._ui, self._mender, self._result = ui, mender, result
        self._sideBySide, self._choose, self._renew = sideBySide, choose, renew
        self._case = Case()
        self._points: Points | None = None
        self._lists: list = []  # of points, which go with the transform
        self._pairs: list[Pair] = []
        self._steps: list[Step] = []
        self._poller = Poller(_POLL_MS)
        self._placing = PairPlacing(self._onSide, self._onPlaced, self._onGivenUp)
        self.filling = False  # the transform is being changed from here
        self._filling = False  # the table is
        self._later = qt.QTimer()  # a drag moves a point many times
        self._later.setSingleShot(True)
        self._later.setInterval(30)
        self._later.connect("timeout()", self._fill)
        table = ui.mendTable
        table.setColumnCount(len(_TITLES))
        table.setHorizontalHeaderLabels([_(title) for title in _TITLES])
        table.verticalHeader().setVisible(False)
        table.horizontalHeader().setStretchLastSection(True)
        table.connect("itemChanged(QTableWidgetItem*)", self._onItem)
        table.connect("cellClicked(int,int)", lambda row, column: self._goTo(row))
        ui.wrongHereButton.connect("clicked(bool)", lambda checked: self.onWrongHere(checked))
        ui.mendButton.connect("clicked(bool)", lambda checked: self.onMend(False))
        ui.mendEverywhereButton.connect("clicked(bool)", lambda checked: self.onMend(True))
        ui.mendUndoButton.connect("clicked(bool)", lambda checked: self.onUndo())
        ui.deletePointButton.connect("clicked(bool)", lambda checked: self.onDelete())
        self.say("")
        self._fill()

    @property
    def running(self) -> bool:
        return self._poller.task is not None

    # --- what is compared

    def show(self, case: Case) -> None:
        """Another case; what ran for the former one is ended, and its steps can be undone no more."""
        self.stop()
        former, lists, self._lists = self._points, self._lists, []
        if former is not None and lists:  # selectors change before a node is really gone
            qt.QTimer.singleShot(0, lambda: self._removeWithout(former.transform, lists))
        self.forget()
        self._case = case
        self.removeObservers()
        self._points = Points(case.transform) if case.transform is not None else None
        self._follow()
        self.say("")
        self._fill()

    def _removeWithout(self, transform, lists: list) -> None:
        """Points whose transform is gone go, too, unless they were given to another."""
        if slicer.mrmlScene.IsNodePresent(transform):
            return
        for node in lists:
            if node not in self._lists and slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)

    def forget(self) -> None:
        """No step can be undone any more; the files that were kept for the report go, but those of the last one."""
        for step in self._steps:
            current = step.result.report_folder if step.result is not None else None
            for folder in (step.mended.folder, step.folder):
                if folder is not None and folder != current:
                    removeFolder(folder)
        self._steps = []
        self.refresh()

    def stop(self) -> None:
        """End what runs and what is being placed."""
        self._placing.end()
        task = self._poller.forget()
        if task is not None:
            task.abort()
        self.refresh()

    def cleanup(self) -> None:
        self._later.stop()
        self.stop()
        self.forget()
        self.removeObservers()

    def viewsChanged(self, sideBySide: bool) -> None:
        """Side by side, each point is shown in the view of its volume; otherwise in all."""
        if self._points is None:
            return
        ids = {sliceNode.GetLayoutName(): sliceNode.GetID() for sliceNode, _composite in views.sliceViews()}
        self._points.showIn({side: [ids[name]] for side, name in _SIDE_BY_SIDE.items() if sideBySide and name in ids})
        if not sideBySide:
            self._placing.end()
        self.refresh()

    # --- points

    def onWrongHere(self, checked: bool) -> None:
        """Place a pair of points, or give it up."""
        if not checked:
            self._placing.end()
            self._onGivenUp()
            return
        try:
            self._case.check()
            if self._points is None:
                return
            self._points.make(self._case.fixed)
            self._follow()
            self._sideBySide()
            self.viewsChanged(True)
            self._placing.begin(self._points)
        except RegistrationError as error:
            self.say(str(error), "error")
        self.refresh()

    def _onSide(self, side: str) -> None:
        self.say(
            {
                "fixed": _("Click the place in the fixed volume (left)."),
                "moving": _("Now click where it belongs in the moving volume (right)."),
            }[side]
        )

    def _onPlaced(self, label: str) -> None:
        self._fill()
        if self.running:
            self.say(_("Press Mend for point {label} when the other is done.").format(label=label))
        else:
            self.onMend(False)

    def _onGivenUp(self) -> None:
        self.say("")
        self._fill()

    def onDelete(self) -> None:
        row = self._ui.mendTable.currentRow()
        if self._points is not None and 0 <= row < len(self._pairs):
            self._points.delete(self._pairs[row].label)
            self._fill()

    def _onItem(self, item) -> None:
        if self._filling or item.column() != 0 or self._points is None or item.row() >= len(self._pairs):
            return
        self._points.switch(self._pairs[item.row()].label, item.checkState() == qt.Qt.Checked)

    def _goTo(self, row: int) -> None:
        if 0 <= row < len(self._pairs):
            jumpTo(self._pairs[row].fixed)

    def _follow(self) -> None:
        """Be told when a point is moved, added or deleted, here or in the Markups module."""
        kind = slicer.vtkMRMLMarkupsNode
        self._lists = self._points.nodes() if self._points is not None else []
        for node in self._lists:
            for event in (kind.PointModifiedEvent, kind.PointAddedEvent, kind.PointRemovedEvent):
                if not self.hasObserver(node, event, self._onPoints):
                    self.addObserver(node, event, self._onPoints)

    def _onPoints(self, caller, event) -> None:
        self._later.start()

    def _fill(self) -> None:
        """Show the points as they are."""
        table = self._ui.mendTable
        points = self._points
        if points is not None and not slicer.mrmlScene.IsNodePresent(points.transform):
            points = None
        self._pairs = points.pairs() if points is not None else []
        self._filling = True
        try:
            table.setRowCount(len(self._pairs))
            for row, pair in enumerate(self._pairs):
                places = (", ".join(f"{x:.0f}" for x in getattr(pair, side)) for side in SIDES)
                before = "" if pair.before is None else _("{mm:.1f} mm").format(mm=pair.before)
                texts = (pair.label, *places, before, _("{mm:.1f} mm").format(mm=pair.now))
                for column, text in enumerate(texts):
                    item = qt.QTableWidgetItem(text)
                    flags = qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable
                    item.setFlags(flags | qt.Qt.ItemIsUserCheckable if column == 0 else flags)
                    if column == 0:
                        item.setCheckState(qt.Qt.Checked if pair.on else qt.Qt.Unchecked)
                    table.setItem(row, column, item)
            table.resizeColumnsToContents()
            table.resizeRowsToContents()
        finally:
            self._filling = False
        self.refresh()

    # --- mending

    def onMend(self, everywhere: bool) -> None:
        """Mend by the points, around them or then everywhere; or stop."""
        if self.running:
            self.stop()
            self.say(_("Stopped; the transform stays as it was."))
            return
        self._placing.end()
        try:
            task = self._mender.start(self._case, everywhere, self._result(), self._whileFilling)
        except RegistrationError as error:
            self.say(str(error), "error")
            return
        self._poller.follow(task, self._onMended, self._onFailed, self._onRunning)
        self._onRunning(task)
        self.refresh()

    def _onRunning(self, task) -> None:
        self.say(_("Mending, {seconds:.0f} s ...").format(seconds=task.elapsed))

    @contextmanager
    def _whileFilling(self) -> Iterator[None]:
        """What changes the transform in between is no surprise."""
        self.filling = True
        try:
            yield
        finally:
            self.filling = False

    def _onMended(self, mended: Mended) -> None:
        case, result = self._case, self._result()
        made = mended.nodes["transform"]
        if made is not case.transform:
            result = None
        step = Step(mended, case.transform, result, None, None)
        if result is not None:
            step.quality, step.folder = result.quality, result.report_folder
            result.quality, result.report_folder = mended.quality, mended.folder
        steps = [*self._steps, step]
        if len(steps) > _MOST_STEPS:
            oldest = steps.pop(0).folder
            if oldest is not None:
                removeFolder(oldest)
        if made is not case.transform and self._points is not None:
            self._points.giveTo(made)
            self._choose(made)  # forgets the steps of the former one
        Points(made).remember(mended.before)
        self._steps = steps
        self._renew(mended.quality)
        self._fill()
        self.say("\n".join([self._summary(), *mended.warnings, *mended.notes]))

    def _summary(self) -> str:
        on = [pair for pair in self._pairs if pair.on and pair.before is not None]
        parts = [
            _("point {label}: {before:.1f} \u2192 {now:.1f} mm").format(label=p.label, before=p.before, now=p.now)
            for p in on[:4]
        ]
        return _("Mended, {points}.").format(points=", ".join(parts)) if parts else _("Mended.")

    def _onFailed(self, error: RegistrationError) -> None:
        self.refresh()
        self.say(str(error), "error")

    def onUndo(self) -> None:
        """Take the last mending back; the points stay."""
        if not self._steps or self.running:
            return
        *rest, step = self._steps
        made = step.mended.nodes["transform"]
        if made is not step.transform:
            Points(made).giveTo(step.transform)
            self._steps = []
            self._choose(step.transform)
        with self._whileFilling():
            step.mended.undo.apply()
        if step.result is not None:
            step.result.quality, step.result.report_folder = step.quality, step.folder
        removeFolder(step.mended.folder)
        self._steps = rest
        self._renew(step.quality)
        self._fill()
        self.say(_("The last mending was taken back."))

    # --- what is shown

    def refresh(self) -> None:
        ui, case = self._ui, self._case
        complete = None not in (case.fixed, case.moving, case.transform)
        ui.wrongHereButton.enabled = complete
        ui.wrongHereButton.checked = self._placing.active
        ui.mendButton.text = _("Stop") if self.running else _("Mend")
        ui.mendButton.enabled = complete and (self.running or bool(self._pairs))
        ui.mendEverywhereButton.enabled = complete and bool(self._pairs) and not self.running
        ui.mendUndoButton.enabled = bool(self._steps) and not self.running
        ui.mendTable.visible = ui.deletePointButton.visible = bool(self._pairs)

    def say(self, text: str, kind: str = "") -> None:
        notice(self._ui.mendInfoLabel, text, kind)


__all__ = ["MendControls", "Mended"]
