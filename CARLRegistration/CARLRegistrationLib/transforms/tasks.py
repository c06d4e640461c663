"""What the engine does with transforms for the panel: exported, imported, inverted, joined, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import slicer
from carlreg.formats.catalog import FORMATS, stem_of
from slicer.i18n import tr as _

from ..common.errors import RegistrationCancelled, RegistrationError
from ..engine import words
from ..engine.task import Task, preparing
from ..mrml.geometry import parents
from ..mrml.transforms import addTransform, checkTransform, sidesOf, writeNode
from ..mrml.volumes import addLabelMap, checkVolume, writeGrid
from .choices import Convention, Direction, ExportFormat, LinearKind, Precision, Which
from .files import (
    TransformSelection,
    writeInitial,
    writeSubject,
    writeVolumes,
)

_ALWAYS_FLOAT64 = ("itk", "tfm", "slicer")
_ALWAYS_FLOAT32 = ("elastix",)


class ConventionNeeded(RegistrationError):
    """The file does not tell what its numbers mean."""


@dataclass(frozen=True)
class Export:
    """How a transform is exported; what a format does not offer is left out. spacing: mm, 0 = the field's own."""

    which: Which = Which.FORWARD
    format: ExportFormat = ExportFormat.ITK
    spacing: float = 0.0
    precision: Precision = Precision.AUTO
    flatten: bool = False

    @property
    def hasField(self) -> bool:
        return FORMATS[self.format.value].parts != "linear"

    @property
    def offersSpacing(self) -> bool:
        return self.hasField and self.format is not ExportFormat.FSL

    @property
    def offersPrecision(self) -> bool:
        return self.hasField and self.format.value not in (*_ALWAYS_FLOAT64, *_ALWAYS_FLOAT32)

    @property
    def offersFlatten(self) -> bool:
        return FORMATS[self.format.value].parts == "any"

    @property
    def endings(self) -> tuple[str, ...]:
        """The format's file endings, the usual one first."""
        return FORMATS[self.format.value].suffixes

    def arguments(self) -> list[str]:
        made = ["--to", self.format.value, "--which", self.which.value]
        if self.offersSpacing and self.spacing > 0:
            made += ["--spacing", f"{self.spacing:g}"]
        if self.offersPrecision and self.precision is not Precision.AUTO:
            made += ["--precision", self.precision.value]
        if self.offersFlatten and self.flatten:
            made.append("--flatten")
        return made

    def named(self, path: Path) -> Path:
        """The path with the format's ending."""
        if path.name.lower().endswith(self.endings):
            return path
        return path.with_name(path.name + self.endings[0])


@dataclass
class TaskResult:
    """What came of a task. nodes: new ones. files: (name, bytes). sidecar: what the engine says of its file.

    figures: all that it told. notes: in words.
    """

    nodes: list = field(default_factory=list)
    files: list = field(default_factory=list)
    sidecar: dict = field(default_factory=dict)
    figures: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def error(self) -> dict:
        """mean, p99, max in mm."""
        return self.sidecar.get("error_mm") or {}

    def sizes(self) -> str:
        """Each file with its size."""
        return "\n".join(f"{name}: {sizeText(size)}" for name, size in self.files if not name.endswith(".json"))


Finish = Callable[[TaskResult], TaskResult]


class TransformTask(Task):
    """A command on transforms; its result is a TaskResult.

    Args of `run`: finish: adds to what the engine told, when it is done. notes: to be told with the result.
    """

    def run(self, arguments: Sequence[str], notes: Sequence[str], finish: Finish | None = None) -> TransformTask:
        """Start the command. Raises RegistrationError."""

        def made(_task: Task) -> TaskResult:
            told = self.told()
            result = TaskResult([], told.get("files", []), told.get("sidecar", {}), told)
            result.notes = [*notes, *told.get("notes", [])]
            return finish(result) if finish is not None else result

        self.start(arguments, made, words.TRANSFORMS)
        return self

    def raiseFailure(self, code: int | None) -> None:
        """Raises ConventionNeeded, too."""
        try:
            super().raiseFailure(code)
        except RegistrationCancelled:
            raise
        except RegistrationError as error:
            if "does not tell its convention" in str(error):
                raise ConventionNeeded(str(error), error.log, error.unexpected) from error
            raise


def sizeText(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


# --- export ----------------------------------------------------------------------------------------------------------


def startExport(
    subject: TransformSelection, export: Export, out: Path | str, dryRun: bool, python: str | None = None
) -> TransformTask:
    """Write a transform for another program, or only tell the sizes and the error.

    Args: out: the file, of which the format may make several; for a dry run its name.
    Raises: RegistrationError.
    """
    if (export.which is Which.WITH_INITIAL) and subject.initial is None:
        raise RegistrationError(
            _("Choose the initial transform, by which the moving volume was placed or resampled before.")
        )

    with preparing(TransformTask(python)) as task:
        used = subject if export.which is Which.INVERSE else _without(subject, "inverse")
        arguments, notes = writeSubject(used, task.folder)
        withInitial = export.which is Which.WITH_INITIAL
        if withInitial:
            notes += writeInitial(subject, task.folder)
            arguments += ["--initial", "initial.h5"]
            _checkBefore(subject, export)
        if export.format is ExportFormat.SLICER:
            writeVolumes(subject, task.folder, subject.initial if withInitial else subject.transform)
        target = Path(out)
        if dryRun:
            target = task.folder / "preview" / target.name
            target.parent.mkdir()
        arguments = ["export", *arguments, *export.arguments(), "--out", str(target)]
        return task.run([*arguments, "--dry-run"] if dryRun else arguments, notes)


def _checkBefore(subject: TransformSelection, export: Export) -> None:
    """Formats that hold the moving volume's geometry need the volume as it was before the initial transform."""
    needed = export.format in (ExportFormat.FSL, ExportFormat.FLIRT, ExportFormat.FREESURFER, ExportFormat.SLICER)
    if needed and subject.moving is not None and subject.initial not in parents(subject.moving):
        raise RegistrationError(
            _(
                "{kind} also says where the moving volume was before {name}, which is not known here: {moving} is not "
                "placed under it. Choose another format."
            ).format(kind=export.format.label(), name=subject.initial.GetName(), moving=subject.moving.GetName())
        )


def _without(subject: TransformSelection, name: str) -> TransformSelection:
    values = {**subject.__dict__, name: None}
    return TransformSelection(**values)


def filesFor(made: TaskResult, previewName: str, out: Path) -> list[Path]:
    """The files that an export will make at a place, from what its preview made."""
    before, after = stem_of(previewName), stem_of(out)
    return [out.with_name(after + name[len(before) :]) for name, _size in made.files if name.startswith(before)]


# --- import ----------------------------------------------------------------------------------------------------------


def startImport(
    paths: Sequence[Path],
    *,
    convention: Convention = Convention.FILE,
    direction: Direction = Direction.FORWARD,
    fixed=None,
    moving=None,
    python: str | None = None,
) -> TransformTask:
    """A transform node of a file of any program; of several files, joined: points go through the first one first.

    Args: fixed, moving: volume nodes, or None where the file does not need them. They count as they are in their files,
        without parent transforms: other programs know nothing else.
    """
    for path in paths:
        if not path.is_file():
            raise RegistrationError(_("{path} is not there. Choose a transform file.").format(path=path))
    placed = []
    for node, what in ((fixed, _("fixed volume")), (moving, _("moving volume"))):
        if node is not None:
            checkVolume(node, what)
            placed += [node] if node.GetParentTransformNode() is not None else []
    notes = [
        _("It is taken to be of {name} as in its file, not as it is placed under {parent}.").format(
            name=node.GetName(), parent=node.GetParentTransformNode().GetName()
        )
        for node in placed
    ]

    with preparing(TransformTask(python)) as task:
        arguments = ["convert" if len(paths) == 1 else "compose", *map(str, paths)]
        for side, node, what in (("fixed", fixed, _("fixed volume")), ("moving", moving, _("moving volume"))):
            if node is not None:
                writeGrid(node, task.folder / f"{side}.mha", what, own=True)
                arguments += [f"--{side}", f"{side}.mha"]
        if convention is not Convention.FILE:
            arguments += ["--convention", convention.value]
        if direction is Direction.INVERSE:
            arguments += ["--direction", "inverse"]
        out = task.folder / "imported.h5"

        def finish(made: TaskResult) -> TaskResult:
            made.nodes.append(addTransform(out, stem_of(paths[0]), fixed, moving))
            return made

        return task.run([*arguments, "--out", out.name, "--to", "itk"], notes, finish)


# --- other transforms ------------------------------------------------------------------------------------------------


def startInvert(subject: TransformSelection, spacing: float = 0.0, python: str | None = None) -> TransformTask:
    """The inverse as a node, and a label map of the moving volume where there is none, at a tolerance of its size.

    spacing: of the inverse field, mm; 0 = the field's own.
    """

    with preparing(TransformTask(python)) as task:
        arguments, notes = writeSubject(_without(subject, "inverse"), task.folder)
        arguments = ["invert", *arguments, "--failed", "failed.nii.gz"]
        arguments += ["--spacing", f"{spacing:g}"] if spacing > 0 else []
        name = subject.transform.GetName()

        def finish(made: TaskResult) -> TaskResult:
            title = _("{name} (inverse)").format(name=name)
            made.nodes.append(addTransform(task.folder / "made.h5", title, subject.moving, subject.fixed))
            report = made.figures.get("inverse") or {}
            if report.get("not_inverted_percent") and (task.folder / "failed.nii.gz").is_file():
                failed = addLabelMap(task.folder / "failed.nii.gz", _("{name}: not inverted").format(name=name))
                made.nodes += [failed] if failed is not None else []
            return made

        return task.run([*arguments, "--out", "made.h5"], notes, _undoing(finish))


def startLinear(subject: TransformSelection, kind: LinearKind, python: str | None = None) -> TransformTask:
    """The rigid, similarity or affine part as a node; made.figures["left_mm"] is what it leaves."""

    with preparing(TransformTask(python)) as task:
        arguments, notes = writeSubject(_without(subject, "inverse"), task.folder)
        title = _("{name} ({kind} part)").format(name=subject.transform.GetName(), kind=kind.value)
        finish = _adding(task.folder / "made.tfm", title, subject.fixed, subject.moving)
        arguments = ["linear", *arguments, "--kind", kind.value, "--out", "made.tfm"]
        return task.run(arguments, notes, finish)


def startResample(subject: TransformSelection, spacing: float, python: str | None = None) -> TransformTask:
    """The transform with its field on nodes `spacing` mm apart, as a node; made.error is what that changes."""
    checkTransform(subject.transform)
    if not spacing > 0:
        raise RegistrationError(_("Set the field spacing that the field is to have."))
    if subject.transform.IsTransformToWorldLinear():
        raise RegistrationError(
            _("{name} is linear: it has no field to resample.").format(name=subject.transform.GetName())
        )

    with preparing(TransformTask(python)) as task:
        arguments, notes = writeSubject(_without(subject, "inverse"), task.folder)
        title = _("{name} ({mm:g} mm)").format(name=subject.transform.GetName(), mm=spacing)
        finish = _adding(task.folder / "made.h5", title, subject.fixed, subject.moving)
        arguments = ["convert", *arguments, "--spacing", f"{spacing:g}", "--out", "made.h5"]
        return task.run(arguments, notes, finish)


def startCompose(subject: TransformSelection, others: Sequence, python: str | None = None) -> TransformTask:
    """The transform and, after it, others (nodes) as one node: points go through the first one first."""
    if not others:
        raise RegistrationError(_("Add the transforms that come after this one."))
    for node in others:
        checkTransform(node)
    end = sidesOf(others[-1])[1] or subject.moving

    with preparing(TransformTask(python)) as task:
        import SimpleITK as sitk

        arguments, notes = writeSubject(_without(subject, "inverse"), task.folder)
        files = [arguments[0]]
        around = sitk.ReadImage(str(task.folder / "moving.mha")) if subject.moving is not None else None
        for number, node in enumerate(others, start=2):
            files.append(f"transform{number}.h5")
            note = writeNode(node, task.folder / files[-1], around)
            notes += [note] if note else []
        title = _("{first} then {last}").format(first=subject.transform.GetName(), last=others[-1].GetName())
        finish = _adding(task.folder / "made.h5", title, subject.fixed, end)
        fixed = ["--fixed", "fixed.mha"] if subject.fixed is not None else []
        return task.run(["compose", *files, *fixed, "--out", "made.h5"], notes, finish)


def _adding(path: Path, title: str, fixed, moving) -> Callable[[TaskResult], TaskResult]:
    def finish(made: TaskResult) -> TaskResult:
        made.nodes.append(addTransform(path, title, fixed, moving))
        return made

    return finish


def _undoing(finish: Callable[[TaskResult], TaskResult]) -> Callable[[TaskResult], TaskResult]:
    """A finish of several nodes: all of them, or none."""

    def guarded(made: TaskResult) -> TaskResult:
        try:
            return finish(made)
        except BaseException:
            for node in made.nodes:
                slicer.mrmlScene.RemoveNode(node)
            raise

    return guarded


__all__ = [
    "ConventionNeeded",
    "Export",
    "TaskResult",
    "TransformTask",
    "filesFor",
    "sizeText",
    "startCompose",
    "startExport",
    "startImport",
    "startInvert",
    "startLinear",
    "startResample",
]
