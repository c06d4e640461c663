"""What a linear map may do to an anatomy: it mirrors nothing, flattens nothing, and stretches within bounds.

A stretch is a singular value: by how much the map lengthens one of three perpendicular directions. All bounds are
shares, so that they hold for bodies of any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError

#: Smallest and largest stretch between two anatomies, and how many times the largest may be the smallest.
LEAST, MOST, MOST_UNEVEN = 0.4, 2.5, 1.6
#: What may be refined where a start has another scale of its own, as when a header has wrong units: shares of it.
_OF_OTHER_SCALE = (0.75, 1.33)
#: Smallest stretch as a share of the largest below which a map flattens what it maps.
FLAT = 0.02
# Of bounds that something was moved to: what still counts as within, and as the usual scale.
_SLACK, _ROUNDING = 1e-6, 1e-3


@dataclass(frozen=True)
class Stretches:
    """Bounds: low and high of the stretches, and uneven, how many times the largest may be the smallest."""

    low: float = LEAST
    high: float = MOST
    uneven: float = MOST_UNEVEN

    @classmethod
    def around(cls, matrix: np.ndarray, usual: Stretches | None = None) -> Stretches:
        """The bounds for maps that are refined from a 3 x 3 or 4 x 4 one: the usual ones (None: those of any anatomy),
        or wide enough for this one itself."""
        usual = usual or cls()
        linear = np.asarray(matrix)[:3, :3]
        found = np.linalg.svd(linear, compute_uv=False)
        scale = float(np.prod(found)) ** (1 / 3)
        if np.linalg.det(linear) <= 0 or found[-1] < FLAT * found[0]:
            return usual
        alike = usual.low * (1 - _ROUNDING) <= scale <= usual.high * (1 + _ROUNDING)
        low, high = (usual.low, usual.high) if alike else (scale * share for share in _OF_OTHER_SCALE)
        return cls(
            min(low, float(found[-1])), max(high, float(found[0])), max(usual.uneven, float(found[0] / found[-1]))
        )

    def hold(self, matrix: np.ndarray) -> bool:
        """True for a map that does not mirror and whose stretches are within the bounds."""
        linear = np.asarray(matrix)[:3, :3]
        found = np.linalg.svd(linear, compute_uv=False)
        within = self.low * (1 - _SLACK) <= found[-1] and found[0] <= self.high * (1 + _SLACK)
        return bool(within and found[0] <= self.uneven * found[-1] * (1 + _SLACK) and np.linalg.det(linear) > 0)

    def nearest(self, linear: np.ndarray) -> np.ndarray:
        """The 3 x 3 map within the bounds that is nearest to one: its rotation kept, its stretches moved.

        A mirroring one loses its mirroring along the direction that it stretches least.
        """
        u, found, vt = np.linalg.svd(linear)
        if np.linalg.det(u @ vt) < 0:
            u[:, 2] *= -1
            found[2] = self.low
        found = np.clip(found, self.low, self.high)
        return u @ np.diag(np.maximum(found, found.max() / self.uneven)) @ vt


def nearest_sound(matrix: np.ndarray, center: np.ndarray, bounds: Stretches | None = None) -> np.ndarray:
    """The 4 x 4 map itself where it neither mirrors nor flattens, else the nearest within the usual bounds.

    center: a point that both map to the same place. bounds: those within which it must be; None: `Stretches.around` it.
    """
    bounds = bounds or Stretches.around(matrix)
    if bounds.hold(matrix):
        return matrix
    sound = matrix.copy()
    sound[:3, :3] = bounds.nearest(matrix[:3, :3])
    sound[:3, 3] += (matrix[:3, :3] - sound[:3, :3]) @ center
    return sound


def check_sound(matrix: np.ndarray, name: str) -> None:
    """Refuse a 3 x 3 or 4 x 4 map that mirrors or flattens what it maps. Raises InputError, with `name` in front."""
    linear = np.asarray(matrix, dtype=np.float64)[:3, :3]
    if not np.isfinite(linear).all():
        raise InputError(f"{name}: expected finite numbers where the fixed volume lies, got others.")
    found = np.linalg.svd(linear, compute_uv=False)
    if not found[-1] > FLAT * found[0]:
        shares = " x ".join(f"{stretch:.3g}" for stretch in found)
        raise InputError(
            f"{name}: expected a map that keeps the body in three dimensions, got one that flattens it (it stretches "
            f"by {shares}). Check which transform this is, and its file."
        )
    if np.linalg.det(linear) < 0:
        raise InputError(
            f"{name}: expected a map that keeps left and right apart, got one that mirrors (determinant "
            f"{np.linalg.det(linear):.3g}). If a volume's orientation is wrong, correct the volume; no result mirrors."
        )
