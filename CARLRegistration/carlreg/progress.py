"""Progress records, and the question "should I stop?", asked by every long loop.

The engine never prints. A caller passes a `Progress` whose `report` receives `ProgressRecord`s and whose
`check` raises `Cancelled`; the command line turns the records into a bar or JSON lines. Who only wants no further
steps of an optimization asks it to stop here: the loop ends, and all that follows is done with what it has found.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from .errors import Cancelled

# The present map is shown about so often, and takes at most so small a share of the time.
_MAP_SECONDS, _MAP_SHARE = 1.0, 1 / 30


@dataclass(frozen=True)
class Step:
    """One step of an optimization, and how alike the images were before it.

    done of total: steps. similarity: what is optimized without its terms of smoothness; larger is more alike (LNCC, its
    square, or the MIND distance with its sign turned). level: of resolution, from 0, coarse to fine; figures of
    different levels are not comparable.
    """

    done: int
    total: int
    similarity: float
    level: int = 0


@dataclass(frozen=True)
class ProgressRecord:
    """Where a run stands.

    stage: name of the stage. fraction: share of the whole run that is done, 0..1.
    seconds_left: estimate, or None while unknown. message: one line for people. step: None outside an optimization.
    warning: what people must know now, or "".
    """

    stage: str
    fraction: float
    seconds_left: float | None = None
    message: str = ""
    step: Step | None = None
    warning: str = ""

    def as_dict(self) -> dict:
        """Plain values; without step and warning where there are none."""
        return {name: value for name, value in asdict(self).items() if name not in ("step", "warning") or value}


@dataclass
class StageTiming:
    """What one finished stage took: wall seconds and the process's peak resident memory so far (MB)."""

    name: str
    seconds: float
    peak_mb: float


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MB; 0.0 where the platform cannot tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def forget_peak_memory() -> bool:
    """Let `peak_memory_mb` begin anew with what is resident now; False where the system (all but Linux) cannot."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        return False
    return True


@dataclass
class Progress:
    """Collects progress of one run and carries its flags: cancel, and stop here.

    on_record: called with each `ProgressRecord`, on_map: with the present map of an optimization now and then; both
        from the computing thread.
    weights: expected share of each stage in the whole run (any positive scale); unknown stages weigh 1.
    steps: of the optimization, so far.
    """

    on_record: Callable[[ProgressRecord], None] | None = None
    weights: dict[str, float] = field(default_factory=dict)
    timings: list[StageTiming] = field(default_factory=list)
    on_map: Callable[[Any], None] | None = None
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._cancel = threading.Event()
        self._stop = threading.Event()
        self._next_map = 0.0
        self._begin = time.monotonic()
        self._stage = ""
        self._done_weight = 0.0
        self._unforeseen: set[str] = set()
        self._fraction = 0.0
        self._before: tuple[int, int, int] | None = None

    def cancel(self) -> None:
        """Ask the run to stop; safe from any thread and from signal handlers."""
        self._cancel.set()

    def stop_here(self) -> None:
        """Ask an optimization to take no further step and keep what it has; safe from any thread."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether no further step is wanted; asked by every optimization between its steps."""
        return self._stop.is_set()

    def check(self) -> None:
        """Raise `Cancelled` when the caller asked to stop."""
        if self._cancel.is_set():
            raise Cancelled("Cancelled: the run was stopped on request; nothing was written.")

    @contextmanager
    def stage(self, name: str, message: str = "") -> Iterator[None]:
        """Run one stage: reports its begin, times it, and adds its weight to the done part."""
        self.check()
        self._stage = name
        if name not in self.weights:
            self._unforeseen.add(name)
        self.update(0.0, message)
        begin = time.perf_counter()
        yield
        self.timings.append(StageTiming(name, time.perf_counter() - begin, peak_memory_mb()))
        self._done_weight += self.weights.get(name, 1.0)
        self.check()

    def report(self, record: ProgressRecord) -> None:
        """Hand a record to whoever listens."""
        if self.on_record is not None:
            self.on_record(record)

    @contextmanager
    def part_of(self, total: int, done: int = 0, levels: int = 0) -> Iterator[None]:
        """Count the steps inside as a part of so many, after `done` of them on so many levels."""
        self._before = (total, done, levels)
        try:
            yield
        finally:
            self._before = None

    def stepped(self, step: Step) -> None:
        """Record and report one step of an optimization that makes up the current stage."""
        if self._before is not None:
            total, done, levels = self._before
            step = Step(done + step.done, total, step.similarity, levels + step.level)
        self.steps.append(step)
        self.update(step.done / step.total, f"step {step.done} of {step.total}", step)

    def warn(self, warning: str) -> None:
        """Say what must be known before the run goes on."""
        if self.on_record is not None:
            self.on_record(ProgressRecord(self._stage, self._fraction, None, "", warning=warning))

    def offer_map(self, make: Callable[[], Any]) -> None:
        """Show the present map to whoever watches, about once a second; `make` is called only then."""
        if self.on_map is None or time.monotonic() < self._next_map:
            return
        begin = time.monotonic()
        self.on_map(make())
        now = time.monotonic()
        self._next_map = now + max(_MAP_SECONDS, (now - begin) / _MAP_SHARE)

    def update(self, fraction_of_stage: float, message: str = "", step: Step | None = None) -> None:
        """Report how far the current stage is (0..1), after checking for a cancel."""
        self.check()
        if self.on_record is None:
            return
        total = sum(self.weights.values()) + len(self._unforeseen)
        weight = self.weights.get(self._stage, 1.0 if self._stage else 0.0)
        fraction = min(1.0, (self._done_weight + weight * fraction_of_stage) / max(total, 1e-9))
        fraction = self._fraction = max(self._fraction, fraction)  # a stage nobody foresaw must not turn it back
        elapsed = time.monotonic() - self._begin
        left = elapsed * (1.0 - fraction) / fraction if fraction > 0.02 else None
        self.on_record(ProgressRecord(self._stage, fraction, left, message, step))
