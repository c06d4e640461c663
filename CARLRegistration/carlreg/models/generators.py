"""Generators and what they are exponentials to: matrices and linear maps, stationary velocities and their flows.

Shapes: b batch, n the number of an image's axes, `...` these axes; normalized coordinates as in `maps.sampling`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..maps import CompositeMap, CoordinateMap, identity_map, per_axis, sample
from .dimensions import LINEAR

SQUARINGS = 7


class LinearMap(CoordinateMap):
    """`matrix @ (x, 1)`; matrix: b (n+1) (n+1), moving_from_fixed, normalized coordinates."""

    def __init__(self, matrix: Tensor, *, align_corners: bool = False) -> None:
        self.matrix = matrix
        self.align_corners = align_corners
        self.device = matrix.device

    def __call__(self, points_bndhw: Tensor) -> Tensor:
        n = points_bndhw.shape[1]
        matrix = self.matrix.to(points_bndhw)
        moved = torch.einsum("bij,bj...->bi...", matrix[:, :n, :n], points_bndhw)
        return moved + matrix[:, :n, n].reshape(-1, n, *[1] * (points_bndhw.ndim - 2))


class Generator(ABC):
    """What a step's map is the exponential of."""

    @abstractmethod
    def flows(self, time: float) -> tuple[CoordinateMap, CoordinateMap]:
        """The map after so much time (1: the step's, 0.5: its root), and its inverse."""


@dataclass(frozen=True)
class MatrixGenerator(Generator):
    """matrix: b (n+1) (n+1), its last row 0, in normalized coordinates."""

    matrix: Tensor
    align_corners: bool = False

    def flows(self, time: float) -> tuple[LinearMap, LinearMap]:
        there, back = (torch.linalg.matrix_exp(sign * time * self.matrix) for sign in (1, -1))
        return LinearMap(there, align_corners=self.align_corners), LinearMap(back, align_corners=self.align_corners)


class FlowMap(CoordinateMap):
    """`x + u(x)`, with u interpolated linearly from a lattice that reaches some nodes beyond the image on each side.

    Args: displacement: b n ..., normalized coordinates of the image. beyond: nodes on each side; past them u goes on by
    its edge value.
    """

    def __init__(self, displacement: Tensor, *, beyond: int = 0, align_corners: bool = False) -> None:
        self.displacement = displacement
        self.beyond = beyond
        self.align_corners = align_corners
        self.device = displacement.device

    def on_lattice(self, points: Tensor) -> Tensor:
        """Points of the image in normalized coordinates of the lattice."""
        if not self.beyond:
            return points
        nodes = per_axis(self.displacement.shape[2:], points)
        return (points * (nodes - 2 * self.beyond) + self.beyond) / nodes

    def __call__(self, points_bndhw: Tensor) -> Tensor:
        lattice = self.on_lattice(points_bndhw)
        return points_bndhw + sample(self.displacement, lattice, align_corners=self.align_corners)


@dataclass(frozen=True)
class VelocityGenerator(Generator):
    """velocity: b n ..., stationary, normalized coordinates per unit of time; integrated by scaling and squaring.

    beyond: nodes of its lattice on each side beyond the image (voxel-centered). Without any, a point that leaves the
    image and comes back is not where it was.
    finer: on how many times as many nodes both directions are then made inverse to each other, which their
    interpolation between nodes takes from them; 0 = they are left as they are.
    """

    velocity: Tensor
    align_corners: bool = False
    squarings: int = SQUARINGS
    beyond: int = 0
    finer: int = 0

    def flows(self, time: float) -> tuple[FlowMap, FlowMap]:
        there, back = self._integrated(time), self._integrated(-time)
        if self.finer:
            if self.finer > 1:
                kind = LINEAR[there.ndim - 2]
                there, back = (
                    F.interpolate(x, scale_factor=self.finer, mode=kind, align_corners=False) for x in (there, back)
                )
            # Each takes half of what is missing: what remains is of the second order, and swapping still swaps them.
            there, back = 0.5 * (there - self._at(back, there)), 0.5 * (back - self._at(there, back))
        beyond = self.beyond * max(1, self.finer)
        forward, backward = (FlowMap(x, beyond=beyond, align_corners=self.align_corners) for x in (there, back))
        return forward, backward

    def _integrated(self, time: float) -> Tensor:
        moved = self.velocity * (time / 2**self.squarings)
        for _ in range(self.squarings):
            moved = moved + self._at(moved, moved)
        return moved

    def _at(self, field: Tensor, displacement: Tensor) -> Tensor:
        """The field where a displacement of its own nodes leads to."""
        shape = field.shape[2:]
        nodes = identity_map(shape, align_corners=self.align_corners, device=field.device, dtype=field.dtype)
        # Image lengths per length of the lattice.
        inside = [1 - 2 * self.beyond / size for size in self.velocity.shape[2:]]
        return sample(field, nodes + per_axis(inside, field) * displacement, align_corners=self.align_corners)


def joined(last: CoordinateMap, middle: CoordinateMap, first: CoordinateMap) -> CompositeMap:
    """`last o middle o first`: the first acts first."""
    return CompositeMap(outer=last, inner=CompositeMap(outer=middle, inner=first))


def halves(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """(before, after) with after @ before = matrix, float64: its two equal roots.

    Where it has none that is the inverse's inverse, as a turn by 180 degrees: nothing before and all of it after.
    Source: E. D. Denman, A. N. Beavers: The matrix sign function and computations in systems. 1976.
    """
    root, inverse = matrix.double(), torch.eye(len(matrix), dtype=torch.float64)
    for _ in range(30):  # converges quadratically, or to nothing
        root, inverse = (root + torch.linalg.inv_ex(inverse)[0]) / 2, (inverse + torch.linalg.inv_ex(root)[0]) / 2
    if torch.allclose(root @ root, matrix.double(), rtol=1e-9, atol=1e-9):
        return root, root
    return torch.eye(len(matrix), dtype=torch.float64), matrix.double()
