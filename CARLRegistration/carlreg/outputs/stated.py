"""What a written result says of its own uncertainty, for those who go on from it."""

from __future__ import annotations

import contextlib
import json
import os

from ..paths import given_path
from ..physical import StatedBound
from ..physical.uncertainty import QUANTITIES
from ..quality.measure import read_uncertainty
from ..spaces import VolumeGrid
from .write import UNCERTAINTY


def recorded_uncertainty(
    result: str | os.PathLike, fixed_grid: VolumeGrid, file: str | os.PathLike | None = None
) -> StatedBound | None:
    """The bound of a result folder at the fixed voxels, or that of a file; None where neither states one.

    Raises InputError for a file that is no image, GeometryError for one on another grid.
    """
    place = given_path(result, "result")
    inside = place / UNCERTAINTY
    if file is None and not inside.is_file():
        return None
    meaning = QUANTITIES["bound"]
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):  # the words alone
        meaning = json.loads((place / "quality.json").read_text(encoding="utf-8"))["uncertainty"]["meaning"]
    return StatedBound(fixed_grid, read_uncertainty(inside if file is None else file, fixed_grid), str(meaning))
