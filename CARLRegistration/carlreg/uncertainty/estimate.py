"""From evidence to mm: the uncertainty of a finished registration."""

from __future__ import annotations

import numpy as np

from ..models.registry import LoadedModel
from ..physical import PhysicalTransform, Uncertainty
from ..preprocess import PreparedVolume
from ..spaces import VolumeGrid, apply_affine
from .calibration import Calibration, calibrations
from .evidence import NetworkAnswer, centers_lps, collect_evidence, lattice, usable

_MEANING = (
    "90 % bound of the error in mm: {what} is off by no more than this in 90 % of places, as calibrated on generated "
    "pairs; NaN (unknown) where a place maps outside the moving image's data."
)
MEANING = {
    "network": _MEANING.format(what="the map without instance optimization"),
    "final": _MEANING.format(what="the map after instance optimization"),
}


def estimate(
    answer: NetworkAnswer,
    calibration: Calibration,
    transform: PhysicalTransform,
    fixed: PreparedVolume,
    moving: PreparedVolume,
    fixed_grid: VolumeGrid,
    meaning: str,
) -> Uncertainty:
    """The uncertainty of a transform.

    Args:
        answer: the network's. calibration: for its weights and this kind of result. fixed, moving: what was
        registered. fixed_grid: the whole fixed volume.
    """
    grid = lattice(fixed_grid, answer.voxel_mm)
    evidence = collect_evidence(answer, transform, grid)
    expected, bound = calibration.voxels(evidence)
    return Uncertainty(
        grid,
        (answer.voxel_mm * expected).astype(np.float32),
        (answer.voxel_mm * bound).astype(np.float32),
        _known(transform, fixed, moving, grid, fixed_grid),
        transform,
        moving.grid,
        meaning,
        evidence,
        answer.voxel_mm,
    )


def _known(
    transform: PhysicalTransform,
    fixed: PreparedVolume,
    moving: PreparedVolume,
    grid: VolumeGrid,
    fixed_grid: VolumeGrid,
) -> np.ndarray:
    """1 at nodes where both images have data, -1 elsewhere; beyond a volume, what its nearest place says."""
    points = centers_lps(grid)
    mapped = transform.apply(points)
    data = fixed.is_valid(_moved_into(fixed_grid, points)) & moving.is_valid(_moved_into(moving.grid, mapped))
    return np.where(data, 1.0, -1.0).reshape(grid.shape_dhw).astype(np.float32)


def _moved_into(grid: VolumeGrid, points_lps: np.ndarray) -> np.ndarray:
    """n x 3 points, those beyond a grid's box moved to the nearest place in it."""
    normalized = apply_affine(grid.normalized_from_lps, points_lps)
    return apply_affine(grid.lps_from_normalized, np.clip(normalized, 1e-6, 1 - 1e-6))


def uncertainty_of(
    answer: NetworkAnswer | None,
    loaded: LoadedModel,
    transform: PhysicalTransform,
    fixed: PreparedVolume,
    moving: PreparedVolume,
    fixed_grid: VolumeGrid,
    *,
    optimized: bool,
) -> tuple[Uncertainty | None, str | None]:
    """(uncertainty, None), or (None, why there is none): only what was calibrated is stated.

    optimized: the transform comes from instance optimization. Other arguments: see `estimate`.
    """
    if answer is None:
        return None, f"No uncertainty: {loaded.name} ran with untrained weights, whose attention says nothing."
    reason = _refusal(answer, loaded)
    if reason is not None:
        return None, reason
    stage = "final" if optimized else "network"
    calibration = calibrations()[loaded.name][stage]
    meaning = MEANING[stage]
    if loaded.weights_sha256 != loaded.info.sha256:
        meaning += f" The calibration is that of the weights shipped with {loaded.name}; these are others."
    return estimate(answer, calibration, transform, fixed, moving, fixed_grid, meaning), None


def _refusal(answer: NetworkAnswer, loaded: LoadedModel) -> str | None:
    if loaded.name not in calibrations():
        why = "has no coordinate attention" if answer.forward.spread_b1dhw is None else "was not calibrated"
    elif not usable(answer.network):
        why = "ran without a trained refinement"
    else:
        return None
    return f"No uncertainty: it is stated for {' and '.join(calibrations())}; {loaded.name} {why}."
