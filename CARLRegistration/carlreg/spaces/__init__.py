"""Where things are: voxel grids in patient space, and LPS <-> RAS. NumPy only (images on demand)."""

from .fit import fit_linear, nearest_linear
from .grid import VolumeGrid, apply_affine, lps_from_ras
from .splines import cubic_bspline
from .stretch import Stretches, check_sound, nearest_sound
from .turns import euler_degrees, rotation_vector

__all__ = [
    "Stretches",
    "VolumeGrid",
    "apply_affine",
    "check_sound",
    "cubic_bspline",
    "euler_degrees",
    "fit_linear",
    "lps_from_ras",
    "nearest_linear",
    "nearest_sound",
    "rotation_vector",
]
