"""One transform applied to many nodes: checked, computed outside the scene, and added to it at the end, all or nothing.

Voxels are resampled by the engine's process; points and what is hardened are mapped by Slicer's own transforms, one
node after the other, so that the panel stays alive and can cancel in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationCancelled, RegistrationError
from ..common.polling import waitFor
from ..engine.task import Task
from ..mrml.copies import newNode
from ..mrml.geometry import parents
from ..mrml.undo import Undo
from ..mrml.volumes import checkVolume
from . import voxels
from .choices import ApplyMethod
from .items import ResampleItem, itemsOf, shownBy
from .job import ApplyJob, ApplyResult, checkChoices, gridVolume, hasVoxels
from .maps import MappingDirection, below, checkOverlap
from .nodes import sample
from .scene import addInverse, addOwnPlace, addResults, harden

_POLL_SECONDS = 0.04


class Applying:
    """`start()`, then `poll()` until it returns an ApplyResult or raises; `cancel()` or `abort()` in between.

    Args: tell: called with what is being done, in words, and its share of the whole, 0 to 1.
    """

    def __init__(self, job: ApplyJob, tell: Callable[[str, float], None] | None = None) -> None:
        self.job = job
        self.undo = Undo()
        self._tell = tell or (lambda text, share: None)
        self._notes: list[str] = []
        self._task: Task | None = None
        self._engineRuns = False
        self._steps: Iterator[None] = iter(())
        self._cancelled = False
        self._began = 0.0

    def start(self) -> None:
        """Check. Raises RegistrationError for what cannot be done; nothing is changed then."""
        job = self.job
        checkChoices(job)
        self._mapping = MappingDirection(job.transform, job.toFixed)
        self._began = time.monotonic()
        self._checkSpace()
        self._steps = self._run()

    def poll(self) -> ApplyResult | None:
        """None while running. Raises RegistrationCancelled, RegistrationError; then the scene is as it was."""
        until = time.monotonic() + _POLL_SECONDS
        try:
            while True:
                if self._cancelled and not self._engineRuns:
                    raise RegistrationCancelled(_("Cancelled; nothing was changed."))  # noqa: TRY301
                next(self._steps)
                if self._engineRuns or time.monotonic() > until:
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
        if self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        """Stop now; the scene is as it was."""
        self._takeBack()

    def _takeBack(self) -> None:
        self._steps = iter(())
        self._cleanUp()
        self.undo.apply()

    def _cleanUp(self) -> None:
        task, self._task, self._engineRuns = self._task, None, False
        if task is not None:
            task.abort()

    def _checkSpace(self) -> None:
        job, mapping = self.job, self._mapping
        for node in job.nodes:
            shown = shownBy(node)
            grid = gridVolume(job, mapping) if job.method is ApplyMethod.RESAMPLE and hasVoxels(node) else None
            if grid is not None:
                checkVolume(grid, _("reference volume"))
                if mapping.acting is not None and mapping.acting in parents(grid):
                    raise RegistrationError(
                        _(
                            "{volume} is itself placed under {name}, so its grid is not where the output belongs. Take "
                            "it out of the transform, or choose another reference volume."
                        ).format(volume=grid.GetName(), name=mapping.acting.GetName())
                    )
            checkOverlap(shown, sample(node), mapping, grid)

    def _run(self) -> Iterator[None]:
        if self.job.method is ApplyMethod.PLACE:
            made = yield from self._place()
        elif self.job.method is ApplyMethod.HARDEN and self.job.inPlace:
            made = yield from self._hardenInPlace()
        else:
            items = [item for node in self.job.nodes for item in itemsOf(node)]
            if self.job.method is ApplyMethod.RESAMPLE:
                yield from self._resample([item for item in items if item.isResampled()])
            yield from self._map([item for item in items if item.made is None])
            self._say(_("Adding the results"), 1.0)
            yield
            self.undo.begin()
            made = addResults(self.job, self._mapping, items)
        return ApplyResult(self.job, made, self._notes, time.monotonic() - self._began)

    def _say(self, text: str, share: float) -> None:
        self._tell(text, share)

    # -- voxels

    def _resample(self, items: list[ResampleItem]) -> Iterator[None]:
        if not items:
            return
        job, mapping = self.job, self._mapping
        if job.massPreserving and all(item.labels for item in items):
            self._notes.append(_("Labels and segments have no mass to preserve; they were resampled as they are."))
        task = self._task = Task(job.enginePython)
        for n, item in enumerate(items):
            self._say(_("Writing {name}").format(name=item.source.GetName()), 0.2 * n / len(items))
            yield
            self._note(voxels.write(item, n, mapping, task.folder))
        given, notes = voxels.writeDirection(mapping, gridVolume(job, mapping), items, task.folder)
        self._notes += notes
        for labels in (True, False):
            yield from self._resampleKind(task, given, [item for item in items if item.labels == labels], labels)

    def _resampleKind(self, task: Task, given: list[str], items: list[ResampleItem], labels: bool) -> Iterator[None]:
        """Labels in one command, intensities in another. given: the arguments that both have."""
        files = [name for item in items for name in item.files]
        if not files:
            return
        out = Path("labels" if labels else "volumes")
        (task.folder / out).mkdir()
        names = {name: item.source.GetName() for item in items for name in item.files}
        task.start(voxels.arguments(given, self.job, labels, files, str(out)), words=names)
        yield from self._waitFor(task, _("Resampling labels") if labels else _("Resampling volumes"))
        for n, item in enumerate(items):
            self._say(_("Reading {name}").format(name=item.source.GetName()), 0.7 + 0.2 * n / len(items))
            yield
            self._note(voxels.read(item, task.folder / out))

    def _waitFor(self, task: Task, text: str) -> Iterator[None]:
        self._engineRuns = True
        while (report := task.advance()).running:
            share = min(task.elapsed / (task.elapsed + 10.0), 0.95)
            self._say(_("{text}, {seconds:.0f} s").format(text=text, seconds=task.elapsed), 0.2 + 0.5 * share)
            yield
        self._engineRuns = False
        if self._cancelled:
            raise RegistrationCancelled(_("Cancelled; nothing was changed."))
        task.raiseFailure(report.exit_code)

    def _note(self, text: str) -> None:
        if text and text not in self._notes:
            self._notes.append(text)

    # -- points, and hardening

    def _map(self, items: list[ResampleItem]) -> Iterator[None]:
        for n, item in enumerate(items):
            self._say(_("Mapping {name}").format(name=item.source.GetName()), 0.9 * n / len(items))
            yield
            item.made = newNode(item.frame.GetClassName())
            item.made.SetScene(slicer.mrmlScene)  # not added yet, but transforms and units are looked up there
            item.made.CopyContent(item.frame, True)
            voxels.keepMeaning(item.made, item.frame)
            matrix, general = self._mapping.of(item.placedBy)
            if matrix is None and item.made.IsA("vtkMRMLMarkupsROINode"):
                self._note(
                    _("{name}: a box stays a box, it was turned and scaled as at its center.").format(
                        name=item.source.GetName()
                    )
                )
            harden(item.made, matrix, general)

    def _hardenInPlace(self) -> Iterator[None]:
        made = []
        for n, node in enumerate(self.job.nodes):
            self._say(_("Hardening {name}").format(name=node.GetName()), n / len(self.job.nodes))
            yield
            self.undo.willFill(node)
            harden(node, *self._mapping.of(node))
            made.append((node, node))
        return made

    # -- placing

    def _place(self) -> Iterator[None]:
        acting = self._mapping.acting or addInverse(self._mapping, self.undo)
        copies: dict[tuple, Any] = {}
        made = []
        for n, node in enumerate(self.job.nodes):
            self._say(_("Placing {name}").format(name=node.GetName()), n / len(self.job.nodes))
            yield
            shown = shownBy(node)
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
                above = copies.get(chain) or addOwnPlace(shown, acting, self.undo)
                copies[chain] = above
            shown.SetAndObserveTransformNodeID(above.GetID())
        return made


def apply(job: ApplyJob) -> ApplyResult:
    """Apply a transform and wait; for scripts. Raises RegistrationError."""
    applying = Applying(job)
    applying.start()
    return waitFor(applying)


__all__ = ["Applying", "apply"]
