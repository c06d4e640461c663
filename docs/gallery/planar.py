"""Training and judging small networks on generated images of the plane, for the scripts beside this file.

The same thing as `carlreg train run` with `planar-*.toml`, in as few lines as it takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any


@dataclass
class Curve:
    """What a training told, every few steps."""

    steps: list[int] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, step: int, **values: float) -> None:
        self.steps.append(step)
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> list[float]:
        return self.values[name]


def retina(seed: int, count: int, size: int = 96, warp: float = 4.0, shift: float = 0.0) -> list[Any]:
    """`count` pairs of vessel trees, each seen through two smooth maps, and shifted by up to `shift` pixels each."""
    import torch
    from carlreg.training.planar.retina import draw_retina

    generator = torch.Generator().manual_seed(seed)
    return [draw_retina(generator, size, warp_pixels=warp, shift_pixels=shift) for _ in range(count)]


def shapes(seed: int, count: int, size: int = 64) -> list[Any]:
    """`count` pairs of hollow triangles or circles: (moving, fixed)."""
    import torch
    from carlreg.training.planar.shapes import draw_shapes

    generator = torch.Generator().manual_seed(seed)
    return [draw_shapes(generator, size, hollow=True) for _ in range(count)]


def images(pairs: list[Any]):
    """moving, fixed: b 1 h w."""
    import torch

    pairs = [(p if isinstance(p, tuple) else (p.moving, p.fixed)) for p in pairs]
    return torch.cat([moving for moving, _ in pairs]), torch.cat([fixed for _, fixed in pairs])


def train(
    network,
    pool: list[Any],
    steps: int,
    *,
    regularity="gradicon",
    weight: float = 1.5,
    similarity: str = "lncc",
    batch: int = 4,
    rate: float = 1e-3,
    seed: int = 0,
    watch=None,
    every: int = 50,
):
    """A network trained on pairs drawn from a pool; returns it and the curve of its training.

    network: a name of `training.networks`, or a network with fresh weights.
    pool: pairs; each step takes `batch` of them, either image moving.
    regularity: a name of `losses.paper.irregularity`, or a function of the step that gives one.
    watch: called with the network every `every` steps; what it returns is part of the curve.
    """
    import torch
    from carlreg.losses.paper import dissimilarity_both_ways, irregularity
    from carlreg.training import networks

    random = Random(seed)
    network = (networks.build(network, seed) if isinstance(network, str) else network).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=0.1 * rate)
    curve = Curve()
    for step in range(steps):
        moving, fixed = images(random.choices(pool, k=batch))
        if random.random() < 0.5:
            moving, fixed = fixed, moving
        forward, backward = (found.map for found in network(moving, fixed))
        unlike = dissimilarity_both_ways(forward, backward, moving, fixed, similarity)
        kind = regularity(step) if callable(regularity) else regularity
        noise = [torch.Generator().manual_seed(step * batch + n) for n in range(batch)]
        rough = irregularity(kind, forward, backward, moving.shape[2:], fixed.shape[2:], noise)
        optimizer.zero_grad(set_to_none=True)
        (unlike + weight * rough).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if watch is not None and (step % every == 0 or step == steps - 1):
            network.eval()
            with torch.no_grad():
                curve.add(step + 1, dissimilarity=float(unlike.detach()), **watch(network))
            network.train()
    return network.eval(), curve


def end_point(network, pairs: list[Any]) -> list[float]:
    """Mean distance in pixels to the true map over the disk, of each pair."""
    import torch
    from carlreg.maps import identity_map
    from carlreg.training.planar.retina import DISK

    found = []
    with torch.no_grad():
        for pair in pairs:
            size = pair.fixed.shape[-1]
            points = identity_map((size, size))
            disk = (pair.tree_from_fixed(points) - 0.5).norm(dim=1) < DISK
            predicted = network.predict(pair.moving, pair.fixed).map
            asked = (points * size - 0.5) / (size - 1) if predicted.align_corners else points
            answer = predicted(asked)
            if predicted.align_corners:
                answer = (answer * (size - 1) + 0.5) / size
            distance = ((answer - pair.moving_from_fixed(points)) * size).norm(dim=1)
            found.append(float(distance[disk].mean()))
    return found


def unmoved(pairs: list[Any]) -> list[float]:
    """The same without registration."""
    import torch
    from carlreg.maps import DisplacementMap
    from carlreg.models.operators import Prediction

    class Still:
        def predict(self, moving, fixed):
            return Prediction(DisplacementMap(torch.zeros(1, 2, 2, 2)))

    return end_point(Still(), pairs)


def warped(network, pair):
    """The moving image under the network's map, 1 1 h w."""
    import torch
    from carlreg.maps import sample

    with torch.no_grad():
        found = network.predict(pair.moving, pair.fixed).map
        points = found.on_grid(pair.fixed.shape[2:])
        return sample(pair.moving, points, padding="zeros", align_corners=found.align_corners)
