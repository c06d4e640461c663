"""Random anatomies and views of them with exactly known correspondence: training data without any image.

One *anatomy* is a label map on a cubic canvas (smooth-noise regions on two scales, body ellipsoid or trunk, shells,
nested ellipsoids, tubes), painted with two contrasts. A *view* is a cube cut from the canvas in its own position,
size, pose, deformation, crop and image quality. The map from any view to any other is known: into the canvas and out
again. Several views of one anatomy give all their ordered pairs for the price of one anatomy.

Coordinates: unit coordinates (voxel faces at 0 and 1, order d, h, w) of the canvas and of each view; points b3dhw.
Shape suffixes: k views, c channels, d h w axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..errors import InputError
from ..maps.sampling import identity_map, sample


@dataclass(frozen=True, kw_only=True)
class SyntheticSettings:
    """What the generator draws from.

    size: voxels per edge of a view; a multiple of 8. views: views per anatomy.
    canvas: edge of the canvas in view edges. rotation_degrees: largest turn of one view about a random axis.
    shift: largest shift of one view's center, in view edges (two views may differ by twice that).
    zoom: largest factor of one view's voxel size (two views may differ by its square).
    coarse_voxels, fine_voxels: largest amplitude of one view's deformation on its two scales, in view voxels.
    same_contrast: share of views painted with the anatomy's first contrast.
    """

    size: int = 64
    views: int = 3
    canvas: float = 1.5
    rotation_degrees: float = 15.0
    shift: float = 0.25
    zoom: float = 1.12
    coarse_voxels: float = 3.0
    fine_voxels: float = 0.8
    same_contrast: float = 0.7

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 8 or self.views < 2:
            raise InputError(
                f"Synthetic pairs: expected a size that is a multiple of 8 and at least 16, and two or more views; "
                f"got size {self.size}, {self.views} views."
            )


class _Dice:
    """Random numbers of one sample, all from one seed."""

    def __init__(self, seed: int) -> None:
        self.generator = Generator().manual_seed(seed)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def integer(self, low: int, high: int) -> int:
        """low <= n <= high."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def chance(self, share: float) -> bool:
        return self.uniform() < share

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def random(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator)


def _spline_matrix(nodes: int, size: int) -> Tensor:
    """size x (nodes + 3): values at voxel centers of a cubic B-spline with `nodes` intervals over the edge."""
    position = (torch.arange(size, dtype=torch.float32) + 0.5) / size * nodes
    distance = (position[:, None] - (torch.arange(nodes + 3, dtype=torch.float32) - 1)).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clamp_min(0) ** 3 / 6
    return torch.where(distance < 1, near, far)


def smooth_noise(dice: _Dice, channels: int, nodes: int, size: int) -> Tensor:
    """c d h w smooth noise of about unit variance with features of about size / nodes voxels."""
    matrix = _spline_matrix(nodes, size)
    noise = dice.normal(channels, nodes + 3, nodes + 3, nodes + 3)
    for axis in (1, 2, 3):
        noise = (noise.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return noise * 2.9  # the spline averages; this brings the variance back to about 1


def _largest(noise_cdhw: Tensor) -> Tensor:
    """d h w channel with the largest value; PyTorch's argmax over the slowest axis is eight times slower."""
    best = noise_cdhw[0].clone()
    index = torch.zeros(best.shape, dtype=torch.long)
    for channel in range(1, len(noise_cdhw)):
        index.masked_fill_(noise_cdhw[channel] > best, channel)
        torch.maximum(best, noise_cdhw[channel], out=best)
    return index


@dataclass(frozen=True)
class Anatomy:
    """A label map on the canvas (1 1 n n n; 0 = outside the body) and two paintings of it (c 1 n n n each, 0..1).

    modality: 'ct' or 'mr' of either contrast.
    """

    labels_11dhw: Tensor
    contrasts: tuple[Tensor, Tensor]
    modality: tuple[str, str]


def make_anatomy(dice: _Dice, size: int) -> Anatomy:
    """Draw labels and paint them twice."""
    centers = identity_map((size,) * 3)[0] - 0.5
    # Body: a super-ellipsoid with a bumpy surface; every other one is a trunk that leaves the canvas along one axis.
    axes = torch.tensor([dice.uniform(0.24, 0.46) for _ in range(3)])
    if dice.chance(0.5):
        axes[dice.integer(0, 2)] = 2.0
    power = dice.uniform(2.0, 3.5)
    bumps = smooth_noise(dice, 1, dice.integer(3, 6), size)[0]
    radius = ((centers / axes[:, None, None, None]).abs() ** power).sum(0) ** (1 / power)
    radius = radius + dice.uniform(0.02, 0.08) * bumps
    # Regions: argmax of coarse noise; in some of them a second, finer partition.
    coarse_count = dice.integer(4, 12)
    regions = _largest(smooth_noise(dice, coarse_count, dice.integer(3, 7), size))
    fine_count = dice.integer(3, 10)
    fine = _largest(smooth_noise(dice, fine_count, dice.integer(8, 16), size))
    detailed = dice.random(coarse_count) < dice.uniform(0.2, 0.8)
    labels = 1 + regions + torch.where(detailed[regions], coarse_count * (1 + fine), torch.zeros_like(fine))
    top = 1 + coarse_count * (fine_count + 1)
    # Nested ellipsoids (organs, vertebrae) in random places, with a shell each.
    for _ in range(dice.integer(2, 8)):
        center = (dice.random(3) - 0.5) * 0.7
        size_xyz = 0.03 + 0.12 * dice.random(3)
        distance = (((centers - center[:, None, None, None]) / size_xyz[:, None, None, None]) ** 2).sum(0).sqrt()
        distance = distance + 0.12 * bumps.roll(dice.integer(0, size), dice.integer(0, 2))
        labels = torch.where(distance < 1, top + 1, labels)
        labels = torch.where(distance < dice.uniform(0.5, 0.9), top + 2, labels)
        top += 2
    # Sheets and tubes: near one zero set of noise, or near two at once.
    for nodes in (dice.integer(3, 6), dice.integer(6, 12)):
        noise = smooth_noise(dice, 2, nodes, size)
        if dice.chance(0.5):
            labels = torch.where(noise[0].abs() < 0.035 * nodes, top + 1, labels)
        if dice.chance(0.8):
            labels = torch.where((noise**2).sum(0).sqrt() < dice.uniform(0.03, 0.07) * nodes, top + 2, labels)
        top += 2
    # Shells under the surface (skin and fat, wall or skull), then everything outside is background.
    inner, outer = dice.uniform(0.7, 0.88), dice.uniform(0.9, 0.97)
    if dice.chance(0.7):
        labels = torch.where(radius > inner, top + 1, labels)
        if dice.chance(0.7):
            labels = torch.where((radius > inner) & (radius < inner + dice.uniform(0.03, 0.1)), top + 2, labels)
        labels = torch.where(radius > outer, top + 3, labels)
    labels = torch.where(radius < 1, labels, torch.zeros_like(labels))
    count = top + 4
    texture = torch.stack(
        [
            smooth_noise(dice, 1, max(4, size // dice.integer(3, 5)), size)[0],
            smooth_noise(dice, 1, max(4, size // dice.integer(8, 14)), size)[0],
        ]
    )
    modality = tuple("ct" if dice.chance(0.45) else "mr" for _ in range(2))
    contrasts = tuple(_paint(dice, labels, count, texture, kind) for kind in modality)
    return Anatomy(labels[None, None], contrasts, modality)


def _paint(dice: _Dice, labels_dhw: Tensor, count: int, texture_2dhw: Tensor, modality: str) -> Tensor:
    """1 1 d h w intensities, 0..1, background 0."""
    if modality == "ct":
        # (HU + 1000) / 2000 of lung, fat, soft tissue and bone or contrast agent
        kind = torch.multinomial(torch.tensor([0.16, 0.2, 0.48, 0.16]), count, True, generator=dice.generator)
        low = torch.tensor([0.04, 0.43, 0.49, 0.58])[kind]
        high = torch.tensor([0.25, 0.48, 0.57, 0.95])[kind]
        value = low + (high - low) * dice.random(count)
        amplitude = torch.tensor([0.05, 0.01, 0.012, 0.06])[kind] * 2 * dice.random(count)
    else:
        value = 0.03 + 0.97 * dice.random(count)
        amplitude = dice.uniform(0.0, 0.12) * dice.random(count)
    value[0] = amplitude[0] = 0.0
    mixed = texture_2dhw[0] + dice.uniform(-1, 1) * texture_2dhw[1]
    return (value[labels_dhw] + amplitude[labels_dhw] * mixed).clamp(0, 1)[None, None]


class View:
    """One cube cut from the canvas: `canvas = center + matrix (u - 1/2) + displacement(u)` for view coordinates u."""

    def __init__(self, matrix_33: Tensor, center_3: Tensor, displacement_13dhw: Tensor) -> None:
        self.matrix = matrix_33
        self.center = center_3
        self.displacement = displacement_13dhw

    @classmethod
    def draw(cls, dice: _Dice, settings: SyntheticSettings) -> View:
        s = settings
        angle = math.radians(s.rotation_degrees) * dice.uniform()
        axis = F.normalize(dice.normal(3), dim=0) * angle
        skew = torch.zeros(3, 3)
        skew[0, 1], skew[0, 2], skew[1, 2] = -axis[2], axis[1], -axis[0]
        rotation = torch.matrix_exp(skew - skew.T)
        scale = math.exp(dice.uniform(-1, 1) * math.log(s.zoom))
        stretch = torch.eye(3) + 0.04 * dice.normal(3, 3).clamp(-2, 2)
        # Half of the views sit near the anatomy's center, half anywhere.
        reach = s.shift * (0.3 if dice.chance(0.5) else 1.0)
        center = 0.5 + (2 * dice.random(3) - 1) * reach / s.canvas
        voxel = 1 / s.size / s.canvas
        field = smooth_noise(dice, 3, dice.integer(3, 5), s.size) * voxel * s.coarse_voxels * dice.uniform() * 0.6
        field = (
            field + smooth_noise(dice, 3, dice.integer(7, 10), s.size) * voxel * s.fine_voxels * dice.uniform() * 0.6
        )
        return cls(rotation @ stretch * scale / s.canvas, center, field[None])

    def canvas_from_view(self, points_b3dhw: Tensor) -> Tensor:
        """Canvas coordinates of view coordinates."""
        linear = torch.einsum("xy,bydhw->bxdhw", self.matrix, points_b3dhw - 0.5)
        return linear + self.center[:, None, None, None] + sample(self.displacement, points_b3dhw)

    def view_from_canvas(self, points_b3dhw: Tensor, iterations: int = 12) -> Tensor:
        """The inverse, by fixed-point iteration (the deformation is smooth and small)."""
        inverse = torch.linalg.inv(self.matrix)
        target = points_b3dhw - self.center[:, None, None, None]
        view = torch.einsum("xy,bydhw->bxdhw", inverse, target) + 0.5
        for _ in range(iterations):
            view = torch.einsum("xy,bydhw->bxdhw", inverse, target - sample(self.displacement, view)) + 0.5
        return view


@dataclass(frozen=True)
class Views:
    """Views of one anatomy.

    images_k1dhw: what the network sees, 0..1, background 0. structure_k1dhw: local standard deviation (about 12 voxels
    wide, on the lattice of 4-voxel cells) of the image before noise and bias. inside_k1dhw: where the view has data
    (float 0 or 1, voxels). labels_k1dhw: labels, same lattice as the images. views: the geometry.
    """

    images_k1dhw: Tensor
    structure_k1dhw: Tensor
    inside_k1dhw: Tensor
    labels_k1dhw: Tensor
    views: tuple[View, ...]

    def moving_from_fixed(self, moving: int, fixed: int, points_b3dhw: Tensor) -> Tensor:
        """The true map: unit coordinates of the fixed view to those of the moving view (indices of views)."""
        return self.views[moving].view_from_canvas(self.views[fixed].canvas_from_view(points_b3dhw))


def make_views(seed: int, settings: SyntheticSettings | None = None) -> Views:
    """Draw one anatomy and its views; the same seed and settings give the same views."""
    settings = settings or SyntheticSettings()
    dice = _Dice(seed)
    anatomy = make_anatomy(dice, round(settings.size * settings.canvas / 8) * 8)
    lattice = identity_map((settings.size,) * 3)
    images, structures, insides, labels, views = [], [], [], [], []
    for _ in range(settings.views):
        view = View.draw(dice, settings)
        contrast = 0 if dice.chance(settings.same_contrast) else 1
        points = view.canvas_from_view(lattice)
        clean = sample(anatomy.contrasts[contrast], points, padding="zeros")
        inside = _crop(dice, settings.size)
        clean = clean * inside
        images.append(_degrade(dice, clean, inside, anatomy.modality[contrast]))
        structures.append(local_deviation(clean))
        insides.append(inside)
        labels.append(sample(anatomy.labels_11dhw.float(), points, mode="nearest", padding="zeros") * inside)
        views.append(view)
    return Views(torch.cat(images), torch.cat(structures), torch.cat(insides), torch.cat(labels), tuple(views))


def local_deviation(image_k1dhw: Tensor) -> Tensor:
    """Standard deviation in 12^3 voxels around each 4^3 cell, on the lattice of cells."""
    mean, square = (
        F.avg_pool3d(F.avg_pool3d(x, 4), 3, 1, 1, count_include_pad=False) for x in (image_k1dhw, image_k1dhw**2)
    )
    return (square - mean**2).clamp_min(0).sqrt()


def _crop(dice: _Dice, size: int) -> Tensor:
    """1 1 d h w: 1 where the scanner looked. Half of the views lose up to 35 % at one or more sides."""
    inside = torch.ones(1, 1, size, size, size)
    if dice.chance(0.5):
        for axis in range(3):
            if dice.chance(0.5):
                low, high = (round(dice.uniform(0, 0.35) * size) if dice.chance(0.5) else 0 for _ in range(2))
                inside.narrow(2 + axis, 0, low).zero_()
                inside.narrow(2 + axis, size - high, high).zero_()
    return inside


def _degrade(dice: _Dice, clean: Tensor, inside: Tensor, modality: str) -> Tensor:
    """Blur, bias field, gamma, noise; then the normalization that real images get."""
    image = clean
    size = image.shape[-1]
    if dice.chance(0.5):
        image = _blur(image, dice.uniform(0.3, 1.0))
    if dice.chance(0.3):  # thick slices
        image = _blur(image, dice.uniform(0.8, 1.6), axes=(dice.integer(0, 2),))
    if modality == "mr":
        image = image * torch.exp(dice.uniform(0, 0.35) * smooth_noise(dice, 1, 2, size)[None])
        image = image.clamp_min(0) ** math.exp(0.25 * float(dice.normal(1)))
    noise = dice.uniform(0, 0.05 if modality == "mr" else 0.025)
    image = image + noise * dice.normal(*image.shape)
    if dice.chance(0.5):  # background that was masked or clamped away, as scanners and pipelines often do
        image = image * (clean > 0)
    image = (image.clamp_min(0) if modality == "mr" else image.clamp(0, 1)) * inside
    if modality == "mr":
        values = image[inside > 0][::7]
        low, high = torch.quantile(values, torch.tensor([0.01, 0.99]))
        image = ((image - low) / (high - low).clamp_min(1e-3)).clamp(0, 1) * inside
    return image


def _blur(image: Tensor, sigma: float, axes: tuple[int, ...] = (0, 1, 2)) -> Tensor:
    """Gaussian blur in voxels along some axes, edges replicated."""
    radius = max(1, math.ceil(2.5 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).reshape(1, 1, -1, 1, 1)
    for axis in axes:
        turned = image.transpose(2, 2 + axis)
        turned = F.conv3d(F.pad(turned, (0, 0, 0, 0, radius, radius), mode="replicate"), kernel)
        image = turned.transpose(2, 2 + axis)
    return image
