"""Presets of the user's own: settings as files that the command line reads as well (`--settings`)."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import qt
import slicer
from carlreg.atomic import staged_file
from carlreg.errors import CarlError
from carlreg.settings import RegistrationSettings
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from .parameters import (
    CARLRegistrationParameterNode,
    Effort,
    Modality,
    Model,
    OptimizationMethod,
    Robustness,
    Similarity,
    TransformKind,
    readable,
    settingsFrom,
)

_ENDING = ".json"


def presetFolder() -> Path:
    """Where own presets are kept; it may not be there yet."""
    return Path(qt.QStandardPaths.writableLocation(qt.QStandardPaths.AppDataLocation)) / "CARLRegistration" / "presets"


def portable(settings: RegistrationSettings) -> RegistrationSettings:
    """Settings without what belongs to a computer."""
    return dataclasses.replace(settings, device="auto")


def takeSettings(parameters, settings: RegistrationSettings) -> list[str]:
    """Choose what settings say, all or nothing; the device stays, which belongs to the computer.

    Returns: names of settings that have no control and are not as usual. Raises RegistrationError for a value that the
    panel does not offer.
    """
    values = {
        "transformKind": TransformKind(settings.transform),
        "model": Model(settings.model),
        "weightsFile": settings.weights or "",
        "robustness": Robustness(settings.robustness),
        "fixedModality": Modality(settings.fixed_modality),
        "movingModality": Modality(settings.moving_modality),
        "effort": Effort(settings.effort),
        "ioMethod": OptimizationMethod(settings.io_method),
        "ioSteps": dataclasses.replace(settings, transform="deformable").steps,
        "similarity": Similarity(settings.similarity),
        "landmarksAccuracy": -0.5 if settings.landmarks_accuracy_mm is None else float(settings.landmarks_accuracy_mm),
        "smoothness": float(settings.smoothness),
        "symmetric": settings.symmetric,
        "fieldSpacing": float(settings.field_spacing_mm or 0.0),
        "grid": settings.grid,
    }
    kinds = get_type_hints(CARLRegistrationParameterNode, include_extras=True)
    for name, value in values.items():
        if not isinstance(value, (bool, enum.Enum)) and not readable(kinds[name], str(value)):
            raise RegistrationError(
                _("{name} is {value}, and the panel offers no such value.").format(name=name, value=value)
            )
    with slicer.util.NodeModify(parameters):
        for name, value in values.items():
            setattr(parameters, name, value)
    now, unlike = settingsFrom(parameters), {"device", "io_steps", "weights"}
    return [
        field.name
        for field in dataclasses.fields(settings)
        if field.name not in unlike and getattr(now, field.name) != getattr(settings, field.name)
    ]


class OwnPresets:
    """Choosing, saving, loading and deleting them. Args: ui: of the panel. editable: the parameter node, or None."""

    def __init__(self, ui, editable: Callable[[], Any], folder: Callable[[], Path] = presetFolder) -> None:
        self._ui, self._editable, self.folder = ui, editable, folder
        self._filling = False
        self._known: list[tuple[str, RegistrationSettings | None]] = []  # None: a file that cannot be read
        ui.ownPresetComboBox.connect("currentIndexChanged(int)", self._onChosen)
        ui.deletePresetButton.connect("clicked(bool)", lambda checked: self.delete())
        ui.savePresetButton.connect("clicked(bool)", lambda checked: self.save())
        ui.loadPresetButton.connect("clicked(bool)", lambda checked: self.load())
        self.refresh()

    def refresh(self) -> None:
        """Offer what lies in the folder now; nothing is shown where nothing does."""
        self._known = []
        folder = self.folder()
        files = sorted(folder.glob("*" + _ENDING), key=lambda path: path.stem.casefold()) if folder.is_dir() else []
        for path in files:
            try:
                self._known.append((path.stem, RegistrationSettings.from_json(path)))
            except CarlError:
                self._known.append((path.stem, None))
        box = self._ui.ownPresetComboBox
        self._filling = True
        box.clear()
        box.addItem(_("None"))
        for name, _settings in self._known:
            box.addItem(name)
        self._filling = False
        for widget in (box, self._ui.ownPresetLabel, self._ui.deletePresetButton):
            widget.visible = bool(files)

    def show(self, parameters) -> None:
        """Name the one whose settings are the present ones."""
        if not self._known:
            return
        try:
            now = portable(settingsFrom(parameters))
        except CarlError:
            return
        box = self._ui.ownPresetComboBox
        equal = [n for n, (_name, one) in enumerate(self._known, start=1) if one is not None and portable(one) == now]
        if box.currentIndex not in equal:
            self._filling = True
            box.currentIndex = equal[0] if equal else 0
            self._filling = False
        self._ui.deletePresetButton.enabled = bool(equal)

    def save(self) -> None:
        """Ask for a file, by default among the own presets, and write the present settings."""
        parameters = self._editable()
        if parameters is None:
            return
        folder = self.folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = qt.QFileDialog.getSaveFileName(
                slicer.util.mainWindow(), _("Save preset"), str(folder / _("My preset.json")), self._filter()
            )
            if not path:
                return
            file = Path(path if path.lower().endswith(_ENDING) else path + _ENDING)
            with staged_file(file) as writing:
                writing.write_text(portable(settingsFrom(parameters)).to_json() + "\n", encoding="utf-8")
        except (CarlError, OSError) as error:
            slicer.util.errorDisplay(_("The preset was not saved: {reason}").format(reason=error))
            return
        self.refresh()
        self.show(parameters)

    def load(self) -> None:
        """Ask for a file and take its settings."""
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), _("Load preset"), str(self.folder()), self._filter()
        )
        if path:
            self._take(Path(path))

    def delete(self) -> None:
        """Delete the file of the chosen one, after a question."""
        index = self._ui.ownPresetComboBox.currentIndex
        if index < 1:
            return
        name = self._known[index - 1][0]
        if not slicer.util.confirmYesNoDisplay(_("Delete the preset {name}?").format(name=name)):
            return
        try:
            (self.folder() / (name + _ENDING)).unlink(missing_ok=True)
        except OSError as error:
            slicer.util.errorDisplay(_("{name} was not deleted: {reason}").format(name=name, reason=error))
        self.refresh()

    def _onChosen(self, index: int) -> None:
        if not self._filling and index > 0:
            self._take(self.folder() / (self._known[index - 1][0] + _ENDING))

    def _take(self, path: Path) -> None:
        parameters = self._editable()
        if parameters is None:
            return
        try:
            left = takeSettings(parameters, RegistrationSettings.from_json(path))
        except (CarlError, RegistrationError) as error:
            slicer.util.errorDisplay(_("The preset was not taken: {reason}").format(reason=error))
            self.show(parameters)
            return
        if left:
            slicer.util.warningDisplay(
                _("Not in the panel, and left as they are: {names}.").format(names=", ".join(left))
            )

    @staticmethod
    def _filter() -> str:
        return _("Settings (*.json)")


__all__ = ["OwnPresets", "portable", "presetFolder", "takeSettings"]
