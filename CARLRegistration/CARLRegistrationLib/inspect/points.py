"""Points that say where a map is wrong: two lists of markups, which the transform node refers to.

The fixed points lie in the world. The moving ones are under the transform, as all that belongs to the moving volume: so
the views show them where the warped volume shows their place, and there they are placed and dragged. A pair has one
label; a point that is off is one that is not selected. All of it is saved with the scene.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from carlreg.io.guide_points import GuidePoints
from slicer.i18n import tr as _

from ..mrml import hierarchy
from ..mrml.geometry import swapRasLps, transformPoints
from .evaluation import worldPoints

SIDES = ("fixed", "moving")
_ROLES = {"fixed": "CARLRegistration.FixedPoints", "moving": "CARLRegistration.MovingPoints"}
_COLORS = {"fixed": (1.0, 0.75, 0.1), "moving": (0.2, 0.9, 1.0)}
_OFF_COLOR = (0.55, 0.55, 0.55)
_BEFORE = "CARLRegistration.OffBefore"


@dataclass(frozen=True)
class Pair:
    """fixed: in the world, moving: in the moving volume's space (before the transform), 3, RAS mm. now: mm off."""

    label: str
    fixed: np.ndarray
    moving: np.ndarray
    on: bool
    now: float
    before: float | None = None


class Points:
    """The points of a transform node; there may be none yet."""

    def __init__(self, transform) -> None:
        self.transform = transform

    def node(self, side: str):
        """The list of a side, or None."""
        return self.transform.GetNodeReference(_ROLES[side])

    def nodes(self) -> list:
        return [node for node in map(self.node, SIDES) if node is not None]

    def make(self, fixedVolume) -> None:
        """Make the lists where there are none."""
        for side in SIDES:
            if self.node(side) is not None:
                continue
            texts = {"fixed": _("{name}: points, fixed"), "moving": _("{name}: points, moving")}
            name = slicer.mrmlScene.GenerateUniqueName(texts[side].format(name=self.transform.GetName()))
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
            node.CreateDefaultDisplayNodes()
            display = node.GetDisplayNode()
            display.SetSelectedColor(*_COLORS[side])
            display.SetColor(*_OFF_COLOR)
            display.SetTextScale(3.0)
            self.transform.SetNodeReferenceID(_ROLES[side], node.GetID())
            hierarchy.placeBeside(node, fixedVolume)
        self.node("moving").SetAndObserveTransformNodeID(self.transform.GetID())

    def giveTo(self, transform) -> None:
        """They belong to another transform node from now on."""
        for side in SIDES:
            node = self.node(side)
            if node is not None:
                transform.SetNodeReferenceID(_ROLES[side], node.GetID())
                self.transform.RemoveNodeReferenceIDs(_ROLES[side])
                if side == "moving":
                    node.SetAndObserveTransformNodeID(transform.GetID())

    def pairs(self) -> list[Pair]:
        """Those that both lists have, in the order of the fixed ones."""
        lists = {side: self._defined(side) for side in SIDES}
        labels = [label for label in lists["fixed"] if label in lists["moving"]]
        if not labels:
            return []
        fixed = np.array([lists["fixed"][label][1] for label in labels])
        moving = np.array([lists["moving"][label][1] for label in labels])
        through = vtk.vtkGeneralTransform()
        self.transform.GetTransformFromWorld(through)
        now = np.linalg.norm(transformPoints(through, fixed) - moving, axis=1)
        before = self.before()
        return [
            Pair(label, f, m, self._isOn(lists["fixed"][label][0]), float(off), before.get(label))
            for label, f, m, off in zip(labels, fixed, moving, now, strict=True)
        ]

    def guide(self) -> GuidePoints:
        """The pairs as the engine reads them."""
        pairs = self.pairs()
        fixed, moving = (swapRasLps(np.array([getattr(pair, side) for pair in pairs]).reshape(-1, 3)) for side in SIDES)
        return GuidePoints(fixed, moving, tuple(pair.label for pair in pairs), np.array([p.on for p in pairs], bool))

    def switch(self, label: str, on: bool) -> None:
        for side in SIDES:
            self.node(side).SetNthControlPointSelected(self._defined(side)[label][0], on)

    def delete(self, label: str) -> None:
        for side in SIDES:
            self.node(side).RemoveNthControlPoint(self._defined(side)[label][0])

    def newLabel(self) -> str:
        """The lowest number that no point has."""
        taken = {label for side in SIDES for label in self._defined(side)}
        return next(str(n) for n in range(1, len(taken) + 2) if str(n) not in taken)

    def nameNew(self, side: str, known: set[str], label: str) -> bool:
        """Give the point that came to a side, beside those known, its label; False when none came."""
        node = self.node(side)
        new = [found[0] for name, found in self._defined(side).items() if name not in known]
        if not new:
            return False
        node.SetNthControlPointLabel(new[-1], label)
        return True

    def labels(self, side: str) -> set[str]:
        return set(self._defined(side))

    def dropUnpaired(self) -> None:
        """Points without a partner go: of a placing that was given up, or whose partner was deleted elsewhere."""
        common = self.labels("fixed") & self.labels("moving")
        for side in SIDES:
            node = self.node(side)
            if node is None:
                continue
            for index in reversed(range(node.GetNumberOfControlPoints())):
                if node.GetNthControlPointLabel(index) not in common or not _isDefined(node, index):
                    node.RemoveNthControlPoint(index)

    # --- how far off they were before they were mended

    def before(self) -> dict[str, float]:
        """mm, by label."""
        try:
            found = json.loads(self.transform.GetAttribute(_BEFORE) or "{}")
            return {str(label): float(mm) for label, mm in found.items()}
        except (ValueError, TypeError, AttributeError):
            return {}

    def remember(self, before: dict[str, float]) -> None:
        """What was first known of a point stays; of those that are gone nothing is kept."""
        there = self.labels("fixed")
        kept = {**before, **self.before()}
        self.transform.SetAttribute(_BEFORE, json.dumps({label: kept[label] for label in kept if label in there}))

    # --- in the views

    def showIn(self, viewIds: dict) -> None:
        """In which views each side is shown; of a side without an entry: in all."""
        for side in SIDES:
            node = self.node(side)
            display = node.GetDisplayNode() if node is not None else None
            if display is not None:
                display.SetViewNodeIDs(viewIds.get(side, []))

    def _defined(self, side: str) -> dict[str, tuple[int, np.ndarray]]:
        """Index and position by label; of several with one label the first."""
        node = self.node(side)
        if node is None:
            return {}
        positions = worldPoints(node, self.transform)
        found: dict[str, tuple[int, np.ndarray]] = {}
        for index in range(node.GetNumberOfControlPoints()):
            if _isDefined(node, index):
                found.setdefault(node.GetNthControlPointLabel(index), (index, positions[index]))
        return found

    def _isOn(self, index: int) -> bool:
        return bool(self.node("fixed").GetNthControlPointSelected(index))


def _isDefined(node, index: int) -> bool:
    return node.GetNthControlPointPositionStatus(index) == slicer.vtkMRMLMarkupsNode.PositionDefined


__all__ = ["SIDES", "Pair", "Points"]
