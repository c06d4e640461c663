"""Losses at random points expect what those of the whole grid are, and cost a map no more evaluations than stated."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from carlreg.errors import InputError
from carlreg.losses.paper import dissimilarity_both_ways, gradicon, icon
from carlreg.losses.points import drawn, picked
from carlreg.maps import Affine, CoordinateMap, identity_map
from carlreg.training import networks
from carlreg.training.joint_stage import JointStage, dice_loss
from carlreg.training.known_pair import OneWay
from carlreg.training.planar.stage import PlanarStage
from carlreg.training.settings import config_from_table

from .conftest import small_config, translation

POINTS, SEEDS = 40, 300
NOTHING = Affine(torch.eye(4))


def random(seed):
    return torch.Generator().manual_seed(seed)


def over_seeds(loss) -> tuple[float, float, float]:
    """Of a loss of a generator: mean, deviation, standard error of the mean."""
    values = np.array([float(loss(random(seed))) for seed in range(SEEDS)])
    return values.mean(), values.std(ddof=1), values.std(ddof=1) / np.sqrt(SEEDS)


class Squared(CoordinateMap):
    """x + a x^2 along each axis: its gradient's error is 2 a x."""

    def __init__(self, a):
        self.a = a

    def __call__(self, points_bndhw):
        return points_bndhw + self.a * points_bndhw.square()


def stretched_way():
    """The identity as the true map, seen in half of the lattice, and a map that is off by a quarter along the first."""
    true = identity_map((8, 10, 12))
    seen = torch.zeros_like(true[:, :1])
    seen[:, :, 2:6] = 1
    matrix = torch.eye(4)
    matrix[0, 0] = 1.25
    return OneWay(true, seen, torch.ones_like(seen)), matrix


def random_labels(seed, shape=(12, 14, 16)):
    return (
        F.interpolate(torch.rand((1, 4, 4, 4, 4), generator=random(seed)), size=shape).argmax(1, keepdim=True).float()
    )


def test_points_are_drawn_without_repetition_and_for_each_sample():
    places = drawn(50, 20, [random(1), random(2)])
    assert places.shape == (2, 20) and all(len(row.unique()) == 20 and row.max() < 50 for row in places)
    assert not torch.equal(*places) and torch.equal(drawn(50, 20, random(2))[0], places[1])
    assert sorted(drawn(50, 99, random(3))[0].tolist()) == list(range(50))
    values = torch.rand(2, 3, 5, 10)
    expected = np.stack([v.reshape(3, 50)[:, p] for v, p in zip(values.numpy(), places.numpy(), strict=True)])
    np.testing.assert_array_equal(picked(values, places)[..., 0].numpy(), expected)
    shared = picked(values[:1], places)[1, :, :, 0].numpy()  # one lattice, each sample its own places
    np.testing.assert_array_equal(shared, values[0].reshape(3, 50)[:, places[1]].numpy())


def test_the_end_point_error_of_points_has_the_mean_and_the_scatter_that_statistics_says():
    way, matrix = stretched_way()
    shape = (16, 20, 24)
    depths = (np.arange(8) + 0.5) / 8
    errors = 0.25 * depths[2:6] * 16  # voxels, each as often
    mean, deviation, standard_error = over_seeds(
        lambda g: way.end_point(Affine(matrix), shape, count=POINTS, generator=g)
    )
    assert abs(mean - errors.mean()) < 4 * standard_error
    total = 4 * 10 * 12  # finite population: drawn without repetition
    expected = errors.std() / np.sqrt(POINTS) * np.sqrt((total - POINTS) / (total - 1))
    assert deviation == pytest.approx(expected, rel=0.15)
    whole = way.end_point(Affine(matrix), shape, count=total, generator=random(0))
    assert whole.item() == pytest.approx(way.end_point(Affine(matrix), shape).item(), rel=1e-6)


def test_the_gradient_of_points_expects_the_grids():
    way, matrix = stretched_way()

    def gradient(**some):
        free = matrix.clone().requires_grad_()
        return torch.autograd.grad(way.end_point(Affine(free), (16, 20, 24), **some), free)[0][0, 0]

    mean, _, standard_error = over_seeds(lambda g: gradient(count=POINTS, generator=g))
    assert abs(mean - gradient().item()) < 4 * standard_error
    assert gradient().item() == pytest.approx(((np.arange(8) + 0.5) / 8)[2:6].mean() * 16, rel=1e-3)


def test_where_nothing_is_seen_there_is_no_error_but_a_gradient():
    way, matrix = stretched_way()
    nowhere = OneWay(way.true_b3dhw, torch.zeros_like(way.seen_b1dhw), way.body_b1dhw)
    free = matrix.clone().requires_grad_()
    error = nowhere.end_point(Affine(free), (16, 20, 24), count=POINTS, generator=random(0))
    error.backward()
    assert error.item() == 0 and free.grad is not None and torch.equal(free.grad, torch.zeros(4, 4))


def test_inverse_consistency_at_points_equals_its_closed_forms():
    generator = random(4)
    one, other = (torch.eye(4) for _ in range(2))
    one[:3, :3] += 0.1 * torch.rand(3, 3, generator=generator)
    other[:3, :3] += 0.1 * torch.rand(3, 3, generator=generator)
    left = (np.eye(3) - one[:3, :3].double().numpy() @ other[:3, :3].double().numpy()) ** 2
    found = gradicon(Affine(one), Affine(other), (6, 6, 6), generator=random(5), count=7).item()
    assert found == pytest.approx(left.sum() / 3, rel=1e-2)  # the same at every point; difference quotients in float32

    a, shape, step = 0.2, (8, 8, 8), 1e-3
    x = (np.arange(8) + 0.5) / 8
    squares = (x**2).mean() + (1 / 8) ** 2  # of a noisy point, one voxel of deviation
    expected = 4 * a**2 * (squares + step * x.mean()) + (a * step) ** 2
    mean, _, standard_error = over_seeds(lambda g: gradicon(Squared(a), NOTHING, shape, generator=g, count=POINTS))
    assert standard_error < 0.02 * expected and abs(mean - expected) < 4 * standard_error

    shift = Affine(translation(0.1, 0.0, -0.2))
    assert icon(shift, NOTHING, shape, generator=random(6), count=5).item() == pytest.approx(2 * 0.05 / 3, rel=1e-4)


def test_dice_of_points_is_the_grids_up_to_the_stated_share():
    moving, fixed = random_labels(1), random_labels(2)
    labels = torch.tensor([1.0, 2.0, 3.0])
    way = OneWay(identity_map((6, 7, 8)), torch.ones(1, 1, 6, 7, 8), torch.ones(1, 1, 6, 7, 8))
    found, count = Affine(translation(0.1, 0.0, -0.05)), 200
    whole = 1 - dice_loss(found, moving, fixed, labels, way).item()
    mean, _, standard_error = over_seeds(lambda g: 1 - dice_loss(found, moving, fixed, labels, way, count, g))
    met = count / 5  # of about four labels as large as each other, the smallest one
    assert 0.1 < whole < 0.9 and abs(mean - whole) < whole / (4 * met) + 4 * standard_error
    assert standard_error < 0.01 * whole
    every = dice_loss(found, moving, fixed, labels, way, fixed.numel(), random(0)).item()
    assert every == pytest.approx(1 - whole, rel=1e-5)


def test_squared_differences_at_points_expect_the_grids_and_windows_are_refused():
    ramp = identity_map((10, 12))[:, :1]
    shift = torch.eye(3)
    shift[0, 2] = 0.2
    nothing = Affine(torch.eye(3))
    images = ramp.square(), ramp
    rows = (np.arange(10) + 0.5) / 10
    shown = np.interp(rows + 0.2, rows, rows**2) - rows  # of the shifted one, which must be seen: 8 of 10 rows
    expected = (shown[rows + 0.2 <= 1] ** 2).mean() + ((rows - rows**2) ** 2).mean()
    whole = dissimilarity_both_ways(Affine(shift), nothing, *images, "ssd").item()
    assert whole == pytest.approx(expected, rel=1e-4)
    mean, _, standard_error = over_seeds(
        lambda g: dissimilarity_both_ways(Affine(shift), nothing, *images, "ssd", generator=g, count=POINTS)
    )
    assert abs(mean - expected) < 4 * standard_error and standard_error < 0.05 * expected
    with pytest.raises(InputError, match="expected similarity 'ssd', which compares single points; got 'lncc'"):
        dissimilarity_both_ways(Affine(shift), nothing, *images, "lncc", generator=random(0), count=POINTS)


def test_a_map_is_asked_no_more_than_stated(monkeypatch):
    """Of each pair: Dice and error once each way, the gradient of both compositions at four points each."""
    asked = []
    config = small_config("joint", stage={"points": 50})
    stage, network = JointStage(config.stage, config.data), networks.build("nephi")
    forward = type(network.there).forward
    monkeypatch.setattr(
        type(network.there),
        "forward",
        lambda self, points, *rest: asked.append(points.shape[1]) or forward(self, points, *rest),
    )
    draw = stage.draw(7, torch.device("cpu"))
    terms, again = (stage.losses(network, draw, random(7)) for _ in range(2))
    assert sum(asked) / 2 <= 12 * 50 and max(asked) == 50
    assert all(torch.equal(terms[name], again[name]) for name in terms)
    terms["loss"].backward()
    assert float(network.encoder.local.weight.grad.abs().sum() + network.there.last.weight.grad.abs().sum()) > 0


def test_a_planar_batch_at_points_is_the_mean_of_its_samples_and_unfit_terms_are_refused():
    table = {
        "run": {"steps": 1},
        "model": {"name": "planar-nephi"},
        "stage": {"kind": "planar", "similarity": "ssd", "regularity": "gradicon", "points": 64},
        "data": {"workers": 0, "planar": {"size": 32}},
    }
    config = config_from_table(table)
    stage, network = PlanarStage(config.stage, config.data), networks.build("planar-nephi").eval()
    torch.nn.init.normal_(network.there.last.weight, std=0.02, generator=random(0))
    with torch.no_grad():
        draws = [stage.draw(seed, torch.device("cpu")) for seed in (1, 2)]
        batch = stage.batch_losses(network, draws, [1, 2])
        single = [stage.losses(network, d, random(seed)) for d, seed in zip(draws, (1, 2), strict=True)]
    for name in ("loss", "dissimilarity", "gradicon"):
        assert float(batch[name]) == pytest.approx(sum(float(s[name]) for s in single) / 2, rel=2e-3), name
    for wrong in ({"similarity": "lncc"}, {"regularity": "diffusion"}):
        with pytest.raises(InputError, match="points: expected 0, or similarity 'ssd' with regularity"):
            config_from_table(table | {"stage": table["stage"] | wrong})
