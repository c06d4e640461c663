"""Maps as functions: gated sine networks that say, for any point and a pair's latent codes, where it goes.

A pair is described by a global code and by local ones on a lattice over the fixed image, between whose nodes they are
interpolated linearly. A synthesis network of sines (SIREN) turns a point into its displacement; a modulation network
sees the codes and the point as well and scales the synthesis network's layers. Nothing lives on the voxels of an image,
so what a map costs does not hang on their number.

In any number of dimensions. Letters: b batch, n points, c channels, s spatial axes in tensor order (d h w or h w).
Source: NePhi (Tian et al., 2023); Sitzmann et al. 2020 (sines), Mehta et al. 2021 (modulation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..maps import CoordinateMap, sample

#: Points that are evaluated at once where no gradient is asked for.
CHUNK_POINTS = 2**15


@dataclass(frozen=True)
class FunctionalSettings:
    """dimension: of points. width, layers: of both networks' hidden layers. *_channels: of the codes.

    frequencies: of a point's Fourier features, drawn with the deviation `frequency_scale`, in cycles over half of the
        longest axis.
    direct: the displacement is the sines' and, added, a linear function of the codes at the point: where codes already
        are about displacements, the sines need only say what is to be changed.
    """

    dimension: int = 3
    width: int = 64
    layers: int = 2
    frequencies: int = 32
    frequency_scale: float = 0.4
    global_channels: int = 16
    local_channels: int = 16
    direct: bool = False


@dataclass(frozen=True)
class LatentCodes:
    """global_bc: one code per pair. local_bcs: one per node of a lattice over the fixed image (cells' centers)."""

    global_bc: Tensor
    local_bcs: Tensor

    def at(self, points_bns: Tensor) -> Tensor:
        """b n c: both codes at points in normalized coordinates; beyond the lattice its edge continues."""
        batch, count, dims = points_bns.shape
        where = points_bns.transpose(1, 2).reshape(batch, dims, count, *[1] * (dims - 1))
        local = sample(self.local_bcs, where).reshape(batch, -1, count).transpose(1, 2)
        return torch.cat([self.global_bc[:, None].expand(batch, count, -1), local], dim=2)


class FunctionalNetwork(nn.Module):
    """Displacements of points given codes; the identity as long as it is not trained."""

    frequencies: Tensor

    def __init__(self, settings: FunctionalSettings) -> None:
        super().__init__()
        s = self.settings = settings
        self.register_buffer("frequencies", s.frequency_scale * torch.randn(s.dimension, s.frequencies))
        features, codes = 2 * s.frequencies, s.global_channels + s.local_channels
        self.synthesis_first = _layer(features, s.width)
        self.synthesis = nn.ModuleList(_layer(s.width, s.width) for _ in range(s.layers))
        self.modulation_first = _layer(codes + features, s.width)
        self.modulation = nn.ModuleList(_layer(s.width, s.width) for _ in range(s.layers))
        self.last = nn.Linear(s.width, s.dimension)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.direct = nn.Linear(codes, s.dimension, bias=False) if s.direct else None
        if self.direct is not None:
            nn.init.zeros_(self.direct.weight)

    def forward(self, points_bns: Tensor, codes: LatentCodes, aspect: Sequence[float] | None = None) -> Tensor:
        """b n s displacements.

        Args:
            points_bns: normalized coordinates (0 and 1 at the faces of the box that the codes' lattice covers).
            aspect: the box's edges as shares of its longest one; None = a cube.
        """
        self.check(codes)
        centered = 2 * points_bns - 1
        if aspect is not None:
            centered = centered * centered.new_tensor(list(aspect))
        turns = 2 * math.pi * (centered @ self.frequencies)
        features = torch.cat([torch.sin(turns), torch.cos(turns)], dim=2)
        here = codes.at(points_bns)
        skip = gate = torch.sin(self.modulation_first(torch.cat([here, features], dim=2)))
        found = torch.sin(self.synthesis_first(features))
        for synthesis, modulation in zip(self.synthesis, self.modulation, strict=True):
            gate = torch.sin(modulation(gate)) + skip
            found = gate * torch.sin(synthesis(found))
        return self.last(found) if self.direct is None else self.last(found) + self.direct(here)

    def check(self, codes: LatentCodes) -> None:
        """Raise InputError for codes of another size than the network was made for."""
        s = self.settings
        got = (codes.global_bc.shape[-1], codes.local_bcs.shape[1], codes.local_bcs.dim() - 2)
        if got != (s.global_channels, s.local_channels, s.dimension):
            raise InputError(
                f"Latent codes: expected {s.global_channels} global and {s.local_channels} local channels in "
                f"{s.dimension} dimensions, got {got[0]} and {got[1]} in {got[2]}. "
                "Use the codes of the network that they belong to."
            )


def _layer(inputs: int, outputs: int) -> nn.Linear:
    """A layer before a sine, whose sums have about the deviation 1, as in SIREN.

    The published factor of 30 on the sums is part of the weights here: Adam's steps then suit all layers alike.
    """
    layer = nn.Linear(inputs, outputs)
    bound = math.sqrt(6 / inputs)
    nn.init.uniform_(layer.weight, -bound, bound)
    return layer


class FunctionalMap(CoordinateMap):
    """`x + u(x)` with u a network's displacement of x given codes; evaluated wherever it is asked for."""

    def __init__(self, network: FunctionalNetwork, codes: LatentCodes) -> None:
        network.check(codes)
        self.network = network
        self.codes = codes
        self.device = codes.global_bc.device

    def __call__(self, points_bcs: Tensor) -> Tensor:
        batch = self.codes.global_bc.shape[0]
        points = points_bcs.flatten(2).transpose(1, 2).expand(batch, -1, -1)
        if torch.is_grad_enabled():
            moved = self.network(points, self.codes)
        else:
            moved = torch.cat([self.network(part, self.codes) for part in points.split(CHUNK_POINTS, dim=1)], dim=1)
        moved = (points + moved).transpose(1, 2)
        return moved.reshape(batch, *points_bcs.shape[1:])
