"""Where the voxels of a NIfTI file lie, and what its header says against itself."""

from __future__ import annotations

import math

import numpy as np

from ..errors import GeometryError
from ..spaces import VolumeGrid, apply_affine, lps_from_ras
from .nifti_header import MM_PER_UNIT, NiftiHeader

# Headers are written in float32 and often rounded further; up to here the nearest right-angled axes are taken.
_SHEAR_TOLERANCE = 1e-3
# Lengths that differ by more than rounding.
_LENGTH_TOLERANCE = 0.01
_UNITS = {1: "meters", 3: "micrometers"}


def check_geometry(header: NiftiHeader, name: str) -> None:
    """Raise GeometryError when the file's geometry is sheared or singular."""
    if not header.trusts_sform or header.shear <= _SHEAR_TOLERANCE:
        return
    if math.isinf(header.shear):
        problem = "singular: an image axis is missing, doubled or not a number"
    else:
        angle = math.degrees(math.asin(min(header.shear, 1.0)))
        problem = f"sheared: image axes are {angle:.2g} degrees off a right angle, as with a tilted gantry"
    raise GeometryError(
        f"{name}: expected image axes at right angles; the header's sform is {problem}. "
        "Resample the volume to a regular grid, or correct its header, first."
    )


def grid_of(header: NiftiHeader, name: str) -> VolumeGrid:
    """Where the voxels of the first three axes lie, LPS mm: by the sform or qform, whichever 3D Slicer prefers.

    Without either the axes are those of the patient (L, P, S), from the origin on, as ITK takes them. Raises
    GeometryError for sheared, singular or absurd ones.
    """
    check_geometry(header, name)
    i, j, k = (*header.sizes, 1, 1, 1)[:3]
    sizes = (i, j, k)
    if header.trusts_sform:
        return _sform_grid(header, sizes)
    spacing = _spacing(header, name)
    if header.qform_code <= 0:
        return VolumeGrid(sizes, spacing, np.zeros(3), np.eye(3))
    direction = lps_from_ras()[:3, :3] @ _rotation(header, name)
    origin = lps_from_ras()[:3, :3] @ header.qform_offset * header.mm_per_unit
    return VolumeGrid(sizes, spacing, origin, direction)


def notes_of(header: NiftiHeader, name: str) -> list[str]:
    """What a user should know: a geometry that is missing or contradicts itself, other units, other contradictions."""
    notes = []
    if header.unit in _UNITS:
        notes.append(f"{name}: its header gives lengths in {_UNITS[header.unit]}; they were turned into mm.")
    elif header.unit not in MM_PER_UNIT:
        notes.append(f"{name}: its header gives lengths in a unit that is not known; they are taken as mm.")
    kind = header.value_type
    if kind is not None and header.bits != 8 * kind.itemsize * header.values_per_voxel:
        notes.append(
            f"{name}: its header says {header.bits} bits per voxel, which its type does not have; the type counts."
        )
    if not header.is_color and (not math.isfinite(header.slope) or (header.slope == 0.0 and header.intercept != 0.0)):
        notes.append(
            f"{name}: its header scales values by {header.slope:g} and adds {header.intercept:g}; they are taken as "
            "they are stored."
        )
    if header.sform_code <= 0 and header.qform_code <= 0:
        return [*notes, f"{name}: the file does not say where the volume lies nor which way it is turned."]
    if header.ras_from_ijk is None:
        return notes
    grid = grid_of(header, name)
    if header.qform_code > 0:
        distance = _apart(header, grid, name)
        if not distance <= 0.5 * grid.spacing.min():
            far = f"{distance:.1f} mm" if math.isfinite(distance) else "not comparable"
            notes.append(
                f"{name}: its header holds two geometries, up to {far} apart; the one that 3D Slicer takes is used."
            )
    elif not np.allclose(_lengths(header), grid.spacing, rtol=_LENGTH_TOLERANCE, atol=0.0):
        given, used = (" x ".join(f"{n:.4g}" for n in lengths) for lengths in (_lengths(header), grid.spacing))
        notes.append(
            f"{name}: its header gives two voxel sizes, {given} mm (pixdim) and {used} mm (sform); that of the sform "
            "is used, as the standard says. 3D Slicer may show the other."
        )
    return notes


def _lengths(header: NiftiHeader) -> np.ndarray:
    """Absolute pixdim of the first three axes, mm."""
    return np.abs(np.array(header.pixdim[1:4])) * header.mm_per_unit


def _spacing(header: NiftiHeader, name: str) -> np.ndarray:
    lengths = _lengths(header)
    if not np.all(np.isfinite(lengths)) or np.any(lengths <= 0):
        raise GeometryError(
            f"{name}: expected positive voxel sizes, its header has {list(header.pixdim[1:4])} (pixdim). Correct the "
            "header, or export the volume again."
        )
    return lengths


def _sform_grid(header: NiftiHeader, sizes: tuple[int, int, int]) -> VolumeGrid:
    matrix = lps_from_ras() @ header.ras_from_ijk * header.mm_per_unit
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    left, _, right = np.linalg.svd(matrix[:3, :3] / spacing)
    given = _lengths(header)
    close = np.isclose(spacing, given, rtol=1e-5, atol=0.0)  # the same number, rounded once instead of three times
    return VolumeGrid(sizes, np.where(close, given, spacing), matrix[:3, 3], left @ right)


def _rotation(header: NiftiHeader, name: str) -> np.ndarray:
    """The qform's axes in RAS (3x3), the third mirrored where the header says so."""
    b, c, d = (float(value) for value in header.quaternion)
    square = 1.0 - (b * b + c * c + d * d)
    mirrored = header.pixdim[0]
    if (
        not math.isfinite(square)
        or square < -1e-5
        or not (mirrored >= 0 or mirrored == -1)
        or not np.all(np.isfinite(header.qform_offset))
    ):
        raise GeometryError(
            f"{name}: expected a rotation in the header's qform, got the quaternion {list(header.quaternion)} at "
            f"{header.qform_offset.tolist()}, with {mirrored:g} where -1 or 1 should be. Correct the header, or export "
            "the volume again."
        )
    a = math.sqrt(max(square, 0.0))
    length = math.sqrt(a * a + b * b + c * c + d * d)
    a, b, c, d = a / length, b / length, c / length, d / length
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    return rotation * [1.0, 1.0, -1.0 if mirrored < 0 else 1.0]


def _apart(header: NiftiHeader, grid: VolumeGrid, name: str) -> float:
    """How far qform and sform put a corner apart, mm; infinite where the one that is not used is no geometry."""
    corners = grid.corners_ijk()
    if header.trusts_sform:
        try:
            matrix = np.eye(4)
            matrix[:3, :3] = _rotation(header, name) * _spacing(header, name)
        except GeometryError:
            return math.inf
        matrix[:3, 3] = header.qform_offset * header.mm_per_unit
    else:
        matrix = np.asarray(header.ras_from_ijk) * header.mm_per_unit
    other = apply_affine(lps_from_ras() @ matrix, corners)
    return float(np.linalg.norm(other - grid.corners_lps(), axis=1).max())
