"""Normalization, resampling and content boxes against SimpleITK and known answers."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from carlreg.errors import GeometryError
from carlreg.preprocess import (
    field_of_view,
    guess_modality,
    network_image,
    network_spacing,
    normalize,
    prepare,
    resample_on_axes,
    stored_along,
)
from carlreg.preprocess.prepare import level_grid
from carlreg.spaces import VolumeGrid
from carlreg.volumes import volume_from_image

OBLIQUE = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.5).GetMatrix()


def smooth_image(size=(40, 36, 30), spacing=(1.0, 1.5, 2.0), direction=OBLIQUE) -> sitk.Image:
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.normal(size=size[::-1]).astype(np.float32))
    image = sitk.SmoothingRecursiveGaussian(image, 3.0)
    image.SetSpacing(spacing)
    image.SetOrigin((11.0, -42.0, 7.0))
    image.SetDirection(direction)
    return image


@pytest.mark.parametrize("direction", [OBLIQUE, (-1, 0, 0, 0, -1, 0, 0, 0, 1), (0, 1, 0, 0, 0, -1, -1, 0, 0)])
def test_resampling_without_smoothing_equals_simpleitk(direction):
    image = smooth_image(direction=direction)
    grid = VolumeGrid.of(image)
    target = grid.cropped((3, 4, 2), (35, 30, 25)).with_spacing((1.7, 1.3, 2.2))
    reference = sitk.Image(list(target.size_ijk), sitk.sitkFloat32)
    reference.SetSpacing(target.spacing.tolist())
    reference.SetOrigin(target.origin_lps.tolist())
    reference.SetDirection(target.direction.ravel().tolist())
    theirs = sitk.GetArrayFromImage(sitk.Resample(image, reference))
    ours = resample_on_axes(torch.from_numpy(sitk.GetArrayFromImage(image)), grid, target, smooth=False)
    assert np.abs(ours[0, 0].numpy() - theirs).max() < 1e-4 * np.abs(theirs).max() + 1e-5


@pytest.mark.parametrize("axes", ["LPS", "SAR", "PIL"])
def test_voxels_stored_along_other_axes_are_simpleitks(axes):
    image = smooth_image()
    expected = sitk.DICOMOrient(image, axes)
    voxels = torch.from_numpy(sitk.GetArrayFromImage(image))[None, None]
    direction = np.reshape(expected.GetDirection(), (3, 3))
    found, grid = stored_along(voxels, VolumeGrid.of(image), direction)
    assert grid.same_as(VolumeGrid.of(expected), 1e-9)
    assert np.array_equal(found[0, 0].numpy(), sitk.GetArrayFromImage(expected))


def test_shrinking_suppresses_what_the_coarse_grid_cannot_hold():
    grid = VolumeGrid((64, 8, 8), [1, 1, 1], [0, 0, 0], np.eye(3))
    alternating = torch.tensor([1.0, -1.0]).repeat(32)[None, None].expand(8, 8, 64)
    coarse = resample_on_axes(alternating, grid, grid.with_spacing((4.0, 1, 1)))
    assert coarse.shape[4] == 16
    assert float(coarse[..., 2:-2].abs().max()) < 0.02
    slow = torch.sin(torch.arange(64) * 2 * np.pi / 64)[None, None].expand(8, 8, 64)
    kept = resample_on_axes(slow, grid, grid.with_spacing((4.0, 1, 1)))
    assert float(kept.abs().max()) > 0.93


def test_resampling_to_another_direction_is_refused():
    grid = VolumeGrid((5, 5, 5), [1, 1, 1], [0, 0, 0], np.eye(3))
    turned = VolumeGrid((5, 5, 5), [1, 1, 1], [0, 0, 0], np.diag([-1.0, -1.0, 1.0]))
    with pytest.raises(GeometryError, match="same axis directions"):
        resample_on_axes(torch.zeros(5, 5, 5), grid, turned)


def test_modalities_and_normalization():
    rng = np.random.default_rng(0)
    ct = np.full((30, 30, 30), -1000.0)
    ct[8:22, 8:22, 8:22] = 40 + rng.normal(0, 20, (14, 14, 14))
    assert guess_modality(ct) == "ct"
    assert normalize(ct, "ct")[0, 0, 0] == 0
    assert normalize(np.array([[[0.0, 5000.0]]]), "ct").ravel().tolist() == [0.5, 1.0]
    mr = np.zeros((30, 30, 30))
    mr[5:25, 5:25, 5:25] = rng.uniform(100, 300, (20, 20, 20))
    mr[10, 10, 10] = 1e5  # one hot voxel must not squeeze the rest
    assert guess_modality(mr) == "mr"
    scaled = normalize(mr, "mr")
    assert scaled.min() == 0 and scaled.max() == 1
    assert np.median(scaled[5:25, 5:25, 5:25]) == pytest.approx(200 / 299, abs=0.03)


def test_content_box_and_network_image_keep_positions():
    array = np.zeros((50, 60, 70), dtype=np.float32)
    array[20:40, 10:50, 30:60] = np.random.default_rng(0).uniform(80, 100, (20, 40, 30))
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 1.0, 1.5))
    image.SetOrigin((5.0, 6.0, 7.0))
    prepared = prepare(volume_from_image(image))
    start = (prepared.grid.ijk_from_lps @ [*prepared.content.origin_lps, 1])[:3].round().astype(int)
    # The body's diagonal is 78.1 mm; a fortieth of it is the margin, in whole voxels.
    assert start.tolist() == [30 - 1, 10 - 2, 20 - 2]
    assert (start + prepared.content.size_ijk).tolist() == [60 + 1, 50 + 2, 40 + 2]

    spacing = network_spacing(prepared, prepared, 32)
    assert spacing == pytest.approx(prepared.content.extent_mm.max() / 32)
    tensor, grid = network_image(prepared, spacing, 8)
    assert all(n % 8 == 0 for n in tensor.shape[2:]) and tensor.shape[2:] == grid.shape_dhw
    values = tensor[0, 0].double().numpy()
    index = np.indices(values.shape)[::-1].reshape(3, -1)
    center = (index * values.ravel()).sum(1) / values.sum()
    found = grid.lps_from_ijk @ [*center, 1]
    expected = prepared.grid.lps_from_ijk @ [44.5, 29.5, 29.5, 1]
    assert np.abs(found - expected)[:3].max() < 0.6


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_the_network_sees_enough_voxels_at_any_size(factor):
    def cube(count: int, spacing: float):
        array = np.random.default_rng(0).uniform(80, 100, (count,) * 3).astype(np.float32)
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((factor * spacing,) * 3)
        return prepare(volume_from_image(image))

    fine, coarse = cube(80, 1.0), cube(8, 10.0)
    assert network_spacing(fine, fine, 128) == pytest.approx(factor * 1.0)
    assert network_spacing(fine, fine, 40) == pytest.approx(factor * 2.0)
    for one, other in ((fine, coarse), (coarse, fine), (coarse, coarse)):
        assert network_spacing(one, other, 128) == pytest.approx(factor * 80 / 32)


def test_levels_keep_thick_slices():
    grid = VolumeGrid((100, 100, 20), [1, 1, 5], [0, 0, 0], np.eye(3))
    assert level_grid(grid, grid, 2.0).spacing.tolist() == [2, 2, 5]
    assert level_grid(grid, grid, 1.0) is grid


def noisy_scan(shape=(20, 30, 25), seed=0):
    """A scan whose body reaches every face of its field of view, as most do; MR-like."""
    rng = np.random.default_rng(seed)
    return (200 + 50 * rng.standard_normal(shape)).clip(1).astype(np.float32)


@pytest.mark.parametrize("modality", ["mr", "ct"])
@pytest.mark.parametrize("padding", [((0, 0), (7, 0), (0, 3)), ((4, 5), (6, 7), (8, 9))])
def test_padding_is_not_part_of_the_field_of_view(modality, padding):
    lowest = 0.0 if modality == "mr" else -1024.0
    scan = noisy_scan() if modality == "mr" else noisy_scan() - 100
    padded = sitk.GetImageFromArray(np.pad(scan, padding, constant_values=lowest))
    padded.SetSpacing((1.0, 1.5, 2.0))
    volume = volume_from_image(padded, "padded")
    mask = volume_from_image(sitk.Cast(padded > 0, sitk.sitkUInt8), "mask")
    view, view_mask = field_of_view(volume, modality, mask)
    assert np.array_equal(view.array, scan)
    start = [before for before, _after in padding[::-1]]
    assert np.allclose(view.grid.origin_lps, padded.TransformIndexToPhysicalPoint(start))
    assert view_mask.grid.same_as(view.grid)


def test_a_body_in_its_own_background_keeps_it():
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in (40, 44, 36)], indexing="ij")
    head = np.where(sum(a**2 for a in axes) < 0.6, noisy_scan((40, 44, 36)), 0).astype(np.float32)
    volume = volume_from_image(sitk.GetImageFromArray(head), "head")
    view, mask = field_of_view(volume, "mr")
    assert view is volume and mask is None


def test_a_mask_in_the_padding_is_left_to_its_maker():
    scan = np.pad(noisy_scan(), ((0, 0), (0, 0), (10, 0)))
    only_padding = np.zeros_like(scan, np.uint8)
    only_padding[:, :, :5] = 1
    volume = volume_from_image(sitk.GetImageFromArray(scan), "scan")
    mask = volume_from_image(sitk.GetImageFromArray(only_padding), "mask")
    assert field_of_view(volume, "mr", mask) == (volume, mask)


def test_filling_does_not_darken_the_data_beside_it():
    """A CT volume cut by a tilted face: coarse levels show what they show of the uncut volume, up to the edge."""
    k, j, i = np.meshgrid(np.arange(60), np.arange(50), np.arange(55), indexing="ij")
    whole = (-300 + 4.0 * j + 60 * np.sin(0.2 * i)).astype(np.float32)
    filled = k > 40 + 0.2 * i
    cut = np.where(filled, -1024, whole).astype(np.float32)
    grids = []
    for array in (whole, cut):
        prepared = prepare(volume_from_image(sitk.GetImageFromArray(array), "scan"), "ct")
        image, grid = prepared.at(6.0)
        grids.append((image[0, 0].numpy(), grid, prepared))
    (expected, grid, _), (found, cut_grid, prepared) = grids
    assert prepared.extended_dhw is not None and grids[0][2].extended_dhw is None
    n = found.shape[0]
    z = cut_grid.origin_lps[2] + cut_grid.spacing[2] * np.arange(n)
    x = cut_grid.origin_lps[0] + cut_grid.spacing[0] * np.arange(found.shape[2])
    beside = (z[:, None, None] < 38 + 0.2 * x) & np.ones(found.shape, bool)
    assert np.allclose(cut_grid.origin_lps, grid.origin_lps, atol=1.0) and beside[-3:].any()
    assert np.abs(found - expected[:n])[beside].max() < 0.03
    plain = resample_on_axes(prepared.voxels_dhw, prepared.grid, cut_grid)[0, 0].numpy()
    assert np.abs(plain - expected[:n])[beside].max() > 0.06  # what it would be
