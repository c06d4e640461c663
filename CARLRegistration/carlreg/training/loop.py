"""The training loop: one run that can stop at any step and go on with exactly the next one.

    with parallel.ranks(config.run.device) as ranks:
        train(config, Path("runs/a"), ranks)

A run's folder holds config.toml, checkpoint.pt (all that is needed to go on), best.pt (by validation), log.csv and,
where TensorBoard is installed, its events.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import ResourceError
from .parallel import Ranks
from .records import Records, memory_gb
from .run import Run
from .saving import save_checkpoint, write_atomically
from .schema import to_toml
from .settings import TrainingConfig
from .validation import Validation

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a sitting ended: 'finished', 'time limit' or 'stopped'; at which step."""

    reason: str
    step: int
    seconds: float


def train(
    config: TrainingConfig,
    out: Path,
    ranks: Ranks,
    *,
    time_limit_seconds: float = math.inf,
    stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[Run, dict[str, float]], None] = lambda run, numbers: None,
) -> Outcome:
    """Train until the run's length, the time limit of this sitting, or a stop; goes on from `out/checkpoint.pt`.

    Args:
        stop: asked before each step. on_step: told after each.
    Raises: OptimizationDiverged; ResourceError when the last checkpoint could not be written; InputError,
        CheckpointError before anything is written.
    """
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    run = Run(config, ranks)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.is_file():
        run.resume(checkpoint)
        log.info("Going on from step %d (%s).", run.step, checkpoint)
    else:
        run.start()
    if ranks.device.type == "cuda":
        torch.backends.cudnn.benchmark = run.stage.synthetic  # one shape throughout; own images have many
    files = _Files(out, run, Validation(config, run.stage)) if ranks.first else None
    try:
        return _sitting(run, files, time_limit_seconds, stop, on_step)
    finally:
        if files is not None:
            files.records.close()


def _sitting(run: Run, files: _Files | None, time_limit_seconds: float, stop, on_step) -> Outcome:
    """Steps until one of the ends; see `train`. files: None in all processes but the first."""
    config, ranks = run.config, run.ranks
    begin, before = time.monotonic(), run.seconds
    saved_at = validated_at = begin
    batches = run.batches()
    since_log = _Since(run)
    while True:
        spent = time.monotonic() - begin
        asked, run.seconds, over = ranks.agreed(float(stop()), before + spent, float(spent >= time_limit_seconds))
        if run.fraction >= 1 or asked or over:
            break
        numbers = run.train_step([next(batches) for _ in range(config.optimizer.accumulation)])
        if files is not None:
            on_step(run, numbers)
            since_log.add(numbers)
            if run.step % config.run.log_every == 0:
                files.records.write(run.step, since_log.means(run))
            if time.monotonic() - saved_at >= config.run.checkpoint_seconds:
                files.save_if_possible(run)
                saved_at = time.monotonic()
            if _due(config, run.step, time.monotonic() - validated_at):
                files.validate(run)
                validated_at = time.monotonic()
    reason = "finished" if run.fraction >= 1 else "stopped" if asked else "time limit"
    if files is not None:
        if since_log.steps:
            files.records.write(run.step, since_log.means(run))
        files.save(run)  # before the validation, which may take long
        if reason == "finished" and _wanted(config) and files.validated != run.step:
            files.validate(run)
            files.save(run)
    return Outcome(reason, run.step, run.seconds)


def _wanted(config: TrainingConfig) -> bool:
    return config.validation.every_seconds is not None or config.validation.every_steps > 0


def _due(config: TrainingConfig, step: int, seconds: float) -> bool:
    v = config.validation
    if v.every_seconds is not None:
        return seconds >= v.every_seconds
    return v.every_steps > 0 and step % v.every_steps == 0


class _Since:
    """Means of the numbers since the last line of the log; a number counts in the steps that have it."""

    def __init__(self, run: Run) -> None:
        self.reset(run)

    def reset(self, run: Run) -> None:
        self._values: dict[str, list[float]] = {}
        self.steps = 0
        self._begin = time.monotonic()

    def add(self, numbers: dict[str, float]) -> None:
        self.steps += 1
        for name, value in numbers.items():
            self._values.setdefault(name, []).append(value)

    def means(self, run: Run) -> dict[str, float]:
        found = {name: sum(values) / len(values) for name, values in self._values.items()}
        speed = self.steps / max(time.monotonic() - self._begin, 1e-9)
        found |= {"seconds": run.seconds, "steps_per_second": speed, "memory_gb": memory_gb(run.ranks.device)}
        self.reset(run)
        return found


class _Files:
    """What the first process writes into the run's folder."""

    def __init__(self, out: Path, run: Run, validation: Validation) -> None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(
                f"{out}: the folder cannot be made ({error.strerror}). Choose another --out."
            ) from error
        self.out, self.validation = out, validation
        write_atomically(out / "config.toml", to_toml(run.config).encode())
        self.records = Records(out, run.step)
        self.validated = -1

    def save(self, run: Run) -> None:
        save_checkpoint(self.out / "checkpoint.pt", run.state())

    def save_if_possible(self, run: Run) -> None:
        """A disk that is full now may have room later: the run goes on, and says so."""
        try:
            self.save(run)
        except ResourceError as error:
            log.warning("%s The run goes on and tries again.", error)

    def validate(self, run: Run) -> None:
        """Judge the averaged weights; keep them as best.pt when they are the best so far."""
        run.metrics = self.validation(run.averaged_network(), run.trained_parts)
        self.validated = run.step
        self.records.write(run.step, {f"val_{name}": value for name, value in run.metrics.items()})
        shown = ", ".join(f"{n} {v:.4g}" for n, v in run.metrics.items() if "_turn_" not in n and "_overlap_" not in n)
        log.info("Validation at step %d: %s", run.step, shown)
        score = run.metrics.get("score", math.inf)
        if score < run.best:
            run.best = score
            try:
                save_checkpoint(self.out / "best.pt", run.state())
            except ResourceError as error:
                log.warning("%s The run goes on.", error)
