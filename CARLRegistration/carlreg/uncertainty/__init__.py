"""How far a result may be off: evidence from the network and the images, calibrated on generated pairs."""

from ..physical import Uncertainty
from .estimate import uncertainty_of
from .evidence import NetworkAnswer
from .mended import MendedUncertainty

__all__ = ["MendedUncertainty", "NetworkAnswer", "Uncertainty", "uncertainty_of"]
