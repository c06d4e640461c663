"""What the engine's messages call its options, and where these are in the panel. Longer names first."""

from __future__ import annotations

from collections.abc import Mapping

from slicer.i18n import tr as _

REGISTER = {
    "--allow-untrained": "allow_untrained (from Python)",
    "--device": "Device",
    "--field-spacing": "Field spacing",
    "--grid": "Network grid",
    "--io-method field": "IO method 'Displacement field'",
    "--model carl-compact": "Model 'carl-compact'",
    "--out": "the temporary folder",
    "--weights FILE": "the Weights file",
    "--weights": "Weights file",
}
TRANSFORMS = {
    "(--fixed and --moving VOLUME)": _("(Fixed and Moving above)"),
    "(--fixed VOLUME)": _("(Fixed above)"),
    "(--moving VOLUME)": _("(Moving above)"),
    "a smaller --grid or a larger --field-spacing": _("a larger Grid spacing"),
    "--fixed": _("Fixed"),
    "--moving": _("Moving"),
    "--convention": _("Numbers"),
    "--direction": _("Leads"),
    "--spacing": _("Grid spacing"),
    "--precision": _("Precision"),
    "--flatten": _("One field"),
    "--grid": _("Grid spacing"),
    "`carlreg linear`": _("Linear part"),
    "transform (transform.h5)": _("The transform"),
    "--out: ": "",
}


def inPanelWords(text: str, words: Mapping[str, str]) -> str:
    """An engine's message with the panel's names for the engine's."""
    for engines, panels in words.items():
        text = text.replace(engines, panels)
    return text


__all__ = ["REGISTER", "TRANSFORMS", "inPanelWords"]
