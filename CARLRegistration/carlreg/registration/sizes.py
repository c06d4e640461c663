"""Whether the moving image is as large as the fixed one, and by which factor it is to be looked at if not.

A header with a wrong voxel size makes the same anatomy appear larger or smaller than any affine from a header or a
network reaches. Where the images ask for it, factors are tried: the moving volume with other spacings against the fixed
one, each at its best shift. A registration then works on the moving volume as resized, and its map is brought back.

Factors: three, along the moving volume's axes i, j, k; above 1 the moving volume is looked at as larger than it says.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch

from ..io.itk_transform import affine_to_sitk
from ..optimize.affine import AffineProblem
from ..optimize.candidates import AffineCandidate, roughly_refined
from ..optimize.levels import level_images
from ..optimize.search import rotations, search
from ..preprocess import PreparedVolume
from ..progress import Progress
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid
from ..volumes import Volume
from .cutouts import CutOut, content_mm3
from .landmarks import Landmarks
from .pair import PreparedPair
from .starts import ROTATIONS, search_image, search_poses, stretches_of

log = logging.getLogger(__name__)

#: Contents that along an axis differ by more than this factor ask for a search, and so do starts that score less.
UNLIKE_SIZES, POOR_SCORE = 1.3, 0.3
# A start that scores this much at a size of about 1 leaves no doubt, whatever the contents: one image shows more (wrong
# sizes score up to 0.5, crops 0.6 to 0.8).
_CERTAIN = 0.65
# Factors that are tried: steps of this one, up to this many both ways (0.41 to 2.44).
_STEP, _STEPS = 1.25, 4
# Voxels where shifts are searched, along the smaller content and at most along the larger one; and along the fixed
# content where factors are compared.
_SMALLER, _LARGER, _SIZE = 28, 64, 40
_REFINED = 3
# How much better than without a factor it must score, times and by how much more: a header is not doubted lightly
# (crops of the same scan and pairs that have nothing in common gain up to 1.13 times and 0.03).
_BETTER, _MORE = 1.15, 0.05
# Factors that an affine's refinement reaches by itself.
_ORDINARY = 1.3
# Factors nearer to 1 than this are no other ones where poses are searched: they were searched as they are.
_TRIED_AS_IT_IS = 1.1
# What an axis of its own must score at least.
_LEAST_OF_ONE_AXIS = 0.3


@dataclass(frozen=True, eq=False)
class Resized:
    """The moving volume looked at with other spacings, about its center. factors: along its axes i, j, k."""

    factors: np.ndarray
    grid: VolumeGrid  # of the moving volume as it is

    @property
    def is_even(self) -> bool:
        return float(np.ptp(self.factors)) == 0.0

    @property
    def matrix(self) -> np.ndarray:
        """4x4, LPS mm: from points of the moving volume as it is to those of the resized one."""
        direction = self.grid.direction
        matrix = np.eye(4)
        matrix[:3, :3] = direction @ np.diag(self.factors) @ direction.T
        matrix[:3, 3] = self.grid.center_lps - matrix[:3, :3] @ self.grid.center_lps
        return matrix

    def of_grid(self, grid: VolumeGrid) -> VolumeGrid:
        """A grid with the moving volume's axes, resized with it."""
        origin = self.matrix[:3, :3] @ grid.origin_lps + self.matrix[:3, 3]
        return VolumeGrid(grid.size_ijk, grid.spacing * self.factors, origin, grid.direction)

    def of_volume(self, volume: Volume) -> Volume:
        grid = self.of_grid(volume.grid)
        image = sitk.Image(volume.image)
        image.SetSpacing(grid.spacing.tolist())
        image.SetOrigin(grid.origin_lps.tolist())
        return replace(volume, image=image)

    def of_prepared(self, prepared: PreparedVolume) -> PreparedVolume:
        return replace(
            prepared,
            grid=self.of_grid(prepared.grid),
            content=self.of_grid(prepared.content),
            valid_grid=None if prepared.valid_grid is None else self.of_grid(prepared.valid_grid),
        )

    def of_pair(self, pair: PreparedPair) -> PreparedPair:
        return replace(pair, moving=self.of_prepared(pair.moving), moving_view=self.of_volume(pair.moving_view))

    def of_landmarks(self, landmarks: Landmarks | None) -> Landmarks | None:
        return None if landmarks is None else landmarks.of_moving(self.matrix)

    def of_transform(self, transform: sitk.Transform | None) -> sitk.Transform | None:
        """A map to the moving volume as one to the resized volume."""
        return None if transform is None else sitk.CompositeTransform([affine_to_sitk(self.matrix), transform])


def asked_for(pair: PreparedPair, starts: list[AffineCandidate]) -> bool:
    """Whether the images may differ in size by more than an affine's refinement finds."""
    ratios = _ratios(pair)
    # Of a part and a whole the first is scored on finer images, where all scores are lower; the others are not.
    score = max(start.score for start in starts)
    log.info("sizes: fixed contents are %s times the moving ones, best start %.3f", ratios.round(2), score)
    stretches = np.linalg.svd(starts[0].matrix[:3, :3], compute_uv=False)
    if score > _CERTAIN and np.abs(np.log(stretches)).max() < np.log(_ORDINARY):
        return False
    return float(np.abs(np.log(ratios)).max()) > np.log(UNLIKE_SIZES) or score < POOR_SCORE


def size_of(
    pair: PreparedPair,
    part: CutOut | None,
    starts: list[AffineCandidate],
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
) -> Resized | None:
    """The size at which the moving volume is to be looked at; None: as it is.

    part: the pair as one of a part and a whole. starts: best first.
    """
    if not asked_for(pair, starts):
        return None
    if part is None:
        return found_size(pair, starts[0], settings, device, progress)
    return found_size(part.pair, starts[0], settings, device, progress, same_content=False)


def found_size(
    pair: PreparedPair,
    start: AffineCandidate,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
    *,
    same_content: bool = True,
) -> Resized | None:
    """The size at which the moving volume fits clearly better than as it is; None where it fits well enough as it is.

    start: the best affine without a factor, 4x4 LPS. Where that has found another size by itself, it is this one.
    same_content: whether both show the same, so that how large it is hints at the factor of a turned volume.
    """
    grid = pair.moving.grid
    as_it_is, score_as_it_is = _refined(pair, start.matrix, settings, device, progress)
    best = score_as_it_is, Resized(np.ones(3), grid), as_it_is
    hints, others = _factors(pair)
    tried = []
    for count, factors in enumerate(others):
        tried += _tried(pair, Resized(factors, grid), settings, device)
        progress.update(count / len(others), "trying other sizes of the moving image")
    tried.sort(key=lambda entry: -entry[0])
    whole, one_axis = ([entry for entry in tried if entry[1].is_even == even] for even in (True, False))
    whole, one_axis = whole[:_REFINED], one_axis[:1]
    for factors in hints:
        (whole if np.ptp(factors) == 0 else one_axis).extend(_tried(pair, Resized(factors, grid), settings, device))
    turned = turned_hint(pair) if same_content and settings.robustness == "rotation" else 1.0
    if abs(np.log(turned)) > np.log(_TRIED_AS_IT_IS):
        poses = _tried(pair, Resized(np.full(3, turned), grid), settings, device, turned=True)
        whole += sorted(poses, key=lambda entry: -entry[0])[:_REFINED]
    # One axis alone explains much that is not so: it must be clearly better than one factor for all three.
    for entries, least in ((whole, 0.0), (one_axis, _LEAST_OF_ONE_AXIS)):
        best_before = best[0]
        for _, resized, matrix in entries:
            matrix, score = _refined(resized.of_pair(pair), matrix, settings, device, progress)
            log.info("size %s refined: score %.3f (as it is %.3f)", resized.factors, score, score_as_it_is)
            enough = max(_BETTER * score_as_it_is, _MORE + score_as_it_is, least)
            if score > max(best[0], enough) and (resized.is_even or score > _BETTER * best_before):
                best = score, resized, matrix
    score, resized, matrix = best
    factors = _with_rest(resized.factors, np.linalg.inv(matrix[:3, :3]), grid.direction)
    if factors is None or np.abs(np.log(factors)).max() < np.log(_ORDINARY):
        return None
    if np.ptp(factors) > 0 and score < _LEAST_OF_ONE_AXIS:
        return None
    return Resized(factors, grid)


def _with_rest(factors: np.ndarray, fixed_from_moving: np.ndarray, direction: np.ndarray) -> np.ndarray | None:
    """The factors with what the refinement of an affine (its 3 x 3 part) made of them; None where that is no size."""
    if not np.isfinite(fixed_from_moving).all() or np.linalg.det(fixed_from_moving) <= 0:
        return None
    found = factors * np.linalg.norm(fixed_from_moving @ direction, axis=0)  # along the moving volume's axes
    alone = np.abs(np.log(found / np.median(found))) > np.log(_ORDINARY)
    if alone.sum() > 1:
        return None
    others = float(np.exp(np.log(found[~alone]).mean()))
    if not alone.any():
        return np.full(3, others)
    # One voxel edge is wrong, such as the distance between slices; the others are as they are.
    return np.where(alone, found, others if abs(np.log(others)) > np.log(_ORDINARY) else 1.0)


def _diagonal(prepared: PreparedVolume) -> float:
    return float(np.linalg.norm(prepared.content.extent_mm))


def _ratios(pair: PreparedPair) -> np.ndarray:
    """3: how many times as long as the moving content the fixed one is, along the moving volume's axes."""
    axes = list(pair.moving.grid.axes_along(pair.fixed.grid.direction)[0])
    ratios = np.empty(3)
    ratios[axes] = pair.fixed.content.extent_mm / pair.moving.content.extent_mm[axes]
    return ratios


def turned_hint(pair: PreparedPair) -> float:
    """How many times as large the fixed content is: by its volume, which a turn leaves as it is (not its box)."""
    return float((content_mm3(pair.fixed) / max(content_mm3(pair.moving), 1e-9)) ** (1 / 3))


def _factors(pair: PreparedPair) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(what the extents hint at, what else to try): one factor for all axes, or for an axis that stands out."""
    ladder = _STEP ** np.arange(-_STEPS, _STEPS + 1.0)
    alike = _diagonal(pair.fixed) / _diagonal(pair.moving)
    ratios = ladder[ladder != 1.0]
    if not ladder[0] / _STEP < alike < ladder[-1] * _STEP:  # other units, such as micrometers for millimeters
        ratios = np.concatenate([ratios, alike * ladder[ladder != 1.0]])
    hints, others = [np.full(3, alike)], [np.full(3, ratio) for ratio in ratios]
    each = _ratios(pair)
    for axis in range(3):
        rest = np.delete(each, axis)
        alone = each[axis] / np.sqrt(rest.prod())
        if max(alone, 1 / alone) > UNLIKE_SIZES > rest.max() / rest.min():
            this = np.arange(3) == axis
            hints.append(np.where(this, alone, 1.0))
            others += [np.where(this, ratio, 1.0) for ratio in ladder[ladder != 1.0]]
    return hints, others


def _tried(
    pair: PreparedPair, resized: Resized, settings: RegistrationSettings, device: torch.device, turned: bool = False
) -> list[tuple[float, Resized, np.ndarray]]:
    """(score, size, 4x4 matrix) of one size at its best shift, or at its best poses."""
    one = resized.of_pair(pair)
    sides = one.fixed, one.moving
    paddings = not one.fixed.padding_is_missing, not one.moving.padding_is_missing
    if turned:
        poses = search_poses(*sides, rotations(ROTATIONS), keep=8, padding_is_background=paddings)
    else:
        smaller, larger = sorted(float(volume.content.extent_mm.max()) for volume in sides)
        spacing = max(smaller / _SMALLER, larger / _LARGER)
        fixed, moving = (search_image(volume, spacing, pad) for volume, pad in zip(sides, paddings, strict=True))
        poses = search(fixed, moving, rotations(1))
    problem = _problem(one, settings, device)
    scored = [(problem.score(pose.matrix).score, resized, pose.matrix) for pose in poses]
    log.info("size %s: score %.3f", resized.factors, scored[0][0])
    return scored


def _problem(pair: PreparedPair, settings: RegistrationSettings, device: torch.device) -> AffineProblem:
    """The same fixed image whatever the moving one's size, so that scores compare."""
    spacing = max(float(pair.fixed.content.extent_mm.max()) / _SIZE, float(pair.fixed.grid.spacing.min()))
    images = level_images(pair.fixed, pair.moving, spacing, device)
    return AffineProblem(images, window_mm=5 * spacing, similarity=settings.similarity, bounds=stretches_of(settings))


def _refined(
    pair: PreparedPair,
    matrix: np.ndarray,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
) -> tuple[np.ndarray, float]:
    """A matrix after a short descent, and its score."""
    problem = _problem(pair, settings, device)
    first = "rigid" if settings.robustness == "rotation" else "translation"
    matrix = roughly_refined(problem, matrix, first, "affine", progress)
    return matrix, problem.score(matrix).score
