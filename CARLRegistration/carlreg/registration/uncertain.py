"""The uncertainty of a map that no network was asked for.

It is asked afterwards, as a registration would have; or, where a map with an uncertainty was mended, about the boxes
that changed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..errors import Cancelled, CarlError
from ..models import registry
from ..models.predict import NetworkImages
from ..physical import PhysicalTransform
from ..preprocess import PreparedVolume
from ..preprocess.prepare import network_image, stored_along
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid
from ..uncertainty import MendedUncertainty, Uncertainty, uncertainty_of
from ..uncertainty.calibration import calibrations
from ..uncertainty.evidence import usable
from ..uncertainty.mended import changed_box
from .pair import PreparedPair
from .predict import predict
from .result import KnownUncertainty

log = logging.getLogger(__name__)
NONE_BEFORE = (
    "No uncertainty: the map that was mended came without one. Going on in the whole volume (--everywhere) states one."
)


@dataclass(frozen=True, eq=False)
class Look:
    """A box in which a map was mended, in fixed space, and what both images show there."""

    box: VolumeGrid
    fixed: PreparedVolume
    moving: PreparedVolume


def uncertainty_afterwards(
    transform: PhysicalTransform,
    pair: PreparedPair,
    fixed_grid: VolumeGrid,
    settings: RegistrationSettings,
    device: torch.device,
) -> tuple[Uncertainty | None, str | None]:
    """(uncertainty of an optimized map, None), or (None, why there is none). fixed_grid: of the whole fixed volume.

    The map is there already: a network that cannot be loaded costs its uncertainty and nothing else.
    """
    loaded = _loaded(settings, device)
    if isinstance(loaded, str):
        return None, loaded
    prediction = predict(loaded, pair, settings.grid, device)
    answer = None if prediction is None else prediction.answer
    return uncertainty_of(answer, loaded, transform, pair.fixed, pair.moving, fixed_grid, optimized=True)


def _loaded(settings: RegistrationSettings, device: torch.device) -> registry.LoadedModel | str:
    """The settings' network; or why it says nothing about the uncertainty."""
    if settings.model not in calibrations():
        return f"No uncertainty: it is stated for {' and '.join(calibrations())}, not for {settings.model}."
    try:
        return registry.load(settings.model, settings.weights, settings.allow_untrained, device)
    except Cancelled:
        raise
    except CarlError as error:
        log.info("no network for the uncertainty: %s", error)
        return f"No uncertainty: {error}"


def uncertainty_of_mended(
    former: KnownUncertainty | None,
    before: PhysicalTransform,
    after: PhysicalTransform,
    looks: Sequence[Look],
    fixed_grid: VolumeGrid,
    moving_grid: VolumeGrid,
    settings: RegistrationSettings,
    device: torch.device,
) -> tuple[KnownUncertainty | None, str | None]:
    """(uncertainty of a mended map, None), or (None, why there is none). former: of the map before."""
    if former is None:
        return None, NONE_BEFORE
    if not looks:
        return former, None
    loaded = _loaded(settings, device)
    if isinstance(loaded, str):
        return None, loaded
    if not any(loaded.trained.values()) or not usable(loaded.network):
        return None, f"No uncertainty: {loaded.name} ran without trained weights, which say nothing."
    calibration = calibrations()[loaded.name]["final"]
    voxel_mm = _network_voxel_mm(former, fixed_grid, moving_grid, settings.grid)
    boxes = []
    for look in looks:
        images = _images_of(look, voxel_mm, loaded.network.stride, device)
        boxes.append(changed_box(look.box, images, loaded.network, before, after, calibration))
    floors = {"expected": calibration.expected["floor"], "bound": calibration.bound["floor"]}
    floor_mm = {name: voxel_mm * floor for name, floor in floors.items()}
    return MendedUncertainty(former, boxes, after, moving_grid, floor_mm, former.meaning), None


def _network_voxel_mm(former: KnownUncertainty, fixed: VolumeGrid, moving: VolumeGrid, max_size: int) -> float:
    """The spacing at which the network saw the images; about that where it is not known any more."""
    while isinstance(former, MendedUncertainty):
        former = former.former
    if isinstance(former, Uncertainty):
        return former.voxel_mm
    extent = max(float(fixed.extent_mm.max()), float(moving.extent_mm.max()))
    return max(extent / max_size, float(fixed.spacing.min()), float(moving.spacing.min()))


def _images_of(look: Look, spacing_mm: float, stride: int, device: torch.device) -> NetworkImages:
    fixed, fixed_grid = stored_along(*network_image(look.fixed, spacing_mm, stride))
    moving, moving_grid = stored_along(*network_image(look.moving, spacing_mm, stride), fixed_grid.direction)
    return NetworkImages(moving.to(device), fixed.to(device), moving_grid, fixed_grid, False)
