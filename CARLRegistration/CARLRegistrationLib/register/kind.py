"""The kind of transform that is asked for, and what hangs on it in the panel."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from .parameters import TransformKind

_OUTPUTS = ("outputTransform", "outputInverse")


class KindControls:
    """Shows what a kind of transform is, and which controls have a meaning for it."""

    def __init__(self, ui) -> None:
        self.ui = ui
        self._linear: bool | None = None

    def forget(self) -> None:
        """What comes next is another scene's."""
        self._linear = None

    def letGo(self, parameters) -> bool:
        """Where the kind was changed, nodes of the other kind are no outputs any more; True: some were chosen."""
        before, self._linear = self._linear, parameters.transformKind.linear
        chosen = [name for name in _OUTPUTS if getattr(parameters, name) is not None]
        if before is None or before == self._linear or not chosen:
            return False
        with slicer.util.NodeModify(parameters):
            for name in chosen:
                setattr(parameters, name, None)
        return True

    def show(self, parameters) -> None:
        ui, linear = self.ui, parameters.transformKind.linear
        for widget in (
            ui.ioStepsSlider,
            ui.effortComboBox,
            ui.ioMethodComboBox,
            ui.smoothnessSpinBox,
            ui.fieldSpacingSpinBox,
        ):
            widget.enabled = not linear
        classes = ["vtkMRMLLinearTransformNode" if linear else "vtkMRMLTransformNode"]
        for name, selector in zip(_OUTPUTS, (ui.outputTransformSelector, ui.outputInverseSelector), strict=True):
            if list(selector.nodeTypes) != classes:
                selector.nodeTypes = classes
                selector.setCurrentNode(getattr(parameters, name))  # a scene's, which was not among the others
        ui.createUncertaintyCheckBox.enabled = ui.outputUncertaintySelector.enabled = not linear
        ui.transformInfoLabel.text = {
            TransformKind.DEFORMABLE: _("An affine and a displacement field."),
            TransformKind.AFFINE: _("Turn, shift, stretches and shears: a linear transform, in seconds."),
            TransformKind.SIMILARITY: _("Turn, shift and one scale: a linear transform, in seconds."),
            TransformKind.RIGID: _("Turn and shift: a linear transform, in seconds. A fixed mask says what counts."),
        }[parameters.transformKind]


__all__ = ["KindControls"]
