"""Transforms given by the user, read and checked."""

from __future__ import annotations

import os

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, InputError
from .checks import existing_path


def read_transform(path: str | os.PathLike, name: str = "transform") -> sitk.Transform:
    """A 3-D ITK transform file (.h5, .tfm, .txt, .mat), fixed points to moving points in LPS mm.

    Raises InputError when it is not one, GeometryError when it collapses space.
    """
    file = existing_path(path, name)
    label = f"{name} ({file.name})"
    if file.is_dir():
        raise InputError(f"{label}: expected a transform file, got a folder.")
    try:
        transform = sitk.ReadTransform(str(file))
    except RuntimeError as error:
        raise InputError(
            f"{label}: expected an ITK transform (.h5, .tfm, .txt or .mat), as 3D Slicer, ANTs and SimpleITK write it; "
            "this is not one, or it is damaged."
        ) from error
    if transform.GetDimension() != 3:
        raise InputError(f"{label}: expected a 3-D transform, got a {transform.GetDimension()}-D one.")
    corners = np.array([[0.0, 0, 0], [100, 0, 0], [0, 100, 0], [0, 0, 100]])
    mapped = np.array([transform.TransformPoint(corner.tolist()) for corner in corners])
    volume = np.linalg.det((mapped[1:] - mapped[0]).T / 100) if np.all(np.isfinite(mapped)) else np.nan
    if transform.IsLinear() and not abs(volume) > 1e-6:
        raise GeometryError(f"{label}: expected an invertible transform; this one is singular or not finite.")
    return transform
