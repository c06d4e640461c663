"""The engine's result folder of a series, as sequences that the Sequence Browser plays together."""

from __future__ import annotations

import csv
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from .transforms import transformNodeOf
from .volumes import fillVolume

_TOLERANCE = 0.001  # of a sequence node: frames whose values differ less are one to it


@dataclass(frozen=True)
class SeriesNodes:
    """browser: plays all. transforms, inverses: sequences of transform nodes. warped, ventilation: of volumes.

    values: of the frames in the sequences, as texts. note: what is to be said of them, or "".
    """

    browser: Any
    transforms: Any
    inverses: Any
    warped: Any
    ventilation: Any
    values: tuple[str, ...] = ()
    note: str = ""

    def add(self, frames, name: str):
        """A new sequence of these nodes, one for each frame, that the browser plays with the others."""
        sequence = _sequence(frames, self.values, name, self.transforms.GetIndexName())
        self.browser.AddSynchronizedSequenceNode(sequence)
        return sequence


def loadSeries(folder, name: str = "") -> SeriesNodes:
    """New sequences and their browser from a folder that `carlreg series` has written; name: begins their names.

    A frame's transform places that frame where the reference is, as after a registration of two volumes.
    Raises: RegistrationError for another folder; the scene is unchanged then.
    """
    place = Path(folder)
    name = name or place.name
    times = _times(place)
    values, indexName, note = _indexed(times)
    kinds = {
        "warped": _volumes(place / "warped.seq.nrrd", len(times)),
        "ventilation": _volumes(place / "ventilation.seq.nrrd", len(times)),
        "transforms": _transforms(place / "transforms", len(times)),
        "inverses": _transforms(place / "inverse", len(times)),
    }
    browser = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLSequenceBrowserNode", slicer.mrmlScene.GenerateUniqueName(name)
    )
    made = {}
    for kind, frames in kinds.items():
        sequence = _sequence(frames, values, f"{name} {kind}", indexName)
        if kind == "warped":
            browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
        else:
            browser.AddSynchronizedSequenceNode(sequence)
        made[kind] = sequence
    return SeriesNodes(browser, **made, values=tuple(values), note=note)


def _sequence(frames, values, name: str, indexName: str):
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", slicer.mrmlScene.GenerateUniqueName(name))
    sequence.SetIndexName(indexName)
    sequence.SetIndexType(slicer.vtkMRMLSequenceNode.NumericIndex)
    for frame, value in zip(frames, values, strict=True):
        frame.SetName(name)
        sequence.SetDataNodeAtValue(frame, value)
    return sequence


def _indexed(times: list[str]) -> tuple[list[str], str, str]:
    """What the frames are called in a sequence, what that is, and a note: their numbers where times do not differ.

    Frames of one value would overwrite each other, and times out of order would play in another order.
    """
    try:
        apart = [float(after) - float(before) for before, after in itertools.pairwise(times)]
    except ValueError:
        apart = [0.0]
    if all(one > _TOLERANCE for one in apart):
        return times, "time", ""
    note = _("Frames have the same time, or are not in the order of their times: they are played by their numbers.")
    return [str(number) for number in range(len(times))], "frame", note


def _times(place: Path) -> list[str]:
    try:
        with open(place / "frames.csv", encoding="utf-8", newline="") as file:
            times = [row["time"] for row in csv.DictReader(file)]
    except (OSError, KeyError, UnicodeError) as error:
        raise _noSeries(place) from error
    if not times:
        raise _noSeries(place)
    return times


def _transforms(place: Path, count: int) -> list:
    files = sorted(place.glob("*.h5"))
    if len(files) != count:
        raise _noSeries(place.parent)
    return [transformNodeOf(file) for file in files]


def _volumes(file: Path, count: int) -> list:
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(file))
    except RuntimeError as error:
        raise _noSeries(file.parent) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != count:
        raise _noSeries(file.parent)
    frames = []
    for n in range(count):
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
        node.UnRegister(None)
        fillVolume(sitk.VectorIndexSelectionCast(image, n), node)
        frames.append(node)
    return frames


def _noSeries(place: Path) -> RegistrationError:
    return RegistrationError(
        _("{folder}: expected the whole result of a series, with frames.csv and its files; it is not.").format(
            folder=place
        )
    )


__all__ = ["SeriesNodes", "loadSeries"]
