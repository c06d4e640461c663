"""The map in patient space (LPS mm): transform, delivery on a grid, inverse, Jacobian, repair of folds."""

from .delivery import deliver
from .inverse import invert
from .jacobian import jacobian_determinant
from .repair import repair_folds
from .transform import PhysicalTransform

__all__ = ["PhysicalTransform", "deliver", "invert", "jacobian_determinant", "repair_folds"]
