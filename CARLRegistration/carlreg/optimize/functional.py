"""Instance optimization of a map as a function: sine networks and a pair's latent codes, at random points.

Two networks share the codes: one maps the fixed image's points, the other those of the moving image back, after the
affine. Each step draws points anew, compares small patches there, and asks that both maps be inverse to each other by
the gradient of their composition (GradICON), which is all that keeps them smooth. What a step takes does not grow with
the images.

The frame: points in units of half of the longest edge of the fixed content, about its center, in tensor order. The map
is y = affine(x + d(x)), its inverse x = z + v(z) with z = affine^-1(y).
Source: NePhi (Tian et al., 2023); points, patches and levels are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import OptimizationDiverged
from ..losses.registry import similarity_named
from ..models.functional import CHUNK_POINTS, FunctionalNetwork, FunctionalSettings, LatentCodes
from ..progress import Progress, Step
from .adam import Adam
from .patches import PatchImage, PatchSimilarity, first_order, simplex

_GRADICON = 3.0
_LATTICE = 12  # nodes of the codes along the longest edge
_FIT_POINTS, _FIT_RATE, _SETTLE_RATE = 2048, 1e-2, 3e-3


@dataclass(frozen=True, kw_only=True)
class FunctionalLevel:
    """How one level is optimized. window: of the patches, step: between its places, in the frame's units."""

    steps: int
    window: float
    places: int = 5
    points: int = 1024
    rate: float = 3e-3


class FunctionalPair(nn.Module):
    """Both maps of one pair: two networks and the codes they share. Displacements in the frame's units.

    aspect: the content's edges as shares of the longest.
    """

    def __init__(self, settings: FunctionalSettings, aspect: Sequence[float], lattice: int = _LATTICE) -> None:
        super().__init__()
        self.aspect = tuple(float(a) for a in aspect)
        self.forward_network = FunctionalNetwork(settings)
        self.backward_network = FunctionalNetwork(settings)
        nodes = [max(2, round(lattice * a)) for a in self.aspect]
        self.global_code = nn.Parameter(torch.randn(1, settings.global_channels) / settings.global_channels**0.5)
        local = torch.randn(1, settings.local_channels, *nodes)
        self.local_codes = nn.Parameter(local / settings.local_channels**0.5)

    @property
    def codes(self) -> LatentCodes:
        return LatentCodes(self.global_code, self.local_codes)

    def displacement(self, points_ns: Tensor, *, inverse: bool = False, codes: LatentCodes | None = None) -> Tensor:
        """n s: d of fixed points, or v of (affinely mapped) moving points. codes: None = the pair's own."""
        edges = points_ns.new_tensor(self.aspect)
        network = self.backward_network if inverse else self.forward_network
        return network((points_ns / edges + 1)[None] / 2, codes or self.codes, self.aspect)[0]

    @torch.no_grad()
    def evaluated(self, points_ns: Tensor, *, inverse: bool = False) -> Tensor:
        """The same without gradient, for any number of points."""
        return torch.cat([self.displacement(part, inverse=inverse) for part in points_ns.split(CHUNK_POINTS)])


@dataclass(frozen=True)
class Side:
    """An image, and where to draw points: centers n s of cells of the frame, their shares (cumulative) and edge."""

    image: PatchImage
    cells_ns: Tensor
    cumulative_n: Tensor
    edge_s: Tensor

    def drawn(self, count: int, generator: torch.Generator) -> Tensor:
        at = torch.rand(count, generator=generator).to(self.cumulative_n) * self.cumulative_n[-1]
        cells = self.cells_ns[torch.searchsorted(self.cumulative_n, at).clamp(max=len(self.cells_ns) - 1)]
        return cells + (torch.rand(cells.shape, generator=generator).to(cells) - 0.5) * self.edge_s


class FunctionalLoss:
    """Dissimilarity at drawn points, in both directions, + weight x GradICON, at the corners around them."""

    def __init__(
        self, fixed: Side, moving: Side, level: FunctionalLevel, similarity: str, weight: float, generator
    ) -> None:
        self.fixed, self.moving, self.level, self.weight, self.generator = fixed, moving, level, weight, generator
        dims = fixed.edge_s.shape[0]
        device = fixed.edge_s.device
        self.unlike = PatchSimilarity(similarity_named(similarity), dims, level.window, level.places, device)
        self.corners = simplex(dims).to(device)

    def __call__(self, pair: FunctionalPair) -> tuple[Tensor, Tensor]:
        """The loss, and its part that compares the images (mean of both directions, without gradient)."""
        forward, irregular = self._one_way(pair, self.fixed, self.moving, inverse=False)
        backward, also = self._one_way(pair, self.moving, self.fixed, inverse=True)
        unlike = forward + backward
        return unlike + self.weight * (irregular + also), unlike.detach() / 2

    def _one_way(self, pair: FunctionalPair, here: Side, there: Side, *, inverse: bool) -> tuple[Tensor, Tensor]:
        points = here.drawn(self.level.points, self.generator)
        corners = self.corners * (self.level.window / 3)
        around = points[:, None] + corners
        flat = around.reshape(-1, around.shape[-1])
        moved = pair.displacement(flat, inverse=inverse)
        back = pair.displacement(flat + moved, inverse=not inverse)
        displacement, slope = first_order(moved.reshape(around.shape), corners)
        identity = torch.eye(slope.shape[-1], device=slope.device)
        unlike = self.unlike(there.image, here.image, points, points + displacement, identity + slope)
        _, composed = first_order((moved + back).reshape(around.shape), corners)
        return unlike, composed.square().mean()


#: How many -> so many points of the frame, drawn at random.
Draw = Callable[[int], Tensor]


def fit_functional(
    pair: FunctionalPair,
    wanted: Callable[[Tensor], Tensor],
    draw: Draw,
    *,
    steps: int = 120,
    progress: Progress | None = None,
) -> None:
    """Make a pair's maps what is known already, and its inverse; by squared distances at random points, no images.

    wanted: n s points of the frame -> their displacement. Ends early where it is asked to stop here. Raises Cancelled.
    """
    optimizer = Adam(pair.parameters(), _FIT_RATE)
    for step in range(steps):
        optimizer.rate = _FIT_RATE * _cosine(step / steps)
        points = draw(_FIT_POINTS)
        target = wanted(points)
        optimizer.forget_gradients()
        forward = pair.displacement(points) - target
        backward = pair.displacement(points + target, inverse=True) + target
        (forward.square().mean() + backward.square().mean()).backward()
        optimizer.step()
        if progress is not None:
            if progress.stopping:
                return
            progress.update(0.0, f"fitting what is known, step {step + 1} of {steps}")


def settle_inverse(pair: FunctionalPair, draw: Draw, *, steps: int = 100) -> None:
    """Make the network of the inverse the inverse of the map that was found; the map and the codes stay."""
    optimizer = Adam(pair.backward_network.parameters(), _SETTLE_RATE)
    codes = LatentCodes(pair.global_code.detach(), pair.local_codes.detach())
    for step in range(steps):
        optimizer.rate = _SETTLE_RATE * _cosine(step / steps)
        points = draw(_FIT_POINTS)
        moved = pair.evaluated(points)
        optimizer.forget_gradients()
        error = pair.displacement(points + moved, inverse=True, codes=codes) + moved
        error.square().mean().backward()
        optimizer.step()


def _cosine(share: float) -> float:
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share))


def optimize_functional(
    pair: FunctionalPair,
    sides: Iterable[tuple[Side, Side]],
    levels: Sequence[FunctionalLevel],
    *,
    similarity: str = "lncc2",
    smoothness: float = 1.0,
    weights: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
    watch: Callable[[], None] | None = None,
) -> list[float]:
    """Adam on a pair's codes, and on its networks' weights where asked to; changes the pair, returns the losses.

    Args:
        sides: (fixed, moving) of each level, coarse to fine. similarity: a name of `losses.registry`.
        smoothness: factor on the weight of GradICON. weights: of the networks too, not the codes alone.
        progress: told of every step; ends the optimization where it is asked to stop here. watch: called after each.
    Raises OptimizationDiverged when a loss is not finite; Cancelled.
    """
    progress = progress or Progress()
    generator = torch.Generator().manual_seed(seed)
    chosen = list(pair.parameters()) if weights else [pair.global_code, pair.local_codes]
    total, done, losses = sum(level.steps for level in levels), 0, []
    optimizer = Adam(chosen, levels[0].rate)
    for number, ((fixed, moving), level) in enumerate(zip(sides, levels, strict=True)):
        if progress.stopping:
            break
        loss_of = FunctionalLoss(fixed, moving, level, similarity, _GRADICON * smoothness, generator)
        for _ in range(level.steps):
            optimizer.rate = level.rate * _cosine(done / total)
            optimizer.forget_gradients()
            loss, unlike = loss_of(pair)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise OptimizationDiverged(
                    f"Instance optimization diverged at step {done}: expected a finite loss, got {value}. "
                    "Try --smoothness 2 or fewer --io-steps, or --io-method field."
                )
            losses.append(value)
            loss.backward()
            optimizer.step()
            done += 1
            progress.stepped(Step(done, total, -float(unlike), number))
            if watch is not None:
                watch()
            if progress.stopping:
                break
    return losses
