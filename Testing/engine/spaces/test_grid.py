"""VolumeGrid against SimpleITK's own index and point conversions."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import GeometryError
from carlreg.spaces import VolumeGrid, apply_affine, lps_from_ras
from support.geometry import DIRECTIONS, assert_close


@pytest.fixture(params=list(DIRECTIONS))
def image(request) -> sitk.Image:
    image = sitk.Image((7, 11, 5), sitk.sitkInt16)
    image.SetSpacing((0.7, 1.9, 3.3))
    image.SetOrigin((-12.5, 101.0, 33.0))
    image.SetDirection(DIRECTIONS[request.param].ravel().tolist())
    return image


def test_indices_and_points_agree_with_sitk(image):
    grid = VolumeGrid.of(image)
    assert grid.shape_dhw == (5, 11, 7)
    for index in ((0.0, 0.0, 0.0), (6.0, 10.0, 4.0), (2.3, -1.7, 5.9)):
        point = image.TransformContinuousIndexToPhysicalPoint(index)
        assert_close((grid.lps_from_ijk @ [*index, 1])[:3], point, scale=100)
        assert_close((grid.ijk_from_lps @ [*point, 1])[:3], index, scale=100)


def test_points_and_index_take_any_number_of_points(image):
    grid = VolumeGrid.of(image)
    index = np.random.default_rng(0).uniform(-3, 12, (2, 4, 3))
    expected = [[image.TransformContinuousIndexToPhysicalPoint(one) for one in row] for row in index.tolist()]
    assert_close(grid.points(index), expected, scale=100)
    assert_close(grid.index(expected), index, scale=100)
    assert_close(grid.points(index[0, 0]), expected[0][0], scale=100)


def test_centers_are_simpleitks_points_of_the_voxels(image):
    grid = VolumeGrid.of(image)
    centers = grid.centers()
    assert centers.shape == (5, 11, 7, 3)
    for i, j, k in ((0, 0, 0), (6, 10, 4), (2, 7, 3)):
        assert_close(centers[k, j, i], image.TransformIndexToPhysicalPoint((i, j, k)), scale=100)
        np.testing.assert_array_equal(grid.indices()[k, j, i], (i, j, k))
    np.testing.assert_array_equal(grid.centers(1, 3), centers[1:3])
    np.testing.assert_array_equal(grid.centers(step=2), centers[::2, ::2, ::2])
    np.testing.assert_array_equal(grid.centers(1, step=(1, 3, 2)), centers[1:, ::3, ::2])


def test_what_lies_in_the_volume_is_where_simpleitk_finds_data(image):
    grid = VolumeGrid.of(image)
    other = sitk.Image((9, 8, 7), sitk.sitkUInt8)
    other.SetSpacing((2.1, 2.9, 2.3))
    other.SetOrigin((grid.center_lps - [8, 9, 7]).tolist())
    points = [[[other.TransformIndexToPhysicalPoint((i, j, k)) for i in range(9)] for j in range(8)] for k in range(7)]
    found = sitk.GetArrayFromImage(sitk.Resample(image + 1, other, sitk.Transform(), sitk.sitkNearestNeighbor))
    assert 20 < found.sum() < 480
    np.testing.assert_array_equal(grid.contains(points), found > 0)
    assert bool(grid.contains(grid.center_lps))


def test_an_array_becomes_an_image_in_its_place(image):
    grid = VolumeGrid.of(image)
    array = np.random.default_rng(2).random((5, 11, 7)).astype(np.float32)
    made = grid.image(array)
    for read in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert_close(getattr(made, read)(), getattr(image, read)())
    assert made.GetPixel(2, 7, 3) == array[3, 7, 2]
    vectors = grid.image(np.stack([array, 2 * array, 3 * array], axis=-1))
    assert vectors.GetNumberOfComponentsPerPixel() == 3
    np.testing.assert_allclose(vectors.GetPixel(2, 7, 3), array[3, 7, 2] * np.array([1, 2, 3]), rtol=1e-6)
    with pytest.raises(GeometryError, match="shape"):
        grid.image(array.transpose(2, 1, 0))


def test_an_affine_acts_on_points_as_simpleitks_does():
    rng = np.random.default_rng(3)
    matrix = np.eye(4)
    matrix[:3] = rng.normal(size=(3, 4))
    points = rng.normal(size=(2, 5, 3))
    transform = sitk.AffineTransform(matrix[:3, :3].ravel().tolist(), matrix[:3, 3].tolist())
    expected = [[transform.TransformPoint(one) for one in row] for row in points.tolist()]
    assert_close(apply_affine(matrix, points), expected)


def test_unit_coordinates_have_faces_at_0_and_1_in_tensor_order(image):
    grid = VolumeGrid.of(image)
    face = image.TransformContinuousIndexToPhysicalPoint((-0.5, -0.5, -0.5))
    assert_close((grid.lps_from_normalized @ [0, 0, 0, 1])[:3], face, scale=100)
    along_d = image.TransformContinuousIndexToPhysicalPoint((-0.5, -0.5, 4.5))
    assert_close((grid.lps_from_normalized @ [1, 0, 0, 1])[:3], along_d, scale=100)
    assert_close(grid.lps_from_normalized @ grid.normalized_from_lps, np.eye(4))
    corners = grid.lps_from_align_corners
    assert_close((corners @ [0, 0, 0, 1])[:3], image.GetOrigin(), scale=100)
    last = image.TransformIndexToPhysicalPoint((6, 10, 4))
    assert_close((corners @ [1, 1, 1, 1])[:3], last, scale=100)


def test_center_is_the_middle_of_the_box(image):
    grid = VolumeGrid.of(image)
    assert_close(grid.center_lps, image.TransformContinuousIndexToPhysicalPoint((3.0, 5.0, 2.0)), scale=100)
    assert_close(grid.corners_lps().mean(axis=0), grid.center_lps, scale=100)
    np.testing.assert_allclose(grid.extent_mm, [4.9, 20.9, 16.5])
    assert grid.voxel_count == 385


def test_padding_and_cropping_stay_on_the_lattice(image):
    grid = VolumeGrid.of(image)
    padded = grid.padded((1.0, 2.0, 3.4))
    assert padded.size_ijk == (7 + 4, 11 + 4, 5 + 4)
    index = (padded.ijk_from_lps @ [*grid.origin_lps, 1])[:3]
    assert_close(index, [2, 2, 2], scale=100)
    assert padded.cropped((2, 2, 2), (9, 13, 7)).same_as(grid)
    region = sitk.RegionOfInterest(image, (3, 4, 2), (1, 5, 2))
    assert grid.cropped((1, 5, 2), (4, 9, 4)).same_as(VolumeGrid.of(region))


def test_another_spacing_covers_the_same_box_around_the_same_center(image):
    grid = VolumeGrid.of(image)
    other = grid.with_spacing(1.25)
    assert_close(other.center_lps, grid.center_lps, scale=100)
    assert (other.extent_mm >= grid.extent_mm - 1e-6).all()
    assert (other.extent_mm < grid.extent_mm + 1.25).all()


def test_same_as_notices_half_a_voxel(image):
    grid = VolumeGrid.of(image)
    moved = VolumeGrid(grid.size_ijk, grid.spacing, grid.origin_lps + 0.35, grid.direction)
    assert grid.same_as(VolumeGrid.of(image))
    assert not grid.same_as(moved)
    assert not grid.same_as(grid.padded(1.0))


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_same_as_asks_for_a_share_of_a_voxel(image, factor):
    grid = VolumeGrid.of(image)

    def moved(voxels: float, away: float = 0.0) -> VolumeGrid:
        origin = grid.origin_lps + voxels * grid.spacing.min() + away
        return VolumeGrid(grid.size_ijk, factor * grid.spacing, factor * origin, grid.direction)

    assert moved(0.0).same_as(moved(5e-4)) and not moved(0.0).same_as(moved(0.01))
    assert moved(0.0).same_as(moved(0.009), 0.01)
    # Far from the origin a header of float32 numbers cannot be more exact.
    far = moved(0.0, 123456.783)
    written = VolumeGrid(far.size_ijk, far.spacing, far.origin_lps.astype(np.float32).astype(float), far.direction)
    assert np.abs(far.origin_lps - written.origin_lps).max() > 1e-3 * factor
    assert far.same_as(written)


def test_ras_and_lps():
    np.testing.assert_array_equal(lps_from_ras() @ [1, 2, 3, 1], [-1, -2, 3, 1])


@pytest.mark.parametrize(
    ("size", "spacing", "origin", "direction"),
    [
        ((0, 3, 3), (1, 1, 1), (0, 0, 0), np.eye(3)),
        ((3, 3, 3), (1, 0, 1), (0, 0, 0), np.eye(3)),
        ((3, 3, 3), (1, 1, 1), (0, np.nan, 0), np.eye(3)),
        ((3, 3, 3), (1, 1, 1), (0, 0, 0), np.array([[1, 0, 0], [0, 1, 0.1], [0, 0, 1.0]])),
        ((3, 3, 3), (1, 1, 1), (0, 0, 0), np.zeros((3, 3))),
    ],
)
def test_bad_geometry_is_refused(size, spacing, origin, direction):
    with pytest.raises(GeometryError):
        VolumeGrid(size, spacing, origin, direction)


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SAR", "PIL"])
def test_storing_along_other_axes_is_simpleitks_orientation(image, axes):
    expected = sitk.DICOMOrient(image, axes)
    letters = {"L": (1, 0, 0), "P": (0, 1, 0), "S": (0, 0, 1)} | {"R": (-1, 0, 0), "A": (0, -1, 0), "I": (0, 0, -1)}
    grid = VolumeGrid.of(image)
    wanted = np.array([letters[letter] for letter in axes], float).T
    found = grid.reordered(*grid.axes_along(wanted))
    assert found.same_as(VolumeGrid.of(expected), 1e-9)
    backward = found.reordered(*found.axes_along(grid.direction))
    assert backward.same_as(grid, 1e-9)
