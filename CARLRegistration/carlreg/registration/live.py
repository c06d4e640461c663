"""The map while it is optimized, for whoever watches: coarse, and composed as the one that is delivered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..physical import PhysicalTransform
from ..progress import Progress
from ..spaces import VolumeGrid

# Cells along the longest edge of what the field covers: about what a view shows of a smooth map.
_CELLS = 40


@dataclass(frozen=True, eq=False)
class LiveMap:
    """Shows the present map now and then (see `Progress.offer_map`).

    moving_from_used: 4x4, LPS mm; from the moving volume as it is worked on to the one that was given.
    """

    progress: Progress
    moving_from_used: np.ndarray = field(default_factory=lambda: np.eye(4))

    def offer(
        self, affine_lps: np.ndarray, displacement_lps: Callable[[VolumeGrid], np.ndarray], box: VolumeGrid
    ) -> None:
        """A displacement before an affine, 4x4, over a box in fixed space.

        displacement_lps: gives D x H x W x 3 mm (L, P, S) on a grid; asked only when the map is to be shown.
        """

        def coarse() -> PhysicalTransform:
            grid = coarse_grid(box)
            return PhysicalTransform(self.moving_from_used @ affine_lps, displacement_lps(grid), grid)

        self.progress.offer_map(coarse)


def coarse_grid(box: VolumeGrid) -> VolumeGrid:
    """Few nodes over a box and some room around it: at most 40 along an edge."""
    wide = box.padded(float(box.extent_mm.max()) / _CELLS)
    return wide.with_spacing(np.minimum(float(wide.extent_mm.max()) / _CELLS, wide.extent_mm / 3))
