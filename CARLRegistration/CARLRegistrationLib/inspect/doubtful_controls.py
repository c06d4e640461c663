"""The button that leads from one doubtful place of the map to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..common.notices import notice
from . import doubtful
from .case import Case
from .snapshot import crosshairNode, jumpTo
from .views import Mode

_MEASURES = ("uncertainty", "dissimilarity", "folds")
_MODES = {"uncertainty": Mode.UNCERTAINTY, "dissimilarity": Mode.OVERLAY, "folds": Mode.JACOBIAN}


class DoubtfulControls:
    """Args: ui: of the section. show: shows a mode unless some mode is shown. jacobian: the case's, made if needed."""

    def __init__(self, ui, show: Callable[[Mode], None], jacobian: Callable[[], Any]) -> None:
        self._ui, self._show, self._jacobian = ui, show, jacobian
        self._case = Case()
        self._places: list[doubtful.Place] = []
        self._number = -1
        ui.doubtfulButton.connect("clicked(bool)", lambda checked: self.onNext())
        ui.doubtfulComboBox.connect("currentIndexChanged(int)", lambda index: self.forget())
        self.choose(Case())

    def choose(self, case: Case) -> None:
        """What is compared. With an uncertainty, that is what is asked first."""
        known = (self._case.uncertainty is None) == (case.uncertainty is None) and self._ui.doubtfulComboBox.count
        self._case = case
        if not known:
            titles = {"uncertainty": _("Uncertainty"), "dissimilarity": _("Dissimilarity"), "folds": _("Folds")}
            box = self._ui.doubtfulComboBox
            was = box.blockSignals(True)
            box.clear()
            for measure in _MEASURES:
                if measure != "uncertainty" or case.uncertainty is not None:
                    box.addItem(titles[measure], measure)
            box.currentIndex = 0
            box.blockSignals(was)
        self._ui.doubtfulButton.enabled = None not in (case.fixed, case.moving, case.transform)
        self.forget()

    def forget(self) -> None:
        """The map or the measure is another one: look for the places anew."""
        self._places, self._number = [], -1
        self._say("")

    def onNext(self) -> None:
        """Go to the next place, after the last to the first."""
        try:
            measure = self._ui.doubtfulComboBox.itemData(self._ui.doubtfulComboBox.currentIndex)
            if not self._places:
                self._case.check()
                self._places = self._look(measure)
            if not self._places:
                self._say(_("No folds.") if measure == "folds" else _("No doubtful place was found."))
                return
            self._show(_MODES[measure])
        except RegistrationError as error:
            self._say(str(error), "error")
            return
        self._number = (self._number + 1) % len(self._places)
        place = self._places[self._number]
        node = crosshairNode()
        if node is not None:
            node.SetCrosshairMode(node.ShowIntersection)
        jumpTo(place.position)
        self._say(
            _("{number} of {count}: {value}").format(number=self._number + 1, count=len(self._places), value=place.text)
        )

    def _look(self, measure: str) -> list[doubtful.Place]:
        slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
        try:
            if measure == "uncertainty":
                return doubtful.uncertain(self._case)
            return doubtful.folded(self._jacobian()) if measure == "folds" else doubtful.dissimilar(self._case)
        finally:
            slicer.app.restoreOverrideCursor()

    def _say(self, text: str, kind: str = "") -> None:
        notice(self._ui.doubtfulLabel, text, kind)


__all__ = ["DoubtfulControls"]
