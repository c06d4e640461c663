"""Views of a canvas: where a view lies (an exact, invertible map), what the scanner sees, and how it spoils it.

Coordinates: normalized (voxel faces at 0 and 1, order d, h, w) of the canvas and of each view; points b3dhw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..maps.sampling import axis_coordinates, sample
from ..maps.separable import gaussian
from .anatomies.canvas import Random, smooth_noise, turn

# The deformation's steepest slope, relative to the linear part; its inverse is a contraction by this factor.
STEEPEST = 0.55


@dataclass(frozen=True)
class Slide:
    """A displacement of the canvas along one of its axes that differs on two sides of a surface along that axis.

    `moved = x + amplitude * profile(x across) * wave(x along)`. Across the surface it may be as steep as it likes: as
    only one coordinate moves, the map stays invertible while the wave along the axis is slow.

    axis: 0, 1 or 2. amplitude: unit of the canvas. profile_11dhw: 0..1 over the canvas, one voxel deep along the axis.
    """

    axis: int
    amplitude: float
    profile_11dhw: Tensor
    frequency: float = 1.0
    phase: float = 0.0

    def _wave(self, along: Tensor) -> Tensor:
        return 0.75 + 0.25 * torch.cos(2 * math.pi * self.frequency * along + self.phase)

    def _reach(self, points_b3dhw: Tensor) -> Tensor:
        return self.amplitude * sample(self.profile_11dhw, points_b3dhw)[:, 0]

    def _with(self, points_b3dhw: Tensor, along: Tensor) -> Tensor:
        return torch.stack([along if a == self.axis else points_b3dhw[:, a] for a in range(3)], 1)

    def moved(self, points_b3dhw: Tensor) -> Tensor:
        along = points_b3dhw[:, self.axis]
        return self._with(points_b3dhw, along + self._reach(points_b3dhw) * self._wave(along))

    def backward(self, points_b3dhw: Tensor) -> Tensor:
        """The inverse of `moved`: the profile is the same, so only one coordinate is iterated."""
        target, reach = points_b3dhw[:, self.axis], self._reach(points_b3dhw)
        along = target
        for _ in range(6):
            along = target - reach * self._wave(along)
        return self._with(points_b3dhw, along)


class View:
    """One cube cut from the canvas: `canvas = slide(center + matrix (u - 1/2) + displacement(u))` for coordinates u."""

    def __init__(
        self, matrix_33: Tensor, center_3: Tensor, displacement_13dhw: Tensor, slide: Slide | None = None
    ) -> None:
        self.matrix = matrix_33
        self.center = center_3
        self.displacement = displacement_13dhw
        self.slide = slide

    def canvas_from_view(self, points_b3dhw: Tensor) -> Tensor:
        """Canvas coordinates of view coordinates."""
        linear = torch.einsum("xy,bydhw->bxdhw", self.matrix, points_b3dhw - 0.5)
        moved = linear + self.center[:, None, None, None] + sample(self.displacement, points_b3dhw)
        return moved if self.slide is None else self.slide.moved(moved)

    def canvas_lattice(self, size: int) -> Tensor:
        """`canvas_from_view` of a view's own voxel centers, faster: on a lattice, linear sampling is separable."""
        device = self.matrix.device
        field = self.displacement
        for axis in range(3):
            field = _along(field, _linear_matrix(field.shape[2 + axis], size, device), axis)
        at = axis_coordinates(size, device=device) - 0.5
        columns = self.matrix[:, :, None] * at
        linear = columns[:, 0, :, None, None] + columns[:, 1, None, :, None] + columns[:, 2, None, None, :]
        moved = field + linear + self.center[:, None, None, None]
        return moved if self.slide is None else self.slide.moved(moved)

    def view_from_canvas(self, points_b3dhw: Tensor, iterations: int = 14) -> Tensor:
        """The inverse, by fixed-point iteration (the deformation's slope is limited, see `STEEPEST`)."""
        if self.slide is not None:
            points_b3dhw = self.slide.backward(points_b3dhw)
        inverse = torch.linalg.inv(self.matrix)
        target = torch.einsum("xy,bydhw->bxdhw", inverse, points_b3dhw - self.center[:, None, None, None]) + 0.5
        correction = torch.einsum("xy,bydhw->bxdhw", inverse, self.displacement)
        view = target
        for _ in range(iterations):
            view = target - sample(correction, view)
        return view

    def to(self, device: torch.device) -> View:
        slide = self.slide and Slide(
            self.slide.axis,
            self.slide.amplitude,
            self.slide.profile_11dhw.to(device),
            self.slide.frequency,
            self.slide.phase,
        )
        return View(self.matrix.to(device), self.center.to(device), self.displacement.to(device), slide)


@dataclass(frozen=True)
class Reach:
    """How far one view may differ from the canvas; the fields are those of `SyntheticSettings`."""

    size: int
    canvas: float
    rotation_degrees: float
    shift: float
    zoom: float
    coarse_voxels: float
    fine_voxels: float
    sliding_voxels: float


def draw_view(random: Random, reach: Reach, orientation_33: Tensor, slide_axis: int, profile_11dhw: Tensor) -> View:
    """A view on the CPU.

    orientation_33: signed permutation, the same for all views: how the scan is stored. slide_axis, profile_11dhw: of
    the anatomy, on the CPU.
    """
    rotation = turn(random, reach.rotation_degrees)
    scale = math.exp(random.uniform(-1, 1) * math.log(reach.zoom))
    stretch = torch.eye(3) + 0.04 * random.normal(3, 3).clamp(-2, 2)
    matrix = orientation_33 @ rotation @ stretch * scale / reach.canvas
    # Some views sit near the anatomy's center, some far along one axis, some anywhere.
    where = random.pick({"near": 0.4, "aside": 0.3, "anywhere": 0.3})
    offset = (2 * random.random(3) - 1) * reach.shift
    if where != "anywhere":
        offset *= 0.3
    if where == "aside":
        offset[random.integer(0, 2)] = (2 * random.uniform() - 1) * reach.shift
    center = 0.5 + offset / reach.canvas
    # The deformation is smooth, so a lattice of half the resolution holds it; the map *is* the sampled lattice.
    lattice = reach.size // 2
    voxel = 1 / reach.size / reach.canvas
    field = torch.zeros(3, lattice, lattice, lattice)
    for amplitude, nodes in (
        (reach.coarse_voxels, random.integer(3, 5)),
        (reach.fine_voxels, random.integer(7, 10)),
    ):
        strength = voxel * amplitude * random.uniform() * 0.6
        if strength > 0:
            field += smooth_noise(random.on_cpu(), 3, nodes, lattice) * strength
    field = field * min(1.0, STEEPEST / max(_steepest(field, matrix), 1e-6))
    slide = None
    amplitude = reach.sliding_voxels * voxel * random.uniform(-1, 1)
    if random.chance(0.5) and amplitude:
        slide = Slide(slide_axis, amplitude, profile_11dhw, random.uniform(0.3, 1.2), random.uniform(0, 6.3))
    return View(matrix, center, field[None], slide)


def _steepest(field_3dhw: Tensor, matrix_33: Tensor) -> float:
    """Largest Frobenius norm of matrix^-1 times the gradient of a displacement sampled over the normalized cube."""
    n = field_3dhw.shape[1]
    relative = torch.einsum("xy,ydhw->xdhw", torch.linalg.inv(matrix_33), field_3dhw) * n
    total = torch.zeros(())
    for axis in (1, 2, 3):
        total = total + (relative.diff(dim=axis) ** 2).sum(0).amax()
    return math.sqrt(float(total))


def orientation(random: Random) -> Tensor:
    """A random signed permutation: anatomy has no preferred order or direction of axes."""
    order = torch.randperm(3, generator=random.generator)
    return torch.eye(3)[order] * torch.tensor([random.sign() for _ in range(3)])


# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """Where a scanner looked: a box (first and past-the-last voxel per axis) and, for CT, perhaps a cylinder."""

    low: tuple[int, int, int]
    high: tuple[int, int, int]
    cylinder: tuple[int, float, float, float] | None = None  # axis, center (2, unit), radius (unit)

    @classmethod
    def draw(cls, random: Random, size: int, crop: float, cylinder_axis: int | None) -> Field:
        """Half of the fields lose up to `crop` of an edge at one or more sides."""
        low, high = [0, 0, 0], [size] * 3
        if random.chance(0.5):
            for axis in range(3):
                if random.chance(0.5):
                    low[axis] = round(random.uniform(0, crop) * size) if random.chance(0.5) else 0
                    high[axis] = size - (round(random.uniform(0, crop) * size) if random.chance(0.5) else 0)
        cylinder = None
        if cylinder_axis is not None and random.chance(0.25):
            cylinder = (
                cylinder_axis,
                random.uniform(0.45, 0.55),
                random.uniform(0.45, 0.55),
                random.uniform(0.42, 0.52),
            )
        return cls((low[0], low[1], low[2]), (high[0], high[1], high[2]), cylinder)

    def mask(self, count: int, size: int, device) -> Tensor:
        """1 1 d h w, 0 or 1, on a lattice of `count` points over `size` voxels."""
        out = torch.zeros(1, 1, count, count, count, device=device)
        part = [slice(math.ceil(a * count / size - 0.5), math.ceil(b * count / size - 0.5))
                for a, b in zip(self.low, self.high, strict=True)]  # fmt: skip
        out[0, 0][tuple(part)] = 1.0
        if self.cylinder is not None:
            axis, first, second, radius = self.cylinder
            at = (torch.arange(count, device=device, dtype=torch.float32) + 0.5) / count
            disc = ((at[:, None] - first) ** 2 + (at[None] - second) ** 2 < radius**2).float()
            out[0, 0] *= disc.unsqueeze(axis)
        return out


def table(random: Random, view: View, points_b3dhw: Tensor, canvas: float, surface: float) -> Tensor:
    """Coverage (d h w) of a thin, slightly hollow table below the back of a body (towards +h of the canvas).

    surface: h of the body's back, unit of the canvas.
    """
    h, w = points_b3dhw[0, 1], points_b3dhw[0, 2] - 0.5 - 0.1 * random.uniform(-1, 1)
    at = surface + random.uniform(0.01, 0.06) - random.uniform(0.0, 0.4) * w * w
    thick = random.uniform(0.006, 0.012) / canvas
    depth = random.uniform(0.03, 0.09) / canvas
    voxel = float(view.matrix.norm()) / math.sqrt(3) / points_b3dhw.shape[-1]
    sheets = torch.minimum((h - at).abs(), (h - at - depth).abs())
    wide = random.uniform(0.2, 0.4) - w.abs()
    return (torch.minimum(thick - sheets, wide) / voxel + 0.5).clamp(0, 1)


def degrade(random: Random, clean: Tensor, inside: Tensor, modality: str) -> Tensor:
    """1 1 d h w: blur, thick slices, bias field, gain, gamma, noise; then the normalization that real images get."""
    image = clean
    size = image.shape[-1]
    sigma = [random.uniform(0.3, 0.8) if random.chance(0.35) else 0.0] * 3
    slices = [1.0] * 3
    if random.chance(0.25):
        slices[random.integer(0, 2)] = random.uniform(1.5, 3.5)
    for axis in range(3):
        if sigma[axis] or slices[axis] > 1:
            image = _along(image, _blur_matrix(size, sigma[axis], slices[axis]).to(image.device), axis)
    mr = modality == "mr"
    if mr:
        if random.chance(0.6):
            image = image * torch.exp(random.uniform(0, 0.35) * smooth_noise(random, 1, 2, size)[None])
        image = image.clamp_min(0) ** math.exp(0.2 * float(random.normal(1)))
    else:
        image = image * (1 + 0.01 * float(random.normal(1)))
    amount = random.uniform(0, 1) ** 2 * (0.04 if mr else 0.02)
    white = random.noise(2 if mr else 1, 1, *image.shape[2:])
    if random.chance(0.4):  # reconstruction and interpolation leave noise that is correlated
        matrix = _blur_matrix(size, random.uniform(0.5, 1.0), 1.0).to(image.device)
        for axis in range(3):
            white = _along(white, matrix, axis)
        white = white * 2.0
    # Magnitude images have no negative values: Rician noise.
    image = ((image + amount * white[:1]) ** 2 + (amount * white[1:]) ** 2).sqrt() if mr else image + amount * white
    if random.chance(0.5):  # background that was masked or clamped away, as scanners and pipelines often do
        image = image * (clean > 0)
    image = image.clamp(0, 4 if mr else 1) * inside
    if mr or random.chance(0.08):  # CT without Hounsfield units is normalized like MR
        image = window(image)
    return image * inside


def window(image: Tensor) -> Tensor:
    """As `preprocess.normalize` treats images without a fixed scale: 0.5th percentile to 99.5th of the body."""
    values = image.flatten()[::13]
    low, bright = torch.quantile(values, torch.tensor([0.005, 0.999], device=image.device))
    body = values > low + 0.02 * (bright - low)
    ranked = torch.where(body, values, torch.inf).sort().values
    last = (0.995 * (body.sum() - 1)).long().clamp_min(0)
    high = ranked[last]
    high = torch.where(torch.isfinite(high), high, bright)
    return ((image - low) / (high - low).clamp_min(1e-3)).clamp(0, 1)


def _along(image_bcdhw: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Apply a matrix (new x old) along d, h or w."""
    b, c, d, h, w = image_bcdhw.shape
    if axis == 2:
        return (image_bcdhw.reshape(-1, w) @ matrix.T).view(b, c, d, h, -1)
    if axis == 1:
        return torch.bmm(matrix.expand(b * c * d, -1, -1), image_bcdhw.reshape(-1, h, w)).view(b, c, d, -1, w)
    return torch.bmm(matrix.expand(b * c, -1, -1), image_bcdhw.reshape(b * c, d, h * w)).view(b, c, -1, h, w)


def _linear_matrix(count: int, size: int, device) -> Tensor:
    """size x count: linear interpolation from `count` voxel centers to `size` of the same edge, border replicated."""
    at = (axis_coordinates(size, device=device) * count - 0.5).clamp(0, count - 1)
    return (1 - (at[:, None] - torch.arange(count, device=device)).abs()).clamp_min(0)


def _blur_matrix(size: int, sigma: float, slices: float) -> Tensor:
    """Blur by a Gaussian (sigma voxels), average over slices of some voxels, interpolate back; edges replicated."""
    at = torch.arange(size, dtype=torch.float32)
    matrix = torch.eye(size)
    if sigma:
        matrix = gaussian(at[:, None] - at, sigma)
        matrix[matrix < 1e-4] = 0.0  # denormal numbers would make the products ten times slower
        matrix = matrix / matrix.sum(1, keepdim=True)
    if slices > 1:
        count = max(2, round(size / slices))
        centers = (torch.arange(count) + 0.5) * size / count - 0.5
        width = size / count
        average = ((width + 1) / 2 - (at - centers[:, None]).abs()).clamp(0, 1)
        average = average / average.sum(1, keepdim=True)
        spread = (1 - (at[:, None] - centers.clamp(0, size - 1)).abs() / width).clamp_min(0)
        spread[at < centers[0], 0] = spread[at > centers[-1], -1] = 1.0
        matrix = (spread / spread.sum(1, keepdim=True)) @ average @ matrix
    return matrix
