"""The choice of the network: what each is good for, its weights and license, and what it needs for the chosen pair."""

from __future__ import annotations

from dataclasses import replace

import qt
from carlreg.models.catalog import model_info
from carlreg.resources import memory_mb
from carlreg.settings import RegistrationSettings
from slicer.i18n import tr as _

from .estimate import duration, secondsHere
from .parameters import Model


def modelText(name: str, settings: RegistrationSettings, fixedVoxels: int, movingVoxels: int) -> str:
    """A network in a few lines. The numbers of voxels are 0 while a volume is not chosen."""
    info = model_info(name)
    weights = _("shipped") if info.shipped else info.weights.rstrip(".")
    lines = [
        info.good_for + ".",
        _("Weights: {weights}. License: {license}.").format(weights=weights, license=info.license),
    ]
    if fixedVoxels and movingVoxels:
        chosen = replace(settings, model=name)
        lines.append(
            _("For this pair: about {duration}, {gigabytes:.1f} GB (estimates).").format(
                duration=duration(secondsHere(fixedVoxels, movingVoxels, chosen)),
                gigabytes=memory_mb(fixedVoxels, movingVoxels, chosen) / 1024,
            )
        )
    return "\n".join(lines)


def describeChoices(box, settings: RegistrationSettings, fixedVoxels: int, movingVoxels: int) -> None:
    """Give each entry of the combo box, and the box itself, a tool tip about its network."""
    for model in Model:
        text = modelText(model.value, settings, fixedVoxels, movingVoxels)
        box.setItemData(box.findText(model.label()), text, qt.Qt.ToolTipRole)
    box.toolTip = (
        _("The network that predicts the start.")
        + "\n"
        + modelText(settings.model, settings, fixedVoxels, movingVoxels)
    )


__all__ = ["describeChoices", "modelText"]
