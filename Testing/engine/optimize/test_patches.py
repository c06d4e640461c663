"""Similarity at sampled points: against NumPy, and against the one of whole images."""

import numpy as np
import pytest
import torch
from carlreg.losses.similarity import VARIANCE_FLOOR, LocalCorrelation
from carlreg.optimize.patches import (
    PatchImage,
    SelfSimilarity,
    first_order,
    patch_correlation,
    simplex,
    window,
)
from scipy.ndimage import gaussian_filter


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_affine_functions_are_found_exactly_from_a_simplex(dims):
    corners = simplex(dims)
    apart = torch.cdist(corners, corners)[~torch.eye(dims + 1, dtype=torch.bool)]
    assert torch.allclose(corners.norm(dim=1), torch.ones(dims + 1)) and apart.max() - apart.min() < 1e-5
    generator = torch.Generator().manual_seed(0)
    matrix, shift = torch.randn(dims, dims, generator=generator), torch.randn(dims, generator=generator)
    points = torch.randn(6, dims, generator=generator)
    corners = 0.3 * corners
    values = (points[:, None] + corners) @ matrix.T + shift
    mean, slope = first_order(values, corners)
    assert (mean - (points @ matrix.T + shift)).abs().max() < 1e-5
    assert (slope - matrix).abs().max() < 1e-5


def test_correlation_of_patches_is_numpys_and_the_one_of_whole_images():
    rng = np.random.default_rng(1)
    first, second = (gaussian_filter(rng.random((14, 15, 16)), 1.0).astype(np.float32) for _ in range(2))
    first, second = (3 * (image - image.mean()) + 0.5 for image in (first, second))
    tensors = [torch.from_numpy(image)[None, None] for image in (first, second)]
    shape = torch.tensor([14.0, 15.0, 16.0])
    # The frame: voxel indices.
    images = [PatchImage(image, None, torch.diag(1 / shape), 0.5 / shape) for image in tensors]
    at = torch.tensor([[6.0, 7, 8]])
    places = window(3, 5, 5.0)
    (one, counts), (other, _) = (image.values(at[:, None] + places) for image in images)
    assert counts.min() == 1
    box = (slice(4, 9), slice(5, 10), slice(6, 11))
    found = patch_correlation(one, other, counts, squared=False)
    a, b = first[box].ravel(), second[box].ravel()
    wanted = np.cov(a, b, bias=True)[0, 1] / np.sqrt((a.var() + VARIANCE_FLOOR) * (b.var() + VARIANCE_FLOOR))
    assert abs(float(found) + wanted) < 1e-4
    whole = LocalCorrelation(tensors[0], [5, 5, 5], squared=True).map(tensors[1])[0, 0, 6, 7, 8]
    assert abs(float(patch_correlation(one, other, counts, squared=True)) + float(whole)) < 1e-4


def test_what_does_not_count_does_not_matter():
    image = torch.rand(1, 1, 8, 8)
    weight = torch.ones_like(image)
    weight[..., 5:] = 0
    side = PatchImage(image, weight, torch.eye(2) / 8, torch.full((2,), 0.5 / 8))
    _, counts = side.values(torch.tensor([[[3.0, 1.0], [3.0, 6.0], [3.0, -4.0], [20.0, 1.0]]]))
    assert counts.tolist() == [[1, 0, 0, 0]]
    one, other = torch.rand(2, 5, 30)
    counts = (torch.rand(5, 30) > 0.4).float()
    spoiled = torch.where(counts > 0, one, 100.0)
    same = (patch_correlation(values, other, counts, squared=True) for values in (one, spoiled))
    assert abs(float(next(same)) - float(next(same))) < 1e-6


def test_self_similarity_has_its_twelve_pairs_and_does_not_know_contrast():
    similar = SelfSimilarity(2.0)
    values = torch.rand(9, len(similar.offsets_ks))
    found = similar(values)
    assert found.shape == (9, 12) and found.max() == 1 and found.min() > 0
    assert (similar(3 - 2 * values) - found).abs().max() < 1e-4
    first, second = (similar.offsets_ks.reshape(6, -1, 3).mean(1)[side] for side in similar.pairs)
    assert torch.allclose((first - second).norm(dim=1), torch.full((12,), 2.0 * 2**0.5))
