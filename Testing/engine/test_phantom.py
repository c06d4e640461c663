"""The generated pair: repeatable, labeled, and truly related by the map it comes with (SimpleITK is the oracle)."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg import phantom


@pytest.fixture(scope="module")
def pair():
    return phantom.make_pair()


def truth_as_field(pair) -> sitk.DisplacementFieldTransform:
    """The true map, evaluated at every fixed voxel by way of SimpleITK's own geometry."""
    fixed = pair.fixed
    points = sitk.GetArrayFromImage(
        sitk.PhysicalPointSource(
            sitk.sitkVectorFloat64, fixed.GetSize(), fixed.GetOrigin(), fixed.GetSpacing(), fixed.GetDirection()
        )
    )
    moved = pair.moving_from_fixed(points.reshape(-1, 3)).reshape(points.shape)
    field = sitk.GetImageFromArray(moved - points, isVector=True)
    field.CopyInformation(fixed)
    return sitk.DisplacementFieldTransform(field)


@pytest.fixture(scope="module")
def truth(pair):
    return truth_as_field(pair)


@pytest.fixture(scope="module")
def common(pair, truth) -> np.ndarray:
    """Fixed voxels that the moving field of view holds, with a voxel to spare."""
    ones = sitk.Image(pair.moving.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(pair.moving)
    seen = sitk.Resample(ones, pair.fixed, truth, sitk.sitkNearestNeighbor, 0)
    return sitk.GetArrayFromImage(sitk.BinaryErode(seen, (1, 1, 1), sitk.sitkBall, 0, 1)).astype(bool)


def test_volumes_are_ct_on_unrelated_grids(pair):
    fixed, moving = pair.fixed, pair.moving
    assert fixed.GetPixelID() == moving.GetPixelID() == sitk.sitkInt16
    assert fixed.GetSpacing() == (3.0, 3.0, 3.0)
    assert moving.GetSpacing() == pytest.approx((2.85, 2.85, 3.3))
    assert max(fixed.GetSize() + moving.GetSize()) <= 136  # registered within a minute
    assert moving.GetDirection() == (-1, 0, 0, 0, -1, 0, 0, 0, 1)
    assert np.linalg.norm(np.subtract(fixed.GetOrigin(), moving.GetOrigin())) > 500
    for image in (fixed, moving):
        hu = sitk.GetArrayViewFromImage(image)
        assert hu.min() >= -1024 and hu.max() < 1500
        assert 0.3 < (hu < -900).mean() < 0.7  # air
        assert 0.1 < ((hu > -150) & (hu < 300)).mean() < 0.6  # soft tissue


def test_fields_of_view_have_about_sixty_percent_in_common(pair, truth):
    inside = [
        pair.moving.TransformPhysicalPointToContinuousIndex(pair.moving_from_fixed(p[None])[0].tolist())[2]
        for p in np.array([[0.0, 4.0, z] for z in np.linspace(-97, 221, 200)])
    ]
    share = np.mean((np.array(inside) >= 0) & (np.array(inside) <= pair.moving.GetSize()[2] - 1))
    assert 0.5 < share < 0.7


def test_every_label_is_there(pair):
    fixed = set(np.unique(sitk.GetArrayViewFromImage(pair.fixed_labels)))
    moving = set(np.unique(sitk.GetArrayViewFromImage(pair.moving_labels)))
    assert fixed == {0, *phantom.LABELS.values()} - {phantom.LABELS["pelvis"]}
    assert moving == {0, *phantom.LABELS.values()}
    assert pair.fixed_labels.GetSize() == pair.fixed.GetSize()


def test_labels_follow_the_true_map(pair, truth, common):
    warped = sitk.GetArrayFromImage(sitk.Resample(pair.moving_labels, pair.fixed, truth, sitk.sitkNearestNeighbor, 0))
    fixed = sitk.GetArrayViewFromImage(pair.fixed_labels)
    dice, off_mm = {}, {}
    for name, label in phantom.LABELS.items():
        a, b = (fixed == label) & common, (warped == label) & common
        if a.sum() + b.sum() > 500:
            dice[name] = 2 * (a & b).sum() / (a.sum() + b.sum())
            off_mm[name] = 3.0 * np.abs(np.argwhere(a).mean(axis=0) - np.argwhere(b).mean(axis=0)).max()
    assert len(dice) >= 11
    # Sampled three times by nearest voxel, small organs lose some of their surface, and the thin ribs more.
    assert min(dice[name] for name in ("liver", "right lung", "left lung", "heart", "stomach")) > 0.95
    assert min(value for name, value in dice.items() if name not in ("ribs", "spine")) > 0.92
    assert min(dice.values()) > 0.8
    # No bias: compact organs' middles agree far below a voxel.
    assert max(off for name, off in off_mm.items() if name not in ("ribs", "spine", "aorta")) < 0.35


def test_intensities_follow_the_true_map(pair, truth, common):
    warped = sitk.GetArrayFromImage(sitk.Resample(pair.moving, pair.fixed, truth, sitk.sitkLinear, -1000))
    fixed = sitk.GetArrayViewFromImage(pair.fixed)
    body = common & (fixed > -500) & (warped > -500)
    assert np.corrcoef(fixed[body], warped[body])[0, 1] > 0.93
    assert abs(np.median(fixed[body] - warped[body])) < 3.0


def test_body_is_all_but_air_and_table(pair):
    body = sitk.GetArrayViewFromImage(pair.fixed_body) > 0
    hu = sitk.GetArrayViewFromImage(pair.fixed)
    assert body.shape == hu.shape
    assert np.all(body[sitk.GetArrayViewFromImage(pair.fixed_labels) > 0])
    assert 0.4 < body.mean() < 0.7
    outside = ~body & (hu > -300)
    assert 0 < outside.mean() < 0.05  # the table, and the skin's soft edge
    assert np.argwhere(outside)[:, 1].mean() > np.argwhere(body)[:, 1].mean() + 20  # it lies below the patient


def test_landmarks_obey_the_map_and_lie_in_both_volumes(pair):
    fixed, moving = pair.landmarks
    assert len(fixed) == len(moving) >= 20
    assert np.abs(pair.moving_from_fixed(fixed) - moving).max() == 0.0
    for image, points in ((pair.fixed, fixed), (pair.moving, moving)):
        index = np.array([image.TransformPhysicalPointToContinuousIndex(p.tolist()) for p in points])
        assert index.min() > 0 and np.all(index < np.array(image.GetSize()) - 1)


def test_map_is_invertible(pair):
    random = np.random.default_rng(1)
    points = random.uniform((-180, -120, -240), (180, 120, 240), size=(4000, 3))
    assert np.abs(pair.moving_from_fixed.inverse(pair.moving_from_fixed(points)) - points).max() < 0.01
    step = 0.01
    columns = [(pair.moving_from_fixed(points + step * e) - pair.moving_from_fixed(points)) / step for e in np.eye(3)]
    determinant = np.linalg.det(np.stack(columns, axis=-1))
    assert determinant.min() > 0.3 and determinant.max() < 2.5
    # Not merely rigid: the deformation alone moves points by 5 to 20 mm.
    assert 5.0 < np.linalg.norm(pair.moving_from_fixed.displacement(points), axis=1).max() < 20.0


def test_same_seed_same_pair():
    first, again, other = (phantom.make_pair(seed=seed, spacing_mm=6.0) for seed in (0, 0, 1))
    for name in ("fixed", "moving", "fixed_labels", "moving_labels"):
        arrays = [sitk.GetArrayViewFromImage(getattr(pair, name)) for pair in (first, again, other)]
        assert np.array_equal(arrays[0], arrays[1])
        assert not np.array_equal(arrays[0], arrays[2])
    assert np.array_equal(first.landmarks[1], again.landmarks[1])


def test_needs_neither_torch_nor_scipy():
    code = "import sys, carlreg.phantom; sys.exit(any(m in sys.modules for m in ('torch', 'scipy', 'skimage')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
