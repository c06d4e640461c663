"""One series: every frame registered to the reference, each beginning with what its neighbor found."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import InputError
from ..kept import Kept, keeping, kept
from ..physical import PhysicalTransform, invert
from ..progress import Progress, ProgressRecord
from ..quality.labels import warp_labels
from ..quality.metrics import body_of
from ..registration import finish, register_pair
from ..registration.continuing import continued_pair
from ..registration.result import RegistrationResult
from ..settings import RegistrationSettings
from ..volumes import Volume
from .averaging import mean_image, recentered
from .frames import Series
from .parts import part_of
from .temporal import composed, jumps, smoothed

CHAINS = ("reference", "frames")
MEAN = "mean"
# A map that was gone on with is searched for anew where it is so much less alike than its neighbor's (LNCC).
_LOST = 0.08


@dataclass(frozen=True, kw_only=True)
class SeriesSettings:
    """How a series is registered, beside the settings of a pair.

    reference: number of a frame, from 0, or 'mean': of all frames, made anew `iterations` times. chain: 'reference':
    each frame to the reference; 'frames': each to the one before, and composed. temporal_smoothness: weight of second
    differences in time; 0 = none. cyclic: the first frame follows the last one, as in a breath. warm_steps: of a frame
    that begins with its neighbor's map; None = the settings' steps.
    Raises InputError for a value that is not allowed.
    """

    reference: int | str = 0
    chain: str = "reference"
    temporal_smoothness: float = 0.0
    cyclic: bool = False
    iterations: int = 2
    warm_steps: int | None = None

    def __post_init__(self) -> None:
        if self.reference != MEAN and (isinstance(self.reference, bool) or not isinstance(self.reference, int)):
            raise InputError(f"reference: expected the number of a frame, from 0, or mean; got {self.reference!r}.")
        if self.chain not in CHAINS:
            raise InputError(f"chain: expected one of {', '.join(CHAINS)}; got {self.chain!r}.")
        if self.chain == "frames" and self.reference == MEAN:
            raise InputError("chain: expected chain reference with reference mean; got frames, which need a frame.")
        if not 0 <= self.temporal_smoothness <= 1e6:
            raise InputError(f"temporal smoothness: expected a number from 0 to 1e6; got {self.temporal_smoothness}.")
        if not 1 <= self.iterations <= 20:
            raise InputError(f"iterations: expected a whole number from 1 to 20; got {self.iterations}.")
        if self.warm_steps is not None and not 0 <= self.warm_steps <= 10_000:
            raise InputError(f"warm steps: expected a whole number from 0 to 10000; got {self.warm_steps}.")

    def check_reference(self, count: int) -> None:
        """Raise InputError where the reference is none of so many frames."""
        if self.reference != MEAN and not 0 <= int(self.reference) < count:
            raise InputError(f"reference: expected a frame from 0 to {count - 1}, or mean; got {self.reference}.")


@dataclass(frozen=True, eq=False)
class FrameResult:
    """One frame: the map from the reference's points to its own, the inverse, and how it was found.

    start: 'reference' (the identity), 'searched', 'neighbor', 'frames' or 'mean'. quality: as of one registration;
    empty for the reference. jump: whether it moves far more than usual from the frame before.
    """

    transform: PhysicalTransform
    inverse: PhysicalTransform
    start: str
    quality: dict = field(default_factory=dict)
    jump: bool = False
    cpu_seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class SeriesResult:
    """reference: the volume that all maps begin in. frames: in the order of the series."""

    series: Series
    reference: Volume
    frames: tuple[FrameResult, ...]
    settings: RegistrationSettings
    how: SeriesSettings
    warnings: tuple[str, ...] = ()

    @property
    def jumps(self) -> list[int]:
        return [n for n, frame in enumerate(self.frames) if frame.jump]


def register_series(
    series: Series,
    settings: RegistrationSettings | None = None,
    how: SeriesSettings | None = None,
    *,
    mask: Volume | None = None,
    progress: Progress | None = None,
) -> SeriesResult:
    """Register all frames of a series to one reference.

    Args:
        settings: of each pair. how: of the series. mask: on the frames' grid; only this part of the reference counts,
            and from frame to frame what it becomes.
    Raises: InputError (a reference that is none of the frames, smoothness of linear maps) and whatever a registration
        raises; Cancelled.
    """
    settings, how, progress = settings or RegistrationSettings(), how or SeriesSettings(), progress or Progress()
    how.check_reference(len(series))
    if how.temporal_smoothness and settings.linear:
        raise InputError(
            "temporal smoothness: expected transform deformable with it; "
            f"got {settings.transform}. Leave one of both out."
        )
    run = _Run(series, settings, how, mask, progress)
    with keeping(kept() or Kept()):  # one network, and one prepared reference, for all frames
        if how.reference == MEAN:
            reference, found = run.to_the_mean()
        else:
            reference = series.frames[int(how.reference)]
            found = run.frame_to_frame() if how.chain == "frames" else run.to_one(reference, int(how.reference))
    return run.finished(reference, found)


@dataclass(eq=False)
class _Found:
    """A frame's map before the series is seen as a whole."""

    transform: PhysicalTransform
    start: str
    result: RegistrationResult | None = None
    cpu: float = 0.0


class _Run:
    def __init__(
        self, series: Series, settings: RegistrationSettings, how: SeriesSettings, mask, progress: Progress
    ) -> None:
        self.series, self.settings, self.how, self.mask, self.progress = series, settings, how, mask, progress
        rounds = how.iterations + 1 if how.reference == MEAN else 1
        self._jobs, self._done = rounds * len(series) + 1, 0
        steps = how.warm_steps if how.warm_steps is not None else settings.steps
        self.warm = settings if settings.linear else replace(settings, io_steps=steps)
        self._went_on = not settings.linear and (settings.io_method == "field" or not settings.steps)

    def pair(
        self, fixed: Volume, number: int, known: PhysicalTransform | None, what: str, mask: Volume | None = None
    ) -> _Found:
        """One frame, beginning with a known map where there is one. mask: of the fixed one; None = the run's."""
        mask = mask if mask is not None else self.mask
        moving, begin = self.series.frames[number], time.process_time()
        inner = part_of(self.progress, f"frame {number}", self._done / self._jobs, 1 / self._jobs)
        if known is not None and self._went_on:
            result = continued_pair(
                fixed,
                moving,
                self.warm,
                known,
                fixed_mask=mask,
                moving_mask=None,
                landmarks_guide=None,
                uncertain=False,
                progress=inner,
            )
        else:
            initial = None if known is None else known.to_sitk()
            result = register_pair(
                fixed, moving, self.settings, fixed_mask=mask, initial_transform=initial, progress=inner
            )
        self._done += 1
        return _Found(result.transform, what, result, time.process_time() - begin)

    def _identity(self) -> PhysicalTransform:
        return PhysicalTransform.from_affine(np.eye(4), "rigid")

    def to_one(self, fixed: Volume, number: int) -> list[_Found]:
        """All frames to one of them: outward from it, each beginning with the map of its neighbor."""
        found = {number: _Found(self._identity(), "reference")}
        self._done += 1
        for one, before in self._order(number):
            neighbor = found[before]
            known = None if neighbor.start == "reference" else neighbor.transform
            each = self.pair(fixed, one, known, "searched" if known is None else "neighbor")
            if known is not None and neighbor.result is not None:
                each = self._mended(fixed, one, each, neighbor)
            found[one] = each
        return [found[n] for n in range(len(self.series))]

    def _order(self, number: int) -> list[tuple[int, int]]:
        """(frame, its neighbor nearer to the reference), in the order in which they are registered."""
        count = len(self.series)
        if self.how.cyclic:
            ahead = count // 2
            after = [((number + n) % count, (number + n - 1) % count) for n in range(1, ahead + 1)]
            before = [((number - n) % count, (number - n + 1) % count) for n in range(1, count - ahead)]
            return after + before
        return [(n, n - 1) for n in range(number + 1, count)] + [(n, n + 1) for n in range(number - 1, -1, -1)]

    def _mended(self, fixed: Volume, number: int, each: _Found, neighbor: _Found) -> _Found:
        """The frame searched for anew where its neighbor's map led nowhere, if that is better."""
        if not self._went_on or _likeness(each) >= _likeness(neighbor) - _LOST:
            return each
        again = self.pair(fixed, number, None, "searched")
        self._done -= 1
        again.cpu += each.cpu
        each.cpu = again.cpu
        return again if _likeness(again) > _likeness(each) else each

    def frame_to_frame(self) -> list[_Found]:
        """Each frame to its neighbor nearer to the reference; their maps one after the other."""
        frames, number = self.series.frames, int(self.how.reference)
        found = {number: _Found(self._identity(), "reference")}
        self._done += 1
        for one, before in self._order(number):
            neighbor = found[before]
            # Neighbors in time are nearly in place: the identity is as good as any start.
            each = self.pair(frames[before], one, self._identity(), "frames", self._mask_in(before, neighbor))
            if neighbor.start != "reference":
                each.transform = composed(neighbor.transform, each.transform, frames[number].grid)
                each.result = None
            found[one] = each
        return [found[n] for n in range(len(self.series))]

    def _mask_in(self, number: int, found: _Found) -> Volume | None:
        """The reference's mask, where it has moved to in a frame."""
        if self.mask is None or found.start == "reference":
            return self.mask
        grid = self.series.frames[number].grid
        back, _ = invert(found.transform, grid)
        moved = warp_labels(back, grid, self.mask.array, self.mask.grid)
        if not moved.any():
            raise InputError(f"mask: expected a part of the reference that all frames show; frame {number} does not.")
        return Volume(grid.image(moved), None, self.mask.name)

    def to_the_mean(self) -> tuple[Volume, list[_Found]]:
        """All frames to their mean, which is made anew from what was found."""
        frames, grid = self.series.frames, self.series.frames[0].grid
        maps = [self._identity()] * len(frames)
        found: list[_Found] = []
        mean = mean_image(frames, maps, grid)
        for _ in range(self.how.iterations):
            found = [self.pair(mean, number, known, MEAN) for number, known in enumerate(maps)]
            maps = recentered([each.transform for each in found], grid)
            mean = mean_image(frames, maps, grid)
        return mean, [self.pair(mean, number, known, MEAN) for number, known in enumerate(maps)]

    def finished(self, reference: Volume, found: Sequence[_Found]) -> SeriesResult:
        """Inverse and quality of each frame; smooth in time where that was asked for; jumps named."""
        how, grid = self.how, reference.grid
        kept = None if how.reference == MEAN else int(how.reference)
        maps = [each.transform for each in found]
        leaps = jumps(maps, grid, body_of(reference.array), how.cyclic)
        if how.temporal_smoothness:
            maps = smoothed(maps, grid, how.temporal_smoothness, kept=kept, cyclic=how.cyclic)
        frames = []
        for number, (each, transform) in enumerate(zip(found, maps, strict=True)):
            self.progress.report(ProgressRecord("measure", 0.97, None, f"frame {number}: inverse and quality"))
            self.progress.check()
            begin = time.process_time()
            if number == kept:
                frames.append(FrameResult(transform, transform, each.start))
                continue
            result = each.result
            if result is None or result.fixed is not reference or transform is not result.transform:
                result = RegistrationResult(
                    transform=transform,
                    fixed=reference,
                    moving=self.series.frames[number],
                    settings=self.settings,
                    start=each.start,
                )
            inverse, quality = _finished(result)
            cpu = each.cpu + time.process_time() - begin
            frames.append(FrameResult(transform, inverse, each.start, quality, number in leaps, cpu))
        notes = []
        if leaps:
            notes.append(
                f"Frames {', '.join(map(str, leaps))} jump: they move far more from the frame before than frames "
                "usually do. Look at them first."
            )
        return SeriesResult(self.series, reference, tuple(frames), self.settings, how, tuple(notes))


def _finished(result: RegistrationResult) -> tuple[PhysicalTransform, dict]:
    """The inverse of a map, and its quality."""
    finished = finish(result).finished
    return (finished.inverse, finished.quality) if finished is not None else (result.transform, {})


def _likeness(found: _Found) -> float:
    """How alike the images are under a map, by its last step of the optimization; figures of one level compare."""
    steps = found.result.steps if found.result is not None else []
    return steps[-1].similarity if steps else 0.0
