"""What a registration made: the engine's files as nodes of the scene, and its metrics."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ..common.files import removeFolder
from ..mrml import colors, hierarchy
from ..mrml.display import copyDisplay
from ..mrml.geometry import parents, swapRasLps
from ..mrml.transforms import readMatrix, readTransform, setOutputs
from ..mrml.undo import Undo
from ..mrml.volumes import SETTINGS, readVolumeInto
from .job import Job

FILES = {
    "transform": "transform.h5",
    "inverse_transform": "inverse_transform.h5",
    "warped": "warped.nii.gz",
    "jacobian": "jacobian.nii.gz",
    "uncertainty": "uncertainty.nii.gz",
}
_NAME = "CARLRegistration.Name"  # likewise: the name that it was given
_OPTIONAL = ("uncertainty",)  # the engine says in its notes why it made none
_TRANSFORMS = ("transform", "inverse_transform")


@dataclass(eq=False)
class Result:
    """What a run made. nodes: kind -> node. quality: the engine's figures (see quality.json). seconds: wall time.

    report_folder: the job folder while the report can be made from it, see `discard`. undo: takes it back.
    """

    job: Job
    nodes: dict
    quality: dict
    seconds: float
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    log: str = ""
    job_folder: Path | None = None
    report_folder: Path | None = None
    undo: Undo | None = None

    def discard(self) -> None:
        """Remove the files that were kept for the report."""
        folder, self.report_folder = self.report_folder, None
        if folder is not None and folder != self.job_folder:
            removeFolder(folder)

    def line(self) -> str:
        """The key figures in one short line."""
        parts = [_("Done in {seconds:.0f} s").format(seconds=self.seconds)]
        similarity = self.quality.get("similarity") or {}
        before, after = (similarity.get(when, {}).get("lncc") for when in ("before", "after"))
        if after is not None:
            start = f"{before:.2f} \u2192 " if before is not None else ""
            parts.append(_("local correlation {values}").format(values=f"{start}{after:.2f}"))
        overlap = self.quality.get("overlap_percent")
        if overlap is not None:
            parts.append(_("overlap {percent:.0f} %").format(percent=overlap))
        jacobian = self.quality.get("jacobian") or {}
        folds, outside = jacobian.get("fold_percent"), jacobian.get("fold_voxels_outside") or 0
        if folds:
            parts.append(_("folds {percent:.3g} %").format(percent=folds))
        elif folds is not None:
            parts.append(_("{count} voxels fold outside the body").format(count=outside) if outside else _("no folds"))
        inverse = (self.quality.get("inverse_error_mm") or {}).get("mean")
        if inverse is not None:
            parts.append(_("inverse consistency error {mm:.2f} mm").format(mm=inverse))
        return ", ".join(parts) + "."


def warningsOf(quality: dict) -> list[str]:
    """What the engine says must not be missed, each sentence once."""
    return list(dict.fromkeys(quality.get("warnings") or []))


def loadResult(job: Job, folder: Path, undo: Undo) -> tuple[dict, dict, list[str]]:
    """Make or fill the nodes that a job asks for, of a result's folder; all of them, or none.

    Returns: nodes by kind, the engine's quality, notes on what was not made.
    """
    quality = json.loads((folder / "quality.json").read_text(encoding="utf-8"))
    settings = (folder / "settings.json").read_text(encoding="utf-8")
    nodes, notes = {}, []
    try:
        for kind, wanted, node in job.outputs():
            if wanted and kind in _OPTIONAL and not (folder / FILES[kind]).is_file():
                reason = (quality.get("notes") or {}).get(kind)
                if reason:
                    notes.append(reason)
            elif wanted:
                nodes[kind] = _load(job, kind, node, folder / FILES[kind], undo)
                nodes[kind].SetAttribute(SETTINGS, settings)
        if "transform" in nodes:
            setOutputs(nodes["transform"], nodes)
        if quality.get("motions"):
            nodes["motions"] = _motionsTable(job, quality["motions"], undo)
            notes.append(_("How the segments moved: table {name}.").format(name=nodes["motions"].GetName()))
        if job.placeMoving:
            notes.append(_placeMoving(job, nodes.get("transform"), undo))
    except BaseException:
        undo.apply()
        raise
    return nodes, quality, notes


def _load(job: Job, kind: str, node, path: Path, undo: Undo):
    """The node of one output; node: to be filled, or None for a new one."""
    fixed, moving = job.fixedVolume, job.movingVolume
    transform = kind in _TRANSFORMS
    if node is None:
        ofTransform = "vtkMRMLLinearTransformNode" if job.settings.linear else "vtkMRMLTransformNode"
        className = ofTransform if transform else "vtkMRMLScalarVolumeNode"
        node = slicer.mrmlScene.AddNewNodeByClass(className)
        undo.isNew(node)
        _giveName(node, _outputName(kind, fixed, moving))
    else:
        undo.willFill(node)
        if node.GetAttribute(_NAME) == node.GetName():  # not the user's own
            _giveName(node, _outputName(kind, fixed, moving))
    if transform:
        node.SetAndObserveTransformNodeID(None)
        if job.settings.linear:
            node.SetMatrixTransformFromParent(readMatrix(path))
        else:
            node.SetAndObserveTransformFromParent(readTransform(path))
        first, second = (fixed, moving) if kind == "transform" else (moving, fixed)
        hierarchy.addTransform(node, first, second)  # DICOM spatial registration export asks for it
        return node
    readVolumeInto(path, node)
    node.CreateDefaultDisplayNodes()
    if kind == "warped":
        copyDisplay(moving, node)
    elif kind == "uncertainty":
        colors.showUncertainty(node, path)
    hierarchy.addImage(node, moving if kind == "warped" else fixed, fixed)
    return node


def _motionsTable(job: Job, motions: list[dict], undo: Undo):
    """A table node with a row for each rigid or stiff segment; axes are R, A, S, as everywhere in Slicer."""
    name = _("Motions: {moving} to {fixed}").format(moving=job.movingVolume.GetName(), fixed=job.fixedVolume.GetName())
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", slicer.mrmlScene.GenerateUniqueName(name))
    undo.isNew(node)
    turns = [swapRasLps(np.array(one["euler_degrees"])) for one in motions]
    shifts = [swapRasLps(np.array(one["translation_lps"])) for one in motions]
    columns = [
        (_("Segment"), [one["name"] for one in motions]),
        (_("Kind"), [one["kind"] for one in motions]),
        (_("Relative to"), [one["relative_to"] or _("fixed volume") for one in motions]),
        (_("Rotation, degrees"), [f"{one['rotation_degrees']:.2f}" for one in motions]),
        *(
            (_("About {axis}, degrees").format(axis=axis), [f"{t[n]:.2f}" for t in turns])
            for n, axis in enumerate("RAS")
        ),
        *((_("Shift {axis}, mm").format(axis=axis), [f"{t[n]:.2f}" for t in shifts]) for n, axis in enumerate("RAS")),
        (_("Shift, mm"), [f"{one['translation_mm']:.2f}" for one in motions]),
        (_("Deviation, mm"), [f"{one['deviation_max_mm']:.3f}" for one in motions]),
    ]
    table = node.GetTable()
    for title, cells in columns:
        column = vtk.vtkStringArray()
        column.SetName(title)
        for cell in cells:
            column.InsertNextValue(cell)
        table.AddColumn(column)
    node.SetUseColumnNameAsColumnHeader(True)
    node.SetLocked(True)
    hierarchy.placeBeside(node, job.fixedVolume)
    return node


def _placeMoving(job: Job, transform, undo: Undo) -> str:
    """Put the moving volume, with the transforms it is under, under the result; returns what was done, in words."""
    if transform is None:
        return _("The moving volume was not placed: no transform output was chosen.")
    top = [job.movingVolume, *parents(job.movingVolume)][-1]
    if any(one is top for one in [job.fixedVolume, *parents(job.fixedVolume)]):
        return _("The moving volume was not placed: the fixed volume is under {name} too and would move.").format(
            name=top.GetName()
        )
    undo.willPlace(top)
    top.SetAndObserveTransformNodeID(transform.GetID())
    return _("{name} was placed under {transform}.").format(name=top.GetName(), transform=transform.GetName())


def _outputName(kind: str, fixed, moving) -> str:
    """What comes first is not cut off where names are long."""
    names = {"fixed": fixed.GetName(), "moving": moving.GetName()}
    return {
        "transform": _("Transform: {moving} to {fixed}"),
        "inverse_transform": _("Inverse: {fixed} to {moving}"),
        "warped": _("Warped: {moving} to {fixed}"),
        "jacobian": _("Jacobian: {moving} to {fixed}"),
        "uncertainty": _("Uncertainty: {moving} to {fixed}"),
    }[kind].format(**names)


def _giveName(node, name: str) -> None:
    """A name of the module's, which it changes when it fills the node for another pair."""
    if not re.fullmatch(re.escape(name) + r"(_\d+)?", node.GetName() or ""):
        node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
    node.SetAttribute(_NAME, node.GetName())
