"""The deformation as a function: what `optimize.functional` works on, from a prepared pair, and what it found."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..losses.similarity import WindowMean
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..models.functional import FunctionalSettings
from ..optimize.candidates import AffineCandidate
from ..optimize.field import FieldResult
from ..optimize.functional import (
    FunctionalLevel,
    FunctionalPair,
    Side,
    fit_functional,
    optimize_functional,
    settle_inverse,
)
from ..optimize.levels import LevelImages, finest_spacing, level_images, search_spacing
from ..optimize.patches import PatchImage
from ..progress import Progress
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid, apply_affine
from .field import optimized_field
from .live import LiveMap
from .pair import PreparedPair
from .predict import PointMap

# Level spacing in finest spacings, share of the steps; window in level spacings.
_LEVELS, _WINDOW = ((6, 0.25), (3, 0.35), (1, 0.40)), 7.0
_STRUCTURE_SIZE, _LEAST_STRUCTURE = 48, 0.1
_FIT_SHARE = 1.2  # steps of fitting what is known, per step of the optimization: a third of its time
_DELIVERED = 3.0  # nodes of the field are half as many finest spacings apart


@dataclass
class FunctionalResult:
    """A pair's maps, and where they live; sampled as a spline field is (`optimize.field.FieldResult`).

    box: the content that the codes cover. spacing_mm: twice that of the field that is delivered.
    """

    pair: FunctionalPair
    box: VolumeGrid
    spacing_mm: float
    losses: list[float]

    def displacement_lps(self, grid: VolumeGrid) -> np.ndarray:
        """D x H x W x 3 float32 mm (L, P, S) on a grid."""
        found = np.empty((*grid.shape_dhw, 3), dtype=np.float32)
        for k in range(grid.size_ijk[2]):
            found[k] = self.displaced(grid.centers(k, k + 1).reshape(-1, 3)).reshape(*grid.shape_dhw[1:], 3)
        return found

    def displaced(self, points_lps: np.ndarray, *, inverse: bool = False) -> np.ndarray:
        """n x 3 displacement in LPS mm of fixed points, or of moving points that the affine's inverse took along.

        Beyond the box that of its edge.
        """
        frame = apply_affine(frame_from_lps(self.box), points_lps)
        if not inverse:
            edges = np.asarray(self.pair.aspect)
            frame = np.clip(frame, -edges, edges)
        device = self.pair.global_code.device
        moved = self.pair.evaluated(_tensor(frame, device), inverse=inverse)
        return array_from_tensor(moved).astype(np.float64) @ np.linalg.inv(frame_from_lps(self.box))[:3, :3].T

    def inverse_displacement(self, points_lps: np.ndarray) -> np.ndarray:
        """What the map itself says of its inverse, see `physical.invert`."""
        return self.displaced(points_lps, inverse=True)


def frame_from_lps(box: VolumeGrid) -> np.ndarray:
    """4 x 4: the frame of `optimize.functional` (tensor order) from LPS mm."""
    half = float(box.extent_mm.max()) / 2
    matrix = np.eye(4)
    matrix[:3, :3] = box.direction.T[::-1] / half
    matrix[:3, 3] = -matrix[:3, :3] @ box.center_lps
    return matrix


def functional_field(
    start: AffineCandidate,
    residual: PointMap | None,
    pair: PreparedPair,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
    live: LiveMap | None = None,
) -> FunctionalResult | FieldResult:
    """The displacement before the affine, as a function; what is known already is fitted first.

    Stopped before the first step, it is the start itself, as a spline.
    """
    live = live or LiveMap(progress)
    box = pair.fixed.content
    frame = frame_from_lps(box)
    finest = finest_spacing(box)
    aspect = box.extent_mm[::-1] / box.extent_mm.max()
    maps = FunctionalPair(FunctionalSettings(), aspect).to(device)
    generator = torch.Generator().manual_seed(settings.seed)

    def draw(count: int) -> Tensor:
        unit = 2 * torch.rand(count, 3, generator=generator) - 1
        return unit.to(device) * _tensor(aspect, device)

    if residual is not None:
        lps = np.linalg.inv(frame)

        def wanted(points_ns: Tensor) -> Tensor:
            points = apply_affine(lps, array_from_tensor(points_ns).astype(np.float64))
            return _tensor(residual(points) @ frame[:3, :3].T, device)

        fit_functional(maps, wanted, draw, steps=math.ceil(_FIT_SHARE * settings.steps), progress=progress)
    if progress.stopping:
        return optimized_field(start, residual, pair, settings, device, progress, live)
    half = float(box.extent_mm.max()) / 2
    counts = _split(settings.steps, [share for _, share in _LEVELS])
    levels = [
        FunctionalLevel(steps=steps, window=_WINDOW * factor * finest / half)
        for (factor, _), steps in zip(_LEVELS, counts, strict=True)
    ]
    found = FunctionalResult(maps, box, _DELIVERED * finest, [])
    found.losses += optimize_functional(
        maps,
        _sides(pair, start.matrix, frame, [factor * finest for factor, _ in _LEVELS], device),
        levels,
        similarity=settings.similarity,
        smoothness=settings.smoothness,
        seed=settings.seed,
        progress=progress,
        watch=lambda: live.offer(start.matrix, found.displacement_lps, box),
    )
    settle_inverse(maps, draw, steps=settings.steps)
    return found


def _split(total: int, shares: list[float]) -> list[int]:
    ends = np.rint(np.cumsum(shares) * total).astype(int)
    return np.diff(np.concatenate([[0], ends])).tolist()


def _sides(
    pair: PreparedPair, affine_lps: np.ndarray, frame: np.ndarray, spacings: list[float], device
) -> Iterator[tuple[Side, Side]]:
    coarse = level_images(
        pair.fixed, pair.moving, search_spacing(pair.fixed, pair.moving, _STRUCTURE_SIZE), torch.device("cpu")
    )
    aligned = frame @ np.linalg.inv(affine_lps)
    fixed_cells = _cells(coarse.fixed_11dhw, coarse.fixed_weight_11dhw, coarse.fixed_grid, frame, device)
    moving_cells = _cells(coarse.moving_11dhw, coarse.moving_weight_11dhw, coarse.moving_grid, aligned, device)
    for spacing in spacings:
        images = level_images(pair.fixed, pair.moving, spacing, device)
        yield (
            Side(_patch_image(images, "fixed", frame), *fixed_cells),
            Side(_patch_image(images, "moving", aligned), *moving_cells),
        )


def _patch_image(images: LevelImages, side: str, frame_from_lps: np.ndarray) -> PatchImage:
    image, weight = getattr(images, f"{side}_11dhw"), getattr(images, f"{side}_weight_11dhw")
    matrix = getattr(images, f"{side}_grid").normalized_from_lps @ np.linalg.inv(frame_from_lps)
    return PatchImage(image, weight, _tensor(matrix[:3, :3], image.device), _tensor(matrix[:3, 3], image.device))


def _cells(image: Tensor, weight: Tensor | None, grid: VolumeGrid, frame_from_lps: np.ndarray, device):
    """Centers, cumulative shares and edge of the cells of a coarse grid: more where the image shows structure."""
    mean = WindowMean(image.shape[2:], [3] * 3)
    variance = (mean(image.square()) - mean(image).square()).clamp_min(0)
    share = _LEAST_STRUCTURE + variance / (variance + 1e-3)
    if weight is not None:
        share = share * weight
    kji = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape_dhw], indexing="ij"), axis=-1).reshape(-1, 3)
    matrix = frame_from_lps @ grid.lps_from_ijk
    centers = apply_affine(matrix, kji[:, ::-1])
    edge = np.abs(matrix[:3, :3]).sum(1)
    return _tensor(centers, device), share.flatten().double().cumsum(0).to(device), _tensor(edge, device)


def _tensor(values: np.ndarray, device) -> Tensor:
    return tensor_from_array(np.ascontiguousarray(values, dtype=np.float32)).to(device)
