"""The import of the section: which file, what its numbers mean, which way it leads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import qt
import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..common.files import typedPath
from ..inspect.case import Case
from ..mrml.geometry import parents
from . import tasks
from .choices import Convention, Direction
from .files import TransformSelection, antsAffineBeside, directionOf
from .tasks import TaskResult

if TYPE_CHECKING:
    from .panel import TransformsPanel

_READ = "*.h5 *.hdf5 *.tfm *.txt *.mat *.lta *.nii *.nii.gz *.nrrd *.nhdr *.mha *.mhd"


class ImportControls:
    """Args: section: that they belong to."""

    def __init__(self, section: TransformsPanel) -> None:
        self._section = section
        self._ui = ui = section.ui
        ui.importFileButton.connect("clicked(bool)", lambda checked: self.onChooseFile())
        ui.importButton.connect("clicked(bool)", lambda checked: self.onImport())
        ui.importFileLineEdit.connect("textChanged(QString)", lambda text: self._forgetAnswers())

    def askForConvention(self) -> str:
        """Lead the user to the choice of what the numbers mean; returns what to do."""
        self._ui.importCollapsibleButton.collapsed = False
        self._ui.importConventionComboBox.setFocus()
        return _("Choose them under Coordinates, and press Import again.")

    def onChooseFile(self) -> None:
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(),
            _("Transform file"),
            self._section.folder,
            _("Transforms ({endings});;All files (*)").format(endings=_READ),
        )
        if path:
            self._section.folder = str(Path(path).parent)
            self._ui.importFileLineEdit.text = path

    def _forgetAnswers(self) -> None:
        """What was said of one file is not taken for another."""
        if self._section.parameters is not None:
            with slicer.util.NodeModify(self._section.parameters):
                self._section.parameters.importConvention = Convention.FILE
                self._section.parameters.importDirection = Direction.FILE

    def onImport(self) -> None:
        """Make a transform node of the file."""
        self._section.at("import")
        if not self._ui.importFileLineEdit.text.strip():
            self.onChooseFile()
        text = typedPath(self._ui.importFileLineEdit.text)
        if not text:
            self._section.say(_("Choose a transform file."))
            return
        p, path = self._section.parameters, Path(text)
        self._section.show("")
        if not path.is_file():
            self._section.say(_("{path} is not there. Choose a transform file.").format(path=path))
            return
        direction, why = self._directionOf(path)
        if direction is None:
            self._section.say("")
            self._section.show(_("Nothing was imported."))
            return
        paths = [path]
        affine = antsAffineBeside(path)
        if affine is not None:
            question = _(
                "{affine} lies beside {warp}. ANTs writes both for one registration. Import them together, as one "
                "transform?"
            ).format(affine=affine.name, warp=path.name)
            if slicer.util.confirmYesNoDisplay(question, windowTitle=_("Import transform")):
                paths.append(affine)
        fixed, moving = p.transformsFixed, p.transformsMoving
        wanted, convention = bool(self._ui.importInitialCheckBox.checked), p.importConvention

        def begin() -> tasks.TransformTask:
            together = len(paths) > 1 and direction is Direction.INVERSE
            if together:
                raise RegistrationError(_("ANTs' pair can only be imported in its own direction. Import each file."))
            return tasks.startImport(
                paths,
                convention=convention,
                direction=direction,
                fixed=fixed,
                moving=moving,
                python=self._section.python(),
            )

        def imported(made: TaskResult) -> None:
            self._onImported(made, path, direction, why, wanted)

        self._section.start(_("Importing {name} ...").format(name=path.name), begin, imported)

    def _directionOf(self, path: Path) -> tuple[Direction | None, str]:
        """Which way a file leads and how that is known: by the panel, the file, or an answer; None: cancelled."""
        p = self._section.parameters
        if p.importDirection is not Direction.FILE:
            return p.importDirection, _("as chosen")
        found, why = directionOf(path)
        if found:
            return Direction(found), why
        if p.importConvention in (Convention.FSL, Convention.FSL_ABSOLUTE):
            return Direction.FORWARD, _("as FSL's files do")
        question = _(
            "{name} does not say which way it leads.\n\nDoes it bring the moving image onto the fixed one, as files "
            "for resampling do (from fixed to moving points)? No: it leads the other way, and is inverted."
        ).format(name=path.name)
        buttons = qt.QMessageBox.Yes | qt.QMessageBox.No | qt.QMessageBox.Cancel
        answer = qt.QMessageBox.question(slicer.util.mainWindow(), _("Import transform"), question, buttons)
        if answer not in (qt.QMessageBox.Yes, qt.QMessageBox.No):
            return None, ""
        p.importDirection = Direction.FORWARD if answer == qt.QMessageBox.Yes else Direction.INVERSE
        return p.importDirection, _("as answered")

    def _onImported(self, made: TaskResult, path: Path, direction: Direction, why: str, asInitial: bool) -> None:
        node = made.nodes[0]
        self._forgetAnswers()
        self._section.parameters.transformsTransform = node
        way = _("It leads from fixed to moving points")
        if direction is Direction.INVERSE:
            way = _("The file leads from moving to fixed points, so it was inverted")
        lines = [_("Imported {name}. {way} ({why}).").format(name=node.GetName(), way=way, why=why), *made.notes]
        subject = self._section.subject
        if not _reaches(subject):
            lines.append(
                _(
                    "Check: under it no part of {fixed} lies in {moving}. Is it their transform, in this direction?"
                ).format(fixed=subject.fixed.GetName(), moving=subject.moving.GetName())
            )
        if asInitial:
            lines.append(self._section.tools.setInitial(node))
        self._section.show("\n".join(lines))


def _reaches(subject: TransformSelection) -> bool:
    """False when no part of the fixed volume lands in the moving one, where both are known and as in their files."""
    volumes = (subject.fixed, subject.moving)
    if None in volumes or any(parents(node) for node in volumes):
        return True
    return bool(Case(subject.fixed, subject.moving, subject.transform).commonShare())


__all__ = ["ImportControls"]
