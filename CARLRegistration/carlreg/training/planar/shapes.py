"""Triangles and circles of any place, size and turn: the first experiment of ICON (Greer et al., ICCV 2021).

Two shapes of one kind have no true map between them, only images that should agree: what a registration does with that
freedom is what its regularizer makes of it.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from ...maps import identity_map

_SHARPNESS = 40.0  # per image edge: a hollow shape's line is about a twentieth of the edge wide
CENTER, RADIUS = (0.38, 0.62), (0.2, 0.35)  # image edges; a shape stays inside the image, with a margin


def draw_shapes(generator: Generator, size: int, *, hollow: bool) -> tuple[Tensor, Tensor]:
    """Two images, 1 1 size size, values 0..1: both circles or both triangles, each drawn for itself.

    Args: generator: CPU. size: pixels per edge. hollow: the outline alone; otherwise the filled shape.
    """
    triangles = float(torch.rand((), generator=generator)) < 0.5
    one, other = (_image(_distance(triangles, size, generator), hollow) for _ in range(2))
    return one, other


def _distance(triangle: bool, size: int, generator: Generator) -> Tensor:
    """Signed distance to a shape's outline, image edges, negative inside; of a triangle's corners outside it, less."""
    y, x, share, turn = torch.rand(4, generator=generator).tolist()
    points = identity_map((size, size))
    radius = RADIUS[0] + (RADIUS[1] - RADIUS[0]) * share
    away = [points[:, axis] - (CENTER[0] + (CENTER[1] - CENTER[0]) * at) for axis, at in enumerate((y, x))]
    if not triangle:
        return torch.stack(away).square().sum(0).sqrt() - radius
    angles = [2 * math.pi * (turn + side) / 3 for side in range(3)]
    # The distance of each side's line from the center is half that of the corners.
    sides = [math.cos(angle) * away[0] + math.sin(angle) * away[1] - radius / 2 for angle in angles]
    return torch.stack(sides).amax(0)


def _image(distance_1hw: Tensor, hollow: bool) -> Tensor:
    inside = torch.sigmoid(-2 * _SHARPNESS * distance_1hw)
    return (4 * inside * (1 - inside) if hollow else inside)[:, None]
