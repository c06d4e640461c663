"""Heads with scalp, skull and face, or the brain alone: folded cortex, deep gray matter, ventricles, cerebellum."""

from __future__ import annotations

import torch
from torch import Tensor

from .canvas import Canvas, smooth_noise
from .parts import branches, line, paint_tubes, spine


def paint_head(canvas: Canvas) -> None:
    """A head with scalp, skull and face, or its brain alone on zero."""
    random, (d, h, w) = canvas.random, canvas.axes
    soft = canvas.soft
    # A brain alone has hardly any contrast in CT, and nobody strips skulls there.
    stripped = random.chance(0.5) and all(contrast.modality == "mr" for contrast in canvas.contrasts)
    wide = random.uniform(0.34, 0.46) if random.chance(0.7) else random.uniform(0.46, 0.65)
    axes = (wide * random.uniform(0.95, 1.1), wide * random.uniform(1.15, 1.35), wide)
    brain_axes = [a * (1 if stripped else random.uniform(0.8, 0.86)) for a in axes]
    scale = wide

    def distance_to(radii, power: float, bumpy: float) -> Tensor:
        radius = sum((a / r).abs() ** power for a, r in zip((d, h, w), radii, strict=True)) ** (1 / power)
        return (1 - radius - bumpy * canvas.bumps(canvas.whole)) * scale

    power = random.uniform(2.0, 2.4)
    # The base of the brain is flat; what lies below is face and neck.
    base = axes[0] * random.uniform(0.3, 0.5)
    floor = base - d + 0.25 * h - 0.03 * canvas.bumps(canvas.whole)
    depth = torch.minimum(distance_to(brain_axes, power, 0.04), floor)
    body = None
    if not stripped:
        head = distance_to(axes, power, 0.03)
        neck = wide * random.uniform(0.5, 0.7) - ((h - 0.1 * wide) ** 2 + w * w).sqrt()
        neck = torch.minimum(neck.expand_as(head), d)
        face = distance_to((axes[0] * 1.3, axes[1] * 0.9, axes[2] * 0.75), 2.5, 0.04)
        whole = torch.maximum(torch.maximum(head, neck), face)
        body = soft(whole)
        canvas.paint(body, "skin")
        canvas.paint(soft(whole - 1.2 / canvas.per_edge), "fat")
        canvas.paint(soft(whole - wide * random.uniform(0.05, 0.1)) * soft(d), "muscle")
        canvas.paint(((canvas.bumps(canvas.whole, "fine") - 0.7) * 3).clamp_(0, 1) * soft(d) * body, "fat")
        _face(canvas, axes, base, body)
        thick = wide * random.uniform(0.05, 0.12)
        skull = depth + thick + 0.02
        canvas.paint(soft(skull) * body, "bone")
        if thick * canvas.per_edge > 2.2:
            canvas.paint(soft(torch.minimum(skull - 0.3 * thick, 0.75 * thick - skull)) * body, "spongy")
        canvas.paint(soft(depth + 0.02), "fluid")
        spine(canvas, wide * 0.25, wide * 0.16, body * soft(d - base))

    # Cortex: sulci are zero sets of noise near the surface; gray matter lines them and the surface.
    feature = random.uniform(0.042, 0.07) * (wide / 0.42)
    nodes = min(36, max(8, round(canvas.edges / feature)))
    folds = smooth_noise(random, 1, nodes, canvas.size)[0].abs_() * (0.6 * canvas.edges / nodes)
    reach = wide * random.uniform(0.2, 0.4)
    folds = folds + (depth - reach).clamp_min(0) * 0.5
    midline = (w + 0.02 * canvas.bumps(canvas.whole)).abs() - 0.002
    fissure = torch.maximum(midline, d + 0.2 * wide - 0.1 * h)  # open above the corpus callosum
    sulcus = torch.minimum(torch.minimum(depth, folds), fissure)
    if stripped:
        canvas.paint(soft(depth), "fluid")
    width = random.uniform(0.004, 0.012)
    canvas.paint(soft(torch.minimum(sulcus - width, depth)), "gray")
    cortex = wide * random.uniform(0.045, 0.07)
    canvas.paint(soft(sulcus - width - cortex), "white")
    inner = soft(depth - 0.5 * cortex)

    for side in (-1.0, 1.0):
        for center, radii, material in (
            ((0.02, 0.1, 0.14), (0.16, 0.22, 0.12), "gray"),  # thalamus
            ((-0.05, -0.2, 0.2), (0.16, 0.18, 0.08), "gray"),  # caudate
            ((0.02, -0.05, 0.36), (0.16, 0.26, 0.09), "gray"),  # putamen
        ):
            at = [c * a for c, a in zip(center, (axes[0], axes[1], side * axes[2]), strict=True)]
            at = [c + 0.03 * wide * (2 * random.uniform() - 1) for c in at]
            canvas.blob(at, [r * wide * random.uniform(0.8, 1.2) for r in radii], material, within=inner)
        big = wide * random.uniform(0.05, 0.13)
        front = (-0.16 * axes[0], -0.4 * axes[1], side * 0.1 * wide)
        rear = (-0.05 * axes[0], 0.45 * axes[1], side * 0.25 * wide)
        paint_tubes(canvas, *line(canvas, front, rear, big, 0.03), "fluid", inner)
    canvas.blob((0.1 * axes[0], 0.0, 0.0), [0.2 * wide, 0.25 * wide, 0.03 * wide + 0.01], "fluid", within=inner)
    # Cerebellum with fine folia, and the brain stem.
    found = canvas.ellipsoid(
        (base + 0.02, 0.42 * axes[1], 0.0), [0.33 * wide, 0.4 * wide, 0.62 * wide], bumpy=0.06, power=2.3
    )
    if found is not None:
        distance, box = found
        mask = soft(distance) if body is None else soft(distance) * body[box]
        canvas.paint(soft(distance + 0.03) if body is None else soft(distance + 0.03) * body[box], "fluid", box)
        canvas.paint(mask, "gray", box)
        folia = torch.sin(
            smooth_noise(random, 1, 8, canvas.size)[0][box] * 1.5 + canvas.coordinates(box)[0] * 95 / wide * 0.42
        )
        canvas.paint(((folia - 0.2) * 1.5).clamp_(0, 1) * soft(distance - 0.05 * wide), "white", box)
        canvas.paint(soft(distance - 0.2 * wide), "white", box)
    stem = line(canvas, (0.2 * axes[0], 0.1 * axes[1], 0.0), (0.9, 0.22 * wide, 0.0), wide * 0.17, 0.02, wide * 0.1)
    low = 1.25 * axes[0] if stripped else 2.0
    keep = stem[0][:, 0] < low
    paint_tubes(canvas, stem[0][keep], stem[1][keep], "white", None if stripped else body)
    if not stripped and random.chance(0.5):
        paint_tubes(
            canvas, *branches(canvas, (base, 0.0, 0.0), (-1.0, 0.0, 0.0), wide * 0.4, wide * 0.03, 5), "blood", body
        )


def _face(canvas: Canvas, axes, base: float, body: Tensor) -> None:
    """Air spaces, eyes, jaw: irregular structures below the front of the skull."""
    random, wide = canvas.random, axes[2]
    for side in (-1.0, 1.0):
        eye = (base - 0.05 * wide, -0.95 * axes[1], side * 0.4 * wide)
        canvas.blob(eye, [0.26 * wide] * 3, "fat", within=body)
        canvas.blob(eye, [0.17 * wide] * 3, "fluid", within=body, bumpy=0.02)
        canvas.blob((base + 0.35 * wide, -0.7 * axes[1], side * 0.33 * wide), [0.22 * wide] * 3, "bone", within=body)
        canvas.blob((base + 0.35 * wide, -0.7 * axes[1], side * 0.33 * wide), [0.18 * wide] * 3, "gas", within=body)
        jaw = line(
            canvas,
            (base + 0.2 * wide, 0.0, side * 0.65 * wide),
            (base + 0.9 * wide, -axes[1] * 0.8, 0.0),
            0.06 * wide,
            0.02,
        )
        paint_tubes(canvas, *jaw, "bone", body)
    for _ in range(random.integer(2, 5)):
        center = (
            base + wide * random.uniform(0.1, 0.8),
            -axes[1] * random.uniform(0.1, 0.8),
            wide * random.uniform(-0.3, 0.3),
        )
        radii = [wide * random.uniform(0.06, 0.2) for _ in range(3)]
        canvas.blob(center, radii, random.pick({"gas": 0.5, "muscle": 0.3, "bone": 0.2}), within=body, bumpy=0.25)
    throat = line(canvas, (base + 0.2 * wide, -0.1 * axes[1], 0.0), (1.0, 0.0, 0.0), 0.12 * wide, 0.03)
    paint_tubes(canvas, *throat, "gas", body)
