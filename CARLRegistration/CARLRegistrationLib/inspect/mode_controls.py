"""The buttons of the modes, and the options that go with each."""

from __future__ import annotations

from .views import Look, Mode

BUTTONS = {
    Mode.OVERLAY: "overlayModeButton",
    Mode.CHECKERBOARD: "checkerboardModeButton",
    Mode.FLICKER: "flickerModeButton",
    Mode.DIFFERENCE: "differenceModeButton",
    Mode.SIDE_BY_SIDE: "sideBySideModeButton",
    Mode.JACOBIAN: "jacobianModeButton",
    Mode.UNCERTAINTY: "uncertaintyModeButton",
}
#: Those that show the warped volume.
WARPS = (Mode.OVERLAY, Mode.CHECKERBOARD, Mode.FLICKER, Mode.DIFFERENCE, Mode.SIDE_BY_SIDE)
# Options with their labels, and the modes in which they are shown; the rest is always there.
_OPTIONS = {
    ("opacityLabel", "opacitySlider"): (Mode.OVERLAY, Mode.JACOBIAN, Mode.UNCERTAINTY),
    ("mixingLabel", "mixingComboBox"): (Mode.OVERLAY,),
    ("checkerLabel", "checkerSlider"): (Mode.CHECKERBOARD,),
    ("flickerLabel", "flickerSlider"): (Mode.FLICKER,),
    ("planeLabel", "planeComboBox"): (Mode.SIDE_BY_SIDE,),
    ("scaleLabel", "scaleComboBox"): (Mode.JACOBIAN,),
    ("shareLabel", "beforeButton", "shareSlider", "afterButton"): WARPS,
}
_PLANES = ("Axial", "Sagittal", "Coronal")


def lookOf(ui) -> Look:
    """The options as they are set."""
    return Look(
        opacity=ui.opacitySlider.value,
        layerOpacity=ui.opacitySlider.value,
        redCyan=ui.mixingComboBox.currentIndex == 1,
        checkerMm=ui.checkerSlider.value,
        flickerHz=ui.flickerSlider.value,
        share=ui.shareSlider.value / 100.0,
        log=ui.scaleComboBox.currentIndex == 0,
        plane=_PLANES[max(0, ui.planeComboBox.currentIndex)],
    )


def showMode(ui, mode: Mode | None, active: bool) -> None:
    """The mode's button is pressed and its options are there. active: the views are used."""
    for one, name in BUTTONS.items():
        getattr(ui, name).checked = one is mode
    for names, modes in _OPTIONS.items():
        for name in names:
            getattr(ui, name).visible = mode in modes
    ui.inspectOffButton.enabled = active
    ui.centerButton.enabled = active
    ui.cursorLabel.visible = active
    if not active:
        ui.cursorLabel.text = ""


__all__ = ["BUTTONS", "WARPS", "lookOf", "showMode"]
