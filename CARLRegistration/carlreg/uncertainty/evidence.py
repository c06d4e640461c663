"""What tells how far a result may be off, on a coarse lattice over the fixed volume: the evidence for its uncertainty.

attention             spread of coordinate attention: the root of its second moment
inverse_consistency   how far the other direction's attention leads back from where the transform goes
beyond_network        distance between the transform and the network's own map
local_attention       spread of the finest local attention, between the fixed image and the moving one as warped now
local_rest            how far that attention would still move the place
dissimilarity         one minus the squared local correlation, after warping
edge                  nearness of the edge of either field of view
strain                how much the map changes lengths

Every quantity grows with the error to be expected. Lengths are in voxels of the network's grid, so that a body scanned
at twice the size has the same evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..maps import CoordinateMap, identity_map, sample
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..maps.separable import window_sums
from ..models.local_attention import LocalAttention
from ..models.operators import Prediction, RegistrationNetwork, TwoStep, halved, without_refinement
from ..models.predict import NetworkImages
from ..physical import PhysicalTransform
from ..spaces import VolumeGrid, apply_affine

# Nodes of the lattice: network voxels between them, and how many there may be at most.
_CELL_VOXELS, _MOST_NODES = 4.0, 100_000
_WINDOW = 11  # of the similarity, in cells of 2 network voxels
_FLAT = 1e-4  # variance (of intensities 0..1) below which nothing is there to compare


@dataclass(frozen=True)
class NetworkAnswer:
    """What a network said about a pair, and itself.

    forward, backward: both directions of its attention. found: its map of fixed points to moving ones, refined.
    """

    network: RegistrationNetwork
    images: NetworkImages
    forward: Prediction
    backward: Prediction
    found: CoordinateMap

    @torch.no_grad()
    def exchanged(self) -> NetworkAnswer:
        """The same answer about the pair with its sides exchanged."""
        images, network = self.images.exchanged(), self.network
        found = self.backward.map
        if isinstance(network, TwoStep):
            found = network.refine(found, images.moving_b1dhw, images.fixed_b1dhw)
        return NetworkAnswer(network, images, self.backward, self.forward, found)

    @property
    def voxel_mm(self) -> float:
        return float(self.images.fixed_grid.spacing.mean())


def lattice(fixed_grid: VolumeGrid, voxel_mm: float) -> VolumeGrid:
    """The coarse grid over a fixed volume on which evidence is gathered."""
    fewest = (float(np.prod(fixed_grid.extent_mm)) / _MOST_NODES) ** (1 / 3)
    return fixed_grid.with_spacing(max(_CELL_VOXELS * voxel_mm, fewest))


@torch.no_grad()
def collect_evidence(answer: NetworkAnswer, transform: PhysicalTransform, grid: VolumeGrid) -> dict[str, np.ndarray]:
    """The evidence about `transform` at the nodes of `grid`: name -> (D, H, W) float32."""
    images, voxel = answer.images, answer.voxel_mm
    points = centers_lps(grid)
    mapped = transform.apply(points)
    here = _normalized_points(points, images.fixed_grid, images.fixed_b1dhw)
    landed = _normalized_points(mapped, images.moving_grid, images.moving_b1dhw)

    def lps(normalized: np.ndarray, of: VolumeGrid) -> np.ndarray:
        return apply_affine(of.lps_from_normalized, normalized.T)

    spread = answer.forward.spread_b1dhw
    if spread is None:
        raise ValueError("Expected the answer of a network with coordinate attention.")
    found = {"attention": without_refinement(answer.network).stride * _at(spread, here)[0]}

    def apart(of: CoordinateMap, where: Tensor, grid: VolumeGrid, from_lps: np.ndarray) -> np.ndarray:
        return _distance(lps(array_from_tensor(of(where)[0, :, :, 0, 0]).astype(np.float64), grid), from_lps) / voxel

    found["beyond_network"] = apart(answer.found, here, images.moving_grid, mapped)
    found["inverse_consistency"] = apart(answer.backward.map, landed, images.fixed_grid, points)

    found |= local_evidence(answer.network, images, transform, points)
    depth = np.minimum(depths_mm(points, images.fixed_grid), depths_mm(mapped, images.moving_grid)).min(axis=1)
    found["edge"] = 1 / (1 + np.clip(depth, 0, None) / (8 * voxel))
    found["strain"] = strain(mapped, grid).reshape(-1)
    return {name: values.reshape(grid.shape_dhw).astype(np.float32) for name, values in found.items()}


@torch.no_grad()
def local_evidence(
    network: RegistrationNetwork, images: NetworkImages, transform: PhysicalTransform, points_lps: np.ndarray
) -> dict[str, np.ndarray]:
    """What both images say about `transform` near n x 3 fixed points, once the moving one is warped: name -> n."""
    here = _normalized_points(points_lps, images.fixed_grid, images.fixed_b1dhw)
    warped = _warped(images, transform)
    local = _local_attention(network)
    match = local.match(warped, images.fixed_b1dhw)
    spread = (1 / match.certainty_b1dhw - 1).clamp_min(0).sqrt()
    return {
        "local_rest": local.stride * np.linalg.norm(_at(match.displacement_bndhw, here), axis=0),
        "local_attention": local.stride * _at(spread, here)[0],
        "dissimilarity": _at(_dissimilarity(halved(images.fixed_b1dhw), halved(warped)), here)[0],
    }


def _at(values: Tensor, where: Tensor) -> np.ndarray:
    return array_from_tensor(sample(values, where)[0, :, :, 0, 0]).astype(np.float64)


def centers_lps(grid: VolumeGrid) -> np.ndarray:
    """n x 3 LPS positions of a grid's nodes, in array order."""
    points = tensor_from_array(grid.lps_from_normalized[:3, :3]).float() @ identity_map(grid.shape_dhw).reshape(3, -1)
    return array_from_tensor(points).T.astype(np.float64) + grid.lps_from_normalized[:3, 3]


def depths_mm(points_lps: np.ndarray, grid: VolumeGrid) -> np.ndarray:
    """n x 3: how deep n x 3 points lie in a grid's box, mm to its nearer face along each axis; negative outside."""
    normalized = apply_affine(grid.normalized_from_lps, points_lps)
    return np.minimum(normalized, 1 - normalized) * grid.extent_mm[::-1]


def _normalized_points(points_lps: np.ndarray, grid: VolumeGrid, like: Tensor) -> Tensor:
    normalized = apply_affine(grid.normalized_from_lps, points_lps)
    flat = np.ascontiguousarray(np.clip(normalized, 0, 1).T, dtype=np.float32)
    return tensor_from_array(flat)[None, :, :, None, None].to(like.device)


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a - b, axis=1)


def _warped(images: NetworkImages, transform: PhysicalTransform) -> Tensor:
    """The moving network image on the fixed network grid, under the transform."""
    mapped = transform.on_grid(images.fixed_grid, images.moving_grid.normalized_from_lps).reshape(-1, 3)
    normalized = (
        tensor_from_array(np.ascontiguousarray(mapped.T))
        .reshape(1, 3, *images.fixed_grid.shape_dhw)
        .to(images.moving_b1dhw.device)
    )
    return sample(images.moving_b1dhw, normalized, padding="zeros")


def _local_attention(network: RegistrationNetwork) -> LocalAttention:
    """The last, finest local attention of a network."""
    steps = network.refinements() if isinstance(network, TwoStep) else []
    return [net for net, _ in steps if isinstance(net, LocalAttention)][-1]


def _mean(values: Tensor) -> Tensor:
    """Of cubes around each cell, as much of them as lies inside."""
    return window_sums(values, _WINDOW) / window_sums(torch.ones_like(values[:1, :1]), _WINDOW)


def _dissimilarity(a: Tensor, b: Tensor) -> Tensor:
    """One minus the squared correlation in windows; 1 where nothing is there to compare."""
    means = _mean(torch.cat([a, b, a * a, b * b, a * b], dim=1))
    mean_a, mean_b, square_a, square_b, product = means.split(1, dim=1)
    variance_a, variance_b = square_a - mean_a**2, square_b - mean_b**2
    together = product - mean_a * mean_b
    return 1 - together.square() / ((variance_a.clamp_min(0) + _FLAT) * (variance_b.clamp_min(0) + _FLAT))


def strain(mapped: np.ndarray, grid: VolumeGrid) -> np.ndarray:
    """How much the map changes lengths: the root mean square of the singular values' logarithms.

    Across a lattice of one node nothing is known: it counts as no change.
    """
    field = mapped.reshape(*grid.shape_dhw, 3)
    axes = tuple(axis for axis in range(3) if grid.shape_dhw[axis] > 1)
    if not axes:
        return np.zeros(grid.shape_dhw)
    spacing = grid.spacing[::-1]
    slopes = np.stack([np.gradient(field, spacing[axis], axis=axis) for axis in axes], axis=-1)
    stretch = np.linalg.eigvalsh(slopes.swapaxes(-1, -2) @ slopes)
    return np.sqrt((np.log(np.clip(stretch, 1e-4, None)) ** 2).sum(axis=-1) / 3) / 2


def usable(network: RegistrationNetwork) -> bool:
    """True for a network whose evidence can be gathered: coordinate attention, then local attention."""
    return (
        isinstance(network, TwoStep)
        and not network.align_corners
        and any(isinstance(net, LocalAttention) for net, _ in network.refinements())
    )
