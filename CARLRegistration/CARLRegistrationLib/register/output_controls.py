"""Which nodes receive what a registration makes: new ones, unless the user chose one for this run."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from ..common.notices import notice

# Kinds of results, and the parameters that hold their nodes.
OUTPUTS = {
    "transform": "outputTransform",
    "inverse_transform": "outputInverse",
    "warped": "outputWarped",
    "jacobian": "outputJacobian",
    "uncertainty": "outputUncertainty",
}


class OutputControls:
    """A node that was chosen holds for one run of one pair: the next result must not be taken for the former."""

    def __init__(self, ui) -> None:
        self._ui = ui
        self.forget()

    def forget(self) -> None:
        """What comes next is another scene's."""
        self._pair: tuple | None = None
        self._chosen: dict = {}

    def letGo(self, parameters) -> bool:
        """Where another volume was chosen, what was chosen before for the former pair goes; True: there was some."""
        pair, before = (parameters.fixedVolume, parameters.movingVolume), self._pair
        former, self._chosen = self._chosen, chosenOutputs(parameters)
        self._pair = pair
        if before is None or None in before or pair == before:
            return False
        stale = [name for name, node in self._chosen.items() if former.get(name) is node]
        chooseOutputs(parameters, dict.fromkeys(stale))
        return bool(stale)

    def show(self, job) -> None:
        """Say which nodes with contents the next run replaces."""
        names = [
            node.GetName() for _kind, wanted, node in job.outputs() if wanted and node is not None and _hasContent(node)
        ]
        text = _("Will overwrite:\n{names}").format(names="\n".join(names)) if names else ""
        notice(self._ui.overwriteLabel, text, "check")


def chosenOutputs(parameters) -> dict:
    """Nodes by the names of their parameters."""
    chosen = {name: getattr(parameters, name) for name in OUTPUTS.values()}
    return {name: node for name, node in chosen.items() if node is not None}


def chooseOutputs(parameters, nodes: dict) -> None:
    """Choose nodes, or None for new ones, by the names of their parameters."""
    with slicer.util.NodeModify(parameters):
        for name, node in nodes.items():
            setattr(parameters, name, node)


def _hasContent(node) -> bool:
    if not node.IsA("vtkMRMLTransformNode"):
        return node.GetImageData() is not None
    if not node.IsLinear():
        return True
    matrix = slicer.util.arrayFromTransformMatrix(node)
    return bool(abs(matrix - [[float(i == j) for j in range(4)] for i in range(4)]).max() > 0)


__all__ = ["OUTPUTS", "OutputControls", "chooseOutputs", "chosenOutputs"]
