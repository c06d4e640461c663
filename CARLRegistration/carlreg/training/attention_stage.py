"""Stage A of training: the encoder of coordinate attention, on synthetic views with known correspondence.

    python -m carlreg.training.attention_stage --out runs/compact --minutes 100 --size 64

Each step takes all ordered pairs of the views of one anatomy. Loss: cross-entropy of attention rows against the true
key (spread trilinearly over its eight neighbors) + 0.1 x end-point error in cells, over voxels with structure whose
match lies inside the moving view. `size` is the edge after the encoder's own average pooling, so size 64 trains what
a 128^3 grid runs.

Shape suffixes: k views, b batch, n points, c channels, m keys, d h w lattice axes.
"""

from __future__ import annotations

import argparse
import csv
import logging
import math
import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, InputError, OptimizationDiverged
from ..maps.sampling import identity_map, sample
from ..models.compact_encoder import CompactEncoder, CompactEncoderSettings
from .synthetic import SyntheticSettings, Views, make_views

log = logging.getLogger(__name__)

CELL = 4  # voxels of a view per lattice cell, given by the encoder's two strides of 2


@dataclass(frozen=True, kw_only=True)
class AttentionStageSettings:
    """One training run.

    steps: length of the run, or None when `minutes` (wall clock) limits it; the cosine schedule follows the limit.
    queries: rows of attention per ordered pair and step. padding_cells: background cells around the keys.
    end_point_weight: weight of the error in cells. minimum_structure: local deviation that makes a voxel count.
    """

    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-4
    warmup_steps: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    queries: int = 384
    padding_cells: int = 1
    end_point_weight: float = 0.1
    minimum_structure: float = 0.03
    workers: int = 1
    checkpoint_seconds: float = 120.0
    synthetic: SyntheticSettings = field(default_factory=SyntheticSettings)
    encoder: CompactEncoderSettings = field(default_factory=CompactEncoderSettings)

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise InputError("Training: expected either a number of steps or of minutes; give exactly one.")


@dataclass(frozen=True)
class Rows:
    """Attention rows with known answers, of one ordered pair.

    query_n: flat indices into the fixed view's lattice. key_cells_n3: true position in the moving view's lattice, in
    cells; the first cell's center is 0.
    """

    fixed: int
    moving: int
    query_n: Tensor
    key_cells_n3: Tensor


def choose_rows(views: Views, settings: AttentionStageSettings, seed: int) -> list[Rows]:
    """Random queries with structure and with a match inside the other view's data, for every ordered pair."""
    generator = torch.Generator().manual_seed(seed)
    edge = settings.synthetic.size // CELL
    points = identity_map((edge,) * 3)
    count = len(views.views)
    canvas = [view.canvas_from_view(points) for view in views.views]
    rows = []
    for fixed in range(count):
        structured = views.structure_k1dhw[fixed, 0] > settings.minimum_structure
        structured &= sample(views.inside_k1dhw[fixed : fixed + 1], points)[0, 0] > 0.5
        for moving in range(count):
            if moving == fixed:
                continue
            match = views.views[moving].view_from_canvas(canvas[fixed])
            inside = sample(views.inside_k1dhw[moving : moving + 1], match, padding="zeros")[0, 0] > 0.9
            valid = (structured & inside).flatten().nonzero()[:, 0]
            if len(valid) < 16:
                continue
            query = valid[torch.randperm(len(valid), generator=generator)[: settings.queries]]
            key = match[0].flatten(1).T[query] * edge - 0.5
            rows.append(Rows(fixed, moving, query, key))
    return rows


class _Steps(torch.utils.data.Dataset):
    """Step number -> images and rows; the same whatever process draws them."""

    def __init__(self, settings: AttentionStageSettings, start: int) -> None:
        self.settings = settings
        self.start = start

    def __len__(self) -> int:
        return 10**7

    def __getitem__(self, index: int):
        step = self.start + index
        seed = self.settings.seed * 10_000_019 + step
        torch.set_num_threads(1)
        views = make_views(seed, self.settings.synthetic)
        return step, views.images_k1dhw, choose_rows(views, self.settings, seed)


def attention_loss(tokens_kcdhw: Tensor, rows: list[Rows], padding_cells: int) -> dict[str, Tensor]:
    """Mean over all rows of the cross-entropy (nats) and of the end-point error (cells), with two diagnostics.

    Args: tokens_kcdhw: keys of all views with `padding_cells` of background on each side.
    Returns: cross_entropy, end_point; floor (entropy of the targets), hits (share of rows whose best key lies within
    1.5 cells of the truth).
    """
    p = padding_cells
    channels, shape = tokens_kcdhw.shape[1], tokens_kcdhw.shape[2:]
    queries_kcm = tokens_kcdhw[:, :, p:-p, p:-p, p:-p].flatten(2)
    keys_kcm = tokens_kcdhw.flatten(2)
    axes = [torch.arange(n, dtype=torch.float32) - p for n in shape]
    coordinates_m3 = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    totals = {"cross_entropy": 0.0, "end_point": 0.0, "floor": 0.0, "hits": 0.0}
    count = 0
    for row in rows:
        query_nc = queries_kcm[row.fixed].T[row.query_n]
        logits_nm = query_nc @ keys_kcm[row.moving].reshape(channels, -1)
        log_weights_nm = logits_nm.log_softmax(1)
        index_n8, share_n8 = _trilinear(row.key_cells_n3 + p, shape)
        cross_entropy = -(share_n8 * log_weights_nm.gather(1, index_n8)).sum()
        found_n3 = log_weights_nm.exp() @ coordinates_m3
        end_point = (found_n3 - row.key_cells_n3).square().sum(1).add(1e-6).sqrt().sum()
        with torch.no_grad():
            best = coordinates_m3[logits_nm.argmax(1)]
            hits = ((best - row.key_cells_n3).norm(dim=1) < 1.5).float().sum()
            floor = -(share_n8 * share_n8.clamp_min(1e-9).log()).sum()
        for name, value in zip(totals, (cross_entropy, end_point, floor, hits), strict=True):
            totals[name] = totals[name] + value
        count += len(row.query_n)
    return {name: value / max(count, 1) for name, value in totals.items()}


def _trilinear(position_n3: Tensor, shape_dhw) -> tuple[Tensor, Tensor]:
    """Flat indices (n 8) and weights (n 8) of the lattice points around positions in cells."""
    last = torch.tensor(shape_dhw) - 2
    corner_n3 = position_n3.floor().long().clamp_min(0).minimum(last)
    fraction_n3 = (position_n3 - corner_n3).clamp(0, 1)
    indices, weights = [], []
    for bits in range(8):
        bit_3 = torch.tensor([(bits >> a) & 1 for a in range(3)])
        at = corner_n3 + bit_3
        indices.append((at[:, 0] * shape_dhw[1] + at[:, 1]) * shape_dhw[2] + at[:, 2])
        weights.append(torch.where(bit_3.bool(), fraction_n3, 1 - fraction_n3).prod(1))
    return torch.stack(indices, 1), torch.stack(weights, 1)


class MovingAverage:
    """Exponential moving average of a module's parameters, warmed up so that early weights fade quickly."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.average = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)


class AttentionStage:
    """A run that can stop and go on: encoder, optimizer, average, position."""

    def __init__(self, settings: AttentionStageSettings) -> None:
        self.settings = settings
        torch.manual_seed(settings.seed)
        self.encoder = CompactEncoder(settings.encoder).to(memory_format=torch.channels_last_3d)
        self.optimizer = torch.optim.AdamW(
            self.encoder.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.average = MovingAverage(self.encoder, settings.ema)
        self.step = 0
        self.seconds = 0.0

    @property
    def fraction(self) -> float:
        """Share of the run that is done."""
        s = self.settings
        return min(1.0, self.step / s.steps if s.steps else self.seconds / (60 * s.minutes))

    def learning_rate(self) -> float:
        s = self.settings
        cosine = 0.5 * (1 + math.cos(math.pi * self.fraction))
        rate = s.final_learning_rate + (s.learning_rate - s.final_learning_rate) * cosine
        return rate * min(1.0, (self.step + 1) / s.warmup_steps)

    def train_step(self, images_k1dhw: Tensor, rows: list[Rows]) -> dict[str, float]:
        """One optimizer step; returns the numbers of the log. Raises OptimizationDiverged."""
        s = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        tokens = self.encoder.encode_pooled(images_k1dhw, s.padding_cells)
        terms = attention_loss(tokens, rows, s.padding_cells)
        loss = terms["cross_entropy"] + s.end_point_weight * terms["end_point"]
        if not torch.isfinite(loss):
            raise OptimizationDiverged(f"Training: the loss became {loss.item()} at step {self.step}.")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.encoder.parameters(), s.clip)
        self.optimizer.step()
        self.step += 1
        self.average.update(self.encoder, self.step)
        return {
            "loss": loss.item(),
            **{name: value.item() for name, value in terms.items()},
            "gradient": norm.item(),
            "temperature": self.encoder.log_temperature.exp().item(),
            "rate": self.learning_rate(),
        }

    def save(self, path: Path) -> None:
        """Write everything needed to go on, atomically."""
        state = {
            "encoder": self.encoder.state_dict(),
            "average": self.average.average,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "settings": asdict(self.settings),
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint written by `save`. Raises CheckpointError for another architecture."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved = CompactEncoderSettings(**state["settings"]["encoder"])
        if saved != self.settings.encoder:
            raise CheckpointError(f"{path}: expected encoder {self.settings.encoder}, got {saved}.")
        self.encoder.load_state_dict(state["encoder"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.average = state["average"]
        self.step, self.seconds = state["step"], state["seconds"]


def train(settings: AttentionStageSettings, out: Path, threads: int | None = None) -> AttentionStage:
    """Train until the limit, going on from `out/checkpoint.pt` if it is there; logs to `out/log.csv`."""
    if threads:
        torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    stage = AttentionStage(settings)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        stage.load(checkpoint)
        log.info("Going on from step %d of %s.", stage.step, checkpoint)
    loader = torch.utils.data.DataLoader(
        _Steps(settings, stage.step),
        batch_size=None,
        num_workers=settings.workers,
        prefetch_factor=4 if settings.workers else None,
    )
    before = stage.seconds
    begin = saved = time.monotonic()
    with open(out / "log.csv", "a", newline="") as file:
        writer = None
        for step, images, rows in loader:
            if stage.fraction >= 1:
                break
            if not rows:  # no view sees what another sees; the step number still advances
                stage.step = step + 1
                continue
            numbers = stage.train_step(images, rows)
            stage.seconds = before + time.monotonic() - begin
            record = {"step": stage.step, "seconds": round(stage.seconds, 1)}
            record |= {name: f"{value:.5g}" for name, value in numbers.items()}
            if writer is None:
                writer = csv.DictWriter(file, record)
                if file.tell() == 0:
                    writer.writeheader()
            writer.writerow(record)
            file.flush()
            if time.monotonic() - saved > settings.checkpoint_seconds:
                stage.save(checkpoint)
                saved = time.monotonic()
    stage.save(checkpoint)
    return stage


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train the encoder of coordinate attention on synthetic views.")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint.pt and log.csv")
    parser.add_argument("--minutes", type=float, help="length of the run in minutes of wall clock")
    parser.add_argument("--steps", type=int, help="length of the run in steps, instead of --minutes")
    parser.add_argument("--size", type=int, default=64, help="edge of a view after pooling, in voxels")
    parser.add_argument("--views", type=int, default=3, help="views per anatomy")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate at the start")
    parser.add_argument("--rotation", type=float, default=15.0, help="largest turn of one view, degrees")
    parser.add_argument("--same-contrast", type=float, default=0.7, help="share of views in the first contrast")
    parser.add_argument("--queries", type=int, default=384, help="rows of attention per ordered pair and step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw views")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = AttentionStageSettings(
        steps=options.steps,
        minutes=options.minutes,
        seed=options.seed,
        workers=options.workers,
        learning_rate=options.rate,
        queries=options.queries,
        synthetic=replace(
            SyntheticSettings(),
            size=options.size,
            views=options.views,
            rotation_degrees=options.rotation,
            same_contrast=options.same_contrast,
        ),
    )
    train(settings, options.out, options.threads)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
