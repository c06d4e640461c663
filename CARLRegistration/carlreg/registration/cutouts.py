"""Pairs of which one image shows only a part of what the other shows, cut out of its surroundings: a brain without its
skull and the whole head, an organ and the trunk.

The edge of the part lies inside the other body and looks like nothing there, and the two contents differ in size and
place. So the alignment is found by what lies inside the part alone, and the network sees the other image cut likewise.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch

from ..maps import identity_map, sample
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..maps.separable import largest_around
from ..optimize.candidates import AffineCandidate, distinct
from ..optimize.levels import search_spacing
from ..physical import PhysicalTransform
from ..preprocess import PreparedVolume, prepare, resample_on_axes
from ..preprocess.prepare import CONTENT_LEVEL
from ..progress import Progress
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid, apply_affine
from .pair import PreparedPair
from .starts import ALIKE, COARSE_SIZE, best_candidates, fine_problem, refined_winner, searched

log = logging.getLogger(__name__)

# A part has at most this share of the other's content. Its ends are round: at most one face of the box around it is
# filled by more than this share (where the volume ended).
_PART, _FLAT_FACE = 0.75, 0.2
# Around a part that is cut out, this much of the other image shows something, up to this share of the part's extent.
# Measured: brains in heads 0.7 to 1.0, brains on brains and heads on heads 0.0 to 0.3.
_GOES_ON, _AROUND = 0.5, 0.08
# Shares of the part that the other image shows, for searches: the more, the less is possible.
_SHOWN = (0.6, 0.9, 0.99)


@dataclass(frozen=True)
class CutOut:
    """A pair of a part and a whole, the part marked as cut out. part_is_fixed: which one it is."""

    pair: PreparedPair
    part_is_fixed: bool

    @property
    def part_first(self) -> PreparedPair:
        """The pair with the part as the fixed image: all of it counts, and of the other what it covers."""
        return self.pair if self.part_is_fixed else self.pair.exchanged()

    def turned(self, candidates: list[AffineCandidate]) -> list[AffineCandidate]:
        """Candidates for the pair as candidates for `part_first`, or the other way round."""
        if self.part_is_fixed:
            return candidates
        return [replace(one, matrix=np.linalg.inv(one.matrix)) for one in candidates]

    def likewise(self, matrix: np.ndarray) -> PreparedPair:
        """The pair with the other image cut as the part is, under a matrix of the pair, 4x4 LPS."""
        pair = self.part_first
        whole_from_part = matrix if self.part_is_fixed else np.linalg.inv(matrix)
        view = replace(pair.moving_view, image=_cut_like(pair.fixed, pair.moving_view.image, whole_from_part))
        cut = replace(prepare(view, pair.moving.modality), mask_dhw=pair.moving.mask_dhw)
        if self.part_is_fixed:
            return replace(self.pair, moving=cut, moving_view=view)
        return replace(self.pair, fixed=cut, fixed_view=view)


def aligned_part(
    pair: PreparedPair,
    candidates: list[AffineCandidate],
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
) -> tuple[CutOut, list[AffineCandidate]] | None:
    """The pair as one of a part and a whole, and its starts, best first and refined; None where it is no such pair.

    candidates: of the pair, unrefined.
    """
    cut = suspected(pair)
    if cut is None:
        return None
    part_first = cut.part_first
    tried = cut.turned(candidates) + searched(part_first, settings, progress, _SHOWN)
    content = part_first.fixed.content
    diagonal_mm = float(np.linalg.norm(content.extent_mm))
    tried = distinct(tried, content.center_lps, diagonal_mm / 2, closer_than_mm=ALIKE * diagonal_mm)
    starts = best_candidates(tried, part_first, settings, device, progress, keep=4)
    best = refined_winner(starts, fine_problem(part_first, settings, device), settings, progress)
    if not _goes_on_around(part_first, best.matrix):
        return None
    log.info("the %s image is a part of the other", "fixed" if cut.part_is_fixed else "moving")
    return cut, cut.turned([best, *starts])


def found_starts(
    pair: PreparedPair,
    candidates: list[AffineCandidate],
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
) -> tuple[CutOut | None, list[AffineCandidate]]:
    """The pair as one of a part and a whole (None where it is none), and its starts, best first."""
    part = aligned_part(pair, candidates, settings, device, progress)
    return part or (None, best_candidates(candidates, pair, settings, device, progress))


def suspected(pair: PreparedPair) -> CutOut | None:
    """The pair as one of a part and a whole, where sizes and shape allow it."""
    fixed, moving = pair.fixed, pair.moving
    sizes = [content_mm3(volume) for volume in (fixed, moving)]
    part_is_fixed = sizes[0] < sizes[1]
    if min(sizes) > _PART * max(sizes):
        return None
    part = (fixed if part_is_fixed else moving).as_cut_out()
    if not _ends_round(part):
        return None
    return CutOut(replace(pair, **{"fixed" if part_is_fixed else "moving": part}), part_is_fixed)


def content_mm3(volume: PreparedVolume) -> float:
    """The volume of what shows something, within the mask."""
    inside = volume.voxels_dhw > CONTENT_LEVEL
    if volume.mask_dhw is not None:
        inside = inside & (volume.mask_dhw > 0)
    return float(inside.sum()) * float(np.prod(volume.grid.spacing))


def _ends_round(volume: PreparedVolume) -> bool:
    """Whether a volume shows a body surrounded by a constant, not one that goes on beyond the field of view."""
    if volume.valid_dhw is None:
        return False
    data = volume.valid_dhw > 0.5
    flat = 0
    for axis in range(3):
        filled = torch.nonzero(data.any((axis + 1) % 3, keepdim=True).any((axis + 2) % 3, keepdim=True).flatten())
        if not len(filled):
            return False
        flat += sum(float(data.select(axis, int(filled[end])).float().mean()) > _FLAT_FACE for end in (0, -1))
    return flat <= 1


def _goes_on_around(pair: PreparedPair, moving_from_fixed: np.ndarray) -> bool:
    """Whether the moving image shows something where the fixed one, a part, has ended."""
    part, whole = pair.fixed, pair.moving
    spacing = search_spacing(part, whole, COARSE_SIZE)
    grid = part.grid.with_spacing(spacing)
    support = _support(part, grid)
    reach = max(1, round(_AROUND * float(part.content.extent_mm.max()) / spacing))
    around = largest_around(support, reach + 1) - largest_around(support, 1)
    chosen = around.flatten() > 0.5
    places = array_from_tensor(identity_map(grid.shape_dhw).reshape(3, -1)[:, chosen].T).astype(np.float64)
    points = places @ grid.lps_from_normalized[:3, :3].T + grid.lps_from_normalized[:3, 3]
    mapped = apply_affine(moving_from_fixed, points)
    image, whole_grid = whole.at(spacing, margin_mm=float(np.max(whole.grid.extent_mm)))
    where = tensor_from_array(apply_affine(whole_grid.normalized_from_lps, mapped).T.astype(np.float32))
    inside = ((where > 0) & (where < 1)).all(0)
    shown = sample(image, where[None, :, :, None, None])[0, 0, :, 0, 0] > CONTENT_LEVEL
    share = float((shown & inside).sum()) / max(1, int(inside.sum()))
    log.info("around the part %.2f of the other image shows something", share)
    return bool(inside.any()) and share > _GOES_ON


def _support(part: PreparedVolume, grid: VolumeGrid) -> torch.Tensor:
    """1 x 1 x D x H x W: 1 where a volume has data, on a grid with its axes."""
    if part.valid_dhw is None or part.valid_grid is None:
        return torch.ones(1, 1, *grid.shape_dhw)
    return (resample_on_axes(part.valid_dhw, part.valid_grid, grid, smooth=False) > 0.5).float()


def _cut_like(part: PreparedVolume, whole: sitk.Image, whole_from_part: np.ndarray) -> sitk.Image:
    """The image of a whole with its lowest value where the part, somewhat enlarged, does not lie."""
    grid = part.grid.with_spacing(np.maximum(part.grid.spacing, float(part.content.extent_mm.max()) / 64))
    support = largest_around(_support(part, grid), 2)[0, 0]
    covered = sitk.Resample(
        grid.image(array_from_tensor(support).astype(np.uint8)),
        whole,
        PhysicalTransform.from_affine(np.linalg.inv(whole_from_part)).to_sitk(),
        sitk.sitkNearestNeighbor,
        0,
    )
    array = sitk.GetArrayFromImage(whole)
    array[sitk.GetArrayFromImage(covered) == 0] = array.min()
    cut = sitk.GetImageFromArray(array)
    cut.CopyInformation(whole)
    return cut
