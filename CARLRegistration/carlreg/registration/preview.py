"""A look at a pair before it is registered: its best start, and what speaks against the pair.

Everything is done on coarse images, within seconds: searches, and the network where these find nothing. What is found
is about where a registration begins; what it makes of it is another matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import SimpleITK as sitk
import torch

from ..models import registry
from ..optimize.affine import AffineScore
from ..optimize.candidates import AffineCandidate, refine_candidates
from ..progress import Progress
from ..quality.limits import LIMITS
from ..quality.verdict import verdict
from ..settings import RegistrationSettings
from ..volumes import Volume, pair_warnings, require_comparable
from . import machine
from .mirrored import coarse_orientation_of
from .pair import PreparedPair, as_volume, prepare_pair
from .predict import predict
from .starts import affine_candidates, check_initial, coarse_problem

# Voxels along the longer edge that are looked at, and of the network's grid; candidates that are refined.
_SIZE, _GRID, _KEPT = 96, 64, 2


@dataclass(frozen=True, kw_only=True, eq=False)
class StartPreview:
    """What is known of a pair before it is registered.

    matrix: 4x4, LPS mm, fixed points to moving points: the best start. start: where it comes from.
    likeness: how alike the volumes are there, 0..1, see `likeness_of`. orientation: as given or mirrored, see
    `mirrored.orientation_of`. verdict: see `quality.verdict`; its word is about the pair. warnings: what else was seen.
    """

    matrix: np.ndarray
    start: str
    likeness: dict
    overlap_percent: float
    orientation: dict
    verdict: dict
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict:
        """Plain values, for JSON."""
        return {name: value.tolist() if name == "matrix" else value for name, value in vars(self).items()}


def preview_start(
    fixed,
    moving,
    settings: RegistrationSettings | None = None,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    initial_transform: sitk.Transform | None = None,
    progress: Progress | None = None,
) -> StartPreview:
    """Where a registration of this pair would begin, and whether the pair looks like one; inputs as of `register_pair`.

    Raises: InputError and its kinds for what cannot be registered; Cancelled.
    """
    settings, progress = settings or RegistrationSettings(), progress or Progress()
    progress.weights = progress.weights or {"prepare": 1, "starts": 4, "orientation": 4}
    fixed, moving = as_volume(fixed, "fixed"), as_volume(moving, "moving")
    device = machine.set_up(settings)
    require_comparable(fixed, moving)
    check_initial(initial_transform, fixed.grid)
    warnings = pair_warnings(fixed, moving)
    with progress.stage("prepare", "looking at both images"):
        pair = _coarse_pair((fixed, moving), (fixed_mask, moving_mask), settings)
        warnings += pair.modality_warnings(settings.similarity)
    with progress.stage("starts", "looking for the best start"):
        best, score = _best_start(pair, initial_transform, settings, device, progress)
    with progress.stage("orientation", "comparing with the mirrored volume"):
        orientation = coarse_orientation_of(best, pair, settings, device, progress)
    known = {
        "likeness": likeness_of(score, pair),
        "overlap_percent": 100 * score.overlap,
        "orientation": orientation,
    }
    return StartPreview(matrix=best.matrix, start=best.name, verdict=verdict(known), warnings=warnings, **known)


def likeness_of(score: AffineScore, pair: PreparedPair) -> dict:
    """How alike a pair is after an affine, on the coarse images of the search.

    score: mean squared local correlation where both have data, less for a smaller overlap. same_kind: whether both are
    the same kind of scan; others are less alike where they should be.
    """
    return {"score": score.score, "same_kind": pair.fixed.modality == pair.moving.modality}


def warn_of_doubts(likeness: dict, orientation: dict, pose: dict | None, progress: Progress) -> None:
    """Say at once what speaks against a pair at its start, and not after the minutes that follow."""
    for check in verdict({"likeness": likeness, "orientation": orientation, "pose": pose})["checks"]:
        if check["word"] != "good":
            progress.warn(check["text"])


def _best_start(
    pair: PreparedPair,
    initial_transform: sitk.Transform | None,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
) -> tuple[AffineCandidate, AffineScore]:
    """The best start of the searches; where that is in doubt, of the network too."""
    problem = coarse_problem(pair, settings, device)
    dof = "rigid" if settings.robustness == "rotation" else "translation"

    def best_of(candidates: list[AffineCandidate], keep: int) -> AffineCandidate:
        return refine_candidates(candidates, problem, keep=keep, first_dof=dof, progress=progress)[0]

    candidates = affine_candidates(pair, None, initial_transform, settings, progress)
    best = best_of(candidates, 2 * _KEPT if settings.robustness == "rotation" else _KEPT)
    if best.score < LIMITS["start_likeness"]["check"]:
        loaded = registry.load(settings.model, settings.weights, settings.allow_untrained, device)
        prediction = predict(loaded, pair, _GRID, device)
        asked = affine_candidates(pair, prediction, None, replace(settings, robustness="translation"), progress)
        told = [one for one in asked if one.name == "network"]
        if told:
            other = best_of(told, 1)
            best = best if best.score >= other.score else other
    return best, problem.score(best.matrix)


def _coarse_pair(
    volumes: tuple[Volume, Volume], masks: tuple[Volume | None, Volume | None], settings: RegistrationSettings
) -> PreparedPair:
    """Both volumes with few voxels, prepared."""
    coarse: list[Volume] = []
    coarse_masks: list[Volume | None] = []
    for volume, mask in zip(volumes, masks, strict=True):
        target = float(volume.grid.extent_mm.max()) / _SIZE
        factors = [max(1, int(target / spacing + 0.25)) for spacing in volume.grid.spacing]
        coarse.append(replace(volume, image=sitk.BinShrink(volume.image, factors)))
        coarse_masks.append(None if mask is None else replace(mask, image=sitk.BinShrink(mask.image, factors)))
    (fixed, moving), (fixed_mask, moving_mask) = coarse, coarse_masks
    return prepare_pair(fixed, moving, fixed_mask, moving_mask, settings)
