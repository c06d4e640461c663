"""Losses at some of an image's points, drawn at random: cheap where each point of a map costs (maps as functions).

Points are drawn evenly and without repetition, so a mean over them expects what the mean over all is, and so many as
there are give just that.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

Noise = Generator | Sequence[Generator] | None


def sources(generator: Noise) -> Sequence[Generator | None]:
    """One source of random numbers for each sample of a batch; see `losses.paper.noisy_points`."""
    return [generator] if generator is None or isinstance(generator, Generator) else generator


def drawn(total: int, count: int, generator: Noise = None) -> Tensor:
    """g x k places of `total`, of which each source draws `count` (or as many as there are).

    generator: CPU generators, one for each sample of a batch; None = the global one.
    """
    return torch.stack([torch.randperm(total, generator=source)[:count] for source in sources(generator)])


def picked(values_bcdhw: Tensor, places_gk: Tensor) -> Tensor:
    """b c k 1 1 (as many axes as before): values at places of the flattened lattice, of each sample at its own."""
    flat = values_bcdhw.flatten(2)
    batch = max(len(flat), len(places_gk))
    places = places_gk.to(flat.device)[:, None].expand(batch, flat.shape[1], -1)
    found = flat.expand(batch, -1, -1).gather(2, places)
    return found.reshape(*found.shape, *[1] * (values_bcdhw.ndim - 3))
