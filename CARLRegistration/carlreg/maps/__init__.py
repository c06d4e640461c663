"""Coordinate maps on tensors. `grid_sample` and its [-1, 1] x, y, z order live only in this folder."""

from .coordinate_map import Affine, CompositeMap, CoordinateMap, DisplacementMap, SumMap
from .sampling import identity_map, per_axis, sample

__all__ = ["Affine", "CompositeMap", "CoordinateMap", "DisplacementMap", "SumMap", "identity_map", "per_axis", "sample"]
