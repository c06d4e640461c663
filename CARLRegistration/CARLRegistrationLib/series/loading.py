"""The engine's result of a series in the scene: sequences that play together, maps, tables and charts."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..apply.items import binaryLabelmap
from ..apply.voxels import keepMeaning, oriented
from ..common.errors import RegistrationError
from ..common.files import typedPath
from ..mrml import colors, hierarchy
from ..mrml.copies import newNode
from ..mrml.display import showLike
from ..mrml.geometry import swapRasLps
from ..mrml.series import SeriesNodes, loadSeries
from ..mrml.undo import Undo
from ..mrml.volumes import SETTINGS, readVolumeInto
from .charts import addCharts, readRows

_MAPS = {"mean": "mean_displacement.nii.gz", "max": "max_displacement.nii.gz"}


@dataclass
class SeriesScene:
    """nodes: the sequences. maps: mean and max displacement, volumes. reference: the mean image, or None.

    charts: (chart, table) by title. segmentation, landmarks: sequences of what was carried along, or None. rows: of
    frames.csv. notes: in words. undo: takes all of it out of the scene.
    """

    nodes: SeriesNodes
    maps: dict[str, Any]
    charts: dict[str, tuple]
    rows: list[dict]
    reference: Any = None
    segmentation: Any = None
    landmarks: Any = None
    notes: list[str] = field(default_factory=list)
    undo: Undo = field(default_factory=Undo)

    def shown(self, sequence):
        """The node that shows a sequence's present frame; None when it was removed."""
        browser = self.nodes.browser
        there = sequence is not None and slicer.mrmlScene.IsNodePresent(browser)
        return browser.GetProxyNode(sequence) if there else None


def loadResult(folder, name: str = "", segmentation=None, landmarks=None, notes=()) -> SeriesScene:
    """Load a folder that `carlreg series` has written; nothing is left in the scene where that fails.

    name: begins the nodes' names (the folder's). segmentation, landmarks: nodes that were carried along, whose looks
    and names the frames get. notes: said besides. Raises RegistrationError.
    """
    path = typedPath(folder)
    if path is None:
        raise RegistrationError(_("Choose the folder of a series."))
    place = Path(path)
    name = name or place.name
    undo = Undo()
    undo.begin()
    try:
        made = _load(place, name, segmentation, landmarks, notes)
    except (RuntimeError, OSError, KeyError, ValueError) as error:
        undo.apply()
        raise RegistrationError(_("{folder} could not be loaded: {error}").format(folder=path, error=error)) from error
    except BaseException:
        undo.apply()
        raise
    undo.end()
    made.undo = undo
    return made


def _load(place: Path, name: str, segmentation, landmarks, notes) -> SeriesScene:
    described = _described(place / "settings.json")
    nodes = loadSeries(place, name)
    maps = {kind: _volume(place / file, f"{name} {kind} displacement") for kind, file in _MAPS.items()}
    reference = place / "reference.nii.gz"
    made = SeriesScene(
        nodes,
        maps,
        addCharts(place, name, nodes.values, nodes.transforms.GetIndexName()),
        readRows(place / "frames.csv"),
        _volume(reference, f"{name} mean") if reference.is_file() else None,
        notes=[*notes, *described.get("warnings", [])],
    )
    if nodes.note:
        made.notes.append(nodes.note)
    made.segmentation = _segmentations(place / "labels", name, nodes, segmentation)
    made.landmarks = _points(readRows(place / "trajectories.csv"), name, nodes, landmarks)
    _style(made)
    charts = [one for pair in made.charts.values() for one in pair]
    results = [nodes.warped, nodes.transforms, nodes.inverses, nodes.ventilation, made.segmentation, made.landmarks]
    settings = json.dumps(described.get("settings") or {})
    for node in [*maps.values(), *filter(None, map(made.shown, results)), *filter(None, [made.reference])]:
        if node.IsA("vtkMRMLScalarVolumeNode"):
            node.SetAttribute(SETTINGS, settings)  # a result, which is not offered as an input
    everything = [nodes.browser, *results, *map(made.shown, results), *maps.values(), made.reference, *charts]
    hierarchy.placeInFolder([node for node in everything if node is not None], name)
    return made


def _described(path: Path) -> dict:
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def _volume(path: Path, name: str):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", slicer.mrmlScene.GenerateUniqueName(name))
    readVolumeInto(path, node)
    node.CreateDefaultDisplayNodes()
    return node


def _style(made: SeriesScene) -> None:
    largest = slicer.util.arrayFromVolume(made.maps["max"])
    high = colors.niceAbove(float(np.percentile(largest, 99)))
    for node in made.maps.values():
        colors.style(node, colors.displacementScale(high))
    ventilation = made.shown(made.nodes.ventilation)
    if ventilation is not None:
        colors.style(ventilation, colors.ventilationScale())
    warped = made.shown(made.nodes.warped)
    if warped is not None:
        warped.CreateDefaultDisplayNodes()


# --- what was carried along


def _segmentations(folder: Path, name: str, nodes: SeriesNodes, source):
    """A sequence of segmentations of the frames' label maps; None where there are none."""
    import SimpleITK as sitk

    files = sorted(folder.glob("*")) if folder.is_dir() else []
    if len(files) != len(nodes.values):
        return None
    segments = _numbered(readRows(folder.parent / "segments.csv"))
    frames = []
    for file in files:
        image, _present = oriented(sitk.ReadImage(str(file)))
        frame = newNode("vtkMRMLSegmentationNode")
        segmentation = frame.GetSegmentation()
        segmentation.SetSourceRepresentationName(binaryLabelmap())
        for number, called in segments.items():
            segment = slicer.vtkSegment()
            segmentId = f"Segment_{number}"
            given = _segmentOf(source, called)
            if given is not None:
                segment.DeepCopyMetadata(given[1])
                segmentId = given[0]
            segment.SetName(called)
            segment.SetLabelValue(number)
            segment.AddRepresentation(binaryLabelmap(), image)
            segmentation.AddSegment(segment, segmentId)
        if source is not None:
            keepMeaning(frame, source)
        frames.append(frame)
    return _shownLike(source, nodes, nodes.add(frames, f"{name} segmentation"))


def _numbered(rows: list[dict]) -> dict[int, str]:
    """Names of the segments by their numbers."""
    return {int(row["label"]): row["name"] or _("label {number}").format(number=row["label"]) for row in rows}


def _segmentOf(source, name: str):
    """(ID, segment) of this name, or None."""
    if source is None or not slicer.mrmlScene.IsNodePresent(source):
        return None
    segmentation = source.GetSegmentation()
    for one in segmentation.GetSegmentIDs():
        if " ".join(segmentation.GetSegment(one).GetName().split()) == name:
            return one, segmentation.GetSegment(one)
    return None


def _points(rows: list[dict], name: str, nodes: SeriesNodes, source):
    """A sequence of point lists, where the landmarks are in each frame; None where there are none."""
    if not rows:
        return None
    frames = []
    for number in range(len(nodes.values)):
        frame = newNode("vtkMRMLMarkupsFiducialNode")
        mine = [row for row in rows if int(row["frame"]) == number]
        places = swapRasLps(np.array([[float(row[axis]) for axis in "xyz"] for row in mine]))
        for row, place in zip(mine, places, strict=True):
            frame.AddControlPoint(*map(float, place), row["name"] or str(int(row["point"]) + 1))
        frames.append(frame)
    return _shownLike(source, nodes, nodes.add(frames, f"{name} landmarks"))


def _shownLike(source, nodes: SeriesNodes, sequence):
    """The sequence; what the browser shows of it looks as its source does, where there is one."""
    shown = nodes.browser.GetProxyNode(sequence)
    if shown is not None:
        shown.CreateDefaultDisplayNodes()
        if source is not None:
            showLike(shown, source)
    return sequence


__all__ = ["SeriesScene", "loadResult"]
