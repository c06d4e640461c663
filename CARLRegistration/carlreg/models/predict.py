"""A network's answer in patient space: from two prepared volumes to a map and to weighted correspondences in mm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..maps import Affine, CoordinateMap, identity_map, sample
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..preprocess.normalize import normalize
from ..preprocess.prepare import PreparedVolume, network_image, network_spacing, stored_along, stretched_image
from ..spaces import VolumeGrid, apply_affine
from .operators import Prediction
from .registry import LoadedModel

_LATTICE = 24  # correspondences per axis taken from a network without attention


@dataclass(frozen=True)
class NetworkImages:
    """Both images as a network sees them, and where their voxels lie.

    normalized coordinates of both become LPS mm by `*_lps_from_normalized`.
    """

    moving_b1dhw: Tensor
    fixed_b1dhw: Tensor
    moving_grid: VolumeGrid
    fixed_grid: VolumeGrid
    align_corners: bool

    def exchanged(self) -> NetworkImages:
        return NetworkImages(self.fixed_b1dhw, self.moving_b1dhw, self.fixed_grid, self.moving_grid, self.align_corners)

    @property
    def moving_lps_from_normalized(self) -> np.ndarray:
        return self.moving_grid.lps_from_align_corners if self.align_corners else self.moving_grid.lps_from_normalized

    @property
    def fixed_lps_from_normalized(self) -> np.ndarray:
        return self.fixed_grid.lps_from_align_corners if self.align_corners else self.fixed_grid.lps_from_normalized


@dataclass(frozen=True)
class Correspondences:
    """fixed_lps, moving_lps: n x 3 mm; weights: n, >= 0, how far each pair is to be trusted."""

    fixed_lps: np.ndarray
    moving_lps: np.ndarray
    weights: np.ndarray


def network_images(
    loaded: LoadedModel, fixed: PreparedVolume, moving: PreparedVolume, max_size: int, device
) -> NetworkImages:
    """Both contents at one isotropic spacing, each on its own grid; with published weights, stretched to their shape.

    Both are stored along the same axes, however their files are: those nearest to L, P, S, or for networks with
    published weights, which know files as they come, those of the fixed image.
    """
    if loaded.network.align_corners:
        shape = loaded.info.trained_shape_dhw
        f, f_grid = stretched_image(fixed, shape)
        direction = fixed.grid.direction
        m, m_grid = stored_along(*stretched_image(moving, shape, direction), direction)
    else:
        spacing = network_spacing(fixed, moving, max_size)
        f, f_grid = stored_along(*network_image(fixed, spacing, loaded.network.stride))
        m, m_grid = stored_along(*network_image(moving, spacing, loaded.network.stride), f_grid.direction)
    return NetworkImages(m.to(device), f.to(device), m_grid, f_grid, loaded.network.align_corners)


def renormalized(prepared: PreparedVolume, volume, normalization: str) -> PreparedVolume:
    """The same volume with intensities as a published network was trained (see `ModelInfo.normalization`)."""
    if normalization == "compact":
        return prepared
    array = volume.array
    if normalization == "eoir" and prepared.modality == "ct":
        array = (np.clip(array, -500.0, 800.0) + 500.0) / 1300.0
    elif normalization in ("maximum", "eoir"):
        array = np.maximum(array - min(float(array.min()), 0.0), 0.0)
        array = array / max(float(array.max()), 1e-6)
    elif prepared.modality == "ct":
        array = normalize(array, "ct")
    else:
        low, high = float(array.min()), float(np.percentile(array, 99.0))
        array = np.clip((array - low) / max(high - low, 1e-6), 0.0, 1.0)
    voxels = tensor_from_array(array.astype(np.float32))
    return PreparedVolume(voxels, prepared.grid, prepared.content, prepared.modality, prepared.mask_dhw)


@torch.no_grad()
def correspondences(images: NetworkImages, forward: Prediction, backward: Prediction) -> Correspondences:
    """Where a network puts points of the fixed image, weighted by how certain it is.

    With attention: the attention's own answer at each query, weighted by its certainty and by how well the other
    direction leads back. Without: the map on a coarse lattice, weighted by the same agreement. Background weighs 0.
    """
    fixed_shape = images.fixed_b1dhw.shape[2:]
    moving_normalized, certainty = forward.attention_map_bndhw, forward.certainty_b1dhw
    backward_map = backward.attention_map_bndhw
    if moving_normalized is not None and certainty is not None and backward_map is not None:
        shape = moving_normalized.shape[2:]
        returned = sample(backward_map, moving_normalized, align_corners=images.align_corners)
        certainty = certainty.square()
    else:
        shape = tuple(min(_LATTICE, n) for n in fixed_shape)
        points = identity_map(shape, align_corners=images.align_corners, device=images.fixed_b1dhw.device)
        moving_normalized = forward.map(points)
        returned = backward.map(moving_normalized)
        certainty = torch.ones_like(points[:, :1])
    fixed_normalized = identity_map(shape, align_corners=images.align_corners, device=moving_normalized.device)
    cells = moving_normalized.new_tensor(list(shape)).view(1, 3, 1, 1, 1)
    round_trip = ((returned - fixed_normalized) * cells).square().sum(1, keepdim=True)
    content = F.adaptive_avg_pool3d(images.fixed_b1dhw, (shape[0], shape[1], shape[2]))
    weights = certainty / (1 + round_trip) ** 2 * (content > 0.02)
    return Correspondences(
        _points_lps(fixed_normalized, images.fixed_lps_from_normalized),
        _points_lps(moving_normalized, images.moving_lps_from_normalized),
        array_from_tensor(weights.flatten()).astype(np.float64) + 1e-9,
    )


@torch.no_grad()
def refined_from(
    refine: Callable[[CoordinateMap], CoordinateMap], images: NetworkImages, lps_from_lps: np.ndarray
) -> CoordinateMap:
    """What a network makes of an affine start (4x4 moving_from_fixed, LPS mm). refine: its `refiner` for the images."""
    matrix = np.linalg.inv(images.moving_lps_from_normalized) @ lps_from_lps @ images.fixed_lps_from_normalized
    start = Affine(
        tensor_from_array(matrix.astype(np.float32)).to(images.fixed_b1dhw.device), align_corners=images.align_corners
    )
    return refine(start)


def _points_lps(normalized_13dhw: Tensor, lps_from_normalized: np.ndarray) -> np.ndarray:
    points = array_from_tensor(normalized_13dhw[0].flatten(1).T).astype(np.float64)
    return apply_affine(lps_from_normalized, points)


@torch.no_grad()
def mapped_lps(
    coordinate_map: CoordinateMap, images: NetworkImages, points_lps: np.ndarray, beyond_33: np.ndarray | None = None
) -> np.ndarray:
    """n x 3 fixed points (LPS mm) through a network's map, n x 3 moving points.

    beyond_33: how the map goes on outside its grid, from the nearest point of the edge: the linear part of about what
        it is there (moving_from_fixed); None = as if neither image were turned or larger.
    """
    normalized = apply_affine(np.linalg.inv(images.fixed_lps_from_normalized), points_lps)
    inside = np.clip(normalized, 0.0, 1.0)
    points = tensor_from_array(np.ascontiguousarray(inside.T, dtype=np.float32))[None, :, :, None, None]
    moved = _points_lps(coordinate_map(points.to(images.fixed_b1dhw.device)), images.moving_lps_from_normalized)
    outside = (normalized - inside) @ images.fixed_lps_from_normalized[:3, :3].T
    return moved + (outside if beyond_33 is None else outside @ beyond_33.T)
