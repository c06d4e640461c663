"""What the panel says of what is chosen: preset, robustness, model, and the time and memory it will take."""

from __future__ import annotations

from carlreg.errors import CarlError
from carlreg.models.catalog import model_info
from carlreg.resources import memory_mb
from slicer.i18n import tr as _

from .estimate import expected, voxelsOf
from .models import describeChoices, modelText
from .parameters import Model, Robustness, settingsFrom
from .presets import presetText


def showTexts(ui, parameters, machine) -> None:
    """Say what is chosen, and how long it will take. machine: the controls of the device."""
    ui.presetInfoLabel.text, ui.presetResetButton.visible = presetText(parameters)
    turned = parameters.robustness is Robustness.ROTATION and parameters.continueTransform is None
    ui.rotationModelButton.visible = turned and parameters.model is Model("carl-compact")
    ui.robustnessInfoLabel.text = {
        Robustness.TRANSLATION: _(
            "For scans in similar poses, however far apart and whatever part of the body each shows. Try it first."
        ),
        Robustness.ROTATION: _(
            "When one scan may be turned by any angle (prone and supine, specimens, lost orientation). Slower."
        ),
    }[parameters.robustness]
    if parameters.continueTransform is not None:
        ui.robustnessInfoLabel.text = _("Continues from {name}: no start is looked for.").format(
            name=parameters.continueTransform.GetName()
        )
    try:
        settings = settingsFrom(parameters)
    except CarlError:
        ui.timeInfoLabel.text = ui.deviceInfoLabel.text = ui.modelInfoLabel.text = ""
        return
    fixed, moving = voxelsOf(parameters.fixedVolume), voxelsOf(parameters.movingVolume)
    ui.modelInfoLabel.text = modelText(settings.model, settings, fixed, moving)
    describeChoices(ui.modelComboBox, settings, fixed, moving)
    shipped = model_info(settings.model).shipped
    ui.weightsFileLineEdit.placeholderText = _("Shipped with the module") if shipped else _("Choose a file")
    if not (fixed and moving):
        ui.timeInfoLabel.text = _("0 skips the refinement. The expected time is shown once both volumes are chosen.")
        ui.deviceInfoLabel.text = machine.text("")
        return
    ui.timeInfoLabel.text = expected(fixed, moving, settings)
    need = _("about {gigabytes:.1f} GB needed").format(gigabytes=memory_mb(fixed, moving, settings) / 1024)
    ui.deviceInfoLabel.text = machine.text(need)


__all__ = ["showTexts"]
