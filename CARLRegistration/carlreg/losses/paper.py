"""The losses that the published networks were trained with, scaled exactly as there.

They serve training and the paper's instance optimization; `losses.similarity` holds the faster ones that optimize a
field. Images of one to three axes, batches of any size (means over them).
Sources: ICON (Greer et al., ICCV 2021), GradICON (Tian et al., CVPR 2023), CARL; authors' code (equal to it, see
Testing/parity).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..maps import CoordinateMap, identity_map, per_axis, sample
from ..maps.separable import along_axes, gaussian
from .points import Noise, drawn, picked, sources
from .registry import similarity_named
from .similarity import mind_descriptor, mind_distance

SIGMA_VOXELS = 4.0
REGULARIZER_WEIGHT = 1.5
#: What `irregularity` knows.
REGULARITIES = ("icon", "gradicon", "gradicon-sparse", "diffusion", "bending")
_DELTA = 1e-3  # step of the difference quotients, normalized coordinates
_VARIANCE_FLOOR = 1e-5


def gaussian_blur(image_bcdhw: Tensor, sigma: float) -> Tensor:
    """Gaussian of `4 sigma + 1` taps, zeros beyond the image."""
    taps = round(4 * sigma) + 1
    offsets = torch.arange(taps, device=image_bcdhw.device, dtype=image_bcdhw.dtype) - (taps - 1) / 2
    weights = gaussian(offsets, sigma)
    weights = weights / weights.sum()
    *others, last = (_band(n, weights) for n in image_bcdhw.shape[2:])
    return along_axes(image_bcdhw, *others, last.T)  # symmetric; so it is read as it lies in memory


def _band(count: int, weights: Tensor) -> Tensor:
    """count x count symmetric matrix with `weights` around its diagonal."""
    index = torch.arange(count, device=weights.device)
    offset = index[None] - index[:, None] + len(weights) // 2
    inside = (offset >= 0) & (offset < len(weights))
    return weights[offset.clamp(0, len(weights) - 1)] * inside


def local_correlation(first_b1dhw: Tensor, second_b1dhw: Tensor, sigma: float = SIGMA_VOXELS) -> Tensor:
    """Correlation coefficient in a Gaussian window around each voxel, b1dhw."""
    images = torch.cat([first_b1dhw, second_b1dhw], dim=1)
    products = torch.cat([images, images**2, first_b1dhw * second_b1dhw], dim=1)
    mean_1, mean_2, square_1, square_2, product = gaussian_blur(products, sigma).split(1, dim=1)
    # Rounding can make a variance negative, and its root not a number.
    variance_1 = torch.relu(square_1 - mean_1**2) + _VARIANCE_FLOOR
    variance_2 = torch.relu(square_2 - mean_2**2) + _VARIANCE_FLOOR
    return (product - mean_1 * mean_2) / torch.sqrt(variance_1 * variance_2)


def dissimilarity(
    warped_b1dhw: Tensor, fixed_b1dhw: Tensor, kind: str = "lncc", weight_b1dhw: Tensor | None = None
) -> Tensor:
    """0 for equal images: 1 - mean LNCC (`lncc`) or LNCC^2 (`lncc2`), the mean MIND-SSC distance (`mind`), or the mean
    squared difference of intensities (`ssd`, ICON's).

    weight_b1dhw: where it counts (>= 0); None = everywhere.
    """
    if kind == "ssd":
        return _mean((warped_b1dhw - fixed_b1dhw) ** 2, weight_b1dhw)
    similarity = similarity_named(kind)
    if similarity.descriptors:
        weight = torch.ones_like(fixed_b1dhw) if weight_b1dhw is None else weight_b1dhw
        return mind_distance(mind_descriptor(warped_b1dhw), mind_descriptor(fixed_b1dhw), weight)
    value = local_correlation(warped_b1dhw, fixed_b1dhw)
    value = value**2 if similarity.squared else value
    return 1 - _mean(value, weight_b1dhw)


def _mean(values_b1dhw: Tensor, weight_b1dhw: Tensor | None) -> Tensor:
    """The weighted mean of each sample; their mean."""
    if weight_b1dhw is None:
        return values_b1dhw.mean()
    if len(values_b1dhw) == 1:
        return (values_b1dhw * weight_b1dhw).sum() / weight_b1dhw.sum().clamp_min(1e-6)
    pairs = zip(values_b1dhw, weight_b1dhw.expand(len(values_b1dhw), *weight_b1dhw.shape[1:]), strict=True)
    return torch.stack([(value * weight).sum() / weight.sum().clamp_min(1e-6) for value, weight in pairs]).mean()


def noisy_points(found: CoordinateMap, shape_dhw, voxels: float, generator: Noise = None, *, count: int = 0) -> Tensor:
    """A lattice over an image with Gaussian noise of `voxels` (of the last axis) on every point, bndhw.

    generator: CPU generator of the noise; several make a batch, one for each sample; None = the global one.
    count: only so many of the points, drawn at random, bnk11; 0 = all.
    """
    size = (1, len(shape_dhw), *shape_dhw)
    noise = torch.cat([torch.randn(size, generator=source) for source in sources(generator)])
    points = identity_map(shape_dhw, align_corners=found.align_corners, device=found.device)
    points = points + noise.to(points) * (voxels / shape_dhw[-1])
    return picked(points, drawn(points[0, 0].numel(), count, generator)) if count else points


def icon(
    forward: CoordinateMap, backward: CoordinateMap, shape_dhw, *, generator: Noise = None, count: int = 0
) -> Tensor:
    """How far both compositions are from the identity: mean squares, normalized coordinates, summed over both orders.

    Asked at noisy points, off the grid: there no map that is only right on its grid's points gets away with it, and
    what is left of the error acts as a regularizer.

    Args:
        shape_dhw: the lattice; both images are asked at its points, so they should have one shape.
        generator, count: of the points; see `noisy_points`.
    Source: ICON, inverse consistency loss.
    """
    points = noisy_points(backward, shape_dhw, 1.0, generator, count=count)
    one, other = points - forward(backward(points)), points - backward(forward(points))
    return (one**2).mean() + (other**2).mean()


def gradicon(
    forward: CoordinateMap,
    backward: CoordinateMap,
    shape_dhw,
    *,
    sparse: bool = False,
    generator: Noise = None,
    count: int = 0,
) -> Tensor:
    """How far the gradient of `forward o backward` is from the identity: its squared Frobenius norm, divided by the
    number of axes.

    Evaluated by difference quotients at noisy points of a lattice; averaged over points and components, summed over
    axes.

    Args:
        shape_dhw: the lattice, on the image where `backward` begins. sparse: every 2nd voxel, twice the noise; not with
            `count`.
        generator, count: of the points; see `noisy_points`.
    """
    points = noisy_points(backward, shape_dhw, 2.0 if sparse else 1.0, generator, count=count)
    if sparse:
        points = points[(..., *[slice(None, None, 2)] * len(shape_dhw))]

    def error(at: Tensor) -> Tensor:
        return at - forward(backward(at))

    here = error(points)
    total = here.new_zeros(())
    for step in _DELTA * torch.eye(len(shape_dhw), device=points.device):
        total = total + (((here - error(points + per_axis(step, points))) / _DELTA) ** 2).mean()
    return total


def diffusion(found: CoordinateMap, shape_dhw) -> Tensor:
    """Squared differences of the displacement between neighbors: mean per axis, summed, times the first axis' n^2.

    Meant for images of one shape, as the paper's.
    """
    values = found.on_grid(shape_dhw)
    displacement = values - identity_map(shape_dhw, align_corners=found.align_corners, device=values.device)
    return sum((displacement.diff(dim=axis) ** 2).mean() for axis in range(2, values.ndim)) * shape_dhw[0] ** 2


def bending(found: CoordinateMap, shape_dhw) -> Tensor:
    """Squared second derivatives of the map: means, those along one axis once and the mixed ones twice, summed and
    divided by the square of the number of axes. Affine maps have 0.

    Args:
        shape_dhw: the lattice of the difference quotients, at least three points along each axis.
    """
    values = found.on_grid(shape_dhw)
    steps = [1 / (n - 1 if found.align_corners else n) for n in shape_dhw]
    total = values.new_zeros(())
    for a in range(len(steps)):
        total = total + ((values.diff(n=2, dim=2 + a) / steps[a] ** 2) ** 2).mean()
        for b in range(a):
            mixed = _central(_central(values, 2 + a), 2 + b) / (steps[a] * steps[b])
            total = total + 2 * (mixed**2).mean()
    return total / len(steps) ** 2


def _central(values: Tensor, axis: int) -> Tensor:
    """Half the difference of the two neighbors along an axis."""
    count = values.shape[axis] - 2
    return (values.narrow(axis, 2, count) - values.narrow(axis, 0, count)) / 2


def irregularity(
    regularity: str,
    moving_from_fixed: CoordinateMap,
    fixed_from_moving: CoordinateMap,
    moving_shape,
    fixed_shape,
    generator: Noise = None,
) -> Tensor:
    """A regularizer by its name, one of `REGULARITIES`: what it says of the maps between two images, >= 0.

    `diffusion` and `bending` are means of both directions; the others ask how inverse to each other the maps are.
    Raises: InputError for another name.
    """
    if regularity in ("diffusion", "bending"):
        measure = diffusion if regularity == "diffusion" else bending
        return (measure(moving_from_fixed, fixed_shape) + measure(fixed_from_moving, moving_shape)) / 2
    if regularity == "icon":
        return icon(moving_from_fixed, fixed_from_moving, moving_shape, generator=generator)
    if regularity in ("gradicon", "gradicon-sparse"):
        sparse = regularity == "gradicon-sparse"
        return gradicon(moving_from_fixed, fixed_from_moving, moving_shape, sparse=sparse, generator=generator)
    raise InputError(f"Regularity: expected one of {', '.join(REGULARITIES)}; got {regularity!r}.")


@dataclass(frozen=True)
class LossTerms:
    """total = dissimilarity (both directions) + weight * irregularity."""

    total: Tensor
    dissimilarity: Tensor
    irregularity: Tensor


def paper_loss(
    moving_from_fixed: CoordinateMap,
    fixed_from_moving: CoordinateMap,
    moving_b1dhw: Tensor,
    fixed_b1dhw: Tensor,
    *,
    similarity: str = "lncc",
    regularizer: str = "gradicon",
    weight: float = REGULARIZER_WEIGHT,
    moving_mask_b1dhw: Tensor | None = None,
    fixed_mask_b1dhw: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> LossTerms:
    """The published training loss of one pair.

    Args:
        similarity: see `dissimilarity`. regularizer: see `irregularity` (of diffusion and bending the authors take one
            direction, and count its dissimilarity twice).
        masks: where an image has data that count; None = all of it. Voxel-centered maps also leave out what lies
            beyond the other image; those with published weights continue it by its edge, as in the weights' training.
    """
    unlike = dissimilarity_both_ways(
        moving_from_fixed,
        fixed_from_moving,
        moving_b1dhw,
        fixed_b1dhw,
        similarity,
        moving_mask_b1dhw,
        fixed_mask_b1dhw,
    )
    unsmooth = irregularity(
        regularizer, moving_from_fixed, fixed_from_moving, moving_b1dhw.shape[2:], fixed_b1dhw.shape[2:], generator
    )
    return LossTerms(unlike + weight * unsmooth, unlike, unsmooth)


def dissimilarity_both_ways(
    moving_from_fixed: CoordinateMap,
    fixed_from_moving: CoordinateMap,
    moving_b1dhw: Tensor,
    fixed_b1dhw: Tensor,
    similarity: str = "lncc",
    moving_mask_b1dhw: Tensor | None = None,
    fixed_mask_b1dhw: Tensor | None = None,
    *,
    generator: Noise = None,
    count: int = 0,
) -> Tensor:
    """The first part of `paper_loss`: the dissimilarities of both directions, summed.

    count: with `ssd`, at so many of each image's voxels, drawn at random by `generator`; 0 = all.
    Raises: InputError for a `count` with a similarity that compares neighborhoods.
    """
    if count and similarity != "ssd":
        raise InputError(f"Points: expected similarity 'ssd', which compares single points; got {similarity!r}.")
    somewhere = generator, count
    forward = _one_direction(
        moving_from_fixed, moving_b1dhw, fixed_b1dhw, similarity, moving_mask_b1dhw, fixed_mask_b1dhw, *somewhere
    )
    backward = _one_direction(
        fixed_from_moving, fixed_b1dhw, moving_b1dhw, similarity, fixed_mask_b1dhw, moving_mask_b1dhw, *somewhere
    )
    return forward + backward


def _one_direction(
    found: CoordinateMap, moving, fixed, similarity, moving_mask, fixed_mask, generator: Noise, count: int
) -> Tensor:
    shape = fixed.shape[2:]
    if count:
        places = drawn(fixed[0, 0].numel(), count, generator)
        points = found(picked(identity_map(shape, align_corners=found.align_corners, device=found.device), places))
        fixed = picked(fixed, places)
        fixed_mask = None if fixed_mask is None else picked(fixed_mask, places)
    else:
        points = found.on_grid(shape)
    warped = sample(moving, points, align_corners=found.align_corners)
    weight = fixed_mask
    if moving_mask is not None or not found.align_corners:
        with torch.no_grad():
            data = torch.ones_like(moving) if moving_mask is None else moving_mask
            seen = (sample(data, points, padding="zeros", align_corners=found.align_corners) > 0.5).to(fixed.dtype)
        weight = seen if weight is None else weight * seen
    return dissimilarity(warped, fixed, similarity, weight)
