"""From volumes to network and optimization images: modality, normalization, resampling, content."""

from .normalize import guess_modality, normalize
from .prepare import Prepared, network_image, network_spacing, prepare, stretched_image
from .resample import resample_on_axes

__all__ = [
    "Prepared",
    "guess_modality",
    "network_image",
    "network_spacing",
    "normalize",
    "prepare",
    "resample_on_axes",
    "stretched_image",
]
