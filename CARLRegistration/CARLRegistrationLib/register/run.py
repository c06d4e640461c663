"""One registration: nodes -> job folder -> the engine's process -> nodes, and how to undo it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..common.files import keep
from ..engine import dependencies, words
from ..engine.process import Report
from ..engine.task import Task, preparing
from ..mrml.segmentations import writeMask
from ..mrml.transforms import writeInitialTransform
from ..mrml.undo import Undo
from ..mrml.volumes import writeVolume
from .continuing import writeContinue
from .guidance import writeGuidance
from .job import Job, checkJob, withWholePaths
from .result import Result, loadResult, warningsOf

log = logging.getLogger("CARLRegistration")
_MAP_FILE = "map.h5"


@dataclass(frozen=True)
class Status:
    """Where a run stands, for people.

    seconds_left: None while unknown. step: the last one of the optimization (done, total, similarity, level), or None;
    newStep: it is told for the first time. newMap: the file of a map that was not told of yet, or None.
    warning: what must be known now, or "".
    """

    stage: str = ""
    message: str = ""
    fraction: float = 0.0
    elapsed: float = 0.0
    seconds_left: float | None = None
    cancelling: bool = False
    step: dict | None = None
    newStep: bool = False
    newMap: Path | None = None
    warning: str = ""


class RegistrationRun:
    """One run. `start()`, then `poll()` until it returns a Result or raises; `cancel()` or `abort()` in between.

    Args: tell: called with a Status at each poll.
    """

    def __init__(self, job: Job, tell: Callable[[Status], None] | None = None) -> None:
        self.job = withWholePaths(job)
        self.undo = Undo()
        self._tell = tell or (lambda status: None)
        self._task: Task | None = None
        self._check: dependencies.PythonCheck | None = None
        self._arguments: list[str] = []
        self._status = Status()
        self._notes: list[str] = []
        self._mapTime = 0  # of the map that was told of last

    @property
    def task(self) -> Task:
        """The engine's. Raises RegistrationError before `start`."""
        if self._task is None:
            raise RegistrationError(_("The registration was not started."))
        return self._task

    def start(self) -> None:
        """Check, write the inputs, start the engine. Raises RegistrationError; then nothing is left behind."""
        checkJob(self.job)
        python = self.job.enginePython
        with preparing(Task(python)) as task:
            self._task = task
            inputs, self._notes = writeInputs(self.job, task.folder)
            shown = ["--preview", _MAP_FILE] if self.job.showProgress else []
            self._arguments = ["register", *inputs, "--out", "result", *shown]
            if python and not dependencies.isChecked(python):
                self._check = dependencies.PythonCheck(python)
            else:
                self._launch()

    def _launch(self) -> None:
        self.task.start(self._arguments, lambda task: self._load(), panelWords(self.job), self._onReport)

    def poll(self) -> Result | None:
        """None while running. Raises RegistrationCancelled, RegistrationError; then nothing is left behind."""
        if self._check is None:
            return self.task.poll()
        try:
            self._pollCheck(self._check)
        except BaseException:
            self.task.close()
            raise
        return None

    def _pollCheck(self, check: dependencies.PythonCheck) -> None:
        """Another Python is asked what it has before it gets the job; once in a session."""
        python = str(self.job.enginePython)
        self._status = Status("check", python, 0.0, check.elapsed, None, check.cancelling)
        self._tell(self._status)
        found = check.poll()
        if found is None:
            return
        problem = dependencies.checkProblem(found, True)
        if problem:
            raise RegistrationError(_("Engine Python: {problem}").format(problem=problem))
        dependencies.setChecked(python)
        self._check = None
        self._launch()

    def _onReport(self, report: Report) -> None:
        """Tell each record (a short stage would be missed between two polls) and how the time passes."""
        elapsed, cancelling = self.task.elapsed, self.task.cancelling
        for record in report.records:
            self._status = Status(
                str(record.get("stage", "")),
                str(record.get("message", "")),
                float(record.get("fraction") or 0.0),
                elapsed,
                record.get("seconds_left"),
                cancelling,
                record.get("step"),
                "step" in record,
                warning=str(record.get("warning", "")),
            )
            self._tell(self._status)
        left = self._status.seconds_left
        if left is not None:
            left = max(0.0, left - max(0.0, elapsed - self._status.elapsed))
        said = replace(self._status, newStep=False, warning="")
        self._status = replace(said, elapsed=elapsed, seconds_left=left, cancelling=cancelling)
        self._tell(replace(self._status, newMap=self._newMap()))

    def _newMap(self) -> Path | None:
        """The file of the map so far, when there is another one than at the last call."""
        file = self.task.folder / _MAP_FILE
        try:
            written = file.stat().st_mtime_ns
        except OSError:  # none yet, or none any more
            return None
        isNew, self._mapTime = written != self._mapTime, written
        return file if isNew else None

    @property
    def cancelling(self) -> bool:
        return self.task.cancelling or (self._check is not None and self._check.cancelling)

    def log(self) -> str:
        """What the engine wrote, so far or in all."""
        return self._task.log() if self._task is not None else ""

    def stopHere(self) -> None:
        """Ask the engine to keep the map that it has, and to finish with it."""
        self.task.stopHere()

    def cancel(self) -> None:
        """Ask the engine to stop; `poll` says when it has."""
        if self._check is not None:
            self._check.cancel()
        self.task.cancel()

    def abort(self) -> None:
        """Stop now, wait for it (at most three seconds), leave nothing behind."""
        if self._check is not None:
            self._check.abort()
        self.task.abort()

    def _load(self) -> Result:
        task, job = self.task, self.job
        task.keepFolder = job.keepJobFolder  # also when it cannot be loaded
        nodes, quality, notes = loadResult(job, task.folder / "result", self.undo)
        seconds = task.elapsed
        log.info("CARLRegistration done in %.0f s", seconds)
        kept = task.folder if job.keepJobFolder else None
        if kept is not None:
            keep(kept)
        task.keepFolder = job.keepJobFolder or job.keepForReport
        return Result(
            job,
            nodes,
            quality,
            seconds,
            warnings=warningsOf(quality),
            notes=self._notes + notes,
            log=task.log(),
            job_folder=kept,
            report_folder=task.folder if task.keepFolder else None,
            undo=self.undo,
        )


def panelWords(job: Job) -> dict[str, str]:
    """What the engine's messages about a job call its files, and what the panel does."""
    nodes = {
        "fixed image (fixed.mha)": job.fixedVolume,
        "moving image (moving.mha)": job.movingVolume,
        "fixed mask (fixed_mask.mha)": job.fixedMask,
        "moving mask (moving_mask.mha)": job.movingMask,
    }
    names = {theirs: node.GetName() for theirs, node in nodes.items() if node is not None}
    return {**names, **words.REGISTER}


def writeInputs(job: Job, folder: Path) -> tuple[list[str], list[str]]:
    """Write what the engine reads, settings.json among it; (arguments that name it, notes in words)."""
    arguments, notes, images = writePair(job, folder)
    for more, moreNotes in (writeContinue(job, folder, images[0]), writeGuidance(job, folder, *images)):
        arguments, notes = arguments + more, notes + moreNotes
    return arguments, notes


def writePair(job: Job, folder: Path) -> tuple[list[str], list[str], tuple]:
    """The same without guidance and the map to continue from, and both images (SimpleITK) as they were written."""
    fixedImage, fixedNote = writeVolume(job.fixedVolume, folder / "fixed.mha", _("fixed volume"), job.replaceNotFinite)
    movingImage, movingNote = writeVolume(
        job.movingVolume, folder / "moving.mha", _("moving volume"), job.replaceNotFinite
    )
    (folder / "settings.json").write_text(job.settings.to_json(), encoding="utf-8")
    arguments = ["fixed.mha", "moving.mha", "--settings", "settings.json"]
    arguments += writeMasks(job, folder, (fixedImage, movingImage))
    if job.initialTransform is not None:
        writeInitialTransform(job.initialTransform, folder / "initial.h5", fixedImage, job.movingVolume)
        arguments += ["--initial-transform", "initial.h5"]
    return arguments, [note for note in (fixedNote, movingNote) if note], (fixedImage, movingImage)


def writeMasks(job: Job, folder: Path, images: tuple) -> list[str]:
    """Write a job's masks on the grids of its images, fixed and moving; arguments that name them."""
    arguments = []
    for side, node, segment, image, what in (
        ("fixed", job.fixedMask, job.fixedMaskSegment, images[0], _("fixed mask")),
        ("moving", job.movingMask, job.movingMaskSegment, images[1], _("moving mask")),
    ):
        if node is not None:
            writeMask(node, segment, folder / f"{side}_mask.mha", image, what)
            arguments += [f"--{side}-mask", f"{side}_mask.mha"]
    return arguments


__all__ = ["RegistrationRun", "Status", "panelWords", "writeInputs", "writeMasks", "writePair"]
