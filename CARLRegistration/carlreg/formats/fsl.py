"""FSL's files, read and written: FLIRT's matrices and FNIRT's warps.

FSL's coordinates are scaled voxels, with the first axis flipped where the voxel-to-world matrix has a positive
determinant. A matrix leads from the moving image's to the reference's (fixed image's), a warp the other way.

Source: FSL's FLIRT and FNIRT user guides ("What is the format of the matrix", "relative warps").
"""

from __future__ import annotations

import numpy as np

from ..errors import GeometryError
from ..io import nifti_field
from ..io.itk_transform import check_affine
from ..physical.transform import slab_ranges
from ..spaces import VolumeGrid, apply_affine
from .content import Content, require_both

_SLAB_VOXELS = 2**18


def fsl_from_ijk(grid: VolumeGrid) -> np.ndarray:
    """4x4: voxel indices to FSL's coordinates (mm)."""
    matrix = np.diag([*grid.spacing, 1.0])
    if np.linalg.det(grid.direction) > 0:  # the same sign in LPS and RAS
        matrix[0, 0] = -grid.spacing[0]
        matrix[0, 3] = (grid.size_ijk[0] - 1) * grid.spacing[0]
    return matrix


def _lps_from_fsl(grid: VolumeGrid) -> np.ndarray:
    return grid.lps_from_ijk @ np.linalg.inv(fsl_from_ijk(grid))


def read_flirt(matrix: np.ndarray, fixed: VolumeGrid | None, moving: VolumeGrid | None, name: str) -> np.ndarray:
    """4x4 fixed to moving points, LPS mm, of the 16 numbers in a FLIRT matrix's file. Needs both grids (InputError)."""
    fixed, moving = require_both(fixed, moving, f"{name}: a FLIRT matrix")
    check_affine(matrix)
    return _lps_from_fsl(moving) @ np.linalg.inv(matrix) @ np.linalg.inv(_lps_from_fsl(fixed))


def write_flirt(content: Content, place, name: str) -> None:
    """The FLIRT matrix (moving to fixed, FSL's coordinates) of an affine, as text. Needs both grids (InputError)."""
    fixed, moving = require_both(*content.sides.grids, "A FLIRT matrix")
    rows = np.linalg.inv(np.linalg.inv(_lps_from_fsl(moving)) @ content.affine_lps @ _lps_from_fsl(fixed))
    text = "\n".join("  ".join(f"{value:.10f}" for value in row) for row in rows)
    place(name).write_text(text + "\n", encoding="utf-8")


def write_warp(content: Content, place, name: str) -> None:
    """The relative warp of a field on the fixed volume's grid, 4-D NIfTI. Needs both grids (InputError)."""
    fixed, moving = require_both(*content.sides.grids, "An FSL warp")
    warp = _relative_warp(content.field()[0], fixed, moving)
    nifti_field.write_fsl_warp(place(name), warp, fixed)


def _relative_warp(field_dhw3: np.ndarray, fixed: VolumeGrid, moving: VolumeGrid) -> np.ndarray:
    """(3, D, H, W): what leads from a fixed voxel's FSL coordinates to the moving point's.

    field_dhw3: displacements in LPS mm on the fixed grid; overwritten, the result is a view of it.
    """
    to_moving = np.linalg.inv(_lps_from_fsl(moving))
    to_fixed = fsl_from_ijk(fixed)
    for start, stop in slab_ranges(fixed, _SLAB_VOXELS):
        index = fixed.indices(start, stop)
        lps = fixed.points(index) + field_dhw3[start:stop]
        own = apply_affine(to_fixed, index)
        field_dhw3[start:stop] = apply_affine(to_moving, lps) - own
    return np.moveaxis(field_dhw3, 3, 0)


def read_warp(
    warp_3dhw: np.ndarray, grid: VolumeGrid, moving: VolumeGrid | None, absolute: bool, name: str
) -> np.ndarray:
    """(D, H, W, 3) displacements in LPS mm of the three volumes in a warp's file.

    grid: of the warp, which is the reference's (fixed volume's). moving: the moving volume's, InputError without.
    absolute: it holds coordinates, not displacements; GeometryError when it looks so and this is not said.
    """
    _, moving = require_both(grid, moving, f"{name}: an FSL warp")
    to_fixed, from_moving = fsl_from_ijk(grid), _lps_from_fsl(moving)
    if not absolute:
        # Coordinates rise along their own axis by one millimeter a millimeter; displacements do not.
        slopes = []
        for axis in range(3):
            rise = np.diff(warp_3dhw[axis], axis=2 - axis)
            slopes.append(float(np.median(rise)) / (to_fixed[axis, axis]) if rise.size else 0.0)
        if min(slopes) > 0.5:
            raise GeometryError(
                f"{name}: expected relative displacements, got what looks like absolute coordinates. Say so: "
                "--convention fsl-absolute."
            )
    out = np.moveaxis(warp_3dhw, 0, 3).astype(np.float64)
    for start, stop in slab_ranges(grid, _SLAB_VOXELS):
        index = grid.indices(start, stop)
        part = out[start:stop]
        if not absolute:
            part += apply_affine(to_fixed, index)
        out[start:stop] = apply_affine(from_moving, part) - grid.points(index)
    return out
