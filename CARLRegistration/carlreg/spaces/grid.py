"""A voxel grid in patient space, with the coordinate systems the engine uses.

`_ijk`   continuous voxel index, ITK order, center of the first voxel = 0
`_normalized`  network coordinate of a grid, tensor order (d, h, w) = (k, j, i), voxel faces at 0 and 1
`_lps`   patient position in mm (left, posterior, superior)

Matrices are 4x4 float64, act on column vectors and are named `a_from_b`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from ..errors import GeometryError

if TYPE_CHECKING:
    import SimpleITK as sitk

#: What positions lose in a file header of float32 numbers, as a share of their distance from the origin.
_ROUNDING = 5e-7
# How far the products of a direction's columns may be off 0 and 1: headers are rounded.
AXES_TOLERANCE = 1e-3
_AXES_REVERSED = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])


def lps_from_ras() -> np.ndarray:
    """4x4 matrix between LPS and RAS; it is its own inverse."""
    return np.diag([-1.0, -1.0, 1.0, 1.0])


def apply_affine(matrix: np.ndarray, points) -> np.ndarray:
    """(..., 3) points under a 4x4 matrix `a_from_b`: points given in b, found in a."""
    return np.asarray(points) @ matrix[:3, :3].T + matrix[:3, 3]


@dataclass(frozen=True, eq=False)
class VolumeGrid:
    """Size, spacing (mm), origin (LPS mm of the first voxel's center) and direction (columns = axes in LPS).

    Raises GeometryError for non-positive spacing or size, or a direction that is not orthonormal.
    """

    size_ijk: tuple[int, int, int]
    spacing: np.ndarray
    origin_lps: np.ndarray
    direction: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "size_ijk", tuple(int(n) for n in self.size_ijk))
        object.__setattr__(self, "spacing", np.asarray(self.spacing, dtype=np.float64).reshape(3))
        object.__setattr__(self, "origin_lps", np.asarray(self.origin_lps, dtype=np.float64).reshape(3))
        object.__setattr__(self, "direction", np.asarray(self.direction, dtype=np.float64).reshape(3, 3))
        if len(self.size_ijk) != 3 or min(self.size_ijk) < 1:
            raise GeometryError(f"Expected a grid of three positive sizes, got {self.size_ijk}.")
        if not np.all(np.isfinite(self.spacing)) or np.any(self.spacing <= 0):
            raise GeometryError(f"Expected positive voxel spacing in mm, got {self.spacing.tolist()}.")
        if not np.all(np.isfinite(self.origin_lps)):
            raise GeometryError(f"Expected a finite origin, got {self.origin_lps.tolist()}.")
        error = np.abs(self.direction.T @ self.direction - np.eye(3)).max()
        if not np.isfinite(error) or error > AXES_TOLERANCE:
            raise GeometryError(
                "Expected orthonormal image axes, got the direction matrix "
                f"{np.round(self.direction, 4).tolist()} (off by {error:.3g}). The volume is sheared or singular, as "
                "with a tilted gantry: resample it to a regular grid first."
            )

    @classmethod
    def of(cls, image) -> VolumeGrid:
        """The grid of a 3-D SimpleITK image (or anything with the same four getters)."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), np.reshape(image.GetDirection(), (3, 3)))

    @property
    def shape_dhw(self) -> tuple[int, int, int]:
        """Array and tensor shape (k, j, i)."""
        i, j, k = self.size_ijk
        return k, j, i

    @property
    def lps_from_ijk(self) -> np.ndarray:
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction * self.spacing
        matrix[:3, 3] = self.origin_lps
        return matrix

    @property
    def ijk_from_lps(self) -> np.ndarray:
        return np.linalg.inv(self.lps_from_ijk)

    def points(self, ijk) -> np.ndarray:
        """(..., 3) LPS mm of continuous voxel indices (i, j, k)."""
        return apply_affine(self.lps_from_ijk, ijk)

    def index(self, lps) -> np.ndarray:
        """(..., 3) continuous voxel indices (i, j, k) of LPS points."""
        return apply_affine(self.ijk_from_lps, lps)

    def contains(self, lps) -> np.ndarray:
        """(...) bool: which (..., 3) LPS points lie in the volume, its faces included (ITK's rule)."""
        index = self.index(lps)
        return np.all((index >= -0.5) & (index <= np.asarray(self.size_ijk) - 0.5), axis=-1)

    def indices(self, start: int = 0, stop: int | None = None, step: int | Sequence[int] = 1) -> np.ndarray:
        """(D, H, W, 3) voxel indices (i, j, k), float64, of the planes start to stop along k.

        step: take every step-th voxel only (one number, or one per array axis k, j, i).
        """
        first, last = (start, 0, 0), (stop, None, None)
        steps = np.broadcast_to(step, (3,))
        axes = [
            np.arange(count, dtype=np.float64)[a:b:s]
            for count, a, b, s in zip(self.shape_dhw, first, last, steps, strict=True)
        ]
        return np.stack(np.meshgrid(*axes, indexing="ij")[::-1], axis=-1)

    def centers(self, start: int = 0, stop: int | None = None, step: int | Sequence[int] = 1) -> np.ndarray:
        """(D, H, W, 3) LPS mm of the voxel centers; of some planes or voxels only, see `indices`."""
        return self.points(self.indices(start, stop, step))

    def image(self, array: np.ndarray) -> sitk.Image:
        """A SimpleITK image (a copy) of a (D, H, W) array on this grid, or of (D, H, W, C) with C values per voxel.

        Raises GeometryError when the array's shape is not the grid's.
        """
        import SimpleITK as sitk  # here, so that grids need NumPy alone

        if array.shape[:3] != self.shape_dhw or array.ndim not in (3, 4):
            raise GeometryError(f"Expected an array of shape {self.shape_dhw}, got {array.shape}.")
        image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
        image.SetSpacing(self.spacing.tolist())
        image.SetOrigin(self.origin_lps.tolist())
        image.SetDirection(self.direction.ravel().tolist())
        return image

    @property
    def lps_from_normalized(self) -> np.ndarray:
        """Maps normalized coordinates in tensor order (d, h, w), faces at 0 and 1, to LPS mm."""
        ijk_from_normalized = np.eye(4)
        ijk_from_normalized[:3, :3] = np.diag(np.asarray(self.size_ijk, dtype=np.float64)) @ _AXES_REVERSED
        ijk_from_normalized[:3, 3] = -0.5
        return self.lps_from_ijk @ ijk_from_normalized

    @property
    def normalized_from_lps(self) -> np.ndarray:
        return np.linalg.inv(self.lps_from_normalized)

    @property
    def lps_from_align_corners(self) -> np.ndarray:
        """As `lps_from_normalized` for the published weights' coordinate: first center 0, last center 1."""
        ijk_from_normalized = np.eye(4)
        ijk_from_normalized[:3, :3] = np.diag(np.asarray(self.size_ijk, dtype=np.float64) - 1.0) @ _AXES_REVERSED
        return self.lps_from_ijk @ ijk_from_normalized

    @property
    def center_lps(self) -> np.ndarray:
        return self.lps_from_normalized[:3, :3] @ np.full(3, 0.5) + self.lps_from_normalized[:3, 3]

    @property
    def extent_mm(self) -> np.ndarray:
        """Edge lengths along i, j, k, face to face."""
        return self.spacing * np.asarray(self.size_ijk)

    @property
    def voxel_count(self) -> int:
        return int(np.prod(self.size_ijk, dtype=np.int64))

    def with_spacing(self, spacing_mm) -> VolumeGrid:
        """Same box (at least), same center and axes, at another spacing (scalar or one per axis)."""
        spacing = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), (3,))
        size = np.maximum(1, np.ceil(self.extent_mm / spacing - 1e-6)).astype(int)
        return self._around(self.center_lps, size, spacing)

    def resized(self, size_ijk) -> VolumeGrid:
        """Same box (face to face) with another number of voxels per axis."""
        size = np.asarray(size_ijk, dtype=np.float64)
        return self._around(self.center_lps, size, self.extent_mm / size)

    def padded(self, margin_mm) -> VolumeGrid:
        """Grown on every side by at least `margin_mm` (scalar or one per axis i, j, k), on the same lattice."""
        margin = np.broadcast_to(np.asarray(margin_mm, dtype=np.float64), (3,))
        voxels = np.ceil(margin / self.spacing - 1e-6).astype(int)
        return self.cropped(-voxels, np.asarray(self.size_ijk) + voxels)

    def cropped(self, start_ijk, stop_ijk) -> VolumeGrid:
        """The sub-lattice [start, stop) in voxel indices; may lie outside."""
        start = np.asarray(start_ijk, dtype=np.float64)
        size = (np.asarray(stop_ijk) - np.asarray(start_ijk)).astype(int)
        origin = self.lps_from_ijk[:3, :3] @ start + self.origin_lps
        return VolumeGrid(tuple(size), self.spacing, origin, self.direction)

    def _around(self, center_lps, size, spacing) -> VolumeGrid:
        offset = self.direction @ ((np.asarray(size) - 1) / 2.0 * spacing)
        i, j, k = (int(n) for n in size)
        return VolumeGrid((i, j, k), spacing, center_lps - offset, self.direction)

    def axes_along(self, direction=None) -> tuple[tuple[int, int, int], np.ndarray]:
        """How to store the voxels so that their axes lie nearest to a 3 x 3 direction's columns (None: L, P, S).

        Returns (for each new axis i, j, k the present one, and +1 or -1 whether it is kept or reversed).
        """
        cosines = self.direction.T @ (np.eye(3) if direction is None else direction)
        i, j, k = max(
            permutations(range(3)), key=lambda axes: round(sum(abs(cosines[a, n]) for n, a in enumerate(axes)), 6)
        )
        return (i, j, k), np.where(cosines[[i, j, k], range(3)] < 0, -1, 1)

    def reordered(self, order, signs) -> VolumeGrid:
        """The same voxels stored along other axes, see `axes_along`."""
        order, signs = list(order), np.asarray(signs)
        last = np.where(signs < 0, np.asarray(self.size_ijk)[order] - 1, 0)
        origin = self.origin_lps + self.direction[:, order] @ (self.spacing[order] * last)
        size = tuple(self.size_ijk[axis] for axis in order)
        return VolumeGrid(size, self.spacing[order], origin, self.direction[:, order] * signs)

    def same_as(self, other: VolumeGrid, tolerance: float = 1e-3) -> bool:
        """True when both have the same size and every corner agrees within `tolerance` of the smallest voxel edge.

        What a file's float32 numbers cannot tell apart so far from the origin is the same, too.
        """
        if self.size_ijk != other.size_ijk:
            return False
        one, two = self.corners_lps(), other.corners_lps()
        allowed = tolerance * float(self.spacing.min()) + _ROUNDING * float(np.abs(one).max())
        return bool(np.abs(one - two).max() <= allowed)

    def corners_ijk(self) -> np.ndarray:
        """8 x 3 voxel indices of the corner voxels."""
        last = np.asarray(self.size_ijk) - 1
        return np.array([[(c >> a) & 1 for a in range(3)] for c in range(8)]) * last

    def corners_lps(self) -> np.ndarray:
        """8 x 3 centers of the corner voxels, LPS mm."""
        return self.points(self.corners_ijk())

    def as_dict(self) -> dict:
        """Plain numbers for JSON."""
        return {
            "size": list(self.size_ijk),
            "spacing": self.spacing.tolist(),
            "origin": self.origin_lps.tolist(),
            "direction": self.direction.tolist(),
        }
