"""Parts that several anatomies share: tubes, branching trees, the spine.

Lengths are in view edges, positions in edges from the canvas center, axes (d, h, w).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .canvas import Canvas, Random, spline_matrix


def wander(random: Random, nodes: int, count: int) -> Tensor:
    """count x 3 smooth random walk, about unit variance, on the CPU."""
    return spline_matrix(nodes, count) @ random.normal(nodes + 3, 3) * 1.4


def line(
    canvas: Canvas, start, stop, radius: float, wobble: float, end_radius: float | None = None
) -> tuple[Tensor, Tensor]:
    """Points (n 3) and radii (n) of a curved tube between two positions, on the CPU."""
    start, stop = torch.tensor(start), torch.tensor(stop)
    length = float((stop - start).norm()) + wobble
    count = max(3, math.ceil(length * canvas.per_edge / max(0.6, 0.5 * radius * canvas.per_edge)))
    t = torch.linspace(0, 1, count)[:, None]
    points = start + (stop - start) * t + wobble * wander(canvas.random, 4, count) * (4 * t * (1 - t)).sqrt()
    last = radius if end_radius is None else end_radius
    return points, (radius + (last - radius) * t[:, 0])


def branches(canvas: Canvas, start, heading, length: float, radius: float, generations: int) -> tuple[Tensor, Tensor]:
    """Points and radii of a branching tree that grows from `start` along `heading`; both shrink at every fork."""
    random = canvas.random
    points, radii = [], []
    tips = [(torch.tensor(start), torch.tensor(heading), length, radius)]
    for generation in range(generations):
        grown = []
        for position, direction, long, thick in tips:
            count = max(3, math.ceil(long * canvas.per_edge / max(0.7, 0.6 * thick * canvas.per_edge)))
            t = torch.linspace(0, 1, count)[:, None]
            bend = random.normal(3) * 0.25 * long
            path = position + direction * long * t + bend * (t * t)
            points.append(path)
            radii.append(thick * (1 - 0.25 * t[:, 0]))
            if generation + 1 < generations:
                onward = F.normalize(direction * long + 2 * bend, dim=0)
                for _ in range(3 if random.chance(0.3) else 2):
                    way = F.normalize(onward + 0.65 * random.normal(3), dim=0)
                    grown.append((path[-1], way, long * random.uniform(0.6, 0.95), thick * random.uniform(0.6, 0.8)))
        tips = grown
    return torch.cat(points), torch.cat(radii)


def paint_tubes(canvas: Canvas, points_n3, radius_n, material: str, within: Tensor | None = None) -> None:
    """Paint tubes, only where the full-size coverage `within` lets them."""
    found = canvas.tubes(points_n3, radius_n)
    if found is None:
        return
    alpha, box = found
    canvas.paint(alpha if within is None else alpha * within[box], material, box)


def spine(canvas: Canvas, back: float, size: float, body: Tensor) -> float:
    """A chain of vertebrae along d at h = back; returns the height of one (edges)."""
    random = canvas.random
    high = size * random.uniform(1.0, 1.6)
    reach = size * 3.2
    box = canvas.box((0.0, back + size, 0.0), (canvas.edges, reach, 2.6 * size))
    if box is None:
        return high
    d, h, w = canvas.coordinates(box)
    middle = back + size * (0.6 * torch.sin(d * random.uniform(2, 5) + random.uniform(0, 6.3)))
    aside = 0.15 * size * torch.sin(d * random.uniform(2, 5) + random.uniform(0, 6.3))
    phase = (d / high + random.uniform()).remainder(1.0)
    gap = 2 * (phase - 0.5).abs()  # 0 in the middle of a vertebra, 1 in that of a disc
    x, y = h - middle, w - aside
    soft = canvas.soft
    radius = (x * x + (y / 1.25) ** 2).sqrt()
    column = size * (0.92 + 0.12 * gap) - radius
    part = body[box]
    within = (0.8 - gap) * (high / 2)
    canvas.paint(soft(column) * part, "cartilage", box)
    vertebra = torch.minimum(column, within)
    ring = (x - 1.45 * size) ** 2 + y * y
    ring = ring.sqrt()
    arch = torch.minimum(0.85 * size - ring, (0.65 - gap) * (high / 2))
    spinous = torch.minimum((0.17 * size - y.abs()), 0.75 * size - (x - 2.5 * size + 0.4 * (phase - 0.5) * high).abs())
    spinous = torch.minimum(spinous, (0.6 - gap) * (high / 2))
    across = torch.minimum(0.2 * size - (x - 1.4 * size).abs(), 2.3 * size - y.abs())
    across = torch.minimum(across, (0.35 - gap) * (high / 2))
    bone = torch.maximum(torch.maximum(vertebra, arch), torch.maximum(spinous, across))
    canvas.paint(soft(bone) * part, "bone", box)
    canvas.paint(soft(vertebra - 1.1 / canvas.per_edge) * part, "spongy", box)
    canvas.paint(soft(0.5 * size - ring) * part, "fluid", box)
    canvas.paint(soft(0.25 * size - ring) * part, "white", box)
    return high


def largest(noise_cdhw: Tensor) -> Tensor:
    """d h w channel with the largest value; PyTorch's argmax over the slowest axis is eight times slower."""
    best = noise_cdhw[0].clone()
    index = torch.zeros(best.shape, dtype=torch.int32, device=best.device)
    for channel in range(1, len(noise_cdhw)):
        index.masked_fill_(noise_cdhw[channel] > best, channel)
        torch.maximum(best, noise_cdhw[channel], out=best)
    return index


def outside(canvas: Canvas, body_dhw: Tensor) -> None:
    """Air around the body (coverage)."""
    canvas.image_2dhw.mul_(body_dhw)
    canvas.labels_dhw.masked_fill_(body_dhw < 0.5, 0)
