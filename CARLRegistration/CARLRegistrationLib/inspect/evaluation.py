"""The engine as judge: `carlreg evaluate` of any transform, and `carlreg report` of a run, as background processes."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..engine.task import Task, preparing
from ..mrml.copies import withoutTransform
from ..mrml.geometry import parents, swapRasLps, transformPoints
from ..mrml.segmentations import segmentInside
from ..mrml.transforms import writeNode
from ..mrml.volumes import writeImage, writeVolume
from .case import Case

_GRACE_SECONDS = 0.5  # for an engine that is not waited for: it writes into its own folder alone
_FIELD_NODES = 72  # per axis, of a transform that files cannot hold as it is


@dataclass
class EvaluationInput:
    """What an evaluation is started with. names: of the segments by label. notes: what was left out, in words."""

    arguments: list[str]
    names: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class Evaluation:
    """What an evaluation found. quality: see quality.json. names, notes: as of EvaluationInput."""

    quality: dict
    names: dict
    notes: list[str]


def startEvaluation(case: Case, python: str | None = None) -> Task:
    """Judge a case with the engine; the task gives an Evaluation.

    Raises: RegistrationError for empty segmentations or lists of points that do not fit; nothing is left behind then.
    """
    with preparing(Task(python, _GRACE_SECONDS)) as task:
        given = writeEvaluation(case, task.folder)

        def finish(ended: Task) -> Evaluation:
            quality = json.loads((ended.folder / "quality.json").read_text(encoding="utf-8"))
            return Evaluation(quality, given.names, given.notes)

        return task.start(given.arguments, finish)


def startReport(jobFolder: Path | None, python: str | None = None, saveAs: Path | None = None) -> Task:
    """Make the report of a run whose folder is still there; the task gives the path of the file, which stays.

    saveAs: the user's file, which is replaced; None for one in the task's own folder.
    """
    if jobFolder is None or not (Path(jobFolder) / "result").is_dir():
        raise RegistrationError(_("There is no result of a registration in this session. Press Apply first."))
    with preparing(Task(python, _GRACE_SECONDS)) as task:
        out = saveAs or task.folder / "report.html"
        arguments = ["report", str(Path(jobFolder) / "result"), "--out", str(out)]
        for side in ("fixed", "moving"):
            path = Path(jobFolder) / f"{side}.mha"
            if path.is_file():
                arguments += [f"--{side}", str(path)]

        def finish(ended: Task) -> Path:
            ended.keepFolder = saveAs is None
            return out

        return task.start(arguments, finish)


def writeEvaluation(case: Case, folder: Path) -> EvaluationInput:
    """Write what `carlreg evaluate` reads."""
    fixedImage, note = writeVolume(case.fixed, folder / "fixed.mha", _("fixed volume"), True)
    notes = [note] if note else []
    with withoutTransform(case.moving, case.transform) as moving:
        movingImage, note = writeVolume(moving, folder / "moving.mha", _("moving volume"), True)
    notes += [note] if note else []
    writeNode(case.transform, folder / "transform.h5", fixedImage, _FIELD_NODES)
    arguments = ["evaluate", "transform.h5", "fixed.mha", "moving.mha", "--out", "quality.json"]
    names = {}
    if case.fixedSegmentation is not None:
        names, more = _writeLabels(case, folder, fixedImage, movingImage)
        notes += more
        arguments += ["--fixed-labels", "fixed_labels.mha"]
        if case.movingSegmentation is not None:
            arguments += ["--moving-labels", "moving_labels.mha"]
    elif case.movingSegmentation is not None:
        raise RegistrationError(_("Choose a segmentation of the fixed volume, too."))
    if (case.fixedPoints is None) != (case.movingPoints is None):
        raise RegistrationError(_("Choose a list of points for both volumes, or for none."))
    if case.fixedPoints is not None:
        _writePoints(case, folder / "landmarks.csv")
        arguments += ["--landmarks", "landmarks.csv"]
    return EvaluationInput(arguments, names, notes)


def _writeLabels(case: Case, folder: Path, fixedImage, movingImage) -> tuple[dict, list[str]]:
    """Label maps of both sides with one number for each name; (names by number, notes)."""
    fixedIds = segmentIds(case.fixedSegmentation)
    sides = [("fixed", case.fixedSegmentation, fixedIds, fixedImage)]
    numbers = {name: n for n, name in enumerate(fixedIds, start=1)}
    notes = []
    if case.movingSegmentation is not None:
        movingIds = segmentIds(case.movingSegmentation)
        if len(fixedIds) == len(movingIds) == 1:  # one each: they are meant for each other, whatever they are called
            movingIds = dict(zip(fixedIds, movingIds.values(), strict=True))
        if not set(fixedIds) & set(movingIds):
            raise RegistrationError(
                _(
                    "{fixed} and {moving} have no segment of the same name. Rename the segments that belong together."
                ).format(fixed=case.fixedSegmentation.GetName(), moving=case.movingSegmentation.GetName())
            )
        alone = sorted(set(fixedIds) ^ set(movingIds))
        if alone:
            notes.append(_("Only on one side, and not compared: {names}.").format(names=", ".join(alone)))
        sides.append(("moving", case.movingSegmentation, movingIds, movingImage))
    for side, node, ids, onto in sides:
        with withoutTransform(node, case.transform) if side == "moving" else _itself(node) as placed:
            empty = writeLabelMap(placed, ids, numbers, onto, folder / f"{side}_labels.mha")
        if empty:
            notes.append(_("{node}: empty, and left out: {names}.").format(node=node.GetName(), names=", ".join(empty)))
    return {n: name for name, n in numbers.items()}, notes


@contextmanager
def _itself(node):
    yield node


def segmentIds(node) -> dict:
    """Segment IDs by name."""
    segmentation = node.GetSegmentation()
    found = {segmentation.GetSegment(one).GetName(): one for one in segmentation.GetSegmentIDs()}
    if not found:
        raise RegistrationError(
            _("{name} has no segments. Choose another segmentation, or none.").format(name=node.GetName())
        )
    return found


def writeLabelMap(node, ids: dict, numbers: dict, onto, path: Path) -> list[str]:
    """Write segments (IDs by name) with the numbers of their names on the grid of an image; names of empty ones.

    A .seg.nrrd tells the names, too.
    """
    import SimpleITK as sitk

    labels = np.zeros(onto.GetSize()[::-1], np.uint16)
    empty = []
    for name, segmentId in ids.items():
        if name not in numbers:
            continue
        try:
            inside = segmentInside(node, segmentId, onto, _("segmentation"))
        except RegistrationError:
            empty.append(name)
            continue
        if inside.any():
            labels[inside] = numbers[name]
        else:
            empty.append(name)
    if not labels.any():
        raise RegistrationError(
            _("{name}: all segments are empty or lie outside their volume. Choose another segmentation.").format(
                name=node.GetName()
            )
        )
    image = sitk.GetImageFromArray(labels)
    image.CopyInformation(onto)
    if path.name.endswith(".seg.nrrd"):
        for place, (name, number) in enumerate(numbers.items()):
            image.SetMetaData(f"Segment{place}_LabelValue", str(number))
            image.SetMetaData(f"Segment{place}_Name", " ".join(name.split()))
    writeImage(image, path, compress=True)
    return empty


def _writePoints(case: Case, path: Path) -> None:
    lists = [worldPoints(case.fixedPoints, None), worldPoints(case.movingPoints, case.transform)]
    if len(lists[0]) != len(lists[1]) or not len(lists[0]):
        raise RegistrationError(
            _("Expected as many points in {fixed} as in {moving}, got {n} and {m}.").format(
                fixed=case.fixedPoints.GetName(), moving=case.movingPoints.GetName(), n=len(lists[0]), m=len(lists[1])
            )
        )
    rows = np.hstack([swapRasLps(points) for points in lists])
    header = "fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z"
    np.savetxt(path, rows, fmt="%.6f", delimiter=",", header=header, comments="")


def worldPoints(node, without) -> np.ndarray:
    """N x 3 in the world (RAS mm), in the order of the list; a transform above it can be left out."""
    points = np.array([node.GetNthControlPointPosition(n) for n in range(node.GetNumberOfControlPoints())]).reshape(
        -1, 3
    )
    for parent in parents(node):
        if parent is without:
            break
        if len(points):
            points = transformPoints(parent.GetTransformToParent(), points)
    return points


__all__ = [
    "Evaluation",
    "EvaluationInput",
    "segmentIds",
    "startEvaluation",
    "startReport",
    "worldPoints",
    "writeEvaluation",
    "writeLabelMap",
]
