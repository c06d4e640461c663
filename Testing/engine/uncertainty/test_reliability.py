"""What is stated about errors holds on generated pairs that nothing was fitted on."""

from __future__ import annotations

import carlreg
import numpy as np
import pytest
from benchmarks.known_pairs import pair_of
from carlreg.models import registry
from carlreg.spaces import VolumeGrid
from carlreg.uncertainty.calibration import calibrations
from scipy.stats import spearmanr
from support.geometry import index_at, points_at

SEEDS = (1000, 1002, 1003, 1010, 1040)
STEPS = {"network": 0, "final": None}


@pytest.fixture(scope="module")
def pairs():
    return [pair_of(seed) for seed in SEEDS]


@pytest.fixture(scope="module", params=list(STEPS))
def stage(request, pairs):
    """(name, per pair: true errors, expected errors, bounds and the result) of the known places."""
    found = []
    for pair in pairs:
        result = carlreg.register(pair.fixed, pair.moving, carlreg.RegistrationSettings(io_steps=STEPS[request.param]))
        expected = result.uncertainty.at(pair.points_lps, "expected")
        known = np.isfinite(expected)
        bound = result.uncertainty.at(pair.points_lps[known], "bound")
        found.append((pair.errors_mm(result.transform)[known], expected[known], bound, known, result))
    return request.param, found


def test_predicted_and_true_errors_rise_together(stage):
    name, found = stage
    true, expected = (np.concatenate([each[n] for each in found]) for n in (0, 1))
    assert spearmanr(expected, true)[0] >= {"network": 0.5, "final": 0.3}[name]


def test_ninety_percent_lie_within_the_bound(stage):
    _, found = stage
    true, bound = (np.concatenate([each[n] for each in found]) for n in (0, 2))
    assert 0.85 <= np.mean(true <= bound) <= 0.95


def test_the_mean_is_expected(stage):
    _, found = stage
    true, expected = (np.concatenate([each[n] for each in found]) for n in (0, 1))
    assert 0.67 <= expected.mean() / true.mean() <= 1.5


def test_what_maps_beyond_the_moving_volume_is_unknown(stage, pairs):
    """The moving grid's own box decides."""
    _, found = stage
    for pair, (_, _, _, _, result) in zip(pairs, found, strict=True):
        fixed, moving = VolumeGrid.of(pair.fixed), VolumeGrid.of(pair.moving)
        index = np.random.default_rng(1).uniform(-0.5, np.array(fixed.size_ijk) - 0.5, (20000, 3))
        points = points_at(fixed, index)
        mapped = index_at(moving, result.transform.apply(points))
        depth = np.minimum(mapped + 0.5, np.array(moving.size_ijk) - 0.5 - mapped).min(1)
        assert not np.isfinite(result.uncertainty.at(points))[depth < -1e-3].any()


def test_every_shipped_model_is_calibrated_before_and_after_optimization():
    shipped = {name for name, info in registry.MODELS.items() if info.shipped}
    assert shipped and {name: set(stages) for name, stages in calibrations().items()} == {
        name: {"network", "final"} for name in shipped
    }


def test_the_rotation_models_bound_holds_for_its_map(pairs):
    settings = carlreg.RegistrationSettings(model="carl-compact-rotation", io_steps=0)
    within = []
    for pair in pairs:
        result = carlreg.register(pair.fixed, pair.moving, settings)
        bound = result.uncertainty.at(pair.points_lps)
        known = np.isfinite(bound)
        within.append(pair.errors_mm(result.transform)[known] <= bound[known])
    assert 0.85 <= np.mean(np.concatenate(within)) <= 0.95
