"""Color tables and legends of the layers: what each color means is said here once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _

from .volumes import notANumber

_COLORS = 256
FOLD_COLOR = (1.0, 0.0, 1.0)
UNKNOWN_COLORS = ((0.34, 0.34, 0.36), (0.62, 0.62, 0.64))  # in turn, as stripes
_BLUE, _WHITE, _RED = (0.13, 0.35, 0.75), (1.0, 1.0, 1.0), (0.80, 0.13, 0.10)
# Difference: dark where equal, so that the body stays as dark as its surroundings.
_DIFFERENCE = ((0.55, 0.85, 1.0), (0.15, 0.45, 0.90), (0.06, 0.07, 0.09), (0.90, 0.36, 0.10), (1.0, 0.86, 0.50))
# Uncertainty: from dark green over yellow to red, as light as it is large.
_UNCERTAINTY = ((0.00, 0.38, 0.35), (0.13, 0.66, 0.42), (0.98, 0.85, 0.25), (0.93, 0.45, 0.12), (0.70, 0.05, 0.10))


@dataclass(frozen=True)
class Scale:
    """Colors over a range of values: stops evenly from low to high.

    band: the lowest colors, kept for what has no value of its own: folds, or what is not known. widths: how many
    colors each of them takes. power < 1 makes values near the middle of a diverging scale stand out, clear makes the
    middle see-through. title, labels and format are the legend's.
    """

    name: str
    stops: tuple
    low: float
    high: float
    title: str
    band: tuple = ()
    width: int = 1
    power: float = 1.0
    clear: bool = False
    labels: int = 5
    format: str = "%.1f"
    description: str = ""

    @property
    def first(self) -> int:
        """The first color that is not of the band."""
        return len(self.band) * self.width

    def value(self, color: int) -> float:
        """The value in the middle of a color."""
        return self.low + (color + 0.5) * (self.high - self.low) / _COLORS

    def band_value(self, number: int = 0) -> float:
        """A value that gets the n-th color of the band."""
        return self.value(number * self.width)

    def colors(self) -> np.ndarray:
        """(256, 4) red, green, blue, opacity of 0 to 1."""
        table = np.ones((_COLORS, 4))
        for index in range(self.first):
            table[index, :3] = self.band[index // self.width]
        begin = self.value(self.first) if self.width > 1 else self.low
        at = np.array([(self.value(n) - begin) / (self.high - begin) for n in range(self.first, _COLORS)]).clip(0, 1)
        away = np.abs(2 * at - 1)
        if self.power != 1.0:
            at = 0.5 + 0.5 * np.sign(at - 0.5) * away**self.power
        places = np.linspace(0, 1, len(self.stops))
        for channel in range(3):
            table[self.first :, channel] = np.interp(at, places, [stop[channel] for stop in self.stops])
        if self.clear:
            table[self.first :, 3] = 0.15 + 0.85 * np.minimum(1.0, 1.6 * away) ** 0.8
        return table


def determinantScale() -> Scale:
    return Scale(
        "CARLRegistration Jacobian",
        (_BLUE, _WHITE, _RED),
        -0.5,
        2.0,
        _("Jacobian\n(magenta: folded)"),
        (FOLD_COLOR,),
        width=_COLORS // 5 + 1,  # 0 itself is folded, too
        power=0.7,
        clear=True,
        labels=6,
        description=_("Jacobian determinant: blue shrinks, red grows, magenta is folded (0 or less)."),
    )


def logScale() -> Scale:
    return Scale(
        "CARLRegistration log2 Jacobian",
        (_BLUE, _WHITE, _RED),
        -2.0,
        2.0,
        _("log2 Jacobian\n(magenta: folded)"),
        (FOLD_COLOR,),
        power=0.7,
        clear=True,
        description=_("log2 of the Jacobian determinant: -1 is half the volume, 1 twice; magenta is folded."),
    )


def ventilationScale() -> Scale:
    return Scale(
        "CARLRegistration ventilation",
        (_BLUE, _WHITE, _RED),
        -0.5,
        0.5,
        _("Jacobian - 1"),
        power=0.7,
        clear=True,
        description=_("Jacobian - 1: blue shrinks, red grows; in lungs the share of air that came in."),
    )


def displacementScale(high_mm: float) -> Scale:
    return Scale(
        "CARLRegistration displacement",
        _UNCERTAINTY,
        0.0,
        high_mm,
        _("Displacement, mm"),
        labels=6,
        format="%.2g",
        description=_("Displacement in mm."),
    )


def uncertaintyScale(high_mm: float) -> Scale:
    return Scale(
        "CARLRegistration uncertainty",
        _UNCERTAINTY,
        0.0,
        high_mm,
        _("Uncertainty, mm\n(striped: unknown)"),
        UNKNOWN_COLORS,
        labels=6,
        format="%.2g",
        description=_("Uncertainty in mm; gray (stripes in the Inspect section) is unknown."),
    )


def differenceScale(high: float, unit: str) -> Scale:
    return Scale(
        "CARLRegistration difference",
        _DIFFERENCE,
        -high,
        high,
        _("Warped - fixed, {unit}").format(unit=unit),
        format="%.0f",
        description=_("Difference of intensities: orange is brighter in the warped volume, blue darker."),
    )


def tableOf(scale: Scale, temporary: bool = False):
    """The color node of a scale; one of that name is used again and follows the scale."""
    colors = scale.colors()
    node = slicer.mrmlScene.GetFirstNodeByName(scale.name)
    if node is None or not node.IsA("vtkMRMLColorTableNode"):
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLColorTableNode")
        node.UnRegister(None)
        node.SetName(scale.name)
        node.SetTypeToUser()
        node.SetSaveWithScene(not temporary)
        node = slicer.mrmlScene.AddNode(node)
    elif node.GetDescription() == _signature(scale):
        return node
    node.SetNumberOfColors(_COLORS)
    node.SetDescription(_signature(scale))
    for index, color in enumerate(colors):
        node.SetColor(index, f"{scale.value(index):.3g}", *(float(c) for c in color))
    return node


def _signature(scale: Scale) -> str:
    return f"{scale.description} [{scale.low:.6g}, {scale.high:.6g}]"


def style(node, scale: Scale, temporary: bool = False) -> None:
    """Colors, range and legend (hidden at first) for a volume; no interpolation, so that no color is made up."""
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(tableOf(scale, temporary).GetID())
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(scale.low, scale.high)
    display.SetInterpolate(False)
    legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(node)
    if legend is not None:
        legend.SetTitleText(scale.title)
        legend.SetLabelFormat(scale.format)
        legend.SetUseColorNamesForLabels(False)
        legend.SetNumberOfLabels(scale.labels)
        legend.SetSize(0.10, 0.32)  # at most a sixth of a small view with its title: it lies over the picture
        legend.SetPosition(0.97, 0.5)
        legend.SetVisibility(False)
    if temporary:
        for index in range(node.GetNumberOfDisplayNodes()):
            node.GetNthDisplayNode(index).SetSaveWithScene(False)


def showLegend(node, visible: bool) -> None:
    """Show or hide the color legend of a volume."""
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(node) if node is not None else None
    if legend is not None:
        legend.SetVisibility(visible)


def niceAbove(value: float) -> float:
    """The next of 1, 2, 3, 5, 10, ... at or above a positive value."""
    if not np.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    for step in (1, 2, 3, 5, 10):
        if value <= step * power * (1 + 1e-9):
            return float(step * power)
    return float(10 * power)


# --- layers made from arrays -----------------------------------------------------------------------------------------


def logLayer(determinant: np.ndarray) -> np.ndarray:
    """log2 for display: folds lie in the band, what shrinks to less than a quarter gets the lowest color above."""
    scale = logScale()
    positive = determinant > 0
    values = np.full(determinant.shape, scale.band_value(), np.float32)
    np.log2(determinant, out=values, where=positive)
    lowest = scale.value(scale.first)
    values[positive & (values < lowest)] = lowest
    return values


def determinantLayer(determinant: np.ndarray) -> np.ndarray:
    """Determinants for display: folds lie in the band, nothing else does."""
    scale = determinantScale()
    layer = np.maximum(determinant, np.float32(scale.value(scale.first)))
    layer[determinant <= 0] = scale.band_value()
    return layer.astype(np.float32)


UNKNOWN = -1.0  # what an uncertainty node holds where nothing is known


def knownUncertainty(values_mm: np.ndarray) -> np.ndarray:
    """An uncertainty map (mm, NaN: unknown) as a node holds it, which can show no NaN: unknown is -1."""
    return np.where(np.isfinite(values_mm) & (values_mm >= 0), values_mm, UNKNOWN).astype(np.float32)


def uncertaintyRange(node) -> float:
    """The upper end of the legend, in mm."""
    values = slicer.util.arrayFromVolume(node)
    thinned = values[::2, ::2, ::2]
    known = thinned[thinned >= 0]
    return niceAbove(float(np.percentile(known, 90))) if known.size else 1.0


def showUncertainty(node, path: Path) -> None:
    """Color a volume node that was read from the engine's file; voxels where nothing is known get their own value."""
    values = slicer.util.arrayFromVolume(node).astype("float32")
    values[notANumber(path)] = UNKNOWN
    slicer.util.updateVolumeFromArray(node, knownUncertainty(values))
    style(node, uncertaintyScale(uncertaintyRange(node)))


def striped(values_mm: np.ndarray, scale: Scale, width: int = 3) -> np.ndarray:
    """A copy whose unknown voxels are diagonal stripes of the band's two colors."""
    k, j, i = (np.arange(n, dtype=np.uint16) for n in values_mm.shape)
    odd = (k[:, None, None] + j[:, None] + i) // np.uint16(width) & np.uint16(1)
    stripes = np.array([scale.band_value(0), scale.band_value(1)], np.float32)
    shown = np.maximum(values_mm, np.float32(scale.value(scale.first)))
    unknown = values_mm < 0
    shown[unknown] = stripes[odd[unknown]]
    return shown.astype(np.float32, copy=False)


__all__ = [
    "FOLD_COLOR",
    "UNKNOWN",
    "UNKNOWN_COLORS",
    "Scale",
    "determinantLayer",
    "determinantScale",
    "differenceScale",
    "displacementScale",
    "knownUncertainty",
    "logLayer",
    "logScale",
    "niceAbove",
    "showLegend",
    "striped",
    "style",
    "tableOf",
    "uncertaintyRange",
    "uncertaintyScale",
    "ventilationScale",
]
