"""The uncertainty of a map that no network was asked for: it is asked afterwards, as a registration would have."""

from __future__ import annotations

import logging

import torch

from ..errors import Cancelled, CarlError
from ..models import registry
from ..physical import PhysicalTransform
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid
from ..uncertainty import Uncertainty, uncertainty_of
from ..uncertainty.calibration import calibrations
from .pair import PreparedPair
from .predict import predict

log = logging.getLogger(__name__)


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
    if settings.model not in calibrations():
        return None, f"No uncertainty: it is stated for {' and '.join(calibrations())}, not for {settings.model}."
    try:
        loaded = registry.load(settings.model, settings.weights, settings.allow_untrained, device)
    except Cancelled:
        raise
    except CarlError as error:
        log.info("no network for the uncertainty: %s", error)
        return None, f"No uncertainty: {error}"
    prediction = predict(loaded, pair, settings.grid, device)
    answer = None if prediction is None else prediction.answer
    return uncertainty_of(answer, loaded, transform, pair.fixed, pair.moving, fixed_grid, optimized=True)
