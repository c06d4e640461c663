"""How alike the volumes become, step by step: a small curve in a label."""

from __future__ import annotations

import time

import qt
from slicer.i18n import tr as _

_WIDTH, _HEIGHT, _MARGIN = 300, 64, 3  # a panel may be 360 wide
_LINE, _SOFT = "#2f7fd6", "#9a9a9a"
_EVERY_SECONDS = 0.2


class Curve:
    """Args: picture, caption: the labels that show it; hidden while there is nothing to show."""

    def __init__(self, picture, caption) -> None:
        self._picture, self._caption = picture, caption
        self._drawn = 0.0
        self.steps: list[dict] = []
        self.clear()

    def clear(self) -> None:
        self.steps = []
        self._picture.visible = self._caption.visible = False

    def add(self, step: dict) -> None:
        """One step of the engine's progress: done, total, similarity, level."""
        self.steps.append(step)
        now = time.monotonic()
        if len(self.steps) < 2 or (now - self._drawn < _EVERY_SECONDS and step["done"] < step["total"]):
            return
        self._drawn = now
        self._picture.setPixmap(self._drawing())
        first = next(one["similarity"] for one in self.steps if one["level"] == step["level"])
        self._caption.text = _("Similarity at this resolution: {first:.3f} at first, {last:.3f} now").format(
            first=first, last=step["similarity"]
        )
        self._picture.visible = self._caption.visible = True

    def _drawing(self):
        """The whole width are all steps, the height what a resolution gained at most; each one begins at the bottom.

        Values of different resolutions cannot be compared: seen with finer voxels the same volumes are less alike.
        """
        values: dict[int, list[float]] = {}
        for step in self.steps:
            values.setdefault(step["level"], []).append(step["similarity"])
        low = {level: min(found) for level, found in values.items()}
        span = max(1e-9, *(max(found) - min(found) for found in values.values()))
        total = max(2, self.steps[-1]["total"])
        pixmap = qt.QPixmap(_WIDTH, _HEIGHT)
        pixmap.fill(qt.QColor(0, 0, 0, 0))
        painter = qt.QPainter()
        painter.begin(pixmap)
        try:
            painter.setRenderHint(qt.QPainter.Antialiasing, True)
            places = [
                (
                    round(_MARGIN + (_WIDTH - 2 * _MARGIN) * (step["done"] - 1) / (total - 1)),
                    round(
                        _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * (step["similarity"] - low[step["level"]]) / span
                    ),
                )
                for step in self.steps
            ]
            painter.setPen(_pen(_SOFT, 1))
            painter.drawLine(0, _HEIGHT - 1, _WIDTH, _HEIGHT - 1)
            for before, step, (x, _y) in zip(self.steps, self.steps[1:], places[1:], strict=False):
                if step["level"] != before["level"]:
                    painter.drawLine(x, 0, x, _HEIGHT)
            painter.setPen(_pen(_LINE, 2))
            for n in range(1, len(places)):
                if self.steps[n]["level"] == self.steps[n - 1]["level"]:
                    painter.drawLine(*places[n - 1], *places[n])
        finally:
            painter.end()
        return pixmap


def _pen(color: str, width: int):
    pen = qt.QPen(qt.QColor(color))
    pen.setWidth(width)
    return pen


__all__ = ["Curve"]
