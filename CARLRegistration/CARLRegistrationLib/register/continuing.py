"""Going on from a map that is there: a former result, or any transform node from fixed to moving points."""

from __future__ import annotations

from pathlib import Path

from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..mrml.geometry import parents
from ..mrml.transforms import checkNotUnder, checkTransform, writeNode

_FILE = "continue.h5"


def checkContinue(job) -> None:
    """Raise RegistrationError for a job that cannot go on from its `continueTransform`; cheap."""
    node = job.continueTransform
    if node is None:
        return
    checkTransform(node)
    checkNotUnder(job.fixedVolume, node)
    if job.initialTransform is not None:
        raise RegistrationError(
            _("Choose a transform to start from, or one to continue from. The first is only tried as a start.")
        )
    if node in parents(job.movingVolume):
        raise RegistrationError(
            _("Continue from: the moving volume is placed under {name}, which would count twice. Take it out.").format(
                name=node.GetName()
            )
        )
    if job.settings.linear:
        raise RegistrationError(
            _("Continue from: choose the transform Deformable. A linear one begins at Start from instead.")
        )
    if job.settings.io_method != "field" and job.settings.steps:
        raise RegistrationError(_("Continue from: choose the displacement field as method, or 0 steps."))


def writeContinue(job, folder: Path, fixedImage) -> tuple[list[str], list[str]]:
    """Write the map to go on from; (arguments that name it, notes in words). fixedImage: as `writeVolume` returned."""
    if job.continueTransform is None:
        return [], []
    note = writeNode(job.continueTransform, folder / _FILE, fixedImage)
    return ["--continue", _FILE], [note] if note else []


__all__ = ["checkContinue", "writeContinue"]
