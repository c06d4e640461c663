"""What a registration will need, estimated from sizes and settings before anything is loaded. No torch, no images."""

from __future__ import annotations

from dataclasses import dataclass

from .models.catalog import MODELS, model_info
from .settings import RegistrationSettings

# Measured on two CPU cores with the defaults: about 7 s whatever the size, and per optimization step a time that
# grows with the fixed image up to the size at which the working grid stops growing. Descriptors are twelve numbers a
# voxel, so they take longer, and their working grid stops growing earlier.
_FIXED_SECONDS, _SECONDS_PER_MEGAVOXEL, _LARGEST_WORKING_VOXELS = 7.0, 0.4, 3e6
_STEP_SECONDS, _LARGEST_VOXELS = 0.012, {"fast": 3e6, "best": 8e6}
_MIND_STEP_SECONDS, _LARGEST_MIND_VOXELS = 0.06, {"fast": 3e6, "best": 4.5e6}
_ROTATION_SECONDS = 15.0
# Of a linear registration, which asks no network where searches find the pose.
_LINEAR_SECONDS, _LINEAR_PER_MEGAVOXEL = 5.0, 0.25
# Of a step at sampled points, which hangs on nothing else; with the fits before and after.
_FUNCTIONAL_STEP_SECONDS = 0.15
# Of an optimization at sampled points, whatever the images' size (Testing/benchmarks/optimization_memory.py).
_FUNCTIONAL_MB = 250.0
# Of a network's grid: that of a head at 128 voxels along its longest side, the least of any, and how many times as many
# as the image it may have, where that has thick slices.
_HEAD_VOXELS, _FEWEST_VOXELS, _ALONG_THICK_SLICES = 1.3e6, 32**3, 2


@dataclass(frozen=True)
class Estimate:
    """seconds: on two CPU cores. memory_mb: the run's peak."""

    seconds: float
    memory_mb: float


def by_model(fixed_voxels: int, moving_voxels: int) -> dict[str, Estimate]:
    """What each network of the catalog would need for a pair, with the default settings otherwise."""
    settings = {name: RegistrationSettings(model=name) for name in MODELS}
    voxels = fixed_voxels, moving_voxels
    return {name: Estimate(cpu_seconds(*voxels, each), memory_mb(*voxels, each)) for name, each in settings.items()}


def memory_mb(fixed_voxels: int, moving_voxels: int, settings: RegistrationSettings) -> float:
    """Peak memory a run needs (MB), from the numbers of voxels and the networks' and working grids."""
    base = 700.0
    images = (fixed_voxels + moving_voxels) * 20 / 2**20
    work = min(max(fixed_voxels, 1e6), _LARGEST_WORKING_VOXELS) * 200 / 2**20
    if settings.io_method == "functional":
        work = _FUNCTIONAL_MB
    if settings.linear:  # a network is asked for one direction at a time, and hardly ever
        return base + images + work
    info = model_info(settings.model)
    optimized = settings.io_method == "network" and settings.steps
    if optimized:
        network = info.cost.optimizing_mb * _share_of_grid(settings, max(fixed_voxels, moving_voxels))
    else:
        network = info.cost.memory_mb * (1.0 if info.trained_shape_dhw is not None else (settings.grid / 128) ** 3)
    return base + images + max(work, network)


def _share_of_grid(settings: RegistrationSettings, voxels: int) -> float:
    """How many voxels the network's grid has, as a share of those that its costs were measured with.

    voxels: of the larger image; its grid is no finer than the image, but along thick slices.
    """
    info = model_info(settings.model)
    if info.trained_shape_dhw is not None:
        return 1.0
    grid = (min(settings.grid, info.cost.largest_grid or settings.grid) / 128) ** 3
    return min(grid, max(_ALONG_THICK_SLICES * voxels, _FEWEST_VOXELS) / _HEAD_VOXELS)


def cpu_seconds(fixed_voxels: int, moving_voxels: int, settings: RegistrationSettings) -> float:
    """About how long a run takes on two CPU cores: an order of magnitude for people, not a promise."""
    if settings.linear:
        seconds = _LINEAR_SECONDS + _LINEAR_PER_MEGAVOXEL * (fixed_voxels + moving_voxels) / 1e6
        return seconds + (_ROTATION_SECONDS if settings.robustness == "rotation" else 0.0)
    seconds = _FIXED_SECONDS + _SECONDS_PER_MEGAVOXEL * (fixed_voxels + moving_voxels) / 1e6
    seconds += model_info(settings.model).cost.extra_seconds
    if settings.robustness == "rotation":
        seconds += _ROTATION_SECONDS
    return seconds + optimization_seconds(fixed_voxels, settings)


def optimization_seconds(fixed_voxels: int, settings: RegistrationSettings) -> float:
    """What the steps of a deformable registration take of `cpu_seconds`."""
    mind = settings.similarity == "mind"
    most = (_LARGEST_MIND_VOXELS if mind else _LARGEST_VOXELS)[settings.effort]
    per_step = (_MIND_STEP_SECONDS if mind else _STEP_SECONDS) * (0.5 + min(fixed_voxels, most) / 1e6)
    if settings.io_method == "network":
        per_step = model_info(settings.model).cost.step_seconds * _share_of_grid(settings, fixed_voxels)
    elif settings.io_method == "functional":
        per_step = _FUNCTIONAL_STEP_SECONDS
    return settings.steps * per_step
