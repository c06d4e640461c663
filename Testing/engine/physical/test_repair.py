"""Planted folds vanish; the rest of the field stays bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from carlreg.errors import InputError
from carlreg.physical import repair_folds
from carlreg.physical.repair import smallest_determinants

SPACING = np.array([1.5, 2.0, 1.0])
DIRECTION = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]


def corner_determinants(field: np.ndarray, direction: np.ndarray, by_node: bool = False) -> np.ndarray:
    """All one-sided Jacobian determinants, the smallest of each cell or node, slowly: an independent check."""
    h = SPACING
    positions = np.stack(np.meshgrid(*(np.arange(n) for n in field.shape[2::-1]), indexing="ij"), axis=-1) * h
    mapped = positions.transpose(2, 1, 0, 3) @ direction.T + field
    worst, at_nodes = np.full(tuple(n - 1 for n in field.shape[:3]), np.inf), np.full(field.shape[:3], np.inf)
    d, hh, w = worst.shape
    for a in (0, 1):
        for b in (0, 1):
            for c in (0, 1):
                di = (mapped[a : a + d, b : b + hh, 1:] - mapped[a : a + d, b : b + hh, :-1]) / h[0]
                dj = (mapped[a : a + d, 1:, c : c + w] - mapped[a : a + d, :-1, c : c + w]) / h[1]
                dk = (mapped[1:, b : b + hh, c : c + w] - mapped[:-1, b : b + hh, c : c + w]) / h[2]
                jacobian = np.stack([di, dj, dk], axis=-1)
                found = np.linalg.det(jacobian) * np.linalg.det(direction)
                worst = np.minimum(worst, found)
                corner = (slice(a, a + d), slice(b, b + hh), slice(c, c + w))
                at_nodes[corner] = np.minimum(at_nodes[corner], found)
    return at_nodes if by_node else worst


def smooth_field(shape=(24, 28, 30)) -> np.ndarray:
    k, j, i = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return np.stack([np.sin(i / 7), np.cos(j / 6 + k / 9), 0.8 * np.sin(k / 5)], axis=-1).astype(np.float32)


@pytest.mark.parametrize("direction", [np.eye(3), DIRECTION], ids=["axes", "oblique"])
def test_planted_folds_are_repaired_locally(direction):
    clean = smooth_field() @ direction.T.astype(np.float32)
    assert corner_determinants(clean, direction).min() > 0.4
    field = clean.copy()
    field[10, 12, 14] += 6.0 * direction[:, 0]
    field[16, 20:22, 8] -= 5.0 * direction[:, 1]
    assert corner_determinants(field, direction).min() < -1.0
    kept = field.copy()
    repaired, report = repair_folds(field, SPACING, direction=direction)
    np.testing.assert_array_equal(field, kept)  # the input is not written to
    assert corner_determinants(repaired, direction).min() > 0.05
    assert report["left"] == 0
    assert report["damping"] == 1.0
    assert report["nodes"] > 0
    changed = (repaired != field).any(axis=-1)
    assert report["changed"] == changed.sum()
    far = np.ones(changed.shape, dtype=bool)
    far[3:24, 4:28, 1:22] = False
    assert not changed[far].any()
    assert np.abs(repaired - clean).max() < 2.0


def test_nothing_to_repair_returns_the_same_array():
    field = smooth_field()
    repaired, report = repair_folds(field, SPACING)
    assert repaired is field
    assert report["nodes"] == report["changed"] == 0


def test_noise_everywhere_ends_without_folds():
    field = np.random.default_rng(0).normal(scale=4.0, size=(12, 14, 16, 3)).astype(np.float32)
    repaired, report = repair_folds(field, SPACING, min_determinant=0.1)
    assert corner_determinants(repaired, np.eye(3)).min() > 0.1
    assert report["left"] == 0


def test_a_collapse_of_the_whole_volume_ends():
    k, j, i = np.meshgrid(*(np.arange(n) for n in (11, 12, 13)), indexing="ij")
    field = (-2.0 * np.stack([i, j, k], axis=-1) * SPACING).astype(np.float32)
    repaired, report = repair_folds(field, SPACING)
    assert corner_determinants(repaired, np.eye(3)).min() > 0.05
    assert report["left"] == 0


def test_frozen_nodes_stay():
    field = smooth_field()
    field[10, 12, 14, 0] += 6.0
    frozen = np.zeros(field.shape[:3], dtype=bool)
    frozen[:8] = True
    repaired, report = repair_folds(field, SPACING, frozen=frozen)
    np.testing.assert_array_equal(repaired[:8], field[:8])
    assert report["left"] == 0


@pytest.mark.parametrize(("along", "across"), [(14.0, 21.0), (15.0, 20.0), (17.0, 18.0)])
def test_folds_in_a_fade_beside_frozen_nodes(along, across):
    """A compressed field that fades out: next to frozen nodes little helps, further away it takes wide means."""
    k, j, i = np.meshgrid(*(np.arange(n, dtype=float) for n in (40, 36, 44)), indexing="ij")
    share = np.clip((34 - i) / 16, 0, 1)
    fade = 0.5 - 0.5 * np.cos(np.pi * share)
    wave = -across * np.sin((2 * j - 36) / 23.5) * np.exp(-(((k - 20) / 12) ** 2))
    field = (np.stack([np.full_like(wave, along), wave, 0 * wave], axis=-1) * fade[..., None]).astype(np.float32)
    frozen = share >= 1
    assert (corner_determinants(field, np.eye(3)) < 0.05).sum() > 100
    repaired, report = repair_folds(field, SPACING, frozen=frozen)
    np.testing.assert_array_equal(repaired[frozen], field[frozen])
    assert report["left"] == 0 and corner_determinants(repaired, np.eye(3)).min() > 0.05
    assert np.abs(repaired - field).max() < 2.0
    assert report["visits"] < 20 * field[..., 0].size


def big_folds() -> np.ndarray:
    """Three balls of radius 9 to 16 nodes, each collapsed beyond its center: thousands of nodes fold."""
    shape = (56, 60, 64)
    grid = (
        np.stack(np.meshgrid(*(np.arange(n) for n in shape[::-1]), indexing="ij"), -1).transpose(2, 1, 0, 3) * SPACING
    )
    field = np.zeros((*shape, 3), np.float32)
    for center, radius in (([25, 40, 25], 20.0), ([70, 90, 30], 24.0), ([30, 90, 40], 14.0)):
        away = grid - np.array(center, dtype=float)
        field -= (2 * away * np.clip(1.4 - np.linalg.norm(away, axis=-1) / radius, 0, 1)[..., None]).astype(np.float32)
    return field


def test_big_folds_are_repaired_within_bounded_work():
    field = big_folds()
    image = sitk.GetImageFromArray(field.astype(np.float64), isVector=True)
    image.SetSpacing(SPACING.tolist())
    jacobian = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))
    assert (jacobian <= 0).sum() > 3000
    repaired, report = repair_folds(field, SPACING)
    image = sitk.GetImageFromArray(repaired.astype(np.float64), isVector=True)
    image.SetSpacing(SPACING.tolist())
    jacobian = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))
    inner = (slice(1, -1),) * 3  # ITK's derivatives are zero beyond the border
    assert (jacobian[inner] > 0.04).all()
    assert report["left"] == 0 and report["damping"] == 1.0
    assert report["visits"] < 30 * field[..., 0].size


def test_work_without_end_is_cut_short_and_said(monkeypatch):
    monkeypatch.setattr("carlreg.physical.repair._MOST_VISITS", 0)
    repaired, report = repair_folds(big_folds(), SPACING)
    assert report["rounds"] == 0 and report["damping"] < 1.0
    assert report["left"] == 0 and corner_determinants(repaired, np.eye(3)).min() > 0.05
    frozen = np.zeros(repaired.shape[:3], dtype=bool)
    frozen[20:30, 20:30, 20:30] = True
    field = big_folds()
    repaired, report = repair_folds(field, SPACING, frozen=frozen)
    np.testing.assert_array_equal(repaired[frozen], field[frozen])
    assert (
        report["left"]
        == (smallest_determinants(torch.tensor(repaired.transpose(3, 0, 1, 2).tolist()), SPACING) <= 0.05).sum()
    )
    assert report["left"] > 0


def test_regions_far_apart_are_repaired_each_by_itself():
    field = np.zeros((24, 30, 200, 3), np.float32)
    for at in (12, 190):
        field[12, 15, at, 0] = 9.0
    repaired, report = repair_folds(field, SPACING)
    assert report["left"] == 0 and not (repaired[:, :, 60:150] != 0).any()
    assert report["visits"] < 2 * report["rounds"] * 30**3


def test_wrong_arguments():
    with pytest.raises(InputError, match="shape"):
        repair_folds(np.zeros((3, 4, 4, 4), np.float32), SPACING)
    with pytest.raises(InputError, match="between 0 and 1"):
        repair_folds(smooth_field(), SPACING, min_determinant=0.0)


def scattered_folds() -> np.ndarray:
    """Single nodes far off, fifty of them, some at the border and some next to each other."""
    field = smooth_field((44, 50, 56))
    rng = np.random.default_rng(5)
    places = rng.integers(0, field.shape[:3], size=(50, 3))
    field[tuple(places.T)] += rng.normal(scale=6.0, size=(50, 3)).astype(np.float32)
    return field


def test_scattered_folds_cost_what_is_around_them():
    field = scattered_folds()
    assert (corner_determinants(field, np.eye(3)) <= 0).sum() > 100
    repaired, report = repair_folds(field, SPACING)
    assert corner_determinants(repaired, np.eye(3)).min() > 0.05
    assert report["left"] == 0 and report["damping"] == 1.0
    assert report["visits"] < 4 * field[..., 0].size
    assert report["changed"] < 0.3 * field[..., 0].size
    np.testing.assert_allclose(repaired, smooth_field((44, 50, 56)), atol=1.5)


def test_scattered_folds_beside_and_among_frozen_nodes():
    field = scattered_folds()
    frozen = np.zeros(field.shape[:3], dtype=bool)
    frozen[10:30, 12:36, 14:40] = True
    repaired, report = repair_folds(field, SPACING, frozen=frozen)
    np.testing.assert_array_equal(repaired[frozen], field[frozen])
    assert (
        report["left"] == (smallest_determinants(torch.tensor(repaired.transpose(3, 0, 1, 2)), SPACING) <= 0.05).sum()
    )
    determinants = corner_determinants(repaired, np.eye(3))
    reached = np.ones(determinants.shape, dtype=bool)  # cells without a frozen node
    reached[9:30, 11:36, 13:40] = False
    assert determinants[reached].min() > 0.05


@pytest.mark.parametrize("direction", [None, DIRECTION, DIRECTION * [1, 1, -1]], ids=["axes", "oblique", "mirrored"])
def test_smallest_determinants_are_those_of_all_corners_at_each_node(direction):
    axes = np.eye(3) if direction is None else direction
    field = np.random.default_rng(1).normal(size=(19, 21, 23, 3)).astype(np.float32)
    found = smallest_determinants(torch.tensor(field.transpose(3, 0, 1, 2)), SPACING, direction).numpy()
    np.testing.assert_allclose(found, corner_determinants(field, axes, by_node=True), rtol=1e-4, atol=1e-5)
