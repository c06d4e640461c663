"""What the engine's messages call its options, and where these are in the panel. Longer names first."""

from __future__ import annotations

import re
from collections.abc import Mapping

from slicer.i18n import tr as _

REGISTER = {
    "Replace them by the background value, in Python: numpy.nan_to_num(array, nan=BACKGROUND, posinf=BACKGROUND, "
    "neginf=BACKGROUND).": _("Apply in the panel offers to take them as background."),
    " (fixed_ignore.mha)": "",
    " (moving_ignore.mha)": "",
    " (fixed_segments.seg.nrrd)": "",
    " (moving_segments.seg.nrrd)": "",
    " (rigid_segments.seg.nrrd)": "",
    " (stiff_segments.seg.nrrd)": "",
    " (initial.h5)": "",
    " (continue.h5)": "",
    " (guide.csv)": "",
    "--allow-untrained": "allow_untrained (from Python)",
    "--device": "Device",
    "--field-spacing": "Field spacing",
    "--grid": "Network size",
    "--io-steps": "Refinement steps",
    "--io-method field": "Method 'Displacement field'",
    "--model carl-compact": "Model 'carl-compact'",
    "--out": "the temporary folder",
    "--weights FILE": "the Weights file",
    "--weights": "Weights file",
}
# Of verdicts and warnings.
RESULT = {
    "The map folds": _("The transform folds"),
    "the map is a guess": _("the transform is a guess"),
    "the map may be coarse": _("the transform may be coarse"),
    "No map without folds": _("No transform without folds"),
    "no map that is delivered mirrors": _("no transform that is delivered mirrors"),
    " (--smoothness 2)": "",
    " (--field-spacing)": "",
    "the robustness Rotation (--robustness rotation)": _("'Any rotation' at Difference in pose"),
    "--robustness rotation, --initial-transform": _("'Any rotation' at Difference in pose, or Start from"),
    "--initial-transform": _("Start from, under Advanced"),
    " (--similarity mind)": "",
    "--symmetric": _("Symmetric"),
    "--everywhere": _("Everywhere"),
    "--fixed-mask": _("the fixed mask"),
    "--landmarks-accuracy": _("Accuracy"),
}
COHORT = {
    "summary.html in ": _("The summary in "),
    "--resume --retry-failed tries them again": _("Resume with Retry failed tries them again"),
    "go on with --resume": _("go on with Resume"),
    "Go on with --resume": _("Go on with Resume"),
    "Choose fewer --workers, or a smaller --grid": _("Choose a smaller Network size under Advanced"),
    "Choose a smaller --grid": _("Choose a smaller Network size under Advanced"),
}
SERIES = {
    "--chain": _("Chain"),
    "--cyclic": _("Cyclic"),
    "--labels": _("Segmentation"),
    "--landmarks": _("Landmarks"),
    "--reference": _("Reference"),
    "--temporal-smoothness": _("Smooth in time"),
    "temporal smoothness: expected transform deformable with it": _("Smooth in time needs a deformable transform"),
}
MEND = {
    "No map without folds": _("No transform without folds"),
    "The map folds": _("The transform folds"),
    "landmarks guide: ": "",
    "Landmarks that guide the registration contradict": _("The points contradict"),
    "Landmarks that guide the registration are missed": _("Points are missed"),
    "Check that the coordinates are LPS mm, and that fixed and moving are not exchanged.": _(
        "Drag it to its place, or delete it."
    ),
}
TRANSFORMS = {
    "(--fixed and --moving VOLUME)": _("(Fixed and Moving above)"),
    "(--fixed VOLUME)": _("(Fixed above)"),
    "(--moving VOLUME)": _("(Moving above)"),
    "a smaller --grid or a larger --field-spacing": _("a larger Field spacing"),
    "--fixed": _("Fixed"),
    "--moving": _("Moving"),
    "--convention": _("Coordinates"),
    "--direction": _("Direction"),
    "--spacing": _("Field spacing"),
    "--precision": _("Precision"),
    "--flatten": _("Single displacement field"),
    "--grid": _("Field spacing"),
    "`carlreg linear`": _("Linear part"),
    "transform (transform.h5)": _("The transform"),
    "--out: ": "",
}


def inPanelWords(text: str, words: Mapping[str, str]) -> str:
    """An engine's message with the panel's names for the engine's."""
    for engines, panels in words.items():
        text = text.replace(engines, panels)
    return text


# What Python says when a library of PyTorch cannot be loaded: WinError 126, 127, 182, 206, 1114; or a missing .so.
_NOT_LOADED = re.compile(
    r"(?:OSError: \[WinError \d+\]|ImportError: DLL load failed|(?:OSError|ImportError): \S*\.(?:so|dylib)|"
    r"ImportError: dlopen)[^\n]*",
)


def loadProblem(written: str) -> str:
    """What to do where PyTorch is installed and cannot be loaded, with the system's own words; "" for another reason.

    written: what Python wrote, or the reason that `carlreg check` gives.
    """
    found = _NOT_LOADED.search(written)
    if found is None or not re.search(r"\btorch|\bc10|libtorch", written):
        return ""
    return _(
        "PyTorch is installed, but it cannot be loaded: {reason}. Install another version of it in the module PyTorch "
        "Utils (an older one such as 2.8, or the one for the CPU), or choose another engine Python under Advanced."
    ).format(reason=found[0].split(": ", 1)[-1].strip().rstrip("."))


__all__ = ["COHORT", "MEND", "REGISTER", "RESULT", "SERIES", "TRANSFORMS", "inPanelWords", "loadProblem"]
