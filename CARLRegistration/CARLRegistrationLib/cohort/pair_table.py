"""The table of a study's pairs."""

from __future__ import annotations

from collections.abc import Iterable

import qt
from carlreg.cohort.study import DONE, FAILED, PLANNED
from slicer.i18n import tr as _

from ..common.notices import COLORS
from .rows import RUNNING, PairRow

_STRETCHED = 0  # the column of the names


class PairTable:
    """Args: table: the widget."""

    def __init__(self, table) -> None:
        self._table = table
        self._rows: dict[str, int] = {}
        titles = [_("Pair"), _("State"), _("Verdict"), _("Seconds"), _("Likeness")]
        table.setColumnCount(len(titles))
        table.setHorizontalHeaderLabels(titles)
        table.verticalHeader().visible = False
        header = table.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(_STRETCHED, qt.QHeaderView.Stretch)

    def clear(self) -> None:
        self._rows = {}
        self._table.setRowCount(0)

    def nameAt(self, row: int) -> str | None:
        """The pair of a row."""
        item = self._table.item(row, 0)
        return item.text() if item is not None else None

    def show(self, rows: Iterable[PairRow]) -> None:
        """Show these pairs as they are now; new ones are added below."""
        rows = list(rows)
        for one in rows:
            self._rows.setdefault(one.name, len(self._rows))
        self._table.setRowCount(len(self._rows))
        for one in rows:
            self._showOne(self._rows[one.name], one)

    def _showOne(self, row: int, one: PairRow) -> None:
        states = {PLANNED: _("planned"), RUNNING: _("running"), DONE: _("done"), FAILED: _("failed")}
        verdicts = {"good": _("Good"), "check": _("Check"), "poor": _("Poor")}
        color = COLORS.get("error" if one.state == FAILED else one.verdict)
        texts = (
            one.name,
            states[one.state],
            verdicts.get(one.verdict, one.verdict),
            "" if one.seconds is None else f"{one.seconds:.0f}",
            "" if one.likeness is None else f"{one.likeness:.2f}",
        )
        hint = one.reason or (_("Double click: open it in Inspect.") if one.state == DONE else "")
        for column, text in enumerate(texts):
            item = qt.QTableWidgetItem(text)
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
            item.setToolTip(f"{one.name}\n{hint}".strip())
            if color and column in (1, 2):
                item.setForeground(qt.QBrush(qt.QColor(color)))
            self._table.setItem(row, column, item)


__all__ = ["PairTable"]
