"""Window means, local correlation and MIND against SciPy, naive formulas and finite differences."""

import numpy as np
import pytest
import torch
from carlreg.losses.similarity import LocalCorrelation, WindowMean, mind_descriptor, mind_distance, window_widths
from scipy.ndimage import gaussian_filter, rotate, uniform_filter


def images(shape=(9, 12, 10), seed=0):
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.rand(1, 1, *shape, generator=generator, dtype=torch.float64)
    return fixed, (0.6 * fixed + 0.4 * torch.rand(1, 1, *shape, generator=generator, dtype=torch.float64))


def test_window_mean_equals_scipy_in_the_interior():
    image = torch.rand(2, 3, 14, 15, 16)
    ours = WindowMean((14, 15, 16), (7, 5, 3))(image)
    theirs = uniform_filter(image.numpy(), size=(1, 1, 7, 5, 3), mode="constant")
    assert np.abs(ours.numpy() - theirs)[:, :, 3:-3, 2:-2, 1:-1].max() < 1e-5


def test_window_mean_of_a_constant_is_the_constant_up_to_the_border():
    assert torch.allclose(WindowMean((5, 6, 7), (7, 7, 7))(torch.full((1, 1, 5, 6, 7), 0.3)), torch.tensor(0.3))


def test_window_mean_adjoint_is_the_transpose():
    window = WindowMean((6, 7, 8), (3, 5, 7), dtype=torch.float64)
    a, b = torch.rand(1, 1, 6, 7, 8, dtype=torch.float64), torch.rand(1, 1, 6, 7, 8, dtype=torch.float64)
    assert float((window(a) * b).sum() - (a * window.adjoint(b)).sum()) == pytest.approx(0, abs=1e-10)


def test_windows_with_a_stride_are_every_second_one_of_all():
    image = torch.rand(1, 2, 9, 12, 1)
    every, all_of_them = WindowMean((9, 12, 1), (5, 3, 3), stride=2), WindowMean((9, 12, 1), (5, 3, 3))
    assert torch.allclose(every(image), all_of_them(image)[:, :, ::2, ::2])
    assert torch.equal(every.centers(image), image[:, :, ::2, ::2])
    sparse = torch.zeros_like(image)
    sparse[:, :, ::2, ::2] = every.centers(image)
    assert torch.allclose(every.adjoint(every.centers(image)), all_of_them.adjoint(sparse), atol=1e-6)


@pytest.mark.parametrize("squared", [True, False])
def test_local_correlation_with_a_stride_is_the_mean_over_its_windows(squared):
    fixed, moving = images((9, 12, 11))
    weight = torch.rand_like(fixed)
    value = LocalCorrelation(fixed, (5, 3, 5), squared=squared).map(moving)[..., ::2, ::2, ::2]
    loss = LocalCorrelation(fixed, (5, 3, 5), squared=squared, stride=2)
    part = weight[..., ::2, ::2, ::2]
    # An even number of nodes has no middle one: the first of the two that are as near.
    assert float(loss(moving, weight)) == pytest.approx(-float((value * part).sum() / part.sum()), abs=1e-9)
    small = [x[..., :5, :6, :5].contiguous() for x in (fixed, moving, weight)]
    loss = LocalCorrelation(small[0], (3, 3, 3), squared=squared, stride=2)
    assert torch.autograd.gradcheck(
        lambda x: loss(x, small[2], small[2]), [small[1].clone().requires_grad_()], eps=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("squared", [True, False])
def test_local_correlation_equals_a_loop_over_windows(squared):
    fixed, moving = images()
    floor = 1e-4
    ours = LocalCorrelation(fixed, (3, 3, 5), squared=squared, floor=floor).map(moving)[0, 0].numpy()
    f, m = fixed[0, 0].numpy(), moving[0, 0].numpy()
    for d, h, w in ((4, 5, 6), (0, 0, 0), (8, 11, 9), (3, 11, 1)):
        part = tuple(slice(max(0, c - r), c + r + 1) for c, r in zip((d, h, w), (1, 1, 2), strict=True))
        covariance = np.mean((f[part] - f[part].mean()) * (m[part] - m[part].mean()))
        value = covariance / np.sqrt((f[part].var() + floor) * (m[part].var() + floor))
        assert ours[d, h, w] == pytest.approx(value**2 if squared else value, abs=1e-9)


@pytest.mark.parametrize("squared", [True, False])
def test_local_correlation_gradient_equals_finite_differences(squared):
    fixed, moving = images((5, 6, 7))
    weight = torch.rand(1, 1, 5, 6, 7, dtype=torch.float64)
    loss = LocalCorrelation(fixed, (3, 3, 3), squared=squared)
    assert torch.autograd.gradcheck(lambda x: loss(x, weight), [moving.clone().requires_grad_()], eps=1e-6, atol=1e-7)


def test_local_correlation_is_minus_one_for_a_linear_change_of_intensity():
    fixed, _ = images()
    weight = torch.ones_like(fixed)
    assert float(LocalCorrelation(fixed, (5, 5, 5), floor=0.0)(0.2 + 0.5 * fixed, weight)) == pytest.approx(
        -1, abs=1e-9
    )
    signed = LocalCorrelation(fixed, (5, 5, 5), squared=False, floor=0.0)
    assert float(signed(0.7 - 0.5 * fixed, weight)) == pytest.approx(1, abs=1e-9)


def test_weight_zero_voxels_do_not_count():
    fixed, moving = images()
    weight = torch.zeros_like(fixed)
    weight[..., :5] = 1
    loss = LocalCorrelation(fixed, (3, 3, 3))
    changed = moving.clone()
    changed[..., 7:] = 0.9
    assert float(loss(moving, weight)) == pytest.approx(float(loss(changed, weight)), abs=1e-12)
    assert float(loss(moving, torch.ones_like(weight))) != pytest.approx(
        float(loss(changed, torch.ones_like(weight))), abs=1e-3
    )


@pytest.mark.parametrize("squared", [True, False])
def test_voxels_without_data_are_left_out_of_the_windows(squared):
    fixed, moving = images()
    data = (torch.rand(fixed.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64) > 0.4).double()
    floor = 1e-4
    loss = LocalCorrelation(fixed, (3, 3, 5), squared=squared, floor=floor)
    f, m, w = (x[0, 0].numpy() for x in (fixed, moving, data))
    total = 0.0
    for d, h, k in np.argwhere(w > 0):
        part = tuple(slice(max(0, c - r), c + r + 1) for c, r in zip((d, h, k), (1, 1, 2), strict=True))
        counted = w[part] > 0
        a, b = f[part][counted], m[part][counted]
        value = np.mean((a - a.mean()) * (b - b.mean())) / np.sqrt((a.var() + floor) * (b.var() + floor))
        total += value**2 if squared else value
    assert float(loss(moving, data, data)) == pytest.approx(-total / w.sum(), abs=1e-9)
    changed = torch.where(data > 0, moving, torch.full_like(moving, 0.9))
    assert float(loss(changed, data, data)) == pytest.approx(float(loss(moving, data, data)), abs=1e-12)
    assert float(loss(changed, data)) != pytest.approx(float(loss(moving, data)), abs=1e-3)


@pytest.mark.parametrize("squared", [True, False])
def test_gradient_with_missing_data_equals_finite_differences(squared):
    fixed, moving = images((5, 6, 7))
    generator = torch.Generator().manual_seed(3)
    weight = torch.rand(1, 1, 5, 6, 7, dtype=torch.float64, generator=generator)
    data = (torch.rand(1, 1, 5, 6, 7, dtype=torch.float64, generator=generator) > 0.3).double()
    loss = LocalCorrelation(fixed, (3, 3, 3), squared=squared)
    given = [moving.clone().requires_grad_()]
    assert torch.autograd.gradcheck(lambda x: loss(x, weight * data, data), given, eps=1e-6, atol=1e-7)


def test_mind_ignores_contrast_and_sees_displacement():
    generator = torch.Generator().manual_seed(1)
    image = torch.nn.functional.avg_pool3d(torch.rand(1, 1, 30, 30, 30, generator=generator), 3, 1)
    weight = torch.ones(1, 1, *image.shape[2:])
    here = mind_descriptor(image)
    inverted = mind_distance(mind_descriptor(0.9 - 0.5 * image), here, weight)
    shifted = mind_distance(mind_descriptor(torch.roll(image, 2, dims=4)), here, weight)
    assert here.shape == (1, 12, *image.shape[2:])
    assert float(here.min()) >= 0 and float(here.max()) <= 1
    assert float(inverted) < 1e-6
    assert float(shifted) > 0.02


def test_mind_tells_directions_of_the_lattice_it_is_compared_with():
    """The same image stored with other axes: the same descriptors; turned by an eighth of a circle: nearly."""
    generator = torch.Generator().manual_seed(1)
    image = torch.nn.functional.avg_pool3d(torch.rand(1, 1, 24, 26, 28, generator=generator), 3, 1)
    here = mind_descriptor(image)
    # Stored along (w, -d, h): lattice step d is -1 along the second axis, h +1 along the third, w +1 along the first.
    stored = image.flip(2).permute(0, 1, 4, 2, 3)
    axes = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, 1, 0]])
    found = mind_descriptor(stored, axes_33=axes).permute(0, 1, 3, 4, 2).flip(2)
    assert torch.allclose(found, here, atol=1e-5)
    assert float((mind_descriptor(stored).permute(0, 1, 3, 4, 2).flip(2) - here).abs().mean()) > 0.1


def test_mind_neighbors_lie_where_scipy_finds_them():
    """Between voxels, too: the descriptors of an image turned by SciPy, turned back, are those of the image."""
    smooth = gaussian_filter(np.random.default_rng(2).normal(size=(40, 40, 40)), 2.5)
    turned = rotate(smooth, 40, axes=(1, 2), reshape=False, order=3, mode="nearest")
    here, forward = [
        torch.from_numpy(((a - a.min()) / np.ptp(a)).astype(np.float32))[None, None] for a in (smooth, turned)
    ]
    c, s = np.cos(np.radians(40)), np.sin(np.radians(40))
    inner = (slice(None),) + (slice(12, -12),) * 3
    expected = mind_descriptor(here)[0].numpy()[inner].ravel()

    def correlation(axes):
        told = mind_descriptor(forward, axes_33=axes)[0].numpy()
        backward = rotate(told, -40, axes=(2, 3), reshape=False, order=1, mode="nearest")
        return np.corrcoef(backward[inner].ravel(), expected)[0, 1]

    assert correlation([[1, 0, 0], [0, c, -s], [0, s, c]]) > 0.97
    assert correlation(None) < 0.6


def test_window_widths_are_odd_and_follow_the_spacing():
    assert window_widths((1.0, 2.5, 9.0), 10.0) == [9, 5, 3]
