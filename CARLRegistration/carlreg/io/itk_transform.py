"""ITK's transforms: read from files and checked, taken apart, as matrices, on points and grids."""

from __future__ import annotations

import os

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, InputError
from ..spaces import VolumeGrid, apply_affine
from .checks import existing_path


def read_transform(path: str | os.PathLike, name: str = "transform") -> sitk.Transform:
    """A 3-D ITK transform file (.h5, .tfm, .txt, .mat), fixed points to moving points in LPS mm.

    Raises InputError when it is not one, GeometryError when it, or a linear part of it, collapses space.
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
    for part in flatten(transform):
        if part.IsLinear():
            try:
                check_affine(affine_from_sitk(part))
            except GeometryError as error:
                raise GeometryError(f"{label}: {error}") from error
    return transform


def check_affine(affine_lps) -> np.ndarray:
    """The 4x4 matrix as float64, or GeometryError when it is not an invertible affine."""
    affine = np.asarray(affine_lps, dtype=np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.abs(affine[3] - [0, 0, 0, 1]).max() > 1e-9:
        raise GeometryError(f"Expected a finite 4x4 affine matrix with last row 0 0 0 1, got {affine.tolist()}.")
    singular_values = np.linalg.svd(affine[:3, :3], compute_uv=False)
    if singular_values[-1] < 1e-6 * max(singular_values[0], 1e-6):
        raise GeometryError(
            "Expected an invertible affine, got a singular one (it squeezes space flat): "
            f"{np.round(affine[:3, :3], 6).tolist()}. Check the transform."
        )
    return affine


def affine_to_sitk(affine_lps: np.ndarray) -> sitk.AffineTransform:
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(affine_lps[:3, :3].ravel().tolist())
    transform.SetTranslation(affine_lps[:3, 3].tolist())
    return transform


def affine_from_sitk(transform: sitk.Transform) -> np.ndarray:
    """4x4 matrix of any linear SimpleITK transform, by its action on four points."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    for axis in range(3):
        matrix[:3, axis] = np.array(transform.TransformPoint(tuple(np.eye(3)[axis]))) - origin
    matrix[:3, 3] = origin
    return matrix


def field_image(transform: sitk.Transform, grid: VolumeGrid) -> sitk.Image:
    """Any ITK transform's displacements (LPS mm) at a grid's voxels, a float64 vector image, whole."""
    return sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        grid.size_ijk,
        grid.origin_lps.tolist(),
        grid.spacing.tolist(),
        grid.direction.ravel().tolist(),
    )


def flatten(transform: sitk.Transform) -> list[sitk.Transform]:
    """The parts of a transform as downcast transforms; the last one acts first."""
    transform = transform.Downcast() if hasattr(transform, "Downcast") else transform
    if transform.GetName() != "CompositeTransform":
        return [transform]
    composite = sitk.CompositeTransform(transform)
    return [part for n in range(composite.GetNumberOfTransforms()) for part in flatten(composite.GetNthTransform(n))]


def is_linear(transform: sitk.Transform) -> bool:
    """True when every part of it is linear."""
    return all(part.IsLinear() for part in flatten(transform))


def linear_matrix(transform: sitk.Transform) -> np.ndarray:
    """4x4 LPS mm of a transform whose parts are all linear."""
    matrix = np.eye(4)
    for part in flatten(transform):
        matrix = matrix @ affine_from_sitk(part)
    return matrix


def map_points(transform: sitk.Transform, points_lps) -> np.ndarray:
    """N x 3 points through a transform, float64, LPS mm."""
    points = np.asarray(points_lps, dtype=np.float64).reshape(-1, 3)
    if is_linear(transform):
        return apply_affine(linear_matrix(transform), points)
    return np.array([transform.TransformPoint(point) for point in points.tolist()]).reshape(-1, 3)
