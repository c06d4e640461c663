"""The paper's losses give the numbers of the authors' code."""

from __future__ import annotations

import icon_registration as icon
import icon_registration.losses as authors
import numpy as np
import pytest
import torch
from carlreg.losses.paper import diffusion, dissimilarity, gradicon, local_correlation, paper_loss
from carlreg.maps import DisplacementMap

from .conftest import smooth_image

SHAPE = (20, 24, 22)


def field(seed, size=0.03):
    smooth = torch.cat([smooth_image(SHAPE, seed + k) for k in range(3)], dim=1) - 0.5
    return smooth * 2 * size


class Given(icon.RegistrationModule):
    """A registration of theirs with a known answer for each order of the images."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers

    def forward(self, image_a, image_b):
        displacement = self.as_function(self.answers[id(image_a)])
        return lambda points: points + displacement(points)


@pytest.fixture
def pair():
    moving, fixed = smooth_image(SHAPE, 11), smooth_image(SHAPE, 12)
    forward, backward = field(1), field(5)
    given = Given({id(moving): forward, id(fixed): backward})
    maps = DisplacementMap(forward, align_corners=True), DisplacementMap(backward, align_corners=True)
    return moving, fixed, given, maps


def ready(net):
    net.assign_identity_map([1, 1, *SHAPE])
    return net


@pytest.mark.parametrize(("kind", "theirs"), [("lncc", icon.LNCC), ("lncc2", authors.SquaredLNCC)])
def test_local_correlation(kind, theirs):
    first, second = smooth_image(SHAPE, 1), smooth_image(SHAPE, 2)
    expected = theirs(4).calculate_lncc(first, second)
    assert float((local_correlation(first, second) - expected).abs().max()) < 1e-3
    assert float(dissimilarity(first, second, kind)) == pytest.approx(float(theirs(4)(first, second)), abs=1e-4)


@pytest.mark.parametrize("sparse", [False, True])
def test_whole_gradicon_loss(pair, sparse):
    moving, fixed, given, maps = pair
    loss = authors.GradientICONSparse if sparse else authors.GradientICON
    net = ready(loss(given, icon.LNCC(4), 1.5))
    torch.manual_seed(7)
    expected = net(moving, fixed)
    torch.manual_seed(7)
    found = paper_loss(*maps, moving, fixed, regularizer="gradicon-sparse" if sparse else "gradicon")
    assert float(found.irregularity) == pytest.approx(float(expected.inverse_consistency_loss), rel=1e-3)
    assert float(found.dissimilarity) == pytest.approx(float(expected.similarity_loss), abs=2e-4)
    assert float(found.total) == pytest.approx(float(expected.all_loss), rel=1e-3)
    assert float(found.irregularity) > 0.01


def test_diffusion(pair):
    moving, fixed, given, maps = pair
    net = ready(authors.DiffusionRegularizedNet(given, icon.LNCC(4), 1.5))
    forward, backward = net(moving, fixed), net(fixed, moving)
    assert float(diffusion(maps[0], SHAPE)) == pytest.approx(float(forward.bending_energy_loss), rel=1e-4)
    found = paper_loss(*maps, moving, fixed, regularizer="diffusion")
    assert float(found.total) == pytest.approx((float(forward.all_loss) + float(backward.all_loss)) / 2, rel=1e-3)


def test_gradicon_is_a_third_of_the_squared_frobenius_norm():
    """For a linear error E the gradient is E everywhere."""
    matrix = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)) * 0.1
    from carlreg.maps import Affine

    def affine(linear):
        full = torch.eye(4, dtype=torch.float64)
        full[:3, :3] += linear
        return Affine(full)

    value = gradicon(affine(matrix.double()), affine(torch.zeros(3, 3)), (8, 8, 8))
    assert float(value) == pytest.approx(float((matrix**2).sum()) / 3, rel=1e-3)
    assert np.isfinite(float(value))
