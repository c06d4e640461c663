"""One registration as it is asked for, and whether it can be started."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any

from carlreg.errors import CarlError
from carlreg.models.catalog import model_info
from carlreg.settings import RegistrationSettings
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..common.files import typedPath
from ..mrml.geometry import parents
from ..mrml.segmentations import checkMask
from ..mrml.sequences import checkNotSequence
from ..mrml.volumes import checkVolume
from .continuing import checkContinue
from .guidance import checkGuidance


@dataclass(frozen=True)
class Job:
    """One registration as the logic takes it: nodes, and the engine's settings.

    enginePython: None for Slicer's own. create*: outputs to make; output*: nodes to fill, None for new ones.
    initialTransform: one more start to try; continueTransform: the map to go on from, instead of looking for one.
    rigid-, stiffSegmentation: of the fixed volume; *Segment: ID of the one motions are relative to.
    replaceNotFinite: voxels that are NaN or infinite count as background; otherwise they are refused.
    showProgress: the map is told of while it is optimized (`Status.newMap`).
    keepForReport: the result's files stay until `Result.discard`.
    """

    fixedVolume: Any
    movingVolume: Any
    settings: RegistrationSettings = field(default_factory=RegistrationSettings)
    fixedMask: Any = None
    fixedMaskSegment: str = ""
    movingMask: Any = None
    movingMaskSegment: str = ""
    initialTransform: Any = None
    continueTransform: Any = None
    fixedLandmarks: Any = None
    movingLandmarks: Any = None
    fixedSegmentation: Any = None
    movingSegmentation: Any = None
    rigidSegmentation: Any = None
    rigidSegmentationSegment: str = ""
    stiffSegmentation: Any = None
    fixedIgnore: Any = None
    fixedIgnoreSegment: str = ""
    movingIgnore: Any = None
    movingIgnoreSegment: str = ""
    createTransform: bool = True
    createInverse: bool = True
    createWarped: bool = True
    createJacobian: bool = True
    createUncertainty: bool = True
    outputTransform: Any = None
    outputInverse: Any = None
    outputWarped: Any = None
    outputJacobian: Any = None
    outputUncertainty: Any = None
    placeMoving: bool = False
    replaceNotFinite: bool = False
    enginePython: str | None = None
    keepJobFolder: bool = False
    showProgress: bool = False
    keepForReport: bool = False

    def outputs(self) -> list[tuple[str, bool, Any]]:
        """(kind, wanted, node) of each output; kinds are the names of the result's files."""
        return [
            ("transform", self.createTransform, self.outputTransform),
            ("inverse_transform", self.createInverse, self.outputInverse),
            ("warped", self.createWarped, self.outputWarped),
            ("jacobian", self.createJacobian, self.outputJacobian),
            ("uncertainty", self.createUncertainty, self.outputUncertainty),
        ]


def withWholePaths(job: Job) -> Job:
    """The job with the paths that were typed (`~`, relative to Slicer's folder) as the engine is to get them."""
    settings = job.settings
    if settings.weights is not None:
        settings = replace(settings, weights=typedPath(settings.weights))
    return replace(job, settings=settings, enginePython=typedPath(job.enginePython))


def problemOf(job: Job) -> str:
    """Why this job cannot be started, in a line, or "". Cheap: asked at every change in the panel."""
    try:
        checkJob(job)
    except (RegistrationError, CarlError) as error:
        return str(error)
    return ""


def _transformClasses(linear: bool) -> tuple[str, ...]:
    """Nodes that can hold a result's transform."""
    return ("vtkMRMLTransformNode", "vtkMRMLLinearTransformNode" if linear else "vtkMRMLGridTransformNode")


def checkJob(job: Job) -> None:
    """Raise RegistrationError for what can be seen to be wrong without reading voxels."""
    job = withWholePaths(job)
    fixed, moving = job.fixedVolume, job.movingVolume
    checkVolume(fixed, _("fixed volume"))
    checkVolume(moving, _("moving volume"))
    if fixed is moving:
        raise RegistrationError(_("Fixed and moving are the same volume. Choose two different ones."))
    if not any(wanted for _kind, wanted, _node in job.outputs()):
        raise RegistrationError(_("No output is chosen. Check at least one under Outputs."))
    inputs = [fixed, moving, job.fixedMask, job.movingMask, job.initialTransform]
    for node in (fixed, moving, job.initialTransform, job.continueTransform):
        inputs += parents(node)
    chosen = [node for _kind, wanted, node in job.outputs() if wanted and node is not None]
    for node in chosen:
        if any(node is one for one in inputs):
            raise RegistrationError(
                _("{name} is both an input and an output, and inputs are never changed. Choose another output.").format(
                    name=node.GetName()
                )
            )
        if chosen.count(node) > 1:
            raise RegistrationError(_("{name} is chosen for two outputs.").format(name=node.GetName()))
    for what, node in ((_("Transform"), job.outputTransform), (_("Inverse transform"), job.outputInverse)):
        if node is not None and node.GetClassName() not in _transformClasses(job.settings.linear):
            raise RegistrationError(
                _("{name}: the {what} output must be a {kind} transform node. Choose a new one.").format(
                    name=node.GetName(), what=what, kind=_("linear or general") if job.settings.linear else _("general")
                )
            )
    for what, node in ((_("fixed volume"), fixed), (_("moving volume"), moving)):
        checkNotSequence(node, what)
    _checkMasks(job)
    _checkPython(job.enginePython)
    checkContinue(job)
    checkGuidance(job)
    checkWeights(job.settings)


def _checkMasks(job: Job) -> None:
    for what, node, segment in (
        (_("fixed mask"), job.fixedMask, job.fixedMaskSegment),
        (_("moving mask"), job.movingMask, job.movingMaskSegment),
        (_("part to ignore in fixed"), job.fixedIgnore, job.fixedIgnoreSegment),
        (_("part to ignore in moving"), job.movingIgnore, job.movingIgnoreSegment),
    ):
        if node is not None:
            checkMask(node, segment, what)


def _checkPython(path: str | None) -> None:
    if path and not os.path.isfile(path):
        raise RegistrationError(
            _("Engine Python: {path} is not there. Choose another, or none for Slicer's own.").format(path=path)
        )


def checkWeights(settings: RegistrationSettings) -> None:
    """Raise RegistrationError where the network's weights are not there."""
    if settings.weights and not os.path.isfile(settings.weights):
        raise RegistrationError(_("Weights file: {path} is not there. Choose another.").format(path=settings.weights))
    try:
        shipped = model_info(settings.model).shipped
    except CarlError as error:
        raise RegistrationError(str(error)) from error
    if not shipped and not settings.weights:
        raise RegistrationError(
            _("The weights of {model} do not come with this module. Choose your weights file under Advanced.").format(
                model=settings.model
            )
        )
