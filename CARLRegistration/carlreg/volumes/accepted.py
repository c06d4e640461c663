"""What a command takes: kinds of images, and lengths that a registration can work with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import GeometryError
from ..io.checks import MIN_VOXELS_PER_AXIS, check_kind
from ..spaces import VolumeGrid
from .memory import require_memory

# From atoms to continents (mm). Beyond, squares and volumes leave the range of float32.
_SHORTEST, _LONGEST = 1e-7, 1e7
# Real slices are up to some hundred times as thick as their pixels are wide.
_MOST_ANISOTROPIC = 1000.0
# Files and networks hold positions in float32: farther out than so many voxels, neighbors can hardly be told apart.
_FARTHEST_VOXELS = 1e6


@dataclass(frozen=True)
class Accepted:
    """frames: a fourth axis, as in time series. components: several values per voxel, as in colors and vectors.
    thin: fewer voxels along an axis than a registration needs, as in coarse fields.
    """

    frames: bool = False
    components: bool = False
    thin: bool = False

    def check(self, size: tuple[int, ...], components: int, bytes_per_value: int, name: str, kept: float = 2.0) -> None:
        """Raise InputError for another kind of image, NotEnoughMemory for one too large; before its voxels are read.

        kept: how many copies of the voxels are in memory while they are read.
        """
        is_sequence = self.frames and components == 1 and len(size) > 3 and math.prod(size[4:]) == 1
        shown = size[:3] if is_sequence else size
        if self.thin:
            shown = tuple(max(n, MIN_VOXELS_PER_AXIS) if axis < 3 else n for axis, n in enumerate(shown))
        check_kind(shown, 1 if self.components else components, name)
        values = math.prod(size) * components
        require_memory(kept * values * bytes_per_value / 2**20, f"reading {name}", "Shrink or crop the volume first.")


SCALAR_VOLUME = Accepted()
ANY_IMAGE = Accepted(frames=True, components=True)
FIELD = Accepted(components=True, thin=True)


def check_lengths(grid: VolumeGrid, name: str) -> None:
    """Raise GeometryError for voxels, or a place, that no image has and no arithmetic bears."""
    spacing = " x ".join(f"{s:.3g}" for s in grid.spacing)
    if grid.spacing.min() < _SHORTEST or grid.spacing.max() > _LONGEST:
        raise GeometryError(
            f"{name}: expected voxels of {_SHORTEST:g} to {_LONGEST:g} mm, got {spacing} mm. Correct the voxel size in "
            "its header."
        )
    if grid.spacing.max() > _MOST_ANISOTROPIC * grid.spacing.min():
        raise GeometryError(
            f"{name}: expected voxels at most {_MOST_ANISOTROPIC:g} times as long as wide, got {spacing} mm. Correct "
            "the voxel size in its header."
        )
    far = np.abs(grid.corners_lps()).max()
    if not far <= _FARTHEST_VOXELS * grid.spacing.min():
        raise GeometryError(
            f"{name}: lies {far:.3g} mm away from the origin of space, with voxels of {spacing} mm: too far to tell "
            "them apart. Correct the origin in its header."
        )
