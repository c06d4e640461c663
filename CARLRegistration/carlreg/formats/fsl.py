"""FSL's coordinates: scaled voxels, with the first axis flipped where the voxel-to-world matrix has a positive
determinant; and its warps, which lead from the reference's coordinates to the moving image's.

Source: FSL's FLIRT and FNIRT user guides ("What is the format of the matrix", "relative warps").
"""

from __future__ import annotations

import numpy as np

from ..errors import GeometryError, InputError
from ..io.itk_transform import check_affine
from ..physical.transform import slab_ranges
from ..spaces import VolumeGrid, apply_affine

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


def affine_from_flirt(matrix: np.ndarray, fixed: VolumeGrid, moving: VolumeGrid) -> np.ndarray:
    """4x4 fixed to moving points, LPS mm, of a FLIRT matrix (which leads from moving to fixed)."""
    check_affine(matrix)
    return _lps_from_fsl(moving) @ np.linalg.inv(matrix) @ np.linalg.inv(_lps_from_fsl(fixed))


def flirt_from_affine(affine_lps: np.ndarray, fixed: VolumeGrid, moving: VolumeGrid) -> np.ndarray:
    """The FLIRT matrix (moving to fixed, FSL's coordinates) of an affine from fixed to moving points."""
    return np.linalg.inv(np.linalg.inv(_lps_from_fsl(moving)) @ affine_lps @ _lps_from_fsl(fixed))


def relative_warp(field_dhw3: np.ndarray, fixed: VolumeGrid, moving: VolumeGrid) -> np.ndarray:
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


def displacement_from_warp(
    warp_3dhw: np.ndarray, grid: VolumeGrid, moving: VolumeGrid, absolute: bool, name: str
) -> np.ndarray:
    """(D, H, W, 3) LPS mm of an FSL warp on the reference's grid. Raises GeometryError when it looks absolute."""
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


def require_both(fixed: VolumeGrid | None, moving: VolumeGrid | None, what: str) -> tuple[VolumeGrid, VolumeGrid]:
    """Both grids, or InputError: FSL's and FreeSurfer's files mean something only beside the two volumes."""
    if fixed is None or moving is None:
        missing = " and ".join(f"--{side}" for side, grid in (("fixed", fixed), ("moving", moving)) if grid is None)
        raise InputError(f"{what} depends on the voxel grids of both volumes: name them ({missing} VOLUME).")
    return fixed, moving
