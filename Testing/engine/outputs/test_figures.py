"""Quality figures against independent formulas (SimpleITK, scikit-image, plain loops)."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.outputs import figures


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    fixed = rng.normal(size=(22, 25, 28)).astype(np.float32).cumsum(axis=0).cumsum(axis=1)
    return fixed, (0.6 * fixed + 3 * rng.normal(size=fixed.shape) + 40).astype(np.float32)


def test_ncc(pair):
    fixed, moving = pair
    assert figures.ncc(fixed.ravel(), moving.ravel()) == pytest.approx(
        np.corrcoef(fixed.ravel().astype(float), moving.ravel())[0, 1], abs=1e-5
    )
    assert figures.ncc(fixed.ravel(), np.full(fixed.size, 3.0, np.float32)) is None
    assert figures.ncc(np.zeros(0, np.float32), np.zeros(0, np.float32)) is None


def test_mutual_information(pair):
    fixed, moving = (array.ravel().astype(float) for array in pair)
    ranges = (figures.percentiles(pair[0]), figures.percentiles(pair[1]))
    counts, _, _ = np.histogram2d(np.clip(fixed, *ranges[0]), np.clip(moving, *ranges[1]), bins=32, range=ranges)
    p = counts / counts.sum()

    def entropy(q):
        return -(q[q > 0] * np.log(q[q > 0])).sum()

    expected = entropy(p.sum(axis=0)) + entropy(p.sum(axis=1)) - entropy(p)
    found = figures.mutual_information(fixed, moving, *ranges)
    assert found == pytest.approx(expected, abs=2e-3)
    # Of an image with itself it is the entropy of its histogram.
    own = figures.mutual_information(fixed, fixed, ranges[0], ranges[0])
    assert own == pytest.approx(entropy(p.sum(axis=1)), abs=2e-3)


def test_mutual_information_as_scikit_image_counts_it(pair):
    metrics = pytest.importorskip("skimage.metrics")
    fixed, moving = pair
    ranges = ((float(fixed.min()), float(fixed.max())), (float(moving.min()), float(moving.max())))
    normalized = metrics.normalized_mutual_information(fixed, moving, bins=32)
    joint = np.histogram2d(fixed.ravel(), moving.ravel(), bins=32)[0]
    p = joint / joint.sum()
    joint_entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
    expected = (normalized - 1.0) * joint_entropy
    assert figures.mutual_information(fixed.ravel(), moving.ravel(), *ranges) == pytest.approx(expected, abs=5e-3)


def test_lncc_is_the_mean_over_windows(pair):
    fixed, moving = pair
    valid = np.ones(fixed.shape, dtype=bool)
    valid[:, :, 20:] = False
    centers = np.zeros_like(valid)
    centers[4:18, 4:20, 4:26] = True
    expected = []
    for k in range(0, 22, 3):
        for j in range(0, 25, 3):
            for i in range(0, 28, 3):
                window = tuple(slice(max(c - 3, 0), c + 4) for c in (k, j, i))
                use = valid[window]
                if centers[k, j, i] and use.sum() >= 0.5 * 343:
                    a, b = fixed[window][use].astype(float), moving[window][use].astype(float)
                    expected.append(np.corrcoef(a, b)[0, 1])
    found = figures.lncc(fixed, moving, valid, centers)
    assert len(expected) > 50
    assert found == pytest.approx(np.mean(expected), abs=1e-3)
    assert figures.lncc(fixed, fixed * 3 + 7, valid, centers) == pytest.approx(1.0, abs=1e-4)
    assert figures.lncc(fixed, -fixed, valid, centers) == pytest.approx(-1.0, abs=1e-4)
    assert figures.lncc(fixed, moving, np.zeros_like(valid), centers) is None


def test_dice_as_sitk_counts_it():
    rng = np.random.default_rng(0)
    fixed = rng.integers(0, 6, (12, 13, 14)).astype(np.uint8)
    moving = np.where(rng.random(fixed.shape) < 0.6, fixed, rng.integers(0, 6, fixed.shape)).astype(np.uint8)
    moving[moving == 5] = 0
    oracle = sitk.LabelOverlapMeasuresImageFilter()
    oracle.Execute(sitk.GetImageFromArray(fixed), sitk.GetImageFromArray(moving))
    found = figures.dice_per_label(fixed, moving, [1, 2, 3, 4, 5])
    for label in (1, 2, 3, 4):
        assert found[label] == pytest.approx(oracle.GetDiceCoefficient(label), abs=1e-12)
    assert found[5] == 0.0


def test_jacobian_figures():
    values = np.array([[[-0.5, 0.0, 0.5, 1.0, 2.0, 99.0]]], dtype=np.float32)
    body = np.array([[[True, True, True, True, True, False]]])
    found = figures.jacobian_figures(values, body)
    assert found["fold_percent"] == pytest.approx(40.0)
    assert (found["min"], found["max"]) == (-0.5, 2.0)
    assert found["sd_log"] == pytest.approx(np.std(np.log([0.5, 1.0, 2.0])), abs=1e-6)


def test_body_is_above_the_first_percentile_plus_a_twentieth():
    rng = np.random.default_rng(0)
    fixed = np.full((20, 20, 20), -1000.0, np.float32)
    fixed[5:15, 5:15, 5:15] = rng.uniform(-100, 300, (10, 10, 10))
    body = figures.body_of(fixed)
    low, high = np.percentile(fixed, (1, 99))
    np.testing.assert_array_equal(body, fixed > low + 0.05 * (high - low))
    assert body.sum() == 1000
