"""Label maps of one's own, read once and kept: shapes of real anatomy for the generator to paint."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import InputError
from ..paths import given_path
from ..volumes import read_labels, read_volume
from .anatomies.label_map import LabelMap
from .data_settings import SyntheticSettings
from .images import SUFFIXES

_KEY = "data.synthetic.label_maps"
_MOST = 255  # structures, so that a voxel takes a byte
_KEPT = 64  # label maps in memory


def list_label_maps(source: str) -> list[Path]:
    """The label maps of a folder in the order of their names, or the one file. Raises InputError."""
    place = given_path(source, _KEY)
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise InputError(f"{_KEY}: {place} does not exist. Check the path.")
    found = sorted(file for file in place.iterdir() if file.name.lower().endswith(SUFFIXES))
    if not found:
        raise InputError(f"{_KEY}: expected label maps ({', '.join(SUFFIXES)}) in {place}, got none.")
    return found


@lru_cache(maxsize=_KEPT)
def read_label_map(path: Path) -> LabelMap:
    """Read and turn so that its axes run as the canvas' do, cut to its content. Raises InputError, GeometryError."""
    name = f"{_KEY} ({path.name})"
    labels = sitk.DICOMOrient(read_labels(path, read_volume(path, _KEY), _KEY), "LPI")
    array = sitk.GetArrayViewFromImage(labels)
    filled = [np.flatnonzero((array != 0).any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
    array = array[tuple(slice(at[0], at[-1] + 1) for at in filled)]
    codes, index = np.unique(array, return_inverse=True)
    codes = codes.tolist()
    if len(codes) - (0 in codes) < 2:
        raise InputError(f"{name}: expected two structures or more, got one. What has one label alone shows nothing.")
    if len(codes) > _MOST:
        raise InputError(f"{name}: expected at most {_MOST} structures, got {len(codes)}. Is it an image?")
    if 0 not in codes:
        codes, index = [0, *codes], index + 1
    index = torch.from_numpy(index.reshape(array.shape).astype(np.uint8))
    spacing = tuple(reversed(labels.GetSpacing()))
    return LabelMap(index, tuple(codes), spacing)


def check_label_maps(settings: SyntheticSettings) -> None:
    """Read all label maps that a run will paint, so that what is wrong with one is said before the run begins.

    Raises InputError, GeometryError.
    """
    if settings.labels:
        for file in list_label_maps(settings.label_maps):
            read_label_map(file)
