"""What trained attention is worth on real pairs: landmark error after one robust affine, with and without shifts.

    python -m carlreg.training.evaluate_attention runs/attention/checkpoint.pt --data FOLDER --grid 96 128

For each pair of the evaluation folder: both volumes at one isotropic spacing, each on its own grid; attention in both
directions; an affine fitted to its map, weighted by certainty and by agreement of the two directions. The moving
grid is then moved by some mm off its content (which is cut on one side), so that it has to be found elsewhere.
All positions are LPS mm; matrices are moving_from_fixed.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..maps.sampling import identity_map, sample
from ..models.attention import match
from ..models.compact_encoder import CompactEncoder
from ..preprocess import guess_modality, normalize, resample_on_axes
from ..spaces import VolumeGrid
from ..volumes import read_landmarks, read_volume
from . import networks
from .attention_stage import encoder_of

log = logging.getLogger(__name__)

PAIRS = {
    "lung": ("lung_ct_baseline_fixed", "lung_ct_followup_moving", "lung_ct_landmarks_lps"),
    "eth19_1_6": ("liver_mr_eth19_exh_fixed", "liver_mr_eth19_cyc_1_6_moving", "liver_mr_eth19_cyc_1_6_landmarks_lps"),
    "eth19_1_9": ("liver_mr_eth19_exh_fixed", "liver_mr_eth19_cyc_1_9_moving", "liver_mr_eth19_cyc_1_9_landmarks_lps"),
    "eth18_1": ("liver_mr_eth18_exh_fixed", "liver_mr_eth18_cyc_1_10_moving", "liver_mr_eth18_cyc_1_10_landmarks_lps"),
    "eth18_3": ("liver_mr_eth18_exh_fixed", "liver_mr_eth18_cyc_3_10_moving", "liver_mr_eth18_cyc_3_10_landmarks_lps"),
    "brain": ("brain_vxm_fixed", "brain_l2rtut_moving", None),
}


@dataclass(frozen=True)
class Pair:
    """Normalized volumes on their own grids, and points that belong together (N x 3 LPS mm)."""

    name: str
    fixed: Tensor
    moving: Tensor
    fixed_grid: VolumeGrid
    moving_grid: VolumeGrid
    fixed_points: np.ndarray
    moving_points: np.ndarray


def load_pair(folder: Path, name: str) -> Pair:
    """Read one of PAIRS; where there are no landmarks, the centroids of equal labels serve."""
    fixed_name, moving_name, landmarks = PAIRS[name]
    fixed, moving = (read_volume(folder / f"{n}.nii.gz") for n in (fixed_name, moving_name))
    if landmarks:
        points = read_landmarks(folder / f"{landmarks}.csv")
    else:
        points = _label_centroids(*(read_volume(folder / f"{n}_seg.nii.gz") for n in (fixed_name, moving_name)))
    images = [torch.from_numpy(normalize(v.array, guess_modality(v.array))) for v in (fixed, moving)]
    return Pair(name, *images, fixed.grid, moving.grid, *points)


def _label_centroids(fixed, moving) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for volume in (fixed, moving):
        labels = np.asarray(volume.array).astype(int)
        matrix = volume.grid.lps_from_ijk
        centroids = {}
        for label in np.unique(labels[labels > 0]):
            where = np.argwhere(labels == label)
            if len(where) > 200:
                centroids[label] = matrix[:3, :3] @ where.mean(0)[::-1] + matrix[:3, 3]
        found.append(centroids)
    common = sorted(set(found[0]) & set(found[1]))
    return tuple(np.array([c[label] for label in common]) for c in found)


def content_box_mm(image_dhw: Tensor, grid: VolumeGrid) -> tuple[np.ndarray, np.ndarray]:
    """First and one-past-last voxel index (i, j, k) of what is above background."""
    inside = image_dhw > 0.02
    bounds = []
    for axis in (2, 1, 0):
        along = inside.float().mean([d for d in range(3) if d != axis]) > 0.005
        index = along.nonzero()[:, 0]
        bounds.append((int(index[0]), int(index[-1]) + 1) if len(index) else (0, image_dhw.shape[axis]))
    start, stop = np.array(bounds).T
    return start, stop


def network_grid(image_dhw: Tensor, grid: VolumeGrid, spacing_mm: float, stride: int, shift_mm=0.0) -> VolumeGrid:
    """An isotropic grid around the content, with sizes that are multiples of `stride`, moved by some mm."""
    start, stop = content_box_mm(image_dhw, grid)
    box = grid.cropped(start, stop)
    size = np.ceil(box.extent_mm / spacing_mm / stride - 0.2).clip(1).astype(int) * stride
    offset = box.direction @ (((size - 1) / 2) * spacing_mm)
    center = box.center_lps + np.full(3, shift_mm / np.sqrt(3))
    return VolumeGrid(tuple(int(n) for n in size), [spacing_mm] * 3, center - offset, box.direction)


def common_spacing(pair: Pair, edge: int, stride: int) -> float:
    """The spacing at which the larger content's longest edge is `edge` voxels."""
    extents = []
    for image, grid in ((pair.fixed, pair.fixed_grid), (pair.moving, pair.moving_grid)):
        start, stop = content_box_mm(image, grid)
        extents.append(grid.cropped(start, stop).extent_mm.max())
    return max(extents) / (edge + 0.2 * stride)


def on_grid(image_dhw: Tensor, grid: VolumeGrid, target: VolumeGrid) -> Tensor:
    """1 1 d h w at the target's spacing; zero where the volume has no data."""
    image = resample_on_axes(image_dhw, grid, target)
    matrix = grid.normalized_from_lps @ target.lps_from_normalized
    points = torch.from_numpy(matrix[:3, :3]).float() @ identity_map(target.shape_dhw).reshape(3, -1)
    points = (points + torch.from_numpy(matrix[:3, 3:]).float()).reshape(1, 3, *target.shape_dhw)
    return image * ((points >= 0) & (points <= 1)).all(1, keepdim=True)


def fit_affine(
    fixed_n3: np.ndarray, moving_n3: np.ndarray, weight_n: np.ndarray, scale_mm: float, iterations: int = 40
) -> np.ndarray:
    """4x4 moving_from_fixed by iteratively reweighted least squares (Geman-McClure), from coarse to `scale_mm`.

    The linear part is drawn towards the identity by a weak prior, so that few certain points still give a sane map.
    """
    center = np.average(fixed_n3, axis=0, weights=weight_n)
    radius = np.sqrt(np.average(((fixed_n3 - center) ** 2).sum(1), weights=weight_n))
    x = np.concatenate([(fixed_n3 - center) / radius, np.ones((len(fixed_n3), 1))], 1)
    step = moving_n3 - fixed_n3
    solution = np.zeros((4, 3))
    solution[3] = _weighted_median(step, weight_n)
    scales = np.geomspace(max(80.0, scale_mm), scale_mm, iterations)
    for scale in scales:
        residual = np.linalg.norm(step - x @ solution, axis=1)
        w = weight_n * (scale**2 / (scale**2 + residual**2)) ** 2
        prior = np.diag([1.0, 1, 1, 0]) * 0.03 * w.sum()
        solution = np.linalg.solve(x.T @ (w[:, None] * x) + prior, x.T @ (w[:, None] * step))
    matrix = np.eye(4)
    matrix[:3, :3] += solution[:3].T / radius
    matrix[:3, 3] = solution[3] - solution[:3].T @ center / radius
    return matrix


def _weighted_median(values_n3: np.ndarray, weight_n: np.ndarray) -> np.ndarray:
    out = []
    for column in values_n3.T:
        order = np.argsort(column)
        total = np.cumsum(weight_n[order])
        out.append(column[order][np.searchsorted(total, total[-1] / 2)])
    return np.array(out)


@torch.no_grad()
def attention_affine(encoder: CompactEncoder, pair: Pair, edge: int, shift_mm: float = 0.0) -> tuple[np.ndarray, dict]:
    """The affine that attention finds for a pair at a network grid of about `edge` voxels, and figures about it."""
    spacing = common_spacing(pair, edge, encoder.stride)
    fixed_grid = network_grid(pair.fixed, pair.fixed_grid, spacing, encoder.stride)
    moving_grid = network_grid(pair.moving, pair.moving_grid, spacing, encoder.stride, shift_mm)
    fixed = on_grid(pair.fixed, pair.fixed_grid, fixed_grid)
    moving = on_grid(pair.moving, pair.moving_grid, moving_grid)
    begin = time.perf_counter()
    padding = encoder.settings.padding_cells
    fixed_tokens, moving_tokens = encoder(fixed), encoder(moving)
    background = encoder.background()
    forward = match(moving_tokens, fixed_tokens, padding, align_corners=False, background=background)
    backward = match(fixed_tokens, moving_tokens, padding, align_corners=False, background=background)
    seconds = time.perf_counter() - begin
    cells = torch.tensor([n / encoder.stride for n in fixed.shape[2:]])
    points = identity_map(forward.map_b3dhw.shape[2:])
    returned = sample(backward.map_b3dhw, forward.map_b3dhw)
    round_trip = ((returned - points) * cells.view(1, 3, 1, 1, 1)).norm(dim=1).flatten().numpy()
    weight = forward.certainty_b1dhw.flatten().numpy() ** 2 / (1 + round_trip**2) ** 2
    weight = weight * (torch.nn.functional.avg_pool3d(fixed, encoder.stride).flatten().numpy() > 0.02) + 1e-9
    fixed_lps, moving_lps = (
        (grid.lps_from_normalized[:3, :3] @ p.reshape(3, -1).double().numpy()).T + grid.lps_from_normalized[:3, 3]
        for grid, p in ((fixed_grid, points), (moving_grid, forward.map_b3dhw))
    )
    cell_mm = spacing * encoder.stride
    matrix = fit_affine(fixed_lps, moving_lps, weight, scale_mm=max(0.6 * cell_mm, 6.0))
    residual = np.linalg.norm(fixed_lps @ matrix[:3, :3].T + matrix[:3, 3] - moving_lps, axis=1)
    share = float((weight * (residual < cell_mm)).sum() / weight.sum())
    figures = {"seconds": seconds, "spacing": spacing, "weight": float(weight.sum()), "agree": share}
    return matrix, figures


def point_error_mm(pair: Pair, matrix: np.ndarray) -> float:
    mapped = pair.fixed_points @ matrix[:3, :3].T + matrix[:3, 3]
    return float(np.linalg.norm(mapped - pair.moving_points, axis=1).mean())


def centered(pair: Pair) -> np.ndarray:
    """The translation that puts one volume's center on the other's."""
    matrix = np.eye(4)
    matrix[:3, 3] = pair.moving_grid.center_lps - pair.fixed_grid.center_lps
    return matrix


def load_encoder(path: Path) -> CompactEncoder:
    """From a checkpoint of a run (its running average) or from exported weights (rounded to float16)."""
    network = networks.build("carl-compact")
    networks.put_start(network, "carl-compact", str(path))
    return encoder_of(network).eval()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Landmark error of the attention's affine on real pairs.")
    parser.add_argument("weights", type=Path, help="checkpoint.pt or exported safetensors")
    parser.add_argument("--data", type=Path, required=True, help="folder with the evaluation volumes")
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--grid", type=int, nargs="+", default=[96, 128], help="longest edge in voxels")
    parser.add_argument("--shift", type=float, nargs="+", default=[0.0, 30.0, 44.0], help="mm off the content")
    options = parser.parse_args(arguments)
    encoder = load_encoder(options.weights)
    out = sys.stdout.write
    out(f"{'pair':10s} {'header':>7s} {'centers':>7s}  per grid: error mm at shifts {options.shift} (agreement)\n")
    for name in options.pairs:
        pair = load_pair(options.data, name)
        out(f"{name:10s} {point_error_mm(pair, np.eye(4)):7.2f} {point_error_mm(pair, centered(pair)):7.2f} ")
        for edge in options.grid:
            cells = []
            for shift in options.shift:
                matrix, figures = attention_affine(encoder, pair, edge, shift)
                cells.append(f"{point_error_mm(pair, matrix):6.2f} ({figures['agree']:.2f})")
            out(f" | {edge}: " + " ".join(cells) + f" {figures['seconds']:.1f}s")
            sys.stdout.flush()
        out("\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
