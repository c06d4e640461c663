"""The evaluation's parts: a robust affine, the network grid, and what the shipped attention reaches on real scans."""

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from carlreg.models import registry
from carlreg.models.compact_encoder import CompactEncoder
from carlreg.spaces import VolumeGrid
from carlreg.training.attention_stage import encoder_of
from carlreg.training.evaluate_attention import (
    attention_affine,
    centered,
    common_spacing,
    content_box_mm,
    fit_affine,
    load_encoder,
    load_pair,
    network_grid,
    on_grid,
    point_error_mm,
)
from carlreg.training.loop import Run
from carlreg.training.parallel import Ranks
from carlreg.training.saving import save_checkpoint

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from data_folder import MISSING, find_data_folder

from .conftest import small_config

OBLIQUE = np.linalg.qr(np.array([[1.0, 0.2, 0.1], [-0.2, 1.0, 0.3], [0.0, -0.3, 1.0]]))[0]
OBLIQUE = OBLIQUE * np.sign(np.diag(OBLIQUE))


def _points(count=400):
    return np.random.default_rng(0).uniform(-100, 100, (count, 3))


def test_affine_is_recovered_among_wrong_matches():
    rng = np.random.default_rng(1)
    fixed = _points()
    truth = np.eye(4)
    truth[:3, :3] += 0.1 * rng.standard_normal((3, 3))
    truth[:3, 3] = (40, -25, 60)
    moving = fixed @ truth[:3, :3].T + truth[:3, 3] + rng.standard_normal(fixed.shape)
    moving[:160] = rng.uniform(-100, 100, (160, 3))  # 40 % answer anywhere
    found = fit_affine(fixed, moving, np.ones(len(fixed)), scale_mm=5.0)
    error = np.linalg.norm((fixed @ (found - truth)[:3, :3].T) + (found - truth)[:3, 3], axis=1)
    plain = np.linalg.lstsq(np.c_[fixed, np.ones(len(fixed))], moving, rcond=None)[0].T
    assert np.linalg.norm(fixed @ (plain[:, :3] - truth[:3, :3]).T + plain[:, 3] - truth[:3, 3], axis=1).mean() > 10
    assert error.mean() < 2.5


def test_points_without_weight_do_not_count():
    fixed = _points()
    shift = np.array([5.0, 0.0, -3.0])
    moving = fixed + shift
    weight = np.ones(len(fixed))
    moving[:350] += 200
    weight[:350] = 1e-9
    found = fit_affine(fixed, moving, weight, scale_mm=5.0)
    np.testing.assert_allclose(found[:3, :3], np.eye(3), atol=1e-3)
    np.testing.assert_allclose(fixed @ found[:3, :3].T + found[:3, 3], fixed + shift, atol=0.05)


def test_network_grid_surrounds_the_content_and_resampling_equals_simpleitk():
    grid = VolumeGrid((40, 36, 30), [2.0, 2.0, 2.5], [10.0, -20.0, 5.0], OBLIQUE)
    volume = torch.zeros(30, 36, 40)
    volume[6:24, 8:30, 5:35] = torch.rand(18, 22, 30, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.5
    start, stop = content_box_mm(volume, grid)
    assert start.tolist() == [5, 8, 6] and stop.tolist() == [35, 30, 24]
    target = network_grid(volume, grid, 2.0, stride=8)
    assert all(n % 8 == 0 for n in target.size_ijk)
    np.testing.assert_allclose(target.center_lps, grid.cropped(start, stop).center_lps, atol=1e-9)
    image = sitk.GetImageFromArray(volume.numpy())
    reference = sitk.Image([int(n) for n in target.size_ijk], sitk.sitkFloat32)
    for holder, g in ((image, grid), (reference, target)):
        holder.SetSpacing([float(v) for v in g.spacing])
        holder.SetOrigin([float(v) for v in g.origin_lps])
        holder.SetDirection(g.direction.flatten().tolist())
    expected = sitk.GetArrayFromImage(sitk.Resample(image, reference, sitk.Transform(), sitk.sitkLinear, 0.0))
    assert np.abs(on_grid(volume, grid, target)[0, 0].numpy() - expected).max() < 1e-4
    shifted = network_grid(volume, grid, 2.0, stride=8, shift_mm=30.0)
    assert np.linalg.norm(shifted.center_lps - target.center_lps) == pytest.approx(30.0)


def test_the_encoder_comes_from_the_average_of_a_run(tmp_path):
    run = Run(small_config(), Ranks(0, 1, torch.device("cpu")))
    with torch.no_grad():
        for value in run.average.average.values():
            value.mul_(1.5)
    save_checkpoint(tmp_path / "checkpoint.pt", run.state())
    found = load_encoder(tmp_path / "checkpoint.pt").state_dict()
    averaged = encoder_of(run.averaged_network()).state_dict()
    for name, value in averaged.items():
        assert torch.equal(found[name], value)
    assert not torch.equal(found["project.layer.weight"], encoder_of(run.network).state_dict()["project.layer.weight"])


@pytest.fixture(scope="module")
def shipped_encoder() -> CompactEncoder:
    file = registry.MODELS["carl-compact"].shipped_file
    if file is None:
        pytest.skip("carl-compact ships no weights in this checkout")
    return load_encoder(file)


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "at_most"), [("lung", 7.0), ("eth19_1_6", 3.6)])
def test_shipped_attention_beats_centered_volumes_on_real_scans(shipped_encoder, name, at_most):
    folder = find_data_folder()
    if folder is None:
        pytest.skip(MISSING)
    pair = load_pair(folder, name)
    assert common_spacing(pair, 96, 8) > 0
    matrix, _ = attention_affine(shipped_encoder, pair, 96)
    error = point_error_mm(pair, matrix)
    assert error < point_error_mm(pair, centered(pair))
    assert error <= at_most
