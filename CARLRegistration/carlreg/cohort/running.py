"""The pairs of a study on the workers of a pool, or a template's maps: as many at once as memory and cores allow.

Dask moves work and tells which worker died; what is done is in the study's files (`study`), so nothing hangs on a
scheduler's memory. A worker is a process that stays: libraries and networks are loaded once. A pair whose worker was
killed is tried again, at last alone.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import ResourceError
from ..progress import Progress
from ..resources import memory_mb
from ..volumes import read_size
from .plan import PlannedPair
from .pool import Pool
from .study import DONE, FAILED, Study

#: How often a pair whose worker dies is tried in all; the last time nothing runs beside it.
TRIES = 3
#: What ends the whole command, and what is tried again with less beside it: see `Outcome`.
STOP, MEMORY = "stop", "memory"
_WAIT_SECONDS = 0.05
_UNKNOWN_VOXELS = 2e7


@dataclass(frozen=True)
class Outcome:
    """How one pair ended, from its worker to the loop.

    word: done, failed, memory (there was too little) or stop (the disk is full: nothing more is begun). reason: of all
    but done. values: for the manifest: seconds, peak memory, figures.
    """

    word: str
    reason: str = ""
    values: dict[str, Any] = field(default_factory=dict)


Run = Callable[[str, str], Outcome]


class Jobs(Protocol):
    """Named pieces of work in a folder, and what is kept of how each ended. Methods raise ResourceError (disk full)."""

    @property
    def go_on(self) -> str:
        """How to, in words, after a stop."""
        ...

    @property
    def folder(self) -> Path: ...

    def needs_mb(self, name: str) -> float:
        """Peak memory of one (MB)."""
        ...

    def log(self, event: str, **values: Any) -> None:
        """What happens on the way: running, killed, memory."""
        ...

    def done(self, name: str, values: dict[str, Any]) -> None: ...

    def failed(self, name: str, reason: str, values: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Pairs:
    """The pairs of a study."""

    study: Study
    go_on: str = "go on with --resume"

    @property
    def folder(self) -> Path:
        return self.study.folder

    def needs_mb(self, name: str) -> float:
        return needs_mb(self.study, self.study.pair(name))

    def log(self, event: str, **values: Any) -> None:
        self.study.log(event, **values)

    def done(self, name: str, values: dict[str, Any]) -> None:
        self.study.cleared(self.study.pair(name))
        self.study.log(DONE, name=name, **values)

    def failed(self, name: str, reason: str, values: dict[str, Any]) -> None:
        self.study.failed(self.study.pair(name), reason, values)
        self.study.log(FAILED, name=name, reason=reason, **values)


@dataclass
class Tally:
    """What a run of the loop did: names of pairs done and failed; how many there were to do."""

    total: int
    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def needs_mb(study: Study, pair: PlannedPair) -> float:
    """Peak memory of one pair (MB), from the headers; of a large one where they cannot be read here."""
    voxels = []
    for side in ("fixed", "moving"):
        try:
            voxels.append(float(np.prod(read_size(pair.files[side]))))
        except Exception:  # whatever it is, it is said when the pair runs
            voxels.append(_UNKNOWN_VOXELS)
    return memory_mb(int(voxels[0]), int(voxels[1]), study.settings[pair.name])


def run_jobs(
    jobs: Jobs,
    names: Sequence[str],
    run: Run,
    pool: Pool,
    progress: Progress,
    tell: Callable[[str], None],
) -> Tally:
    """Run what is called so until each has ended; returns what became of them.

    run: called with the folder and a name, on a worker. tell: one line for people.
    Raises Cancelled; ResourceError when the disk is full or the scheduler is gone. What is at work then is lost, what
    is done is not.
    """
    loop = _Loop(jobs, names, run, pool, tell)
    try:
        while loop.busy:
            progress.check()
            loop.begin_what_fits()
            for name, outcome in loop.ended():
                loop.take(name, outcome)
                done, failed = len(loop.tally.done), len(loop.tally.failed)
                share = (done + failed) / loop.tally.total
                progress.update(share, f"{done} done, {failed} failed of {loop.tally.total}")
    finally:
        loop.forget()
    return loop.tally


class _Loop:
    """What waits, what runs, and how each ended."""

    def __init__(self, jobs: Jobs, names: Sequence[str], run: Run, pool: Pool, tell) -> None:
        self.tally = Tally(len(names))
        self._jobs, self._run, self._pool, self._tell = jobs, run, pool, tell
        self._need = {name: jobs.needs_mb(name) for name in names}
        self._waiting = deque(names)
        self._alone: deque[str] = deque()  # their last try
        self._running: dict[Any, str] = {}
        self._tries: Counter[str] = Counter()
        self._most = pool.most

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._alone or self._running)

    def begin_what_fits(self) -> None:
        while self._waiting and self._fits(self._waiting[0]):
            self._begin(self._waiting.popleft())
        if self._alone and not self._running:
            self._begin(self._alone.popleft())

    def _fits(self, name: str) -> bool:
        there = list(self._running.values())
        if not there:
            return True
        if len(there) >= self._most or any(self._tries[other] == TRIES - 1 for other in there):
            return False
        free = self._pool.memory_mb
        return free is None or sum(self._need[other] for other in (*there, name)) <= free

    def _begin(self, name: str) -> None:
        self._jobs.log("running", name=name)
        self._running[self._pool.client.submit(self._run, str(self._jobs.folder), name, pure=False)] = name

    def ended(self) -> list[tuple[str, Outcome | None]]:
        """Names and outcomes of what has ended, after a short wait for some; None: its worker was killed."""
        done = [future for future in self._running if future.done()]
        if not done:
            time.sleep(_WAIT_SECONDS)
        return [(self._running.pop(future), _outcome(future, self._jobs.go_on)) for future in done]

    def take(self, name: str, outcome: Outcome | None) -> None:
        """Write down how a pair ended, or let it wait for another try."""
        if outcome is None or outcome.word == MEMORY:
            outcome = self._with_more_room(name, outcome)
        if outcome is None:
            return
        if outcome.word == DONE:
            self._jobs.done(name, outcome.values)
            self.tally.done.append(name)
        elif outcome.word == FAILED:
            self._jobs.failed(name, outcome.reason, outcome.values)
            self.tally.failed.append(name)
            self._tell(f"{name}: failed. {outcome.reason}")
        else:
            raise ResourceError(f"{outcome.reason} What is done is kept; {self._jobs.go_on}.")

    def _with_more_room(self, name: str, outcome: Outcome | None) -> Outcome | None:
        """Let a pair that lacked memory wait for another try; its end after the last. outcome: None after a kill."""
        self._tries[name] += 1
        what = (
            "its process was ended by the system, most likely for lack of memory"
            if outcome is None
            else ("there was not enough memory left")
        )
        self._jobs.log("killed" if outcome is None else MEMORY, name=name)
        if self._tries[name] >= TRIES:
            remedy = "Choose a smaller --grid, or crop the images."
            reason = f"{what}, {TRIES} times, the last time with nothing beside it. {remedy}"
            return Outcome(FAILED, reason if outcome is None else outcome.reason)
        (self._alone if self._tries[name] == TRIES - 1 else self._waiting).append(name)
        fewer = self._pool.own and self._most > 1
        self._most -= fewer
        then = f"from here on at most {self._most} at once" if fewer else "it is tried again"
        self._tell(f"{name}: {what}; {then}.")
        return None

    def forget(self) -> None:
        """Leave nothing with the scheduler."""
        for future in self._running:
            with suppress(Exception):
                future.cancel()


def _outcome(future: Any, go_on: str) -> Outcome | None:
    """What a pair's worker answered; None when the worker died."""
    from distributed.scheduler import KilledWorker

    if future.status == "finished":
        return future.result()
    if future.status in ("cancelled", "lost"):
        raise ResourceError(
            f"The scheduler is gone, or has forgotten what it was given; what is done is kept: {go_on}."
        )
    error = future.exception()
    if isinstance(error, KilledWorker):
        return None
    return Outcome(FAILED, f"an unexpected {type(error).__name__}: {error}. Please report it.")
