"""Where things are: voxel grids in patient space, and LPS <-> RAS. NumPy only."""

from .grid import VolumeGrid, lps_from_ras

__all__ = ["VolumeGrid", "lps_from_ras"]
