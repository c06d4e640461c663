"""The export of the section: format and direction, sizes and error before it is saved, and saving."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import qt
import slicer
from slicer.i18n import tr as _

from ..common.notices import notice
from . import tasks
from .choices import Which
from .tasks import Export, TaskResult
from .texts import errorText, placeOf

if TYPE_CHECKING:
    from .panel import TransformsPanel

# By whether a file leads from moving to fixed points.
_LEADS = {
    False: _("Leads from fixed to moving points: resamples the moving image onto the fixed one."),
    True: _("Leads from moving to fixed points: resamples the fixed image onto the moving one."),
}


class ExportControls:
    """Args: section: that they belong to."""

    def __init__(self, section: TransformsPanel) -> None:
        self._section = section
        self._ui = ui = section.ui
        self._preview: tuple[tuple, str, TaskResult] | None = None  # (what it is of, file name, what it told)
        ui.previewButton.connect("clicked(bool)", lambda checked: self.onPreview())
        ui.saveButton.connect("clicked(bool)", lambda checked: self.onSave())
        ui.copyCommandButton.connect("clicked(bool)", lambda checked: self.onCopyCommand())

    def forgetPreview(self) -> None:
        """The transform was changed: sizes and errors that are shown are those of what it was."""
        self._preview = None

    def update(self) -> None:
        """Show what the format offers, and sizes and error while they are true."""
        ui, export = self._ui, self.export
        ui.exportInitialLabel.visible = ui.exportInitialSelector.visible = export.which is Which.WITH_INITIAL
        ui.exportFormatInfoLabel.text = export.format.text()
        for names, offered in (
            (("exportSpacingLabel", "exportSpacingSpinBox"), export.offersSpacing),
            (("exportPrecisionLabel", "exportPrecisionComboBox"), export.offersPrecision),
            (("exportFlattenCheckBox",), export.offersFlatten),
        ):
            for name in names:
                getattr(ui, name).enabled = offered
        self._showNumbers()

    @property
    def export(self) -> Export:
        p = self._section.parameters
        return Export(p.exportWhich, p.exportFormat, p.exportSpacing, p.exportPrecision, p.exportFlatten)

    def _key(self) -> tuple:
        """What the shown sizes and errors are those of."""
        subject, export = self._section.subject, self.export
        initial = subject.initial if export.which is Which.WITH_INITIAL else None
        nodes = (subject.transform, subject.fixed, subject.moving, initial)
        return (dataclasses.astuple(export), *map(placeOf, nodes))

    def onPreview(self) -> None:
        """Compute sizes and error; nothing is saved."""
        self._section.at("export")
        self._computePreview(lambda: None)

    def _computePreview(self, then: Callable[[], None]) -> None:
        subject, export, key = self._section.subject, self.export, self._key()
        name = self._suggested()

        def shown(made: TaskResult) -> None:
            self._preview = (key, name, made)
            self._section.update()
            then()

        self._preview = None
        begin = lambda: tasks.startExport(subject, export, name, True, self._section.python())  # noqa: E731
        self._section.start(_("Computing sizes and error ..."), begin, shown)

    def onSave(self) -> None:
        """Ask for the file, once sizes and error are shown."""
        self._section.at("export")
        if self._preview is None or self._preview[0] != self._key():
            self._computePreview(self._askAndSave)
        else:
            self._askAndSave()

    def _suggested(self) -> str:
        """A file name that says which image the file brings where."""
        subject, export = self._section.subject, self.export
        names = [node.GetName() if node is not None else "" for node in (subject.moving, subject.fixed)]
        if export.which is Which.INVERSE:
            names.reverse()
        stem = f"{names[0]}_onto_{names[1]}" if all(names) else subject.transform.GetName()
        stem = re.sub(r"[^\w.-]+", "_", stem).strip("._") or "transform"
        return stem + export.endings[0]

    def _askAndSave(self) -> None:
        if self._preview is None:
            return
        key, name, seen = self._preview
        export, subject = self.export, self._section.subject
        endings = " ".join(f"*{ending}" for ending in export.endings)
        asked = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(),
            _("Save transform"),
            str(Path(self._section.folder or Path.home()) / name),
            f"{export.format.label()} ({endings})",
        )
        if not asked:
            self._section.show(_("Nothing was saved."))
            return
        out = export.named(Path(asked))
        self._section.folder = str(out.parent)
        if not self._mayReplace(tasks.filesFor(seen, name, out), Path(asked)):
            self._section.show(_("Nothing was saved."))
            return

        def saved(made: TaskResult) -> None:
            self._preview = (key, out.name, made)
            self._section.update()
            names = ", ".join(name for name, _size in made.files)
            self._section.show(_("Saved in {folder}: {names}").format(folder=out.parent, names=names))

        begin = lambda: tasks.startExport(subject, export, out, False, self._section.python())  # noqa: E731
        self._section.start(_("Saving ..."), begin, saved)

    def _mayReplace(self, files: list[Path], asked: Path) -> bool:
        """Ask about files that are there; the file dialog has asked about its own, and its sidecar goes with it."""
        known = {asked, asked.with_name(f"{asked.name}.json")} if asked.exists() else set()
        there = [file.name for file in files if file.exists() and file not in known]
        if not there:
            return True
        question = _("{folder} already holds:\n\n{names}\n\nReplace them?").format(
            folder=files[0].parent, names="\n".join(there)
        )
        return slicer.util.confirmYesNoDisplay(question, windowTitle=_("Save transform"))

    def _showNumbers(self) -> None:
        """Sizes, error and command of the preview, while they are true."""
        ui = self._ui
        made = self._preview[2] if self._preview is not None and self._preview[0] == self._key() else None
        text = ""
        if made is not None:
            lines = [made.sizes(), _("Error: {error}").format(error=errorText(made.error))]
            lines.append(_LEADS[made.sidecar.get("maps", "").startswith("moving")])
            text = "\n".join([*lines, *made.notes])
        notice(ui.exportNumbersLabel, text)
        self._showCommand(made)

    def _showCommand(self, made: TaskResult | None) -> None:
        command = made.sidecar.get("command", "") if made is not None else ""
        self._ui.exportCommandLineEdit.text = command
        self._ui.exportCommandLineEdit.cursorPosition = 0  # its beginning is what is read
        self._ui.exportCommandWidget.visible = bool(command)

    def onCopyCommand(self) -> None:
        slicer.app.clipboard().setText(self._ui.exportCommandLineEdit.text)


__all__ = ["ExportControls"]
