"""Quality figures against independent formulas (SimpleITK, scikit-image, plain loops)."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.physical import PhysicalTransform
from carlreg.physical.jacobian import jacobian_determinant
from carlreg.quality import metrics
from carlreg.spaces import VolumeGrid
from scipy import ndimage
from support.geometry import OBLIQUE, positions


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    fixed = rng.normal(size=(22, 25, 28)).astype(np.float32).cumsum(axis=0).cumsum(axis=1)
    return fixed, (0.6 * fixed + 3 * rng.normal(size=fixed.shape) + 40).astype(np.float32)


def test_ncc(pair):
    fixed, moving = pair
    assert metrics.ncc(fixed.ravel(), moving.ravel()) == pytest.approx(
        np.corrcoef(fixed.ravel().astype(float), moving.ravel())[0, 1], abs=1e-5
    )
    assert metrics.ncc(fixed.ravel(), np.full(fixed.size, 3.0, np.float32)) is None
    assert metrics.ncc(np.zeros(0, np.float32), np.zeros(0, np.float32)) is None


def test_mutual_information(pair):
    fixed, moving = (array.ravel().astype(float) for array in pair)
    ranges = (metrics.percentiles(pair[0]), metrics.percentiles(pair[1]))
    counts, _, _ = np.histogram2d(np.clip(fixed, *ranges[0]), np.clip(moving, *ranges[1]), bins=32, range=ranges)
    p = counts / counts.sum()

    def entropy(q):
        return -(q[q > 0] * np.log(q[q > 0])).sum()

    expected = entropy(p.sum(axis=0)) + entropy(p.sum(axis=1)) - entropy(p)
    found = metrics.mutual_information(fixed, moving, *ranges)
    assert found == pytest.approx(expected, abs=2e-3)
    # Of an image with itself it is the entropy of its histogram.
    own = metrics.mutual_information(fixed, fixed, ranges[0], ranges[0])
    assert own == pytest.approx(entropy(p.sum(axis=1)), abs=2e-3)


def test_mutual_information_as_scikit_image_counts_it(pair):
    scikit = pytest.importorskip("skimage.metrics")
    fixed, moving = pair
    ranges = ((float(fixed.min()), float(fixed.max())), (float(moving.min()), float(moving.max())))
    normalized = scikit.normalized_mutual_information(fixed, moving, bins=32)
    joint = np.histogram2d(fixed.ravel(), moving.ravel(), bins=32)[0]
    p = joint / joint.sum()
    joint_entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
    expected = (normalized - 1.0) * joint_entropy
    assert metrics.mutual_information(fixed.ravel(), moving.ravel(), *ranges) == pytest.approx(expected, abs=5e-3)


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
    found = metrics.lncc(fixed, moving, valid, centers)
    assert len(expected) > 50
    assert found == pytest.approx(np.mean(expected), abs=1e-3)
    assert metrics.lncc(fixed, fixed * 3 + 7, valid, centers) == pytest.approx(1.0, abs=1e-4)
    assert metrics.lncc(fixed, -fixed, valid, centers) == pytest.approx(-1.0, abs=1e-4)
    assert metrics.lncc(fixed, moving, np.zeros_like(valid), centers) is None


@pytest.mark.parametrize("thickness", [1, 2, 3, 5])
def test_lncc_of_a_thin_volume(thickness):
    fixed = np.random.default_rng(0).normal(size=(30, thickness, 28)).astype(np.float32)
    everywhere = np.ones(fixed.shape, dtype=bool)
    assert metrics.lncc(fixed, 3 * fixed + 7, everywhere, everywhere) == pytest.approx(1.0, abs=1e-4)
    unrelated = np.random.default_rng(1).normal(size=fixed.shape).astype(np.float32)
    assert abs(metrics.lncc(fixed, unrelated, everywhere, everywhere)) < 0.15


def test_dice_as_sitk_counts_it():
    rng = np.random.default_rng(0)
    fixed = rng.integers(0, 6, (12, 13, 14)).astype(np.uint8)
    moving = np.where(rng.random(fixed.shape) < 0.6, fixed, rng.integers(0, 6, fixed.shape)).astype(np.uint8)
    moving[moving == 5] = 0
    oracle = sitk.LabelOverlapMeasuresImageFilter()
    oracle.Execute(sitk.GetImageFromArray(fixed), sitk.GetImageFromArray(moving))
    found = metrics.dice_per_label(fixed, moving, [1, 2, 3, 4, 5])
    for label in (1, 2, 3, 4):
        assert found[label] == pytest.approx(oracle.GetDiceCoefficient(label), abs=1e-12)
    assert found[5] == 0.0


def test_jacobian_metrics():
    values = np.array([[[-0.5, 0.0, 0.5, 1.0, 2.0, 99.0]]], dtype=np.float32)
    body = np.array([[[True, True, True, True, True, False]]])
    found = metrics.jacobian_metrics(values, body)
    assert found["fold_percent"] == pytest.approx(40.0)
    assert (found["min"], found["max"]) == (-0.5, 2.0)
    assert found["sd_log"] == pytest.approx(np.std(np.log([0.5, 1.0, 2.0])), abs=1e-6)


def test_body_is_above_the_first_percentile_plus_a_twentieth():
    rng = np.random.default_rng(0)
    fixed = np.full((20, 20, 20), -1000.0, np.float32)
    fixed[5:15, 5:15, 5:15] = rng.uniform(-100, 300, (10, 10, 10))
    body = metrics.body_of(fixed)
    low, high = np.percentile(fixed, (1, 99))
    np.testing.assert_array_equal(body, fixed > low + 0.05 * (high - low))
    assert body.sum() == 1000


def test_histogram_and_percentiles_of_the_determinant():
    values = np.exp2(np.random.default_rng(0).normal(0.1, 0.7, (30, 30, 30))).astype(np.float32)
    values[0, 0, :5] = [-1.0, 0.0, 1e-9, 1e9, 1.0]
    body = np.ones_like(values, dtype=bool)
    body[:, :, 20:] = False
    found = metrics.jacobian_metrics(values, body)
    inside = values[body].astype(float)
    edges = np.array(found["histogram"]["log2_edges"])
    assert edges[0] == -edges[-1] and 0.0 in edges and len(edges) == len(found["histogram"]["counts"]) + 1
    expected, _ = np.histogram(np.clip(np.log2(inside[inside > 0]), edges[0], edges[-1]), edges)
    assert sum(found["histogram"]["counts"]) == (inside > 0).sum()  # folds are in no bin
    assert np.abs(expected - found["histogram"]["counts"]).max() <= 2  # a value on an edge may fall on either side
    assert found["mean"] == pytest.approx(inside.mean(), rel=1e-5)
    assert found["sd"] == pytest.approx(inside.std(), rel=1e-5)
    for percent in (1, 5, 50, 95, 99):
        assert found[f"p{percent}"] == pytest.approx(np.percentile(inside, percent), rel=1e-5)


@pytest.mark.parametrize(
    "direction", [np.eye(3), np.diag([-1.0, 1.0, -1.0]), OBLIQUE], ids=["identity", "flip", "oblique"]
)
def test_a_planted_fold_is_found_where_it_is_with_its_volume(direction):
    spacing, size = np.array([1.5, 1.25, 1.75]), np.array([40, 44, 38])
    grid = VolumeGrid(size, spacing, np.array([20.0, -70, 130]) - direction @ (size * spacing / 2), direction)
    points = positions(grid)
    centers, widths = [np.array([14.0, -66.0, 122.0]), np.array([30.0, -80.0, 145.0])], (7.0, 4.0)

    def push(x, center, width):
        """Along L, toward the center: 1 + d/dL is negative near the center."""
        return -2.5 * (x - center)[..., 0] * np.exp(-0.5 * ((x - center) ** 2).sum(-1) / width**2)

    displacement = np.zeros((*grid.shape_dhw, 3), np.float32)
    for center, width in zip(centers, widths, strict=True):
        displacement[..., 0] += push(points, center, width)
    determinant = jacobian_determinant(PhysicalTransform(np.eye(4), displacement, grid), grid)
    found = metrics.fold_regions(determinant, np.ones(grid.shape_dhw, bool), grid)
    assert found["fold_regions"] == len(found["folds"]) == 2
    for fold, center, width in zip(found["folds"], centers, widths, strict=True):
        # The analytic determinant on a fine lattice around the center.
        axis = np.arange(-1.2 * width, 1.2 * width, 0.1)
        x = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
        slope = -2.5 * (1 - x[..., 0] ** 2 / width**2) * np.exp(-0.5 * (x**2).sum(-1) / width**2)
        volume = (1 + slope <= 0).sum() * 0.1**3
        assert fold["volume_mm3"] == pytest.approx(volume, rel=0.12)
        assert fold["voxels"] * spacing.prod() == pytest.approx(fold["volume_mm3"])
        np.testing.assert_allclose(fold["center_lps"], center, atol=0.35)
    # What lies outside the body does not count.
    near_second = np.linalg.norm(points - centers[1], axis=-1) < 10
    assert metrics.fold_regions(determinant, near_second, grid)["fold_regions"] == 1


def test_many_folds_are_counted_and_the_largest_listed():
    determinant = np.ones((30, 30, 30), np.float32)
    determinant[::2, ::2, ::2] = -1  # 3375 single voxels, none touching another
    determinant[10:13, 10:13, 10:13] = -1
    grid = VolumeGrid((30, 30, 30), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    found = metrics.fold_regions(determinant, np.ones(determinant.shape, bool), grid)
    oracle, count = ndimage.label(determinant <= 0, np.ones((3, 3, 3)))
    sizes = np.sort(np.bincount(oracle.ravel())[1:])[::-1]
    assert found["fold_regions"] == count > 100
    assert [fold["voxels"] for fold in found["folds"]] == sizes[:100].tolist()
    assert metrics.fold_regions(np.abs(determinant), np.ones(determinant.shape, bool), grid)["folds"] == []


def test_uncertainty_metrics_leave_out_what_is_unknown():
    values = np.array([[[1.0, 2.0, 3.0, np.nan, 99.0]]], np.float32)
    found = metrics.uncertainty_metrics(values, np.array([[[True, True, True, True, False]]]))
    assert found["mean_mm"] == found["median_mm"] == pytest.approx(2.0)
    assert found["p90_mm"] == pytest.approx(2.8) and found["unknown_percent"] == pytest.approx(25.0)
    assert metrics.uncertainty_metrics(values * np.nan, values > 0) is None


@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e4])
def test_the_size_of_a_body(factor):
    body = np.zeros((40, 50, 60), dtype=bool)
    body[10:30, 5:45, 20:50] = True
    body[39, 0, 0] = True  # a stray voxel
    grid = VolumeGrid((60, 50, 40), factor * np.array([1.0, 2.0, 3.0]), np.zeros(3), np.eye(3))
    assert metrics.size_mm(body, grid) == pytest.approx(factor * np.linalg.norm([30.0, 80.0, 60.0]))
    assert metrics.size_mm(np.zeros_like(body), grid) == pytest.approx(np.linalg.norm(grid.extent_mm))


def test_how_much_larger_the_moving_image_is():
    turn = np.asarray(OBLIQUE)
    matrix = np.eye(4)
    for stretches, mean, stretched in (
        ((1.8, 1.8, 1.8), 1.8, 1.0),
        ((1, 1, 2), 2 ** (1 / 3), 2.0),
        ((0.4, 1, 1), 0.4 ** (1 / 3), 0.4),
    ):
        matrix[:3, :3] = turn @ np.diag(stretches) @ turn.T
        found = metrics.size_change(matrix)
        assert found["mean"] == pytest.approx(mean) and found["stretched"] == pytest.approx(stretched)
