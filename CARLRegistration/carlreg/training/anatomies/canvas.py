"""A canvas to paint random anatomy on: random numbers, smooth noise, soft shapes, and what tissues look like.

Every structure is painted over what is there, with a soft edge of one voxel, in two contrasts at once; the label map
takes the structure where it covers more than half of a voxel. Lengths are in view edges ("edges": 1 = the field of
one view), positions in edges from the canvas center, axes (d, h, w).

Shape suffixes: c channels, d h w axes, n points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ...maps.sampling import axis_coordinates
from ...spaces import cubic_bspline

Box = tuple[slice, slice, slice]


class Random:
    """Random numbers of one sample, all from one seed; small draws on the CPU, large noise on the device."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generator = Generator().manual_seed(seed)
        self._device_generator = (
            self.generator if self.device.type == "cpu" else Generator(self.device).manual_seed(seed)
        )

    def on_cpu(self) -> Random:
        """The same sequence of numbers, for tensors on the CPU."""
        if self.device.type == "cpu":
            return self
        twin = Random(0)
        twin.generator = twin._device_generator = self.generator
        return twin

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def integer(self, low: int, high: int) -> int:
        """low <= n <= high."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def chance(self, share: float) -> bool:
        return self.uniform() < share

    def sign(self) -> float:
        return 1.0 if self.chance(0.5) else -1.0

    def pick(self, weights: dict[str, float]) -> str:
        """A name, as often as its weight says."""
        at = self.uniform(0.0, sum(weights.values()))
        for name, weight in weights.items():
            at -= weight
            if at < 0:
                return name
        return list(weights)[-1]

    def normal(self, *shape: int) -> Tensor:
        """On the CPU."""
        return torch.randn(shape, generator=self.generator)

    def random(self, *shape: int) -> Tensor:
        """On the CPU."""
        return torch.rand(shape, generator=self.generator)

    def noise(self, *shape: int) -> Tensor:
        """White noise on the device."""
        return torch.randn(shape, generator=self._device_generator, device=self.device)


def spline_matrix(nodes: int, size: int) -> Tensor:
    """size x (nodes + 3): values at voxel centers of a cubic B-spline with `nodes` intervals over the edge."""
    position = (torch.arange(size, dtype=torch.float32) + 0.5) / size * nodes
    distance = (position[:, None] - (torch.arange(nodes + 3, dtype=torch.float32) - 1)).abs()
    return cubic_bspline(distance)


def smooth_noise(random: Random, channels: int, nodes: int | Sequence[int], size: int | Sequence[int]) -> Tensor:
    """c d h w smooth noise, about unit variance, features of about size / nodes voxels; on the device of `random`."""
    intervals = (nodes,) * 3 if isinstance(nodes, int) else nodes
    shape = (size,) * 3 if isinstance(size, int) else size
    d, h, w = (spline_matrix(n, s).to(random.device) for n, s in zip(intervals, shape, strict=True))
    noise = random.normal(channels, *(n + 3 for n in intervals)).to(random.device) * 2.9  # the spline averages
    noise = (h @ (noise @ w.T)).flatten(2)  # c k (h w)
    return (d @ noise).unflatten(2, tuple(shape[1:]))


# Normalized CT values, (HU + 1000) / 2000: lowest, highest, texture.
_CT = {
    "gas": (0.0, 0.03, 0.0),
    "lung": (0.05, 0.17, 0.025),
    "fat": (0.44, 0.47, 0.006),
    "mesentery": (0.44, 0.475, 0.012),
    "muscle": (0.51, 0.535, 0.008),
    "organ": (0.515, 0.57, 0.006),
    "gland": (0.51, 0.55, 0.01),
    "blood": (0.515, 0.54, 0.004),
    "fluid": (0.498, 0.51, 0.003),
    "wall": (0.51, 0.545, 0.005),
    "skin": (0.48, 0.53, 0.004),
    "cartilage": (0.53, 0.56, 0.005),
    "spongy": (0.54, 0.66, 0.03),
    "bone": (0.64, 0.95, 0.04),
    "white": (0.512, 0.519, 0.002),
    "gray": (0.517, 0.526, 0.002),
    "agent": (0.58, 0.85, 0.01),
    "table": (0.08, 0.4, 0.0),
}
# Rough brightness in T1-, T2- and proton-density-weighted images; None: dark or bright (flow).
_MR = {
    "gas": (0.0, 0.0, 0.0),
    "lung": (0.05, 0.05, 0.06),
    "fat": (0.85, 0.65, 0.7),
    "mesentery": (0.7, 0.55, 0.6),
    "muscle": (0.33, 0.17, 0.4),
    "organ": (0.45, 0.35, 0.5),
    "gland": (0.5, 0.4, 0.55),
    "blood": (None, None, None),
    "fluid": (0.12, 0.95, 0.6),
    "wall": (0.38, 0.3, 0.45),
    "skin": (0.4, 0.3, 0.45),
    "cartilage": (0.45, 0.4, 0.55),
    "spongy": (0.65, 0.5, 0.6),
    "bone": (0.05, 0.03, 0.08),
    "white": (0.74, 0.3, 0.5),
    "gray": (0.5, 0.45, 0.6),
    "agent": (0.95, 0.1, 0.8),
    "table": (0.0, 0.0, 0.0),
}


class Contrast:
    """What materials look like in one kind of image; every structure differs a little from its material.

    modality: 'ct' or 'mr'.
    """

    def __init__(self, random: Random, modality: str) -> None:
        self.random = random
        self.modality = modality
        self.family = random.pick({"t1": 0.27, "t2": 0.27, "pd": 0.16, "any": 0.3})
        self.enhanced = random.chance(0.5)
        self.spread = random.uniform(0.03, 0.1)  # between structures of one material
        self.texture = 0.08 * random.uniform() ** 1.5
        self._typical: dict[str, float] = {}

    def paint(self, material: str) -> tuple[float, float]:
        """Value and amplitude of the texture for a new structure."""
        random = self.random
        if self.modality == "ct":
            if material == "any":
                material = random.pick(
                    {"lung": 0.14, "fat": 0.2, "organ": 0.3, "muscle": 0.2, "agent": 0.06, "bone": 0.1}
                )
            low, high, texture = _CT[material]
            if material == "blood" and self.enhanced:
                low, high = 0.56, 0.66
            typical = self._typical.setdefault(material, random.uniform())
            value = low + (high - low) * (0.5 * typical + 0.5 * random.uniform())
            return value, texture * random.uniform(0.3, 2.0)
        if material == "any":
            return 0.03 + 0.97 * random.uniform(), self.texture * random.uniform()
        if material not in self._typical:
            self._typical[material] = self._mr_typical(material)
        spread = self.spread * (2.0 if material in ("organ", "gland") else 1.0)
        value = self._typical[material]
        if value > 0.0:
            value = min(max(value + spread * float(random.normal(1)), 0.02), 1.0)
        return value, self.texture * random.uniform() * min(1.0, 3 * value)

    def _mr_typical(self, material: str) -> float:
        random = self.random
        if material in ("gas", "table"):
            return 0.0
        if self.family == "any":
            if material == "lung" or (material == "bone" and random.chance(0.7)):
                return random.uniform(0.02, 0.12)
            return random.uniform(0.05, 1.0)
        value = _MR[material][("t1", "t2", "pd").index(self.family)]
        if value is None:
            return random.uniform(0.03, 0.2) if random.chance(0.5) else random.uniform(0.7, 1.0)
        return min(max(value * math.exp(0.2 * float(random.normal(1))), 0.02), 1.0)


@dataclass(frozen=True)
class Extra:
    """A structure that only some views of an anatomy show: coverage (0..1) in a box, and its value per contrast."""

    box: Box
    alpha_dhw: Tensor
    values: tuple[float, float]

    def painted_on(self, image_dhw: Tensor, contrast: int) -> None:
        """Paint it over an image of the canvas, in place."""
        region = image_dhw[self.box]
        region.add_(self.alpha_dhw * (self.values[contrast] - region))


class Canvas:
    """Two images and one label map of one anatomy while it is being painted.

    size: voxels per edge. edges: its edge in view edges. image_2dhw: both contrasts. labels_dhw: int32, 0 outside.
    """

    def __init__(self, random: Random, size: int, edges: float, modality: tuple[str, str]) -> None:
        self.random = random
        self.size = size
        self.edges = edges
        self.per_edge = size / edges  # voxels
        self.contrasts = tuple(Contrast(random, kind) for kind in modality)
        self.image_2dhw = torch.zeros(2, size, size, size, device=random.device)
        self.labels_dhw = torch.zeros(size, size, size, dtype=torch.int32, device=random.device)
        axis = (axis_coordinates(size, device=random.device) - 0.5) * edges
        self.axes = tuple(axis.reshape([-1 if k == a else 1 for k in range(3)]) for a in range(3))
        # Bumps for all shapes: any window of these volumes will do, so that no shape needs noise of its own.
        self._bumps = {
            "coarse": smooth_noise(random, 1, random.integer(5, 7), size)[0],
            "fine": smooth_noise(random, 1, random.integer(11, 16), size)[0],
        }
        self.amplitudes: list[tuple[float, ...]] = [(0.0, 0.0)]
        self.extras: list[Extra] = []
        self.whole: Box = (slice(0, size), slice(0, size), slice(0, size))

    def bumps(self, box: Box, scale: str = "coarse") -> Tensor:
        """Smooth noise for a box; a random window of the same noise every time."""
        window = []
        for part in box:
            length = part.stop - part.start
            start = self.random.integer(0, self.size - length)
            window.append(slice(start, start + length))
        return self._bumps[scale][tuple(window)]

    def box(self, center, reach) -> Box | None:
        """Voxels within `reach` (edges, per axis) of a position, with a margin for the soft edge; None if outside."""
        box = []
        for c, r in zip(center, reach, strict=True):
            middle = (c / self.edges + 0.5) * self.size
            half = r * self.per_edge + 1.5
            start, stop = max(0, math.floor(middle - half)), min(self.size, math.ceil(middle + half))
            if stop - start < 1:
                return None
            box.append(slice(start, stop))
        return tuple(box)

    def coordinates(self, box: Box) -> tuple[Tensor, Tensor, Tensor]:
        """Positions along each axis in edges, ready to broadcast."""
        d, h, w = self.axes
        return d[box[0]], h[:, box[1]], w[:, :, box[2]]

    def soft(self, distance_dhw: Tensor) -> Tensor:
        """Coverage of a voxel from the distance to an edge (in edges, positive inside)."""
        return (distance_dhw * self.per_edge + 0.5).clamp_(0, 1)

    def paint(
        self, alpha_dhw: Tensor, material: str, box: Box | None = None, values: Sequence[float] | None = None
    ) -> int:
        """Cover what is there; returns the new structure's label."""
        box = box or self.whole
        drawn = [contrast.paint(material) for contrast in self.contrasts]
        values = values or [value for value, _ in drawn]
        for channel, value in enumerate(values):
            region = self.image_2dhw[channel][box]
            region.addcmul_(alpha_dhw, region - value, value=-1)
        label = len(self.amplitudes)
        self.amplitudes.append(tuple(amplitude for _, amplitude in drawn))
        self.labels_dhw[box].masked_fill_(alpha_dhw > 0.5, label)
        return label

    def extra(self, alpha_dhw: Tensor, material: str, box: Box) -> None:
        """Remember a structure for some of the views."""
        weight = alpha_dhw.sum().clamp_min(1e-6)
        values = []
        for channel, contrast in enumerate(self.contrasts):
            value, _ = contrast.paint(material)
            below = float((self.image_2dhw[channel][box] * alpha_dhw).sum() / weight)
            if abs(value - below) < 0.15 and contrast.modality == "mr":  # one that nobody can see teaches nothing
                value = below + 0.3 if below < 0.5 else below - 0.3
            values.append(value)
        self.extras.append(Extra(box, alpha_dhw, tuple(values)))

    def ellipsoid(
        self, center, radii, *, turn_33: Tensor | None = None, bumpy: float = 0.12, power: float = 2.0
    ) -> tuple[Tensor, Box] | None:
        """Signed distance (edges, roughly; positive inside) of a bumpy super-ellipsoid, and its box."""
        reach = [r * (1 + 2.5 * bumpy) for r in radii]
        if turn_33 is not None:
            reach = (turn_33.abs() @ torch.tensor(reach)).tolist()
        box = self.box(center, reach)
        if box is None:
            return None
        x = [a - c for a, c in zip(self.coordinates(box), center, strict=True)]
        if turn_33 is not None:
            rows = turn_33.T.tolist()
            x = [row[0] * x[0] + row[1] * x[1] + row[2] * x[2] for row in rows]
        if power == 2.0:
            d, h, w = ((a * (1 / r)) ** 2 for a, r in zip(x, radii, strict=True))
            radius = (d + h + w).sqrt_()
        else:
            d, h, w = ((a * (1 / r)).abs() ** power for a, r in zip(x, radii, strict=True))
            radius = (d + h + w) ** (1 / power)
        if bumpy:
            radius = radius + bumpy * self.bumps(box)
        return (1 - radius) * min(radii), box

    def blob(self, center, radii, material: str, *, within: Tensor | None = None, **shape) -> Tensor | None:
        """Paint an ellipsoid (only where the full-size coverage `within` lets it); returns the distance."""
        found = self.ellipsoid(center, radii, **shape)
        if found is None:
            return None
        distance, box = found
        alpha = self.soft(distance)
        self.paint(alpha if within is None else alpha * within[box], material, box)
        return distance

    def tubes(self, points_n3: Tensor, radius_n: Tensor) -> tuple[Tensor, Box] | None:
        """Coverage of balls around points (edges; dense enough to join up), and its box.

        points_n3 and radius_n are on the CPU. Thin tubes (below one voxel) become faint instead of broken.
        """
        voxel_n3 = (points_n3 / self.edges + 0.5) * self.size - 0.5
        radius_n = radius_n * self.per_edge
        reach = math.ceil(float(radius_n.max()) + 0.5)
        keep = ((voxel_n3 > -reach) & (voxel_n3 < self.size - 1 + reach)).all(1)
        if not keep.any():
            return None
        voxel_n3, radius_n = voxel_n3[keep], radius_n[keep]
        low = (voxel_n3.amin(0).floor() - reach - 1).clamp(0, self.size - 1).long()
        high = (voxel_n3.amax(0).ceil() + reach + 2).clamp(1, self.size).long()
        shape = [max(1, n) for n in (high - low).tolist()]
        d, h, w = (slice(a, a + n) for a, n in zip(low.tolist(), shape, strict=True))
        box = (d, h, w)
        device = self.random.device
        offsets = torch.cartesian_prod(*[torch.arange(-reach, reach + 1, dtype=torch.float32)] * 3)
        offsets = offsets[offsets.norm(dim=1) < reach + 0.9].to(device)
        voxel_n3, radius_n = (voxel_n3 - low).to(device), radius_n.to(device)
        nearest_n3 = voxel_n3.round()
        at = nearest_n3[:, None] + offsets
        distance = (at - voxel_n3[:, None]).norm(dim=2)
        # A ball thinner than a voxel covers a part of it only.
        alpha = (radius_n[:, None] + 0.5 - distance).clamp(0, 1) * (2 * radius_n[:, None]).clamp_max(1)
        limit = torch.tensor(shape, device=device)
        inside = ((at >= 0) & (at < limit)).all(2)
        index = ((at[..., 0] * shape[1] + at[..., 1]) * shape[2] + at[..., 2]).long()
        index = torch.where(inside, index, 0).flatten()
        alpha = (alpha * inside).flatten()
        out = torch.zeros(math.prod(shape), device=device)
        return out.scatter_reduce_(0, index, alpha, "amax").reshape(shape), box

    def textured(self) -> Tensor:
        """2 d h w: the images with each structure's texture, which moves with the anatomy; 0..1."""
        random, n = self.random, self.size
        fine = smooth_noise(random, 1, max(4, n // random.integer(3, 5)), n)[0]
        coarse = smooth_noise(random, 1, max(4, n // random.integer(8, 14)), n)[0]
        flat = self.labels_dhw.flatten()
        amplitudes = torch.tensor(self.amplitudes, device=random.device)
        for channel in range(2):
            mixed = fine + random.uniform(-1, 1) * coarse
            amplitude = amplitudes[:, channel].contiguous().index_select(0, flat).view_as(mixed)
            self.image_2dhw[channel].addcmul_(amplitude, mixed)
        return self.image_2dhw.clamp_(0, 1)


def turn(random: Random, degrees: float = 180.0) -> Tensor:
    """3 x 3 rotation about a random axis; uniform over all rotations from 180 degrees on."""
    if degrees >= 180:
        a, b, c, d = torch.nn.functional.normalize(random.normal(4), dim=0).tolist()
        return torch.tensor(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a - b * b + c * c - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a - b * b - c * c + d * d],
            ]
        )
    axis = torch.nn.functional.normalize(random.normal(3), dim=0) * math.radians(degrees) * random.uniform()
    skew = torch.zeros(3, 3)
    skew[0, 1], skew[0, 2], skew[1, 2] = -axis[2], axis[1], -axis[0]
    return torch.matrix_exp(skew - skew.T)
