"""Estimates before a run: in the right order of magnitude, growing with what grows."""

import pytest
from carlreg.models.catalog import MODELS
from carlreg.resources import by_model, cpu_seconds, memory_mb, optimization_seconds
from carlreg.settings import RegistrationSettings

SMALL, BRAIN, LARGE = 500_000, 7_000_000, 512 * 512 * 400
# Seconds beside the default model's, of those that take any size; see docs/results.md for the pairs they come from.
OTHERS = {"eoir": -3.0, "constricon": 5.0}


@pytest.mark.parametrize("name", MODELS)
def test_published_networks_cost_more_and_their_size_is_their_own(name):
    small, large = (memory_mb(SMALL, SMALL, RegistrationSettings(model=name, grid=grid)) for grid in (128, 256))
    default = RegistrationSettings()
    assert (small == large > 6000) == (MODELS[name].trained_shape_dhw is not None)
    slower = cpu_seconds(SMALL, SMALL, RegistrationSettings(model=name)) - cpu_seconds(SMALL, SMALL, default)
    assert slower == pytest.approx(80.0 if MODELS[name].published_weights else OTHERS.get(name, 0.0))


def test_a_pair_has_an_estimate_for_each_model():
    found = by_model(BRAIN, SMALL)
    assert list(found) == list(MODELS)
    default = RegistrationSettings(model="unigradicon")
    assert found["unigradicon"].seconds == cpu_seconds(BRAIN, SMALL, default)
    assert found["unigradicon"].memory_mb == memory_mb(BRAIN, SMALL, default) > found["carl-compact"].memory_mb


def test_the_map_as_a_function_needs_no_lattice_of_the_images_size():
    """Measured: 250 MB at any size; the spline field 846 MB at 256 voxels per edge."""
    settings = {
        method: RegistrationSettings(model="nephi", grid=64, io_method=method) for method in ("field", "functional")
    }
    needs = {method: memory_mb(256**3, 256**3, each) for method, each in settings.items()}
    assert needs["field"] - needs["functional"] > 300


def test_memory_covers_what_was_measured():
    """Peaks of whole processes with the defaults: brain pair 1.2 GB, 512 x 512 x 400 pair 3.4 GB."""
    default = RegistrationSettings()
    assert 1.2 * 1024 < memory_mb(BRAIN, BRAIN, default) < 3 * 1024
    assert 3.4 * 1024 < memory_mb(LARGE, LARGE, default) < 8 * 1024


@pytest.mark.parametrize(
    ("model", "grid", "megabytes", "step_seconds"),
    [("carl-compact", 128, 15042, 52), ("eoir", 128, 5549, 15), ("constricon", 64, 2564, 6), ("nephi", 64, 9687, 14)],
)
def test_the_weights_optimization_is_as_large_as_it_was_measured(model, grid, megabytes, step_seconds):
    """Peaks of whole processes on the brain pair, and seconds per step on two CPU cores."""
    settings = RegistrationSettings(model=model, grid=grid, io_method="network", io_steps=50)
    assert 0.9 * megabytes < memory_mb(BRAIN, BRAIN, settings) < 1.6 * megabytes
    assert optimization_seconds(BRAIN, settings) / 50 == pytest.approx(step_seconds, rel=0.3)
    # A small pair has a small grid, whatever is asked for.
    assert memory_mb(32**3, 32**3, settings) < 0.6 * memory_mb(BRAIN, BRAIN, settings)


def test_time_is_of_the_order_measured():
    """Two CPU cores: small liver pair 13 s, brain pair 20 s on one machine and 44 s on another."""
    default = RegistrationSettings()
    assert 6 < cpu_seconds(SMALL, SMALL, default) < 30
    assert 15 < cpu_seconds(BRAIN, BRAIN, default) < 60


@pytest.mark.parametrize("estimate", [memory_mb, cpu_seconds])
def test_more_needs_more(estimate):
    default = RegistrationSettings()
    assert estimate(SMALL, SMALL, default) < estimate(BRAIN, BRAIN, default) < estimate(LARGE, LARGE, default)
    network = RegistrationSettings(io_method="network", io_steps=100)
    assert estimate(BRAIN, BRAIN, default) < estimate(BRAIN, BRAIN, network)


def test_steps_and_rotation_take_time():
    def seconds(**settings):
        return cpu_seconds(BRAIN, BRAIN, RegistrationSettings(**settings))

    assert seconds(io_steps=0) < seconds(io_steps=100) < seconds(io_steps=300)
    assert seconds() < seconds(robustness="rotation")
