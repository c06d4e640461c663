"""What is inspected: a fixed and a moving volume and the transform between them, placed as the views show them.

Maps here go from world points of the fixed volume (RAS mm) to points of the moving node's own space (RAS mm), as
vtkGeneralTransform. Inputs are never changed.
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
from ..mrml.geometry import (
    linearWorldFromNode,
    parents,
    rasFromIjk,
    rasFromImage,
    transformPoints,
    volumePoints,
)
from ..mrml.transforms import checkNotUnder, sidesOf
from ..mrml.volumes import checkVolume, worldImage

_PROBE_NODES = 20  # per axis: where it is asked whether fixed points land in the moving volume
_ENOUGH_BEFORE = 0.05  # as the engine: with less in common before, the way begins with the centers aligned


@dataclass
class Case:
    """fixed, moving, transform: nodes. The rest, where known: what a run made, segmentations, lists of points."""

    fixed: Any = None
    moving: Any = None
    transform: Any = None
    uncertainty: Any = None
    fixedSegmentation: Any = None
    movingSegmentation: Any = None
    fixedPoints: Any = None
    movingPoints: Any = None

    def check(self) -> None:
        """Raise RegistrationError when the three do not make sense together."""
        checkVolume(self.fixed, _("fixed volume"))
        checkVolume(self.moving, _("moving volume"))
        if self.transform is None:
            raise RegistrationError(_("Choose a transform, or register first."))
        if self.fixed is self.moving:
            raise RegistrationError(_("Fixed and moving are the same volume. Choose two different ones."))
        checkNotUnder(self.fixed, self.transform)
        share = self.commonShare()
        if share is None:
            raise RegistrationError(
                _("{name}: the transform gives no finite points around {fixed}. Choose another.").format(
                    name=self.transform.GetName(), fixed=self.fixed.GetName()
                )
            )
        if share == 0:
            raise RegistrationError(
                _("Under {name} no part of {fixed} lies in {moving}: there is nothing to compare. {hint}").format(
                    name=self.transform.GetName(),
                    fixed=self.fixed.GetName(),
                    moving=self.moving.GetName(),
                    hint=self.madeFor() or _("Does the transform belong to these volumes, in this direction?"),
                )
            )

    def madeFor(self) -> str:
        """A hint when the transform says that it was made for other volumes, else ""."""
        made = sidesOf(self.transform)
        if None in made or (made[0] is self.fixed and made[1] is self.moving):
            return ""
        if made[0] is self.moving and made[1] is self.fixed:
            return _("It is the inverse, made for the other direction: choose the transform, or swap the volumes.")
        return _("It was made for {fixed} (fixed) and {moving} (moving).").format(
            fixed=made[0].GetName(), moving=made[1].GetName()
        )

    def uncertaintyLayer(self):
        """The volume node of the uncertainty. Raises RegistrationError when there is nothing to show."""
        node = self.uncertainty
        if node is None or node.GetImageData() is None:
            raise RegistrationError(_("Choose the uncertainty that a registration made, or register again."))
        if not (slicer.util.arrayFromVolume(node) >= 0).any():
            raise RegistrationError(_("{name}: the uncertainty is unknown everywhere.").format(name=node.GetName()))
        return node

    # --- where things are

    def fixedMatrix(self) -> np.ndarray | None:
        """4 x 4 of the fixed voxels to the world; None where a parent transform is not linear."""
        linear = linearWorldFromNode(self.fixed)
        return None if linear is None else linear @ rasFromIjk(self.fixed)

    def fixedInWorld(self) -> tuple[np.ndarray, np.ndarray]:
        """Voxels (k, j, i) of the fixed volume, and their 4 x 4 to the world; resampled when it cannot be said so."""
        matrix = self.fixedMatrix()
        if matrix is not None:
            return slicer.util.arrayFromVolume(self.fixed), matrix
        import SimpleITK as sitk

        image, _note = worldImage(self.fixed, _("fixed volume"))
        return sitk.GetArrayFromImage(image), rasFromImage(image)

    def worldMap(self):
        """The chosen transform: fixed to moving points, both in the world."""
        made = vtk.vtkGeneralTransform()
        self.transform.GetTransformFromWorld(made)
        return made

    def movingFromWorld(self):
        """World points to the moving node's own space; the chosen transform, if it is a parent, is left out."""
        made = vtk.vtkGeneralTransform()
        made.PostMultiply()
        above = []
        for parent in parents(self.moving):
            if parent is self.transform:
                break
            above.append(parent)
        for parent in reversed(above):
            made.Concatenate(parent.GetTransformFromParent())
        return made

    def fullMap(self):
        """Fixed points in the world to the moving node's own space."""
        made = vtk.vtkGeneralTransform()
        made.PostMultiply()
        made.Concatenate(self.worldMap())
        made.Concatenate(self.movingFromWorld())
        return made

    def lattice(self, nodes: int) -> np.ndarray:
        """(nodes^3, 3) world points that fill the fixed volume."""
        return volumePoints(self.fixed, nodes)

    def _inMoving(self, points: np.ndarray, through) -> np.ndarray | None:
        """Bool for each point: it lands in the moving volume. None when a point is not finite."""
        inverse = np.linalg.inv(rasFromIjk(self.moving))
        index = apply_affine(inverse, transformPoints(through, points))
        if not np.all(np.isfinite(index)):
            return None
        size = np.array(self.moving.GetImageData().GetDimensions())
        return np.all((index >= -0.5) & (index <= size - 0.5), axis=1)

    def commonShare(self) -> float | None:
        """Share of the fixed volume that lands in the moving one; None when the transform is not finite."""
        inside = self._inMoving(self.lattice(_PROBE_NODES), self.fullMap())
        return None if inside is None else float(inside.mean())

    def shareBefore(self) -> float:
        """As `commonShare`, without the transform."""
        inside = self._inMoving(self.lattice(_PROBE_NODES), self.movingFromWorld())
        return 0.0 if inside is None else float(inside.mean())

    def start(self) -> np.ndarray:
        """4 x 4: where the way of the transform begins: as it is, or with centers aligned when little overlaps."""
        shift = np.eye(4)
        if self.shareBefore() < _ENOUGH_BEFORE:
            size = np.array(self.moving.GetImageData().GetDimensions())
            own = rasFromIjk(self.moving)
            center = own[:3, :3] @ ((size - 1) / 2) + own[:3, 3]
            center = transformPoints(self.movingFromWorld().GetInverse(), center[None])[0]
            shift[:3, 3] = center - self.lattice(3).mean(axis=0)
        return shift

    def commonBox(self) -> np.ndarray:
        """2 x 3: lowest and highest corner (world RAS mm) of what both volumes show under the transform."""
        points = self.lattice(_PROBE_NODES)
        inside = self._inMoving(points, self.fullMap())
        if inside is None:
            inside = np.zeros(len(points), dtype=bool)
        size = np.array(self.fixed.GetImageData().GetDimensions())
        at = [np.round(np.linspace(0, n - 1, _PROBE_NODES)).astype(int) for n in size]
        values = slicer.util.arrayFromVolume(self.fixed)[np.ix_(at[2], at[1], at[0])].transpose(2, 1, 0).reshape(-1)
        content = inside & shows(values)
        chosen = content if content.sum() > 8 else inside
        if not chosen.any():
            chosen = np.ones(len(points), dtype=bool)
        return np.stack([points[chosen].min(axis=0), points[chosen].max(axis=0)])


def shows(values: np.ndarray) -> np.ndarray:
    """Bool: what is above the background, by a twentieth of the range of values."""
    return values > values.min() + 0.05 * (float(values.max()) - float(values.min()))


__all__ = ["Case", "shows"]
