"""A cohort in the engine's process: begun in its study folder, or gone on with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from carlreg.cohort.study import INPUTS

from ..common.files import removeFolder, typedPath
from ..engine import words
from ..engine.process import Report
from ..engine.task import Task, preparing
from .choices import CohortSource
from .job import CohortJob, checkJob, isStudy, writeInputs

#: What the engine needs besides, in the words of pip.
PACKAGES = ("dask[distributed]>=2024.1",)


class CohortTask(Task):
    """`carlreg cohort`. nodes: of the scene, by the files that were written of them."""

    def __init__(self, study: Path, python: str | None) -> None:
        super().__init__(python)
        self.study = study
        self.nodes: dict[Path, Any] = {}
        self._new: list[Path] = []  # folders that are removed when no study comes of it
        self._writes = False

    def begin(self, job: CohortJob, watch: Callable[[Report], None]) -> CohortTask:
        """Write what the engine reads, and start it. Raises RegistrationError; then nothing is left behind."""
        self._new = [folder for folder in (self.study, *self.study.parents) if not folder.exists()]
        plan = typedPath(job.plan) or ""
        if job.source is CohortSource.VOLUMES:
            self._writes = True
            written, self.nodes = writeInputs(job)
            plan = str(written)
        (self.folder / "settings.json").write_text(job.settings.to_json(), encoding="utf-8")
        self.start(["cohort", plan, "--out", str(self.study), "--settings", "settings.json"], None, words.COHORT, watch)
        return self

    def resume(self, retryFailed: bool, watch: Callable[[Report], None]) -> CohortTask:
        """Go on with the study, with its own pairs and settings. Raises RegistrationError."""
        more = ["--retry-failed"] if retryFailed else []
        self.start(["cohort", str(self.study), "--resume", *more], None, words.COHORT, watch)
        return self

    def close(self) -> None:
        """Remove its files; with them what was written into the study's folder, when no study came of it."""
        super().close()
        if isStudy(self.study):
            return
        if self._writes:
            removeFolder(self.study / INPUTS)
        for folder in self._new:
            with suppress(OSError):  # not empty, or not there
                folder.rmdir()


def begin(job: CohortJob, watch: Callable[[Report], None]) -> CohortTask:
    """Check a job and start it. Raises RegistrationError; then nothing is left behind."""
    checkJob(job)
    with preparing(CohortTask(job.place, job.enginePython)) as task:
        return task.begin(job, watch)


def resume(study: Path, retryFailed: bool, python: str | None, watch: Callable[[Report], None]) -> CohortTask:
    """Go on with a study. Raises RegistrationError."""
    with preparing(CohortTask(study, python)) as task:
        return task.resume(retryFailed, watch)


__all__ = ["PACKAGES", "CohortTask", "begin", "resume"]
