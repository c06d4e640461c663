"""The evidence against plain formulas, the lattice, and where nothing is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from carlreg.errors import InputError
from carlreg.maps.exchange import array_from_tensor
from carlreg.models.attention import match
from carlreg.physical import PhysicalTransform, Uncertainty
from carlreg.preprocess import prepare
from carlreg.spaces import VolumeGrid
from carlreg.uncertainty import uncertainty_of
from carlreg.uncertainty.calibration import OFFSETS, Calibration, calibrations
from carlreg.uncertainty.estimate import _known
from carlreg.uncertainty.evidence import _dissimilarity, centers_lps, depths_mm, lattice, strain
from carlreg.volumes import volume_from_image
from scipy.ndimage import uniform_filter

OBLIQUE = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


def unmoved(shift=(0.0, 0.0, 0.0)) -> PhysicalTransform:
    affine = np.eye(4)
    affine[:3, 3] = shift
    grid = VolumeGrid((2, 2, 2), np.ones(3), np.zeros(3), np.eye(3))
    return PhysicalTransform(affine, np.zeros((2, 2, 2, 3), np.float32), grid)


def test_spread_of_attention_is_its_second_moment():
    generator = torch.Generator().manual_seed(0)
    moving = torch.randn(1, 6, 6, 5, 7, generator=generator)
    fixed = torch.randn(1, 6, 4, 5, 6, generator=generator)
    found = match(moving, fixed, 1, align_corners=False).spread_b1dhw[0, 0]
    # By the book, in float64: softmax over all keys, each at its index.
    keys, queries = (x[0].flatten(1).T.double().numpy() for x in (moving, fixed[:, :, 1:-1, 1:-1, 1:-1]))
    scores = np.exp(queries @ keys.T)
    scores /= scores.sum(1, keepdims=True)
    places = np.stack(np.meshgrid(*(np.arange(n) for n in (6, 5, 7)), indexing="ij"), -1).reshape(-1, 3)
    mean = scores @ places
    spread = np.sqrt((scores * ((places[None] - mean[:, None]) ** 2).sum(2)).sum(1))
    assert array_from_tensor(found).reshape(-1) == pytest.approx(spread, rel=1e-3)


def test_dissimilarity_against_scipy():
    a, b = (np.random.default_rng(n).random((20, 21, 22)) for n in (0, 1))
    b = 0.6 * a + 0.4 * b

    def mean(x):
        return uniform_filter(x, 11)

    covariance = mean(a * b) - mean(a) * mean(b)
    expected = 1 - covariance**2 / ((mean(a * a) - mean(a) ** 2) * (mean(b * b) - mean(b) ** 2))
    tensors = (torch.tensor(x.tolist())[None, None] for x in (a, b))
    found = array_from_tensor(_dissimilarity(*tensors)[0, 0])
    inner = (slice(5, -5),) * 3  # scipy mirrors at the edge
    assert found[inner] == pytest.approx(expected[inner], abs=0.01)


@pytest.mark.parametrize("shape", [(4, 21, 22), (1, 9, 22), (12, 2, 1), (1, 1, 1)])
def test_windows_wider_than_the_lattice_average_what_is_inside(shape):
    a = np.random.default_rng(0).random(shape)
    b = 0.5 * a + 0.5 * np.random.default_rng(1).random(shape)

    def mean(x):
        whole = uniform_filter(np.ones(shape), 11, mode="constant")
        return uniform_filter(x, 11, mode="constant") / whole

    covariance = mean(a * b) - mean(a) * mean(b)
    variances = [(mean(x * x) - mean(x) ** 2).clip(0) + 1e-4 for x in (a, b)]
    expected = 1 - covariance**2 / (variances[0] * variances[1])
    tensors = (torch.tensor(x.tolist())[None, None] for x in (a, b))
    assert array_from_tensor(_dissimilarity(*tensors)[0, 0]) == pytest.approx(expected, abs=2e-3)


def test_strain_on_a_lattice_of_one_node_along_an_axis():
    grid = VolumeGrid((6, 1, 4), (2.0, 3.0, 4.0), (1.0, 2.0, 3.0), OBLIQUE)
    stretched = centers_lps(grid) @ OBLIQUE @ np.diag([1.2, 1.5, 1.0]) @ OBLIQUE.T
    assert strain(stretched, grid) == pytest.approx(np.log(1.2) / np.sqrt(3), rel=1e-3)  # along j nothing is known
    single = VolumeGrid((1, 1, 1), (2.0, 3.0, 4.0), (1.0, 2.0, 3.0), OBLIQUE)
    assert strain(centers_lps(single), single) == pytest.approx(0.0)


def test_strain_of_a_known_stretch():
    grid = VolumeGrid((6, 5, 4), (2.0, 3.0, 4.0), (1.0, 2.0, 3.0), OBLIQUE)
    stretched = centers_lps(grid) @ np.diag([1.2, 1.0, 1.0])
    assert strain(stretched, grid) == pytest.approx(np.log(1.2) / np.sqrt(3), rel=1e-3)
    assert strain(centers_lps(grid) @ OBLIQUE.T, grid) == pytest.approx(0.0, abs=1e-4)


def test_depth_inside_a_box():
    grid = VolumeGrid((10, 10, 10), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0), np.eye(3))
    points = np.array([[4.5, 9.0, 13.5], [0.0, 9.0, 13.5], [-2.5, 9.0, 13.5], [4.5, 9.0, 27.0]])
    assert depths_mm(points, grid).min(1) == pytest.approx([5.0, 0.5, -2.0, 1.5])
    assert depths_mm(points, grid)[0] == pytest.approx([15.0, 10.0, 5.0])


def test_the_lattice_covers_any_volume_with_few_nodes():
    for size, voxel in (((512, 512, 400), 1.0), ((20, 300, 40), 2.0), ((5, 5, 5), 9.0)):
        fixed = VolumeGrid(size, (0.7, 0.7, 1.5), (10.0, -20.0, 30.0), OBLIQUE)
        grid = lattice(fixed, voxel)
        assert grid.voxel_count < 150_000 and depths_mm(fixed.corners_lps(), grid).min() >= 0


def ct_volume(filled_from: int):
    """40 planes of 2 mm, of which those from an index on are filling."""
    array = np.random.default_rng(0).normal(40, 20, (40, 32, 32)).astype(np.float32)
    array[:, :, :3] = -1000.0 + np.random.default_rng(1).normal(20, 5, (40, 32, 3))
    array[filled_from:] = -2000.0
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.0, 2.0))
    return volume_from_image(image, "ct")


def test_nothing_is_known_beyond_the_moving_volume_or_in_its_filling():
    fixed, moving = ct_volume(40), ct_volume(26)
    grid = lattice(fixed.grid, 1.0)
    shift = np.array([20.0, 0.0, 0.0])
    f, m = prepare(fixed, "ct"), prepare(moving, "ct")
    known = _known(unmoved(shift), f, m, grid, fixed.grid)
    found = Uncertainty(
        grid, np.ones(grid.shape_dhw), np.full(grid.shape_dhw, 2.0), known, unmoved(shift), moving.grid, ""
    )
    array = found.on_grid(fixed.grid)
    # x runs along the last axis: what lies less than 20 mm from its end maps beyond; planes from 26 on are filling.
    assert np.isnan(array[:, :, 22:]).all() and np.isfinite(array[:22, :, :22]).mean() > 0.999
    assert np.isnan(array[30:]).all()
    assert np.isfinite(array[:, :, :22]).mean() == pytest.approx(26 / 40, abs=0.06)
    assert array[0, 0, 0] == 2.0 and found.on_grid(fixed.grid, "expected")[0, 0, 0] == 1.0


def test_points_and_grid_agree():
    random = np.random.default_rng(0)
    fixed = VolumeGrid((21, 17, 13), (2.0, 2.5, 3.0), (5.0, -7.0, 11.0), OBLIQUE)
    grid = lattice(fixed, 1.5)
    bound, known = random.uniform(1, 5, grid.shape_dhw), random.uniform(-0.5, 2, grid.shape_dhw)
    shift = np.array([9.0, 0.0, 0.0])
    found = Uncertainty(grid, bound / 2, bound, known.astype(np.float32), unmoved(shift), fixed, "")
    array = found.on_grid(fixed)
    assert np.isnan(array).any() and np.isfinite(array).any()
    assert found.at(centers_lps(fixed)) == pytest.approx(array.reshape(-1), rel=1e-4, nan_ok=True)
    assert np.isnan(found.at([[1e4, 0, 0]])).all()
    with pytest.raises(InputError, match="expected, bound"):
        found.at([[0, 0, 0]], "variance")


def test_more_evidence_never_means_less_error():
    random = np.random.default_rng(0)
    for stages in calibrations().values():
        for calibration in stages.values():
            for numbers in (calibration.expected, calibration.bound):
                assert min(value for name, value in numbers.items() if name != "constant") > 0
            evidence = {name: random.uniform(0, 10, 50) for name in OFFSETS}
            before = calibration.voxels(evidence)
            for name in OFFSETS:
                after = calibration.voxels({**evidence, name: evidence[name] + 1})
                assert all((a >= b).all() for a, b in zip(after, before, strict=True))
            assert (before[1] >= before[0]).all() and (before[0] > 0).all()


def test_the_model_is_the_documented_formula():
    numbers = {"constant": 0.5, "floor": 2.0, "attention": 2.0, "edge": 1.0}
    evidence = {"attention": np.array([3.0]), "edge": np.array([0.4])}
    expected, bound = Calibration(numbers, {"constant": -9.0, "floor": 1.0}).voxels(evidence)
    by_hand = np.hypot(np.exp(0.5) * (3.0 + OFFSETS["attention"]) ** 2 * (0.4 + OFFSETS["edge"]), 2.0)
    assert expected == pytest.approx(by_hand) and bound == pytest.approx(by_hand)  # never below the expected error


@pytest.mark.parametrize(
    ("name", "spread", "words"),
    [
        ("untrained", None, "untrained weights"),
        ("carl-compact", torch.ones(1), "carl-compact ran without a trained refinement"),
        ("unigradicon", None, "unigradicon has no coordinate attention"),
        ("carl-paper-brain", torch.ones(1), "carl-paper-brain was not calibrated"),
    ],
)
def test_no_uncertainty_says_why(name, spread, words):
    loaded = SimpleNamespace(name=name, weights_sha256=None)
    answer = (
        None if name == "untrained" else SimpleNamespace(network=None, forward=SimpleNamespace(spread_b1dhw=spread))
    )
    found, reason = uncertainty_of(answer, loaded, None, None, None, None, optimized=True)
    assert found is None and words in reason and reason.startswith("No uncertainty")
