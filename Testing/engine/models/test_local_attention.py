"""Local attention: its window products equal a plain loop, it finds shifts, hears its surroundings, moves with both."""

import math

import numpy as np
import pytest
import torch
from carlreg.errors import InputError
from carlreg.maps import Affine, CompositeMap
from carlreg.models.local_attention import (
    LocalAttention,
    LocalAttentionSettings,
    _WindowProducts,
    window_offsets,
)
from carlreg.models.operators import TwoStep, warped_by
from scipy.ndimage import gaussian_filter
from scipy.special import softmax

COARSE = LocalAttentionSettings(stride=4, radius=3, channels=64, groups=2, token_channels=32, dilations=(1, 2, 1))
FINE = LocalAttentionSettings()


def texture(shape, seed=0, sigma=2.0):
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    return torch.tensor(noise, dtype=torch.float32)[None, None]


def network(settings, sharper=4.0):
    torch.manual_seed(0)
    net = LocalAttention(settings).eval()
    with torch.no_grad():
        net.encoder.log_temperature += math.log(sharper)
    return net


def test_window_products_equal_a_plain_loop():
    rng = np.random.default_rng(0)
    queries, keys = rng.standard_normal((2, 3, 4, 3, 5)), rng.standard_normal((2, 3, 8, 7, 9))
    found = _WindowProducts.apply(torch.tensor(queries), torch.tensor(keys), 2).numpy()
    offsets = window_offsets(2).numpy().astype(int)
    assert found.shape == (2, 125, 4, 3, 5)
    for k in (0, 7, 62, 124):
        for place in ((0, 0, 0), (3, 2, 4), (1, 2, 3)):
            at = np.array(place) + 2 + offsets[k]
            expected = (queries[(slice(None), slice(None), *place)] * keys[(slice(None), slice(None), *at)]).sum(1)
            np.testing.assert_allclose(found[(slice(None), k, *place)], expected, atol=1e-12)


def test_window_products_have_the_right_gradients():
    queries = torch.randn(1, 3, 3, 2, 2, dtype=torch.double, requires_grad=True)
    keys = torch.randn(1, 3, 5, 4, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda q, k: _WindowProducts.apply(q, k, 1), (queries, keys))


def test_each_round_is_a_softmax_drawn_toward_what_was_heard():
    net = network(FINE)
    rng = np.random.default_rng(1)
    logits, heard = rng.standard_normal((1, 125, 3, 4, 2)) * 3, rng.standard_normal((1, 3, 3, 4, 2))
    displacement, certainty = net._attend(torch.tensor(logits).float(), torch.tensor(heard).float(), torch.tensor(0.7))
    offsets = window_offsets(2).numpy().astype(float)
    apart = ((offsets[None, :, :, None, None, None] - heard[:, None]) ** 2).sum(2)
    weights = softmax(logits - 0.7 * apart, axis=1)
    mean = np.einsum("kc,bkdhw->bcdhw", offsets, weights)
    variance = np.einsum("k,bkdhw->bdhw", (offsets**2).sum(1), weights) - (mean**2).sum(1)
    np.testing.assert_allclose(displacement.numpy(), mean, atol=2e-5)
    np.testing.assert_allclose(certainty.numpy()[:, 0], 1 / (1 + variance), atol=2e-5)


def test_pieces_give_the_same_answer(monkeypatch):
    net = network(FINE)
    a, b = texture((16, 16, 24)), texture((16, 16, 24), 1)
    whole = net.match(a, b)
    monkeypatch.setattr("carlreg.models.local_attention._AT_ONCE", 125 * 8 * 12 * 3)
    monkeypatch.setattr("carlreg.models.local_attention._PRODUCTS_AT_ONCE", 16 * 8 * 12 * 3)
    pieces = net.match(a, b)
    assert torch.allclose(pieces.displacement_bndhw, whole.displacement_bndhw, atol=1e-5)
    assert torch.allclose(pieces.certainty_b1dhw, whole.certainty_b1dhw, atol=1e-5)


@pytest.mark.parametrize(("settings", "shift"), [(FINE, (2, -4, 0)), (COARSE, (8, -12, 4))])
def test_finds_a_shift_by_cells_even_untrained(settings, shift):
    """Equal surroundings give equal tokens whatever the weights, so the best key is the right one."""
    image = texture((88, 96, 88), sigma=settings.stride / 2)
    fixed = image.roll(tuple(-s for s in shift), (2, 3, 4))  # fixed(x) = moving(x + shift)
    net = network(settings, sharper=100.0)
    with torch.no_grad():
        found = net.match(image, fixed)
    cells = found.displacement_bndhw.shape[2:]
    middle = tuple(slice(3 * n // 8, n - 3 * n // 8) for n in cells)
    expected = torch.tensor(shift).view(3, 1, 1, 1) / settings.stride
    difference = (found.displacement_bndhw[0] - expected)[(slice(None), *middle)]
    assert float(difference.abs().max()) < 0.02
    assert float(found.certainty_b1dhw[0, 0][middle].min()) > 0.9
    # and the map says so in normalized coordinates
    with torch.no_grad():
        unit = net.predict(image, fixed).map.on_grid(fixed.shape[2:])
    here = torch.stack(torch.meshgrid(*[(torch.arange(n) + 0.5) / n for n in fixed.shape[2:]], indexing="ij"))
    voxels = (unit[0] - here) * torch.tensor(fixed.shape[2:]).view(3, 1, 1, 1)
    core = (slice(None), *(slice(3 * n // 8, n - 3 * n // 8) for n in fixed.shape[2:]))
    assert float((voxels[core] - torch.tensor(shift).view(3, 1, 1, 1)).abs().max()) < 0.05


@pytest.mark.parametrize("settings", [FINE, COARSE])
def test_places_without_structure_follow_their_surroundings(settings):
    """A flat hole in a shifted texture: alone it could be anywhere, with its surroundings it is shifted too."""
    image = texture((64, 48, 48))
    image[:, :, 26:38, 18:30, 18:30] = 0.5
    shift = settings.stride
    fixed = image.roll(-shift, 2)
    with torch.no_grad():
        found = network(settings, sharper=50.0).match(image, fixed)
    hole = tuple((a + b) // 2 // settings.stride for a, b in ((26 - shift, 38 - shift), (18, 30), (18, 30)))
    answer = found.displacement_bndhw[(0, slice(None), *hole)]
    assert float((answer - torch.tensor([1.0, 0, 0])).abs().max()) < 0.15


@pytest.mark.parametrize("settings", [FINE, COARSE])
def test_moves_with_both_images_by_its_stride_in_any_field_of_view(settings):
    def view(content, shape, at):
        canvas = torch.zeros(1, 1, *shape)
        canvas[0, 0, at[0] : at[0] + 32, at[1] : at[1] + 32, at[2] : at[2] + 32] = content
        return canvas

    net = network(settings)
    moving, fixed = texture((32, 32, 32), 2)[0, 0], texture((32, 32, 32), 3)[0, 0]
    found = []
    for shape, at in (((64, 64, 64), (16, 16, 16)), ((72, 64, 96), (20, 12, 44))):
        with torch.no_grad():
            field = net.match(view(moving, shape, at), view(fixed, shape, at)).displacement_bndhw[0]
        s = settings.stride
        found.append(field[(slice(None), *(slice(a // s, (a + 32) // s) for a in at))])
    assert float(found[0].norm(dim=0).mean()) > 0.2
    assert float((found[0] - found[1]).abs().max()) < 0.01  # far windows with a share of 1e-2 see the canvas


def test_learns():
    """A few steps toward a known shift reduce the loss: gradients reach every parameter."""
    net = network(FINE, sharper=1.0)
    image = texture((20, 20, 20), sigma=1.0)
    fixed = image.roll(-2, 4)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        field = net.match(image, fixed).displacement_bndhw[0, :, 3:-3, 3:-3, 3:-3]
        loss = (field - torch.tensor([0.0, 0, 1]).view(3, 1, 1, 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in net.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0], losses


@pytest.mark.parametrize(("moving", "fixed"), [((16, 16, 16), (16, 16, 20)), ((18, 16, 16), (18, 16, 16))])
def test_wrong_images_are_refused(moving, fixed):
    with pytest.raises(InputError, match="multiples of 4"):
        network(COARSE).match(torch.rand(1, 1, *moving), torch.rand(1, 1, *fixed))


@pytest.mark.parametrize("wrong", [{"stride": 3}, {"radius": 0}, {"rounds": 0}, {"channels": 33, "groups": 2}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(InputError, match="Local attention"):
        LocalAttentionSettings(**wrong)


def test_a_refiner_encodes_the_fixed_image_once_and_answers_as_step_by_step():
    step = network(FINE)
    both = TwoStep(network(FINE), step, repeats=2, relax_voxels=1.0)
    moving, fixed = texture((16, 16, 24)), texture((16, 16, 24), 1)
    encoded = []
    step.encoder.register_forward_hook(lambda *_: encoded.append(1))
    points = torch.rand(1, 3, 5, 1, 1)
    with torch.no_grad():
        refine = both.refiner(moving, fixed)
        for shift in (0.0, 0.1):
            matrix = torch.eye(4)
            matrix[0, 3] = shift
            found = refine(Affine(matrix))
            by_hand = Affine(matrix)
            for _ in range(2):
                outer, image = warped_by(by_hand, moving, fixed.shape[2:], 1.0)
                encoded_before = len(encoded)
                by_hand = CompositeMap(outer=outer, inner=step.predict(image, fixed).map)
                del encoded[encoded_before:]
            assert torch.equal(found(points), by_hand(points))
    assert len(encoded) == 1 + 2 * 2
