"""What guides a registration, from nodes to the engine's files: landmarks, segments, what is to be ignored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from carlreg.io.guide_points import GuidePoints
from slicer.i18n import tr as _

from ..common.errors import RegistrationError
from ..inspect.evaluation import segmentIds, worldPoints, writeLabelMap
from ..mrml.geometry import swapRasLps
from ..mrml.segmentations import writeMask


def checkGuidance(job) -> None:
    """Raise RegistrationError for what does not go together; cheap."""
    for fixed, moving, what in (
        (job.fixedLandmarks, job.movingLandmarks, _("landmarks")),
        (job.fixedSegmentation, job.movingSegmentation, _("segmentations")),
    ):
        if (fixed is None) != (moving is None):
            raise RegistrationError(_("Guidance: choose {what} of both volumes, or of none.").format(what=what))
    if job.fixedLandmarks is not None:
        _pairs(job.fixedLandmarks, job.movingLandmarks)
    bodies = job.rigidSegmentation is not None or job.stiffSegmentation is not None
    if bodies and (job.settings.linear or job.settings.symmetric):
        raise RegistrationError(
            _("Guidance: rigid and stiff segments need a deformable transform that is not symmetric.")
        )
    guided = bodies or job.fixedLandmarks is not None or job.fixedSegmentation is not None
    if guided and job.settings.io_method != "field" and job.settings.steps:
        raise RegistrationError(
            _("Guidance: landmarks and segments need the displacement field as method. Choose it, or 0 steps.")
        )


def writeGuidance(job, folder: Path, fixedImage, movingImage) -> tuple[list[str], list[str]]:
    """Write what the engine reads; (arguments that name it, notes in words). *Image: as `writeVolume` returned them."""
    arguments: list[str] = []
    notes: list[str] = []
    images = {"fixed": fixedImage, "moving": movingImage}
    if job.fixedLandmarks is not None:
        (folder / "guide.csv").write_text(_points(job).text(), encoding="utf-8")
        arguments += ["--landmarks-guide", "guide.csv"]
    if job.fixedSegmentation is not None:
        notes += _writeSegments(job, folder, images)
        for side in images:
            arguments += [f"--{side}-segments-guide", f"{side}_segments.seg.nrrd"]
    for kind in ("rigid", "stiff"):
        node = getattr(job, f"{kind}Segmentation")
        if node is not None:
            notes += _writeBodies(node, folder / f"{kind}_segments.seg.nrrd", fixedImage)
            arguments += [f"--{kind}-segments", f"{kind}_segments.seg.nrrd"]
    if job.rigidSegmentation is not None and job.rigidSegmentationSegment:
        segment = job.rigidSegmentation.GetSegmentation().GetSegment(job.rigidSegmentationSegment)
        if segment is None:
            raise RegistrationError(_("Guidance: the reference segment is gone. Choose another one, or none."))
        arguments += ["--rigid-reference", segment.GetName()]
    for side, image in images.items():
        node = getattr(job, f"{side}Ignore")
        if node is not None:
            what = {"fixed": _("part to ignore in fixed"), "moving": _("part to ignore in moving")}[side]
            writeMask(node, getattr(job, f"{side}IgnoreSegment"), folder / f"{side}_ignore.mha", image, what)
            arguments += [f"--{side}-ignore", f"{side}_ignore.mha"]
    return arguments, notes


def _names(node) -> list[str]:
    return [node.GetNthControlPointLabel(n) for n in range(node.GetNumberOfControlPoints())]


def _pairs(fixed, moving) -> list[int]:
    """Which of the moving points belongs to each fixed one. Raises RegistrationError for lists of unequal length."""
    ours, others = _names(fixed), _names(moving)
    if len(set(ours)) == len(ours) and sorted(ours) == sorted(others) and ours:
        return [others.index(name) for name in ours]
    if len(ours) != len(others) or not ours:
        raise RegistrationError(
            _("Guidance: expected as many points in {fixed} as in {moving}, got {n} and {m}.").format(
                fixed=fixed.GetName(), moving=moving.GetName(), n=len(ours), m=len(others)
            )
        )
    return list(range(len(ours)))


def _points(job) -> GuidePoints:
    order = _pairs(job.fixedLandmarks, job.movingLandmarks)
    fixed, moving = (swapRasLps(worldPoints(node, None)) for node in (job.fixedLandmarks, job.movingLandmarks))
    names = tuple(name or str(n + 1) for n, name in enumerate(_names(job.fixedLandmarks)))
    return GuidePoints(fixed, moving[order], names, np.ones(len(names), dtype=bool))


def _writeBodies(node, path: Path, fixedImage) -> list[str]:
    """The label map of a segmentation of the fixed volume, with its names; notes."""
    ids = segmentIds(node)
    empty = writeLabelMap(node, ids, {name: n for n, name in enumerate(ids, start=1)}, fixedImage, path)
    if not empty:
        return []
    return [_("{node}: empty, and left out: {names}.").format(node=node.GetName(), names=", ".join(empty))]


def _writeSegments(job, folder: Path, images: dict) -> list[str]:
    """Label maps of both sides with one number for each name that both have, and the names; notes."""
    ids = [segmentIds(node) for node in (job.fixedSegmentation, job.movingSegmentation)]
    if len(ids[0]) == len(ids[1]) == 1:  # one each: they are meant for each other, whatever they are called
        ids[1] = dict(zip(ids[0], ids[1].values(), strict=True))
    common = [name for name in ids[0] if name in ids[1]]
    if not common:
        raise RegistrationError(
            _(
                "{fixed} and {moving} have no segment of the same name. Rename the segments that belong together."
            ).format(fixed=job.fixedSegmentation.GetName(), moving=job.movingSegmentation.GetName())
        )
    notes = []
    alone = sorted(set(ids[0]) ^ set(ids[1]))
    if alone:
        notes.append(_("Only on one side, and no guidance: {names}.").format(names=", ".join(alone)))
    numbers = {name: n for n, name in enumerate(common, start=1)}
    nodes = job.fixedSegmentation, job.movingSegmentation
    for (side, image), node, own in zip(images.items(), nodes, ids, strict=True):
        empty = writeLabelMap(node, own, numbers, image, folder / f"{side}_segments.seg.nrrd")
        if empty:
            notes.append(_("{node}: empty, and left out: {names}.").format(node=node.GetName(), names=", ".join(empty)))
    return notes


__all__ = ["checkGuidance", "writeGuidance"]
