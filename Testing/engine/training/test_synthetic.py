"""Synthetic views: the known map is right, the same seed gives the same views, images look like normalized scans."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from carlreg.errors import InputError
from carlreg.maps.sampling import identity_map
from carlreg.training.synthetic import SyntheticSettings, View, local_deviation, make_views, smooth_noise
from scipy.ndimage import map_coordinates

SMALL = SyntheticSettings(size=32, views=2)


def _voxels(map_b3dhw, size):
    return map_b3dhw[0].numpy().astype(np.float64) * size - 0.5


@pytest.fixture(scope="module")
def views():
    return make_views(3, SyntheticSettings(size=48, views=2))


def _true_map(views):
    size = views.images_k1dhw.shape[-1]
    points = identity_map((size,) * 3)
    match = views.moving_from_fixed(1, 0, points)
    outside = ((match < 0) | (match > 1)).any(1)[0].numpy()
    return match, outside


def test_known_map_carries_labels_from_moving_to_fixed(views):
    match, outside = _true_map(views)
    size = views.images_k1dhw.shape[-1]
    fixed, moving = (views.labels_k1dhw[k, 0].numpy() for k in (0, 1))
    warped = map_coordinates(moving, _voxels(match, size), order=0, mode="nearest")
    compared = (~outside) & (fixed > 0) & (warped > 0)
    assert compared.mean() > 0.02
    agreement = (warped == fixed)[compared].mean()
    unregistered = (moving == fixed)[(fixed > 0) & (moving > 0)].mean()
    # two nearest-neighbor roundings at every boundary are all that may differ
    assert agreement > 0.8
    assert agreement > unregistered + 0.3


def test_known_map_agrees_with_simpleitk_warp(views):
    match, outside = _true_map(views)
    size = views.images_k1dhw.shape[-1]
    index = _voxels(match, size)  # moving voxel (d, h, w) of each fixed voxel
    grid = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij")).astype(np.float64)
    displacement_xyz = np.moveaxis((index - grid)[::-1], 0, -1).copy()
    transform = sitk.DisplacementFieldTransform(sitk.GetImageFromArray(displacement_xyz, isVector=True))
    moving = sitk.GetImageFromArray(views.labels_k1dhw[1, 0].numpy())
    warped = sitk.GetArrayFromImage(sitk.Resample(moving, moving, transform, sitk.sitkNearestNeighbor, 0.0))
    fixed = views.labels_k1dhw[0, 0].numpy()
    compared = (~outside) & (fixed > 0) & (warped > 0)
    assert (warped == fixed)[compared].mean() > 0.8


def test_maps_of_both_directions_are_inverse(views):
    points = identity_map((12,) * 3)
    there = views.moving_from_fixed(1, 0, points)
    inside = ((there > 0) & (there < 1)).all(1)[0]
    back = views.moving_from_fixed(0, 1, there)
    assert inside.sum() > 50
    assert (back - points)[0, :, inside].abs().max() * 48 < 0.05


def test_a_view_without_deformation_is_the_affine_it_says():
    matrix = torch.tensor([[0.6, 0.1, 0.0], [-0.1, 0.6, 0.0], [0.0, 0.0, 0.7]])
    view = View(matrix, torch.tensor([0.4, 0.5, 0.6]), torch.zeros(1, 3, 8, 8, 8))
    point = torch.tensor([0.75, 0.25, 0.5]).reshape(1, 3, 1, 1, 1)
    expected = matrix.numpy() @ np.array([0.25, -0.25, 0.0]) + np.array([0.4, 0.5, 0.6])
    np.testing.assert_allclose(view.canvas_from_view(point).flatten().numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(view.view_from_canvas(view.canvas_from_view(point)).numpy(), point.numpy(), atol=1e-6)


def test_same_seed_same_views_and_another_seed_others():
    first, again, other = make_views(5, SMALL), make_views(5, SMALL), make_views(6, SMALL)
    assert torch.equal(first.images_k1dhw, again.images_k1dhw)
    assert not torch.equal(first.images_k1dhw, other.images_k1dhw)


@pytest.mark.parametrize("seed", range(6))
def test_images_are_normalized_with_background_zero_outside_the_field_of_view(seed):
    views = make_views(seed, SMALL)
    assert views.images_k1dhw.shape == (2, 1, 32, 32, 32)
    assert views.images_k1dhw.min() >= 0 and views.images_k1dhw.max() <= 1
    assert (views.images_k1dhw * (1 - views.inside_k1dhw)).abs().max() == 0
    assert views.labels_k1dhw.unique().numel() > 4
    assert torch.isfinite(views.structure_k1dhw).all()


def test_view_deformations_do_not_fold():
    for seed in range(6):
        for view in make_views(seed, SyntheticSettings(size=48, views=2)).views:
            points = view.canvas_from_view(identity_map((48,) * 3))[0].numpy() * 48
            gradients = np.stack([np.stack(np.gradient(p)) for p in points])
            determinant = np.linalg.det(gradients.transpose(2, 3, 4, 0, 1))
            assert determinant.min() > 0.05 * np.median(determinant)


def test_smooth_noise_is_centered_and_about_unit_variance():
    from carlreg.training.synthetic import _Dice

    noise = smooth_noise(_Dice(0), 8, 10, 40)
    assert noise.shape == (8, 40, 40, 40)
    assert abs(noise.mean()) < 0.1
    assert 0.7 < noise.std() < 1.3
    assert (noise[:, 1:] - noise[:, :-1]).std() < 0.5 * noise.std()


def test_local_deviation_equals_numpy():
    image = torch.rand(1, 1, 24, 24, 24)
    found = local_deviation(image)[0, 0, 2, 3, 2]
    assert found.item() == pytest.approx(image[0, 0, 4:16, 8:20, 4:16].numpy().std(), rel=1e-3)


@pytest.mark.parametrize("wrong", [{"size": 20}, {"size": 8}, {"views": 1}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match="Synthetic pairs"):
        SyntheticSettings(**wrong)
