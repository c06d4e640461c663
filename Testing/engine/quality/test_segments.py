"""Volume change and surfaces per segment: analytic fields on every kind of grid, and MONAI's surface distances."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.physical import PhysicalTransform
from carlreg.physical.jacobian import jacobian_determinant
from carlreg.quality import segments
from carlreg.spaces import VolumeGrid
from support.geometry import OBLIQUE, grid_around, positions, to_image

DIRECTIONS = {"identity": np.eye(3), "flipped": np.diag([-1.0, 1.0, -1.0]), "oblique": OBLIQUE}
SPACING = np.array([1.5, 1.25, 2.0])


def grid_with(direction, size=(44, 50, 36), center=(12.0, -30.0, 55.0)) -> VolumeGrid:
    return grid_around(center, size, SPACING, direction)


def offsets(grid: VolumeGrid) -> np.ndarray:
    return positions(grid) - grid.center_lps


def two_balls(grid: VolumeGrid) -> np.ndarray:
    x = offsets(grid)
    first, second = (
        np.linalg.norm(x - center, axis=-1) < radius for center, radius in (((-12, 4, 0), 9), ((14, 0, 8), 7))
    )
    return np.select([first, second], [3, 40], 0).astype(np.uint8)


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_volume_change_of_an_affine(direction):
    grid = grid_with(direction)
    affine = np.eye(4)
    affine[:3, :3] = OBLIQUE @ np.diag([1.1, 1.2, 0.9])
    still = PhysicalTransform(affine, np.zeros((*grid.shape_dhw, 3), np.float32), grid)
    labels = two_balls(grid)
    found = segments.volume_changes(labels, jacobian_determinant(still, grid), grid, {40: "liver"})
    assert [(s["label"], s["name"]) for s in found] == [(3, None), (40, "liver")]
    for segment in found:
        # Larger in the moving image: the determinant of moving_from_fixed is above 1.
        assert segment["volume_change_percent"] == pytest.approx(18.8, abs=0.01)
        assert segment["volume_mm3"] == pytest.approx((labels == segment["label"]).sum() * SPACING.prod())
        assert segment["determinant"]["sd"] == pytest.approx(0.0, abs=1e-4)
        assert segment["determinant"]["p5"] == pytest.approx(1.188, abs=1e-3)


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_volume_change_of_a_field(direction):
    """L goes to L + c L^2, so the determinant is 1 + 2 c L: each segment's figures are the analytic ones."""
    grid = grid_with(direction)
    x = offsets(grid)
    growth = 0.004
    displacement = np.zeros((*grid.shape_dhw, 3), np.float32)
    displacement[..., 0] = growth * x[..., 0] ** 2
    transform = PhysicalTransform(np.eye(4), displacement, grid)
    labels = two_balls(grid)
    inside = (slice(2, -2),) * 3
    expected = 1 + 2 * growth * x[..., 0]
    found = segments.volume_changes(labels, jacobian_determinant(transform, grid), grid)
    for segment in found:
        values = expected[labels == segment["label"]]
        assert (labels[inside] == segment["label"]).sum() == len(values)
        assert segment["volume_change_percent"] == pytest.approx(100 * (values.mean() - 1), abs=0.05)
        assert segment["determinant"]["sd"] == pytest.approx(values.std(), abs=1e-3)
        for percent in (5, 50, 95):
            assert segment["determinant"][f"p{percent}"] == pytest.approx(np.percentile(values, percent), abs=2e-3)


def test_no_labels_no_segments():
    grid = grid_with(np.eye(3), (4, 4, 4))
    assert segments.volume_changes(np.zeros(grid.shape_dhw, np.uint8), np.ones(grid.shape_dhw), grid) == []


def shifted_pair() -> tuple[np.ndarray, np.ndarray, VolumeGrid]:
    grid = grid_with(np.eye(3))
    first = two_balls(grid)
    second = np.roll(first, (2, -3, 1), axis=(0, 1, 2))
    second[(second == 40) & (offsets(grid)[..., 2] > 12)] = 0
    return first, second, grid


def test_surface_distances_as_monai_measures_them():
    metrics = pytest.importorskip("monai.metrics")
    import torch

    first, second, grid = shifted_pair()
    found = segments.surface_distances(first, second, grid, [3, 40])
    for label in (3, 40):
        pair = [torch.from_numpy((array == label)[None, None].astype(np.float32)) for array in (second, first)]
        spacing = grid.spacing[::-1].tolist()
        mean = metrics.compute_average_surface_distance(
            *pair, include_background=True, symmetric=True, spacing=spacing
        ).item()
        hausdorff = metrics.compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
        assert mean > 1.0
        assert found[label]["mean"] == pytest.approx(mean, rel=1e-4)
        assert found[label]["hausdorff95"] == pytest.approx(hausdorff.item(), rel=1e-4)


def test_surface_distances_at_the_volumes_edge_and_of_nothing():
    first, second, grid = shifted_pair()
    found = segments.surface_distances(first, first, grid, [3, 40])
    assert found == {3: {"mean": 0.0, "hausdorff95": 0.0}, 40: {"mean": 0.0, "hausdorff95": 0.0}}
    assert segments.surface_distances(first, np.where(second == 3, 0, second), grid, [3])[3] is None
    slabs = np.zeros((2, *grid.shape_dhw), np.uint8)
    slabs[0, :10], slabs[1, :13] = 5, 5  # both touch the first plane; the other faces are 3 planes apart
    assert segments.surface_distances(*slabs, grid, [5])[5]["hausdorff95"] == pytest.approx(3 * SPACING[2])


def test_large_boxes_are_thinned_and_small_parts_of_them_are_not_lost(monkeypatch):
    first, second, grid = shifted_pair()
    exact = segments.surface_distances(first, second, grid, [3, 40])
    monkeypatch.setattr(segments, "BOX_VOXELS", 1500)
    thin = segments.surface_distances(first, second, grid, [3, 40])
    for label in (3, 40):
        assert thin[label]["mean"] == pytest.approx(exact[label]["mean"], abs=2 * SPACING.max())
    specks = np.zeros((2, *grid.shape_dhw), np.uint8)
    specks[0, 1, 1, 1], specks[1, -2, -2, -2] = 9, 9
    far = np.linalg.norm((np.array(grid.size_ijk) - 3) * SPACING)
    assert segments.surface_distances(*specks, grid, [9])[9]["mean"] == pytest.approx(far, abs=4 * SPACING.max())


def test_names_from_a_segmentation_of_slicer():
    image = to_image(np.zeros((2, 2, 2), np.uint8), VolumeGrid((2, 2, 2), np.ones(3), np.zeros(3), np.eye(3)))
    for key, value in (("Segment0_LabelValue", "3"), ("Segment0_Name", "liver"), ("Segment1_Name", "no value")):
        image.SetMetaData(key, value)
    assert segments.label_names(image) == {3: "liver"}
    assert segments.label_names(sitk.Image(2, 2, 2, sitk.sitkUInt8)) == {}
