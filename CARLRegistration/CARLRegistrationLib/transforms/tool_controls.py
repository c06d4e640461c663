"""What is made of a transform: its inverse, a coarser or finer field, its linear part, a chain, the next start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from ..mrml.geometry import parents
from . import tasks
from .tasks import TaskResult
from .texts import errorText

if TYPE_CHECKING:
    from .panel import TransformsPanel


class ToolControls:
    """Args: section: that they belong to."""

    def __init__(self, section: TransformsPanel) -> None:
        self._section = section
        self._ui = ui = section.ui
        self._chain: list[str] = []
        for button, action in (
            (ui.useAsInitialButton, self.onUseAsInitial),
            (ui.invertButton, self.onInvert),
            (ui.resampleButton, self.onResample),
            (ui.linearButton, self.onLinear),
            (ui.addToChainButton, self.onAddToChain),
            (ui.composeButton, self.onCompose),
            (ui.clearChainButton, self.onClearChain),
        ):
            button.connect("clicked(bool)", lambda checked, do=action: (section.at("derived"), do()))

    def forgetChain(self) -> None:
        """Another transform is worked on."""
        self._chain = []

    def update(self) -> None:
        """Show the chain."""
        ui, transform = self._ui, self._section.subject.transform
        names = [node.GetName() for node in self._chained()]
        first = transform.GetName() if transform is not None else ""
        ui.chainLabel.text = _("{names}").format(names=" \u2192 ".join([first, *names])) if names else ""
        ui.chainLabel.visible = ui.composeButton.visible = ui.clearChainButton.visible = bool(names)

    def onUseAsInitial(self) -> None:
        """The next registration starts from the transform."""
        self._section.say("")
        self._section.show(self.setInitial(self._section.parameters.transformsTransform))

    def setInitial(self, node) -> str:
        """Let the next registration start from a transform; returns that, in words."""
        self._section.parameters.initialTransform = node
        text = _("The next registration starts from {name}.").format(name=node.GetName())
        moving = self._section.parameters.movingVolume
        if node in parents(moving):
            text += " " + _("Take {moving} out of it first: it is placed under it already.").format(
                moving=moving.GetName()
            )
        return text

    def onInvert(self) -> None:
        subject, spacing = self._section.subject, self._section.parameters.toolSpacing

        def shown(made: TaskResult) -> None:
            report = made.figures.get("inverse") or {}
            text = _("Made '{name}'. There and back again: {error}.").format(
                name=made.nodes[0].GetName(), error=errorText(report.get("error_mm") or {})
            )
            if len(made.nodes) > 1:
                text += "\n" + _("No inverse in {percent:.2g} % of the volume, shown by '{name}'.").format(
                    percent=report["not_inverted_percent"], name=made.nodes[1].GetName()
                )
            self._showMade(made, text)

        self._section.start(
            _("Inverting ..."), lambda: tasks.startInvert(subject, spacing, self._section.python()), shown
        )

    def onResample(self) -> None:
        subject, spacing = self._section.subject, self._section.parameters.toolSpacing

        def shown(made: TaskResult) -> None:
            text = _("Made '{name}'. Error: {error}.").format(name=made.nodes[0].GetName(), error=errorText(made.error))
            self._showMade(made, text)

        self._section.start(
            _("Resampling ..."), lambda: tasks.startResample(subject, spacing, self._section.python()), shown
        )

    def onLinear(self) -> None:
        subject, kind = self._section.subject, self._section.parameters.linearKind

        def shown(made: TaskResult) -> None:
            text = _("Made '{name}'. Residual: {error}.").format(
                name=made.nodes[0].GetName(), error=errorText(made.figures.get("left_mm") or {})
            )
            made.notes = [note for note in made.notes if not note.startswith("the ")]  # the same in the engine's words
            self._showMade(made, text)

        self._section.start(_("Fitting ..."), lambda: tasks.startLinear(subject, kind, self._section.python()), shown)

    def _chained(self) -> list:
        nodes = [slicer.mrmlScene.GetNodeByID(one) for one in self._chain]
        return [node for node in nodes if node is not None]

    def onAddToChain(self) -> None:
        node = self._ui.chainSelector.currentNode()
        if node is None:
            self._section.say(_("Choose the transform that comes next."))
            return
        self._section.say("")
        self._chain.append(node.GetID())
        self._section.update()

    def onClearChain(self) -> None:
        self._chain = []
        self._section.update()

    def onCompose(self) -> None:
        subject, others = self._section.subject, self._chained()
        count = len(others) + 1

        def shown(made: TaskResult) -> None:
            self._chain = []
            self._section.update()
            text = _("Made '{name}' of {count} transforms.").format(name=made.nodes[0].GetName(), count=count)
            self._showMade(made, text)

        self._section.start(
            _("Composing ..."), lambda: tasks.startCompose(subject, others, self._section.python()), shown
        )

    def _showMade(self, made: TaskResult, text: str) -> None:
        self._section.show("\n".join([text, *made.notes]))


__all__ = ["ToolControls"]
