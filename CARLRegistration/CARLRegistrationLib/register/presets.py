"""The presets of the panel: what each sets, and whether something was changed after it was chosen."""

from __future__ import annotations

from dataclasses import dataclass

import slicer
from slicer.i18n import tr as _

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
        if self.fixedModality is self.movingModality:
            modality = self.fixedModality.label()
        else:
            modality = f"{self.fixedModality.label()} / {self.movingModality.label()}"
        if linear:
            return _("Intensities: {modality}. Similarity: {similarity}.").format(
                modality=modality, similarity=self.similarity.label()
            )
        return _(
            "Intensities: {modality}. Similarity: {similarity}. {steps} IO steps, smoothness {smoothness:g}."
        ).format(
            modality=modality,
            similarity=self.similarity.label(),
            steps=self.ioSteps,
            smoothness=self.smoothness,
        )


PRESETS = {
    Preset.GENERAL: PresetValues(Modality.AUTO, Modality.AUTO, Similarity.LNCC2),
    Preset.CT: PresetValues(Modality.CT, Modality.CT, Similarity.LNCC2),
    Preset.MR: PresetValues(Modality.MR, Modality.MR, Similarity.LNCC2),
    Preset.CT_TO_MR: PresetValues(Modality.AUTO, Modality.AUTO, Similarity.MIND),
    Preset.LUNG_CT: PresetValues(Modality.CT, Modality.CT, Similarity.LNCC2, ioSteps=150),
    Preset.BRAIN_MR: PresetValues(Modality.MR, Modality.MR, Similarity.LNCC2, ioSteps=150),
}


def applyPreset(parameters) -> None:
    """Write the values of the chosen preset into the parameter node, in one change."""
    values = PRESETS[parameters.preset]
    with slicer.util.NodeModify(parameters):
        for name in PresetValues.__dataclass_fields__:
            setattr(parameters, name, getattr(values, name))


def presetChanged(parameters) -> bool:
    """True when something that the preset sets was changed afterwards."""
    values = PRESETS[parameters.preset]
    return any(getattr(parameters, name) != getattr(values, name) for name in PresetValues.__dataclass_fields__)
