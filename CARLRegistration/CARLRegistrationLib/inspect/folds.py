"""The folds of a Jacobian, and the volume change of each segment, in the section's tables."""

from __future__ import annotations

from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from . import jacobian
from .snapshot import jumpTo
from .tables import fillTable, volumeText


class FoldsControls:
    """Args: ui: of the section."""

    def __init__(self, ui) -> None:
        self._ui = ui
        self._folds: list[jacobian.Fold] = []
        self._fold = -1
        self._shown: tuple = (None, None)
        ui.nextFoldButton.connect("clicked(bool)", lambda checked: self.nextFold())
        ui.foldsTable.connect("cellClicked(int,int)", lambda row, column: self._goTo(row))

    def isShown(self, node, segmentation) -> bool:
        """True when this Jacobian is listed, with these segments."""
        return self._shown[0] is node and self._shown[1] is segmentation

    def show(self, node, segmentation, note: str = "") -> None:
        """List the folds of a Jacobian volume (None: of none), and what it says of each segment."""
        ui = self._ui
        self._shown, self._fold = (node, segmentation), -1
        self._folds = jacobian.folds(node) if node is not None else []
        total = sum(fold.volume_mm3 for fold in self._folds)
        if node is None:
            text = _("Press Jacobian: folds are listed here, and the volume change of each segment.")
        elif not self._folds:
            text = _("No folds: the determinant is above 0 everywhere.")
        else:
            text = _("{count} folded regions, {volume} in all.").format(
                count=len(self._folds), volume=volumeText(total)
            )
            if len(self._folds) == 1:
                text = _("1 folded region, {volume}.").format(volume=volumeText(total))
        ui.jacobianInfoLabel.text = " ".join(filter(None, [text, note]))
        fillTable(
            ui.foldsTable,
            [_("No."), _("Volume"), _("Voxels"), _("R, A, S (mm)")],
            [
                [str(f.number), volumeText(f.volume_mm3), str(f.voxels), ", ".join(f"{x:.1f}" for x in f.position_ras)]
                for f in self._folds
            ],
        )
        ui.foldsTable.visible = ui.nextFoldButton.visible = bool(self._folds)
        if self._folds:
            ui.jacobianCollapsibleButton.collapsed = False
        self._showSegments(node, segmentation)

    def _showSegments(self, node, segmentation) -> None:
        ui = self._ui
        rows, text = [], ""
        if node is not None and segmentation is not None:
            try:
                found, without = jacobian.segmentChanges(node, segmentation)
                rows = [
                    [
                        one.name,
                        f"{one.change_percent:+.1f} %",
                        f"{one.mean:.3f}",
                        f"{one.sd:.3f}",
                        *(f"{one.percentiles[p]:.2f}" for p in (5, 50, 95)),
                        volumeText(one.volume_mm3),
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
        fillTable(ui.segmentsTable, titles, rows)
        ui.segmentsTable.visible = bool(rows)

    def nextFold(self) -> None:
        """Go to the next folded region, after the last to the first."""
        if self._folds:
            self._goTo((self._fold + 1) % len(self._folds))

    def _goTo(self, row: int) -> None:
        if not 0 <= row < len(self._folds):
            return
        self._fold = row
        self._ui.foldsTable.selectRow(row)
        jumpTo(self._folds[row].position_ras)


__all__ = ["FoldsControls"]
