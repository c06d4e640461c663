"""What a kind of training is: how it draws data, what it minimizes, and which parts of the network it trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from ..errors import InputError
from ..models.checkpoints import part_of_names
from ..models.operators import RegistrationNetwork
from .data_settings import DataSettings
from .settings import StageSettings

Terms = dict[str, Tensor]


class Stage(ABC):
    """One kind of training.

    Everything random follows from a seed, never from hidden state, so that a run that stops goes on with exactly the
    next step, whatever process or device draws its data.

    Args: settings: the stage's own; data: where its data come from.
    """

    Settings: ClassVar[type[StageSettings]]
    synthetic: ClassVar[bool] = True  # learns from generated pairs, whose true map is known
    dimension: ClassVar[int] = 3  # axes of its images
    view_scale: int = 1  # voxels of the network's image per voxel of a drawn view, along each axis

    def __init__(self, settings: StageSettings, data: DataSettings) -> None:
        self.settings = settings
        self.data = data

    def prepare(self, network: RegistrationNetwork, model: str) -> None:  # noqa: B027 (most stages need none)
        """Called once, before the first draw: refuse an unsuitable network (InputError), read images."""

    @abstractmethod
    def draw(self, seed: int, device: torch.device) -> Any:
        """One sample; the same for the same seed. Runs in a worker process on the CPU, or on the device itself."""

    @abstractmethod
    def losses(self, network: RegistrationNetwork, draw: Any, generator: Generator) -> Terms:
        """Scalars of one sample: "loss" (minimized, with gradient) and whatever else belongs into the log.

        generator: for the loss's own random numbers (CPU); seeded by the sample's seed.
        """

    def batch_losses(self, network: RegistrationNetwork, draws: Sequence[Any], seeds: Sequence[int]) -> Terms:
        """Means over samples of `losses`; a stage that can do them at once overrides this with an equal result.

        Terms that only some samples have are means over those.
        """
        found: dict[str, list[Tensor]] = {}
        for draw, seed in zip(draws, seeds, strict=True):
            for name, value in self.losses(network, draw, Generator().manual_seed(seed)).items():
                found.setdefault(name, []).append(value)
        return {name: torch.stack(values).mean() for name, values in found.items()}

    def begin_step(self, step: int) -> None:  # noqa: B027 (most stages need none)
        """Called before each step with its number, for stages whose loss changes on the way."""

    def parameters(self, network: RegistrationNetwork) -> list[nn.Parameter]:
        """What is trained. Raises InputError when the network has no such part."""
        wanted = self.settings.parts
        part_of = part_of_names(network)
        chosen = [p for name, p in network.named_parameters() if wanted in ("all", part_of.get(name))]
        if not chosen:
            raise InputError(
                f"stage.parts: expected a part that the network has ({', '.join(sorted(set(part_of.values())))}); "
                f"got {wanted!r}."
            )
        return chosen


OVERLAP_EDGES, TURN_EDGES = (40, 60, 80), (10, 20, 45)


def bin_names(name: str, overlap: float, degrees: float) -> tuple[str, str]:
    """Names of a term in the bin of a pair's overlap (0..1) and in that of its turn (degrees), for the log."""
    return (
        f"{name}_overlap_{_bin(100 * overlap, OVERLAP_EDGES, 100)}",
        f"{name}_turn_{_bin(degrees, TURN_EDGES, 180)}",
    )


def _bin(value: float, edges: tuple[int, ...], last: int) -> str:
    low, high = 0, last
    for edge in edges:
        if value >= edge:
            low = edge
        else:
            high = edge
            break
    return f"{low}_{high}"
