"""A series in the engine's process: what it reads is written, and what it made comes into the scene."""

from __future__ import annotations

import csv
from collections.abc import Callable

from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..common.files import typedPath
from ..engine import words
from ..engine.process import Report
from ..engine.task import Task, preparing
from ..inspect.evaluation import segmentIds, worldPoints, writeLabelMap
from ..mrml.geometry import swapRasLps
from ..mrml.segmentations import segmentationImage
from .choices import SeriesSource
from .frames import framesOf, writeSequence
from .job import SeriesJob, problemOf
from .loading import SeriesScene, loadResult

_RESULT, _LABELS, _POINTS = "result", "labels.seg.nrrd", "landmarks.csv"


class SeriesTask(Task):
    """`carlreg series`; the task gives a SeriesScene. notes: what was left out, in words."""

    def __init__(self, python: str | None) -> None:
        super().__init__(python)
        self.notes: list[str] = []

    def begin(self, job: SeriesJob, watch: Callable[[Report], None]) -> SeriesTask:
        """Write what the engine reads, and start it. Raises RegistrationError."""
        images: list = []
        if job.source is SeriesSource.SEQUENCE:
            images = writeSequence(job.sequence, self.folder / "frames.seq.nrrd")
            given = ["frames.seq.nrrd"]
        else:
            given = framesOf(job.path)
        out = typedPath(job.folder) or str(self.folder / _RESULT)
        (self.folder / "settings.json").write_text(job.settings.to_json(), encoding="utf-8")
        arguments = [*job.arguments(given, out), "--settings", "settings.json"]
        if job.segmentation is not None:
            self._writeSegments(job, images)
            arguments += ["--labels", _LABELS]
        if job.landmarks is not None:
            self._writePoints(job)
            arguments += ["--landmarks", _POINTS]

        def finish(task: Task) -> SeriesScene:
            told = [str(note) for note in task.told().get("warnings") or ()]
            return loadResult(out, job.name, job.segmentation, job.landmarks, [*self.notes, *told])

        self.start(arguments, finish, words.SERIES, watch)
        return self

    def _writeSegments(self, job: SeriesJob, images: list) -> None:
        node, ids = job.segmentation, segmentIds(job.segmentation)
        # Of files the grid is not known here: the segmentation has one of its own, and the engine resamples it.
        onto = images[job.number] if images else segmentationImage(node, "", _("segmentation"))
        numbers = {name: number for number, name in enumerate(ids, start=1)}
        empty = writeLabelMap(node, ids, numbers, onto, self.folder / _LABELS)
        if empty:
            self.notes.append(
                _("{node}: empty, and left out: {names}.").format(node=node.GetName(), names=", ".join(empty))
            )

    def _writePoints(self, job: SeriesJob) -> None:
        points = swapRasLps(worldPoints(job.landmarks, None))
        with open(self.folder / _POINTS, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["x", "y", "z", "name"])
            for number, point in enumerate(points):
                writer.writerow([*map(repr, map(float, point)), job.landmarks.GetNthControlPointLabel(number)])


def begin(job: SeriesJob, watch: Callable[[Report], None]) -> SeriesTask:
    """Check a job and start it. Raises RegistrationError; then nothing is left behind."""
    problem = problemOf(job)
    if problem:
        raise RegistrationError(problem)
    with preparing(SeriesTask(job.enginePython)) as task:
        return task.begin(job, watch)


__all__ = ["SeriesTask", "begin"]
