"""Abstract anatomies: regions on two scales, nested shapes, sheets and tubes in a body of any form."""

from __future__ import annotations

import torch

from .canvas import Canvas, smooth_noise, turn
from .parts import branches, largest, outside, paint_tubes


def soften(canvas: Canvas) -> None:
    """Partial volume for regions that were painted without soft edges: a binomial blur of both images."""
    image = canvas.image_2dhw
    for axis in (1, 2, 3):
        inner = [slice(None)] * 4
        inner[axis] = slice(1, -1)
        n = image.shape[axis]
        image[tuple(inner)] = 0.6 * image[tuple(inner)] + 0.2 * (
            image.narrow(axis, 0, n - 2) + image.narrow(axis, 2, n - 2)
        )


def paint_abstract(canvas: Canvas) -> None:
    """Regions on two scales, nested ellipsoids, sheets and tubes in a body of any shape."""
    random, (d, h, w) = canvas.random, canvas.axes
    axes = [random.uniform(0.36, 0.7) for _ in range(3)]
    if random.chance(0.5):
        axes[random.integer(0, 2)] = 3.0
    power = random.uniform(2.0, 3.5)
    rho = sum((a / r).abs() ** power for a, r in zip((d, h, w), axes, strict=True)) ** (1 / power)
    rho = rho + random.uniform(0.02, 0.08) * canvas.bumps(canvas.whole)
    scale = min(axes)
    # Regions and, in some of them, a second, finer partition.
    coarse = largest(smooth_noise(random, random.integer(4, 8), random.integer(3, 7), canvas.size))
    count = random.integer(3, 6)
    fine = largest(smooth_noise(random, count, random.integer(8, 16), canvas.size))
    split = (random.random(8) < random.uniform(0.2, 0.8)).to(random.device)
    index = coarse + torch.where(split[coarse], 8 * (1 + fine), 0)
    values = torch.zeros(8 * (count + 1), 2)
    start = len(canvas.amplitudes)
    for part in range(len(values)):
        drawn = [contrast.paint("any") for contrast in canvas.contrasts]
        values[part] = torch.tensor([value for value, _ in drawn])
        canvas.amplitudes.append(tuple(amplitude for _, amplitude in drawn))
    values = values.to(random.device)
    for channel in range(2):
        canvas.image_2dhw[channel] = values[:, channel].contiguous().index_select(0, index.flatten()).view_as(index)
    canvas.labels_dhw.copy_(index + start)
    soften(canvas)
    for _ in range(random.integer(2, 8)):
        center = ((random.random(3) - 0.5) * 1.05).tolist()
        radii = (0.05 + 0.17 * random.random(3)).tolist()
        found = canvas.ellipsoid(center, radii)
        if found is not None:
            distance, box = found
            canvas.paint(canvas.soft(distance), "any", box)
            canvas.paint(canvas.soft(distance - random.uniform(0.1, 0.5) * min(radii)), "any", box)
    # Sheets and tubes: near one zero set of noise, or near two at once.
    noise = smooth_noise(random, 2, random.integer(5, 10), canvas.size)
    if random.chance(0.5):
        canvas.paint(((0.25 - noise[0].abs()) * 4).clamp_(0, 1), "any")
    if random.chance(0.7):
        canvas.paint(((random.uniform(0.2, 0.45) - (noise**2).sum(0).sqrt_()) * 4 + 0.5).clamp_(0, 1), "any")
    if random.chance(0.5):
        start = ((random.random(3) - 0.5) * 0.3).tolist()
        heading = turn(random)[0].tolist()
        paint_tubes(canvas, *branches(canvas, start, heading, 0.2, random.uniform(0.015, 0.04), 4), "any")
    inner = random.uniform(0.7, 0.88)
    if random.chance(0.7):
        canvas.paint(canvas.soft((rho - inner) * scale), "any")
        if random.chance(0.7):
            thick = random.uniform(0.03, 0.1)
            canvas.paint(canvas.soft((thick / 2 - (rho - inner - thick / 2).abs()) * scale), "any")
        canvas.paint(canvas.soft((rho - random.uniform(0.9, 0.97)) * scale), "any")
    outside(canvas, canvas.soft((1 - rho) * scale))
