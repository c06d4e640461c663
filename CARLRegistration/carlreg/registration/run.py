"""The whole story of one registration:

read -> prepare -> predict both directions -> robust affine from the attention -> candidate starts -> affine refined
-> instance optimization -> physical -> outputs.

Everything here is in LPS mm; maps are moving_from_fixed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import SimpleITK as sitk
import torch

from .. import __version__
from ..errors import DeviceError, InputError
from ..maps import identity_map, sample
from ..maps.exchange import array_from_tensor, tensor_from_array
from ..models import registry
from ..models.attention import fill_uncertain
from ..models.operators import TwoStep, without_refinement
from ..models.predict import Correspondences, correspondences, mapped_lps, network_images, refined_from, renormalized
from ..optimize.affine import AffineProblem, refine_affine
from ..optimize.field import FieldResult, coefficients_from, optimize_field
from ..optimize.levels import finest_spacing, level_images, level_spacings, schedule, search_spacing
from ..optimize.network import optimize_network
from ..optimize.search import SearchImage, rotations, search
from ..optimize.starts import AffineCandidate, distinct, fit_affine, refine_starts, robust_affine, translation
from ..physical import PhysicalTransform, repair_folds, to_fixed_grid
from ..preprocess import PreparedVolume, field_of_view, prepare, resample_on_axes
from ..progress import Progress, StageTiming
from ..resources import memory_mb
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid
from ..uncertainty import NetworkAnswer, Uncertainty, uncertainty_of
from ..volumes import Volume, available_memory_mb, pair_warnings, read_volume, require_memory, volume_from_image

log = logging.getLogger(__name__)

STAGE_WEIGHTS = {
    "prepare": 2,
    "predict": 6,
    "starts": 8,
    "affine": 6,
    "optimize": 40,
    "uncertainty": 2,
    "inverse": 4,
    "measure": 8,
    "write": 2,
}
_ROTATIONS, _SEARCH_EDGE, _COARSE_EDGE = 800, 26, 40
_REPAIRED_DETERMINANT = 0.05
_CONTINUED_EDGE, _EDGE_CELLS = 48, (0, 1, 2, 4, 6)
# Share of the best start's score from which others are looked at more closely; different contrasts score alike.
_LEADING, _LEADING_CONTRASTS = 0.9, 0.75


@dataclass
class RegistrationResult:
    """What one registration found.

    transform: fixed points to moving points. inverse: None until it is computed for the output folder.
    start: the candidate that won. info: what is needed to repeat the run.
    uncertainty: how far the map may be off, mm (see `uncertainty.Uncertainty`); None with the reason in
        `uncertainty_reason`.
    """

    transform: PhysicalTransform
    fixed: Volume
    moving: Volume
    start: str
    inverse: PhysicalTransform | None = None
    fixed_mask: Volume | None = None
    moving_mask: Volume | None = None
    warnings: list[str] = field(default_factory=list)
    info: dict = field(default_factory=dict)
    timings: list[StageTiming] = field(default_factory=list)
    uncertainty: Uncertainty | None = None
    uncertainty_reason: str | None = None


def register(fixed, moving, settings: RegistrationSettings | None = None, *, progress=None, **inputs):
    """Register two SimpleITK images, paths or `Volume`s; see `register_pair` for the further inputs."""
    read = {"fixed": fixed, "moving": moving}
    for name, given in read.items():
        if isinstance(given, sitk.Image):
            read[name] = volume_from_image(given, name)
        elif isinstance(given, (str, os.PathLike)):
            read[name] = read_volume(given, name)
        elif not isinstance(given, Volume):
            raise InputError(f"{name}: expected a SimpleITK image or a path, got {type(given).__name__}.")
    return register_pair(read["fixed"], read["moving"], settings, progress=progress, **inputs)


def register_pair(
    fixed: Volume,
    moving: Volume,
    settings: RegistrationSettings | None = None,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    initial_transform: sitk.Transform | None = None,
    progress: Progress | None = None,
) -> RegistrationResult:
    """Find the map that takes points of the fixed image to their counterparts in the moving image.

    Args:
        fixed, moving: checked volumes on unrelated grids. masks: on their volume's grid; limit what counts.
        initial_transform: fixed points to moving points, LPS mm; one more candidate start.
    Raises: InputError and its kinds for what cannot be used; OptimizationDiverged; Cancelled.
    """
    settings = settings or RegistrationSettings()
    progress = progress or Progress()
    progress.weights = progress.weights or STAGE_WEIGHTS
    device = chosen_device(settings.device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    warnings = list(pair_warnings(fixed, moving))
    needs = partial(estimate_memory_mb, fixed, moving)
    require_memory(needs(settings), "this registration", memory_remedy(needs, settings))

    with progress.stage("prepare", "normalizing both images"):
        loaded = registry.load(settings.model, settings.weights, settings.allow_untrained, device)
        fixed_view, fixed_view_mask = field_of_view(fixed, settings.fixed_modality, fixed_mask)
        moving_view, moving_view_mask = field_of_view(moving, settings.moving_modality, moving_mask)
        f = prepare(fixed_view, settings.fixed_modality, fixed_view_mask)
        m = prepare(moving_view, settings.moving_modality, moving_view_mask)
        progress.update(0.9, f"intensities: fixed {f.modality.upper()}, moving {m.modality.upper()}")
    if f.modality != m.modality and settings.similarity != "mind":
        warnings.append(
            f"The fixed volume looks like {f.modality.upper()}, the moving one like {m.modality.upper()}: for "
            "different kinds of scans choose the similarity MIND (--similarity mind)."
        )
    with progress.stage("predict", f"{settings.model}: both directions"):
        prediction = _predict(loaded, f, m, fixed_view, moving_view, settings.grid, device)
    with progress.stage("starts", "scoring candidate starts"):
        candidates = _candidates(f, m, prediction, initial_transform, settings, progress)
        starts = _best_starts(candidates, f, m, settings, device, progress)
    with progress.stage("affine", "refining the affine"):
        problem = _fine_problem(f, m, settings, device)
        start = _refined_affine(starts, problem, settings, progress)
        residual, deformation = _residual_of(start, prediction, initial_transform, problem, f, m)
        del problem
    with progress.stage("optimize", f"instance optimization ({settings.io_method}, {settings.steps} steps)"):
        if settings.io_method == "network" and settings.steps:
            residual = _network_residual(loaded, start, f, m, fixed_view, moving_view, settings, device, progress)
        result = _optimized_field(start, residual, f, m, settings, device, progress)
        transform, repaired = _delivered(start.matrix, result, fixed.grid, settings)
    with progress.stage("uncertainty", "how far the map may be off"):
        answer = None if prediction is None else prediction.answer
        uncertainty, reason = uncertainty_of(answer, loaded, transform, f, m, fixed.grid, optimized=settings.steps > 0)
    if repaired:
        log.info("%d folded nodes repaired", repaired)
    if not any(loaded.trained.values()):
        warnings.append(f"{settings.model} ran with untrained weights; its prediction means nothing.")
    info = {
        "version": __version__,
        "model": settings.model,
        "weights_sha256": loaded.weights_sha256,
        "trained": loaded.trained,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "seed": settings.seed,
        "fixed_modality": f.modality,
        "moving_modality": m.modality,
        "candidates": {s.name: s.score for s in starts},
        "deformation_start": deformation,
        "control_spacing_mm": result.spacing_mm,
        "repaired_nodes": repaired,
    }
    return RegistrationResult(
        transform,
        fixed,
        moving,
        start.name,
        None,
        fixed_mask,
        moving_mask,
        warnings,
        info,
        progress.timings,
        uncertainty,
        reason,
    )


def chosen_device(name: str) -> torch.device:
    """The device for a setting. Raises DeviceError when CUDA is asked for and not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise DeviceError(
            f"Device: {name} was asked for, but {count} CUDA devices are usable here. Choose cpu or auto."
        )
    return device


def estimate_memory_mb(fixed: Volume, moving: Volume, settings: RegistrationSettings) -> float:
    """Peak memory a run needs, see `needs.memory_mb`."""
    return memory_mb(fixed.grid.voxel_count, moving.grid.voxel_count, settings)


def memory_remedy(needs: Callable[[RegistrationSettings], float], settings: RegistrationSettings) -> str:
    """What to choose when a run does not fit: the options that would make it fit, by `needs` (settings -> MB)."""
    free = available_memory_mb() or 0.0
    default = type(settings)()
    changes: dict[str, dict] = {f"--grid {grid}": {"grid": grid} for grid in (192, 128, 96, 64) if grid < settings.grid}
    changes["--io-method field"] = {"io_method": "field"}
    changes[f"--model {default.model}"] = {"model": default.model, "weights": None}
    fitting = [option for option, change in changes.items() if needs(replace(settings, **change)) <= free]
    grids = [option for option in fitting if option.startswith("--grid")]
    fitting = [option for option in fitting if option not in grids[1:]]  # the largest will do
    choice = f"Choose {' or '.join(fitting)}, or crop" if fitting else "Crop"
    return f"{choice} the images to the part that matters, or close other programs."


# -- stages ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Predicted:
    """A network's answer: correspondences; its map as a function on n x 3 LPS points (None: attention only); and what
    its refinements make of a 4x4 matrix instead, as such a function (None: it has none that can); all it said."""

    points: Correspondences
    map_lps: Callable | None
    refine: Callable | None
    answer: NetworkAnswer


def _predict(
    loaded, f: PreparedVolume, m: PreparedVolume, fixed: Volume, moving: Volume, edge: int, device
) -> _Predicted | None:
    if not any(loaded.trained.values()):
        return None
    style = loaded.info.normalization
    images = network_images(loaded, renormalized(f, fixed, style), renormalized(m, moving, style), edge, device)
    network = loaded.network
    # Attention alone answers anywhere where there is no structure: only its affine is used.
    refined = loaded.trained.get("refinement", True)
    refines_anything = refined and not loaded.legacy and isinstance(network, TwoStep)
    with torch.no_grad():
        if refines_anything:  # one direction suffices of what follows the attention
            forward, backward = without_refinement(network).predict_both(images.moving_b1dhw, images.fixed_b1dhw)
            found = network.refine(forward.map, images.moving_b1dhw, images.fixed_b1dhw)
        else:
            forward, backward = network.predict_both(images.moving_b1dhw, images.fixed_b1dhw)
            found = forward.map
    points = correspondences(images, forward, backward)
    weights = points.weights * f.mask_weight(points.fixed_lps) * m.mask_weight(points.moving_lps)

    def on_lps(found) -> Callable:
        return lambda points: mapped_lps(found, images, points)

    return _Predicted(
        Correspondences(points.fixed_lps, points.moving_lps, weights + 1e-12),
        on_lps(found) if refined else None,
        (lambda matrix: on_lps(refined_from(network, images, matrix))) if refines_anything else None,
        NetworkAnswer(network, images, forward, backward, found),
    )


def _candidates(f, m, prediction, initial_transform, settings, progress) -> list[AffineCandidate]:
    """Everything worth trying, before any refinement."""
    starts = []
    if initial_transform is not None:
        points = _lattice(f.content, 12)
        mapped = np.array([initial_transform.TransformPoint(p) for p in points.tolist()])
        starts.append(AffineCandidate("initial transform", fit_affine(points, mapped, np.ones(len(points)))))
    if prediction is not None:
        matrix, agreement = robust_affine(
            prediction.points.fixed_lps, prediction.points.moving_lps, prediction.points.weights
        )
        log.info("network affine: %.0f %% of the weighted correspondences agree", 100 * agreement)
        starts.append(AffineCandidate("network", matrix))
    starts.append(AffineCandidate("header", np.eye(4)))
    starts.append(AffineCandidate("content centers", translation(m.content.center_lps - f.content.center_lps)))
    spacing = search_spacing(f, m, _COARSE_EDGE)
    for padding_is_background in (True, False):
        found = search(*(_search_image(p, spacing, padding_is_background) for p in (f, m)), rotations(1))
        starts += [AffineCandidate("translation search", entry.matrix) for entry in found]
    if settings.robustness == "rotation":
        spacing = search_spacing(f, m, _SEARCH_EDGE)
        images = [_search_image(p, spacing, padding_is_background=False) for p in (f, m)]
        found = search(*images, rotations(_ROTATIONS), keep=16, progress=progress)
        starts += [AffineCandidate("rotation search", entry.matrix) for entry in found]
    center = f.content.center_lps
    return distinct(starts, center, float(np.linalg.norm(f.content.extent_mm)) / 2, closer_than_mm=0.5)


def _search_image(prepared: PreparedVolume, spacing_mm: float, padding_is_background: bool) -> SearchImage:
    grid = prepared.content.with_spacing(spacing_mm)
    values = resample_on_axes(prepared.voxels_dhw, prepared.grid, grid)[0, 0]
    weight = prepared.weight_at(grid, padding_is_background=padding_is_background)
    return SearchImage(values, torch.ones_like(values) if weight is None else weight[0, 0], grid)


def _best_starts(candidates, f, m, settings, device, progress) -> list[AffineCandidate]:
    coarse = AffineProblem(
        level_images(f, m, search_spacing(f, m, _COARSE_EDGE), device),
        window_mm=5 * search_spacing(f, m, _COARSE_EDGE),
        similarity=settings.similarity,
    )
    turned = settings.robustness == "rotation"
    dof = "rigid" if turned else "translation"
    return refine_starts(candidates, coarse, keep=8 if turned else 3, first_dof=dof, progress=progress)


def _fine_problem(f, m, settings, device) -> AffineProblem:
    """The pair at twice the resolution of the search, where starts and maps are judged."""
    spacing = search_spacing(f, m, 2 * _COARSE_EDGE)
    return AffineProblem(level_images(f, m, spacing, device), window_mm=7 * spacing, similarity=settings.similarity)


def _refined_affine(starts, problem: AffineProblem, settings, progress) -> AffineCandidate:
    """The best of the leading starts, refined."""
    contrasts = problem.similarity == "mind"
    least = (_LEADING_CONTRASTS if contrasts else _LEADING) * starts[0].score
    leading = [s for s in starts if s.score > least][:3]
    leading = [AffineCandidate(s.name, s.matrix, problem.score(s.matrix).score, s.overlap) for s in leading]
    if contrasts:
        # Between modalities anything smooth correlates somewhat: starts that are all wrong come close to the right one.
        best = min(leading, key=lambda s: problem.descriptor_distance(_affine_map(s.matrix), s.matrix))
    else:
        best = max(leading, key=lambda s: s.score)
    if settings.steps == 0 and best.name == "initial transform":
        return best
    matrix = refine_affine(problem, best.matrix, steps=30, rate_mm=1.0, progress=progress)
    return AffineCandidate(best.name, matrix, problem.score(matrix).score, best.overlap)


def _affine_map(matrix: np.ndarray) -> Callable:
    return lambda points: points @ matrix[:3, :3].T + matrix[:3, 3]


def _continued_beyond(
    residual: Callable,
    mapping: Callable,
    affine: np.ndarray,
    problem: AffineProblem,
    f: PreparedVolume,
    m: PreparedVolume,
) -> Callable:
    """The residual where both images have data, and beyond what the nearest such places say.

    A network answers anything where its match lies outside the moving field of view, and next to the edge its windows
    are drawn by what lies beyond; how far, the similarity tells (not the score: what is pulled in adds overlap).
    """
    grid = f.content.with_spacing(search_spacing(f, m, _CONTINUED_EDGE))
    points = tensor_from_array(grid.lps_from_unit[:3, :3]).float() @ identity_map(grid.shape_dhw).reshape(3, -1)
    points = array_from_tensor(points).T.astype(np.float64) + grid.lps_from_unit[:3, 3]
    seen = f.is_valid(points)
    for mapped in (points @ affine[:3, :3].T + affine[:3, 3], mapping(points)):
        seen &= m.is_valid(mapped)
    if seen.mean() > 0.99 or not seen.any():
        return residual
    shape = (1, -1, *grid.shape_dhw)
    known = tensor_from_array(seen.astype(np.float32)).reshape(shape)
    values = tensor_from_array(np.ascontiguousarray(residual(points).T.astype(np.float32))).reshape(shape)

    def without_edge(cells: int) -> Callable:
        support = -torch.nn.functional.max_pool3d(-known, 2 * cells + 1, 1, cells)
        field = torch.cat([fill_uncertain(values, support, 1.0), support], dim=1)

        def continued(at: np.ndarray) -> np.ndarray:
            unit = at @ grid.unit_from_lps[:3, :3].T + grid.unit_from_lps[:3, 3]
            where = tensor_from_array(np.ascontiguousarray(unit.T.astype(np.float32)))[None, :, :, None, None]
            found = array_from_tensor(sample(field, where)[0, :, :, 0, 0]).T.astype(np.float64)
            share = found[:, 3:]
            return share * residual(at) + (1 - share) * found[:, :3]

        return continued

    def similarity(candidate: Callable) -> float:
        return problem.score_map(lambda p: (p + candidate(p)) @ affine[:3, :3].T + affine[:3, 3]).similarity

    return max((without_edge(cells) for cells in _EDGE_CELLS), key=similarity)


def _residual_of(
    start: AffineCandidate,
    prediction: _Predicted | None,
    initial_transform,
    problem: AffineProblem,
    f: PreparedVolume,
    m: PreparedVolume,
):
    """What is known beyond the start's affine: n x 3 fixed points -> displacement in LPS mm, and where from.

    The network's own map, what it makes of the affine, or nothing: whichever aligns best. (None, "affine") = nothing.
    """
    maps = {}
    if start.name == "initial transform" and not initial_transform.IsLinear():

        def initial(points):
            return np.array([initial_transform.TransformPoint(p) for p in points.tolist()])

        maps["initial transform"] = initial
    elif prediction is not None:
        if prediction.map_lps is not None:
            maps["network"] = prediction.map_lps
        if prediction.refine is not None:
            maps["network, from the affine"] = prediction.refine(start.matrix)
    scores = {name: problem.score_map(mapping).score for name, mapping in maps.items()}
    for name, score in scores.items():
        log.info("map %s: score %.3f (affine %.3f)", name, score, start.score)
    backward = np.linalg.inv(start.matrix)

    def on_affine(residual: Callable) -> Callable:
        return lambda points: _affine_map(start.matrix)(points + residual(points))

    affine = _alikeness(problem, on_affine(np.zeros_like), start.matrix)
    for name in sorted(scores, key=scores.get, reverse=True):
        mapping = maps[name]

        def residual(points: np.ndarray, mapping=mapping) -> np.ndarray:
            return mapping(points) @ backward[:3, :3].T + backward[:3, 3] - points

        if name == "initial transform":
            return residual, name
        if scores[name] > start.score:
            continued = _continued_beyond(residual, mapping, start.matrix, problem, f, m)
            found = _alikeness(problem, on_affine(continued), start.matrix)
            if all(one > other for one, other in zip(found, affine, strict=True)):
                return continued, name
            log.info("map %s: no more alike than by the affine where both have data", name)
    return None, "affine"


def _alikeness(problem: AffineProblem, mapping: Callable, affine: np.ndarray) -> list[float]:
    """How alike a map makes the images over the overlap, each the larger the better.

    Between modalities local correlation alone is content with deformations that no anatomy has.
    """
    figures = [problem.score_map(mapping).similarity]
    if problem.similarity == "mind":
        figures.append(-problem.descriptor_distance(mapping, affine))
    return figures


def _network_residual(loaded, start: AffineCandidate, f, m, fixed, moving, settings, device, progress):
    """The paper's instance optimization on the affinely aligned pair: its map is the residual."""
    aligned = sitk.Resample(
        sitk.Cast(moving.image, sitk.sitkFloat32),
        fixed.image,
        PhysicalTransform(start.matrix, np.zeros((2, 2, 2, 3), np.float32), _unit_grid()).to_sitk(),
        sitk.sitkLinear,
        float(moving.array.min()),
    )
    warped = Volume(aligned, None, "aligned moving image")
    a = prepare(warped, m.modality, None)
    a = PreparedVolume(a.voxels_dhw, f.grid, f.content, a.modality)
    style = loaded.info.normalization
    images = network_images(
        loaded, renormalized(f, fixed, style), renormalized(a, warped, style), settings.grid, device
    )
    forward, _ = optimize_network(
        loaded,
        images.moving_b1dhw,
        images.fixed_b1dhw,
        steps=settings.steps,
        similarity=settings.similarity,
        progress=progress,
        seed=settings.seed,
    )
    return lambda points: mapped_lps(forward.map, images, points) - points


def _optimized_field(start: AffineCandidate, residual, f, m, settings, device, progress) -> FieldResult:
    """The displacement before the affine, as a spline over the fixed content."""
    finest = finest_spacing(f)
    steps = settings.steps if settings.io_method == "field" else 0
    levels = schedule(steps, finest, settings.smoothness)
    first = levels[0] if steps else levels[-1]
    coefficients = None
    if residual is not None:
        along = f.content.direction[:, ::-1]
        coefficients = coefficients_from(lambda points: residual(points) @ along, f.content, first.spacing_mm)
    if not steps:
        if coefficients is None:
            first = levels[0]
        levels = [first]
    images = (level_images(f, m, spacing, device) for spacing in (level_spacings(finest) if steps else [8 * finest]))
    return optimize_field(
        images,
        levels,
        start.matrix,
        f.content,
        similarity=settings.similarity,
        start_13dhw=coefficients,
        progress=progress,
    )


def _delivered(affine, result: FieldResult, fixed_grid: VolumeGrid, settings) -> tuple[PhysicalTransform, int]:
    """The spline sampled at half its control spacing, without folds, covering the fixed volume and a margin."""
    spacing = settings.field_spacing_mm or result.spacing_mm / 2
    grid = result.box.padded(result.spacing_mm).with_spacing(spacing)
    field_lps, report = repair_folds(
        result.displacement_lps(grid), grid.spacing, min_determinant=_REPAIRED_DETERMINANT, direction=grid.direction
    )
    return to_fixed_grid(affine, field_lps, grid, fixed_grid), report["nodes"]


def _lattice(grid: VolumeGrid, count: int) -> np.ndarray:
    """count^3 x 3 LPS points spread over a grid's box."""
    axis = (np.arange(count) + 0.5) / count
    unit = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return unit @ grid.lps_from_unit[:3, :3].T + grid.lps_from_unit[:3, 3]


def _unit_grid() -> VolumeGrid:
    return VolumeGrid((2, 2, 2), np.ones(3), np.zeros(3), np.eye(3))
