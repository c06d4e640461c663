import numpy as np
import pytest
import torch
from carlreg.errors import InputError
from carlreg.maps import identity_map
from carlreg.models import attention
from carlreg.models.attention import coordinate_attention, match, rigid_motion
from scipy.spatial.transform import Rotation


def tokens(count, length, norm, seed, dtype=torch.float32, batch=2):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, count, length, generator=generator, dtype=torch.float64)
    return (torch.nn.functional.normalize(x, dim=2) * norm).to(dtype)


def naive(queries, keys, values):
    queries, keys, values = queries.double(), keys.double(), values.double()
    return torch.softmax(queries @ keys.transpose(1, 2), dim=2) @ values


@pytest.mark.parametrize("norm", [1.0, 4.0, 8.0])
@pytest.mark.parametrize(("length", "kinds"), [(128, 3), (128, 5), (20, 5), (3, 11)])
def test_equals_a_naive_softmax(length, kinds, norm):
    queries, keys = tokens(70, length, norm, 1), tokens(210, length, norm, 2)
    values = torch.rand(2, 210, kinds, generator=torch.Generator().manual_seed(3))
    found = coordinate_attention(queries, keys, values)
    assert found.shape == (2, 70, kinds)
    assert float((found - naive(queries, keys, values)).abs().max()) < 1e-5


def test_pieces_for_other_devices_equal_a_naive_softmax(monkeypatch):
    monkeypatch.setattr(attention, "_SCORES_AT_ONCE", 2000)
    queries, keys = tokens(70, 12, 4.0, 1).requires_grad_(), tokens(210, 12, 4.0, 2)
    values = torch.rand(2, 210, 5)
    found = attention._in_pieces(queries, keys, values)
    assert float((found - naive(queries, keys, values)).detach().abs().max()) < 1e-5
    found.square().sum().backward()
    gradient = queries.grad.clone()
    queries.grad = None
    naive(queries, keys, values).square().sum().backward()
    assert float((gradient - queries.grad).abs().max()) < 1e-4


def test_is_differentiable_in_all_three():
    queries, keys = tokens(6, 5, 2.0, 1, torch.float64), tokens(9, 5, 2.0, 2, torch.float64)
    values = torch.rand(2, 9, 4, dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (queries, keys, values)]
    assert torch.autograd.gradcheck(coordinate_attention, inputs, atol=1e-6)


def test_autocast_does_not_cost_coordinates_their_precision():
    queries, keys, values = tokens(40, 16, 4.0, 1), tokens(90, 16, 4.0, 2), torch.rand(2, 90, 3) * 30
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = coordinate_attention(queries, keys, values)
    assert found.dtype == torch.float32
    assert float((found - naive(queries, keys, values)).abs().max()) < 1e-4


def test_refuses_shapes_that_do_not_belong_together():
    with pytest.raises(InputError, match="expected queries"):
        coordinate_attention(torch.rand(1, 4, 8), torch.rand(1, 5, 8), torch.rand(1, 6, 3))


def test_scores_are_never_materialized():
    """32768 x 32768 scores would take 4.3 GB, twice that with their softmax."""
    queries = tokens(32768, 8, 4.0, 1, batch=1)
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        coordinate_attention(queries, queries, torch.rand(1, 32768, 5))
    allocated = max(event.cpu_memory_usage for event in profile.key_averages())
    assert 0 < allocated < 2e8


def lattice_tokens(shape, padding, norm):
    """Distinct nearly orthogonal tokens per cell, the same for the same place."""
    full = [n + 2 * padding for n in shape]
    x = tokens(full[0] * full[1] * full[2], 64, norm, 5, batch=1)
    return x.transpose(1, 2).reshape(1, 64, *full)


@pytest.mark.parametrize("align_corners", [False, True])
def test_match_of_equal_tokens_is_the_identity_and_certain(align_corners):
    shape, padding = (5, 6, 4), 2
    x = lattice_tokens(shape, padding, 8.0)
    found = match(x, x, padding, align_corners=align_corners)
    assert float((found.map_bndhw - identity_map(shape, align_corners=align_corners)).abs().max()) < 1e-3
    assert float(found.certainty_b1dhw.min()) > 0.99


def test_values_continue_linearly_into_the_padding_and_are_not_certain_there():
    shape, padding = (6, 6, 6), 2
    fixed = lattice_tokens(shape, padding, 8.0)
    moving = fixed.roll(2, dims=2)  # content lies two cells further on in the moving image
    found = match(moving, fixed, padding, align_corners=False)
    displacement = (found.map_bndhw - identity_map(shape))[0] * 6
    expected = torch.tensor([2.0, 0, 0]).view(3, 1, 1, 1).expand_as(displacement)
    assert float((displacement - expected).abs().max()) < 0.01
    certainty = found.certainty_b1dhw[0, 0]
    assert float(certainty[:4].min()) > 0.99
    assert float(certainty[4:].max()) < 0.01  # they answer with cells beyond the moving image


def test_certainty_is_the_inverse_of_one_plus_the_variance():
    shape = (3, 3, 3)
    blank = torch.zeros(1, 4, *shape)  # every key answers alike
    found = match(blank, blank, 0, align_corners=False)
    variance = 3 * (2 / 3)  # of -1, 0, 1 along each axis
    assert float((found.certainty_b1dhw - 1 / (1 + variance)).abs().max()) < 1e-5
    assert float((found.map_bndhw - 0.5).abs().max()) < 1e-6


def test_rigid_motion_is_the_nearest_one():
    """Against SciPy's, for targets that are turned, bent and of differing weight; a half turn is one of them."""
    random = np.random.default_rng(1)
    points = random.normal(size=(2, 3, 4, 4, 4)) * 10
    for turn in ((170.0, 20.0, -35.0), (180.0, 0.0, 0.0)):
        motion = Rotation.from_euler("xyz", turn, degrees=True)
        weight = random.uniform(size=(2, 1, 4, 4, 4))
        targets = np.einsum("ij,bjdhw->bidhw", motion.as_matrix(), points) + 3 + random.normal(size=points.shape)
        tensors = [torch.tensor(x, dtype=torch.float32) for x in (points, targets, weight)]
        found = rigid_motion(*tensors).numpy()
        for n in range(2):
            x, y, w = points[n].reshape(3, -1).T, targets[n].reshape(3, -1).T, weight[n].ravel()
            centers = [np.average(z, axis=0, weights=w) for z in (x, y)]
            nearest, _ = Rotation.align_vectors(y - centers[1], x - centers[0], weights=w)
            expected = nearest.apply(x - centers[0]) + centers[1]
            np.testing.assert_allclose(found[n].reshape(3, -1).T, expected, atol=1e-3)


def test_rigid_motion_turns_least_where_one_point_decides():
    points = identity_map((4, 4, 4)) * 4
    weight = torch.zeros(1, 1, 4, 4, 4)
    weight[..., 1, 2, 3] = 1
    found = rigid_motion(points, points.flip(1) + 1, weight)
    there = (points.flip(1) + 1 - points)[..., 1:2, 2:3, 3:4]
    assert float((found - points - there).abs().max()) < 1e-5
    assert float((rigid_motion(points, points.flip(1), torch.zeros_like(weight)) - points).abs().max()) < 1e-5
