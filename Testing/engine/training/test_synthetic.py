"""Synthetic views: the known map is right, the same seed gives the same views, images look like normalized scans."""

import functools
import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from carlreg.errors import InputError
from carlreg.maps.sampling import identity_map
from carlreg.preprocess import normalize
from carlreg.training.anatomies import PAINTERS
from carlreg.training.anatomies.canvas import Random, smooth_noise, turn
from carlreg.training.synthetic import SyntheticSettings, View, local_deviation, make_views
from carlreg.training.views import Field, Reach, Slide, _along, _blur_matrix, draw_view, orientation, window
from scipy import stats
from scipy.ndimage import gaussian_filter1d, map_coordinates

SMALL = SyntheticSettings(size=32, views=2)


@functools.cache
def small_views(seed):
    """For the tests that look at them only."""
    return make_views(seed, SMALL)


TURNED = SyntheticSettings(size=48, views=2, rotation_degrees=180.0)
HARDEST = SyntheticSettings(
    size=48, views=2, rotation_degrees=180.0, zoom=1.25, coarse_voxels=10.0, fine_voxels=3.0, sliding_voxels=6.0
)


def _voxels(map_b3dhw, size):
    return map_b3dhw[0].numpy().astype(np.float64) * size - 0.5


def _outside(match):
    return ((match < 0) | (match > 1)).any(1)[0].numpy()


@pytest.fixture(
    scope="module", params=[SyntheticSettings(size=48, views=2), TURNED], ids=["15 degrees", "any rotation"]
)
def pair(request):
    """Views and the true map from view 0 to view 1 at the voxels of view 0."""
    views = make_views(3, request.param)
    return views, views.moving_from_fixed(1, 0, identity_map((48,) * 3))


# The map


def test_known_map_carries_labels_from_moving_to_fixed(pair):
    views, match = pair
    fixed, moving = (views.labels_k1dhw[k, 0].numpy() for k in (0, 1))
    warped = map_coordinates(moving, _voxels(match, 48), order=0, mode="nearest")
    compared = (~_outside(match)) & (fixed > 0) & (warped > 0)
    assert compared.mean() > 0.02
    agreement = (warped == fixed)[compared].mean()
    unregistered = (moving == fixed)[(fixed > 0) & (moving > 0)].mean()
    # two nearest-neighbor roundings at every boundary are all that may differ
    assert agreement > 0.8
    assert agreement > unregistered + 0.3


def test_known_map_agrees_with_simpleitk_warp(pair):
    views, match = pair
    index = _voxels(match, 48)  # moving voxel (d, h, w) of each fixed voxel
    grid = np.stack(np.meshgrid(*[np.arange(48)] * 3, indexing="ij")).astype(np.float64)
    displacement_xyz = np.moveaxis((index - grid)[::-1], 0, -1).copy()
    transform = sitk.DisplacementFieldTransform(sitk.GetImageFromArray(displacement_xyz, isVector=True))
    moving = sitk.GetImageFromArray(views.labels_k1dhw[1, 0].numpy())
    warped = sitk.GetArrayFromImage(sitk.Resample(moving, moving, transform, sitk.sitkNearestNeighbor, 0.0))
    fixed = views.labels_k1dhw[0, 0].numpy()
    compared = (~_outside(match)) & (fixed > 0) & (warped > 0)
    assert (warped == fixed)[compared].mean() > 0.8


@pytest.mark.parametrize("settings", [SyntheticSettings(size=48, views=2), HARDEST], ids=["default", "hardest"])
def test_inverse_is_exact_to_a_fiftieth_of_a_voxel(settings):
    points = identity_map((16,) * 3)
    for seed in range(5):
        for view in make_views(seed, settings).views:
            backward = view.view_from_canvas(view.canvas_from_view(points))
            assert (backward - points).abs().max() * settings.size < 0.02


def test_maps_of_both_directions_are_inverse(pair):
    views, _ = pair
    points = identity_map((12,) * 3)
    forward = views.moving_from_fixed(1, 0, points)
    inside = ((forward > 0) & (forward < 1)).all(1)[0]
    backward = views.moving_from_fixed(0, 1, forward)
    assert inside.sum() > 50
    assert (backward - points)[0, :, inside].abs().max() * 48 < 0.02


def test_a_view_without_deformation_is_the_affine_it_says():
    matrix = torch.tensor([[0.6, 0.1, 0.0], [-0.1, 0.6, 0.0], [0.0, 0.0, 0.7]])
    view = View(matrix, torch.tensor([0.4, 0.5, 0.6]), torch.zeros(1, 3, 8, 8, 8))
    point = torch.tensor([0.75, 0.25, 0.5]).reshape(1, 3, 1, 1, 1)
    expected = matrix.numpy() @ np.array([0.25, -0.25, 0.0]) + np.array([0.4, 0.5, 0.6])
    np.testing.assert_allclose(view.canvas_from_view(point).flatten().numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(view.view_from_canvas(view.canvas_from_view(point)).numpy(), point.numpy(), atol=1e-6)


@pytest.mark.parametrize("axis", range(3))
def test_a_view_is_what_scipy_makes_of_its_parts(axis):
    shape = [10, 12, 14]
    shape[axis] = 1
    profile = torch.rand(1, 1, *shape)
    slide = Slide(axis, 0.04, profile, frequency=0.7, phase=1.0)
    random = Random(4)
    matrix, center = turn(random) / 1.5, torch.tensor([0.45, 0.5, 0.6])
    view = View(matrix, center, smooth_noise(random, 3, 4, 9)[None] * 0.01, slide)
    points = random.random(1, 3, 5, 5, 5)
    u = points[0].flatten(1).double().numpy()
    field = np.stack([map_coordinates(c, u * 9 - 0.5, order=1, mode="nearest") for c in view.displacement[0].numpy()])
    expected = matrix.double().numpy() @ (u - 0.5) + center.numpy()[:, None] + field
    at = np.array([e * n - 0.5 for e, n in zip(expected, shape, strict=True)])
    at[axis] = 0
    reach = 0.04 * map_coordinates(profile[0, 0].numpy(), at, order=1, mode="nearest")
    expected[axis] += reach * (0.75 + 0.25 * np.cos(2 * np.pi * 0.7 * expected[axis] + 1.0))
    np.testing.assert_allclose(view.canvas_from_view(points)[0].flatten(1).numpy(), expected, atol=2e-6)
    backward = view.view_from_canvas(view.canvas_from_view(points))
    assert (backward - points).abs().max() * 48 < 0.02


def test_the_fast_lattice_equals_the_map_at_voxel_centers():
    view = make_views(2, TURNED).views[0]
    torch.testing.assert_close(
        view.canvas_lattice(48), view.canvas_from_view(identity_map((48,) * 3)), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("settings", [SyntheticSettings(size=48, views=2), HARDEST], ids=["default", "hardest"])
def test_view_deformations_do_not_fold(settings):
    for seed in range(4):
        for view in make_views(seed, settings).views:
            points = view.canvas_from_view(identity_map((48,) * 3))[0].numpy() * 48
            gradients = np.stack([np.stack(np.gradient(p)) for p in points])
            determinant = np.linalg.det(gradients.transpose(2, 3, 4, 0, 1))
            # a mirrored way of storing a scan turns the sign of all of them
            assert (determinant / np.median(determinant)).min() > 0.05


def _angles(degrees, count):
    random = Random(1)
    reach = Reach(16, 1.5, degrees, 0.25, 1.0, 0.0, 0.0, 0.0)
    profile = torch.zeros(1, 1, 1, 4, 4)
    found = []
    for _ in range(count):
        view = draw_view(random, reach, torch.eye(3), 0, profile)
        u, _, v = np.linalg.svd(view.matrix.numpy())
        found.append(math.acos(np.clip((np.trace(u @ v) - 1) / 2, -1, 1)))
    return np.array(found)


def test_rotations_are_uniform_over_all_rotations_from_180_degrees_on():
    # The angle of a uniform rotation has the density (1 - cos) / pi; limits are those of one false alarm in 1000.
    random = Random(2)
    turns = np.array([math.acos(np.clip((turn(random).trace().item() - 1) / 2, -1, 1)) for _ in range(3000)])
    for angles in (turns, _angles(180.0, 400)):
        assert stats.kstest(angles, lambda a: (a - np.sin(a)) / np.pi).statistic < 1.95 / math.sqrt(len(angles))


def test_rotations_stay_within_the_limit_and_use_it():
    angles = np.degrees(_angles(60.0, 300))
    # the random stretch (4 %) turns the nearest rotation a little
    assert angles.max() < 66 and angles.max() > 50
    assert stats.kstest(angles / 60, "uniform").statistic < 0.1


def test_random_axes_have_no_preferred_direction():
    random = Random(0)
    moved = np.array([(turn(random) @ torch.tensor([0.0, 0.0, 1.0])).numpy() for _ in range(500)])
    for component in moved.T:  # uniform on the sphere: each coordinate is uniform
        assert stats.kstest((component + 1) / 2, "uniform").pvalue > 0.01


def test_orientations_are_signed_permutations_of_both_kinds():
    found = [orientation(Random(seed)) for seed in range(60)]
    assert all(torch.equal(m @ m.T, torch.eye(3)) for m in found)
    assert len({tuple(m.flatten().tolist()) for m in found}) > 25


# Fields of view


@pytest.mark.parametrize("seeds", [16, pytest.param(30, marks=pytest.mark.slow)])
def test_overlap_of_fields_covers_the_range_from_less_than_half_to_nearly_all(seeds):
    points = identity_map((16,) * 3)
    overlaps = []
    for seed in range(seeds):
        views = small_views(seed)
        match = views.moving_from_fixed(1, 0, points)
        own = _nearest(views.inside_k1dhw[0, 0], points)
        seen = _nearest(views.inside_k1dhw[1, 0], match)
        overlaps.append((own * seen).sum() / own.sum())
    assert min(overlaps) > 0.3
    assert np.mean(np.array(overlaps) < 0.6) > 0.15
    assert np.mean(np.array(overlaps) > 0.75) > 0.15


def _nearest(image_dhw, points):
    index = points[0].numpy() * image_dhw.shape[0] - 0.5
    return map_coordinates(image_dhw.numpy(), index, order=0, mode="constant", cval=0.0)


def test_shifts_reach_the_limit_and_not_more():
    random = Random(0)
    reach = Reach(16, 1.5, 15.0, 0.25, 1.0, 0.0, 0.0, 0.0)
    profile = torch.zeros(1, 1, 1, 4, 4)
    centers = [draw_view(random, reach, torch.eye(3), 0, profile).center for _ in range(200)]
    shifts = (torch.stack(centers) - 0.5).abs() * 1.5  # in view edges
    assert shifts.max() <= 0.25 + 1e-6
    assert shifts.max() > 0.22


def test_fields_of_view_are_boxes_and_cylinders():
    field = Field((4, 0, 0), (28, 32, 20), (0, 0.5, 0.45, 0.3))
    mask = field.mask(32, 32, "cpu")[0, 0].numpy()
    d, h, w = np.meshgrid(*[np.arange(32)] * 3, indexing="ij")
    disc = ((h + 0.5) / 32 - 0.5) ** 2 + ((w + 0.5) / 32 - 0.45) ** 2 < 0.3**2
    np.testing.assert_array_equal(mask > 0, (d >= 4) & (d < 28) & (w < 20) & disc)
    coarse = field.mask(8, 32, "cpu")[0, 0].numpy()  # the same field at every fourth voxel's middle
    assert coarse[:, 4, 3].tolist() == [0, 1, 1, 1, 1, 1, 1, 0]


# Images


def test_same_seed_same_views_and_another_seed_others():
    first, again, other = make_views(5, SMALL), make_views(5, SMALL), make_views(6, SMALL)
    for name in ("images_k1dhw", "labels_k1dhw", "inside_k1dhw", "structure_k1dhw", "extra_k1dhw"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    assert not torch.equal(first.images_k1dhw, other.images_k1dhw)
    points = identity_map((4,) * 3)
    assert torch.equal(first.moving_from_fixed(0, 1, points), again.moving_from_fixed(0, 1, points))


def test_global_random_state_is_neither_used_nor_changed():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = make_views(5, SMALL)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(make_views(5, SMALL).images_k1dhw, first.images_k1dhw)


@pytest.mark.parametrize("kind", [*PAINTERS, ""])
def test_images_are_normalized_and_never_empty(kind):
    settings = SMALL if not kind else SyntheticSettings(size=32, views=2, **{k: float(k == kind) for k in PAINTERS})
    for seed in range(8):
        views = make_views(seed, settings) if kind else small_views(seed)
        assert views.kind == kind or not kind
        assert views.images_k1dhw.shape == (2, 1, 32, 32, 32)
        assert torch.isfinite(views.images_k1dhw).all() and torch.isfinite(views.structure_k1dhw).all()
        assert views.images_k1dhw.min() >= 0 and views.images_k1dhw.max() <= 1
        assert (views.images_k1dhw * (1 - views.inside_k1dhw)).abs().max() == 0
        for k in range(2):
            assert views.labels_k1dhw[k].unique().numel() > 4
            assert (views.images_k1dhw[k] > 0.02).float().mean() > 0.08
            assert (views.structure_k1dhw[k] > 0.03).float().mean() > 0.08


def test_every_size_and_number_of_views_works():
    views = make_views(0, SyntheticSettings(size=24, views=4, canvas=2.0))
    assert views.images_k1dhw.shape == (4, 1, 24, 24, 24)
    assert views.structure_k1dhw.shape == (4, 1, 6, 6, 6)
    assert len(views.views) == len(views.modality) == len(views.contrast) == 4


def _correlations(same_contrast, seeds, size):
    """Per pair: correlation of fixed and warped inside the body that both show, and whether contrasts are the same."""
    settings = SyntheticSettings(size=size, views=2, same_contrast=same_contrast, missing=0.0)
    points = identity_map((size,) * 3)
    for seed in seeds:
        views = make_views(seed, settings)
        match = views.moving_from_fixed(1, 0, points)
        both = (~_outside(match)) & (views.labels_k1dhw[0, 0].numpy() > 0)
        index = _voxels(match, size)
        both &= map_coordinates(views.labels_k1dhw[1, 0].numpy(), index, order=0, mode="constant") > 0
        warped = map_coordinates(views.images_k1dhw[1, 0].numpy(), index, order=1, mode="nearest")
        r = np.corrcoef(warped[both], views.images_k1dhw[0, 0].numpy()[both])[0, 1]
        yield r, views.contrast[0] == views.contrast[1]


@pytest.mark.parametrize(("size", "seeds"), [(24, 8), pytest.param(32, 12, marks=pytest.mark.slow)])
def test_same_contrast_correlates_and_a_repainted_one_less(size, seeds):
    same = [r for r, _ in _correlations(1.0, range(seeds), size)]
    mixed = [r for r, equal in _correlations(0.5, range(2 * seeds), size) if not equal]
    assert np.median(same) > 0.8
    assert np.median(np.abs(mixed)) < np.median(same) - 0.15
    assert len(mixed) > 5


@pytest.mark.parametrize("seeds", [12, pytest.param(30, marks=pytest.mark.slow)])
def test_extras_are_in_some_views_only_and_change_the_image_where_they_are(seeds):
    inside, outside, alone = [], [], 0
    settings = SyntheticSettings(size=48, views=2, missing=1.0, same_contrast=1.0)
    points = identity_map((48,) * 3)
    for seed in range(seeds):
        views = make_views(seed, settings)
        match = views.moving_from_fixed(1, 0, points)
        index = _voxels(match, 48)
        forward = map_coordinates(views.extra_k1dhw[1, 0].numpy(), index, order=0, mode="constant") > 0
        here = views.extra_k1dhw[0, 0].numpy() > 0
        moving_labels = map_coordinates(views.labels_k1dhw[1, 0].numpy(), index, order=0, mode="constant")
        body = (~_outside(match)) & (views.labels_k1dhw[0, 0].numpy() > 0) & (moving_labels > 0)
        warped = map_coordinates(views.images_k1dhw[1, 0].numpy(), index, order=1, mode="nearest")
        fixed = views.images_k1dhw[0, 0].numpy()
        # Gain and window of the two views differ: a line through what both show takes them out.
        shared, changed = body & ~here & ~forward, body & here & ~forward
        difference = np.abs(np.polyval(np.polyfit(warped[shared], fixed[shared], 1), warped) - fixed)
        if changed.sum() > 20:
            alone += 1
            inside.append(difference[changed].mean())
            outside.append(difference[shared].mean())
    assert alone >= 4
    assert np.mean(inside) > 1.5 * np.mean(outside)


def test_no_extras_when_none_are_wanted():
    views = make_views(1, SyntheticSettings(size=32, views=2, missing=0.0))
    assert views.extra_k1dhw.abs().max() == 0


def test_local_deviation_equals_numpy():
    image = torch.rand(1, 1, 24, 24, 24)
    found = local_deviation(image)[0, 0, 2, 3, 2]
    assert found.item() == pytest.approx(image[0, 0, 4:16, 8:20, 4:16].numpy().std(), rel=1e-3)


@pytest.mark.parametrize("axis", range(3))
def test_blur_equals_scipy_and_thick_slices_average(axis):
    image = torch.rand(1, 1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    blurred = _along(image, _blur_matrix(24, 0.8, 1.0), axis)[0, 0].numpy()
    expected = gaussian_filter1d(image[0, 0].numpy(), 0.8, axis=axis, truncate=6)
    middle = [slice(None)] * 3
    middle[axis] = slice(6, 18)
    np.testing.assert_allclose(blurred[tuple(middle)], expected[tuple(middle)], atol=2e-3)
    thick = _blur_matrix(24, 0.0, 3.0)
    np.testing.assert_allclose(thick.sum(1).numpy(), 1.0, atol=1e-5)
    ramp = thick @ torch.arange(24.0)
    np.testing.assert_allclose(ramp[2:-2].numpy(), np.arange(24.0)[2:-2], atol=1e-3)
    assert np.linalg.matrix_rank(thick.numpy()) == 8


def test_window_equals_the_normalization_of_real_images():
    for seed in range(3):
        views = make_views(seed, SyntheticSettings(size=48, views=2, trunk=0.0))
        image = views.images_k1dhw[:1] * 0.7 + 0.02
        # a subsample against all voxels
        np.testing.assert_allclose(window(image).numpy(), normalize(image.numpy(), "mr"), atol=0.05)


# Settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 20},
        {"size": 8},
        {"views": 1},
        {"rotation_degrees": -1.0},
        {"shift": 0.9},
        {"zoom": 0.5},
        {"overlap": 1.5},
        {"abstract": 0.0, "trunk": 0.0, "head": 0.0, "limb": 0.0},
        {"limb": -1.0},
        {"labels": 1.0},
        {"label_edges_min": 2.0, "label_edges_max": 1.0},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match="Synthetic pairs"):
        SyntheticSettings(**wrong)
