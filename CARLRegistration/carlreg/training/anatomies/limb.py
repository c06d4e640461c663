"""Limbs: fat, muscle compartments with septa, tubular bones with marrow and a joint, vessels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .canvas import Canvas, smooth_noise
from .parts import line, paint_tubes


def paint_limb(canvas: Canvas) -> None:
    """One or two limbs: skin, fat, muscle compartments with septa, tubular bones with marrow and joints, vessels."""
    random, (d, h, w) = canvas.random, canvas.axes
    soft = canvas.soft
    two = random.chance(0.25)
    bumps = canvas.bumps(canvas.whole)
    radius = random.uniform(0.2, 0.32) if two else random.uniform(0.28, 0.6)
    # Muscle compartments run along the limb.
    compartments = smooth_noise(random, random.integer(4, 7), (2, *([random.integer(5, 8)] * 2)), canvas.size)
    best = compartments[0].clone()
    second = torch.full_like(best, -1e3)
    index = torch.zeros(best.shape, dtype=torch.int32, device=best.device)
    for channel in range(1, len(compartments)):
        value = compartments[channel]
        index.masked_fill_(value > best, channel)
        second = torch.maximum(second, torch.minimum(best, value))
        best = torch.maximum(best, value)
    septa = ((random.uniform(0.08, 0.3) - (best - second)) * 5 + 0.5).clamp_(0, 1)
    for side in (-1.0, 1.0) if two else (0.0,):
        taper = random.uniform(-0.25, 0.25)
        oval = random.uniform(0.8, 1.2)
        center_h = 0.05 * torch.sin(3 * d + random.uniform(0, 6))
        center_w = side * (radius + 0.05) + 0.03 * torch.sin(3 * d + random.uniform(0, 6))
        rim = ((h - center_h) ** 2 * oval + (w - center_w) ** 2 / oval).sqrt()
        distance = radius * (1 + taper * d + 0.05 * bumps) - rim
        canvas.paint(soft(distance), "skin")
        canvas.paint(soft(distance - 1.2 / canvas.per_edge), "fat")
        flesh = soft(distance - radius * random.uniform(0.08, 0.3))
        for part in range(len(compartments)):
            canvas.paint(flesh * (index == part), "muscle")
        canvas.paint(flesh * septa, "fat")
        _long_bones(canvas, radius, (center_h, center_w), flesh)
        for _ in range(random.integer(2, 5)):
            angle, out = random.uniform(0, 6.3), radius * random.uniform(0.3, 0.7)
            at = (out * math.cos(angle), side * (radius + 0.05) + out * math.sin(angle))
            tube = line(canvas, (-0.9, *at), (0.9, *at), radius * random.uniform(0.03, 0.08), 0.05)
            paint_tubes(canvas, *tube, "blood", flesh)


def _long_bones(canvas: Canvas, radius: float, center, flesh: Tensor) -> None:
    """One bone or two side by side, with a joint where they widen."""
    random, (d, h, w) = canvas.random, canvas.axes
    soft = canvas.soft
    center_h, center_w = center
    joint = random.uniform(-0.5, 0.5)
    wide = radius * random.uniform(0.5, 0.7)
    shaft = radius * random.uniform(0.18, 0.28)
    flare = torch.exp(-(((d - joint) / (radius * random.uniform(0.5, 0.9))) ** 2))
    size = shaft + (wide - shaft) * flare
    gap = (d - joint).abs() - radius * random.uniform(0.04, 0.08)
    bumps = canvas.bumps(canvas.whole)
    gap = gap + 0.02 * bumps
    offset_h, offset_w = (radius * random.uniform(-0.2, 0.2) for _ in range(2))
    rim = ((h - center_h - offset_h) ** 2 + (w - center_w - offset_w) ** 2).sqrt()
    bone = torch.minimum(size * (1 + 0.05 * bumps) - rim, gap)
    canvas.paint(soft(torch.minimum(size + 0.02 - rim, gap + 0.06 * radius)) * flesh, "cartilage")
    if random.chance(0.5):
        canvas.blob((joint, 0.0, 0.0), [wide * 0.5, wide * 1.3, wide * 1.3], "fluid", within=flesh * soft(-gap))
    canvas.paint(soft(bone) * flesh, "bone")
    shell = shaft * random.uniform(0.2, 0.45) * (1 - 0.75 * flare) + 0.7 / canvas.per_edge
    canvas.paint(soft(bone - shell) * flesh, random.pick({"spongy": 0.6, "fat": 0.4}))
    if random.chance(0.5):
        angle = random.uniform(0, 6.3)
        out = radius * 0.55
        start = (joint + 0.1 * radius, out * math.cos(angle), float(center_w.mean()) + out * math.sin(angle))
        stop = (start[0] + 1.0 * random.sign(), start[1], start[2])
        paint_tubes(canvas, *line(canvas, start, stop, radius * 0.13, 0.01), "bone", flesh)
        paint_tubes(canvas, *line(canvas, start, stop, radius * 0.06, 0.01), "spongy", flesh)
    if random.chance(0.5):  # the kneecap
        canvas.blob((joint - 0.1, -0.8 * radius, float(center_w.mean())), [0.2 * radius] * 3, "bone", within=flesh)
        canvas.blob((joint - 0.1, -0.8 * radius, float(center_w.mean())), [0.14 * radius] * 3, "spongy", within=flesh)
