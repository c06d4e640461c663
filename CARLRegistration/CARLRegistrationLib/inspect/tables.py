"""Tables of the section, filled with text."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _


def fillTable(table, titles: list[str], rows: list[list[str]]) -> None:
    """Fill a QTableWidget with text."""
    table.setColumnCount(len(titles))
    table.setRowCount(len(rows))
    table.setHorizontalHeaderLabels(titles)
    table.verticalHeader().setVisible(False)
    for row, texts in enumerate(rows):
        for column, text in enumerate(texts):
            table.setItem(row, column, qt.QTableWidgetItem(text))
    table.resizeColumnsToContents()
    table.horizontalHeader().setStretchLastSection(True)
    table.resizeRowsToContents()


def volumeText(mm3: float) -> str:
    """A volume in ml, or in mm\u00b3 where that is little."""
    return _("{value:.2f} ml").format(value=mm3 / 1000) if mm3 >= 100 else _("{value:.3g} mm\u00b3").format(value=mm3)


__all__ = ["fillTable", "volumeText"]
