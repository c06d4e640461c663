"""Trunks: chest, abdomen or both, with lungs, organs, bowel, vessels, ribs and pelvis."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .canvas import Canvas, smooth_noise, turn
from .parts import branches, line, paint_tubes, spine, wander


def paint_trunk(canvas: Canvas) -> tuple[int, Tensor, float]:
    """Chest, abdomen or both: shells, spine, ribs, lungs with vessels, organs, bowel, great vessels, pelvis.

    Returns: slide axis, profile and surface, as in `Anatomy`.
    """
    random, (d, h, w) = canvas.random, canvas.axes
    width = random.uniform(0.38, 0.52) if random.chance(0.55) else random.uniform(0.52, 0.85)
    depth = width * random.uniform(0.58, 0.85)
    power = random.uniform(2.1, 2.9)
    scale = min(width, depth)
    flat = ((h / depth).abs() ** power + (w / width).abs() ** power) ** (1 / power)  # 1 h w
    along = 1 + 0.06 * torch.cos(d * random.uniform(2, 6) + random.uniform(0, 6.3))
    rho = flat / along + random.uniform(0.01, 0.035) * canvas.bumps(canvas.whole)
    soft = canvas.soft

    fat = 1 - random.uniform(0.04, 0.22)
    cavity = fat - random.uniform(0.06, 0.14)
    body = soft((1 - rho) * scale)
    canvas.paint(body, "skin")
    canvas.paint(soft((1 - rho) * scale - 1.2 / canvas.per_edge), "fat")
    canvas.paint(soft((fat - rho) * scale), "muscle")
    inside = soft((cavity - rho) * scale)
    canvas.paint(inside, "mesentery")

    # The diaphragm: lungs above (towards -d), abdomen below. It may lie outside the canvas on either side.
    middle = random.uniform(-0.75, 0.85)
    right = random.sign()
    dome = middle + width * (0.3 * (flat / cavity).clamp_max(1.0) ** 2 - 0.15) - 0.08 * width * right * w / width
    dome = dome + 0.12 * depth * (h / depth)
    below = d - dome
    abdomen = inside * soft(below - 0.01)
    _regions_in_mesentery(canvas, abdomen)

    top = middle - width * random.uniform(1.0, 1.9)
    chest = middle > -0.6
    if chest:
        beside = w.abs() - width * (
            random.uniform(0.1, 0.2) + 0.1 * canvas.bumps(canvas.whole, "coarse").clamp(-1.5, 1.5)
        )
        lungs = torch.minimum((cavity - 0.03 - rho) * scale, beside)
        lungs = torch.minimum(lungs, -below)
        lungs = torch.minimum(lungs, (d - top) * 0.8 + 0.15 * (cavity - flat) * scale)
        lungs = soft(lungs)
        canvas.paint(lungs, "lung")
        # Small vessels everywhere: where two fields of noise vanish together.
        noise = smooth_noise(random, 2, round(canvas.size / random.uniform(3.5, 5)), canvas.size)
        thin = (random.uniform(0.3, 0.5) - (noise**2).sum(0).sqrt_()).mul_(2).clamp_(0, 0.7).mul_(lungs)
        canvas.paint(thin, "blood")
        trees = []
        for side in (-1.0, 1.0):
            hilum = (middle - width * 0.45, depth * 0.1, side * width * 0.2)
            for _ in range(5):
                way = F.normalize(
                    torch.tensor([0.0, 0.0, 0.8 * side]) + random.normal(3) * torch.tensor([0.9, 0.6, 0.5]), dim=0
                )
                tree = branches(canvas, hilum, way.tolist(), width * 0.2, width * random.uniform(0.022, 0.042), 6)
                trees.append(tree)
        points_n3, radius_n = (torch.cat(part) for part in zip(*trees, strict=True))
        paint_tubes(canvas, points_n3, radius_n, "blood", lungs)
        heart = (middle - width * 0.2, -depth * 0.25, -right * width * 0.12)
        axes = [
            width * random.uniform(0.24, 0.32),
            depth * random.uniform(0.3, 0.42),
            width * random.uniform(0.24, 0.34),
        ]
        canvas.blob(heart, [a * 1.08 for a in axes], "mesentery", within=inside)
        canvas.blob(heart, axes, "muscle", within=inside)
        for _ in range(3):
            near = [c + 0.45 * a * (2 * random.uniform() - 1) for c, a in zip(heart, axes, strict=True)]
            canvas.blob(near, [a * random.uniform(0.25, 0.5) for a in axes], "blood", within=inside)
        fork = (middle - width * 0.55, depth * 0.15, 0.0)
        paint_tubes(canvas, *line(canvas, (top - 0.3, depth * 0.05, 0.0), fork, width * 0.055, 0.01), "gas", body)
        for side in (-1.0, 1.0):
            stop = (fork[0] + width * 0.2, fork[1], side * width * 0.28)
            paint_tubes(canvas, *line(canvas, fork, stop, width * 0.035, 0.01), "gas", body)
        arch = (heart[0] - width * 0.3, heart[1], heart[2])
        back = (arch[0] - width * 0.15, depth * 0.35, -right * width * 0.16)
        paint_tubes(canvas, *line(canvas, arch, back, width * random.uniform(0.06, 0.1), 0.03), "blood", body)

    if middle < 0.65:
        _abdominal_organs(canvas, abdomen, middle, right, width, depth)
    back = depth * random.uniform(0.5, 0.62)
    for side, wide in ((-right, 0.06), (right, 0.07)):  # aorta and vena cava
        radius = width * wide * random.uniform(0.6, 1.0)
        tube = line(
            canvas,
            (-1.0, back - 0.24 * depth, side * 0.1),
            (1.0, back - 0.3 * depth, side * 0.06),
            radius,
            0.01,
        )
        paint_tubes(canvas, *tube, "blood", body)

    vertebra = width * random.uniform(0.13, 0.18)
    high = spine(canvas, back, vertebra, body)
    if chest or middle > -1.0:
        _ribs(canvas, (fat + cavity) / 2, width, depth, power, high, min(middle + 0.5 * width, 0.9), back)
    if middle < -0.1:
        _pelvis(canvas, middle + width * random.uniform(1.5, 2.2), width, depth, body)
    if random.chance(0.3):
        _arms(canvas, width)
    edge = soft(((cavity + 0.02) - flat) * scale * 0.5)
    return 0, edge[None, None], depth / canvas.edges + 0.5


def _regions_in_mesentery(canvas: Canvas, abdomen: Tensor) -> None:
    """Lobules of soft tissue in the fat of the abdomen: bowel and muscle cut anywhere."""
    bumps = canvas.bumps(canvas.whole, "fine")
    canvas.paint(((bumps - canvas.random.uniform(0.5, 1.3)) * 3 + 0.5).clamp_(0, 1) * abdomen, "wall")


def _abdominal_organs(canvas: Canvas, abdomen: Tensor, middle: float, right: float, width: float, depth: float) -> None:
    random = canvas.random

    def place(down: float, back: float, side: float) -> list[float]:
        jitter = 0.04 * random.normal(3)
        return [
            middle + width * (down + float(jitter[0])),
            depth * (back + float(jitter[1])),
            width * (side + float(jitter[2])),
        ]

    # Bowel first: organs lie over it.
    for _ in range(random.integer(2, 5)):
        center = torch.tensor(place(random.uniform(0.5, 1.6), random.uniform(-0.5, 0.1), random.uniform(-0.5, 0.5)))
        count = random.integer(40, 90)
        radius = width * random.uniform(0.05, 0.085)
        reach = torch.tensor([0.3, 0.25, 0.35]) * width
        points = center + reach * wander(random, random.integer(4, 8), count)
        radii = torch.full((count,), radius)
        paint_tubes(canvas, points, radii, "wall", abdomen)
        content = random.pick({"fluid": 0.4, "gas": 0.35, "agent": 0.1, "organ": 0.15})
        some = slice(0, count) if random.chance(0.5) else slice(0, count // 2)
        paint_tubes(canvas, points[some], radii[some] * 0.65, content, abdomen)

    liver = place(0.3, -0.1, right * 0.42)
    axes = [width * random.uniform(0.42, 0.6), depth * random.uniform(0.5, 0.7), width * random.uniform(0.42, 0.6)]
    tilt = turn(random, 25)
    canvas.blob(liver, axes, "organ", within=abdomen, turn_33=tilt, power=2.4)
    found = canvas.ellipsoid(liver, axes, bumpy=0.0, turn_33=tilt)
    if found is not None:
        distance, box = found
        within = torch.zeros_like(abdomen)
        within[box] = canvas.soft(distance) * abdomen[box]
        for _ in range(2):
            start = [liver[0] + 0.1 * width, liver[1] + 0.1 * depth, liver[2] - right * 0.1 * width]
            way = F.normalize(random.normal(3) + torch.tensor([-0.5, 0.0, right]), dim=0).tolist()
            tree = branches(canvas, start, way, width * 0.16, width * random.uniform(0.022, 0.04), 4)
            paint_tubes(canvas, *tree, "blood", within)
    canvas.blob(place(0.35, 0.4, -right * 0.6), [width * 0.2, depth * 0.25, width * 0.14], "organ", within=abdomen)
    stomach = place(0.35, -0.3, -right * 0.35)
    axes = [width * random.uniform(0.15, 0.3), depth * random.uniform(0.2, 0.35), width * random.uniform(0.15, 0.25)]
    canvas.blob(stomach, axes, "wall", within=abdomen)
    canvas.blob(stomach, [a * 0.85 for a in axes], random.pick({"fluid": 0.6, "agent": 0.4}), within=abdomen)
    bubble = [stomach[0], stomach[1] - 0.35 * axes[1], stomach[2]]
    canvas.blob(bubble, [a * 0.6 for a in axes], "gas", within=abdomen)
    for side in (-1.0, 1.0):
        kidney = place(0.85, 0.42, side * 0.45)
        size = random.uniform(0.85, 1.15) * width
        axes = [0.24 * size, 0.13 * size, 0.12 * size]
        canvas.blob(kidney, [a * 1.35 for a in axes], "fat", within=abdomen)
        tilt = turn(random, 20)
        canvas.blob(kidney, axes, "gland", within=abdomen, turn_33=tilt)
        canvas.blob(kidney, [a * 0.55 for a in axes], "blood", within=abdomen, turn_33=tilt)
    canvas.blob(place(0.55, 0.0, 0.0), [0.07 * width, 0.1 * width, 0.3 * width], "gland", within=abdomen, bumpy=0.25)
    if random.chance(0.7):
        canvas.blob(place(0.6, -0.35, right * 0.3), [0.09 * width] * 3, "fluid", within=abdomen)


def _ribs(
    canvas: Canvas, rho: float, width: float, depth: float, power: float, high: float, lowest: float, back: float
) -> None:
    random = canvas.random
    slope = width * random.uniform(0.3, 0.7)
    radius = width * random.uniform(0.022, 0.034)
    points, phase = [], random.uniform(0, high)
    count = math.ceil(math.pi * width * canvas.per_edge / 0.8)
    angle = torch.linspace(0.12 * math.pi, 0.9 * math.pi, count)
    cosine, sine = angle.cos(), angle.sin()
    to_rim = rho / (cosine.abs() ** power + sine.abs() ** power) ** (1 / power)
    step = max(high * 1.05, 0.1 * width)
    for level in range(24):
        at = lowest - phase - level * step
        if at < -canvas.edges / 2 - slope:
            break
        for side in (-1.0, 1.0):
            down = at + slope * (1 - cosine) / 2
            points.append(torch.stack([down, to_rim * depth * cosine, side * to_rim * width * sine], 1))
    if points:
        points = torch.cat(points)
        paint_tubes(canvas, points, torch.full((len(points),), radius), "bone")
        paint_tubes(canvas, points, torch.full((len(points),), max(radius - 1.2 / canvas.per_edge, 0.001)), "spongy")


def _pelvis(canvas: Canvas, at: float, width: float, depth: float, body: Tensor) -> None:
    random, soft = canvas.random, canvas.soft
    thin = width * random.uniform(0.03, 0.05)
    for side in (-1.0, 1.0):
        found = canvas.ellipsoid(
            (at, depth * 0.1, side * width * 0.3), [width * 0.45, depth * 0.6, width * 0.32], bumpy=0.05
        )
        if found is not None:
            distance, box = found
            _, h, w = canvas.coordinates(box)
            wing = torch.minimum(thin - distance.abs(), (w * side - width * 0.25) * 0.7 + 0.3 * (h - depth * 0.1))
            canvas.paint(soft(wing) * body[box], "bone", box)
            canvas.paint(soft(wing - 0.55 * thin) * body[box], "spongy", box)
        head = (at + width * 0.45, 0.05 * depth, side * width * 0.55)
        for size, material in ((0.13, "bone"), (0.1, "spongy")):
            canvas.blob(head, [width * size] * 3, material, within=body, bumpy=0.03)
    canvas.blob((at + 0.3 * width, -0.15 * depth, 0.0), [width * 0.2] * 3, "wall", within=body)
    canvas.blob((at + 0.3 * width, -0.15 * depth, 0.0), [width * 0.17] * 3, "fluid", within=body)


def _arms(canvas: Canvas, width: float) -> None:
    """Arms beside the body."""
    random = canvas.random
    for side in (-1.0, 1.0):
        at = side * (width + 0.16 * width)
        for radius, material in ((0.15, "fat"), (0.11, "muscle"), (0.045, "bone"), (0.02, "spongy")):
            tube = line(canvas, (-0.9, 0.05, at), (0.9, 0.1, at + side * 0.1), width * radius, 0.0)
            if float(tube[1].max()) * canvas.per_edge < 9:
                paint_tubes(canvas, *tube, material)
        if random.chance(0.4):
            break
