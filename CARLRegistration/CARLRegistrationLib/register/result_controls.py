"""What is shown of the last registration: its figures, the Jacobian, the former views, and Undo.

Undo takes one registration after the other back; the one before is then the last one again, with all that goes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..common.notices import notice, showVerdict
from ..engine.words import RESULT, inPanelWords
from ..mrml import colors, views
from .output_controls import chooseOutputs, chosenOutputs
from .result import Result

_MOST = 5  # that can be undone: each keeps its files for the report, and what it overwrote


@dataclass
class _Made:
    """A registration that can be taken back, and what the views showed before it."""

    result: Result
    formerViews: Any


class ResultControls:
    """Args: ui: of the panel. undo: takes a result back. sections: are told what the last registration is.

    parameters: the parameter node, or None.
    """

    def __init__(self, ui, undo: Callable[[Result], None], sections: Sequence, parameters: Callable[[], Any]) -> None:
        self._ui, self._undo, self._sections, self._parameters = ui, undo, sections, parameters
        self._made: list[_Made] = []  # the last one is the last
        self._jacobianShown = False
        ui.undoButton.connect("clicked(bool)", self.onUndo)
        ui.restoreViewsButton.connect("clicked(bool)", self.onRestoreViews)

    @property
    def result(self) -> Result | None:
        """The last registration that was not taken back."""
        return self._made[-1].result if self._made else None

    def add(self, result: Result, formerViews, doubts: Sequence[str] = ()) -> None:
        """A registration was done: show it. doubts: what it said against its pair before."""
        result.warnings = [*doubts, *(text for text in result.warnings if text not in doubts)]
        self._made.append(_Made(result, formerViews))
        if len(self._made) > _MOST:
            self._made.pop(0).result.discard()
        self._jacobianShown = False
        warped, jacobian = result.nodes.get("warped"), result.nodes.get("jacobian")
        if jacobian is not None:
            views.styleJacobian(jacobian)
        self._parameters().showJacobian = False
        if warped is not None:
            views.showLayers(result.job.fixedVolume, warped)
            views.fitTo(views.commonBox(result.job.fixedVolume, warped))
        self._tell()
        self.say(result)

    def say(self, result: Result, before: str = "") -> None:
        """The key figures, and what must not be missed."""
        lines = [before, result.line()]
        notice(self._ui.resultLabel, "\n".join(filter(None, lines)))
        verdict = result.quality.get("verdict") or {}
        word = str(verdict.get("word") or "")
        reasons = [] if word in ("", "good") else [str(one) for one in verdict.get("reasons") or []]
        if word == "good" and result.warnings:
            word = "check"
        showVerdict(self._ui.resultVerdictLabel, word)
        warnings = [*result.warnings, *(one for one in reasons if one not in result.warnings)]
        warnings = [_("Check: {text}").format(text=inPanelWords(text, RESULT)) for text in warnings]
        notice(self._ui.warningLabel, "\n".join([*warnings, *result.notes]), word if warnings else "")

    def silence(self) -> None:
        """Nothing is said of any registration."""
        showVerdict(self._ui.resultVerdictLabel, "")
        for label in (self._ui.resultLabel, self._ui.warningLabel):
            notice(label, "")

    def show(self) -> None:
        """What can be done with the last registration."""
        ui, made = self._ui, self._made
        ui.resultWidget.visible = bool(made)
        ui.undoButton.enabled = bool(made)
        ui.showFolderButton.enabled = bool(made) and made[-1].result.job_folder is not None
        ui.restoreViewsButton.enabled = bool(made) and made[-1].formerViews is not None
        ui.showJacobianCheckBox.enabled = bool(made) and "jacobian" in made[-1].result.nodes

    def forget(self) -> None:
        """The scene is gone, or the panel: with it all that results refer to."""
        for made in self._made:
            made.result.discard()
        self._made = []
        self._tell()

    def _tell(self) -> None:
        for section in self._sections:
            section.setResult(self.result)

    def onUndo(self) -> None:
        """Take the last registration back."""
        if not self._made:
            return
        last = self._made[-1]
        parameters, nodes = self._parameters(), list(last.result.nodes.values())
        for section in self._sections:
            section.leave()
            section.releaseResult()
        # The selectors let go first: of a node that is removed they would choose another in its place.
        chosen = {name: node for name, node in chosenOutputs(parameters).items() if node in nodes}
        chooseOutputs(parameters, dict.fromkeys(chosen))
        self._undo(last.result)
        chooseOutputs(parameters, {name: node for name, node in chosen.items() if slicer.mrmlScene.IsNodePresent(node)})
        self.onRestoreViews()
        last.result.discard()
        self._made.pop()
        self._tell()
        done = _("Registration undone.")
        if self.result is None:
            self.silence()
            notice(self._ui.resultLabel, done)
        else:
            self.say(self.result, done + " " + _("The one before it:"))
        self.show()

    def onRestoreViews(self) -> None:
        """The views as they were before the last registration."""
        for section in self._sections:
            section.leave()
        if self._parameters() is not None:
            self._parameters().showJacobian = False
        if self._made and self._made[-1].formerViews is not None:
            views.restore(self._made[-1].formerViews)
            self._made[-1].formerViews = None
        self.show()

    def updateJacobian(self) -> None:
        """Show the Jacobian in front, or the warped volume again."""
        if self.result is None:
            return
        jacobian, warped = self.result.nodes.get("jacobian"), self.result.nodes.get("warped")
        wanted = bool(self._parameters().showJacobian) and jacobian is not None
        if wanted == self._jacobianShown or jacobian is None:
            return
        self._jacobianShown = wanted
        for section in self._sections:
            section.leave()
        views.showLayers(self.result.job.fixedVolume, jacobian if wanted else warped)
        colors.showLegend(jacobian, wanted)  # last: the legend looks for a view that shows its volume


__all__ = ["ResultControls"]
