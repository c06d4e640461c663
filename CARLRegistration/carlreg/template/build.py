"""A template: the mean of images in the mean of their shapes, made anew until it stays. Each map is a file of its own.

No image is preferred: the first template is the mean in the scanner's space, and every round ends with the inverse of
the mean of all maps. Images are taken in the order of their contents, so that the order in which they are given
changes nothing, to the bit.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from .. import __version__
from ..atomic import staging
from ..errors import InputError
from ..io.writing import write_image
from ..leftovers import sweep
from ..paths import given_path
from ..physical import PhysicalTransform
from ..progress import Progress
from ..quality.measure import read_uncertainty
from ..series.averaging import after, mean_image, mean_inverse
from ..series.parts import part_of
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid
from ..text_files import is_file, read_json_object
from ..volumes import Volume, read_volume
from .rounds import STATE, Rounds, kept_image, kept_map, make_map, read_map

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
    made = [Member(name, volume, volume.digest()) for name, volume in zip(names, volumes, strict=True)]
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


#: Makes the maps of a round (its number) to these members, in whatever processes; each becomes its file.
MakeMaps = Callable[[Rounds, int, Sequence[Member]], None]


def build(
    members: Sequence[Member],
    folder: str | Path,
    settings: RegistrationSettings | None = None,
    how: TemplateSettings | None = None,
    *,
    make_maps: MakeMaps | None = None,
    progress: Progress | None = None,
) -> Template:
    """Make the template of images in a folder, or go on with it: each map and each mean is a file that is kept.

    make_maps: called with what a round lacks; None = they are made here, one after the other. What becomes of them is
        the same, to the bit, with one number of threads (`settings.threads`), which a folder keeps.
    Raises: InputError where the folder holds a template of other images or settings, whatever a registration raises,
        ResourceError (disk full), Cancelled; what is done stays, and is not done again.
    """
    how, progress = how or TemplateSettings(), progress or Progress()
    place = given_path(folder, "--out").resolve()
    settings = _begin(place, members, settings or RegistrationSettings(), how)
    rounds = Rounds(place)
    folders = [place / "rounds", *(rounds.folder(number) for number in range(1, how.rounds + 1))]
    sweep(folders)
    image = kept_image(rounds.image(0), lambda: _first_mean(members, how))
    maps: list[PhysicalTransform] = []
    for number in range(1, how.rounds + 1):
        missing = [member for member in members if not is_file(rounds.map(number, member.digest))]
        if make_maps is not None and missing:
            make_maps(rounds, number, missing)
        for member in missing if make_maps is None else ():
            progress.check()
            done = (number - 1) * len(members) + members.index(member)
            what, share = f"round {number} of {how.rounds}: {member.name}", 1 / (how.rounds * len(members))
            # The first mean is a blur: what it has in common with an image says nothing.
            inner = part_of(progress, what, done * share, share, warned=number > 1)
            make_map(rounds, number, member.digest, image, member.volume, settings, number == how.rounds, inner)
        found = [read_map(rounds.map(number, member.digest)) for member in members]
        grid = image.grid
        back = kept_map(rounds.back(number), lambda found=found, grid=grid: mean_inverse(found, grid))
        if number == how.rounds or not is_file(rounds.image(number)):
            maps = [after(back, each, grid) for each in found]
        made = maps
        image = kept_image(rounds.image(number), lambda made=made, image=image: _mean(members, made, image, how))
    with staging(final=False) as stage:
        write_image(image.image, stage.file(place / TEMPLATE))
    sweep(folders)
    bounds = [_bound(rounds.bound(how.rounds, member.digest), image.grid) for member in members]
    return Template(replace(image, name="template"), tuple(members), tuple(maps), tuple(bounds))


def first_grid(members: Sequence[Member], how: TemplateSettings) -> VolumeGrid:
    """The template's voxels: isotropic, along L, P, S, over the largest image, in the middle of all."""
    grids = [member.volume.grid for member in members]
    center = np.mean([grid.center_lps for grid in grids], axis=0)
    spacing = how.spacing_mm or float(max(grid.spacing.min() for grid in grids))
    extent = np.max([np.abs(grid.direction) @ grid.extent_mm for grid in grids], axis=0)
    size = np.maximum(np.ceil(extent / spacing - 1e-6).astype(int), 4)
    i, j, k = (int(n) for n in size)
    return VolumeGrid((i, j, k), np.full(3, spacing), center - 0.5 * (size - 1) * spacing, np.eye(3))


def _first_mean(members: Sequence[Member], how: TemplateSettings) -> Volume:
    """The mean of the images as they lie, centers brought together, on a grid that holds them all."""
    grids, grid, maps = [member.volume.grid for member in members], first_grid(members, how), []
    center = np.mean([each.center_lps for each in grids], axis=0)
    for each in grids:
        shift = np.eye(4)
        shift[:3, 3] = each.center_lps - center
        maps.append(PhysicalTransform.from_affine(shift))
    volumes = [member.volume for member in members]
    return mean_image(volumes, maps, grid, scaled=True, name="template")


def _mean(members: Sequence[Member], maps: Sequence[PhysicalTransform], image: Volume, how: TemplateSettings) -> Volume:
    volumes = [member.volume for member in members]
    return mean_image(volumes, maps, image.grid, scaled=True, sharpening=how.sharpening, name="template")


def begun_threads(folder: str | Path) -> int | None:
    """With how many threads a template was begun; None where there is none, or it does not say."""
    file = given_path(folder, "--out").resolve() / STATE
    settings = read_json_object(file, STATE).get("settings", {}) if is_file(file) else {}
    return settings.get("threads") if isinstance(settings, dict) else None


def _begin(
    place: Path, members: Sequence[Member], settings: RegistrationSettings, how: TemplateSettings
) -> RegistrationSettings:
    """Write what the template is of, or raise InputError where the folder is of another one.

    Returns the settings with the number of threads with which it was begun.
    """
    file = place / STATE
    if not settings.threads:
        settings = replace(settings, threads=begun_threads(place))
    asked = {
        "carlreg": __version__,
        "members": [{"name": member.name, "sha256": member.digest, "file": _file(member.volume)} for member in members],
        "settings": json.loads(settings.to_json()),
        "template": json.loads(json.dumps(asdict(how))),
    }
    if is_file(file):
        known = read_json_object(file, STATE)
        digests = [entry.get("sha256") for entry in known.get("members", [])]
        for what, same in (
            ("images", digests == [member.digest for member in members]),
            ("settings", known.get("settings") == asked["settings"]),
            ("options", {**known.get("template", {}), "rounds": 0} == {**asked["template"], "rounds": 0}),
        ):
            if not same:
                raise InputError(f"{place}: it holds a template of other {what}. Choose another --out.")
    elif place.is_dir() and any(not path.name.startswith(".") for path in place.iterdir()):
        raise InputError(f"{place}: expected a new folder, or one of a template that was begun; it holds other files.")
    with staging(final=False) as stage:
        stage.file(file).write_text(json.dumps(asked, indent=2) + "\n", encoding="utf-8")
    return settings


def _file(volume: Volume) -> str | None:
    return None if volume.path is None else str(Path(volume.path).absolute())


def _bound(file: Path, grid: VolumeGrid) -> np.ndarray | None:
    return read_uncertainty(file, grid) if is_file(file) else None


def _names(paths: Sequence[str | Path]) -> list[str]:
    """Names that are each there once; those of sub-1/T1w.nii and sub-2/T1w.nii are sub-1_T1w and sub-2_T1w."""
    parts = [Path(path).absolute().parts[1:] for path in paths]
    stems = [(*each[:-1], each[-1].split(".")[0] or "image") for each in parts]
    for depth in range(1, max(map(len, stems)) + 1):
        names = ["_".join(each[-depth:]) for each in stems]
        if len({name.lower() for name in names}) == len(names):
            return names
    return [f"{each[-1]}_{number}" for number, each in enumerate(stems, 1)]
