"""Volumes and label maps through a transform, in their own pixel type."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..quality.measure import background_of
from ..spaces import VolumeGrid

INTERPOLATORS = {
    "linear": sitk.sitkLinear,
    "nearest": sitk.sitkNearestNeighbor,
    "bspline": sitk.sitkBSpline,
    "sinc": sitk.sitkLanczosWindowedSinc,
}


def resample(
    image: sitk.Image, transform: sitk.Transform, grid: VolumeGrid, interpolation: str = "linear"
) -> sitk.Image:
    """A scalar volume on a grid through a transform (the grid's points to the volume's), in its own pixel type."""
    if interpolation not in INTERPOLATORS:
        raise InputError(f"interpolation: expected one of {', '.join(INTERPOLATORS)}; got {interpolation!r}.")
    outside = 0.0 if interpolation == "nearest" else background_of(image)
    pixel_type = image.GetPixelID()
    whole = pixel_type not in (sitk.sitkFloat32, sitk.sitkFloat64)
    blended = interpolation != "nearest" and whole
    # Splines overshoot: values are rounded and kept in the type's range afterwards.
    wide = sitk.sitkFloat64 if image.GetSizeOfPixelComponent() >= 4 else sitk.sitkFloat32
    resampled = sitk.Resample(
        image,
        grid.size_ijk,
        transform,
        INTERPOLATORS[interpolation],
        grid.origin_lps.tolist(),
        grid.spacing.tolist(),
        grid.direction.ravel().tolist(),
        outside,
        wide if blended else pixel_type,
    )
    if blended:
        limits = np.iinfo(sitk.GetArrayViewFromImage(image).dtype)
        resampled = sitk.Cast(sitk.Round(sitk.Clamp(resampled, wide, limits.min, limits.max)), pixel_type)
    return resampled
