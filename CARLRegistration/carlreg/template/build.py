"""A template: the mean of images in the mean of their shapes, made anew until it stays. Each map is a file of its own.

No image is preferred: the first template is the mean in the scanner's space, and every round ends with the inverse of
the mean of all maps. Images are taken in the order of their contents, so that the order in which they are given
changes nothing, to the bit.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .. import __version__
from ..atomic import staging
from ..errors import InputError
from ..io.itk_transform import read_transform
from ..io.nifti_writing import rounded_mantissa, write_nifti_gz
from ..io.writing import write_image, write_transform
from ..paths import given_path
from ..physical import PhysicalTransform
from ..progress import Progress, ProgressRecord
from ..quality.measure import read_uncertainty
from ..registration import register_pair
from ..registration.result import RegistrationResult
from ..series.averaging import mean_image, recentered
from ..series.parts import part_of
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid
from ..text_files import is_file, read_json_object
from ..volumes import Volume, read_volume

STATE = "template.json"
TEMPLATE = "template.nii.gz"


@dataclass(frozen=True, kw_only=True)
class TemplateSettings:
    """How a template is made, beside the settings of a pair.

    rounds: each registers all images and makes the template anew. spacing_mm: of its voxels; None = the finest that
    all images have. sharpening: of each mean, 0 = none.
    Raises InputError for a value that is not allowed.
    """

    rounds: int = 4
    spacing_mm: float | None = None
    sharpening: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= 50:
            raise InputError(f"rounds: expected a whole number from 1 to 50; got {self.rounds}.")
        if self.spacing_mm is not None and not 0.01 <= self.spacing_mm <= 100:
            raise InputError(f"spacing: expected a number from 0.01 to 100 mm; got {self.spacing_mm}.")
        if not 0 <= self.sharpening <= 5:
            raise InputError(f"sharpening: expected a number from 0 to 5; got {self.sharpening}.")


@dataclass(frozen=True, eq=False)
class Member:
    """One image of a template. digest: of its voxels and its place, by which images are ordered and known again."""

    name: str
    volume: Volume
    digest: str


@dataclass(frozen=True, eq=False)
class Template:
    """image: the template. maps: its points to each member's, LPS mm, in the order of members. bounds: how far each may
    be off, (D, H, W) mm on the template, NaN where unknown; None of a map without an uncertainty."""

    image: Volume
    members: tuple[Member, ...]
    maps: tuple[PhysicalTransform, ...]
    bounds: tuple[np.ndarray | None, ...]


def members_of(volumes: Sequence[Volume], names: Sequence[str]) -> tuple[Member, ...]:
    """The images in the order of their contents. Raises InputError for fewer than two, or one given twice."""
    if len(volumes) < 2:
        raise InputError(f"template: expected at least two images, got {len(volumes)}.")
    made = [Member(name, volume, _digest(volume)) for name, volume in zip(names, volumes, strict=True)]
    made.sort(key=lambda member: member.digest)
    for one, other in itertools.pairwise(made):
        if one.digest == other.digest:
            raise InputError(f"template: {one.name} and {other.name} are the same image. Give it once.")
    return tuple(made)


def read_members(paths: Sequence[str | Path]) -> tuple[Member, ...]:
    """Read the images; they are named after their files, with so many folders as tell them apart.

    Raises InputError (all that are missing named at once) and as `members_of`.
    """
    missing = [str(path) for path in paths if not given_path(path, "image").exists()]
    if missing:
        raise InputError(f"template: {len(missing)} of {len(paths)} images are not there: {', '.join(missing)}.")
    names = _names(paths)
    return members_of([read_volume(path, name) for path, name in zip(paths, names, strict=True)], names)


def build(
    members: Sequence[Member],
    folder: str | Path,
    settings: RegistrationSettings | None = None,
    how: TemplateSettings | None = None,
    *,
    progress: Progress | None = None,
) -> Template:
    """Make the template of images in a folder, or go on with it: each map and each mean is a file that is kept.

    Raises: InputError where the folder holds a template of other images or settings, whatever a registration raises,
        ResourceError (disk full), Cancelled; what is done stays, and is not done again.
    """
    settings, how, progress = settings or RegistrationSettings(), how or TemplateSettings(), progress or Progress()
    place = given_path(folder, "--out").resolve()
    _begin(place, members, settings, how)
    image = _kept_image(place / "rounds" / "00.nii.gz", lambda: _first_mean(members, how))
    maps: list[PhysicalTransform] = [PhysicalTransform.from_affine(np.eye(4), "rigid")] * len(members)
    jobs, done = how.rounds * len(members), 0
    for number in range(1, how.rounds + 1):
        found = []
        for member, known in zip(members, maps, strict=True):
            progress.check()
            file = place / "rounds" / f"{number:02d}" / f"{member.digest[:16]}.h5"
            what = f"round {number} of {how.rounds}: {member.name}"
            progress.report(ProgressRecord("rounds", done / jobs, None, what))
            if not is_file(file):
                # The first mean is a blur: what it has in common with an image says nothing.
                inner = part_of(progress, what, done / jobs, 1 / jobs, warned=number > 1)
                initial = None if number == 1 else known.to_sitk()
                result = register_pair(image, member.volume, settings, initial_transform=initial, progress=inner)
                _write_map(result, file, image.grid, bound=number == how.rounds)
            # From the file in any case: what goes on after a stop must be the same.
            found.append(PhysicalTransform.from_sitk(read_transform(file)))
            done += 1
        maps = recentered(found, image.grid)
        made = maps
        image = _kept_image(
            place / "rounds" / f"{number:02d}.nii.gz", lambda made=made, image=image: _mean(members, made, image, how)
        )
    with staging(final=False) as stage:
        write_image(image.image, stage.file(place / TEMPLATE))
    last = place / "rounds" / f"{how.rounds:02d}"
    bounds = [_bound(last / f"{member.digest[:16]}_bound.nii.gz", image.grid) for member in members]
    return Template(replace(image, name="template"), tuple(members), tuple(maps), tuple(bounds))


def _first_mean(members: Sequence[Member], how: TemplateSettings) -> Volume:
    """The mean of the images as they lie, centers brought together, on a grid that holds them all."""
    grids = [member.volume.grid for member in members]
    center = np.mean([grid.center_lps for grid in grids], axis=0)
    spacing = how.spacing_mm or float(max(grid.spacing.min() for grid in grids))
    extent = np.max([np.abs(grid.direction) @ grid.extent_mm for grid in grids], axis=0)
    size = np.maximum(np.ceil(extent / spacing - 1e-6).astype(int), 4)
    origin = center - 0.5 * (size - 1) * spacing
    i, j, k = (int(n) for n in size)
    grid = VolumeGrid((i, j, k), np.full(3, spacing), origin, np.eye(3))
    maps = []
    for each in grids:
        shift = np.eye(4)
        shift[:3, 3] = each.center_lps - center
        maps.append(PhysicalTransform.from_affine(shift))
    volumes = [member.volume for member in members]
    return mean_image(volumes, maps, grid, scaled=True, name="template")


def _mean(members: Sequence[Member], maps: Sequence[PhysicalTransform], image: Volume, how: TemplateSettings) -> Volume:
    volumes = [member.volume for member in members]
    return mean_image(volumes, maps, image.grid, scaled=True, sharpening=how.sharpening, name="template")


def _begin(place: Path, members: Sequence[Member], settings: RegistrationSettings, how: TemplateSettings) -> None:
    """Write what the template is of, or raise InputError where the folder is of another one."""
    asked = {
        "carlreg": __version__,
        "members": [{"name": member.name, "sha256": member.digest} for member in members],
        "settings": json.loads(settings.to_json()),
        "template": asdict(how),
    }
    file = place / STATE
    if is_file(file):
        known = read_json_object(file, STATE)
        digests = [entry.get("sha256") for entry in known.get("members", [])]
        for what, same in (
            ("images", digests == [member.digest for member in members]),
            ("settings", known.get("settings") == asked["settings"]),
            (
                "options",
                {**known.get("template", {}), "rounds": 0}
                == {**json.loads(json.dumps(asked["template"])), "rounds": 0},
            ),
        ):
            if not same:
                raise InputError(f"{place}: it holds a template of other {what}. Choose another --out.")
        return
    if place.is_dir() and any(place.iterdir()):
        raise InputError(f"{place}: expected a new folder, or one of a template that was begun; it holds other files.")
    with staging(final=False) as stage:
        stage.file(file).write_text(json.dumps(asked, indent=2) + "\n", encoding="utf-8")


def _kept_image(file: Path, make) -> Volume:
    """The image in a file, made where it is not there yet."""
    if not is_file(file):
        with staging(final=False) as stage:
            write_image(make().image, stage.file(file))
    return read_volume(file, "template")


def _write_map(result: RegistrationResult, file: Path, grid: VolumeGrid, bound: bool) -> None:
    """The map and, where it is asked for and known, how far it may be off: together, or neither."""
    with staging(final=False) as stage:
        if bound and result.uncertainty is not None:
            values = rounded_mantissa(result.uncertainty.on_grid(grid, "bound"), 8)
            write_nifti_gz(stage.file(file.with_name(f"{file.stem}_bound.nii.gz")), values, grid)
        write_transform(result.transform.to_sitk(), stage.file(file))


def _bound(file: Path, grid: VolumeGrid) -> np.ndarray | None:
    return read_uncertainty(file, grid) if is_file(file) else None


def _digest(volume: Volume) -> str:
    found = hashlib.sha256(np.ascontiguousarray(sitk.GetArrayViewFromImage(volume.image)).tobytes())
    grid = volume.grid
    for part in (grid.origin_lps, grid.spacing, grid.direction, np.array(grid.size_ijk, dtype=np.float64)):
        found.update(np.ascontiguousarray(part, dtype=np.float64).tobytes())
    return found.hexdigest()


def _names(paths: Sequence[str | Path]) -> list[str]:
    """Names that are each there once; those of sub-1/T1w.nii and sub-2/T1w.nii are sub-1_T1w and sub-2_T1w."""
    parts = [Path(path).absolute().parts[1:] for path in paths]
    stems = [(*each[:-1], each[-1].split(".")[0] or "image") for each in parts]
    for depth in range(1, max(map(len, stems)) + 1):
        names = ["_".join(each[-depth:]) for each in stems]
        if len({name.lower() for name in names}) == len(names):
            return names
    return [f"{each[-1]}_{number}" for number, each in enumerate(stems, 1)]
