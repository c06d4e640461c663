"""ITK's transforms: read from files and checked, taken apart, as matrices, on points and grids."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, InputError
from ..spaces import VolumeGrid, apply_affine
from ..text_files import cut, shown
from .checks import existing_path
from .itk_file import Record, read_records
from .itk_kinds import COMPOSITE, FIELD_KINDS, LINEAR_KINDS, SPLINE_KINDS
from .numbers import FARTHEST_MM, within_reach


def read_transform(
    path: str | os.PathLike, name: str = "transform", memory: Callable[[float, str, str], None] | None = None
) -> sitk.Transform:
    """A 3-D ITK transform file (.h5, .tfm, .txt, .mat), fixed points to moving points in LPS mm.

    memory: called as `require_memory` before a field is read. All linear kinds become affine transforms.
    Raises InputError when it is not one or of a kind that cannot be read, GeometryError when it, or a linear part of
    it, collapses space.
    """
    file = existing_path(path, name)
    label = f"{name} ({file.name})"
    if file.is_dir():
        raise InputError(f"{label}: expected a transform file, got a folder.")
    records = read_records(file, label)
    joined = bool(records) and records[0].kind == COMPOSITE
    parts = records[1:] if joined else records
    if not parts:
        raise InputError(f"{label}: expected a transform, got {'a composite of none' if joined else 'none'}.")
    if len(parts) > 1 and not joined:
        raise InputError(
            f"{label}: holds {len(parts)} transforms and does not say how they belong together. Save each alone, or "
            "all as one composite transform."
        )
    made = [_transform(part, label, memory) for part in parts]
    return sitk.CompositeTransform(made) if joined else made[0]


def _transform(record: Record, label: str, memory) -> sitk.Transform:
    """What a record says. Raises InputError, GeometryError."""
    fixed = np.zeros(0) if record.fixed is None else record.fixed
    if record.kind in LINEAR_KINDS:
        kind = LINEAR_KINDS[record.kind]
        if record.count != kind.parameters or len(fixed) not in kind.fixed:
            what = "parameters" if record.count != kind.parameters else "fixed parameters"
            wanted = kind.parameters if what == "parameters" else kind.fixed[-1]
            got = record.count if what == "parameters" else len(fixed)
            raise InputError(
                f"{label}: expected {wanted} {what} of a {record.kind}, got {got}. The file is damaged, or cut off."
            )
        try:
            return affine_to_sitk(
                check_affine(kind.matrix(within_reach(record.parameters(), label), within_reach(fixed, label)))
            )
        except GeometryError as error:
            raise GeometryError(f"{label}: {error}") from error
        except InputError as error:
            raise error if str(error).startswith(label) else InputError(f"{label}: {error}.") from error
    if record.kind in FIELD_KINDS or record.kind in SPLINE_KINDS:
        return sampled_transform(record, fixed, label, memory)
    how = "it leads the other way; " if record.kind.startswith("Inverse") else ""
    raise InputError(
        f"{label}: a transform of the kind {cut(record.kind, 60)}, which cannot be read ({how}linear kinds, "
        "displacement fields and B-splines can). In 3D Slicer: Transforms / Convert, to a displacement field, and save "
        "that."
    )


def sampled_transform(record: Record, fixed: np.ndarray, label: str, memory) -> sitk.Transform:
    """A displacement field, or a B-spline: numbers at the nodes of a grid, which the fixed parameters describe.

    Raises InputError, GeometryError, and what `memory` raises.
    """
    spline = record.kind in SPLINE_KINDS
    what = "B-spline" if spline else "displacement field"
    if len(fixed) != 18:
        raise InputError(f"{label}: expected 18 fixed parameters of a {what}, got {len(fixed)}. The file is damaged.")
    sizes = fixed[:3]
    least = record.order + 1 if spline else 1
    if not np.all((sizes >= least) & (sizes <= 1e5) & (sizes == np.round(sizes))) or not 0 <= record.order <= 3:
        order = f" of order {record.order}" if spline else ""
        raise InputError(
            f"{label}: expected a {what}{order} with a grid of at least {least} nodes along each axis, got "
            f"{shown(sizes.tolist())}."
        )
    i, j, k = (int(n) for n in sizes)
    if record.count != 3 * i * j * k:
        raise InputError(
            f"{label}: expected {3 * i * j * k} parameters of a {what} of {i} x {j} x {k} nodes, got {record.count}. "
            "The file is cut off or damaged."
        )
    try:
        grid = VolumeGrid((i, j, k), fixed[6:9], within_reach(fixed[3:6], label), fixed[9:])
    except GeometryError as error:
        raise GeometryError(f"{label}: {error}") from error
    if memory is not None:
        memory(3 * 24 * i * j * k / 2**20, f"reading {label}", "Use a coarser field.")
    values = within_reach(record.parameters(), label)
    if spline:
        images = [grid.image(component) for component in values.reshape(3, k, j, i)]
        return sitk.BSplineTransform(images, record.order)
    return sitk.DisplacementFieldTransform(grid.image(values.reshape(k, j, i, 3)))


def check_affine(affine_lps) -> np.ndarray:
    """The 4x4 matrix as float64, or GeometryError when it is not an invertible affine of a sensible size."""
    affine = np.asarray(affine_lps, dtype=np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.abs(affine[3] - [0, 0, 0, 1]).max() > 1e-9:
        raise GeometryError(f"Expected a finite 4x4 affine matrix with last row 0 0 0 1, got {affine.tolist()}.")
    if np.abs(affine).max() > FARTHEST_MM:
        raise GeometryError(
            f"Expected an affine in mm, got one that leads more than ten kilometers away: {shown(affine.tolist())}."
        )
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


def linear_to_sitk(matrix_lps: np.ndarray, kind: str, center_lps: np.ndarray | None = None) -> sitk.Transform:
    """A 4x4 map as ITK's transform of its kind: 'rigid' (Euler angles), 'similarity' (versor and scale) or 'affine'.

    center_lps: about which it turns and scales; None = the origin. The map is the same.
    """
    center = np.zeros(3) if center_lps is None else np.asarray(center_lps, dtype=np.float64)
    linear = matrix_lps[:3, :3]
    made = {
        "rigid": sitk.Euler3DTransform,
        "similarity": sitk.Similarity3DTransform,
        "affine": lambda: sitk.AffineTransform(3),
    }[kind]()
    if kind != "affine":  # ITK asks for orthogonal columns
        u, stretches, vt = np.linalg.svd(linear)
        linear = u @ vt * (float(np.prod(stretches)) ** (1 / 3) if kind == "similarity" else 1.0)
    made.SetCenter(center.tolist())
    made.SetMatrix(linear.ravel().tolist())
    made.SetTranslation((apply_affine(matrix_lps, center) - center).tolist())
    return made


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
