"""Mending by the engine: what it is given of a case and its points, and its result in the nodes that were there."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..engine import dependencies, words
from ..engine.task import Task, preparing
from ..inspect.case import Case
from ..inspect.mend_controls import Mended
from ..inspect.points import Points
from ..mrml.copies import withoutTransform
from ..mrml.transforms import checkTransform, outputsOf, writeNode
from ..mrml.undo import Undo
from ..mrml.volumes import SETTINGS, worldImage, writeImage, writeVolume
from .job import Job
from .parameters import jobFrom
from .result import FILES, loadResult, warningsOf
from .run import writeMasks

_FILLED = ("vtkMRMLTransformNode", "vtkMRMLGridTransformNode")
_KINDS = {
    "inverse_transform": "Inverse",
    "warped": "Warped",
    "jacobian": "Jacobian",
    "uncertainty": "Uncertainty",
}


class Mender:
    """Starts the engine. Args: parameters: gives the parameter node's wrapper."""

    def __init__(self, parameters: Callable[[], Any]) -> None:
        self._parameters = parameters

    def start(self, case: Case, everywhere: bool, result, filling: Callable[[], AbstractContextManager]) -> Task:
        """Mend a case's transform by its points; the task gives what was Mended.

        Args: everywhere: then the whole map, too. result: of the registration that it is, or None. filling: entered
            while nodes are filled.
        Raises: RegistrationError; nothing is left behind then.
        """
        case.check()
        checkTransform(case.transform)
        points = Points(case.transform).guide()
        if not len(points):
            raise RegistrationError(
                _("There is no point yet. Press Wrong here, and click a place and where it belongs.")
            )
        job = result.job if result is not None else jobFrom(self._parameters())
        if job.fixedVolume is not case.fixed or job.movingVolume is not case.moving:  # its masks are of others
            job = Job(case.fixed, case.moving, job.settings, enginePython=job.enginePython)
        if job.enginePython is None:
            dependencies.ensure()
        with preparing(Task(job.enginePython)) as task:
            arguments, notes = _write(case, points, job, task)

            def finish(ended: Task) -> Mended:
                with filling():
                    mended = _load(case, ended, notes)
                ended.keepFolder = result is not None  # for the report
                return mended

            arguments += ["--everywhere"] if everywhere else []
            return task.start([*arguments, "--out", "result"], finish, words.MEND)


def _write(case: Case, points, job: Job, task: Task) -> tuple[list[str], list[str]]:
    """What `carlreg mend` reads; (arguments, notes)."""
    folder = task.folder
    fixedImage, fixedNote = writeVolume(case.fixed, folder / "fixed.mha", _("fixed volume"), True)
    with withoutTransform(case.moving, case.transform) as moving:
        movingImage, movingNote = writeVolume(moving, folder / "moving.mha", _("moving volume"), True)
    note = writeNode(case.transform, folder / "given.h5", fixedImage)
    (folder / "points.csv").write_text(points.text(), encoding="utf-8")
    settings = case.transform.GetAttribute(SETTINGS) or job.settings.to_json()
    (folder / "settings.json").write_text(settings, encoding="utf-8")
    arguments = ["mend", "given.h5", "--fixed", "fixed.mha", "--moving", "moving.mha", "--points", "points.csv"]
    arguments += ["--settings", "settings.json", "--transform", "deformable", "--io-method", "field"]
    arguments += _writeUncertainty(case, fixedImage, folder)
    arguments += writeMasks(job, folder, (fixedImage, movingImage))
    return arguments, [one for one in (fixedNote, movingNote, note) if one]


def _writeUncertainty(case: Case, fixedImage, folder: Path) -> list[str]:
    """That of the map before, for the engine to renew it around the points; not where it is of another volume."""
    node = outputsOf(case.transform).get("uncertainty")
    if node is None or node.GetImageData() is None:
        return []
    image, _note = worldImage(node, _("uncertainty"))
    geometries = [
        (*one.GetSize(), *one.GetSpacing(), *one.GetOrigin(), *one.GetDirection()) for one in (image, fixedImage)
    ]
    if not np.allclose(*geometries, rtol=1e-4, atol=1e-3):
        return []
    writeImage(image, folder / "uncertainty.mha")
    return ["--uncertainty", "uncertainty.mha"]


def _load(case: Case, task: Task, notes: list[str]) -> Mended:
    """Fill the transform node and what was made with it; where it cannot hold the map, new ones are made.

    Raises: RegistrationError for points that contradict each other; nothing is changed then.
    """
    folder = task.folder / "result"
    about = json.loads((folder / "settings.json").read_text(encoding="utf-8"))["info"]["mended"]
    quality = json.loads((folder / "quality.json").read_text(encoding="utf-8"))
    warnings = [words.inPanelWords(text, words.MEND) for text in warningsOf(quality)]
    if about["contradicting"]:
        said = [text for text in warnings if "contradict" in text]
        raise RegistrationError(" ".join([*said, _("The transform stays as it was.")]))
    there = outputsOf(case.transform)
    made = {kind for kind in there if (folder / FILES[kind]).is_file()}
    wanted: dict[str, Any] = {f"create{name}": kind in made for kind, name in _KINDS.items()}
    if case.transform.GetClassName() in _FILLED:
        wanted |= {f"output{name}": there.get(kind) for kind, name in _KINDS.items()}
        wanted |= {"outputTransform": case.transform}
    undo = Undo()
    job = Job(case.fixed, case.moving, **wanted)
    nodes, quality, more = loadResult(job, folder, undo)
    if "uncertainty" in there and "uncertainty" not in made:
        more.append(_("The uncertainty is still that of the transform before."))
    before = {point["name"]: point["before_mm"] for point in about["points"]}
    return Mended(nodes, quality, undo, before, warnings, [*notes, *more], task.folder)


__all__ = ["Mender"]
