"""From volumes to network and optimization images: modality, normalization, resampling, content."""

from .filling import filling, without_filling
from .normalize import guess_modality, normalize
from .prepare import (
    PreparedVolume,
    common_spacing,
    field_of_view,
    network_image,
    network_spacing,
    prepare,
    stored_along,
    stretched_image,
)
from .resample import resample_on_axes

__all__ = [
    "PreparedVolume",
    "common_spacing",
    "field_of_view",
    "filling",
    "guess_modality",
    "network_image",
    "network_spacing",
    "normalize",
    "prepare",
    "resample_on_axes",
    "stored_along",
    "stretched_image",
    "without_filling",
]
