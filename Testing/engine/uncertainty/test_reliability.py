"""What is stated about errors holds on generated pairs that nothing was fitted on.

By default on two of them, with limits as wide as two pairs ask for; in the slow tier on all.
"""

from __future__ import annotations

from dataclasses import dataclass

import carlreg
import numpy as np
import pytest
from benchmarks.known_pairs import pair_of
from carlreg.models import registry
from carlreg.spaces import VolumeGrid
from carlreg.uncertainty.calibration import calibrations
from scipy.stats import spearmanr
from support.geometry import index_at, points_at
from support.mirrored import right_way_round

STEPS = {"network": 0, "final": None}


@dataclass(frozen=True)
class Amount:
    """seeds: of the pairs. within: share of the errors below the 90 % bound."""

    seeds: tuple[int, ...]
    within: tuple[float, float]


AMOUNTS = {
    "two pairs": Amount((1010, 1042), (0.8, 0.99)),
    "all pairs": Amount((1000, 1002, 1003, 1010, 1040), (0.85, 0.95)),
}


@pytest.fixture(scope="module", params=["two pairs", pytest.param("all pairs", marks=pytest.mark.slow)])
def amount(request):
    return AMOUNTS[request.param]


@pytest.fixture(scope="module")
def pairs(amount):
    return [pair_of(seed) for seed in amount.seeds]


def found_of(pair, settings):
    """True errors, expected errors and bounds of the known places, and the result."""
    with right_way_round():  # no error depends on it
        result = carlreg.register(pair.fixed, pair.moving, settings)
    expected = result.uncertainty.at(pair.points_lps, "expected")
    known = np.isfinite(expected)
    bound = result.uncertainty.at(pair.points_lps[known], "bound")
    return pair.errors_mm(result.transform)[known], expected[known], bound, result


@pytest.fixture(scope="module", params=list(STEPS))
def stage(request, pairs):
    """(name, what `found_of` every pair)."""
    settings = carlreg.RegistrationSettings(io_steps=STEPS[request.param])
    return request.param, [found_of(pair, settings) for pair in pairs]


@pytest.fixture(scope="module")
def by_the_rotation_model(amount, pairs):
    """Of the slow tier's pairs all, else the first."""
    settings = carlreg.RegistrationSettings(model="carl-compact-rotation", io_steps=0)
    chosen = pairs if amount is AMOUNTS["all pairs"] else pairs[:1]
    return [found_of(pair, settings) for pair in chosen]


def test_predicted_and_true_errors_rise_together(stage):
    name, found = stage
    true, expected = (np.concatenate([each[n] for each in found]) for n in (0, 1))
    assert spearmanr(expected, true)[0] >= {"network": 0.5, "final": 0.3}[name]


def test_ninety_percent_lie_within_the_bound(stage, amount):
    _, found = stage
    true, bound = (np.concatenate([each[n] for each in found]) for n in (0, 2))
    assert amount.within[0] <= np.mean(true <= bound) <= amount.within[1]


def test_the_mean_is_expected(stage):
    _, found = stage
    true, expected = (np.concatenate([each[n] for each in found]) for n in (0, 1))
    assert 0.67 <= expected.mean() / true.mean() <= 1.5


def test_what_maps_beyond_the_moving_volume_is_unknown(stage, pairs):
    """The moving grid's own box decides."""
    _, found = stage
    for pair, (_, _, _, result) in zip(pairs, found, strict=True):
        fixed, moving = VolumeGrid.of(pair.fixed), VolumeGrid.of(pair.moving)
        index = np.random.default_rng(1).uniform(-0.5, np.array(fixed.size_ijk) - 0.5, (20000, 3))
        points = points_at(fixed, index)
        mapped = index_at(moving, result.transform.apply(points))
        depth = np.minimum(mapped + 0.5, np.array(moving.size_ijk) - 0.5 - mapped).min(1)
        assert not np.isfinite(result.uncertainty.at(points))[depth < -1e-3].any()


def test_every_shipped_model_with_attention_is_calibrated_before_and_after_optimization():
    """Without coordinate attention there is nothing to be uncertain by, and a registration says so."""
    shipped = {name for name, info in registry.MODELS.items() if info.shipped and info.attention_parameters}
    assert shipped and {name: set(stages) for name, stages in calibrations().items()} == {
        name: {"network", "final"} for name in shipped
    }


def test_the_rotation_models_bound_holds_for_its_map(by_the_rotation_model, amount):
    within = np.concatenate([true <= bound for true, _, bound, _ in by_the_rotation_model])
    assert amount.within[0] <= np.mean(within) <= amount.within[1]
