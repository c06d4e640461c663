"""One series as it is asked for, and whether it can be registered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carlreg.settings import RegistrationSettings
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..common.files import typedPath
from .choices import SeriesChain, SeriesReference, SeriesSource
from .frames import checkSequence, framesOf


@dataclass(frozen=True)
class SeriesJob:
    """sequence: node, or None. path, folder: as they were typed; folder keeps the result, "" for none.

    frame: of reference FRAME, from 0. smoothness: weight of second differences in time. segmentation, landmarks: nodes
    of the reference frame, or None.
    """

    source: SeriesSource
    sequence: Any
    path: str
    reference: SeriesReference
    frame: int
    chain: SeriesChain
    cyclic: bool
    smoothness: float
    segmentation: Any
    landmarks: Any
    folder: str
    settings: RegistrationSettings
    enginePython: str | None = None

    @property
    def number(self) -> int:
        """Of the reference frame."""
        return self.frame if self.reference is SeriesReference.FRAME else 0

    @property
    def name(self) -> str:
        """What the results are called after."""
        if self.source is SeriesSource.SEQUENCE:
            return self.sequence.GetName()
        name = Path(typedPath(self.path) or "").name
        return name.split(".")[0] or name

    def arguments(self, frames: list[str], out: str) -> list[str]:
        """Of `carlreg series`, without what is carried along."""
        reference = self.reference.value if self.reference is SeriesReference.MEAN else str(self.number)
        made = ["series", *frames, "--out", out, "--reference", reference, "--chain", self.chain.value]
        if self.cyclic:
            made.append("--cyclic")
        if self.smoothness:
            made += ["--temporal-smoothness", f"{self.smoothness:g}"]
        return made


def problemOf(job: SeriesJob) -> str:
    """Why this series cannot be registered, in a line, or "". Cheap: asked at every change in the panel."""
    try:
        _checkFrames(job)
        _checkTogether(job)
        _checkCarried(job)
        _checkFolder(job)
    except RegistrationError as error:
        return str(error)
    return ""


def _checkFrames(job: SeriesJob) -> None:
    if job.source is SeriesSource.FILES:
        framesOf(job.path)
        return
    count = checkSequence(job.sequence)
    if job.number >= count:
        raise RegistrationError(
            _("{name} has the frames 0 to {last}; the reference is frame {number}. Choose another.").format(
                name=job.sequence.GetName(), last=count - 1, number=job.number
            )
        )


def _checkTogether(job: SeriesJob) -> None:
    mean = job.reference is SeriesReference.MEAN
    if mean and job.chain is SeriesChain.FRAMES:
        raise RegistrationError(
            _("Each frame to the one before needs a frame as reference, not the mean. Choose another of both.")
        )
    if mean and (job.segmentation is not None or job.landmarks is not None):
        raise RegistrationError(
            _("The segmentation and the landmarks belong to a frame. Choose a frame as reference, or none of them.")
        )
    if job.smoothness and job.settings.linear:
        raise RegistrationError(
            _("Smooth in time needs a deformable transform (section Registration). Choose that, or 0.")
        )


def _checkCarried(job: SeriesJob) -> None:
    if job.segmentation is not None and not job.segmentation.GetSegmentation().GetNumberOfSegments():
        raise RegistrationError(
            _("{name} has no segments. Choose another segmentation, or none.").format(name=job.segmentation.GetName())
        )
    if job.landmarks is not None and not job.landmarks.GetNumberOfControlPoints():
        raise RegistrationError(
            _("{name} has no points. Choose other landmarks, or none.").format(name=job.landmarks.GetName())
        )


def _checkFolder(job: SeriesJob) -> None:
    path = typedPath(job.folder)
    if path is None:
        return
    try:
        used = Path(path).exists() and any(Path(path).iterdir())
    except OSError as error:
        raise RegistrationError(
            _("The folder {path} cannot be used ({error}). Choose another, or none.").format(
                path=path, error=error.strerror
            )
        ) from error
    if used:
        raise RegistrationError(_("The folder to keep is not empty. Choose a new or empty one, or none."))


__all__ = ["SeriesJob", "problemOf"]
