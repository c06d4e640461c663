"""Coordinate maps on tensors. `grid_sample` and its [-1, 1] x, y, z order live only in this folder."""

from .sampling import identity_map, sample

__all__ = ["identity_map", "sample"]
