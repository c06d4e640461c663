"""The delivered map: one affine and one displacement field in patient space.

y = A(x + d(x)): the field acts first on a fixed point x, then the affine; LPS mm. The field holds only what the
affine leaves, so that a large turn never has to be stored in, or inverted from, a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import InputError
from ..io.itk_transform import affine_from_sitk, affine_to_sitk, check_affine, flatten, linear_to_sitk
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..spaces import VolumeGrid, apply_affine
from .interpolate import LatticeSampler, lattice_affine, trilinear_at
from .workers import in_threads

SLAB_VOXELS = 2**18
_POINT_CHUNK = 2**17


@dataclass(frozen=True, eq=False)
class PhysicalTransform:
    """moving_from_fixed in LPS mm: y = affine(x + displacement(x)).

    affine_lps: 4x4. displacement_lps: (D, H, W, 3) float32 mm, vector order L, P, S, on `grid`;
    linear between nodes, zero outside the grid. kind: of a map that displaces nothing, 'rigid', 'similarity' or
    'affine'; None = one with a displacement. center_lps: about which its file turns.
    Raises GeometryError for a singular affine, InputError for shapes that do not fit or values that are not finite.
    """

    affine_lps: np.ndarray
    displacement_lps: np.ndarray
    grid: VolumeGrid
    kind: str | None = None
    center_lps: np.ndarray | None = None

    def __post_init__(self) -> None:
        affine = check_affine(self.affine_lps)
        field = np.ascontiguousarray(self.displacement_lps, dtype=np.float32)
        if field.shape != (*self.grid.shape_dhw, 3):
            raise InputError(f"Expected displacements of shape {(*self.grid.shape_dhw, 3)}, got {field.shape}.")
        if not np.isfinite(field).all():
            raise InputError("Expected finite displacements, got NaN or infinite ones.")
        if self.kind is not None and field.any():
            raise InputError(f"Expected no displacements of a map of the kind {self.kind}, got some.")
        object.__setattr__(self, "affine_lps", affine)
        object.__setattr__(self, "displacement_lps", field)

    @classmethod
    def from_affine(
        cls, affine_lps: np.ndarray, kind: str = "affine", center_lps: np.ndarray | None = None
    ) -> PhysicalTransform:
        """A linear map alone: its displacement is zero, on a grid of one cell."""
        grid = VolumeGrid((2, 2, 2), np.ones(3), np.zeros(3), np.eye(3))
        return cls(affine_lps, np.zeros((2, 2, 2, 3), dtype=np.float32), grid, kind, center_lps)

    def linear_inverse(self) -> PhysicalTransform:
        """The exact inverse of a map with a `kind`, about the center's image."""
        center = None if self.center_lps is None else apply_affine(self.affine_lps, self.center_lps)
        return self.from_affine(np.linalg.inv(self.affine_lps), self.kind or "affine", center)

    @cached_property
    def field_cdhw(self) -> Tensor:
        """The displacements channel first (L, P, S), float32, as a tensor of its own."""
        return tensor_from_array(self.displacement_lps).permute(3, 0, 1, 2).contiguous()

    def apply(self, points_lps) -> np.ndarray:
        """N x 3 fixed points (LPS mm) to N x 3 moving points, float64."""
        points = np.array(points_lps, dtype=np.float64).reshape(-1, 3)
        rows = tensor_from_array(self.displacement_lps).reshape(-1, 3)
        for begin in range(0, len(points), _POINT_CHUNK):
            part = points[begin : begin + _POINT_CHUNK]
            index = tensor_from_array(self.grid.index(part))
            part += array_from_tensor(trilinear_at(rows, self.grid.shape_dhw, index))
        return apply_affine(self.affine_lps, points)

    def over_slabs(
        self, grid: VolumeGrid, work: Callable[[int, int, Tensor], Any], halo: int = 0
    ) -> Iterator[tuple[int, int, Any]]:
        """(start, stop, work(start, stop, displacement)) for slabs of a lattice's planes, in order, on all threads.

        displacement: 3 k j i, LPS mm, before the affine; with a halo of that many voxels on all six sides.
        """
        sampler = _Still(grid) if self.kind is not None else LatticeSampler(self.field_cdhw, self.grid, grid)
        ranges = slab_ranges(grid)
        done = in_threads(lambda start, stop: work(start, stop, sampler.slab(start, stop, halo)), ranges)
        for (start, stop), result in zip(ranges, done, strict=True):
            yield start, stop, result

    def positions(
        self, grid: VolumeGrid, start: int, stop: int, displacement_3kji: Tensor, frame_from_lps=None
    ) -> Tensor:
        """3 k j i: where one slab's voxels map to, from their displacements; LPS mm or the frame of a 4x4 matrix.

        For positions in a moving image's voxels give `moving.ijk_from_lps`.
        """
        frame = self.affine_lps if frame_from_lps is None else frame_from_lps @ self.affine_lps
        ranges = [(0, grid.size_ijk[0]), (0, grid.size_ijk[1]), (start, stop)]
        out = lattice_affine(frame @ grid.lps_from_ijk, ranges)
        if self.kind is not None:
            return out
        linear = frame[:3, :3]
        negligible = 1e-12 * np.abs(linear).max()
        for row in range(3):
            for column in range(3):
                if abs(linear[row, column]) > negligible:
                    out[row].add_(displacement_3kji[column], alpha=float(linear[row, column]))
        return out

    def on_grid(self, grid: VolumeGrid, frame_from_lps=None) -> np.ndarray:
        """(D, H, W, 3) float32: where the voxel centers of a grid map to, LPS mm or a 4x4 matrix's frame; in slabs.

        Far from the origin float32 mm are coarse; the moving image's own frame is not.
        """
        out = np.empty((*grid.shape_dhw, 3), dtype=np.float32)

        def work(start: int, stop: int, displacement: Tensor) -> None:
            position = self.positions(grid, start, stop, displacement, frame_from_lps)
            out[start:stop] = array_from_tensor(position.permute(1, 2, 3, 0))

        for _ in self.over_slabs(grid, work):
            pass
        return out

    def to_sitk(self) -> sitk.Transform:
        """ITK composite of [affine, displacement field], the last one acting first; of a linear map that map alone."""
        if self.kind is not None:
            return linear_to_sitk(self.affine_lps, self.kind, self.center_lps)
        return sitk.CompositeTransform([affine_to_sitk(self.affine_lps), self._field_to_sitk()])

    def _field_to_sitk(self) -> sitk.DisplacementFieldTransform:
        return sitk.DisplacementFieldTransform(self.grid.image(self.displacement_lps.astype(np.float64)))

    @classmethod
    def from_sitk(cls, transform: sitk.Transform) -> PhysicalTransform:
        """The same map from an ITK transform: linear transforms after at most one displacement field.

        Raises InputError for any other composition, GeometryError for a singular affine.
        """
        affine, field = np.eye(4), None
        for part in flatten(transform):
            if part.IsLinear() and field is None:
                affine = affine @ affine_from_sitk(part)
            elif "DisplacementField" in part.GetName() and field is None:
                field = sitk.DisplacementFieldTransform(part).GetDisplacementField()
            else:
                raise InputError(
                    "Expected a transform of one affine and one displacement field that acts first, got "
                    f"{' o '.join(p.GetName() for p in flatten(transform))}."
                )
        check_affine(affine)
        if field is None:
            return cls.from_affine(affine)
        if field.GetDimension() != 3:
            raise InputError(f"Expected a 3-D displacement field, got {field.GetDimension()}-D.")
        return cls(affine, sitk.GetArrayFromImage(field).astype(np.float32), VolumeGrid.of(field))


class _Still:
    """As `LatticeSampler`, of a field that displaces nothing."""

    def __init__(self, grid: VolumeGrid) -> None:
        self.size_ijk = grid.size_ijk

    def slab(self, start: int, stop: int, halo: int = 0) -> Tensor:
        i, j, _ = self.size_ijk
        return torch.zeros(1).expand(3, stop - start + 2 * halo, j + 2 * halo, i + 2 * halo)


def slab_ranges(grid: VolumeGrid, voxels: int = SLAB_VOXELS) -> list[tuple[int, int]]:
    """(start, stop) planes of slabs of about so many voxels."""
    depth, height, width = grid.shape_dhw
    planes = max(1, voxels // (height * width))
    return [(start, min(start + planes, depth)) for start in range(0, depth, planes)]
