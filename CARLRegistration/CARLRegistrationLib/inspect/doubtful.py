"""The doubtful places of a map, worst first: least certain, most dissimilar, or folded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
from carlreg.spaces import apply_affine
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..mrml.geometry import linearWorldFromNode, rasFromIjk, transformPoints, worldFromNode
from . import jacobian
from .case import Case, shows
from .partial import PartialMap, resampled
from .tables import volumeText

APART_MM, MOST = 20.0, 10
_MOST_VOXELS = 1_500_000  # are looked at; of larger volumes every n-th
_WINDOW_MM = 8.0  # half of the edge of the window in which volumes are compared
_FLAT = 1e-3  # share of the variance in the body below which the moving volume says nothing


@dataclass(frozen=True)
class Place:
    """position: in the world, RAS mm. text: its value in words."""

    position: tuple[float, float, float]
    text: str


def maxima(values: np.ndarray, inside: np.ndarray, matrix: np.ndarray, apart_mm=APART_MM, most=MOST) -> np.ndarray:
    """n x 3 indices (k, j, i) of the local maxima of a volume inside of a region, largest first.

    A local maximum is nowhere lower than its 26 neighbors inside; of two closer than apart_mm the larger one counts.
    Args: values, inside: k, j, i. matrix: 4 x 4 of indices (i, j, k) to mm.
    """
    low = np.where(inside, values, -np.inf)
    at = np.argwhere(inside & (low >= _highestAround(low)))
    at = at[np.argsort(-low[tuple(at.T)], kind="stable")]
    positions = apply_affine(matrix, at[:, ::-1].astype(float))
    chosen: list[int] = []
    free = np.ones(len(at), dtype=bool)
    while len(chosen) < most and free.any():
        first = int(np.argmax(free))
        chosen.append(first)
        free &= np.linalg.norm(positions - positions[first], axis=1) >= apart_mm
    return at[chosen]


def _highestAround(values: np.ndarray) -> np.ndarray:
    """The highest of each voxel and its 26 neighbors."""
    for axis in range(3):
        wide = np.pad(values, [(1, 1) if one == axis else (0, 0) for one in range(3)], constant_values=-np.inf)
        parts = [np.take(wide, np.arange(n, n + values.shape[axis]), axis) for n in range(3)]
        values = np.maximum(np.maximum(parts[0], parts[1]), parts[2])
    return values


def uncertain(case: Case) -> list[Place]:
    """Where the uncertainty is highest. Raises RegistrationError when it is known nowhere."""
    node = case.uncertaintyLayer()
    values = slicer.util.arrayFromVolume(node)
    step = _step(values.shape)
    thinned = values[::step, ::step, ::step]
    matrix = rasFromIjk(node) @ np.diag([step, step, step, 1.0])
    inside = thinned > 0
    body = _bodyAt(case, node, thinned.shape, matrix)
    at = maxima(thinned, inside & body if (inside & body).any() else inside, matrix)
    positions = transformPoints(worldFromNode(node), apply_affine(matrix, at[:, ::-1].astype(float)))
    found = thinned[tuple(at.T)]
    return [Place(tuple(p), _("{mm:.1f} mm").format(mm=v)) for p, v in zip(positions.tolist(), found, strict=True)]


def dissimilar(case: Case) -> list[Place]:
    """Where the fixed volume is least explained by the warped one: see `dissimilarity`."""
    values, matrix = case.fixedInWorld()
    step = _step(values.shape)
    through = PartialMap(case).linear()
    warped, inside, lattice = resampled(case.moving, through, matrix, values.shape[::-1], step)
    fixed = values[::step, ::step, ::step].astype(np.float32)
    region = body(fixed) & inside
    if not region.any():
        raise RegistrationError(_("The warped volume shows nothing of the body; there is nothing to compare."))
    found, whole = dissimilarity(fixed, warped, inside, np.linalg.norm(lattice[:3, :3], axis=0), region)
    at = maxima(found, region & whole & (found > 0), lattice)
    positions = apply_affine(lattice, at[:, ::-1].astype(float))
    text = _("dissimilarity {value:.2f}")
    return [Place(tuple(p), text.format(value=v)) for p, v in zip(positions.tolist(), found[tuple(at.T)], strict=True)]


def dissimilarity(fixed, warped, inside, spacing, region) -> tuple[np.ndarray, np.ndarray]:
    """(the fixed standard deviation around each voxel that the warped volume does not explain linearly, as a share of
    that in the region; where the whole window is inside), k, j, i.

    Unlike a correlation it is low where both are flat; contrasts may differ. spacing: mm along i, j, k.
    """
    import SimpleITK as sitk

    radius = [max(1, round(_WINDOW_MM / float(mm))) for mm in spacing]

    def mean(array: np.ndarray) -> np.ndarray:
        return sitk.GetArrayFromImage(sitk.BoxMean(sitk.GetImageFromArray(array.astype(np.float64)), radius))

    a = fixed - fixed[region].mean()
    b = np.where(inside, warped - warped[region].mean(), 0.0)
    meanA, meanB = mean(a), mean(b)
    varA, varB = mean(a * a) - meanA**2, mean(b * b) - meanB**2
    explained = (mean(a * b) - meanA * meanB) ** 2 / np.maximum(varB, _FLAT * float(b[region].var()) + 1e-12)
    left = np.sqrt(np.maximum(varA - explained, 0.0))
    return left / max(float(a[region].std()), 1e-12), mean(inside) > 1 - 1e-6


def folded(node) -> list[Place]:
    """The folded regions of a Jacobian volume."""
    return [Place(fold.position_ras, volumeText(fold.volume_mm3)) for fold in jacobian.folds(node)[:MOST]]


def body(values: np.ndarray) -> np.ndarray:
    """Bool: the largest connected part of what a volume shows, without holes."""
    import SimpleITK as sitk

    shown = sitk.GetImageFromArray(shows(values).astype(np.uint8))
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(shown), sortByObjectSize=True)
    return sitk.GetArrayFromImage(sitk.BinaryFillhole(parts == 1)) > 0


def _bodyAt(case: Case, node, shape, matrix: np.ndarray) -> np.ndarray:
    """The fixed volume's body on a lattice of a node: its k, j, i shape and the 4 x 4 to the node's RAS."""
    values, fixedMatrix = case.fixedInWorld()
    step = _step(values.shape)
    region = body(values[::step, ::step, ::step])
    own = linearWorldFromNode(node)
    if own is None:
        return np.ones(shape, dtype=bool)
    # Every voxel of the node in the thinned fixed volume, nearest neighbor.
    k, j, i = (np.arange(n, dtype=float) for n in shape)
    index = np.stack(np.meshgrid(k, j, i, indexing="ij"), axis=-1)[..., ::-1].reshape(-1, 3)
    lattice = fixedMatrix @ np.diag([step, step, step, 1.0])
    there = np.rint(apply_affine(np.linalg.inv(lattice) @ own @ matrix, index)).astype(int)[:, ::-1]
    within = np.all((there >= 0) & (there < region.shape), axis=1)
    found = np.zeros(len(there), dtype=bool)
    found[within] = region[tuple(there[within].T)]
    return found.reshape(shape)


def _step(shape) -> int:
    return max(1, int(np.ceil((np.prod(np.asarray(shape, float)) / _MOST_VOXELS) ** (1 / 3) - 1e-9)))


__all__ = ["Place", "body", "dissimilar", "dissimilarity", "folded", "maxima", "uncertain"]
