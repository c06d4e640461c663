"""What a change of shape costs beside the similarity: nothing for a motion, and SciPy's best motion otherwise."""

import numpy as np
import pytest
import torch
from carlreg.optimize.field import coefficients_from
from carlreg.optimize.guide import spline_at
from carlreg.optimize.levels import FieldLevel
from carlreg.optimize.rigidity import RigidGuide
from carlreg.spaces import VolumeGrid, apply_affine
from scipy.spatial.transform import Rotation

BOX = VolumeGrid((30, 28, 26), (2.0, 2.0, 2.0), (100.0, -50.0, 30.0), np.diag([-1.0, -1.0, 1.0]))
LEVEL = FieldLevel(spacing_mm=6.0, steps=1, window_mm=14.0, rate_mm=1.0, bending=0.0, diffusion=0.0)


def guide(linear):
    rng = np.random.default_rng(3)
    points = [BOX.center_lps + shift + rng.uniform(-8, 8, (60, 3)) for shift in ([-12, 0, 0], [12, 4, 0])]
    return RigidGuide(
        np.concatenate(points), np.repeat([0, 1], 60), np.array([4096.0, 2000.0]), np.array([5.0, 2.0]), linear
    )


def coefficients(displacement):
    along = BOX.direction[:, ::-1]
    return coefficients_from(lambda points: displacement(points) @ along, BOX, LEVEL.spacing_mm)


@pytest.mark.parametrize("degrees", [0.0, 25.0])
def test_a_motion_costs_nothing(degrees):
    linear = np.diag([1.2, 0.9, 1.0])
    one = guide(linear)
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.inv(linear) @ Rotation.from_rotvec(np.radians([0, degrees, 5])).as_matrix()
    turn[:3, 3] = np.array([3, -2, 1]) + BOX.center_lps - turn[:3, :3] @ BOX.center_lps
    found = coefficients(lambda points: apply_affine(turn, points) - points)
    assert float(one.term(BOX, LEVEL, "cpu")(found)) < 1e-6
    assert float(one.term(BOX, LEVEL, "cpu")(found * 0)) > 1e-3  # the affine alone stretches


def test_the_cost_is_the_squared_distance_from_the_best_motion():
    one = guide(np.eye(3))
    found = coefficients(lambda points: 2 * np.sin((points - BOX.center_lps)[:, [1, 2, 0]] / 7))
    moved = one.points_lps + spline_at(one.points_lps, found, BOX, LEVEL.spacing_mm)
    expected = 0.0
    for body in (0, 1):
        own = one.body_n == body
        still, then = one.points_lps[own], moved[own]
        _, distance = Rotation.align_vectors(then - then.mean(0), still - still.mean(0))  # SciPy's
        share = one.volumes_mm3[body] / np.prod(BOX.extent_mm)
        expected += one.weights[body] * share * distance**2 / own.sum() / 2.0**2
    assert float(one.term(BOX, LEVEL, "cpu")(found)) == pytest.approx(expected, rel=1e-4)


def test_its_gradient_agrees_with_differences():
    one = guide(np.eye(3))
    cost = one.term(BOX, LEVEL, "cpu")
    start = coefficients(lambda points: 2 * np.sin((points - BOX.center_lps)[:, [1, 2, 0]] / 7))
    way = torch.randn(start.shape, generator=torch.Generator().manual_seed(1))
    variable = start.clone().requires_grad_()
    cost(variable).backward()
    step = 0.01
    difference = (float(cost(start + step * way)) - float(cost(start - step * way))) / (2 * step)
    assert float((variable.grad * way).sum()) == pytest.approx(difference, rel=5e-3)
