"""The maps of an application: from a node's own points to the other side, by the chosen transform, in the world.

A transform node takes points of the moving side to the fixed side (to parent), and back (from parent). What a node is
under counts: its points go to the world first. A node that is under the transform that acts already is taken as if
it was not, so that nothing is mapped twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from carlreg.spaces import apply_affine
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..mrml.geometry import arrayFrom, lattice, parents, rasFromIjk, transformPoints, volumePoints
from ..mrml.transforms import flatTransform, sidesOf
from .nodes import Kind, kindOf

_PROBE_NODES = 9  # per axis: where it is asked whether data and transform have anything in common
_AROUND = 0.2  # of a volume's size: fields reach over its edge, and landmarks may lie there
_INVERSE_WITHIN_MM = 0.5  # there and back again, for a node of the scene to count as the inverse of another


@dataclass(frozen=True)
class Sides:
    """Two volumes, where known: the data comes from the side of `source` and goes to the side of `target`."""

    source: Any = None
    target: Any = None

    @classmethod
    def of(cls, transform, toFixed: bool) -> Sides:
        """The volumes that a transform node says it was made for."""
        found = sidesOf(transform)
        fixed, moving = (n if n is not None and n.GetImageData() is not None else None for n in found)
        return cls(moving, fixed) if toFixed else cls(fixed, moving)


def below(node, acting) -> list:
    """The transform nodes that a node is under, nearest first, up to the one that acts, which is left out."""
    found = []
    for parent in parents(node):
        if parent is acting:
            break
        found.append(parent)
    return found


class Placement:
    """A node's place in the world, the transform that acts left out: for what asks a node for its parent transform."""

    def __init__(self, node, acting) -> None:
        self._name = node.GetName()
        self.linear = np.eye(4)
        self.toWorld = vtk.vtkGeneralTransform()
        self.toWorld.PostMultiply()
        chain = below(node, acting)
        for one in chain:
            self.toWorld.Concatenate(one.GetTransformToParent())
            if self.linear is not None and one.IsLinear():
                matrix = vtk.vtkMatrix4x4()
                one.GetMatrixTransformToParent(matrix)
                self.linear = arrayFrom(matrix) @ self.linear
            else:
                self.linear = None
        self._parent = flatTransform(self.toWorld, self.linear) if chain else None

    def GetName(self) -> str:
        return self._name

    def GetParentTransformNode(self):
        return self._parent


class MappingDirection:
    """A transform node in one direction: points of the data's side to the other, in the world.

    inverse: for the way to the moving side, the scene's node that leads there, where there is one. sides: the volumes.
    """

    def __init__(self, transform, toFixed: bool) -> None:
        self.transform, self.toFixed = transform, toFixed
        self.sides = Sides.of(transform, toFixed)
        self.inverse = None if toFixed else knownInverse(transform)
        self.matrix = self._matrix()

    @staticmethod
    def targetOf(transform, toFixed: bool):
        """The volume that data is brought to, None where the transform does not say."""
        return Sides.of(transform, toFixed).target

    @property
    def acting(self):
        """The node that data is placed under to be mapped, None where there is none yet."""
        return self.transform if self.toFixed else self.inverse

    def map(self):
        """From the data's side to the other; vtkGeneralTransform."""
        return _world(self.transform, self.toFixed)

    def inverseMap(self):
        """From the other side to the data's."""
        return _world(self.transform, not self.toFixed)

    def of(self, node):
        """A node's own points to the other side: (4 x 4 or None, vtkGeneralTransform)."""
        placed = Placement(node, self.acting)
        made = vtk.vtkGeneralTransform()
        made.PostMultiply()
        made.Concatenate(placed.toWorld)
        made.Concatenate(self.map())
        linear = None if self.matrix is None or placed.linear is None else self.matrix @ placed.linear
        return linear, made

    def _matrix(self) -> np.ndarray | None:
        if not self.transform.IsTransformToWorldLinear():
            return None
        matrix = vtk.vtkMatrix4x4()
        self.transform.GetMatrixTransformToWorld(matrix)
        found = arrayFrom(matrix)
        return found if self.toFixed else np.linalg.inv(found)


def knownInverse(transform):
    """The scene's node that leads the other way, as registrations make them, or None.

    It says that it was made for the same volumes, exchanged, and there and back again it is close to where it began.
    """
    sides = Sides.of(transform, True)
    if None in (sides.source, sides.target):
        return None
    points = volumePoints(sides.target, _PROBE_NODES)
    mapped = transformPoints(_world(transform, False), points)
    for node in slicer.util.getNodesByClass("vtkMRMLTransformNode"):
        other = Sides.of(node, True)
        if node is transform or other.source is not sides.target or other.target is not sides.source:
            continue
        returned = transformPoints(_world(node, False), mapped)
        if np.median(np.linalg.norm(returned - points, axis=1)) < _INVERSE_WITHIN_MM:
            return node
    return None


def _world(transform, toParent: bool):
    made = vtk.vtkGeneralTransform()
    if toParent:
        transform.GetTransformToWorld(made)
    else:
        transform.GetTransformFromWorld(made)
    return made


# --- do they have anything in common? --------------------------------------------------------------------------------


def ownPoints(node) -> np.ndarray:
    """Points that stand for a node, in its own space."""
    kind = kindOf(node)
    if kind in (Kind.VOLUME, Kind.LABELS):
        own = rasFromIjk(node)
        index = lattice(np.zeros(3), np.array(node.GetImageData().GetDimensions()) - 1.0, _PROBE_NODES)
        return apply_affine(own, index)
    if kind is Kind.MARKUPS:
        count = node.GetNumberOfControlPoints()
        return np.array([node.GetNthControlPointPosition(n) for n in range(count)], dtype=float)
    bounds = [0.0] * 6
    if kind is Kind.SEGMENTATION:
        node.GetSegmentation().GetBounds(bounds)
    else:
        node.GetMesh().GetBounds(bounds)
    low, high = np.array(bounds)[::2], np.array(bounds)[1::2]
    return lattice(low, high, _PROBE_NODES)


def checkOverlap(node, frame, mapping: MappingDirection, grid=None) -> None:
    """Raise RegistrationError when a node has nothing to do with the transform.

    Args: node: that is placed; frame: that holds the data (the node itself, or a frame of a sequence). grid: volume
        that voxels are resampled onto, None when there is none.
    """
    names = {"name": node.GetName(), "transform": mapping.transform.GetName()}
    points = transformPoints(Placement(node, mapping.acting).toWorld, ownPoints(frame))
    mapped = transformPoints(mapping.map(), points)
    if not (np.all(np.isfinite(points)) and np.isfinite(mapped).any()):
        raise RegistrationError(
            _("{name}: {transform} gives no finite points here. Choose another transform.").format(**names)
        )
    source = mapping.sides.source
    if mapping.matrix is None and source is not None and not _touch(points, _shown(source, mapping), _AROUND):
        raise RegistrationError(
            _(
                "{name} lies outside {volume}, which {transform} was made for: there is nothing to apply it to. "
                "Choose the other direction, or another transform."
            ).format(volume=source.GetName(), **names)
        )
    if grid is not None:
        seen = transformPoints(mapping.inverseMap(), volumePoints(grid, 2 * _PROBE_NODES))
        if not np.isfinite(seen).all() or not _touch(points, seen):
            raise RegistrationError(
                _(
                    "Under {transform} no part of {name} lies in {grid}: the result would be empty. Choose the other "
                    "direction, another reference volume, or another transform."
                ).format(grid=grid.GetName(), **names)
            )


def _shown(volume, mapping: MappingDirection) -> np.ndarray:
    """Points that fill a volume of the data's side, in the world, the transform that acts left out."""
    return transformPoints(Placement(volume, mapping.acting).toWorld, ownPoints(volume))


def _touch(some: np.ndarray, others: np.ndarray, around: float = 0.0) -> bool:
    """True when the boxes around two sets of points overlap; the others' is made larger by a share of its size."""
    slack = 1e-6 + around * np.ptp(others, axis=0)
    low = np.maximum(some.min(axis=0), others.min(axis=0) - slack)
    high = np.minimum(some.max(axis=0), others.max(axis=0) + slack)
    return bool(np.all(low <= high))


__all__ = [
    "Placement",
    "Sides",
    "MappingDirection",
    "below",
    "checkOverlap",
    "knownInverse",
    "ownPoints",
]
