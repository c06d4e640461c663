"""The paper's losses give the numbers of the authors' code."""

from __future__ import annotations

import icon_registration
import icon_registration.losses as authors
import numpy as np
import pytest
import torch
from carlreg.errors import InputError
from carlreg.losses.paper import bending, diffusion, dissimilarity, gradicon, icon, local_correlation, paper_loss
from carlreg.maps import DisplacementMap

from .conftest import smooth_image

SHAPES = [(20, 24, 22), (34, 26)]


def field(shape, seed, size=0.03):
    smooth = torch.cat([smooth_image(shape, seed + k) for k in range(len(shape))], dim=1) - 0.5
    return smooth * 2 * size


class Given(icon_registration.RegistrationModule):
    """A registration of theirs with a known answer for each order of the images."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers

    def forward(self, image_a, image_b):
        displacement = self.as_function(self.answers[id(image_a)])
        return lambda points: points + displacement(points)


@pytest.fixture(params=SHAPES, ids=["volume", "plane"])
def pair(request):
    shape = request.param
    moving, fixed = smooth_image(shape, 11), smooth_image(shape, 12)
    forward, backward = field(shape, 1), field(shape, 5)
    given = Given({id(moving): forward, id(fixed): backward})
    maps = DisplacementMap(forward, align_corners=True), DisplacementMap(backward, align_corners=True)
    return moving, fixed, given, maps


def ready(net, image):
    net.assign_identity_map(list(image.shape))
    return net


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kind", "theirs"), [("lncc", icon_registration.LNCC), ("lncc2", authors.SquaredLNCC)])
def test_local_correlation(kind, theirs, shape):
    first, second = smooth_image(shape, 1), smooth_image(shape, 2)
    expected = theirs(4).calculate_lncc(first, second)
    assert float((local_correlation(first, second) - expected).abs().max()) < 1e-3
    assert float(dissimilarity(first, second, kind)) == pytest.approx(float(theirs(4)(first, second)), abs=1e-4)


@pytest.mark.parametrize("sparse", [False, True])
def test_whole_gradicon_loss(pair, sparse):
    moving, fixed, given, maps = pair
    loss = authors.GradientICONSparse if sparse else authors.GradientICON
    net = ready(loss(given, icon_registration.LNCC(4), 1.5), moving)
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
    net = ready(authors.DiffusionRegularizedNet(given, icon_registration.LNCC(4), 1.5), moving)
    forward, backward = net(moving, fixed), net(fixed, moving)
    assert float(diffusion(maps[0], moving.shape[2:])) == pytest.approx(float(forward.bending_energy_loss), rel=1e-4)
    found = paper_loss(*maps, moving, fixed, regularizer="diffusion")
    assert float(found.total) == pytest.approx((float(forward.all_loss) + float(backward.all_loss)) / 2, rel=1e-3)


@pytest.mark.parametrize("similarity", ["ssd", "lncc"])
def test_whole_icon_loss(pair, similarity):
    moving, fixed, given, maps = pair
    measure = icon_registration.SSD() if similarity == "ssd" else icon_registration.LNCC(4)
    net = ready(authors.InverseConsistentNet(given, measure, 100.0), moving)
    torch.manual_seed(7)
    expected = net(moving, fixed)
    torch.manual_seed(7)
    found = paper_loss(*maps, moving, fixed, similarity=similarity, regularizer="icon", weight=100.0)
    assert float(found.irregularity) == pytest.approx(float(expected.inverse_consistency_loss), rel=1e-4)
    assert float(found.dissimilarity) == pytest.approx(float(expected.similarity_loss), rel=1e-3)
    assert float(found.total) == pytest.approx(float(expected.all_loss), rel=1e-3)
    assert float(found.irregularity) > 1e-5


def test_bending_energy(pair):
    moving, fixed, given, maps = pair
    net = ready(authors.BendingEnergyNet(given, icon_registration.LNCC(4), 1.5), moving)
    forward, backward = net(moving, fixed), net(fixed, moving)
    assert float(bending(maps[0], moving.shape[2:])) == pytest.approx(float(forward.bending_energy_loss), rel=1e-3)
    found = paper_loss(*maps, moving, fixed, regularizer="bending")
    assert float(found.total) == pytest.approx((float(forward.all_loss) + float(backward.all_loss)) / 2, rel=1e-3)


def test_noise_of_a_batch_is_that_of_its_samples(pair):
    moving, _, _, (forward, backward) = pair
    shape = moving.shape[2:]
    both = [torch.cat([m.displacement_bndhw, -m.displacement_bndhw]) for m in (forward, backward)]
    for measure in (icon, gradicon):
        batch = [DisplacementMap(field, align_corners=True) for field in both]
        sources = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        found = float(measure(*batch, shape, generator=sources))
        alone = 0.0
        for k, seed in enumerate((1, 2)):
            single = [DisplacementMap(field[k : k + 1], align_corners=True) for field in both]
            alone += float(measure(*single, shape, generator=torch.Generator().manual_seed(seed))) / 2
        assert found == pytest.approx(alone, rel=1e-4)


def test_an_unknown_regularizer_is_refused(pair):
    moving, fixed, _, maps = pair
    with pytest.raises(InputError, match=r"one of icon, gradicon, .* bending; got 'smooth'"):
        paper_loss(*maps, moving, fixed, regularizer="smooth")


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
