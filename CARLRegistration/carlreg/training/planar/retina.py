"""Vessel trees on a disk, like a retina: the planar images that CARL shows its equivariance on.

The generator is ours: from a papilla at one side of the disk trunks grow in curved steps, thin out and branch. A tree
is a list of tapering segments, so that an image of it under any map is computed, not interpolated.

Coordinates: image edges (h, w), the disk around (0.5, 0.5).
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass
from random import Random

import torch
from torch import Generator, Tensor

from ...maps import CoordinateMap, identity_map

DISK = 0.36  # radius of the disk
BACKGROUND = 0.25  # intensity of the disk; vessels go up to 1
_STEP = 0.02  # length of a segment
_WIDEST, _NARROWEST = 0.016, 0.004  # half widths
# Pixels per edge of what is painted at once, and after how many widths of an edge a vessel is gone (to 1e-4).
_BLOCK, _FADED = 12, 5.0


@dataclass(frozen=True)
class Tree:
    """begin_s2, end_s2: of s segments. width_s: half widths."""

    begin_s2: Tensor
    end_s2: Tensor
    width_s: Tensor


def grow(random: Random) -> Tree:
    """A tree of some hundred segments inside the disk."""
    turn = random.uniform(0, 2 * math.pi)
    papilla = [0.5 + 0.55 * DISK * math.sin(turn), 0.5 + 0.55 * DISK * math.cos(turn)]
    first = random.uniform(0, 2 * math.pi)
    count = random.randint(5, 8)
    tips = [
        (*papilla, first + 2 * math.pi * (k + random.uniform(-0.25, 0.25)) / count, _WIDEST * random.uniform(0.7, 1))
        for k in range(count)
    ]
    segments = []
    while tips:
        h, w, angle, width = tips.pop()
        bend = random.uniform(-0.15, 0.15)
        for _ in range(random.randint(4, 9)):
            bend += random.uniform(-0.12, 0.12)
            angle += bend * 0.6
            there = h + _STEP * math.sin(angle), w + _STEP * math.cos(angle)
            if math.dist(there, (0.5, 0.5)) > DISK:
                break
            segments.append((h, w, *there, width))
            h, w = there
            width *= 0.975
        else:
            if width > _NARROWEST:
                part = random.uniform(0.25, 0.75)
                spread = random.uniform(0.5, 1.0)
                tips.append((h, w, angle + spread * (1 - part), width * (0.55 + 0.4 * part)))
                tips.append((h, w, angle - spread * part, width * (0.95 - 0.4 * part)))
    table = torch.tensor(segments)
    return Tree(table[:, :2], table[:, 2:4], table[:, 4])


def paint(tree: Tree, points_12hw: Tensor) -> Tensor:
    """The intensity of a tree's image at points, 1 1 h w, 0..1; edges are a pixel of the points' lattice wide."""
    soft = 0.7 / points_12hw.shape[-1]
    depth = torch.empty(points_12hw.shape[2:])  # from the vessels' walls, inward
    middle = (tree.begin_s2 + tree.end_s2) / 2
    reach = (tree.end_s2 - tree.begin_s2).norm(dim=1) / 2 + tree.width_s + _FADED * soft
    for h in range(0, depth.shape[0], _BLOCK):
        for w in range(0, depth.shape[1], _BLOCK):
            place = slice(h, h + _BLOCK), slice(w, w + _BLOCK)
            points = points_12hw[(0, slice(None), *place)].flatten(1)
            center = (points.amin(1) + points.amax(1)) / 2
            radius = (points - center[:, None]).norm(dim=0).amax()
            near = (middle - center).norm(dim=1) < radius + reach
            depth[place] = _depth(tree, near, points).reshape(depth[place].shape)
    vessel = torch.sigmoid(2 * depth / soft)
    disk = torch.sigmoid((DISK + 0.02 - (points_12hw[0] - 0.5).norm(dim=0)) / soft * 2)
    return (disk * (BACKGROUND + (1 - BACKGROUND) * vessel))[None, None]


def _depth(tree: Tree, chosen: Tensor, points_2k: Tensor) -> Tensor:
    """How deep k points lie in the nearest of the chosen segments, image edges, negative outside."""
    begin, width = tree.begin_s2[chosen], tree.width_s[chosen]
    if not len(width):
        return torch.full(points_2k.shape[1:], -1.0)
    along = tree.end_s2[chosen] - begin
    away = points_2k[:, None] - begin.T[..., None]
    share = ((away * along.T[..., None]).sum(0) / along.square().sum(1, keepdim=True)).clamp(0, 1)
    return (width[:, None] - (away - share * along.T[..., None]).norm(dim=0)).amax(0)


class SmoothMap(CoordinateMap):
    """`x + a sum of a few long waves + a shift`, computed at any point.

    Args:
        generator: CPU. amplitude: largest displacement by the waves along an axis, image edges.
        shift_2: image edges. inverse: the map back, by a fixed point of the waves.
    """

    _WAVES = 6

    def __init__(self, generator: Generator, amplitude: float, shift_2: Tensor, *, inverse: bool = False) -> None:
        frequency = torch.randn((self._WAVES, 2), generator=generator)
        # At most one and a half periods per edge: the gradient stays below one, so that the map can be inverted.
        frequency = 1.5 * frequency / frequency.norm(dim=1, keepdim=True).clamp_min(1.5)
        self.frequency_k2, self.phase_k = frequency, 2 * torch.pi * torch.rand(self._WAVES, generator=generator)
        share = torch.randn((2, self._WAVES), generator=generator)
        self.amplitude_2k = amplitude * share / share.abs().sum(1, keepdim=True)
        self.shift_2 = shift_2
        self.inverse = inverse

    def __call__(self, points_b2hw: Tensor) -> Tensor:
        shift = self.shift_2.view(1, 2, 1, 1)
        if not self.inverse:
            return points_b2hw + shift + self._waves(points_b2hw)
        found = target = points_b2hw - shift
        for _ in range(40):
            found = target - self._waves(found)
        return found

    def inverted(self) -> SmoothMap:
        """The other direction."""
        other = copy(self)
        other.inverse = not self.inverse
        return other

    def _waves(self, points_b2hw: Tensor) -> Tensor:
        angle = 2 * torch.pi * torch.einsum("kx,bxhw->bkhw", self.frequency_k2, points_b2hw)
        return torch.einsum("xk,bkhw->bxhw", self.amplitude_2k, torch.sin(angle + self.phase_k.view(1, -1, 1, 1)))


@dataclass(frozen=True)
class RetinaPair:
    """moving, fixed: 1 1 size size. tree_from_moving, tree_from_fixed: the maps from each image to the tree."""

    moving: Tensor
    fixed: Tensor
    tree_from_moving: SmoothMap
    tree_from_fixed: SmoothMap

    def moving_from_fixed(self, points_b2hw: Tensor) -> Tensor:
        """Where points of the fixed image lie in the moving one, normalized coordinates."""
        return self.tree_from_moving.inverted()(self.tree_from_fixed(points_b2hw))


def draw_retina(generator: Generator, size: int, *, warp_pixels: float, shift_pixels: float) -> RetinaPair:
    """One tree seen through two smooth maps.

    Args:
        generator: CPU. size: pixels per edge. warp_pixels: largest displacement by either map along an axis.
        shift_pixels: largest shift of either image along an axis, whole pixels, drawn for itself.
    """
    tree = grow(Random(int(torch.randint(2**31, (), generator=generator))))  # noqa: S311 (pictures, not secrets)
    most = int(shift_pixels)
    maps = []
    for _ in range(2):
        shift = torch.randint(-most, most + 1, (2,), generator=generator) / size
        maps.append(SmoothMap(generator, warp_pixels / size, shift))
    points = identity_map((size, size))
    images = [paint(tree, found(points)) for found in maps]
    return RetinaPair(images[0], images[1], maps[0], maps[1])
