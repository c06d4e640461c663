"""What a written result says of its own uncertainty and its inverse, for those who go on from it."""

from __future__ import annotations

import contextlib
import json
import os

import SimpleITK as sitk

from ..errors import CarlError
from ..paths import given_path
from ..physical import FormerInverse, PhysicalTransform, StatedBound
from ..physical.uncertainty import QUANTITIES
from ..quality.measure import read_uncertainty
from ..spaces import VolumeGrid
from ..volumes import read_transform
from .write import INVERSE, UNCERTAINTY


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


def recorded_inverse(result: str | os.PathLike, transform: sitk.Transform) -> FormerInverse | None:
    """The inverse of a result folder, whose transform is given; None for a file, or where it is not whole.

    What it is worth is left to `physical.invert`, which takes nothing from the inverse of another map.
    """
    place = given_path(result, "result")
    try:
        known = read_transform(place / INVERSE)
        quality = json.loads((place / "quality.json").read_text(encoding="utf-8"))
        lost = int(quality["notes"]["inverse_nodes_without_inverse"])
        return FormerInverse(PhysicalTransform.from_sitk(transform), PhysicalTransform.from_sitk(known), lost)
    except (CarlError, OSError, ValueError, LookupError, TypeError):
        return None
