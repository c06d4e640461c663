"""One transform applied to many nodes: checked, computed outside the scene, and added to it at the end, all or nothing.

Voxels are resampled by the engine's process; points and what is hardened are mapped by Slicer's own transforms, one
node after the other, so that the panel stays alive and can cancel in between.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationCancelled, RegistrationError
from ..inspect.evaluation import newFolder
from ..mrml import hierarchy
from ..mrml.copies import newNode
from ..mrml.display import showLike
from ..mrml.geometry import parents
from ..mrml.sequences import browserOf, checkNotSequence, frames, proxyOf
from ..mrml.transforms import checkTransform, flatTransform
from ..mrml.undo import Undo
from ..mrml.volumes import checkVolume
from ..register.run import waitFor
from . import voxels as apply_voxels
from .choices import ApplyDirection, ApplyGrid, ApplyInterpolation, ApplyMethod
from .maps import MappingDirection, Placed, below, checkOverlap
from .nodes import Kind, checkNode, kindOf, sample
from .voxels import ResampleItem

SOURCE_ROLE, TRANSFORM_ROLE = "CARLRegistration.Source", "CARLRegistration.Transform"
ATTRIBUTE = "CARLRegistration.Applied"
_POLL_SECONDS = 0.04


@dataclass(frozen=True)
class ApplyJob:
    """nodes: what the transform (a node; moving side to fixed side as Slicer places data under it) is applied to.

    reference: volume whose grid is taken, for ApplyGrid.REFERENCE. massPreserving: intensities times the determinant of
    the Jacobian. inPlace: harden the nodes themselves instead of copies. enginePython: None for Slicer's own.
    """

    nodes: tuple
    transform: object
    direction: ApplyDirection = ApplyDirection.TO_FIXED
    method: ApplyMethod = ApplyMethod.RESAMPLE
    grid: ApplyGrid = ApplyGrid.TARGET
    reference: object = None
    interpolation: ApplyInterpolation = ApplyInterpolation.LINEAR
    massPreserving: bool = False
    inPlace: bool = False
    enginePython: str | None = None


@dataclass
class ApplyResult:
    """made: (node, what was made of it; itself when it was placed or hardened in place). notes: in words."""

    job: ApplyJob
    made: list
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


# --- checks ----------------------------------------------------------------------------------------------------------


def problemOf(job: ApplyJob) -> str:
    """Why this cannot be started, in a line, or "". Cheap: no voxels are looked at, nothing is mapped."""
    try:
        _checkChoices(job)
    except RegistrationError as error:
        return str(error)
    return ""


def _checkChoices(job: ApplyJob) -> None:
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
    known = job.grid is ApplyGrid.REFERENCE or MappingDirection.targetOf(job.transform, _toFixed(job)) is not None
    if not known and any(_hasVoxels(node) for node in job.nodes):
        raise RegistrationError(
            _(
                "{name} does not say which volumes it was made for. Choose 'Reference volume' for the output's grid, "
                "and a reference volume."
            ).format(name=job.transform.GetName())
        )


def _toFixed(job: ApplyJob) -> bool:
    return job.direction is ApplyDirection.TO_FIXED


def _hasVoxels(node) -> bool:
    one = sample(node)
    return ResampleItem(node, one, kindOf(one)).isResampled()


def needsEngine(job: ApplyJob) -> bool:
    """True when voxels are resampled; all else is done here."""
    return job.method is ApplyMethod.RESAMPLE and any(_hasVoxels(node) for node in job.nodes)


def gridVolume(job: ApplyJob, way: MappingDirection):
    """The volume on whose grid (or in whose box) the output lies."""
    return job.reference if job.grid is ApplyGrid.REFERENCE else way.sides.target


# --- a run -----------------------------------------------------------------------------------------------------------


class Applying:
    """`start()`, then `poll()` until it returns an ApplyResult or raises; `cancel()` or `abort()` in between.

    Args: tell: called with what is being done, in words, and its share of the whole, 0 to 1.
    """

    def __init__(self, job: ApplyJob, tell: Callable[[str, float], None] | None = None) -> None:
        self.job = job
        self.undo = Undo()
        self._tell = tell or (lambda text, share: None)
        self._notes: list[str] = []
        self._folder = self._process = self._steps = None
        self._cancelled = False
        self._began = 0.0

    def start(self) -> None:
        """Check. Raises RegistrationError for what cannot be done; nothing is changed then."""
        job = self.job
        _checkChoices(job)
        self._way = MappingDirection(job.transform, _toFixed(job))
        self._began = time.monotonic()
        self._checkSpace()
        self._steps = self._run()

    def poll(self) -> ApplyResult | None:
        """None while running. Raises RegistrationCancelled, RegistrationError; then the scene is as it was."""
        until = time.monotonic() + _POLL_SECONDS
        try:
            while True:
                if self._cancelled and self._process is None:
                    raise RegistrationCancelled(_("Cancelled; nothing was changed."))
                next(self._steps)
                if self._process is not None or time.monotonic() > until:
                    return None
        except StopIteration as done:
            self._cleanUp()
            self.undo.end()
            return done.value
        except RegistrationError:
            self._takeBack()
            raise
        except Exception as error:
            self._takeBack()
            raise RegistrationError(
                _("The transform could not be applied. Please report this: {error}").format(error=error),
                unexpected=True,
            ) from error

    @property
    def cancelling(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        """Stop soon; `poll` says when it has."""
        self._cancelled = True
        if self._process is not None:
            self._process.cancel()

    def abort(self) -> None:
        """Stop now; the scene is as it was."""
        if self._process is not None:
            self._process.stop()
        self._takeBack()

    def _takeBack(self) -> None:
        self._steps = None
        self.undo.apply()
        self._cleanUp()

    def _cleanUp(self) -> None:
        self._process = None
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _checkSpace(self) -> None:
        job, way = self.job, self._way
        for node in job.nodes:
            shown = _shownBy(node)
            grid = gridVolume(job, way) if job.method is ApplyMethod.RESAMPLE and _hasVoxels(node) else None
            if grid is not None:
                checkVolume(grid, _("reference volume"))
                if way.acting is not None and way.acting in parents(grid):
                    raise RegistrationError(
                        _(
                            "{volume} is itself placed under {name}, so its grid is not where the output belongs. Take "
                            "it out of the transform, or choose another reference volume."
                        ).format(volume=grid.GetName(), name=way.acting.GetName())
                    )
            checkOverlap(shown, sample(node), way, grid)

    def _run(self) -> Iterator[None]:
        if self.job.method is ApplyMethod.PLACE:
            made = yield from self._place()
        elif self.job.method is ApplyMethod.HARDEN and self.job.inPlace:
            made = yield from self._hardenInPlace()
        else:
            pieces = [piece for node in self.job.nodes for piece in _pieces(node)]
            if self.job.method is ApplyMethod.RESAMPLE:
                yield from self._resample([piece for piece in pieces if piece.isResampled()])
            yield from self._map([piece for piece in pieces if piece.made is None])
            self._say(_("Adding the results"), 1.0)
            yield
            made = self._commit(pieces)
        return ApplyResult(self.job, made, self._notes, time.monotonic() - self._began)

    def _say(self, text: str, share: float) -> None:
        self._tell(text, share)

    # -- voxels

    def _resample(self, pieces: list[ResampleItem]) -> Iterator[None]:
        if not pieces:
            return
        job, way = self.job, self._way
        if job.massPreserving and all(piece.labels for piece in pieces):
            self._notes.append(_("Labels and segments have no mass to preserve; they were resampled as they are."))
        self._folder = newFolder()
        for n, piece in enumerate(pieces):
            self._say(_("Writing {name}").format(name=piece.source.GetName()), 0.2 * n / len(pieces))
            yield
            self._note(apply_voxels.write(piece, n, way, _placedBy(piece), self._folder))
        given, notes = apply_voxels.writeDirection(way, gridVolume(job, way), pieces, self._folder)
        self._notes += notes
        for labels in (True, False):
            wanted = [piece for piece in pieces if piece.labels == labels]
            files = [name for piece in wanted for name in piece.files]
            if not files:
                continue
            out = "labels" if labels else "volumes"
            (self._folder / out).mkdir()
            command = apply_voxels.arguments(given, job, labels, files, out)
            yield from self._engine(command, wanted, _("Resampling labels") if labels else _("Resampling volumes"))
            for n, piece in enumerate(wanted):
                self._say(_("Reading {name}").format(name=piece.source.GetName()), 0.7 + 0.2 * n / len(wanted))
                yield
                self._note(apply_voxels.read(piece, self._folder / out))

    def _engine(self, command: list[str], pieces: list[ResampleItem], text: str) -> Iterator[None]:
        process = self._process = apply_voxels.startEngine(command, self._folder, self.job.enginePython)
        while True:
            report = process.poll()
            if not report.running:
                break
            share = min(process.elapsed / (process.elapsed + 10.0), 0.95)
            self._say(_("{text}, {seconds:.0f} s").format(text=text, seconds=process.elapsed), 0.2 + 0.5 * share)
            yield
        self._process = None
        if self._cancelled:
            raise RegistrationCancelled(_("Cancelled; nothing was changed."))
        apply_voxels.checkEnd(process, report.exit_code, pieces)

    def _note(self, text: str) -> None:
        if text and text not in self._notes:
            self._notes.append(text)

    # -- points, and hardening

    def _map(self, pieces: list[ResampleItem]) -> Iterator[None]:
        for n, piece in enumerate(pieces):
            self._say(_("Mapping {name}").format(name=piece.source.GetName()), 0.9 * n / len(pieces))
            yield
            piece.made = newNode(piece.frame.GetClassName())
            piece.made.SetScene(slicer.mrmlScene)  # not added yet, but transforms and units are looked up there
            piece.made.CopyContent(piece.frame, True)
            apply_voxels.keepMeaning(piece.made, piece.frame)
            matrix, general = self._way.of(_placedBy(piece))
            if matrix is None and piece.made.IsA("vtkMRMLMarkupsROINode"):
                self._note(
                    _("{name}: a box stays a box, it was turned and scaled as at its center.").format(
                        name=piece.source.GetName()
                    )
                )
            _harden(piece.made, matrix, general)

    def _hardenInPlace(self) -> Iterator[None]:
        made = []
        for n, node in enumerate(self.job.nodes):
            self._say(_("Hardening {name}").format(name=node.GetName()), n / len(self.job.nodes))
            yield
            self.undo.willFill(node)
            _harden(node, *self._way.of(node))
            made.append((node, node))
        return made

    # -- placing

    def _place(self) -> Iterator[None]:
        acting = self._way.acting or self._addInverse()
        copies: dict[tuple, object] = {}
        made = []
        for n, node in enumerate(self.job.nodes):
            self._say(_("Placing {name}").format(name=node.GetName()), n / len(self.job.nodes))
            yield
            shown = _shownBy(node)
            made.append((node, node))
            if acting in parents(shown):
                self._note(
                    _("{name} is under {transform} already.").format(name=node.GetName(), transform=acting.GetName())
                )
                continue
            self.undo.willPlace(shown)
            chain = tuple(one.GetID() for one in below(shown, acting))
            above = acting
            if chain:
                above = copies.get(chain) or self._addOwnPlace(shown, acting)
                copies[chain] = above
            shown.SetAndObserveTransformNodeID(above.GetID())
        return made

    def _addInverse(self):
        """A node that leads the other way than the chosen transform."""
        transform = self.job.transform
        node = flatTransform(self._way.map(), self._way.matrix)
        node.SetName(_unique(_("{name} (inverse)").format(name=transform.GetName())))
        node = slicer.mrmlScene.AddNode(node)
        self.undo.isNew(node)
        source, target = self._way.sides.source, self._way.sides.target
        if source is not None and target is not None:
            hierarchy.addTransform(node, target, source)
        else:
            hierarchy.placeBeside(node, transform)
        return node

    def _addOwnPlace(self, shown, acting):
        """What a node is under already, as one transform under the one that acts; others that are there stay."""
        placed = Placed(shown, acting)
        node = flatTransform(placed.toWorld, placed.linear)
        names = {"parent": shown.GetParentTransformNode().GetName(), "transform": acting.GetName()}
        node.SetName(_unique(_("{parent} under {transform}").format(**names)))
        node = slicer.mrmlScene.AddNode(node)
        self.undo.isNew(node)
        node.SetAndObserveTransformNodeID(acting.GetID())
        hierarchy.placeBeside(node, acting)
        return node

    # -- into the scene

    def _commit(self, pieces: list[ResampleItem]) -> list:
        self.undo.begin()
        made = []
        for node in self.job.nodes:
            mine = [piece for piece in pieces if piece.source is node]
            if kindOf(node) is Kind.SEQUENCE:
                new = self._addSequence(node, mine)
            else:
                new = self._add(mine[0].made, node, node)
            made.append((node, new))
        return made

    def _name(self, node) -> str:
        target = self._way.sides.target
        if self.job.method is ApplyMethod.RESAMPLE and self.job.grid is ApplyGrid.REFERENCE:
            target = target or self.job.reference
        if target is None:
            name = _("{name} by {transform}").format(name=node.GetName(), transform=self.job.transform.GetName())
        else:
            name = _("{name} in {target}").format(name=node.GetName(), target=target.GetName())
        return _unique(name)

    def _add(self, made, node, looksLike):
        """A finished node into the scene, beside the one it was made of and with its looks."""
        made.SetName(self._name(node))
        made = slicer.mrmlScene.AddNode(made)
        if made.IsA("vtkMRMLSegmentationNode"):
            grid = gridVolume(self.job, self._way)
            if grid is not None:
                made.SetReferenceImageGeometryParameterFromVolumeNode(grid)
        showLike(made, looksLike)
        self._remember(made, node)
        hierarchy.addImage(made, node, self._way.sides.target or gridVolume(self.job, self._way))
        return made

    def _addSequence(self, sequence, pieces: list[ResampleItem]):
        made = newNode("vtkMRMLSequenceNode")
        made.SetName(self._name(sequence))
        made.SetIndexType(sequence.GetIndexType())
        made.SetIndexName(sequence.GetIndexName())
        made.SetIndexUnit(sequence.GetIndexUnit())
        made.SetNumericIndexValueTolerance(sequence.GetNumericIndexValueTolerance())
        made = slicer.mrmlScene.AddNode(made)
        for n, piece in enumerate(pieces):
            piece.made.SetName(piece.frame.GetName())
            made.SetDataNodeAtValue(piece.made, sequence.GetNthIndexValue(n))
            piece.made = None
        self._remember(made, sequence)
        hierarchy.placeBeside(made, sequence)
        browser, proxy = browserOf(sequence), proxyOf(sequence)
        if browser is None:
            browser = slicer.mrmlScene.AddNewNodeByClass(
                "vtkMRMLSequenceBrowserNode", _unique(_("{name} browser").format(name=made.GetName()))
            )
            browser.SetAndObserveMasterSequenceNodeID(made.GetID())
        else:
            browser.AddSynchronizedSequenceNode(made.GetID())
        shown = browser.GetProxyNode(made)
        if shown is not None:
            showLike(shown, proxy)
            hierarchy.addImage(shown, proxy or sequence, self._way.sides.target or gridVolume(self.job, self._way))
        return made

    def _remember(self, made, node) -> None:
        """What was done, on the node itself."""
        job = self.job
        made.SetNodeReferenceID(SOURCE_ROLE, node.GetID())
        made.SetNodeReferenceID(TRANSFORM_ROLE, job.transform.GetID())
        said = {"transform": job.transform.GetName(), "direction": job.direction.value, "method": job.method.value}
        if job.method is ApplyMethod.RESAMPLE:
            said |= {"interpolation": job.interpolation.value, "grid": job.grid.value}
            said |= {"massPreserving": job.massPreserving}
        made.SetAttribute(ATTRIBUTE, json.dumps(said))


def _pieces(node) -> list[ResampleItem]:
    if kindOf(node) is Kind.SEQUENCE:
        return [ResampleItem(node, frame, kindOf(frame)) for frame in frames(node)]
    return [ResampleItem(node, node, kindOf(node))]


def _shownBy(node):
    """The node that has a place in the scene: of a sequence the one that shows it, or its first frame."""
    if kindOf(node) is not Kind.SEQUENCE:
        return node
    return proxyOf(node) or node.GetNthDataNode(0)


def _placedBy(piece: ResampleItem):
    return _shownBy(piece.source)


def _harden(node, matrix, general) -> None:
    """Slicer's own hardening: volumes ask the transform that they are under for the box that they need."""
    under = flatTransform(general, matrix)
    under.SetHideFromEditors(True)
    under.SetSaveWithScene(False)
    under = slicer.mrmlScene.AddNode(under)
    try:
        node.SetAndObserveTransformNodeID(under.GetID())
        node.HardenTransform()
    finally:
        node.SetAndObserveTransformNodeID(None)
        slicer.mrmlScene.RemoveNode(under)


def _unique(name: str) -> str:
    """The name itself where it is free."""
    if slicer.mrmlScene.GetFirstNodeByName(name) is None:
        return name
    return slicer.mrmlScene.GenerateUniqueName(name)


def apply(job: ApplyJob) -> ApplyResult:
    """Apply a transform and wait; for scripts. Raises RegistrationError."""
    applying = Applying(job)
    applying.start()
    return waitFor(applying)


__all__ = [
    "ATTRIBUTE",
    "SOURCE_ROLE",
    "TRANSFORM_ROLE",
    "ApplyJob",
    "ApplyResult",
    "Applying",
    "apply",
    "gridVolume",
    "needsEngine",
    "problemOf",
]
