"""Stages B and C and own images: terms against SimpleITK, NumPy and maps whose answer is known."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from carlreg.losses import paper
from carlreg.maps import Affine, DisplacementMap, identity_map, sample
from carlreg.training import networks
from carlreg.training.images_stage import random_rotation, rotation_map, turned_inside
from carlreg.training.joint_stage import JointStage, common_labels, dice_loss, soft_dice
from carlreg.training.known_pair import OneWay, draw_pair, turn_degrees
from carlreg.training.regularity import diffusion, sparse_gradicon
from carlreg.training.settings import STAGE_SETTINGS, config_from_table
from carlreg.training.similarity_stage import SimilarityStage
from carlreg.training.stage import bin_names
from carlreg.training.stages import STAGES
from carlreg.training.synthetic import SyntheticSettings, make_views
from scipy.spatial.transform import Rotation

from .conftest import small_config, translation


def whole(true):
    ones = torch.ones_like(true[:, :1])
    return OneWay(true, ones, ones)


def random_labels(seed, shape=(12, 14, 16)):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((1, 4, 4, 4, 4), generator=generator)
    return F.interpolate(coarse, size=shape, mode="trilinear").argmax(1, keepdim=True).float()


def test_end_point_error_is_the_distance_of_two_maps():
    shape = (16, 20, 24)
    true = identity_map([n // 2 for n in shape])
    shift = torch.tensor([0.05, -0.1, 0.02])
    error = whole(true).end_point(Affine(translation(*shift)), shape)
    expected = np.linalg.norm(shift.numpy() * shape)
    assert error.item() == pytest.approx(expected, rel=1e-4)
    half = torch.zeros_like(true[:, :1])
    half[:, :, :4] = 1
    matrix = torch.eye(4)
    matrix[0, 0] = 1.5  # moves d' = 0.5 d: mean over the first half of the lattice
    centers = (np.arange(8) + 0.5) / 8
    expected = (0.5 * centers[:4] * 16).mean()
    assert OneWay(true, half, torch.ones_like(half)).end_point(Affine(matrix), shape).item() == pytest.approx(
        expected, rel=1e-4
    )


def test_the_true_map_of_a_drawn_pair_has_no_error_and_its_figures_agree_with_the_geometry():
    stiff = {"coarse_voxels": 0.0, "fine_voxels": 0.0, "sliding_voxels": 0.0}
    settings = SyntheticSettings(size=32, views=2, rotation_degrees=30.0, **stiff)
    pair, views = draw_pair(5, settings, "cpu"), make_views(5, settings)
    for way, moving, fixed in ((pair.forward, 0, 1), (pair.backward, 1, 0)):
        matrix = torch.linalg.inv(views.views[moving].matrix) @ views.views[fixed].matrix
        u, _, v = np.linalg.svd(matrix.double().cpu().numpy())
        expected = np.degrees(Rotation.from_matrix(u @ v).magnitude())
        assert way.degrees == pytest.approx(expected, abs=0.1)
        points = identity_map((16,) * 3)
        torch.testing.assert_close(way.true_b3dhw, views.moving_from_fixed(moving, fixed, points))
        assert 0 < way.overlap <= 1
    found = DisplacementMap(pair.forward.true_b3dhw - identity_map((16,) * 3))
    assert pair.forward.end_point(found, pair.shape).item() < 0.01
    assert torch.equal(pair.moving, views.images_k1dhw[:1]) and torch.equal(pair.fixed_labels, views.labels_k1dhw[1:])


def test_turn_is_the_angle_of_a_rotation():
    for degrees in (0.0, 12.0, 90.0, 179.0):
        matrix = Rotation.from_rotvec(np.radians(degrees) * np.array([0.6, 0.0, 0.8])).as_matrix()
        turned = rotation_map(torch.tensor(matrix, dtype=torch.float32), (8, 8, 8)).on_grid((8, 8, 8))
        assert turn_degrees(turned) == pytest.approx(degrees, abs=0.05)


def test_bins():
    assert bin_names("e", 0.39, 9.9) == ("e_overlap_0_40", "e_turn_0_10")
    assert bin_names("e", 0.4, 10.0) == ("e_overlap_40_60", "e_turn_10_20")
    assert bin_names("e", 1.0, 180.0) == ("e_overlap_80_100", "e_turn_45_180")


def test_dice_of_whole_labels_equals_simpleitk():
    moving, fixed = random_labels(1), random_labels(2)
    labels = torch.tensor([1.0, 2.0, 3.0])
    way = whole(identity_map((6, 7, 8)))
    # A shift by whole voxels warps labels without mixing them.
    shift = translation(2 / 12, 0.0, -3 / 16)
    found = dice_loss(Affine(shift), moving, fixed, labels, way).item()
    warped = np.zeros(moving.shape[2:], np.uint8)
    warped[:-2, :, 3:] = moving[0, 0, 2:, :, :-3].numpy()
    measure = sitk.LabelOverlapMeasuresImageFilter()
    fixed_image = sitk.GetImageFromArray(fixed[0, 0].numpy().astype(np.uint8))
    measure.Execute(fixed_image, sitk.GetImageFromArray(warped))
    expected = np.mean([measure.GetDiceCoefficient(label) for label in (1, 2, 3)])
    assert 1 - found == pytest.approx(expected, abs=1e-4)
    assert 0.1 < expected < 0.9


def test_soft_dice_equals_numpy_with_a_weight():
    a, b, weight = (torch.rand((1, n, 3, 4, 5), generator=torch.Generator().manual_seed(n)) for n in (2, 2, 1))
    x, y, w = (t.double().numpy() for t in (a, b, weight))
    expected = [2 * (x[0, i] * y[0, i] * w[0, 0]).sum() / ((x[0, i] + y[0, i]) * w[0, 0]).sum() for i in range(2)]
    np.testing.assert_allclose(soft_dice(a, b, weight).numpy(), expected, atol=1e-3)


def test_labels_are_chosen_from_those_of_both_images():
    first, second = torch.tensor([0.0, 1, 2, 3, 5]), torch.tensor([0.0, 2, 3, 4, 5])
    chosen = [
        tuple(sorted(common_labels(first, second, 2, torch.Generator().manual_seed(s)).tolist())) for s in range(30)
    ]
    assert set(chosen) == {(2.0, 3.0), (2.0, 5.0), (3.0, 5.0)}


def test_sparse_gradicon_agrees_with_the_published_form():
    shape = (24, 24, 24)
    smooth = F.interpolate(torch.randn((1, 3, 4, 4, 4), generator=torch.Generator().manual_seed(0)) * 0.05, size=shape)
    forward, backward = DisplacementMap(smooth), Affine(translation(0.0, 0.0, 0.0))
    ours = np.mean(
        [sparse_gradicon(forward, backward, shape, torch.Generator().manual_seed(s)).item() for s in range(8)]
    )
    theirs = np.mean(
        [
            paper.gradicon(forward, backward, shape, sparse=True, generator=torch.Generator().manual_seed(s)).item()
            for s in range(8)
        ]
    )
    assert ours == pytest.approx(theirs, rel=0.1)


@pytest.mark.parametrize("stage_class", [JointStage, SimilarityStage])
def test_terms_and_gradient_of_the_synthetic_stages(stage_class, width):
    config = small_config(stage_class.Settings.kind)
    stage = stage_class(config.stage, config.data)
    network = networks.build("carl-compact")
    stage.prepare(network, "carl-compact")
    draw = stage.draw(7, torch.device("cpu"))
    first, again = (stage.losses(network, draw, torch.Generator().manual_seed(7)) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    s = config.stage
    if stage_class is JointStage:
        total = s.dice_weight * first["dice_loss"] + s.end_point_weight * first["end_point"]
        total = total + s.gradicon_weight * first["gradicon"]
    else:
        total = first["dissimilarity"] + s.weight * first["gradicon"]
        forward, backward = network(draw.moving, draw.fixed)
        plain = paper.paper_loss(
            forward.map, backward.map, draw.moving, draw.fixed, similarity="lncc2", regularizer="gradicon-sparse",
            moving_mask_b1dhw=draw.moving_inside, fixed_mask_b1dhw=draw.fixed_inside,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        assert first["dissimilarity"].item() == pytest.approx(plain.dissimilarity.item(), rel=1e-5)
    assert first["loss"].item() == pytest.approx(total.item(), rel=1e-5)
    first["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    assert any(name.startswith("end_point_overlap_") for name in first)


def test_stage_c_draws_pairs_of_one_contrast():
    config = small_config("similarity", data={"synthetic": {"size": 32, "same_contrast": 0.0}})
    same = SimilarityStage(config.stage, config.data).draw(11, torch.device("cpu"))
    settings = SyntheticSettings(size=32, views=2, same_contrast=1.0)
    assert torch.equal(same.moving, make_views(11, settings).images_k1dhw[:1])


def test_diffusion_is_the_papers_for_cubes_and_zero_for_unmoved_images_of_any_shape():
    field = torch.randn((1, 3, 8, 8, 8), generator=torch.Generator().manual_seed(0)) * 0.1
    found = DisplacementMap(field)
    assert diffusion(found, (8, 8, 8), (8, 8, 8)).item() == pytest.approx(
        paper.diffusion(found, (8, 8, 8)).item(), rel=1e-5
    )
    fixed, moving = (8, 12, 16), (12, 8, 24)
    unmoved = DisplacementMap(torch.zeros(1, 3, *fixed), scale=[f / m for f, m in zip(fixed, moving, strict=True)])
    assert diffusion(unmoved, fixed, moving).item() < 1e-10


def test_random_rotations_are_rotations_evenly_or_up_to_an_angle():
    generator = torch.Generator().manual_seed(0)
    every = np.stack([random_rotation(180.0, generator).double().numpy() for _ in range(400)])
    np.testing.assert_allclose(every @ every.transpose(0, 2, 1), np.broadcast_to(np.eye(3), every.shape), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(every), 1, atol=1e-6)
    # For evenly distributed rotations the trace has mean 0 and variance 1.
    traces = every.trace(axis1=1, axis2=2)
    assert abs(traces.mean()) < 0.2 and abs(traces.var() - 1) < 0.25
    few = [random_rotation(20.0, generator).double().numpy() for _ in range(100)]
    angles = np.degrees([Rotation.from_matrix(r).magnitude() for r in few])
    assert angles.max() <= 20.01 and 5 < angles.mean() < 15


def smooth_image(shape, seed=0):
    coarse = torch.rand((1, 1, 5, 5, 5), generator=torch.Generator().manual_seed(seed))
    image = F.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)
    d, h, w = (torch.linspace(-1, 1, n) for n in shape)
    return image * ((d[:, None, None] ** 2 + h[None, :, None] ** 2 + w**2) < 0.5)


def test_rotation_map_turns_voxels_about_the_center_as_simpleitk_does():
    shape = (20, 24, 28)
    image = smooth_image(shape)
    turn = random_rotation(180.0, torch.Generator().manual_seed(3))
    turned = sample(image, rotation_map(turn, shape).on_grid(shape), padding="zeros")[0, 0].numpy()
    flip = np.eye(3)[::-1]  # tensor axes to SimpleITK's
    rigid = sitk.AffineTransform(3)
    rigid.SetMatrix((flip @ turn.double().numpy() @ flip).flatten().tolist())
    rigid.SetCenter([(n - 1) / 2 for n in shape[::-1]])
    source = sitk.GetImageFromArray(image[0, 0].numpy())
    expected = sitk.GetArrayFromImage(sitk.Resample(source, source, rigid, sitk.sitkLinear, 0.0))
    assert np.abs(turned - expected)[2:-2, 2:-2, 2:-2].max() < 2e-3


def test_rotations_inside_the_loss_leave_the_map_between_the_unturned_images(known):
    """A network that is right about the turned images is right about the unturned ones."""
    shape = (16, 20, 24)
    r, q = (random_rotation(180.0, torch.Generator().manual_seed(s)) for s in (1, 2))
    truth = translation(0.05, -0.02, 0.08)
    as_matrix = {name: rotation_map(turn, shape).matrix for name, turn in (("r", r), ("q", q))}
    # F(x) = M(T x); with M' = M o R and F' = F o Q the map from F' to M' is R^-1 T Q.
    forward = torch.linalg.inv(as_matrix["r"]) @ truth @ as_matrix["q"]
    network = known(forward, torch.linalg.inv(forward))
    moving, fixed = smooth_image(shape, 1), smooth_image(shape, 2)
    forward, backward = turned_inside(network, moving, fixed, (r, q))
    points = identity_map(shape)
    torch.testing.assert_close(forward(points), Affine(truth)(points), atol=1e-5, rtol=0)
    torch.testing.assert_close(backward(points), Affine(torch.linalg.inv(truth))(points), atol=1e-5, rtol=0)
    seen_moving, seen_fixed = network.seen[0]
    torch.testing.assert_close(seen_moving, sample(moving, rotation_map(r, shape).on_grid(shape), padding="zeros"))
    torch.testing.assert_close(seen_fixed, sample(fixed, rotation_map(q, shape).on_grid(shape), padding="zeros"))


def test_without_turns_the_network_sees_the_images(known):
    network = known(translation(0.1, 0, 0), translation(-0.1, 0, 0))
    moving, fixed = smooth_image((16, 16, 16), 1), smooth_image((16, 16, 16), 2)
    forward, _ = turned_inside(network, moving, fixed, None)
    assert network.seen[0][0] is moving and network.seen[0][1] is fixed
    assert isinstance(forward, Affine)


def test_every_kind_names_its_own_settings():
    assert {name: stage.Settings for name, stage in STAGES.items()} == STAGE_SETTINGS
    for (name, one), (other, two) in itertools.combinations(STAGES.items(), 2):
        assert one.Settings is not two.Settings, (name, other)
    for name, stage in STAGES.items():
        assert config_from_table({"run": {"steps": 1}, "stage": {"kind": name}}).stage == stage.Settings()
