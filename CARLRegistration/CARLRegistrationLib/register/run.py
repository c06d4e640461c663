"""One registration: nodes -> job folder -> the engine's process -> nodes, and how to undo it."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import slicer
from carlreg.errors import CarlError
from carlreg.models.catalog import MODELS
from slicer.i18n import tr as _

from ..common.errors import RegistrationCancelled, RegistrationError
from ..engine import dependencies
from ..engine.process import BAD_INPUT, CANCELLED, DONE, EngineProcess, engine_environment
from ..mrml import colors, hierarchy
from ..mrml.display import copyDisplay
from ..mrml.segmentations import writeMask
from ..mrml.sequences import checkNotSequence
from ..mrml.transforms import readTransform, writeInitialTransform
from ..mrml.undo import Undo
from ..mrml.volumes import checkVolume, notANumber, readVolumeInto, writeVolume
from .parameters import Job, engineArguments

log = logging.getLogger("CARLRegistration")

FILES = {
    "transform": "transform.h5",
    "inverse_transform": "inverse_transform.h5",
    "warped": "warped.nii.gz",
    "jacobian": "jacobian.nii.gz",
    "uncertainty": "uncertainty.nii.gz",
}
_OPTIONAL = ("uncertainty",)  # the engine says in its notes why it made none
_TRANSFORMS = ("transform", "inverse_transform")
# Below these a result is pointed out as doubtful; an unrelated pair ends near 0.05, a good one well above 0.2.
LOW_SIMILARITY, LITTLE_OVERLAP_PERCENT = 0.10, 20.0
# What the engine's messages call its options, and where they are in the panel.
_PANEL_NAMES = {
    "--allow-untrained": "allow_untrained (from Python)",
    "--device": "Device",
    "--field-spacing": "Field spacing",
    "--grid": "Network grid",
    "--io-method field": "IO method 'Displacement field'",
    "--model carl-compact": "Model 'carl-compact'",
    "--out": "the temporary folder",
    "--weights FILE": "the Weights file",
    "--weights": "Weights file",
}


@dataclass(frozen=True)
class Status:
    """Where a run stands, for people. seconds_left: None while unknown."""

    stage: str = ""
    message: str = ""
    fraction: float = 0.0
    elapsed: float = 0.0
    seconds_left: float | None = None
    cancelling: bool = False


@dataclass
class Result:
    """What a run made. nodes: kind -> node. quality: the engine's figures (see quality.json). seconds: wall time.

    report_folder: the job folder while the report can be made from it, see `discard`.
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

    def discard(self) -> None:
        """Remove the files that were kept for the report."""
        folder, self.report_folder = self.report_folder, None
        if folder is not None and folder != self.job_folder:
            shutil.rmtree(folder, ignore_errors=True)

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
        folds = (self.quality.get("jacobian") or {}).get("fold_percent")
        if folds is not None:
            parts.append(_("no folds") if folds == 0 else _("folds {percent:.3g} %").format(percent=folds))
        inverse = (self.quality.get("inverse_error_mm") or {}).get("mean")
        if inverse is not None:
            parts.append(_("inverse within {mm:.2f} mm").format(mm=inverse))
        return ", ".join(parts) + "."


# --- checks ----------------------------------------------------------------------------------------------------------


def problemOf(job: Job) -> str:
    """Why this job cannot be started, in a line, or "". Cheap: asked at every change in the panel."""
    try:
        checkJob(job)
    except (RegistrationError, CarlError) as error:
        return str(error)
    return ""


def checkJob(job: Job) -> None:
    """Raise RegistrationError for what can be seen to be wrong without reading voxels."""
    fixed, moving = job.fixedVolume, job.movingVolume
    checkVolume(fixed, _("fixed volume"))
    checkVolume(moving, _("moving volume"))
    if fixed is moving:
        raise RegistrationError(_("Fixed and moving are the same volume. Choose two different ones."))
    if not any(wanted for _kind, wanted, _node in job.outputs()):
        raise RegistrationError(_("No output is chosen. Check at least one under Outputs."))
    inputs = [fixed, moving, job.fixedMask, job.movingMask, job.initialTransform]
    for node in (fixed, moving, job.initialTransform):
        parent = node.GetParentTransformNode() if node is not None else None
        while parent is not None:
            inputs.append(parent)
            parent = parent.GetParentTransformNode()
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
        if node is not None and node.GetClassName() not in ("vtkMRMLTransformNode", "vtkMRMLGridTransformNode"):
            raise RegistrationError(
                _("{name}: the {what} output must be a general transform node. Choose a new one.").format(
                    name=node.GetName(), what=what
                )
            )
    for what, node in ((_("fixed volume"), fixed), (_("moving volume"), moving)):
        checkNotSequence(node, what)
    if job.settings.weights and not Path(job.settings.weights).expanduser().is_file():
        raise RegistrationError(
            _("Weights file: {path} is not there. Choose another.").format(path=job.settings.weights)
        )
    if not MODELS[job.settings.model].shipped and not job.settings.weights:
        raise RegistrationError(
            _("The weights of {model} do not come with this module. Choose your weights file under Advanced.").format(
                model=job.settings.model
            )
        )


# --- a run -----------------------------------------------------------------------------------------------------------


class RegistrationRun:
    """One run. `start()`, then `poll()` until it returns a Result or raises; `cancel()` or `abort()` in between.

    Args: tell: called with a Status at each poll.
    """

    def __init__(self, job: Job, tell: Callable[[Status], None] | None = None) -> None:
        self.job = job
        self.undo = Undo()
        self._tell = tell or (lambda status: None)
        self._folder: Path | None = None
        self._process: EngineProcess | None = None
        self._check: dependencies.PythonCheck | None = None
        self._arguments: list[str] = []
        self._status = Status()
        self._notes: list[str] = []
        self._log = ""
        self._kept = False

    @property
    def folder(self) -> Path | None:
        return self._folder

    def start(self) -> None:
        """Check, write the inputs, start the engine. Raises RegistrationError; then nothing is left behind."""
        checkJob(self.job)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="CARLRegistration-", dir=_temporaryFolder()))
            python = self.job.enginePython
            if python and not Path(python).expanduser().is_file():
                raise RegistrationError(
                    _("Engine Python: {path} is not there. Choose another, or none for Slicer's own.").format(
                        path=python
                    )
                )
            self._arguments = self._writeInputs()
            if python and not dependencies.isChecked(python):
                self._check = dependencies.PythonCheck(python, self._folder)
            else:
                self._launch()
        except BaseException:
            self._cleanUp()
            raise

    def _launch(self) -> None:
        python = self.job.enginePython
        environment = engine_environment(python, dependencies.startupEnvironment() if python else None)
        try:
            self._process = EngineProcess(self._arguments, self._folder, python, environment)
        except OSError as error:
            raise RegistrationError(
                _(
                    "The engine could not be started: {error}. Is the disk full, or the engine Python no program?"
                ).format(error=error.strerror or error)
            ) from error
        log.info("CARLRegistration started: %s", " ".join(self._process.command))

    def poll(self) -> Result | None:
        """None while running. Raises RegistrationCancelled, RegistrationError; then nothing is left behind."""
        if self._check is not None:
            self._pollCheck()
            return None
        report = self._process.poll()
        for record in report.records:
            self._status = Status(
                str(record.get("stage", "")),
                str(record.get("message", "")),
                float(record.get("fraction") or 0.0),
                self._process.elapsed,
                record.get("seconds_left"),
                self._process.cancelling,
            )
            self._tell(self._status)  # each: a short stage would be missed between two polls
        cancelling = self._process.cancelling
        self._status = Status(
            self._status.stage,
            self._status.message,
            self._status.fraction,
            self._process.elapsed,
            _passing(self._status.seconds_left, self._process.elapsed - self._status.elapsed),
            cancelling,
        )
        self._tell(self._status)
        if report.running:
            return None
        try:
            self._log = self._process.log()
            self._raiseFailure(report.exit_code)
            return self._import()
        except RegistrationError:
            raise
        except Exception as error:
            raise RegistrationError(
                _("The results could not be loaded. Please report this with the log. {error}").format(error=error),
                self._log,
                unexpected=True,
            ) from error
        finally:
            self._cleanUp()

    def _pollCheck(self) -> None:
        """Another Python is asked what it has before it gets the job; once in a session."""
        self._status = Status("check", self.job.enginePython, 0.0, self._check.elapsed, None, self._check.stopped)
        self._tell(self._status)
        try:
            if self._check.stopped:
                raise RegistrationCancelled(_("Cancelled; nothing was changed."))
            found = self._check.poll()
            if found is None:
                return
            problem = dependencies.checkProblem(found, True)
            if problem:
                raise RegistrationError(_("Engine Python: {problem}").format(problem=problem))
            dependencies.setChecked(self.job.enginePython)
            self._check = None
            self._launch()
        except BaseException:
            self._cleanUp()
            raise

    def log(self) -> str:
        """What the engine wrote, so far or in all."""
        return self._process.log() if self._process is not None and self._folder is not None else self._log

    def cancel(self) -> None:
        """Ask the engine to stop; `poll` says when it has."""
        if self._check is not None:
            self._check.stop()
        if self._process is not None:
            self._process.cancel()

    def abort(self) -> None:
        """Stop now, wait for it (at most three seconds), leave nothing behind."""
        if self._check is not None:
            self._check.stop()
        if self._process is not None:
            self._process.stop()
        self._cleanUp()

    # -- files

    def _writeInputs(self) -> list[str]:
        job, folder = self.job, self._folder
        fixedImage, note = writeVolume(job.fixedVolume, folder / "fixed.mha", _("fixed volume"))
        self._notes += [note] if note else []
        movingImage, note = writeVolume(job.movingVolume, folder / "moving.mha", _("moving volume"))
        self._notes += [note] if note else []
        arguments = ["register", "fixed.mha", "moving.mha", "--out", "result", "--progress", "json"]
        arguments += ["--control", "stdin"]
        for side, node, segment, image in (
            ("fixed", job.fixedMask, job.fixedMaskSegment, fixedImage),
            ("moving", job.movingMask, job.movingMaskSegment, movingImage),
        ):
            if node is not None:
                what = _("fixed mask") if side == "fixed" else _("moving mask")
                writeMask(node, segment, folder / f"{side}_mask.mha", image, what)
                arguments += [f"--{side}-mask", f"{side}_mask.mha"]
        if job.initialTransform is not None:
            path = folder / "initial.h5"
            writeInitialTransform(job.initialTransform, path, fixedImage, job.movingVolume)
            arguments += ["--initial-transform", path.name]
        return arguments + engineArguments(job.settings)

    def _raiseFailure(self, code: int) -> None:
        if code == DONE:
            return
        if code == CANCELLED:
            raise RegistrationCancelled(_("Cancelled; nothing was changed."), self._log)
        said = [line for line in self._log.splitlines() if line.startswith("Error: ")]
        text = _inPanelWords(said[-1].removeprefix("Error: ")) if said else ""
        if code == BAD_INPUT and text:
            raise RegistrationError(text, self._log)
        unexpected = not said or "Please report it" in text
        if unexpected:
            text = _("The engine stopped unexpectedly (code {code}). Please report this with the log. {text}").format(
                code=code, text=text
            )
        raise RegistrationError(text.strip(), self._log, unexpected)

    # -- nodes

    def _import(self) -> Result:
        folder = self._folder / "result"
        quality = json.loads((folder / "quality.json").read_text(encoding="utf-8"))
        settings = (folder / "settings.json").read_text(encoding="utf-8")
        nodes = {}
        try:
            for kind, wanted, node in self.job.outputs():
                if wanted and kind in _OPTIONAL and not (folder / FILES[kind]).is_file():
                    reason = (quality.get("notes") or {}).get(kind)
                    if reason:
                        self._notes.append(_("No {kind}: {reason}").format(kind=kind, reason=reason))
                elif wanted:
                    nodes[kind] = self._importOne(kind, node, folder / FILES[kind], settings)
            if self.job.placeMoving:
                self._placeMoving(nodes.get("transform"))
        except BaseException:
            self.undo.apply()
            raise
        warnings = [*quality.get("warnings", []), *doubts(quality)]
        seconds = self._process.elapsed
        log.info("CARLRegistration done in %.0f s", seconds)
        kept = self._folder if self.job.keepJobFolder else None
        self._kept = self.job.keepForReport
        report = self._folder if kept is not None or self._kept else None
        return Result(self.job, nodes, quality, seconds, warnings, self._notes, self._log, kept, report)

    def _importOne(self, kind: str, node, path: Path, settings: str):
        fixed, moving = self.job.fixedVolume, self.job.movingVolume
        transform = kind in _TRANSFORMS
        if node is None:
            className = "vtkMRMLTransformNode" if transform else "vtkMRMLScalarVolumeNode"
            name = slicer.mrmlScene.GenerateUniqueName(_outputName(kind, fixed, moving))
            node = slicer.mrmlScene.AddNewNodeByClass(className, name)
            self.undo.isNew(node)
        else:
            self.undo.willFill(node)
        if transform:
            node.SetAndObserveTransformNodeID(None)
            node.SetAndObserveTransformFromParent(readTransform(path))
            first, second = (fixed, moving) if kind == "transform" else (moving, fixed)
            hierarchy.addTransform(node, first, second)  # DICOM spatial registration export asks for it
        else:
            readVolumeInto(path, node)
            node.CreateDefaultDisplayNodes()
            if kind == "warped":
                copyDisplay(moving, node)
            elif kind == "uncertainty":  # views cannot show NaN
                values = slicer.util.arrayFromVolume(node).astype("float32")
                values[notANumber(path)] = colors.UNKNOWN
                slicer.util.updateVolumeFromArray(node, colors.knownUncertainty(values))
                colors.style(node, colors.uncertaintyScale(colors.uncertaintyRange(node)))
            hierarchy.addImage(node, moving if kind == "warped" else fixed, fixed)
        node.SetAttribute("CARLRegistration.Settings", settings)
        return node

    def _placeMoving(self, transform) -> None:
        """Put the moving volume, with the transforms it is under, under the result."""
        if transform is None:
            self._notes.append(_("The moving volume was not placed: no transform output was chosen."))
            return
        top = self.job.movingVolume
        while top.GetParentTransformNode() is not None:
            top = top.GetParentTransformNode()
        other = self.job.fixedVolume
        while other is not None:
            if other is top:
                self._notes.append(
                    _("The moving volume was not placed: the fixed volume is under {name} too and would move.").format(
                        name=top.GetName()
                    )
                )
                return
            other = other.GetParentTransformNode()
        self.undo.willPlace(top)
        top.SetAndObserveTransformNodeID(transform.GetID())
        self._notes.append(
            _("{name} was placed under {transform}.").format(name=top.GetName(), transform=transform.GetName())
        )

    def _cleanUp(self) -> None:
        folder, self._folder = self._folder, None
        if folder is None:
            return
        if not (self._kept or (self.job.keepJobFolder and (folder / "result").is_dir())):
            shutil.rmtree(folder, ignore_errors=True)


def doubts(quality: dict) -> list[str]:
    """Why a result should be looked at closely, in words; empty for an ordinary one."""
    found = []
    folds = (quality.get("jacobian") or {}).get("fold_percent") or 0.0
    if folds > 0:
        found.append(_("The map folds in {percent:.3g} % of the body. Raise the smoothness.").format(percent=folds))
    similarity = quality.get("similarity") or {}
    before, after = ((similarity.get(when) or {}).get("lncc") for when in ("before", "after"))
    if after is not None and after < LOW_SIMILARITY:
        found.append(
            _("The images agree little (local correlation {value:.2f}). Look at the result; try Rotation.").format(
                value=after
            )
        )
    elif before is not None and after is not None and after < before:
        found.append(
            _("The images agree less than before ({before:.2f} to {after:.2f}).").format(before=before, after=after)
        )
    overlap = quality.get("overlap_percent")
    if overlap is not None and overlap < LITTLE_OVERLAP_PERCENT:
        found.append(_("Only {percent:.0f} % of the fixed body is seen in the moving volume.").format(percent=overlap))
    return found


def _outputName(kind: str, fixed, moving) -> str:
    names = {"fixed": fixed.GetName(), "moving": moving.GetName()}
    return {
        "transform": _("{moving} to {fixed} transform"),
        "inverse_transform": _("{fixed} to {moving} transform (inverse)"),
        "warped": _("{moving} warped to {fixed}"),
        "jacobian": _("Jacobian, {moving} to {fixed}"),
        "uncertainty": _("Uncertainty, {moving} to {fixed}"),
    }[kind].format(**names)


def _passing(seconds: float | None, passed: float) -> float | None:
    return None if seconds is None else max(0.0, seconds - max(0.0, passed))


def _inPanelWords(text: str) -> str:
    for option, name in _PANEL_NAMES.items():
        text = text.replace(option, name)
    return text


def _temporaryFolder() -> str | None:
    folder = getattr(slicer.app, "temporaryPath", None)
    return folder if folder and Path(folder).is_dir() else None


def waitFor(run, seconds: float = 0.05):
    """Poll a started run to its end and return its result; Slicer's events go on meanwhile."""
    while True:
        result = run.poll()
        if result is not None:
            return result
        slicer.app.processEvents()
        time.sleep(seconds)
