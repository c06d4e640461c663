"""The rounds of a template in files: each map of the template to an image is one, so that any process can make it.

rounds/NN.nii.gz       the template after round NN; 00 is the first mean
rounds/NN/DIGEST.h5    its map to one image, and DIGEST_bound.nii.gz, how far that may be off
rounds/NN_back.h5      the inverse of the mean of a round's maps, which come after it
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..atomic import staging
from ..errors import InputError
from ..io.itk_transform import read_transform
from ..io.nifti_writing import rounded_mantissa, write_nifti_gz
from ..io.writing import write_image, write_transform
from ..physical import PhysicalTransform
from ..progress import Progress
from ..registration import register_pair
from ..registration.result import RegistrationResult
from ..series.averaging import after
from ..settings import RegistrationSettings
from ..spaces import VolumeGrid
from ..text_files import is_file, read_json_object
from ..volumes import Volume, read_volume

STATE = "template.json"
_SHOWN = 16  # letters of a digest that name a file


@dataclass(frozen=True)
class Rounds:
    """Where the files of a template's rounds are."""

    place: Path

    def folder(self, number: int) -> Path:
        return self.place / "rounds" / f"{number:02d}"

    def image(self, number: int) -> Path:
        return self.place / "rounds" / f"{number:02d}.nii.gz"

    def back(self, number: int) -> Path:
        return self.place / "rounds" / f"{number:02d}_back.h5"

    def map(self, number: int, digest: str) -> Path:
        return self.folder(number) / f"{digest[:_SHOWN]}.h5"

    def bound(self, number: int, digest: str) -> Path:
        return self.folder(number) / f"{digest[:_SHOWN]}_bound.nii.gz"


def make_map(
    rounds: Rounds,
    number: int,
    digest: str,
    image: Volume,
    volume: Volume,
    settings: RegistrationSettings,
    last: bool,
    progress: Progress,
) -> None:
    """Register the template of the round before to an image, from where its map then was, and keep the map.

    last: whether it is the last round, whose maps' bounds are kept. Raises what a registration raises; ResourceError.
    """
    initial = None
    if number > 1:
        before = read_map(rounds.map(number - 1, digest))
        initial = after(read_map(rounds.back(number - 1)), before, image.grid).to_sitk()
    result = register_pair(image, volume, settings, initial_transform=initial, progress=progress)
    _write_map(result, rounds.map(number, digest), rounds.bound(number, digest) if last else None, image.grid)


def make_named_map(place: Path, name: str, progress: Progress) -> None:
    """Make the map called `ROUND/DIGEST`, of the template that was begun in a folder, from its files alone.

    Raises InputError where the folder says nothing of it, or its image is another one now; else as `make_map`.
    """
    rounds = Rounds(place)
    state = read_json_object(place / STATE, STATE)
    number, _, digest = name.partition("/")
    try:
        file = next(each["file"] for each in state["members"] if each["sha256"] == digest)
        settings, last = RegistrationSettings.from_dict(state["settings"]), state["template"]["rounds"]
    except (KeyError, TypeError, StopIteration) as error:
        raise InputError(f"{STATE}: expected what carlreg wrote, with {name}; it is damaged.") from error
    volume = read_volume(file, Path(file).name)
    if volume.digest() != digest:
        raise InputError(f"{file}: expected the image with which the template was begun; it has changed.")
    image = read_volume(rounds.image(int(number) - 1), "template")
    make_map(rounds, int(number), digest, image, volume, settings, int(number) == last, progress)


def read_map(file: Path) -> PhysicalTransform:
    """A map as it was kept. From its file in any case: what goes on after a stop must be the same."""
    return PhysicalTransform.from_sitk(read_transform(file))


def kept_map(file: Path, make: Callable[[], PhysicalTransform]) -> PhysicalTransform:
    """The map in a file, made where it is not there yet."""
    if not is_file(file):
        with staging(final=False) as stage:
            write_transform(make().to_sitk(), stage.file(file))
    return read_map(file)


def kept_image(file: Path, make: Callable[[], Volume]) -> Volume:
    """The image in a file, made where it is not there yet."""
    if not is_file(file):
        with staging(final=False) as stage:
            write_image(make().image, stage.file(file))
    return read_volume(file, "template")


def _write_map(result: RegistrationResult, file: Path, bound: Path | None, grid: VolumeGrid) -> None:
    """The map and, where it is asked for and known, how far it may be off: together, or neither."""
    with staging(final=False) as stage:
        if bound is not None and result.uncertainty is not None:
            values = rounded_mantissa(result.uncertainty.on_grid(grid, "bound"), 8)
            write_nifti_gz(stage.file(bound), values, grid)
        write_transform(result.transform.to_sitk(), stage.file(file))
