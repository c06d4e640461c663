"""What is known beyond the affine before instance optimization: a displacement of fixed points, in LPS mm."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import SimpleITK as sitk
import torch

from ..io.itk_transform import map_points
from ..maps import identity_map, sample
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..maps.separable import largest_around
from ..models.attention import fill_uncertain
from ..models.operators import Prediction
from ..models.predict import mapped_lps
from ..models.registry import LoadedModel
from ..optimize.affine import AffineProblem
from ..optimize.candidates import AffineCandidate
from ..optimize.levels import search_spacing
from ..optimize.network import optimize_network
from ..physical import PhysicalTransform
from ..preprocess import PreparedVolume, prepare
from ..progress import Progress
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid, apply_affine
from ..volumes import Volume
from .landmarks import Landmarks, tolerance_mm
from .live import LiveMap
from .pair import PreparedPair
from .predict import NetworkPrediction, PointMap, images_for
from .starts import INITIAL

log = logging.getLogger(__name__)

# Voxels of the lattice on which a residual is continued, and how many of its cells at the border are given up.
_CONTINUED_SIZE, _BORDER_CELLS = 48, (0, 1, 2, 4, 6)


def residual_of(
    start: AffineCandidate,
    prediction: NetworkPrediction | None,
    initial_transform: sitk.Transform | None,
    problem: AffineProblem,
    pair: PreparedPair,
    landmarks: Landmarks | None = None,
) -> tuple[PointMap | None, str]:
    """What is known beyond the start's affine: n x 3 fixed points -> displacement in LPS mm, and where from.

    The network's own map, what it makes of the affine, or nothing: whichever aligns best. (None, "affine") = nothing.
    Not what landmarks contradict.
    """
    maps = _known_maps(start, prediction, initial_transform)
    if landmarks is not None:
        most = tolerance_mm(landmarks, pair.fixed.content)
        maps = {name: mapping for name, mapping in maps.items() if landmarks.rms_mm(mapping) <= most}
    scores = {name: problem.score_map(mapping).score for name, mapping in maps.items()}
    for name, score in scores.items():
        log.info("map %s: score %.3f (affine %.3f)", name, score, start.score)
    fixed_from_moving = np.linalg.inv(start.matrix)

    def on_affine(residual: PointMap) -> PointMap:
        return lambda points: apply_affine(start.matrix, points + residual(points))

    affine = _likeness(problem, on_affine(np.zeros_like), start.matrix)
    for name in sorted(scores, key=lambda name: scores[name], reverse=True):
        mapping = maps[name]

        def residual(points: np.ndarray, mapping: PointMap = mapping) -> np.ndarray:
            return apply_affine(fixed_from_moving, mapping(points)) - points

        if name == INITIAL:
            return residual, name
        if scores[name] > start.score:
            continued = _continued_beyond(residual, mapping, start.matrix, problem, pair)
            found = _likeness(problem, on_affine(continued), start.matrix)
            if all(one > other for one, other in zip(found, affine, strict=True)):
                return continued, name
            log.info("map %s: no more alike than by the affine where both have data", name)
    return None, "affine"


def _known_maps(
    start: AffineCandidate, prediction: NetworkPrediction | None, initial_transform: sitk.Transform | None
) -> dict[str, PointMap]:
    """Maps from fixed to moving points that may know more than the start's affine, by where they come from."""
    if start.name == INITIAL and initial_transform is not None and not initial_transform.IsLinear():
        return {INITIAL: lambda points: map_points(initial_transform, points)}
    maps = {}
    if prediction is not None and prediction.map_lps is not None:
        maps["network"] = prediction.map_lps
    if prediction is not None and prediction.refine is not None:
        maps["network, from the affine"] = prediction.refine(start.matrix)
    return maps


def _likeness(problem: AffineProblem, mapping: PointMap, affine: np.ndarray) -> list[float]:
    """How alike a map makes the images over the overlap, each the larger the better.

    Between modalities local correlation alone is content with deformations that no anatomy has.
    """
    found = [problem.score_map(mapping).similarity]
    if problem.similarity.descriptors:
        found.append(-problem.descriptor_distance(mapping, affine))
    return found


def _continued_beyond(
    residual: PointMap, mapping: PointMap, affine: np.ndarray, problem: AffineProblem, pair: PreparedPair
) -> PointMap:
    """The residual where both images have data, and beyond what the nearest such places say.

    A network answers anything where its match lies outside the moving field of view, and next to the border its windows
    are drawn by what lies beyond; how far, the similarity tells (not the score: what is pulled in adds overlap).
    """
    grid = pair.fixed.content.with_spacing(search_spacing(pair.fixed, pair.moving, _CONTINUED_SIZE))
    points = tensor_from_array(grid.lps_from_normalized[:3, :3]).float() @ identity_map(grid.shape_dhw).reshape(3, -1)
    points = array_from_tensor(points).T.astype(np.float64) + grid.lps_from_normalized[:3, 3]
    seen = pair.fixed.is_valid(points)
    for mapped in (apply_affine(affine, points), mapping(points)):
        seen &= pair.moving.is_valid(mapped)
    if seen.mean() > 0.99 or not seen.any():
        return residual
    shape = (1, -1, *grid.shape_dhw)
    known = tensor_from_array(seen.astype(np.float32)).reshape(shape)
    values = tensor_from_array(np.ascontiguousarray(residual(points).T.astype(np.float32))).reshape(shape)

    def without_border(cells: int) -> PointMap:
        support = -largest_around(-known, cells)
        field = torch.cat([fill_uncertain(values, support, 1.0), support], dim=1)

        def continued(at: np.ndarray) -> np.ndarray:
            normalized = apply_affine(grid.normalized_from_lps, at)
            where = tensor_from_array(np.ascontiguousarray(normalized.T.astype(np.float32)))[None, :, :, None, None]
            found = array_from_tensor(sample(field, where)[0, :, :, 0, 0]).T.astype(np.float64)
            share = found[:, 3:]
            return share * residual(at) + (1 - share) * found[:, :3]

        return continued

    def similarity(candidate: PointMap) -> float:
        return problem.score_map(lambda points: apply_affine(affine, points + candidate(points))).similarity

    return max((without_border(cells) for cells in _BORDER_CELLS), key=similarity)


def network_residual(
    loaded: LoadedModel,
    start: AffineCandidate,
    pair: PreparedPair,
    settings: RegistrationSettings,
    device: torch.device,
    progress: Progress,
    live: LiveMap | None = None,
) -> PointMap:
    """The paper's instance optimization on the affinely aligned pair: its map is the residual."""
    aligned = sitk.Resample(
        sitk.Cast(pair.moving_view.image, sitk.sitkFloat32),
        pair.fixed_view.image,
        PhysicalTransform.from_affine(start.matrix).to_sitk(),
        sitk.sitkLinear,
        float(pair.moving_view.array.min()),
    )
    warped_view = Volume(aligned, None, "aligned moving image")
    warped = prepare(warped_view, pair.moving.modality, None)
    warped = PreparedVolume(warped.voxels_dhw, pair.fixed.grid, pair.fixed.content, warped.modality)
    aligned_pair = replace(pair, moving=warped, moving_view=warped_view)
    images = images_for(loaded, aligned_pair, settings.grid, device)
    live = live or LiveMap(progress)

    def watch(found: Prediction) -> None:
        def displacement(grid: VolumeGrid) -> np.ndarray:
            points = grid.centers().reshape(-1, 3)
            with torch.no_grad():
                return (mapped_lps(found.map, images, points) - points).reshape(*grid.shape_dhw, 3)

        live.offer(start.matrix, displacement, pair.fixed.content)

    forward, _ = optimize_network(
        loaded,
        images.moving_b1dhw,
        images.fixed_b1dhw,
        steps=settings.steps,
        similarity=settings.similarity,
        progress=progress,
        seed=settings.seed,
        watch=watch,
    )
    return lambda points: mapped_lps(forward.map, images, points) - points
