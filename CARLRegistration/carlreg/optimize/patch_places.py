"""Where patches are drawn: places that both images show, the more the more structure is there.

The places lie anywhere between voxels, and are the same each time: a low-discrepancy sequence.
Letters: n patches, k places of a patch, s spatial axes. Frames: LPS mm about a center of each image.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..losses.registry import Similarity
from ..losses.similarity import VARIANCE_FLOOR, window_widths
from ..spaces import VolumeGrid
from .patches import PatchImage

# Patches per direction, candidates they are chosen from at most, so many at once, places along an axis of a patch,
# voxels along its edge.
_PATCHES, _CANDIDATES, _AT_ONCE, _PLACES, _WIDTH = 2000, 2**14, 2**11, 5, 7.0
# Of descriptors, which are compared at single points.
_POINTS = 20_000
#: Share of a patch's places that must count.
LEAST_SHARE = 0.5


def views(image_1cdhw: Tensor, weight_11dhw: Tensor | None, grid: VolumeGrid, center: np.ndarray) -> list[PatchImage]:
    """Each channel as an image of the frame."""
    matrix = grid.normalized_from_lps
    shift = matrix[:3, :3] @ center + matrix[:3, 3]
    device = image_1cdhw.device
    of_frame = (torch.tensor(part.tolist(), device=device) for part in (matrix[:3, :3], shift))
    matrix_ss, shift_s = of_frame
    return [
        PatchImage(image_1cdhw[:, c : c + 1], weight_11dhw, matrix_ss, shift_s) for c in range(image_1cdhw.shape[1])
    ]


def patch_places(
    own: PatchImage,
    other: PatchImage,
    grid: VolumeGrid,
    other_from_own: np.ndarray,
    similarity: Similarity,
    *,
    seed: int,
    finest: bool = True,
) -> Tensor:
    """n k s: places of patches in an image's frame, drawn where both images count, more where more structure is.

    own: on `grid`. other_from_own: 4x4 between the frames. finest: as many as the last digits take, else half of them.
    """
    device = own.image_11s.device
    low, high = _box(own, other, other_from_own)
    to_frame = torch.linalg.inv(own.matrix_ss.double()).float()
    least = float(grid.spacing.min())
    widths = np.array(window_widths(grid.spacing, _WIDTH * least)) * grid.spacing

    def offsets(places: int) -> Tensor:
        axis = (torch.arange(places, device=device) + 0.5) / places - 0.5
        lattice = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        along = torch.tensor((grid.direction * widths).tolist(), device=device)  # columns
        return lattice @ along.T

    linear = torch.tensor(other_from_own.tolist(), device=device)

    def chosen_of(drawn: Tensor) -> Tensor:
        points = (low + (high - low) * drawn[:, :3] - own.shift_s) @ to_frame.T
        around = points[:, None] + offsets(3)
        values, counts = own.values(around)
        counts = counts * other.values(around @ linear[:3, :3].T + linear[:3, 3])[1]
        share = counts / counts.sum(1, keepdim=True).clamp_min(1e-6)
        mean = (share * values).sum(1, keepdim=True)
        variance = (share * (values - mean).square()).sum(1)
        structure = counts.mean(1) * variance / (variance + 10 * VARIANCE_FLOOR)
        return points[(structure > drawn[:, 3]) & (counts.mean(1) > LEAST_SHARE)]

    wanted = _POINTS if similarity.descriptors else _PATCHES
    wanted = wanted if finest else wanted // 2
    sequence, parts = torch.quasirandom.SobolEngine(4, scramble=True, seed=seed), []
    for _ in range(_CANDIDATES // _AT_ONCE):  # no more of them than it takes
        parts.append(chosen_of(sequence.draw(_AT_ONCE).to(device)))
        if sum(map(len, parts)) >= wanted:
            break
    chosen = torch.cat(parts)[:wanted, None]
    return chosen if similarity.descriptors else chosen + offsets(_PLACES if finest else _PLACES - 1)


def _box(own: PatchImage, other: PatchImage, other_from_own: np.ndarray) -> tuple[Tensor, Tensor]:
    """Low and high corner, normalized coordinates, of where an image counts and the other one may be seen."""
    device = own.image_11s.device
    low, high = torch.zeros(3, device=device), torch.ones(3, device=device)
    if own.weight_11s is not None:
        seen = own.weight_11s[0, 0] > 0
        for axis in range(3):
            rest = [a for a in range(3) if a != axis]
            filled = torch.nonzero(seen.any(rest[1]).any(rest[0])).flatten()
            if len(filled):
                low[axis], high[axis] = filled[0] / seen.shape[axis], (filled[-1] + 1) / seen.shape[axis]
    weight = other.weight_11s
    if weight is not None and bool((weight > 0).any()):
        # The other's box, mapped here: a small mask of it is not to be missed.
        places = torch.nonzero(weight[0, 0] > 0)
        span = torch.stack([places.amin(0), places.amax(0) + 1]).float() / torch.tensor(weight.shape[2:], device=device)
        corners = torch.tensor([[span[c >> a & 1, a] for a in range(3)] for c in range(8)], device=device)
        frame = (corners - other.shift_s).double() @ torch.linalg.inv(other.matrix_ss.double()).T
        back = torch.tensor(np.linalg.inv(other_from_own).tolist(), dtype=torch.float64, device=device)
        here = (frame @ back[:3, :3].T + back[:3, 3]).float() @ own.matrix_ss.T + own.shift_s
        low, high = torch.maximum(low, here.amin(0)), torch.minimum(high, here.amax(0))
    return low, torch.maximum(high, low)
