"""One's own images for training: found, read, checked, put on the training grid, and kept in memory."""

from __future__ import annotations

import csv
import io
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from ..errors import CarlError, InputError
from ..models.catalog import ModelInfo
from ..models.operators import RegistrationNetwork
from ..models.predict import renormalized
from ..paths import given_path
from ..preprocess import (
    PreparedVolume,
    common_spacing,
    field_of_view,
    network_image,
    prepare,
    resample_on_axes,
    stored_along,
    stretched_image,
)
from ..text_files import read_text
from ..volumes import available_memory_mb, read_mask, read_volume
from .data_settings import ImageSettings

log = logging.getLogger(__name__)

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


@dataclass(frozen=True)
class Entry:
    """One line of the list of images."""

    image: Path
    mask: Path | None = None
    group: str = ""


@dataclass(frozen=True)
class TrainingImage:
    """A volume on the training grid. image_b1dhw: 0..1. mask_b1dhw: where it counts, 0 or 1; None = everywhere."""

    name: str
    group: str
    image_b1dhw: Tensor
    mask_b1dhw: Tensor | None


def list_images(settings: ImageSettings) -> list[Entry]:
    """The images of a folder or CSV file, in a fixed order. Raises InputError."""
    if not settings.source:
        raise InputError("data.images.source: expected a folder with volumes, or a CSV file; nothing was given.")
    source = given_path(settings.source, "data.images.source")
    if source.is_dir():
        inside = source.rglob("*") if settings.recursive else source.iterdir()
        entries = [Entry(path) for path in sorted(inside) if path.name.lower().endswith(SUFFIXES)]
        if not entries:
            deeper = "" if settings.recursive else " (data.images.recursive = true looks into folders inside it)"
            raise InputError(f"data.images.source: expected volumes ({', '.join(SUFFIXES)}) in {source}{deeper}.")
        return entries
    if not source.is_file():
        raise InputError(f"data.images.source: {source} does not exist. Check the path.")
    return _listed(source)


def read_table(path: Path, required: tuple[str, ...], known: tuple[str, ...], what: str) -> list[dict[str, str]]:
    """Rows of a CSV file with a header line. Raises InputError for missing and unknown columns, and for no rows."""
    text = read_text(path, f"{what} ({path})", "a CSV text file")
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
        columns = [name.strip() for name in reader.fieldnames or []]
        missing, unknown = [c for c in required if c not in columns], [c for c in columns if c not in known]
        if missing or unknown or len(set(columns)) < len(columns):
            raise InputError(
                f"{what}: {path} has the columns {(', '.join(columns) or 'none')[:200]}; expected "
                f"{', '.join(required)} and, if wanted, {', '.join(c for c in known if c not in required)}, each once."
            )
        reader.fieldnames = columns
        rows = [{k: (v or "").strip() for k, v in row.items() if k} for row in reader]
    except csv.Error as error:
        raise InputError(f"{what}: {path} cannot be read as a CSV text file ({error}).") from error
    if not rows:
        raise InputError(f"{what}: {path} has no line below its header.")
    return rows


def _listed(path: Path) -> list[Entry]:
    rows = read_table(path, ("image",), ("image", "mask", "group"), "data.images.source")
    entries = []
    for number, row in enumerate(rows, 2):
        if not row["image"]:
            raise InputError(f"data.images.source: {path}, line {number}: expected a file in the column image.")
        mask = row.get("mask")
        entries.append(Entry(path.parent / row["image"], path.parent / mask if mask else None, row.get("group", "")))
    return entries


def load_images(settings: ImageSettings, network: RegistrationNetwork, info: ModelInfo | None) -> list[TrainingImage]:
    """Read all images and put them on the training grid, as prediction does: content, normalization, spacing, padding.

    All volumes get one isotropic spacing, the coarsest that any two of them would be registered with; a network with
    published weights gets them stretched to its shape. Raises InputError, GeometryError, when a volume cannot be read
    (unless they are to be skipped) or fewer than two can.
    """
    kept: list[tuple[Entry, PreparedVolume]] = []
    unreadable: list[str] = []
    for entry in list_images(settings):
        try:
            kept.append((entry, _prepared(entry, settings, info)))
        except CarlError as error:
            if settings.on_unreadable == "stop":
                raise
            unreadable.append(entry.image.name)
            log.warning("Skipped: %s", error)
    if len(kept) < 2:
        skipped = f" ({len(unreadable)} could not be read: {', '.join(unreadable[:5])})" if unreadable else ""
        raise InputError(f"data.images.source: expected at least two volumes to pair, got {len(kept)}{skipped}.")
    if network.align_corners and info is not None:
        shape = info.trained_shape_dhw
        log.info("Training grid: every volume stretched to %s voxels.", shape)
        axes = kept[0][1].grid.direction
        images = [_on_grid(entry, prepared, *stretched_image(prepared, shape, axes), axes) for entry, prepared in kept]
    else:
        spacing = settings.spacing_mm or common_spacing([prepared for _, prepared in kept], settings.edge)
        log.info("Training grid: %.3g mm.", spacing)
        images = [
            _on_grid(entry, prepared, *network_image(prepared, spacing, network.stride)) for entry, prepared in kept
        ]
    megabytes = sum(image.image_b1dhw.numel() * 4 for image in images) / 2**20
    free = available_memory_mb()
    log.info(
        "%d volumes on the training grid, %.0f MB%s.", len(images), megabytes, f" ({free:.0f} MB free)" if free else ""
    )
    return images


def _prepared(entry: Entry, settings: ImageSettings, info: ModelInfo | None) -> PreparedVolume:
    volume = read_volume(entry.image)
    mask = None if entry.mask is None else read_mask(entry.mask, volume)
    view, view_mask = field_of_view(volume, settings.modality, mask)
    found = prepare(view, settings.modality, view_mask)
    return found if info is None else renormalized(found, view, info.normalization)


def _on_grid(entry: Entry, prepared: PreparedVolume, image: Tensor, grid, direction=None) -> TrainingImage:
    """Stored along the same axes as every other image is, see `stored_along`."""
    mask = None
    if prepared.mask_dhw is not None:
        mask = (resample_on_axes(prepared.mask_dhw, prepared.grid, grid) > 0.5).float()
        mask, _ = stored_along(mask, grid, direction)
    return TrainingImage(entry.image.name, entry.group, stored_along(image, grid, direction)[0], mask)


class Pairs:
    """Which images may be drawn together. Raises InputError when there is no pair."""

    def __init__(self, groups: list[str], rule: str) -> None:
        everything = range(len(groups))
        self._partners = {}
        by_group: dict[str, list[int]] = {}
        for index, group in enumerate(groups):
            by_group.setdefault(group, []).append(index)
        for group, members in by_group.items():
            if rule == "across":
                self._partners[group] = [i for i in everything if groups[i] != group]
            else:
                self._partners[group] = members if rule == "within" else list(everything)
        least = 1 if rule == "across" else 2  # the image itself is no partner
        self._firsts = [i for i in everything if len(self._partners[groups[i]]) >= least]
        self._groups = groups
        if not self._firsts:
            raise InputError(
                f"data.images.pairs: no two volumes can be paired {rule} groups; groups are "
                f"{', '.join(f'{g!r}: {len(m)}' for g, m in list(by_group.items())[:5])}. Give the CSV a column group."
            )

    def draw(self, generator: Generator) -> tuple[int, int]:
        """Two different images."""

        def one_of(choices: list[int]) -> int:
            return choices[int(torch.randint(len(choices), (), generator=generator))]

        first = one_of(self._firsts)
        return first, one_of([i for i in self._partners[self._groups[first]] if i != first])
