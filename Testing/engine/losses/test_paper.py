import numpy as np
import pytest
import torch
from carlreg.losses.paper import diffusion, dissimilarity, gaussian_blur, gradicon, local_correlation, paper_loss
from carlreg.maps import Affine, DisplacementMap, sample
from scipy.ndimage import correlate1d, gaussian_filter


def image(shape=(14, 15, 16), seed=0, sigma=1.5):
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    return torch.tensor(noise, dtype=torch.float32)[None, None]


def scaling(factors):
    return Affine(torch.diag(torch.tensor([*factors, 1.0], dtype=torch.float64)))


def scipy_blur(array, sigma):
    offsets = np.arange(-2 * sigma, 2 * sigma + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    for axis in range(3):
        array = correlate1d(array, weights / weights.sum(), axis=axis, mode="constant")
    return array


def test_blur_and_local_correlation_equal_scipy():
    first, second = image(seed=1), image(seed=2)
    a, b = (x[0, 0].double().numpy() for x in (first, second))
    assert np.abs(gaussian_blur(first, 4.0)[0, 0].numpy() - scipy_blur(a, 4)).max() < 1e-6
    covariance = scipy_blur(a * b, 4) - scipy_blur(a, 4) * scipy_blur(b, 4)
    variances = [np.maximum(scipy_blur(x * x, 4) - scipy_blur(x, 4) ** 2, 0) + 1e-5 for x in (a, b)]
    expected = covariance / np.sqrt(variances[0] * variances[1])
    assert np.abs(local_correlation(first, second)[0, 0].numpy() - expected).max() < 1e-4


@pytest.mark.parametrize("kind", ["lncc", "lncc2", "mind"])
def test_equal_images_are_not_dissimilar_and_others_are(kind):
    shape = (22, 22, 22)
    first, second = image(shape, seed=1), image(shape, seed=2)
    middle = torch.zeros_like(first)  # where the window of 17 voxels does not reach the zeros beyond the image
    middle[:, :, 8:14, 8:14, 8:14] = 1
    assert float(dissimilarity(first, first, kind, middle)) < 0.01
    assert float(dissimilarity(first, second, kind, middle)) > (0.01 if kind == "mind" else 0.5)
    inverted = float(dissimilarity(first, 1 - first, kind, middle))
    assert inverted > 1.9 if kind == "lncc" else inverted < 0.01


def test_weights_limit_where_it_counts():
    first = image((22, 15, 16), seed=1)
    second = first.clone()
    second[:, :, 12:] = 1 - first[:, :, 12:]
    weight = torch.zeros_like(first)
    weight[:, :, :4] = 1  # farther from the change than the window reaches
    assert float(dissimilarity(first, second, "lncc", weight)) < 1e-3
    assert float(dissimilarity(first, second, "lncc")) > 0.1


def test_constant_regions_give_finite_gradients():
    first, second = image(seed=1), torch.full((1, 1, 14, 15, 16), 0.3)
    first[:, :, :8] = 0.7
    first.requires_grad_()
    dissimilarity(first, second, "lncc").backward()
    assert bool(torch.isfinite(first.grad).all())


@pytest.mark.parametrize("sparse", [False, True])
def test_gradicon_is_zero_for_inverses_and_known_for_scalings(sparse):
    forward, backward = scaling((2.0, 0.5, 1.25)), scaling((0.5, 2.0, 0.8))
    assert float(gradicon(forward, backward, (8, 8, 8), sparse=sparse)) < 1e-5
    # composition 1.1 x: the error's gradient is 0.1 along one axis; averaged over three components
    assert float(gradicon(scaling((1.1, 1, 1)), scaling((1, 1, 1)), (8, 8, 8), sparse=sparse)) == pytest.approx(
        0.01 / 3, rel=1e-2
    )


@pytest.mark.parametrize("align_corners", [False, True])
def test_diffusion_of_a_linear_displacement(align_corners):
    shape = (12, 12, 12)
    matrix = torch.diag(torch.tensor([1.2, 1.0, 1.0, 1.0]))
    step = 0.2 / (11 if align_corners else 12)
    found = float(diffusion(Affine(matrix, align_corners=align_corners), shape))
    assert found == pytest.approx(step**2 / 3 * 12**2, rel=1e-4)


def test_masks_and_borders():
    """A voxel-centered map that sends half the image outside is judged on the other half only."""
    moving = image(seed=3)
    shift = torch.zeros(1, 3, *moving.shape[2:])
    shift[:, 0] = 7 / 14  # content 7 voxels further on
    fixed = torch.zeros_like(moving)
    fixed[:, :, :7] = moving[:, :, 7:]
    fixed[:, :, 7:] = torch.rand(1, 1, 7, 15, 16, generator=torch.Generator().manual_seed(0))
    identity = DisplacementMap(torch.zeros_like(shift))
    seen = torch.zeros_like(moving)
    seen[:, :, :1] = 1

    def unlike(**masks):
        return float(paper_loss(DisplacementMap(shift), identity, moving, fixed, **masks).dissimilarity)

    backward = float(dissimilarity(fixed, moving))
    inside = torch.zeros_like(moving)
    inside[:, :, :7] = 1
    assert unlike() - backward == pytest.approx(
        float(dissimilarity(sample(moving, DisplacementMap(shift).on_grid(moving.shape[2:])), fixed, "lncc", inside)),
        abs=1e-5,
    )
    assert unlike(fixed_mask_b1dhw=seen) != pytest.approx(unlike(), abs=1e-3)


def test_same_generator_same_loss():
    moving, fixed = image(seed=1), image(seed=2)
    maps = [
        DisplacementMap(torch.randn(1, 3, 14, 15, 16, generator=torch.Generator().manual_seed(s)) * 0.02)
        for s in (1, 2)
    ]
    values = [
        float(paper_loss(*maps, moving, fixed, generator=torch.Generator().manual_seed(s)).total) for s in (5, 5, 6)
    ]
    assert values[0] == values[1] != values[2]
