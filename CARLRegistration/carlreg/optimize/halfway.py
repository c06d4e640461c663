"""Instance optimization between both images: the same spline moves either one, half the way each.

Half-way space lies between the two: a point z of it shows what the fixed image shows at `F(z - s(z) / 2)` and the
moving one at `M(z + s(z) / 2)`, F and M being linear and s the spline's displacement. Exchanging the images exchanges
F and M and turns the sign of s; loss and smoothness stay as they are. So neither image is preferred, and neither is
interpolated more than the other. The map is M (1 + s/2) (1 - s/2)^-1 F^-1, its inverse F (1 - s/2) (1 + s/2)^-1 M^-1.

Source: symmetric demons and SyN register half-way likewise; splines from one set of coefficients are ours.
Letters: as in `field`; points and displacements in LPS mm of half-way space.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..losses.registry import similarity_named
from ..losses.similarity import PairCorrelation, mind_descriptor, mind_distance, window_widths
from ..maps import sample
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..maps.separable import along_axes
from ..preprocess.prepare import PreparedVolume
from ..spaces import VolumeGrid, apply_affine
from . import bspline
from .field import WEIGHT_EVERY, WINDOW_STRIDE, affine_map, axis_matrices, ignored_under, stiffness
from .levels import FieldLevel, LevelImages

# Of either half of the map; both at this leave a quarter of a length, as `fold_penalty` does for a whole map.
_LEAST_DETERMINANT = 0.4
# Around what both contents have in common, as a share of its edges: where the linear start is off, more of them is.
_MARGIN = 0.2
# Share of the smaller content's edge that must be common; a worse start is optimized over both contents.
_LEAST_COMMON = 0.2
# Least cosine between a voxel's edge and an axis that it counts as lying along.
_ALONG = 0.9
_FIXED_POINT_STEPS, _FIXED_POINT_TOLERANCE = 30, 1e-3  # the latter of the control spacing
_WARM_STEPS = 8
# Nodes per control spacing where the spline is tabulated.
_TABULATED = 3
_CORNERS = np.array([[c >> 2 & 1, c >> 1 & 1, c & 1] for c in range(8)], dtype=np.float64)

#: n x 3 points in LPS mm -> n x 3.
PointMap = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class HalfwaySpace:
    """fixed_from_half (F) and moving_from_half (M): 4x4, LPS mm."""

    fixed_from_half: np.ndarray
    moving_from_half: np.ndarray

    @classmethod
    def between(cls, moving_from_fixed: np.ndarray, center_lps: np.ndarray) -> HalfwaySpace:
        """Half of the turn and of the stretches of an affine on each side, about a center (in fixed space).

        The inverse affine gives the same space with its sides exchanged.
        """
        u, stretches, vt = np.linalg.svd(moving_from_fixed[:3, :3])
        half_turn = _half_rotation(u @ vt)
        half_stretch = vt.T @ np.diag(np.sqrt(stretches)) @ vt
        half_from_fixed = half_turn @ half_stretch
        moving_center = apply_affine(moving_from_fixed, center_lps)
        middle = (center_lps + moving_center) / 2
        fixed_from_half = np.eye(4)
        fixed_from_half[:3, :3] = np.linalg.inv(half_from_fixed)
        fixed_from_half[:3, 3] = center_lps - fixed_from_half[:3, :3] @ middle
        return cls(fixed_from_half, moving_from_fixed @ fixed_from_half)

    def exchanged(self) -> HalfwaySpace:
        return HalfwaySpace(self.moving_from_half, self.fixed_from_half)


def _half_rotation(rotation: np.ndarray) -> np.ndarray:
    """The rotation about the same axis by half the angle (of at most 180 degrees)."""
    # The symmetric part tells the axis where the angle is near 180 degrees, the other one everywhere else.
    angle = math.acos(float(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    if np.linalg.norm(axis) < 1e-3 and angle > 1:
        symmetric = np.linalg.eigh(rotation + rotation.T)[1][:, -1]
        axis = symmetric if symmetric @ axis >= 0 else -symmetric
    if np.linalg.norm(axis) < 1e-12:
        return np.eye(3)
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    half = angle / 2
    return np.eye(3) + math.sin(half) * cross + (1 - math.cos(half)) * cross @ cross


def halfway_box(space: HalfwaySpace, fixed: PreparedVolume, moving: PreparedVolume) -> VolumeGrid:
    """What both contents have in common and a margin, in half-way space; its voxels are as fine as the finer image's.

    Its axes are the fixed image's, turned half the way.
    """
    sides = [
        (volume, np.linalg.inv(lps_from_half))
        for volume, lps_from_half in ((fixed, space.fixed_from_half), (moving, space.moving_from_half))
    ]
    u, _, vt = np.linalg.svd(sides[0][1][:3, :3] @ fixed.grid.direction)
    direction = u @ vt
    corners = [
        apply_affine(half_from_lps @ volume.content.lps_from_normalized, _CORNERS) @ direction
        for volume, half_from_lps in sides
    ]
    lows, highs = np.stack([c.min(0) for c in corners]), np.stack([c.max(0) for c in corners])
    low, high = lows.max(0), highs.min(0)
    if np.any(high - low < _LEAST_COMMON * (highs - lows).min(0)):
        low, high = lows.min(0), highs.max(0)
    margin = _MARGIN * (high - low)
    low, high = np.maximum(low - margin, lows.min(0)), np.minimum(high + margin, highs.max(0))
    spacing = np.min([_edges(volume, half_from_lps, direction) for volume, half_from_lps in sides], axis=0)
    i, j, k = (int(n) for n in np.maximum(1, np.ceil((high - low) / spacing - 1e-6)))
    origin = direction @ (0.5 * (low + high) - 0.5 * (np.array([i, j, k]) - 1) * spacing)
    return VolumeGrid((i, j, k), spacing, origin, direction)


def _edges(volume: PreparedVolume, half_from_lps: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """3: the volume's voxel edges along three directions of half-way space, mm; all the shortest where they cross."""
    edges = direction.T @ half_from_lps[:3, :3] @ (volume.grid.direction * volume.grid.spacing)
    nearest = np.abs(edges).argmax(axis=1)
    lengths = np.linalg.norm(edges, axis=0)
    along = np.abs(edges[range(3), nearest]) / lengths[nearest]
    if len(set(nearest.tolist())) < 3 or along.min() < _ALONG:
        return np.full(3, lengths.min())
    return lengths[nearest]


class HalfwayLoss:
    """Similarity of one level as a function of the spline's coefficients; see `field.LevelLoss`.

    images: both at the level's resolution, each on its own grid. lattices: of the level in half-way space, of one size
    and direction; each call looks at the next one.
    """

    def __init__(
        self,
        images: LevelImages,
        lattices: Sequence[VolumeGrid],
        space: HalfwaySpace,
        box: VolumeGrid,
        level: FieldLevel,
        similarity: str,
    ) -> None:
        self.images, self.similarity = images, similarity_named(similarity)
        lattice = lattices[0]
        device = images.fixed_11dhw.device
        self.voxel_mm = float(lattice.spacing.min())
        self.stiffness: Tensor | None = None
        self.beside: list[Callable[[Tensor], Tensor]] = []
        self._calls = 0
        self._weight = torch.zeros(0)  # found at the first call
        self._at = 0  # of the lattices, the one that is looked at
        self._all_matrices = [[m.to(device) for m in axis_matrices(each, box, level.spacing_mm)] for each in lattices]
        steps = np.array([each.origin_lps - lattice.origin_lps for each in lattices])
        self._first_maps, self._shifts, self.normalized_from_mm = [], [], []
        self.descriptors = []
        for image, grid, lps_from_half, share in (
            (images.fixed_11dhw, images.fixed_grid, space.fixed_from_half, -0.5),
            (images.moving_11dhw, images.moving_grid, space.moving_from_half, 0.5),
        ):
            normalized_from_half = grid.normalized_from_lps @ lps_from_half
            self._first_maps.append(
                affine_map(normalized_from_half @ lattice.lps_from_normalized, lattice.shape_dhw).to(device)
            )
            shifts = (steps @ normalized_from_half[:3, :3].T).astype(np.float32)
            self._shifts.append(tensor_from_array(shifts).view(-1, 1, 3, 1, 1, 1).to(device))
            along = share * normalized_from_half[:3, :3] @ box.direction[:, ::-1]
            self.normalized_from_mm.append(tensor_from_array(along.astype(np.float32)).to(device))
            if self.similarity.descriptors:
                axes = (grid.ijk_from_lps @ lps_from_half @ lattice.lps_from_ijk)[:3, :3][::-1, ::-1].copy()
                self.descriptors.append(mind_descriptor(image, axes_33=axes))
        widths = window_widths(lattice.spacing[::-1], level.window_mm)
        self.correlation = PairCorrelation(
            lattice.shape_dhw,
            widths,
            squared=self.similarity.squared,
            stride=WINDOW_STRIDE if len(lattices) == 1 else 1,
            device=images.fixed_11dhw.device,
        )

    def folds(self, coefficients_13dhw: Tensor, spacing_dhw_mm) -> Tensor:
        half = coefficients_13dhw / 2
        penalties = [bspline.fold_penalty(d, spacing_dhw_mm, _LEAST_DETERMINANT) for d in (half, -half)]
        return penalties[0] + penalties[1]

    @property
    def matrices(self) -> list[Tensor]:
        return self._all_matrices[self._at]

    def maps(self, coefficients_13dhw: Tensor) -> list[Tensor]:
        """1 3 d h w normalized coordinates of the fixed and of the moving image, at the lattice's voxels."""
        return self.maps_in(coefficients_13dhw, (slice(None), slice(None), slice(None)))

    fixed_stays = False

    def maps_in(self, coefficients_13dhw: Tensor, part: tuple[slice, slice, slice]) -> list[Tensor]:
        """1 3 d h w normalized coordinates of both images in a part of the lattice; see `maps`."""
        displacement = along_axes(coefficients_13dhw, *(m[s] for m, s in zip(self.matrices, part, strict=True)))
        return [
            first[(slice(None), slice(None), *part)]
            + shifts[self._at]
            + torch.einsum("uc,bcdhw->budhw", matrix, displacement)
            for first, shifts, matrix in zip(self._first_maps, self._shifts, self.normalized_from_mm, strict=True)
        ]

    def displace(self, displacement_13dhw: Tensor) -> None:
        """Begin with a displacement on the (only) lattice that the spline adds to; mm along the box's d, h, w."""
        if len(self._all_matrices) > 1:
            raise ValueError("A displacement to begin with: expected one lattice, got several.")
        self._first_maps = [
            first + torch.einsum("uc,bcdhw->budhw", matrix, displacement_13dhw.to(first.device))
            for first, matrix in zip(self._first_maps, self.normalized_from_mm, strict=True)
        ]

    def weight(self, maps: list[Tensor]) -> Tensor:
        """1 where both images have data, times both given weights."""
        weight = torch.ones_like(maps[0][:, :1])
        for found, given in zip(maps, (self.images.fixed_weight_11dhw, self.images.moving_weight_11dhw), strict=True):
            weight = weight * ((found > 0) & (found < 1)).all(1, keepdim=True)
            if given is not None:
                weight = weight * sample(given, found)
        return weight

    def __call__(self, coefficients_13dhw: Tensor) -> Tensor:
        lattices = len(self._all_matrices)
        self._at = self._calls % lattices
        maps = self.maps(coefficients_13dhw)
        again = self._calls % WEIGHT_EVERY == 0
        with torch.no_grad():
            if again or lattices > 1:
                self._weight = self.weight(maps)
            if again:
                ignored = ignored_under(maps, (self.images.fixed_ignored_11dhw, self.images.moving_ignored_11dhw))
                self.stiffness = stiffness(self._weight, self.matrices, ignored)
        self._calls += 1
        seen = self.descriptors or [self.images.fixed_11dhw, self.images.moving_11dhw]
        one, other = (sample(image, found) for image, found in zip(seen, maps, strict=True))
        if self.similarity.descriptors:
            return mind_distance(one, other, self._weight)
        return self.correlation(one, other, self._weight)


def halfway_displacement(displacement_lps: PointMap, space: HalfwaySpace) -> PointMap:
    """The displacement s at points of half-way space that gives a known map its form.

    displacement_lps: n x 3 fixed points -> their displacement before the affine, LPS mm.
    """
    half_from_fixed = np.linalg.inv(space.fixed_from_half)

    def at(points: np.ndarray) -> np.ndarray:
        found = np.zeros_like(points)
        for _ in range(_WARM_STEPS):
            before = displacement_lps(apply_affine(space.fixed_from_half, points - found / 2))
            found = before @ half_from_fixed[:3, :3].T
        return found

    return at


class Displacement(Protocol):
    """A spline in half-way space, or what stands for it; see `field.FieldResult`."""

    @property
    def box(self) -> VolumeGrid: ...

    @property
    def spacing_mm(self) -> float: ...

    def displacement_lps(self, grid: VolumeGrid) -> np.ndarray: ...


def displacement_on(
    grid: VolumeGrid, space: HalfwaySpace, spline: Displacement, *, inverse: bool = False
) -> np.ndarray:
    """D x H x W x 3 float32 mm: the displacement d of the map y = affine(x + d(x)) at a fixed grid's nodes.

    affine: `moving_from_half fixed_from_half^-1`. inverse: of the inverse map, at a moving grid's nodes.
    Where the half-way map folds, the nearest that was found.
    """
    sign, sides = (-1.0, space.exchanged()) if inverse else (1.0, space)
    table_grid = spline.box.padded(spline.spacing_mm).with_spacing(spline.spacing_mm / _TABULATED)
    table = tensor_from_array(sign * spline.displacement_lps(table_grid)).permute(3, 0, 1, 2)[None].contiguous()
    half_from_grid = np.linalg.inv(sides.fixed_from_half) @ grid.lps_from_normalized
    normalized_from_half = tensor_from_array(table_grid.normalized_from_lps[:3, :3].astype(np.float32))
    start = affine_map(table_grid.normalized_from_lps @ half_from_grid, grid.shape_dhw)
    found = sample(table, start)
    for _ in range(_FIXED_POINT_STEPS):
        # z = w + s(z) / 2 for the point w of half-way space that the linear part alone leads to.
        again = sample(table, start + 0.5 * torch.einsum("uc,bcdhw->budhw", normalized_from_half, found))
        change = float((again - found).abs().max())
        found = again
        if change < _FIXED_POINT_TOLERANCE * spline.spacing_mm:
            break
    lps_from_half = tensor_from_array(sides.fixed_from_half[:3, :3].astype(np.float32))
    return array_from_tensor(torch.einsum("xc,cdhw->dhwx", lps_from_half, found[0]))
