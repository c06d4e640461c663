"""Arrays that compare two volumes: the cells of a checkerboard, and the difference."""

from __future__ import annotations

import numpy as np
from slicer.i18n import tr as _

HOUNSFIELD = "HU"
_CT_LOWEST = -500.0


def checkerCells(matrix: np.ndarray, shape, axes: np.ndarray, cell_mm: float) -> np.ndarray:
    """Bool, broadcastable to a volume (k, j, i): in every second cell of a checkerboard.

    Args: matrix: 4 x 4 of the voxels to the world. axes: 2 x 3, unit vectors along which cells alternate.
    """
    middle = matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    parity = np.zeros((1, 1, 1), dtype=np.int32)
    for axis in axes:
        steps = axis @ matrix[:3, :3] / cell_mm
        at = np.full((1, 1, 1), -float(axis @ middle) / cell_mm)
        for n, place in enumerate(((1, 1, -1), (1, -1, 1), (-1, 1, 1))):
            if abs(steps[n]) > 1e-9:  # along the others nothing changes, and the array stays small
                at = at + (steps[n] * np.arange(shape[2 - n])).reshape(place)
        parity = parity + np.floor(at).astype(np.int32)
    return parity % 2 == 1


def differenceOf(fixed: np.ndarray, warped: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, str]:
    """Warped less fixed (float32, 0 outside) and its unit: intensities of CT as they are, others in % of the range."""
    if float(fixed.min()) < _CT_LOWEST and inside.any() and float(warped[inside].min()) < _CT_LOWEST:
        difference, unit = warped - fixed.astype(np.float32), HOUNSFIELD
    else:
        difference = _percent(warped, warped[inside]) - _percent(fixed, fixed)
        unit = _("% of the range")
    return np.where(inside, difference, np.float32(0.0)).astype(np.float32), unit


def _percent(values: np.ndarray, of: np.ndarray) -> np.ndarray:
    thinned = of.reshape(-1)[:: max(1, of.size // 200_000)]
    low, high = (float(x) for x in np.percentile(thinned, (1, 99))) if thinned.size else (0.0, 1.0)
    return ((values.astype(np.float32) - low) * (100.0 / max(high - low, 1e-6))).astype(np.float32)
