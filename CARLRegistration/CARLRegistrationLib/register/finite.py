"""Voxels that are no numbers: what to do about them is asked before the engine refuses them."""

from __future__ import annotations

from dataclasses import replace

import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..mrml.volumes import countNotFinite
from .job import Job


def withLeave(job: Job) -> Job:
    """The job, with the user's leave to replace voxels that are NaN or infinite where there are any.

    Raises: RegistrationError when it is refused.
    """
    counts = [(node, countNotFinite(node)) for node in (job.fixedVolume, job.movingVolume) if node is not None]
    found = [
        _("{name}: {count} voxels are NaN or infinite.").format(name=node.GetName(), count=count)
        for node, count in counts
        if count
    ]
    if not found:
        return job
    question = _("Replace them by the background, in a copy for the engine, and go on? The volumes stay as they are.")
    if not slicer.util.confirmYesNoDisplay("\n\n".join([*found, question]), windowTitle=_("CARL Registration")):
        raise RegistrationError(" ".join([*found, _("Nothing was done.")]))
    return replace(job, replaceNotFinite=True)


__all__ = ["withLeave"]
