"""DICOM: which series a path means, which volume of it, and its values on a regular grid; else a refusal."""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk

from .magic import is_dicom

__all__ = ["group_option", "is_dicom", "read_series", "references", "series_size"]


def read_series(path: Path, name: str, group: int | None = None) -> tuple[sitk.Image, dict[str, str], list[str]]:
    """The volume of a folder with one series, or of the series that a DICOM file belongs to.

    group: which, from 1, where a series holds several (time points, echoes, stacks).
    Returns: the image, its attributes by keyword, warnings.
    Raises: InputError (none, several, damaged, color), GeometryError (tilted or unevenly spaced slices),
        NotEnoughMemory.
    """
    from .reading import read  # pydicom takes a moment to load

    return read(path, name, group, group_option(name))


def series_size(path: Path, name: str, group: int | None = None) -> tuple[int, int, int]:
    """Columns, rows and slices of what `read_series` would read, from the headers. Raises as it does."""
    from .reading import size

    return size(path, name, group, group_option(name))


def group_option(name: str) -> str:
    """The option of the commands that chooses one volume of several, for the input that messages call `name`."""
    if name.startswith(("fixed mask", "moving mask", "fixed labels", "moving labels", "mask", "labels")):
        return "frame_group of carlreg.volumes.read_volume"  # no command has an option for these
    side = next((f"{side}-" for side in ("fixed", "moving") if name.startswith(side)), "")
    return f"--{side}dicom-frame-group"


def references(attributes: dict[str, str]) -> dict:
    """What a spatial registration object needs to name a series: its identifiers only; {} for other files.

    attributes: `Volume.dicom`. SOPInstanceUIDs is a list, in the order of the slices.
    """
    names = ("FrameOfReferenceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "Modality")
    found: dict = {name: attributes[name] for name in names if name in attributes}
    if "SOPInstanceUIDs" in attributes:
        found["SOPInstanceUIDs"] = attributes["SOPInstanceUIDs"].split("\\")
    return found
