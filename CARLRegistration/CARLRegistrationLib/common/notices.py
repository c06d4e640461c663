"""What is said in the panel, by kind: errors and verdicts do not look like news."""

from __future__ import annotations

COLORS = {"good": "#2e9e5b", "check": "#d9902f", "poor": "#d64545", "error": "#d64545"}


def notice(label, text: str, kind: str = "") -> None:
    """Show a text with a bar of its kind's color beside it; "" hides the label.

    kind: good, check, poor or error; "" for news, without a bar.
    """
    color = COLORS.get(kind)
    label.styleSheet = f"QLabel {{ border-left: 4px solid {color}; padding-left: 6px; }}" if color and text else ""
    label.text = text
    label.visible = bool(text)


__all__ = ["COLORS", "notice"]
