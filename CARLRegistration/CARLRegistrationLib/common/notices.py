"""What is said in the panel, by kind: errors and verdicts do not look like news."""

from __future__ import annotations

import re

from slicer.i18n import tr as _

COLORS = {"good": "#2e9e5b", "check": "#d9902f", "poor": "#d64545", "error": "#d64545"}

_LONG_WORD, _PIECE = 29, 14  # letters


def showVerdict(label, word: str, size: int = 13) -> None:
    """Show good, check or poor in its color; "" hides the label."""
    label.text = {"good": _("Good"), "check": _("Check"), "poor": _("Poor")}.get(word, word)
    color = COLORS.get(word, "#888888")
    label.styleSheet = f"font-weight: bold; font-size: {size}px; color: {color};" if word else ""
    label.visible = bool(word)


def notice(label, text: str, kind: str = "") -> None:
    """Show a text with a bar of its kind's color beside it; "" hides the label.

    kind: good, check, poor or error; "" for news, without a bar.
    """
    color = COLORS.get(kind)
    # Qt paints a border on one side alone only where all four have a style.
    bar = f"QLabel {{ border: 0px solid {color}; border-left-width: 4px; padding-left: 6px; }}"
    label.styleSheet = bar if color and text else ""
    label.text = breakable(text)
    label.visible = bool(text)


def breakable(text: str) -> str:
    """A text whose long words, such as names of nodes, may be broken, so that they make no label wide."""
    return re.sub(rf"\S{{{_LONG_WORD},}}", lambda word: re.sub(rf"(.{{{_PIECE}}})(?=.)", "\\1\u200b", word[0]), text)


__all__ = ["COLORS", "breakable", "notice", "showVerdict"]
