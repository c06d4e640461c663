"""The Apply section of the panel: which nodes, how, and what became of it."""

from __future__ import annotations

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from ..common.errors import RegistrationCancelled, RegistrationError, withLog
from ..common.notices import notice
from ..common.section import Section
from ..engine import dependencies
from ..mrml.references import refer, referencedIds
from . import nodes as apply_nodes
from .choices import ApplyDirection, ApplyGrid, ApplyMethod
from .job import ApplyJob, ApplyResult, needsEngine, problemOf
from .maps import Sides
from .run import Applying
from .scene import SOURCE_ROLE

_POLL_MS = 60
# Of the parameter node's references: what is checked; saved with the scene.
_CHECKED_ROLE = "CARLRegistration.ApplyTo"
_NODE_ID = 256  # Qt.UserRole
_NAMED = 8  # of the results, at most
_NAME_SHARE = 0.5  # of the list's width, at most: the rest of a long name is in its tool tip
_RESAMPLING = ("applyGridLabel", "applyGridComboBox", "applyInterpolationLabel", "applyInterpolationComboBox")
_REFERENCE = ("applyReferenceLabel", "applyReferenceSelector")


class ApplyPanel(Section):
    """Wires the section.

    Args: parent: widget whose layout takes it. python: called for the engine's Python, None for Slicer's own.
    """

    def __init__(self, parent, python) -> None:
        super().__init__(parent, "CARLRegistrationApply.ui", python, _POLL_MS)
        self._undo = None
        self._filling = False
        self._watched: list = []
        # Loading a scene adds many nodes, and names and contents come after: the list follows when it is quiet again.
        self._later = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.setInterval(_POLL_MS)
        self._later.connect("timeout()", self._fill)
        self._connect()
        self._showIdle()

    def _connect(self) -> None:
        ui = self.ui
        table = ui.applyTable
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels([_("Node"), _("Kind"), _("Content")])
        table.verticalHeader().visible = False
        table.horizontalHeader().setStretchLastSection(True)
        table.connect("itemChanged(QTableWidgetItem*)", self._onItem)
        ui.applyCollapsibleButton.connect("contentsCollapsed(bool)", lambda collapsed: self._later.start())
        ui.applyLastButton.connect("clicked(bool)", lambda checked: self.chooseResult())
        ui.applyStudyButton.connect("clicked(bool)", lambda checked: self.checkStudy())
        ui.applyAllButton.connect("clicked(bool)", lambda checked: self._checkShown(True))
        ui.applyNoneButton.connect("clicked(bool)", lambda checked: self._checkShown(False))
        ui.applyFilterLineEdit.connect("textChanged(QString)", lambda text: self._fill())
        ui.applyRunButton.connect("clicked(bool)", lambda checked: self.onRun())
        ui.applyUndoButton.connect("clicked(bool)", lambda checked: self.onUndo())

    # --- the scene and the last result

    def _letGo(self) -> None:
        self._abort()
        self._undo = None
        for event in _sceneEvents():
            self.removeObserver(slicer.mrmlScene, event, self._onScene)
        self._watch([])

    def _follow(self) -> None:
        if self._parameters is not None:
            for event in _sceneEvents():
                self.addObserver(slicer.mrmlScene, event, self._onScene)
            self._fill()
        self._showIdle()

    def setResult(self, result) -> None:
        """The last registration, or None when it was taken back."""
        self._result = result
        if result is not None:
            self.chooseResult()
        self._check()

    def releaseResult(self) -> None:
        """Its nodes are going to be removed: the selectors would choose others in their place."""
        p, made = self._parameters, list(self._result.nodes.values()) if self._result is not None else []
        for name in ("applyTransform", "applyReference"):
            if p is not None and any(getattr(p, name) is node for node in made):
                setattr(p, name, None)

    def chooseResult(self) -> None:
        """Choose the transform of the last registration."""
        made = self._result.nodes.get("transform") if self._result is not None else None
        if made is not None and self._parameters is not None:
            self._parameters.applyTransform = made

    def cleanup(self) -> None:
        """Let go of everything."""
        self._abort()
        self._later.stop()
        super().cleanup()

    def _onScene(self, caller, event) -> None:
        if self.task is None:
            self._later.start()

    def _onNode(self, caller, event) -> None:
        if self.task is None:
            self._later.start()

    def _watch(self, nodes: list) -> None:
        for node in self._watched:
            self.removeObserver(node, vtk.vtkCommand.ModifiedEvent, self._onNode)
        self._watched = list(nodes)
        for node in self._watched:
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._onNode)

    def _onParameters(self, caller=None, event=None) -> None:
        if self._parameters is not None and not slicer.mrmlScene.IsImporting():
            self._check()

    # --- the list

    def checked(self) -> list:
        """The nodes that are checked and still there, in the order of the list."""
        if self._parameters is None:
            return []
        ids = referencedIds(self._parameters.parameterNode, _CHECKED_ROLE)
        return [one for one in apply_nodes.candidates() if one.GetID() in ids]

    def setChecked(self, nodes) -> None:
        """Check these nodes and no others."""
        if self._parameters is None:
            return
        refer(self._parameters.parameterNode, _CHECKED_ROLE, nodes)
        self._fill()

    def checkStudy(self) -> None:
        """Check what belongs together with the volume of the data's side; earlier results aside."""
        source = self._sides().source
        starts = [source] if source is not None else self.checked()
        found = []
        for start in starts:
            for node in apply_nodes.together(start):
                if node not in found and not _isResult(node):
                    found.append(node)
        if not found:
            self._say(_("No other nodes are in its study or folder. Check them in the list."))
            return
        target = self._sides().target
        self.setChecked([node for node in found if node is not target])

    def _checkShown(self, on: bool) -> None:
        shown = self._shown()
        others = [node for node in self.checked() if node not in shown]
        self.setChecked(others + (shown if on else []))

    def _shown(self) -> list:
        """What is checked first, what a registration made last."""
        wanted = self.ui.applyFilterLineEdit.text.strip().lower()
        checked = {node.GetID() for node in self.checked()}
        found = sorted(apply_nodes.candidates(), key=lambda node: (node.GetID() not in checked, _ofRegistration(node)))
        if not wanted:
            return found
        return [n for n in found if wanted in n.GetName().lower() or wanted in apply_nodes.kindName(n).lower()]

    def _fill(self) -> None:
        """Show what is in the scene."""
        self._later.stop()
        if self._parameters is None or slicer.mrmlScene.IsImporting() or slicer.mrmlScene.IsClosing():
            return
        if self.ui.applyCollapsibleButton.collapsed:  # filled when it is opened; until then no node is held
            self._watch([])
            self._check()
            return
        table, nodes = self.ui.applyTable, self._shown()
        checked = {node.GetID() for node in self.checked()}
        self._filling = True
        try:
            table.setRowCount(len(nodes))
            for row, node in enumerate(nodes):
                texts = (node.GetName(), apply_nodes.kindName(node), apply_nodes.describe(node))
                for column, text in enumerate(texts):
                    item = qt.QTableWidgetItem(text)
                    flags = qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable
                    item.setFlags(flags | qt.Qt.ItemIsUserCheckable if column == 0 else flags)
                    if column == 0:
                        item.setCheckState(qt.Qt.Checked if node.GetID() in checked else qt.Qt.Unchecked)
                        item.setData(_NODE_ID, node.GetID())
                    item.setToolTip(text)
                    table.setItem(row, column, item)
            for column in (0, 1):
                table.resizeColumnToContents(column)
            table.setColumnWidth(0, min(table.columnWidth(0), max(160, round(_NAME_SHARE * table.width))))
            table.resizeRowsToContents()
        finally:
            self._filling = False
        self._watch(nodes)
        self._check()

    def _onItem(self, item) -> None:
        if self._filling or item.column() != 0:
            return
        node = slicer.mrmlScene.GetNodeByID(item.data(_NODE_ID) or "")
        if node is None:
            return
        checked = [one for one in self.checked() if one is not node]
        if item.checkState() == qt.Qt.Checked:
            checked.append(node)
        refer(self._parameters.parameterNode, _CHECKED_ROLE, checked)
        self._check()

    # --- what would be done

    def job(self) -> ApplyJob:
        """What the section describes."""
        p = self._parameters
        return ApplyJob(
            tuple(self.checked()),
            p.applyTransform,
            p.applyDirection,
            p.applyMethod,
            p.applyGrid,
            p.applyReference,
            p.applyInterpolation,
            p.applyMassPreserving,
            p.applyInPlace,
            self._python(),
        )

    def _sides(self):
        p = self._parameters
        if p is None or p.applyTransform is None:
            return Sides()
        return Sides.of(p.applyTransform, p.applyDirection is ApplyDirection.TO_FIXED)

    def _check(self) -> None:
        """Show what fits the choices, and why it cannot be started."""
        ui, p = self.ui, self._parameters
        if p is None or self.task is not None:
            return
        method = p.applyMethod
        for name in _RESAMPLING:
            getattr(ui, name).visible = method is ApplyMethod.RESAMPLE
        ui.applyMassCheckBox.visible = method is ApplyMethod.RESAMPLE
        ui.applyInPlaceCheckBox.visible = method is ApplyMethod.HARDEN
        for name in _REFERENCE:
            getattr(ui, name).visible = method is ApplyMethod.RESAMPLE and p.applyGrid is ApplyGrid.REFERENCE
        made = self._result.nodes.get("transform") if self._result is not None else None
        ui.applyLastButton.visible = made is not None and p.applyTransform is not made
        notice(ui.applyWhatLabel, self._whatText())
        job = self.job()
        reason = problemOf(job)
        notice(ui.applyWhyLabel, reason)
        ui.applyRunButton.enabled = not reason
        ui.applyRunButton.toolTip = reason or _("Apply the transform to what is checked.")
        count = len(job.nodes)
        ui.applyRunButton.text = _("Transform {count} nodes").format(count=count) if count > 1 else _("Transform data")
        ui.applyUndoButton.enabled = self._undo is not None

    def _whatText(self) -> str:
        p, sides = self._parameters, self._sides()
        if p.applyTransform is None:
            return ""
        if sides.source is None or sides.target is None:
            return _("The transform does not say which volumes it was made for.")
        return _("From: {source}\nTo: {target}").format(source=sides.source.GetName(), target=sides.target.GetName())

    # --- running

    def onRun(self) -> None:
        """Start, or cancel what runs."""
        if self.task is not None:
            self.ui.applyRunButton.enabled = False
            self.ui.applyRunButton.text = _("Cancelling ...")
            self.task.cancel()
            return
        job = self.job()
        self.ui.applyInfoLabel.text = ""
        running = Applying(job, self._onStatus)
        try:
            if job.enginePython is None and needsEngine(job):
                dependencies.ensure()
            running.start()
        except RegistrationError as error:
            self._say(str(error), "error")
            return
        self._runTask(running, lambda result: self._onDone(result, running), self._onFailed)
        self._showRunning()

    def _onDone(self, result: ApplyResult, running: Applying) -> None:
        self._undo = running.undo
        self._finish()
        self._say("\n".join([_resultText(result), *result.notes]))

    def _onFailed(self, error: RegistrationError) -> None:
        self._finish()
        self._say(withLog(error), "" if isinstance(error, RegistrationCancelled) else "error")

    def _onStatus(self, text: str, share: float) -> None:
        self.ui.applyProgressBar.value = round(1000 * share)
        self.ui.applyInfoLabel.text = _("Cancelling ...") if self.task is not None and self.task.cancelling else text
        self.ui.applyInfoLabel.visible = True

    def _finish(self) -> None:
        self._showIdle()
        self._fill()

    def _abort(self) -> None:
        self._endTask()
        self._showIdle()

    def onUndo(self) -> None:
        """Take back what was applied last."""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo.apply()
            self._fill()
            self._say(_("What was applied last was taken back."))

    def _inputs(self) -> list:
        ui = self.ui
        names = ("TransformSelector", "DirectionComboBox", "Table", "StudyButton", "AllButton", "NoneButton")
        names += ("FilterLineEdit", "MethodComboBox", "GridComboBox", "ReferenceSelector", "InterpolationComboBox")
        names += ("MassCheckBox", "InPlaceCheckBox", "LastButton")
        return [getattr(ui, f"apply{name}") for name in names]

    def _showRunning(self) -> None:
        ui = self.ui
        for widget in self._inputs():
            widget.enabled = False
        ui.applyWhyLabel.visible = False
        ui.applyRunButton.text = _("Cancel")
        ui.applyRunButton.toolTip = _("Stop; nothing is changed.")
        ui.applyUndoButton.enabled = False
        ui.applyProgressBar.value = 0
        ui.applyProgressBar.visible = True

    def _showIdle(self) -> None:
        for widget in self._inputs():
            widget.enabled = True
        self.ui.applyProgressBar.visible = False
        self._say("")
        self._check()

    def _say(self, text: str, kind: str = "") -> None:
        notice(self.ui.applyInfoLabel, text, kind)


def _sceneEvents() -> tuple:
    scene = slicer.mrmlScene
    return (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndImportEvent, scene.EndBatchProcessEvent)


def _ofRegistration(node) -> bool:
    return node.GetAttribute("CARLRegistration.Settings") is not None


def _isResult(node) -> bool:
    """True for what this module has made."""
    return node.GetNodeReferenceID(SOURCE_ROLE) is not None or _ofRegistration(node)


def _resultText(result) -> str:
    names = [made.GetName() for _source, made in result.made]
    text = names[0]
    if len(names) > 1:
        text = "\n".join([_("{count} nodes").format(count=len(names)), *names[:_NAMED]])
        text += "\n..." if len(names) > _NAMED else ""
    if result.job.method is ApplyMethod.PLACE:
        return _("Placed: {what}").format(what=text)
    if result.job.method is ApplyMethod.HARDEN:
        return _("Hardened: {what}").format(what=text)
    return _("Done in {seconds:.0f} s: {what}").format(seconds=result.seconds, what=text)


__all__ = ["ApplyPanel"]
