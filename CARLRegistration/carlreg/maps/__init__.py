"""Coordinate maps on tensors. `grid_sample` and its [-1, 1] x, y, z order live only in this folder."""

from .coordinate_map import Affine, Composed, CoordinateMap, Displaced
from .sampling import identity_map, sample

__all__ = ["Affine", "Composed", "CoordinateMap", "Displaced", "identity_map", "sample"]
