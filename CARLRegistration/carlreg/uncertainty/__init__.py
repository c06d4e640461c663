"""How far a result may be off: evidence from the network and the images, calibrated on generated pairs."""

from ..physical import Uncertainty
from .estimate import uncertainty_of
from .evidence import NetworkAnswer

__all__ = ["NetworkAnswer", "Uncertainty", "uncertainty_of"]
