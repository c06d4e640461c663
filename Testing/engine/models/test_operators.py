import math

import numpy as np
import pytest
import torch
from carlreg.errors import InputError
from carlreg.maps import Affine, CompositeMap, DisplacementMap, identity_map, sample
from carlreg.models.compositions import Refinement, assemble
from carlreg.models.operators import AtHalfResolution, Prediction, RegistrationNetwork, TwoStep, halved, relaxed
from carlreg.models.paper_encoder import ROTATION_ENCODER, PaperEncoder, PaperEncoderSettings
from carlreg.models.registry import build
from carlreg.models.unet import HALF_WIDTH, UNet, UNetSettings


class Fixed(RegistrationNetwork):
    """Predicts a given map and remembers what it saw."""

    def __init__(self, found, stride=1, align_corners=False):
        super().__init__()
        self.found, self._stride, self.align_corners, self.seen = found, stride, align_corners, []

    @property
    def stride(self):
        return self._stride

    def predict(self, moving, fixed):
        self.seen.append((moving, fixed))
        return Prediction(self.found)


def shift(voxels, count=16):
    matrix = torch.eye(4)
    matrix[0, 3] = voxels / count
    return Affine(matrix)


def test_two_step_warps_by_the_first_map_and_composes_first_after_second():
    grow = Affine(torch.diag(torch.tensor([1.5, 1.0, 1.0, 1.0])))
    first, second = Fixed(grow), Fixed(shift(1))
    moving, fixed = torch.rand(1, 1, 16, 8, 8), torch.rand(1, 1, 16, 8, 8)
    found = TwoStep(first, second).predict(moving, fixed).map
    (warped, seen_fixed), *_ = second.seen
    assert torch.equal(warped, sample(moving, grow.on_grid((16, 8, 8)), padding="zeros"))
    assert torch.equal(seen_fixed, fixed)
    points = torch.rand(1, 3, 2, 2, 2)
    assert torch.allclose(found(points), grow(shift(1)(points)))


def test_repeated_refinement_uses_the_same_weights_on_what_is_left():
    moving = torch.zeros(1, 1, 16, 8, 8)
    moving[:, :, 9] = 1
    second = Fixed(shift(1))
    found = TwoStep(Fixed(shift(0)), second, repeats=3).predict(moving, moving).map
    assert [int(warped[0, 0, :, 4, 4].argmax()) for warped, _ in second.seen] == [9, 8, 7]
    assert torch.allclose(found(identity_map((16, 8, 8))), shift(3)(identity_map((16, 8, 8))), atol=1e-6)


def test_both_directions_agree_with_one_at_a_time():
    torch.manual_seed(0)
    network = TwoStep(Fixed(shift(1)), AtHalfResolution(assemble(Refinement(HALF_WIDTH)))).eval()
    torch.nn.init.normal_(network.second.net.unet.last.weight, std=0.1)
    moving, fixed = torch.rand(2, 1, 1, 32, 32, 32)
    with torch.no_grad():
        both = network(moving, fixed)
        one = network.predict(moving, fixed), network.predict(fixed, moving)
    for a, b in zip(both, one, strict=True):
        assert torch.equal(a.map.on_grid((32, 32, 32)), b.map.on_grid((32, 32, 32)))


def test_strides_multiply_and_join():
    assert AtHalfResolution(Fixed(None, 4)).stride == 8
    assert TwoStep(Fixed(None, 4), AtHalfResolution(Fixed(None, 3))).stride == 12
    assert AtHalfResolution(Fixed(None, 4, align_corners=True)).stride == 1


def test_odd_sizes_are_refused_unless_align_corners():
    odd = torch.rand(1, 1, 9, 8, 8)
    with pytest.raises(InputError, match="multiples of 2"):
        AtHalfResolution(Fixed(shift(0))).predict(odd, odd)
    published = Fixed(shift(0), align_corners=True)
    AtHalfResolution(published).predict(odd, odd)
    assert published.seen[0][0].shape == (1, 1, 5, 4, 4)


@pytest.mark.parametrize("align_corners", [False, True])
def test_half_resolution_means_the_same_points_unless_align_corners(align_corners):
    """A ramp of the coordinate itself, pooled, reads off by half a voxel at the ends in the published convention."""
    count = 16
    ramp = identity_map((count, 4, 4), align_corners=align_corners)[:, :1]
    pooled = halved(ramp)
    read = identity_map((count // 2, 2, 2), align_corners=align_corners)[:, :1]
    voxels = ((pooled - read) * (count - 1 if align_corners else count))[0, 0, :, 0, 0]
    assert float(voxels[0]) == pytest.approx(0.5 if align_corners else 0, abs=1e-5)
    assert float(voxels[-1]) == pytest.approx(-0.5 if align_corners else 0, abs=1e-5)


def test_pooling_averages_what_there_is():
    image = torch.arange(5.0).view(1, 1, 5, 1, 1).expand(1, 1, 5, 4, 1)
    assert halved(image)[0, 0, :, 0, 0].tolist() == [0.5, 2.5, 4.0]


def test_relaxation_goes_on_as_the_nearest_affine_beyond_the_grid():
    """The slope of the last cells alone would be carried as far as the next step looks; NumPy's fit is the oracle."""
    shape = (12, 10, 14)
    values = identity_map(shape) + 0.01 * torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(1))
    noisy = DisplacementMap(values - identity_map(shape), extrapolate=True)
    smooth = relaxed(noisy, shape, shape, 1.0)
    inside, beyond = identity_map(shape), torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1, 1)
    slopes = smooth(inside + 2 * beyond) - smooth(inside + beyond)
    for b in range(2):
        points = torch.cat([inside[0].flatten(1), torch.ones(1, inside[0, 0].numel())]).T.double().numpy()
        fit = np.linalg.lstsq(points, values[b].flatten(1).T.double().numpy(), rcond=None)[0]
        assert np.allclose(slopes[b].flatten(1).T.numpy(), fit[0], atol=1e-5)


def test_relaxation_keeps_affine_maps_and_smooths_noise():
    matrix = torch.eye(4)
    matrix[:3, :3] += torch.randn(3, 3, generator=torch.Generator().manual_seed(0)) * 0.1
    moving_shape, fixed_shape = (20, 24, 18), (16, 24, 20)
    affine = Affine(matrix)
    smooth = relaxed(affine, moving_shape, fixed_shape, 2.0)
    assert float((smooth.on_grid(fixed_shape) - affine.on_grid(fixed_shape)).abs().max()) < 1e-5
    beyond = identity_map(fixed_shape) * 1.4 - 0.2
    assert float((smooth(beyond) - affine(beyond)).abs().max()) < 1e-5
    again = relaxed(CompositeMap(outer=smooth, inner=Affine(torch.eye(4))), moving_shape, fixed_shape, 2.0)
    assert float((again(beyond) - affine(beyond)).abs().max()) < 1e-5

    noise = torch.zeros(1, 3, 25, 25, 25)
    noise[:, :, 12, 12, 12] = 1
    spread = relaxed(DisplacementMap(noise), (25,) * 3, (25,) * 3, 2.0).displacement_bndhw[0, 0]
    assert float(spread.sum()) == pytest.approx(1, abs=1e-4)
    distance = torch.arange(25.0) - 12
    assert float((spread.sum((1, 2)) * distance**2).sum()) == pytest.approx(4, rel=0.05)  # sigma squared


def test_unet_starts_as_the_identity_and_takes_any_size():
    for shape in ((33, 20, 17), (16, 40, 9)):
        out = UNet(HALF_WIDTH)(torch.rand(2, 1, 1, *shape)[0], torch.rand(1, 1, *shape))
        assert out.shape == (1, 3, *shape) and not out.any()


def test_unet_displacement_means_the_same_number_of_voxels_in_every_field_of_view():
    """Voxel-centered: a larger field of view must not make an output mean more voxels; align_corners: a tenth of it."""
    small = UNetSettings(down_channels=(2, 4, 4), up_channels=(4, 4))
    for align_corners in (False, True):
        network = assemble(Refinement(small), align_corners=align_corners)
        torch.nn.init.constant_(network.unet.last.bias, 0.5)
        for n in (16, 32):
            image = torch.rand(1, 1, n, n, n)
            unit = network.predict(image, image).map.displacement_bndhw[0, 0, 0, 0, 0].item()
            assert unit == pytest.approx(0.05 if align_corners else 5 / n)


def test_rotation_encoder_turns_with_the_image():
    torch.manual_seed(0)
    settings = PaperEncoderSettings(
        channels=8, dilations=ROTATION_ENCODER.dilations, rotations=True, padding_cells=3, norm=4.0
    )
    encoder = PaperEncoder(settings).eval()
    image = torch.rand(1, 1, 10, 11, 12)
    with torch.no_grad():
        tokens = encoder(image)
        assert tokens.shape == (1, 8, 16, 17, 18)
        for axes in ((2, 3), (3, 4), (2, 4)):
            assert torch.allclose(encoder(image.flip(axes)), tokens.flip(axes), atol=1e-5)
        plain = PaperEncoder(PaperEncoderSettings(channels=8)).eval()
        assert not torch.allclose(plain(image.flip((2, 3))), plain(image).flip((2, 3)), atol=1e-2)
    assert float(tokens.norm(dim=1).max()) <= 4
    assert math.isclose(float(tokens.norm(dim=1).max()), 4, rel_tol=0.05)


def test_maps_of_both_directions_live_on_their_own_fixed_grid():
    torch.manual_seed(0)
    network = build("carl-compact").eval()
    moving, fixed = torch.rand(1, 1, 48, 40, 56), torch.rand(1, 1, 40, 64, 40)
    with torch.no_grad():
        forward, backward = network.predict_both(moving, fixed)
    assert forward.map.on_grid((40, 64, 40)).shape == (1, 3, 40, 64, 40)
    assert forward.attention_map_bndhw.shape == (1, 3, 5, 8, 5)
    assert backward.attention_map_bndhw.shape == (1, 3, 6, 5, 7)
    assert forward.certainty_b1dhw.shape == (1, 1, 5, 8, 5)
    assert float(forward.certainty_b1dhw.min()) >= 0 and float(forward.certainty_b1dhw.max()) <= 1
    assert isinstance(forward.map, CompositeMap)
