"""Similarity of two images on one lattice, fast enough to be optimized on two CPU cores.

Window means are products with band matrices along each axis: on CPUs several times faster than pooling or
convolution, and their adjoint, needed for the gradient, is the transposed product. Windows that reach beyond the
lattice average what lies inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..maps.separable import along_axes

#: Variances below this (of intensities normalized to [0, 1]) count as noise, not as structure.
VARIANCE_FLOOR = 1e-4
# Of a window's voxels, how many at least are reckoned with: no division by nothing where none counts.
_LEAST_SHARE = 1e-3


class WindowMean:
    """Mean over a box window, separably, as three matrix products.

    shape_dhw: the lattice. width_dhw: odd window widths in voxels. stride: windows stand around every so many voxels.
    Calls take n c d h w and return n c with one value for each window.
    """

    def __init__(self, shape_dhw, width_dhw, *, stride: int = 1, device=None, dtype=torch.float32) -> None:
        self._centers = (Ellipsis, *(slice((n - 1) % stride // 2, None, stride) for n in shape_dhw))
        self.matrices = [
            _row_normalized_band(n, min(int(w), 2 * n - 1) // 2, device, dtype)[part].contiguous()
            for n, w, part in zip(shape_dhw, width_dhw, self._centers[1:], strict=True)
        ]

    def centers(self, values: Tensor) -> Tensor:
        """Those of the lattice's values, n c d h w, that stand in the middle of a window."""
        return values[self._centers]

    def __call__(self, image: Tensor) -> Tensor:
        return along_axes(image, *self.matrices)

    def adjoint(self, image: Tensor) -> Tensor:
        """The transposed operator: how a gradient with respect to window means flows back to voxels."""
        return along_axes(image, *(m.T for m in self.matrices))


def _row_normalized_band(count: int, radius: int, device, dtype) -> Tensor:
    index = torch.arange(count, device=device)
    band = ((index[:, None] - index[None]).abs() <= radius).to(dtype)
    return band / band.sum(1, keepdim=True)


def window_widths(spacing_dhw_mm, window_mm: float) -> list[int]:
    """Odd window widths in voxels nearest to `window_mm`, at least 3."""
    return [max(3, 2 * round((window_mm / s - 1) / 2) + 1) for s in spacing_dhw_mm]


@dataclass(frozen=True)
class _FixedStatistics:
    """Window statistics of the fixed image over the voxels that count.

    weight, share: per voxel, and its mean over each window; None = all count. mean; variance, with the floor.
    """

    weight: Tensor | None
    share: Tensor | None
    mean: Tensor
    variance: Tensor


class LocalCorrelation:
    """Negative weighted mean of the windowed correlation coefficient (or its square) with a fixed image.

    fixed_11dhw: intensities in about [0, 1]. width_dhw: window in voxels. squared: LNCC^2, which also counts inverted
    contrast. Calls take the warped image 1 1 d h w and weights of the windows' centers 1 1 d h w; they return a scalar
    in [-1, 0] (squared) or [-1, 1].

    data_11dhw: which voxels count inside windows (1) and which do not (0); None = all. Without it every window at the
    edge of a field of view sees what lies beyond. The fixed image's statistics are computed once for each such tensor
    (the same object again costs nothing).
    """

    def __init__(
        self,
        fixed_11dhw: Tensor,
        width_dhw,
        *,
        squared: bool = True,
        floor: float = VARIANCE_FLOOR,
        stride: int = 1,
    ) -> None:
        self.squared, self.floor = squared, floor
        shape, device, dtype = fixed_11dhw.shape[2:], fixed_11dhw.device, fixed_11dhw.dtype
        self.window = WindowMean(shape, width_dhw, stride=stride, device=device, dtype=dtype)
        self.fixed = fixed_11dhw - 0.5  # centered: E[x^2] - E[x]^2 loses fewer digits
        mean = self.window(self.fixed)
        variance = (self.window(self.fixed.square()) - mean.square()).clamp_min(0) + floor
        self.variance = variance
        self._everywhere = _FixedStatistics(None, None, mean, variance)
        self._given: Tensor | None = None
        self._masked = self._everywhere

    def __call__(self, warped_11dhw: Tensor, weight_11dhw: Tensor, data_11dhw: Tensor | None = None) -> Tensor:
        return _LocalCorrelation.apply(warped_11dhw, weight_11dhw, self.statistics(data_11dhw), self)

    def map(self, warped_11dhw: Tensor) -> Tensor:
        """The coefficient (or its square) at each voxel, without gradient and with every voxel in the windows."""
        return _local_statistics(warped_11dhw - 0.5, self, self._everywhere)[0]

    def curvature(self, warped_11dhw: Tensor, slopes_1cdhw: Tensor) -> tuple[Tensor, Tensor]:
        """For Gauss-Newton on 1 - coefficient (or its square), where windows stand, with all voxels in them.

        slopes: derivatives of the warped image. Returns how curved the loss is in a voxel's residual, 1 1 d h w, and
        the slopes, c 1 d h w, less what the offset and scale of the window around each voxel take up: of each window
        its middle stands for the whole, which is half to all of the curvature.
        Source: Kaufman, BIT 15, 1975 (the linear unknowns eliminated).
        """
        moving = warped_11dhw - 0.5
        value, mean, variance, _ = _local_statistics(moving, self, self._everywhere)
        slopes = slopes_1cdhw.transpose(0, 1)
        count = len(slopes)
        means = self.window(torch.cat([slopes, slopes * moving]))
        slopes, moving = self.window.centers(slopes), self.window.centers(moving)
        along = (means[count:] - means[:count] * mean) / variance
        curved = 2 * value if self.squared else value.clamp_min(0)
        return curved / variance, slopes - means[:count] - along * (moving - mean)

    def statistics(self, data_11dhw: Tensor | None) -> _FixedStatistics:
        """The fixed image's over the voxels that count."""
        if data_11dhw is None:
            return self._everywhere
        if data_11dhw is not self._given:
            self._given, self._masked = data_11dhw, self._over(data_11dhw)
        return self._masked

    def _over(self, weight: Tensor) -> _FixedStatistics:
        if bool((weight >= 1).all()):
            return self._everywhere
        sums = self.window(torch.cat([weight, weight * self.fixed, weight * self.fixed.square()]))
        share = sums[0:1].clamp_min(_LEAST_SHARE)
        mean = sums[1:2] / share
        variance = (sums[2:3] / share - mean.square()).clamp_min(0) + self.floor
        return _FixedStatistics(weight, share, mean, variance)


def _local_statistics(moving: Tensor, fixed: LocalCorrelation, stats: _FixedStatistics):
    counted = moving if stats.weight is None else stats.weight * moving
    means = fixed.window(torch.cat([counted, counted * moving, counted * fixed.fixed]))
    if stats.share is not None:
        means = means / stats.share
    mean = means[0:1]
    variance = (means[1:2] - mean.square()).clamp_min(0) + fixed.floor
    covariance = means[2:3] - stats.mean * mean
    if fixed.squared:
        value = covariance.square() / (stats.variance * variance)
    else:
        value = covariance * torch.rsqrt(stats.variance * variance)
    return value, mean, variance, covariance


class _LocalCorrelation(torch.autograd.Function):
    """Value and analytic gradient in one pass: six window means instead of autograd's ten."""

    @staticmethod
    def forward(ctx, warped, weight, stats: _FixedStatistics, fixed: LocalCorrelation):
        moving = warped - 0.5
        value, mean, variance, covariance = _local_statistics(moving, fixed, stats)
        weight = fixed.window.centers(weight)
        share = weight / weight.sum().clamp_min(1e-6)
        loss = -(share * value).sum()
        if ctx.needs_input_grad[0]:
            if fixed.squared:
                by_covariance = -2 * share * covariance / (stats.variance * variance)
                by_variance = share * value / variance
            else:
                by_covariance = -share * torch.rsqrt(stats.variance * variance)
                by_variance = 0.5 * share * value / variance
            # d covariance / d moving = fixed - mean_fixed and d variance / d moving = 2 (moving - mean), windowed
            by_means = torch.cat([by_covariance, by_variance, by_covariance * stats.mean + 2 * by_variance * mean])
            if stats.share is not None:
                by_means = by_means / stats.share
            spread = fixed.window.adjoint(by_means)
            gradient = spread[0:1] * fixed.fixed + 2 * spread[1:2] * moving - spread[2:3]
            ctx.save_for_backward(gradient if stats.weight is None else gradient * stats.weight)
        return loss

    @staticmethod
    def backward(ctx, *grad_outputs):
        (grad,) = grad_outputs
        (gradient,) = ctx.saved_tensors
        return grad * gradient, None, None, None


class PairCorrelation:
    """As `LocalCorrelation`, between two images that both change: symmetric in them, with a gradient to each.

    shape_dhw: the lattice of both. Calls take both images 1 1 d h w and the weights 1 1 d h w of the windows' centers,
    which also say what counts inside windows; they return a scalar in [-1, 0] (squared) or [-1, 1].
    """

    def __init__(
        self,
        shape_dhw,
        width_dhw,
        *,
        squared: bool = True,
        floor: float = VARIANCE_FLOOR,
        stride: int = 1,
        device=None,
    ) -> None:
        self.squared, self.floor = squared, floor
        self.window = WindowMean(shape_dhw, width_dhw, stride=stride, device=device)
        self._given: Tensor | None = None
        self._share: Tensor | None = None

    def __call__(self, one_11dhw: Tensor, other_11dhw: Tensor, weight_11dhw: Tensor) -> Tensor:
        return _PairCorrelation.apply(one_11dhw, other_11dhw, weight_11dhw, self)

    def share(self, weight_11dhw: Tensor) -> Tensor | None:
        """How much of each window counts; None = all of each. The same weights again cost nothing."""
        if weight_11dhw is not self._given:
            everywhere = bool((weight_11dhw >= 1).all())
            self._share = None if everywhere else self.window(weight_11dhw).clamp_min(_LEAST_SHARE)
            self._given = weight_11dhw
        return self._share


class _PairCorrelation(torch.autograd.Function):
    """Value and both analytic gradients in one pass; letters as in `_local_statistics`."""

    @staticmethod
    def forward(ctx, one, other, weight, pair: PairCorrelation):
        a, b = one - 0.5, other - 0.5
        part = pair.share(weight)
        counted_a, counted_b = (a, b) if part is None else (weight * a, weight * b)
        means = pair.window(torch.cat([counted_a, counted_b, counted_a * a, counted_b * b, counted_a * b]))
        if part is not None:
            means = means / part
        mean_a, mean_b = means[0:1], means[1:2]
        variance_a = (means[2:3] - mean_a.square()).clamp_min(0) + pair.floor
        variance_b = (means[3:4] - mean_b.square()).clamp_min(0) + pair.floor
        covariance = means[4:5] - mean_a * mean_b
        centered = pair.window.centers(weight)
        share = centered / centered.sum().clamp_min(1e-6)
        if pair.squared:
            by_covariance = -2 * share * covariance / (variance_a * variance_b)
            value = covariance.square() / (variance_a * variance_b)
            half = share * value
        else:
            by_covariance = -share * torch.rsqrt(variance_a * variance_b)
            value = covariance * torch.rsqrt(variance_a * variance_b)
            half = 0.5 * share * value
        if any(ctx.needs_input_grad[:2]):
            by_a, by_b = half / variance_a, half / variance_b
            by_means = torch.cat(
                [
                    by_covariance,
                    by_a,
                    by_b,
                    by_covariance * mean_b + 2 * by_a * mean_a,
                    by_covariance * mean_a + 2 * by_b * mean_b,
                ]
            )
            if part is not None:
                by_means = by_means / part
            spread = pair.window.adjoint(by_means)
            to_a = spread[0:1] * b + 2 * spread[1:2] * a - spread[3:4]
            to_b = spread[0:1] * a + 2 * spread[2:3] * b - spread[4:5]
            ctx.save_for_backward(*((to_a, to_b) if part is None else (to_a * weight, to_b * weight)))
        return -(share * value).sum()

    @staticmethod
    def backward(ctx, *grad_outputs):
        (grad,) = grad_outputs
        to_one, to_other = ctx.saved_tensors
        return grad * to_one, grad * to_other, None, None


_MIND_PAIRS = (  # the 12 pairs of six-neighborhood offsets that are sqrt(2) apart (self-similarity context)
    ((0, 0, -1), (0, -1, 0)), ((0, 0, -1), (0, 1, 0)), ((0, 0, 1), (0, -1, 0)), ((0, 0, 1), (0, 1, 0)),
    ((0, 0, -1), (-1, 0, 0)), ((0, 0, -1), (1, 0, 0)), ((0, 0, 1), (-1, 0, 0)), ((0, 0, 1), (1, 0, 0)),
    ((0, -1, 0), (-1, 0, 0)), ((0, -1, 0), (1, 0, 0)), ((0, 1, 0), (-1, 0, 0)), ((0, 1, 0), (1, 0, 0)),
)  # fmt: skip


def mind_descriptor(image_11dhw: Tensor, *, dilation: int = 2, radius: int = 2, axes_33=None) -> Tensor:
    """MIND-SSC: 1 x 12 x D x H x W self-similarity, in [0, 1], independent of contrast; of a plane 1 x 4 x H x W.

    dilation: distance of the six (four) neighbors in voxels. radius: half width of the patches that are compared.
    axes_33: columns = where one step along d, h, w of the lattice that it is to be compared with leads here, in voxels
    (d, h, w). Descriptors tell directions, so those of two images agree only along the same ones; None = its own.
    Source: Heinrich et al., MICCAI 2013; patch distances are means over boxes.
    """
    shape = image_11dhw.shape[2:]
    n = len(shape)
    if n < 2:
        raise InputError("MIND: expected an image of two or three axes; a line has no two directions to compare.")
    # A plane's neighbors are those of its middle slice.
    pairs = [(a[3 - n :], b[3 - n :]) for a, b in _MIND_PAIRS if not any((*a[: 3 - n], *b[: 3 - n]))]
    axes = torch.eye(n, dtype=torch.float64) if axes_33 is None else torch.as_tensor(axes_33, dtype=torch.float64)
    neighbors = {}

    def shifted(offset):
        if offset not in neighbors:
            steps = dilation * (axes @ torch.tensor(offset, dtype=torch.float64))
            neighbors[offset] = _moved_along(image_11dhw, steps.tolist())
        return neighbors[offset]

    window = WindowMean(shape, [2 * radius + 1] * n, device=image_11dhw.device, dtype=image_11dhw.dtype)
    distance = image_11dhw.new_empty(len(image_11dhw), len(pairs), *shape)
    for number, (a, b) in enumerate(pairs):
        distance[:, number : number + 1] = window((shifted(a) - shifted(b)).square())
    least = distance.amin(1, keepdim=True)
    noise = distance.mean(1, keepdim=True) - least
    average = noise.mean()
    noise = noise.clamp(average * 1e-3, average * 1e3).clamp_min(1e-8)
    if distance.requires_grad:
        return torch.exp((least - distance) / noise)
    return torch.sub(least, distance, out=distance).div_(noise).exp_()  # twelve numbers a voxel, of which one copy


def _moved_along(image_11dhw: Tensor, steps_dhw) -> Tensor:
    """The image read so many voxels further along each axis: linear between voxels, the nearest one beyond the edge."""
    for axis, step in enumerate(steps_dhw, start=2):
        count = image_11dhw.shape[axis]
        position = (torch.arange(count, dtype=torch.float64) + step).clamp(0, count - 1)
        below = position.floor()
        share = (position - below).to(image_11dhw.dtype).to(image_11dhw.device)
        lower = below.long().to(image_11dhw.device)
        found = image_11dhw.index_select(axis, lower)
        if bool((share > 0).any()):
            shape = [1] * image_11dhw.ndim
            shape[axis] = count
            upper = (lower + 1).clamp(max=count - 1)
            found = torch.lerp(found, image_11dhw.index_select(axis, upper), share.view(shape))
        image_11dhw = found
    return image_11dhw


def mind_distance(warped_descriptor: Tensor, fixed_descriptor: Tensor, weight_11dhw: Tensor) -> Tensor:
    """Weighted mean squared difference of two MIND descriptors, 1 c d h w each; a scalar >= 0."""
    difference = (warped_descriptor - fixed_descriptor).square().mean(1, keepdim=True)
    return (difference * weight_11dhw).sum() / weight_11dhw.sum().clamp_min(1e-6)
