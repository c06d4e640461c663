"""What a report is about: a result folder and its two images, read, checked, and reduced to the size of pictures."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ...errors import GeometryError, InputError
from ...maps.exchange import array_from_tensor, tensor_from_array
from ...paths import given_path
from ...physical import PhysicalTransform
from ...physical.interpolate import inside_index
from ...preprocess import without_filling
from ...quality.measure import affine_resampled, read_uncertainty, subsampled
from ...quality.metrics import body_of
from ...quality.verdict import verdict
from ...spaces import VolumeGrid
from ...text_files import exists
from ...volumes import Volume, read_transform, read_volume, require_memory
from ...volumes.volume import read_file
from .recorded import read_recorded

MAX_SIZE = 256  # pictures are drawn from every n-th voxel of larger volumes


@dataclass
class ReportCase:
    """Images on one lattice (every n-th voxel of the fixed grid) and the figures.

    moving_before: as aligned before registration. uncertainty_mm: NaN where unknown; None without it.
    seen_before, seen_after: 1 where the moving image has data. common: the body where it has them afterwards.
    names: what the images are called, by side; None: not to be told. grids: of the whole images.
    """

    quality: dict
    settings: dict
    fixed: sitk.Image
    moving_before: sitk.Image
    warped: sitk.Image
    jacobian: sitk.Image
    uncertainty_mm: sitk.Image | None
    seen_before: sitk.Image
    seen_after: sitk.Image
    common: np.ndarray
    names: dict[str, str | None]
    grids: dict[str, VolumeGrid]


def read_case(
    folder: str | os.PathLike,
    fixed: str | os.PathLike | Volume | None = None,
    moving: str | os.PathLike | Volume | None = None,
    names: bool = True,
) -> ReportCase:
    """Read a result folder of `carlreg register`.

    fixed, moving: the images, where they are no longer at the place that settings.json tells.
    Raises InputError: no result folder, files missing or damaged, images not found; GeometryError: other images.
    """
    folder = given_path(folder, "result folder")
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a result folder of `carlreg register`, found none. Check the path.")
    quality, settings = read_recorded(folder)
    if not quality.get("verdict"):
        quality["verdict"] = verdict(quality)
    volumes = {
        side: _image(folder, side, settings["inputs"][side], given)
        for side, given in (("fixed", fixed), ("moving", moving))
    }
    grid = volumes["fixed"].grid
    step = max(1, math.ceil(max(grid.size_ijk) / MAX_SIZE))
    lattice = subsampled(grid, step)
    before_lps = np.eye(4)
    if (quality.get("notes") or {}).get("before") == "centers aligned":
        before_lps[:3, 3] = volumes["moving"].grid.center_lps - grid.center_lps
    moving_tensor = tensor_from_array(volumes["moving"].array)[None]
    before, seen_before = affine_resampled(before_lps, lattice, volumes["moving"].grid, moving_tensor)
    del moving_tensor
    thin = {"fixed": volumes["fixed"].array[::step, ::step, ::step]}
    for name in ("warped", "jacobian", "uncertainty"):
        path = folder / f"{name}.nii.gz"
        if path.is_file() or name != "uncertainty":
            reader = read_uncertainty if name == "uncertainty" else _on_fixed
            thin[name] = _thinned(reader(path, grid), step, keep_lowest=name == "jacobian")
    body = body_of(without_filling(volumes["fixed"]).array[::step, ::step, ::step])  # as it was measured
    seen_after = _seen(folder / "transform.h5", lattice, volumes["moving"].grid)
    common = body & seen_after
    return ReportCase(
        quality,
        settings,
        _as_image(thin["fixed"], lattice),
        _as_image(before, lattice),
        _as_image(thin["warped"], lattice),
        _as_image(thin["jacobian"], lattice),
        _as_image(thin["uncertainty"], lattice) if "uncertainty" in thin else None,
        _as_image(seen_before, lattice),
        _as_image(seen_after, lattice),
        common if common.sum() > 0.05 * body.sum() else body,
        {side: _name(volumes[side], settings["inputs"][side]) if names else None for side in volumes},
        {side: volume.grid for side, volume in volumes.items()},
    )


def recorded_images(
    folder: str | os.PathLike, fixed: str | os.PathLike | None = None, moving: str | os.PathLike | None = None
) -> dict[str, Volume]:
    """The fixed and the moving image of a result folder, by side; arguments and errors as of `read_case`."""
    place = given_path(folder, "result folder")
    _, settings = read_recorded(place)
    return {
        side: _image(place, side, settings["inputs"][side], given)
        for side, given in (("fixed", fixed), ("moving", moving))
    }


def _image(folder: Path, side: str, recorded: dict, given: str | os.PathLike | Volume | None) -> Volume:
    if isinstance(given, Volume):
        return given
    path = given_path(given, f"{side} image") if given is not None else _find(folder, side, recorded)
    volume = read_volume(path, f"{side} image", frame_group=recorded.get("dicom_frame_group"))
    try:
        expected = VolumeGrid(recorded["size"], recorded["spacing"], recorded["origin"], recorded["direction"])
    except GeometryError as error:
        raise GeometryError(f"{folder / 'settings.json'}: inputs.{side}: {error}") from error
    if not volume.grid.same_as(expected, tolerance=0.01):
        raise GeometryError(
            f"{volume.name}: expected the {side} image of this result ({_shown(expected)}), got another "
            f"({_shown(volume.grid)}, or elsewhere in space). Name the right file: --{side} FILE."
        )
    return volume


def _find(folder: Path, side: str, recorded: dict) -> Path:
    """Where the run found the image, or a file of its name near the results."""
    places = []
    if recorded.get("relative_path"):
        places.append(folder / recorded["relative_path"])
    names = [recorded["file"]] if recorded.get("file") else []
    for place in (folder / "input", folder, folder.resolve().parent, Path()):
        places += [place / name for name in names]
    if not names:
        places.append(folder / "input" / f"{side}.nii.gz")  # the demo's generated pair
    for place in places:
        if exists(place):
            return place
    raise InputError(
        f"{side} image{f' {names[0]}' if names else ''}: expected it where the registration read it; it is not there "
        f"any more. Name it: --{side} FILE."
    )


def _seen(path: Path, lattice: VolumeGrid, moving_grid: VolumeGrid) -> np.ndarray:
    """Where the transform ends inside the moving image."""
    transform = PhysicalTransform.from_sitk(read_transform(path, memory=require_memory))
    seen = np.empty(lattice.shape_dhw, dtype=bool)

    def work(start: int, stop: int, displacement) -> None:
        index = transform.positions(lattice, start, stop, displacement, moving_grid.ijk_from_lps)
        seen[start:stop] = array_from_tensor(inside_index(index, moving_grid.size_ijk))

    for _ in transform.over_slabs(lattice, work):
        pass
    return seen


def _on_fixed(path: Path, grid: VolumeGrid) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"{path.parent}: expected {path.name} in the result folder; it is missing. Register again.")
    image = read_file(path, path.name)[0]
    if not VolumeGrid.of(image).same_as(grid, tolerance=0.01):
        raise GeometryError(f"{path.name}: expected the fixed image's grid, got another. Register again.")
    return sitk.GetArrayFromImage(image).astype(np.float32, copy=False)


def _thinned(array: np.ndarray, step: int, keep_lowest: bool) -> np.ndarray:
    """Every n-th voxel; of the Jacobian the lowest of each cell where it folds, so that no fold is skipped."""
    thin = np.ascontiguousarray(array[::step, ::step, ::step])
    if step > 1 and keep_lowest:
        for k, j, i in np.argwhere(array <= 0) // step:
            thin[k, j, i] = min(thin[k, j, i], 0.0)
    return thin


def _as_image(array: np.ndarray, grid: VolumeGrid) -> sitk.Image:
    return grid.image(array.astype(np.float32, copy=False))


def _name(volume: Volume, recorded: dict) -> str | None:
    """The file's name; of DICOM nothing, because folders are often called by the patient's name."""
    if volume.path is None or volume.dicom or Path(volume.path).is_dir():
        return None
    return recorded.get("file") or Path(volume.path).name


def _shown(grid: VolumeGrid) -> str:
    return " x ".join(map(str, grid.size_ijk)) + " voxels of " + " x ".join(f"{s:.3g}" for s in grid.spacing) + " mm"
