"""Painted anatomies: shapes have the size they were given, tissues their share, and bodies differ."""

import itertools
import math

import numpy as np
import pytest
import torch
from carlreg.training.anatomies import PAINTERS, make_anatomy
from carlreg.training.anatomies.canvas import Canvas, Random, smooth_noise, turn


def test_extras_are_painted_where_they_say():
    anatomy = next(a for a in (make_anatomy(Random(seed), 48, missing=1.0) for seed in range(20)) if a.extras)
    extra = anatomy.extras[0]
    image = anatomy.contrasts[0][0, 0].clone()
    before = image.clone()
    extra.painted_on(image, 0)
    expected = before.clone()
    expected[extra.box] = before[extra.box] * (1 - extra.alpha_dhw) + extra.alpha_dhw * extra.values[0]
    torch.testing.assert_close(image, expected)


@pytest.mark.parametrize(("size", "seeds"), [(32, 20), pytest.param(48, 30, marks=pytest.mark.slow)])
def test_trunks_in_ct_have_air_fat_soft_tissue_and_bone(size, seeds):
    found = []
    for seed in range(seeds):
        anatomy = make_anatomy(Random(seed), size, kinds={"trunk": 1.0}, missing=0.0)
        if anatomy.modality[0] == "ct":
            values = anatomy.contrasts[0][anatomy.labels_11dhw > 0].numpy()
            found.append([np.mean((values > a) & (values < b)) for a, b in ((0.43, 0.48), (0.49, 0.58), (0.6, 1.0))])
    fat, soft, bone = np.mean(found, 0)
    assert len(found) > 8
    assert fat > 0.1 and soft > 0.2 and 0.01 < bone < 0.15
    assert soft + fat > 0.5


def test_painted_background_is_black_and_bodies_differ():
    images = []
    for seed, kind in enumerate(PAINTERS):
        anatomy = make_anatomy(Random(seed), 48, kinds={kind: 1.0})
        assert anatomy.kind == kind
        for contrast in anatomy.contrasts:
            assert contrast.min() >= 0 and contrast.max() <= 1
            assert contrast[anatomy.labels_11dhw == 0].mean() < 0.05
        images.append(anatomy.contrasts[0])
    assert all((a - b).abs().mean() > 0.02 for a, b in itertools.pairwise(images))


def test_tubes_have_the_length_and_thickness_they_were_given():
    canvas = Canvas(Random(0), 48, 1.5, ("ct", "ct"))  # 32 voxels per edge
    points = torch.stack([torch.linspace(-0.4, 0.4, 80), torch.full((80,), 0.1), torch.full((80,), -0.2)], 1)
    alpha, box = canvas.tubes(points, torch.full((80,), 0.09))
    full = torch.zeros(48, 48, 48)
    full[box] = alpha
    length, radius = 0.8 * 32, 0.09 * 32
    ball = 4 / 3 * math.pi * radius**3
    assert full.sum().item() == pytest.approx(math.pi * radius**2 * length + ball, rel=0.12)
    center = np.array(
        [(full.sum((1, 2)), full.sum((0, 2)), full.sum((0, 1)))[a] @ torch.arange(48.0) for a in range(3)]
    )
    expected = (np.array([0.0, 0.1, -0.2]) / 1.5 + 0.5) * 48 - 0.5
    np.testing.assert_allclose(center / full.sum().item(), expected, atol=0.05)
    assert canvas.tubes(points + 10.0, torch.full((80,), 0.05)) is None


def test_ellipsoids_have_the_volume_they_were_given():
    canvas = Canvas(Random(0), 48, 1.5, ("mr", "mr"))
    radii = (0.2, 0.3, 0.15)
    distance, box = canvas.ellipsoid((0.05, 0.0, -0.1), radii, turn_33=turn(Random(3)), bumpy=0.0)
    canvas.paint(canvas.soft(distance), "organ", box)
    volume = (canvas.labels_dhw == 1).sum().item() / 32**3
    assert volume == pytest.approx(4 / 3 * math.pi * math.prod(radii), rel=0.05)


def test_smooth_noise_is_centered_and_about_unit_variance():
    noise = smooth_noise(Random(0), 8, 10, 40)
    assert noise.shape == (8, 40, 40, 40)
    assert abs(noise.mean()) < 0.1
    assert 0.7 < noise.std() < 1.3
    assert (noise[:, 1:] - noise[:, :-1]).std() < 0.5 * noise.std()
