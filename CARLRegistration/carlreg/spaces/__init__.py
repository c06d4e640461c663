"""Where things are: voxel grids in patient space, and LPS <-> RAS. NumPy only (images on demand)."""

from .grid import VolumeGrid, apply_affine, lps_from_ras

__all__ = ["VolumeGrid", "apply_affine", "lps_from_ras"]
