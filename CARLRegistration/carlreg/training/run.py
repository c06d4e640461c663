"""One training run: its network, optimizer, moving average and position, and what one step of it does."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, InputError, OptimizationDiverged
from ..models.checkpoints import part_of_names
from ..models.operators import RegistrationNetwork
from . import networks
from .label_maps import check_label_maps
from .parallel import Ranks, convolutions_in
from .records import hardware
from .saving import read_checkpoint, require
from .settings import TrainingConfig
from .stage import Stage, Terms
from .stages import STAGES

SEEDS_PER_RUN = 1_000_000_007  # samples of runs with different seeds do not meet


class MovingAverage:
    """Exponential moving average of a module's weights, warmed up so that early ones fade quickly."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.average = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:  # BatchNorm's counter
                self.average[name].copy_(value)


def learning_rate(step: int, fraction: float, rate: float, final_rate: float, warmup_steps: int) -> float:
    """Cosine from `rate` to `final_rate` over the run (fraction 0..1), times a linear warm-up from step 0."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0)))
    return (final_rate + (rate - final_rate) * cosine) * min(1.0, (step + 1) / max(warmup_steps, 1))


class Objective(nn.Module):
    """A stage's loss as a module, so that DistributedDataParallel sees one forward pass per backward pass."""

    def __init__(self, stage: Stage, network: RegistrationNetwork, precision: str, several: bool) -> None:
        super().__init__()
        self.stage, self.network, self.precision, self.several = stage, network, precision, several

    def forward(self, draws: list[Any], seeds: list[int]) -> Terms:
        with convolutions_in(self.network, self.precision):
            terms = self.stage.batch_losses(self.network, draws, seeds)
        loss = terms["loss"]
        if self.several:  # a sample may leave a part without gradient, and all processes average the same tensors
            loss = loss + sum(p.sum() * 0.0 for p in self.network.parameters() if p.requires_grad)
        return {name: value.detach() for name, value in terms.items()} | {"loss": loss}


class _Samples(torch.utils.data.Dataset):
    """Place in the order of this process's samples -> seed and sample; the same whatever process draws it."""

    def __init__(self, run: Run) -> None:
        # Not the run itself: this goes to worker processes, which have no use for the network.
        self.stage, self.device, self.ranks = run.stage, run.ranks.device, run.ranks
        self.seed, self.step = run.config.run.seed, run.step
        self.batch, self.accumulation = run.config.optimizer.batch, run.config.optimizer.accumulation

    def __len__(self) -> int:
        return 10**12

    def __getitem__(self, index: int) -> tuple[int, Any]:
        # Numbered so that n processes with a batch of one see together what one process with a batch of n sees.
        turn, place = divmod(index, self.batch)
        turn += self.step * self.accumulation
        seed = self.seed * SEEDS_PER_RUN + (turn * self.ranks.count + self.ranks.rank) * self.batch + place
        return seed, self.stage.draw(seed, self.device)


class Run:
    """Everything that changes during a run: network, optimizer, average, position."""

    def __init__(self, config: TrainingConfig, ranks: Ranks) -> None:
        self.config, self.ranks = config, ranks
        check_label_maps(config.data.synthetic)
        self.stage = STAGES[config.stage.kind](config.stage, config.data)
        self.network = networks.build(config.model.name, config.run.seed).to(ranks.device)
        if networks.dimension_of(config.model.name) != self.stage.dimension:
            fitting = [n for n in networks.names() if networks.dimension_of(n) == self.stage.dimension]
            raise InputError(
                f"model.name: expected a network for the images of stage {config.stage.kind}, which have "
                f"{self.stage.dimension} axes ({', '.join(fitting)}); got {config.model.name}."
            )
        self.stage.prepare(self.network, config.model.name)
        trained = {id(p) for p in self.stage.parameters(self.network)}
        for parameter in self.network.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        named = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        self.trained_parts = sorted({part_of_names(self.network)[name] for name in named})
        o = config.optimizer
        groups = [
            {"params": [p for p in named.values() if p.ndim >= 2], "weight_decay": o.weight_decay},
            {"params": [p for p in named.values() if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=o.rate)
        self.objective = ranks.wrapped(Objective(self.stage, self.network, config.run.precision, ranks.count > 1))
        self.average = MovingAverage(self.network, o.ema)
        self.step, self.seconds = 0, 0.0
        self.best = math.inf
        self.metrics: dict[str, float] = {}  # of the last validation
        self.history: list[dict[str, Any]] = []  # what the weights that this run started from went through

    def start(self) -> None:
        """Take the weights to start from. Raises InputError, CheckpointError."""
        start = networks.put_start(self.network, self.config.model.name, self.config.model.weights)
        self.trained_parts = sorted({*self.trained_parts, *start.parts})
        self.history = start.history
        self.average = MovingAverage(self.network, self.config.optimizer.ema)

    @property
    def fraction(self) -> float:
        """Share of the run that is done."""
        r = self.config.run
        if r.minutes is not None:
            return min(1.0, self.seconds / (60 * r.minutes))
        return min(1.0, self.step / (r.steps or 1))

    def learning_rate(self) -> float:
        o = self.config.optimizer
        return learning_rate(self.step, self.fraction, o.rate, o.final_rate, o.warmup_steps)

    def batches(self) -> Iterator[list[tuple[int, Any]]]:
        """The samples of each batch with their seeds, from the present step on, without end."""
        samples = _Samples(self)
        workers = self.config.data.workers if self.ranks.device.type == "cpu" else 0
        loader = torch.utils.data.DataLoader(
            samples,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_one_thread,
        )
        source = iter(loader)
        while True:
            yield [next(source) for _ in range(self.config.optimizer.batch)]

    def train_step(self, batches: list[list[tuple[int, Any]]]) -> dict[str, float]:
        """One optimizer step on so many batches; returns the numbers for the log. Raises OptimizationDiverged."""
        rate = self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        set_training(self.network)
        self.stage.begin_step(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, list[Tensor]] = {}
        for number, batch in enumerate(batches, 1):
            exchange = contextlib.nullcontext()
            if isinstance(self.objective, nn.parallel.DistributedDataParallel) and number < len(batches):
                exchange = self.objective.no_sync()  # gradients are averaged once per step
            with exchange:
                terms = self.objective([draw for _, draw in batch], [seed for seed, _ in batch])
                (terms["loss"] / len(batches)).backward()
            for name, value in terms.items():
                sums.setdefault(name, []).append(value.detach())
        numbers = {name: torch.stack(values).mean().item() for name, values in sums.items()}
        norm = nn.utils.clip_grad_norm_([p for p in self.network.parameters() if p.requires_grad], self._clip)
        numbers["gradient"] = norm.item()
        self._prove_finite(numbers)
        self.optimizer.step()
        self.step += 1
        self.average.update(self.network, self.step)
        return numbers | {"rate": rate}

    @property
    def _clip(self) -> float:
        return self.config.optimizer.clip

    def _prove_finite(self, numbers: dict[str, float]) -> None:
        bad = not (math.isfinite(numbers["loss"]) and math.isfinite(numbers["gradient"]))
        (bad_somewhere,) = self.ranks.agreed(float(bad))
        if bad_somewhere:
            terms = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
            raise OptimizationDiverged(
                f"Training: the loss or its gradient is not finite at step {self.step} ({terms}). The weights were not "
                "changed by it. Go on from the last checkpoint with a lower optimizer.rate or optimizer.clip."
            )

    def averaged_network(self) -> RegistrationNetwork:
        """A network of its own with the averaged weights, in evaluation mode."""
        network = networks.build(self.config.model.name).to(self.ranks.device)
        network.load_state_dict(self.average.average)
        return network.eval()

    def state(self) -> dict[str, Any]:
        """Everything needed to go on, and to say what these weights are."""
        return {
            "model": self.config.model.name,
            "stage": self.config.stage.kind,
            "network": self.network.state_dict(),
            "average": self.average.average,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "figures": self.metrics,
            "trained_parts": self.trained_parts,
            "history": self.history,
            "hardware": hardware(self.ranks.device, self.ranks.count),
            "config": asdict(self.config),
        }

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint. Raises CheckpointError for one of another model, stage or architecture."""
        state = read_checkpoint(path)
        require(state, path, "model", "stage", "network", "average", "optimizer", "step", "seconds", "best", "figures")
        require(state, path, "trained_parts", "history")
        for what, own in (("model", self.config.model.name), ("stage", self.config.stage.kind)):
            if state[what] != own:
                raise CheckpointError(
                    f"{path}: expected a checkpoint of {what} {own}, got one of {what} {state[what]}. Choose another "
                    f'--out folder; to start from these weights set model.weights = "{path}".'
                )
        networks.check_fits(self.network, state["network"], path)
        self.network.load_state_dict(state["network"])
        try:
            self.optimizer.load_state_dict(state["optimizer"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{path}: the checkpoint trains other parts of the network ({error}). Keep stage.parts, or choose "
                "another --out folder."
            ) from error
        self.average.average = {name: value.to(self.ranks.device) for name, value in state["average"].items()}
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
        self.metrics, self.trained_parts, self.history = state["figures"], state["trained_parts"], state["history"]


def set_training(network: nn.Module) -> None:
    """Training mode for modules with trained parameters; what is frozen keeps its statistics."""
    network.eval()
    for module in network.modules():
        if any(p.requires_grad for p in module.parameters(recurse=False)):
            module.train()


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
