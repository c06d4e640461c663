"""Lines and planes: the same maps and operators as of volumes, against NumPy and SciPy."""

import numpy as np
import pytest
import torch
from carlreg.maps import Affine, CompositeMap, DisplacementMap, identity_map, sample
from carlreg.maps.separable import along_axes, window_sums
from scipy.ndimage import map_coordinates

SHAPES = [(23,), (11, 17), (7, 9, 8)]


def noise(shape, seed=0):
    return torch.rand(1, 2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("align_corners", [False, True])
def test_sampling_equals_scipy_inside_and_at_the_edge(shape, align_corners):
    image = noise(shape)
    points = 1.4 * noise((5,) * len(shape), 1)[:, :1].repeat(1, len(shape), *[1] * len(shape)) - 0.2
    points = points + 0.1 * torch.arange(len(shape)).view(1, -1, *[1] * len(shape))
    found = sample(image, points, align_corners=align_corners)[0].numpy()
    sizes = np.array(shape).reshape(-1, *[1] * len(shape))
    index = points[0].numpy() * (sizes - 1) if align_corners else points[0].numpy() * sizes - 0.5
    expected = [map_coordinates(channel, index, order=1, mode="nearest") for channel in image[0].numpy()]
    assert np.abs(found - expected).max() < 1e-12


@pytest.mark.parametrize("threads", [1, 2])
def test_a_plane_in_slabs_equals_the_whole(threads):
    image = noise((40, 50)).float()
    points = identity_map((301, 300)) * 0.9
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = sample(image, points)
    finally:
        torch.set_num_threads(before)
    expected = torch.nn.functional.grid_sample(
        image, (points * 2 - 1).permute(0, 2, 3, 1).flip(-1), padding_mode="border", align_corners=False
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_affine_displacement_and_its_composition(shape):
    n = len(shape)
    linear = torch.eye(n) + 0.1 * torch.randn(n, n, generator=torch.Generator().manual_seed(0))
    matrix = torch.eye(n + 1)
    matrix[:n, :n], matrix[:n, n] = linear, 0.03
    affine = Affine(matrix)
    displacement = affine.on_grid(shape) - identity_map(shape)
    field = DisplacementMap(displacement, extrapolate=True)
    points = torch.rand(1, n, *[6] * n, generator=torch.Generator().manual_seed(1)) * 1.2 - 0.1
    assert float((field(points) - affine(points)).abs().max()) < 1e-5
    twice = CompositeMap(outer=affine, inner=affine).on_grid(shape)
    column = identity_map(shape)[0].flatten(1)
    expected = linear @ (linear @ column + 0.03) + 0.03
    assert float((twice[0].flatten(1) - expected).abs().max()) < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_matrices_along_axes_and_window_sums(shape):
    values = noise(shape)
    matrices = [torch.randn(5, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n in shape]
    expected = values
    for axis, matrix in enumerate(matrices):
        expected = torch.tensordot(expected, matrix, dims=([2 + axis], [1])).movedim(-1, 2 + axis)
    torch.testing.assert_close(along_axes(values, *matrices), expected)
    torch.testing.assert_close(along_axes(values.float(), *matrices), along_axes(values.float().double(), *matrices))
    ones = [(torch.arange(n)[:, None] - torch.arange(n)).abs() <= 1 for n in shape]
    torch.testing.assert_close(window_sums(values, 3), along_axes(values, *(m.double() for m in ones)))
