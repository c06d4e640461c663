"""Candidates for the affine start: robust fits of correspondences, and near copies dropped."""

import numpy as np
from carlreg.optimize.candidates import AffineCandidate, distinct, robust_affine, translation

from .scene import corner_error, pose


def test_robust_affine_ignores_a_third_of_outliers():
    rng = np.random.default_rng(0)
    fixed = rng.uniform(-100, 100, (600, 3))
    truth = pose([8, -12, 20], [30, 40, -50])
    truth[:3, :3] *= 1.06
    moving = fixed @ truth[:3, :3].T + truth[:3, 3] + rng.normal(0, 2, fixed.shape)
    moving[:200] = rng.uniform(-150, 150, (200, 3))
    found, agreement = robust_affine(fixed, moving, np.ones(600), least_scale_mm=5.0)
    assert corner_error(found, truth, radius=100) < 2.5
    assert 0.6 < agreement < 0.75


def test_robust_affine_trusts_weights():
    rng = np.random.default_rng(1)
    fixed = rng.uniform(-100, 100, (400, 3))
    moving = fixed + np.array([10, 0, 0])
    moving[:250] = fixed[:250] + np.array([0, 60, 0])
    weights = np.where(np.arange(400) < 250, 0.01, 1.0)
    found, _ = robust_affine(fixed, moving, weights, least_scale_mm=5.0)
    assert np.abs(found[:3, 3] - [10, 0, 0]).max() < 1.0


def test_distinct_drops_near_copies_only():
    starts = [
        AffineCandidate("a", np.eye(4)),
        AffineCandidate("b", translation([0.1, 0, 0])),
        AffineCandidate("c", translation([5, 0, 0])),
    ]
    assert [s.name for s in distinct(starts, np.zeros(3), 50.0, closer_than_mm=0.5)] == ["a", "c"]
