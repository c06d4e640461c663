"""A transform with what is known around it: the two volumes' grids, the inverse beside it, a transform before it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import SimpleITK as sitk

from ..errors import InputError
from ..paths import given_path
from ..spaces import VolumeGrid
from ..text_files import is_file, read_json_object
from ..volumes import Volume, read_volume
from .content import Sides
from .inverting import inverse_of
from .reading import read

WHICH = ("forward", "inverse", "with-initial")
_INVERSE = "inverse_transform.h5"


@dataclass(frozen=True, eq=False)
class Opened:
    """transform: points of the first side to points of the second, LPS mm. notes: what a user should know.

    near_inverse: the other way, where it is there already.
    """

    transform: sitk.Transform
    sides: Sides
    notes: tuple[str, ...] = ()
    near_inverse: sitk.Transform | None = None


def open_transform(
    path: str | os.PathLike,
    *,
    convention: str | None = None,
    direction: str = "forward",
    fixed: str | os.PathLike | Volume | None = None,
    moving: str | os.PathLike | Volume | None = None,
) -> Opened:
    """Read a transform of any format, with the grids of both volumes.

    fixed, moving: the volumes. Where they are not given: the grids that `settings.json` beside the transform holds, if
    there is one. `inverse_transform.h5` of a result folder leads from moving to fixed points.
    """
    file = given_path(path, "transform")
    given = {"fixed": fixed, "moving": moving}
    grids, notes = _grids_beside(file), []
    for side, named in given.items():
        if named is not None:
            volume = named if isinstance(named, Volume) else read_volume(named, side, uniform=True)
            grids[side] = volume.grid
            notes += volume.warnings
    backward = direction == "forward" and file.name == _INVERSE and (file.parent / "settings.json").is_file()
    ordered = ("moving", "fixed") if backward else ("fixed", "moving")
    first, second = (grids.get(side) for side in ordered)
    imported = read(path, convention=convention, direction=direction, fixed=first, moving=second)
    near = None
    beside = file.with_name("transform.h5" if backward else _INVERSE)
    if file.name in ("transform.h5", _INVERSE) and direction == "forward" and beside.is_file():
        near = read(beside).transform
    from_file, to_file = (_path_of(given[side]) for side in ordered)
    sides = Sides(ordered, (first, second), (from_file, to_file))
    return Opened(imported.transform, sides, (*imported.notes, *notes), near)


def _path_of(volume: str | os.PathLike | Volume | None) -> Path | None:
    path = volume.path if isinstance(volume, Volume) else volume
    return None if path is None else given_path(path, "volume")


def _grids_beside(file: Path) -> dict[str, VolumeGrid]:
    beside = file.resolve().parent / "settings.json"
    if not is_file(beside):
        return {}
    try:
        inputs = read_json_object(beside, "settings.json")["inputs"]
        return {
            side: VolumeGrid(grid["size"], grid["spacing"], grid["origin"], grid["direction"])
            for side, grid in inputs.items()
        }
    except (InputError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return {}  # a file of that name that is not of a result


def chosen(
    opened: Opened,
    which: str = "forward",
    *,
    initial: sitk.Transform | None = None,
    check: Callable[[], None] | None = None,
) -> Opened:
    """The transform itself, its inverse, or it with the initial transform after it.

    initial: where the moving volume had been resampled or placed by it before the registration: from points of that
    placed volume to points of the moving volume as it is.
    """
    if which not in WHICH:
        raise InputError(f"--which: expected one of {', '.join(WHICH)}; got {which!r}.")
    if (which == "with-initial") != (initial is not None):
        raise InputError("--which with-initial and --initial FILE belong together: give both, or none.")
    if which == "forward":
        return opened
    if which == "with-initial":
        both = sitk.CompositeTransform([initial, opened.transform])
        return replace(
            opened, transform=both, near_inverse=None, notes=(*opened.notes, "the initial transform acts last")
        )
    if opened.near_inverse is not None:
        note = "the inverse that the registration wrote"
        return Opened(opened.near_inverse, opened.sides.swapped(), (*opened.notes, note), opened.transform)
    inverse = inverse_of(opened.transform, *opened.sides.grids, check=check)
    error = inverse.report["error_mm"]["max"]
    note = f"inverted numerically; there and back again {error or 0.0:.3g} mm off at most where it could be inverted"
    if inverse.report["not_inverted_percent"]:
        note += f"; {inverse.report['not_inverted_percent']:.3g} % of the volume could not be inverted"
    return Opened(inverse.transform, opened.sides.swapped(), (*opened.notes, note), opened.transform)


def compose(transforms: Sequence[sitk.Transform]) -> sitk.Transform:
    """One transform that takes points through all of these, the first one first."""
    if not transforms:
        raise InputError("Expected at least one transform, got none.")
    return sitk.CompositeTransform(list(transforms)[::-1])
