"""The presets of the panel: what each sets, and what was changed after it was chosen."""

from __future__ import annotations

from dataclasses import dataclass

import slicer
from slicer.i18n import tr as _

from ..common.choices import Choice
from .parameters import Modality, Preset, Similarity


@dataclass(frozen=True)
class PresetValues:
    """What a preset sets; everything else stays as it is."""

    fixedModality: Modality
    movingModality: Modality
    similarity: Similarity
    ioSteps: int = 100
    smoothness: float = 1.0

    def text(self, linear: bool = False) -> str:
        """The values in a line. linear: without those of a deformation."""
        modality = self.fixedModality.label()
        if self.fixedModality is not self.movingModality:
            modality += f" / {self.movingModality.label()}"
        parts = [_("{modality} intensities").format(modality=modality), self.similarity.label()]
        if not linear:
            parts += [_NAMES[name].format(value=getattr(self, name)) for name in _DEFORMING]
        return "; ".join(parts)


_DEFORMING = ("ioSteps", "smoothness")
_NAMES = {
    "fixedModality": _("fixed intensities {value}"),
    "movingModality": _("moving intensities {value}"),
    "similarity": _("similarity {value}"),
    "ioSteps": _("refinement steps {value}"),
    "smoothness": _("smoothness {value:g}"),
}

PRESETS = {
    Preset.GENERAL: PresetValues(Modality.AUTO, Modality.AUTO, Similarity.LNCC2),
    Preset.CT: PresetValues(Modality.CT, Modality.CT, Similarity.LNCC2),
    Preset.MR: PresetValues(Modality.MR, Modality.MR, Similarity.LNCC2),
    Preset.CT_TO_MR: PresetValues(Modality.AUTO, Modality.AUTO, Similarity.MIND),
    Preset.MR_CONTRASTS: PresetValues(Modality.MR, Modality.MR, Similarity.MIND),
    Preset.LUNG_CT: PresetValues(Modality.CT, Modality.CT, Similarity.LNCC2, ioSteps=150),
    Preset.BRAIN_MR: PresetValues(Modality.MR, Modality.MR, Similarity.LNCC2, ioSteps=150),
}


def applyPreset(parameters) -> None:
    """Write the values of the chosen preset into the parameter node, in one change."""
    values = PRESETS[parameters.preset]
    with slicer.util.NodeModify(parameters):
        for name in PresetValues.__dataclass_fields__:
            setattr(parameters, name, getattr(values, name))


def presetText(parameters) -> tuple[str, bool]:
    """What the preset sets, or what was changed after it was chosen; whether something was."""
    values, linear = PRESETS[parameters.preset], parameters.transformKind.linear
    changed = []
    for name in PresetValues.__dataclass_fields__:
        now = getattr(parameters, name)
        if now != getattr(values, name) and not (linear and name in _DEFORMING):
            changed.append(_NAMES[name].format(value=now.label() if isinstance(now, Choice) else now))
    if not changed:
        return values.text(linear), False
    return _("{preset}, changed: {values}").format(preset=parameters.preset.label(), values="; ".join(changed)), True
