"""The two volumes of a registration: read, and prepared."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch

from .. import __version__
from ..errors import InputError
from ..kept import Kept, kept
from ..losses.registry import similarity_named
from ..optimize.candidates import AffineCandidate
from ..physical.workers import in_threads
from ..preprocess import PreparedVolume, field_of_view, prepare, without_filling
from ..settings import RegistrationSettings
from ..volumes import Volume, dicom_references, read_volume, volume_from_image

_BOTH_AT_ONCE = 2**26  # voxels; of larger pairs one side after the other, since each takes memory for a while


@dataclass(frozen=True)
class PreparedPair:
    """fixed, moving: normalized, with their masks. fixed_view, moving_view: what they were made from, without padding
    around the scanner's field of view."""

    fixed: PreparedVolume
    moving: PreparedVolume
    fixed_view: Volume
    moving_view: Volume

    def exchanged(self) -> PreparedPair:
        """The pair with its sides exchanged."""
        return PreparedPair(self.moving, self.fixed, self.moving_view, self.fixed_view)

    def modality_warnings(self, similarity: str) -> list[str]:
        """What to say when the two look like different kinds of scans."""
        fixed, moving = self.fixed.modality, self.moving.modality
        if fixed == moving or similarity_named(similarity).descriptors:
            return []
        return [
            f"The fixed volume looks like {fixed.upper()}, the moving one like {moving.upper()}: for different "
            "kinds of scans choose the similarity MIND (--similarity mind)."
        ]


def as_volume(given: sitk.Image | str | os.PathLike | Volume, name: str) -> Volume:
    """An image, a path or a volume as a checked volume. Raises InputError for anything else."""
    if isinstance(given, sitk.Image):
        return volume_from_image(given, name)
    if isinstance(given, (str, os.PathLike)):
        return read_volume(given, name)
    if not isinstance(given, Volume):
        raise InputError(f"{name}: expected a SimpleITK image or a path, got {type(given).__name__}.")
    return given


def dicom_info(fixed: Volume, moving: Volume) -> dict[str, dict]:
    """The identifiers of DICOM series that other programs need, by side; empty where neither volume has any."""
    found = {"fixed": dicom_references(fixed.dicom), "moving": dicom_references(moving.dicom)}
    return {"dicom": found} if any(found.values()) else {}


def info_of(
    settings: RegistrationSettings,
    device: torch.device,
    pair: PreparedPair,
    starts: list[AffineCandidate],
    fixed: Volume,
    moving: Volume,
) -> dict:
    """What the `info` of every result holds. pair: in the given order. starts: best first."""
    return {
        "version": __version__,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "seed": settings.seed,
        "fixed_modality": pair.fixed.modality,
        "moving_modality": pair.moving.modality,
        "candidates": {candidate.name: candidate.score for candidate in starts},
        **dicom_info(fixed, moving),
    }


def prepare_pair(
    fixed: Volume,
    moving: Volume,
    fixed_mask: Volume | None,
    moving_mask: Volume | None,
    settings: RegistrationSettings,
    fixed_ignore: Volume | None = None,
    moving_ignore: Volume | None = None,
) -> PreparedPair:
    """Both volumes without padding, their intensities in [0, 1]; masks leave out what is ignored.

    A process that keeps things (`kept`) gets the fixed volume's part again while its voxels, place, masks and modality
    are the same.
    """
    sides = (
        (kept(), fixed, fixed_mask, settings.fixed_modality, fixed_ignore),
        (None, moving, moving_mask, settings.moving_modality, moving_ignore),
    )
    if fixed.grid.voxel_count + moving.grid.voxel_count < _BOTH_AT_ONCE:
        (one, fixed_view), (other, moving_view) = in_threads(_side, sides)
    else:
        (one, fixed_view), (other, moving_view) = (_side(*side) for side in sides)
    return PreparedPair(one, other, fixed_view, moving_view)


def _side(
    keeper: Kept | None, volume: Volume, mask: Volume | None, modality: str, ignored: Volume | None
) -> tuple[PreparedVolume, Volume]:
    if keeper is None:
        return _prepared(volume, mask, modality, ignored)
    return _kept_prepared(keeper, volume, mask, modality, ignored)


def _prepared(
    volume: Volume, mask: Volume | None, modality: str, ignored: Volume | None
) -> tuple[PreparedVolume, Volume]:
    """A volume prepared, and what it was made from."""
    volume = without_filling(volume, modality)
    view, view_mask = field_of_view(volume, modality, mask)
    return prepare(view, modality, view_mask, _part(ignored, view)), view


def _kept_prepared(
    keeper: Kept, volume: Volume, mask: Volume | None, modality: str, ignored: Volume | None
) -> tuple[PreparedVolume, Volume]:
    key = modality, *(None if each is None else each.digest() for each in (volume, mask, ignored))

    def make() -> tuple[PreparedVolume, sitk.Image | None]:
        prepared, view = _prepared(volume, mask, modality, ignored)
        return prepared, None if view is volume else view.image

    prepared, image = keeper.get("prepared fixed", key, make)
    # A copy, since a prepared volume remembers what it was asked for; names and notes are this run's.
    return replace(prepared), volume if image is None else replace(volume, image=image)


def _part(whole: Volume | None, view: Volume) -> Volume | None:
    """What lies in a view, of a mask on the volume that the view was cut from."""
    if whole is None:
        return None
    low = np.rint(whole.grid.index(view.grid.origin_lps)).astype(int)
    i, j, k = low.tolist()
    di, dj, dk = view.grid.size_ijk
    return replace(whole, image=whole.image[i : i + di, j : j + dj, k : k + dk])
