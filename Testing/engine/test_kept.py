"""What is kept from one pair to the next is what would be made again, and only while nothing about it has changed."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch
from carlreg import RegistrationSettings
from carlreg.kept import Kept, keeping, kept
from carlreg.models import registry
from carlreg.registration.pair import prepare_pair
from carlreg.spaces import VolumeGrid
from carlreg.volumes import volume_from_image


def test_the_last_of_each_kind_is_kept_and_gone_before_the_next_is_made():
    keeper, made = Kept(), []

    def make(value):
        made.append((value, dict(keeper._last)))
        return value

    found = [keeper.get("a", key, lambda key=key: make(key)) for key in (1, 1, 2, 1)]
    assert found == [1, 1, 2, 1]
    assert made == [(1, {}), (2, {}), (1, {})]
    assert kept() is None
    with keeping(keeper):
        assert kept() is keeper
    assert kept() is None


def test_a_network_is_loaded_once_and_random_numbers_go_on_alike(tmp_path):
    file = tmp_path / "weights.safetensors"
    shutil.copy(registry.model_info("carl-compact").shipped_file, file)

    def load():
        torch.manual_seed(3)
        return registry.load("carl-compact", file).network, torch.rand(2)

    _, numbers = load()
    with keeping(Kept()):
        first, again = load(), load()
        os.utime(file, ns=(1, 1))
        changed = load()
    assert first[0] is again[0]
    assert changed[0] is not first[0]
    for _, after in (first, again, changed):
        assert torch.equal(after, numbers)


@pytest.mark.parametrize("margin", [0, 5])  # padding, which is cut away
def test_a_fixed_volume_is_prepared_once(margin):
    array = np.random.default_rng(0).normal(100, 20, (20, 22, 24)).astype(np.float32)
    array = np.pad(array, ((margin, 0), (0, 0), (0, 0)))

    def volume(values, name, x=0.0):
        size = tuple(reversed(values.shape))
        return volume_from_image(VolumeGrid(size, np.ones(3), np.array([x, 0, 0]), np.eye(3)).image(values), name)

    moving, settings = volume(array[::-1].copy(), "moving"), RegistrationSettings()
    mask = volume((array > 90).astype(np.uint8), "mask")
    alone = prepare_pair(volume(array, "one"), moving, None, None, settings)
    with keeping(Kept()):
        first = prepare_pair(volume(array, "one"), moving, None, None, settings)
        again = prepare_pair(volume(array, "two"), moving, None, None, settings)
        elsewhere = prepare_pair(volume(array, "two", 5.0), moving, None, None, settings)
        masked = prepare_pair(volume(array, "two"), moving, mask, None, settings)
    assert again.fixed.voxels_dhw is first.fixed.voxels_dhw
    assert torch.equal(again.fixed.voxels_dhw, alone.fixed.voxels_dhw)
    assert (again.fixed_view.name, first.fixed_view.name) == ("two", "one")
    assert again.fixed_view.grid.same_as(alone.fixed_view.grid)
    assert again.fixed._coarse is not first.fixed._coarse
    assert elsewhere.fixed.grid.origin_lps[0] == alone.fixed.grid.origin_lps[0] + 5
    assert masked.fixed.mask_dhw is not None
