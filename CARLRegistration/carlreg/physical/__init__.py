"""The map in patient space (LPS mm): transform, delivery on a grid, inverse, Jacobian, repair of folds."""

from .delivery import to_fixed_grid
from .inverse import FormerInverse, invert
from .jacobian import jacobian_determinant
from .repair import repair_folds
from .transform import PhysicalTransform
from .uncertainty import StatedBound, Uncertainty

__all__ = [
    "FormerInverse",
    "PhysicalTransform",
    "StatedBound",
    "Uncertainty",
    "to_fixed_grid",
    "invert",
    "jacobian_determinant",
    "repair_folds",
]
