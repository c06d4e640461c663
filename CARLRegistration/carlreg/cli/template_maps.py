"""The maps of a template's rounds on the workers of a cohort: several at once, tried again where memory lacked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..cohort.pool import Pool, cores, cuda_devices, open_pool, workers_that_fit
from ..cohort.running import Outcome, run_jobs
from ..errors import CarlError
from ..progress import Progress
from ..resources import memory_mb
from ..series.parts import part_of
from ..settings import RegistrationSettings
from ..template import Member, TemplateSettings
from ..template.build import MakeMaps, first_grid
from ..template.rounds import Rounds, make_named_map
from ..volumes import available_memory_mb
from .cohort_pair import in_a_worker, outcome_of

GO_ON = "the same command goes on"


def run_on_worker(folder: str, name: str) -> Outcome:
    """What the cluster calls: one map, ROUND/DIGEST, in a process that stays."""
    with in_a_worker():
        return outcome_of(lambda: make_named_map(Path(folder), name, Progress()) or {})


def needs_mb(members: Sequence[Member], settings: RegistrationSettings, how: TemplateSettings) -> dict[str, float]:
    """Peak memory (MB) of the map to each image, by its digest."""
    voxels = first_grid(members, how).voxel_count
    return {member.digest: memory_mb(voxels, member.volume.grid.voxel_count, settings) for member in members}


def how_many(needs: dict[str, float], workers: int | None, scheduler: str | None) -> int:
    """Maps at once: as asked for, or as cores and memory hold; one where Dask is missing."""
    if workers is None and scheduler is None and find_spec("distributed") is None:
        return 1
    most = workers or workers_that_fit(1, max(needs.values()), available_memory_mb(), len(cuda_devices()))
    return min(most, len(needs))


def threads_for(at_once: int) -> int:
    """Of each map."""
    return max(1, cores() // at_once)


@contextmanager
def on_workers(
    threads: int, scheduler: str | None, workers: int | None, needs: dict[str, float], rounds: int, progress: Progress
) -> Iterator[MakeMaps]:
    """What makes the maps of a round on workers, which are started when the first is to be made and stay."""
    with ExitStack() as stack:
        opened: list[Pool] = []

        def make(places: Rounds, number: int, missing: Sequence[Member]) -> None:
            if not opened:
                opened.append(
                    stack.enter_context(open_pool(threads, scheduler, workers, max(needs.values()), len(needs)))
                )
            names = {f"{number}/{member.digest}": member.name for member in missing}
            done = len(needs) - len(missing)
            begin, share = (number - 1 + done / len(needs)) / rounds, len(missing) / len(needs) / rounds
            inner = part_of(progress, f"round {number} of {rounds}", begin, share)
            jobs = _Maps(places.place, needs)
            with inner.stage("maps"):
                run_jobs(jobs, list(names), run_on_worker, opened[0], inner, _named(inner.warn, names))
            if jobs.reasons:
                told = "; ".join(f"{names[name]}: {reason}" for name, reason in list(jobs.reasons.items())[:3])
                raise CarlError(
                    f"template: {len(jobs.reasons)} of the maps of round {number} failed. {told} What is done is kept; "
                    f"{GO_ON}."
                )

        yield make


@dataclass
class _Maps:
    """The maps that a round lacks, by ROUND/DIGEST. reasons: why some failed."""

    folder: Path
    needs: dict[str, float]
    go_on: str = GO_ON
    reasons: dict[str, str] = field(default_factory=dict)

    def needs_mb(self, name: str) -> float:
        return self.needs[name.partition("/")[2]]

    def log(self, event: str, **values: Any) -> None:
        """What is done stands in files of its own."""

    def done(self, name: str, values: dict[str, Any]) -> None:
        pass

    def failed(self, name: str, reason: str, values: dict[str, Any]) -> None:
        self.reasons[name] = reason


def _named(tell: Callable[[str], None], names: dict[str, str]) -> Callable[[str], None]:
    """Says it with the images' names."""

    def told(line: str) -> None:
        name, _, rest = line.partition(": ")
        tell(f"{names.get(name, name)}: {rest}")

    return told
