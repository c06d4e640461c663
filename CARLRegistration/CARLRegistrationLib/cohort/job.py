"""One cohort as it is asked for, whether it can be started, and the scene's volumes as its files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carlreg.atomic import staged_file
from carlreg.cohort import read_plan
from carlreg.cohort.study import INPUTS, STUDY
from carlreg.errors import CarlError
from carlreg.settings import RegistrationSettings
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..common.files import typedPath
from ..mrml.sequences import checkNotSequence
from ..mrml.volumes import checkVolume, writeVolume
from .choices import CohortSource

PLAN_FILE = "plan.csv"
_LONGEST_NAME = 80


@dataclass(frozen=True)
class CohortJob:
    """folder, plan: as they were typed. fixed, volumes: nodes; all volumes are brought onto the fixed one."""

    folder: str
    source: CohortSource
    plan: str
    fixed: Any
    volumes: tuple
    settings: RegistrationSettings
    enginePython: str | None = None

    @property
    def place(self) -> Path:
        """The study's folder. Raises RegistrationError when none is chosen."""
        return studyFolder(self.folder)


def studyFolder(typed: str) -> Path:
    """The folder that was typed. Raises RegistrationError for nothing."""
    path = typedPath(typed)
    if path is None:
        raise RegistrationError(_("Choose a study folder: it gets the results of all pairs."))
    return Path(path)


def isStudy(folder: Path) -> bool:
    """True for the folder of a cohort that was begun."""
    return (folder / STUDY).is_file()


def problemOf(job: CohortJob) -> str:
    """Why this cohort cannot be begun, in a line, or "". Cheap: asked at every change in the panel."""
    try:
        _checkFolder(job.place)
        if job.source is CohortSource.PLAN:
            _planFile(job.plan)
        else:
            _checkVolumes(job)
    except RegistrationError as error:
        return str(error)
    return ""


def checkJob(job: CohortJob) -> None:
    """Raise RegistrationError for what is wrong, without reading voxels; a plan's files are looked for."""
    problem = problemOf(job)
    if problem:
        raise RegistrationError(problem)
    if job.source is CohortSource.PLAN:
        try:
            read_plan(_planFile(job.plan))
        except CarlError as error:
            raise RegistrationError(str(error)) from error


def _checkFolder(folder: Path) -> None:
    if isStudy(folder):
        raise RegistrationError(
            _("The study folder holds a cohort already. Press Resume to go on with it, or choose another folder.")
        )
    try:
        there = sorted(each.name for each in folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise RegistrationError(
            _("The study folder {path} cannot be read ({error}). Choose a folder that is yours.").format(
                path=folder, error=error.strerror
            )
        ) from error
    if there:
        raise RegistrationError(_("The study folder is not empty. Choose a new or empty one."))


def _planFile(typed: str) -> Path:
    path = typedPath(typed)
    if path is None:
        raise RegistrationError(_("Choose a plan: a table (CSV) with the columns fixed and moving."))
    if not Path(path).is_file():
        raise RegistrationError(_("The plan {path} is not there. Choose another.").format(path=path))
    return Path(path)


def _checkVolumes(job: CohortJob) -> None:
    if job.fixed is None:
        raise RegistrationError(_("Choose the fixed volume above, at Inputs: all others are brought onto it."))
    if not job.volumes:
        raise RegistrationError(_("Check at least one volume in the list."))
    for node, what in _volumesOf(job):
        checkVolume(node, what)
        checkNotSequence(node, what)


def _volumesOf(job: CohortJob) -> Iterator[tuple[Any, str]]:
    yield job.fixed, _("fixed volume")
    for node in job.volumes:
        yield node, _("moving volume")


def writeInputs(job: CohortJob) -> tuple[Path, dict[Path, Any]]:
    """Write the scene's volumes, where the views show them, and their plan into the study's folder.

    Returns: the plan, and the node of each file. Raises: RegistrationError, OSError; what was written is the caller's
    to remove.
    """
    folder = job.place / INPUTS
    folder.mkdir(parents=True)
    taken: set[str] = set()
    nodes = {}
    for node, what in _volumesOf(job):
        path = folder / f"{_nameFor(node, taken)}.mha"
        writeVolume(node, path, what)
        nodes[path] = node
    fixed, *others = nodes
    lines = ["name,fixed,moving", *(f"{path.stem},{fixed.name},{path.name}" for path in others)]
    with staged_file(folder / PLAN_FILE, final=False) as written:
        written.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return folder / PLAN_FILE, nodes


def _nameFor(node, taken: set[str]) -> str:
    """A node's name as the engine allows those of pairs; no other has it, in small letters either."""
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "_", node.GetName() or "").lstrip("._+-")[:_LONGEST_NAME] or "volume"
    name, number = plain, 1
    while name.lower() in taken:
        number += 1
        name = f"{plain}_{number}"
    taken.add(name.lower())
    return name


__all__ = ["CohortJob", "checkJob", "isStudy", "problemOf", "studyFolder", "writeInputs"]
