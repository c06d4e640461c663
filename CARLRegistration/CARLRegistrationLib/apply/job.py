"""One application of a transform as it is asked for, and whether it can be started."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..mrml.sequences import checkNotSequence, proxyOf
from ..mrml.transforms import checkTransform
from .choices import ApplyDirection, ApplyGrid, ApplyInterpolation, ApplyMethod
from .items import ResampleItem
from .maps import MappingDirection
from .nodes import Kind, checkNode, kindOf, sample


@dataclass(frozen=True)
class ApplyJob:
    """nodes: what the transform (a node; moving side to fixed side as Slicer places data under it) is applied to.

    reference: volume whose grid is taken, for ApplyGrid.REFERENCE. massPreserving: intensities times the determinant of
    the Jacobian. inPlace: harden the nodes themselves instead of copies. enginePython: None for Slicer's own.
    """

    nodes: tuple
    transform: Any
    direction: ApplyDirection = ApplyDirection.TO_FIXED
    method: ApplyMethod = ApplyMethod.RESAMPLE
    grid: ApplyGrid = ApplyGrid.TARGET
    reference: Any = None
    interpolation: ApplyInterpolation = ApplyInterpolation.LINEAR
    massPreserving: bool = False
    inPlace: bool = False
    enginePython: str | None = None

    @property
    def toFixed(self) -> bool:
        return self.direction is ApplyDirection.TO_FIXED


@dataclass
class ApplyResult:
    """made: (node, what was made of it; itself when it was placed or hardened in place). notes: in words."""

    job: ApplyJob
    made: list
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def problemOf(job: ApplyJob) -> str:
    """Why this cannot be started, in a line, or "". Cheap: no voxels are looked at, nothing is mapped."""
    try:
        checkChoices(job)
    except RegistrationError as error:
        return str(error)
    return ""


def checkChoices(job: ApplyJob) -> None:
    checkTransform(job.transform)
    if not job.nodes:
        raise RegistrationError(_("Nothing is chosen. Check at least one node in the list."))
    for node in job.nodes:
        checkNode(node)
        if kindOf(node) is not Kind.SEQUENCE:
            continue
        if job.method is ApplyMethod.PLACE and proxyOf(node) is None:
            raise RegistrationError(
                _("{name}: no browser shows this sequence, so it cannot be placed. Choose to resample it.").format(
                    name=node.GetName()
                )
            )
        if job.method is ApplyMethod.HARDEN and job.inPlace:
            raise RegistrationError(
                _("{name}: the frames of a sequence are not changed in place. Harden copies.").format(
                    name=node.GetName()
                )
            )
    if job.method is ApplyMethod.HARDEN and job.inPlace:
        for node in job.nodes:
            checkNotSequence(node, _("node to harden in place"))
    if job.method is not ApplyMethod.RESAMPLE:
        return
    if job.massPreserving and job.interpolation is ApplyInterpolation.NEAREST:
        raise RegistrationError(
            _("Mass-preserving scales intensities; with nearest neighbor there are none between. Choose Linear.")
        )
    if job.grid is ApplyGrid.REFERENCE and job.reference is None:
        raise RegistrationError(_("Choose a reference volume."))
    known = job.grid is ApplyGrid.REFERENCE or MappingDirection.targetOf(job.transform, job.toFixed) is not None
    if not known and any(hasVoxels(node) for node in job.nodes):
        raise RegistrationError(
            _(
                "{name} does not say which volumes it was made for. Choose 'Reference volume' for the output's grid, "
                "and a reference volume."
            ).format(name=job.transform.GetName())
        )


def hasVoxels(node) -> bool:
    one = sample(node)
    return ResampleItem(node, one, kindOf(one)).isResampled()


def needsEngine(job: ApplyJob) -> bool:
    """True when voxels are resampled; all else is done here."""
    return job.method is ApplyMethod.RESAMPLE and any(hasVoxels(node) for node in job.nodes)


def gridVolume(job: ApplyJob, mapping: MappingDirection):
    """The volume on whose grid (or in whose box) the output lies."""
    return job.reference if job.grid is ApplyGrid.REFERENCE else mapping.sides.target
