"""The Jacobian of any transform on the fixed volume: the layer, its folds and what it says of each segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import qt
import slicer
from carlreg.spaces import apply_affine
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..mrml.geometry import rasFromIjk, transformPoints, worldFromNode
from ..mrml.segmentations import segmentInside
from ..mrml.volumes import worldImage

# More points than these are not mapped while the user waits: then every n-th voxel is taken.
_LARGEST_LATTICE = 700_000
_LARGEST_FOLDS = 200


@dataclass(frozen=True)
class Fold:
    """A connected region of determinants of 0 or less. position_ras: a folded voxel nearest to its middle, mm."""

    number: int
    voxels: int
    volume_mm3: float
    position_ras: tuple
    lowest: float


@dataclass(frozen=True)
class SegmentChange:
    """Determinants in one segment. change_percent: of its volume from fixed to moving."""

    name: str
    volume_mm3: float
    change_percent: float
    mean: float
    sd: float
    percentiles: dict
    folded_voxels: int


def determinant(case) -> tuple[np.ndarray, np.ndarray, int]:
    """(determinants float32 k, j, i; 4 x 4 to the world; every n-th voxel) of a case's transform on its fixed volume.

    Central differences of the mapped voxels, one-sided at the border, with the directions of the grid.
    """
    voxels = case.fixed.GetImageData().GetDimensions()
    matrix = case.fixedMatrix()
    if matrix is None:
        array, matrix = case.fixedInWorld()
        voxels = array.shape[::-1]
    step = int(np.ceil((np.prod(np.asarray(voxels, float)) / _LARGEST_LATTICE) ** (1 / 3) - 1e-9))
    step = min(max(step, 1), max(1, (min(voxels) - 1) // 2))
    count = [-(-n // step) for n in voxels]
    lattice = matrix @ np.diag([step, step, step, 1.0])
    return determinantOn(case.worldMap(), lattice, count), lattice, step


def determinantOn(transform, matrix: np.ndarray, size) -> np.ndarray:
    """Determinants (k, j, i) of a map of world points (RAS mm) on a grid: matrix 4 x 4, size i, j, k."""
    i, j, k = (np.arange(int(n), dtype=float) for n in size)
    index = np.stack(np.meshgrid(k, j, i, indexing="ij"), axis=-1)[..., ::-1].reshape(-1, 3)
    mapped = transformPoints(transform, apply_affine(matrix, index))
    if not np.all(np.isfinite(mapped)):
        raise RegistrationError(_("The transform gives no finite points on the fixed volume. Choose another."))
    mapped = mapped.reshape(len(k), len(j), len(i), 3)
    # d mapped / d index, times d index / d world: a flipped or oblique grid cancels itself.
    along_k, along_j, along_i = np.gradient(mapped, axis=(0, 1, 2))
    columns = np.linalg.inv(matrix[:3, :3])
    cross = np.cross(along_j, along_k)
    return (np.einsum("...a,...a->...", along_i, cross) * np.linalg.det(columns)).astype(np.float32)


def addJacobian(case):
    """A new volume node with the determinants of a case's transform, in the scene to stay; and a note or ""."""
    values, matrix, step = determinant(case)
    name = slicer.mrmlScene.GenerateUniqueName(_("Jacobian, {transform}").format(transform=case.transform.GetName()))
    node = slicer.util.addVolumeFromArray(values, matrix, name)
    note = _("The Jacobian was computed at every {n}. voxel.").format(n=step) if step > 1 else ""
    return node, note


class MadeJacobian:
    """The Jacobian that was made here, for as long as its case is compared and its transform stays as it is."""

    def __init__(self) -> None:
        self._made: tuple | None = None

    def forget(self) -> None:
        self._made = None

    def known(self, case):
        """The node, or None."""
        if self._made is None or case.fixed is None or case.transform is None:
            return None
        node, fixedId, transformId = self._made
        same = (fixedId, transformId) == (case.fixed.GetID(), case.transform.GetID())
        return node if same and slicer.mrmlScene.IsNodePresent(node) else None

    def make(self, case):
        """A new node, and a note or ""; see `addJacobian`."""
        slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
        try:
            node, note = addJacobian(case)
        finally:
            slicer.app.restoreOverrideCursor()
        self._made = (node, case.fixed.GetID(), case.transform.GetID())
        return node, note


def folds(node) -> list[Fold]:
    """The folded regions of a Jacobian volume, largest first (neighbors over corners count as one region)."""
    import SimpleITK as sitk

    values = slicer.util.arrayFromVolume(node)
    folded = values <= 0
    if not folded.any():
        return []
    matrix = rasFromIjk(node)
    world = worldFromNode(node)
    voxel_mm3 = abs(float(np.linalg.det(matrix[:3, :3])))
    where = np.argwhere(folded)
    low, high = where.min(axis=0), where.max(axis=0) + 1
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    regions = sitk.ConnectedComponent(sitk.GetImageFromArray(folded[part].astype(np.uint8)), True)
    regions = sitk.RelabelComponent(regions, sortByObjectSize=True)
    numbers = sitk.GetArrayFromImage(regions)
    at = np.argwhere(numbers > 0)
    order = np.argsort(numbers[tuple(at.T)], kind="stable")
    at = at[order]
    counts = np.bincount(numbers[tuple(at.T)])[1:]
    found = []
    for number, voxels in enumerate(np.split(at, np.cumsum(counts)[:-1]), start=1):
        if number > _LARGEST_FOLDS:
            break
        whole = voxels + low
        middle = whole[np.argmin(((whole - whole.mean(axis=0)) ** 2).sum(axis=1))]
        ras = matrix[:3, :3] @ middle[::-1].astype(float) + matrix[:3, 3]
        ras = transformPoints(world, ras[None])[0]
        lowest = float(values[tuple(whole.T)].min())
        found.append(Fold(number, len(voxels), len(voxels) * voxel_mm3, tuple(float(x) for x in ras), lowest))
    return found


def segmentChanges(node, segmentation) -> tuple[list[SegmentChange], list[str]]:
    """What a Jacobian volume says of each segment, and the names of segments left out: empty, or outside it.

    Raises: RegistrationError when there is no segment, or none with voxels on the volume.
    """
    import SimpleITK as sitk

    onto, _note = worldImage(node, _("Jacobian"))
    values = sitk.GetArrayViewFromImage(onto)
    voxel_mm3 = float(np.prod(onto.GetSpacing()))
    ids = list(segmentation.GetSegmentation().GetSegmentIDs())
    if not ids:
        raise RegistrationError(
            _("{name} has no segments. Choose another segmentation, or none.").format(name=segmentation.GetName())
        )
    found, without = [], []
    for segmentId in ids:
        name = segmentation.GetSegmentation().GetSegment(segmentId).GetName()
        try:
            inside = values[segmentInside(segmentation, segmentId, onto, _("segmentation"))]
        except RegistrationError:
            without.append(name)
            continue
        if inside.size == 0:
            without.append(name)
            continue
        mean = float(inside.mean(dtype=np.float64))
        percentiles = {p: float(x) for p, x in zip((5, 50, 95), np.percentile(inside, (5, 50, 95)), strict=True)}
        found.append(
            SegmentChange(
                name,
                inside.size * voxel_mm3,
                100.0 * (mean - 1.0),
                mean,
                float(inside.std(dtype=np.float64)),
                percentiles,
                int((inside <= 0).sum()),
            )
        )
    if not found:
        raise RegistrationError(
            _("{name}: all segments are empty or lie outside the fixed volume. Choose another segmentation.").format(
                name=segmentation.GetName()
            )
        )
    return found, without


__all__ = [
    "Fold",
    "MadeJacobian",
    "SegmentChange",
    "addJacobian",
    "determinant",
    "determinantOn",
    "folds",
    "segmentChanges",
]
