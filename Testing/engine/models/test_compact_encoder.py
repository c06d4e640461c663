"""The compact encoder: tokens are what they should be, and exactly equivariant to shifts by its stride."""

import pytest
import torch
import torch.nn.functional as F
from carlreg.errors import InputError
from carlreg.models.compact_encoder import CompactEncoder, CompactEncoderSettings


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    network = CompactEncoder(CompactEncoderSettings(stem_channels=16, channels=32, token_channels=24)).eval()
    with torch.no_grad():
        for parameter in network.parameters():  # fresh biases are near zero: background must be something of its own
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network


@pytest.fixture(scope="module")
def content():
    return torch.rand(1, 1, 40, 32, 48, generator=torch.Generator().manual_seed(1))


def _inside(tokens, padding=4):
    return tokens[:, :, padding:-padding, padding:-padding, padding:-padding]


@torch.no_grad()
def test_shape_length_and_temperature(encoder, content):
    tokens = encoder(content)
    assert tokens.shape == (1, 24, 5 + 8, 4 + 8, 6 + 8)
    torch.testing.assert_close(
        tokens.square().sum(1), torch.full(tokens.shape[:1] + tokens.shape[2:], 14.0), rtol=1e-4, atol=0
    )


@torch.no_grad()
@pytest.mark.parametrize("shift", [(8, 0, 0), (0, 16, 0), (8, 24, 16)])
def test_tokens_move_with_the_image(encoder, content, shift):
    found = []
    for move in ((0, 0, 0), shift):
        before = [place + m for place, m in zip((16, 40, 24), move, strict=True)]
        after = [96 - n - b for n, b in zip(content.shape[2:], before, strict=True)]
        tokens = _inside(
            encoder(F.pad(content, (before[2], after[2], before[1], after[1], before[0], after[0]))),
        )
        d, h, w = (b // 8 for b in before)
        found.append(tokens[:, :, d : d + 5, h : h + 4, w : w + 6])
    assert (found[0] - found[1]).abs().max() < 1e-5
    assert found[0].std(dim=(2, 3, 4)).max() > 0.01


@torch.no_grad()
def test_zero_padding_the_image_changes_nothing_inside(encoder, content):
    padded = encoder(F.pad(content, (24, 8, 16, 16, 8, 40)))
    d, h, w = 1, 2, 3
    inner = _inside(padded)[:, :, d : d + 5, h : h + 4, w : w + 6]
    assert (inner - _inside(encoder(content))).abs().max() < 1e-5


@torch.no_grad()
def test_background_far_from_the_image_gives_one_token(encoder, content):
    far = encoder(F.pad(content, (96, 0, 0, 0, 0, 0)))[0, :, :, :, :6].flatten(1)
    assert (far - far[:, :1]).abs().max() < 1e-5


def test_pooled_input_is_the_same_network(encoder, content):
    with torch.no_grad():
        assert torch.equal(encoder.encode_pooled(F.avg_pool3d(content, 2), 4), encoder(content))


def test_every_parameter_learns(encoder, content):
    encoder.zero_grad()
    encoder(content, padding_cells=1).pow(3).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_default_size():
    assert sum(p.numel() for p in CompactEncoder().parameters()) == 771_937
    assert CompactEncoderSettings().stride == 8


@pytest.mark.parametrize("shape", [(1, 1, 60, 64, 64), (1, 2, 64, 64, 64), (64, 64, 64)])
def test_wrong_shapes_are_refused(encoder, shape):
    with pytest.raises(InputError, match="multiples of 8"):
        encoder(torch.zeros(shape))


def test_wrong_settings_are_refused(encoder):
    with pytest.raises(InputError, match="groups"):
        CompactEncoderSettings(channels=100, groups=3)
    with pytest.raises(InputError, match="padding_cells"):
        encoder(torch.zeros(1, 1, 16, 16, 16), padding_cells=0)
