"""The networks' parts on planes and lines."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from carlreg.errors import InputError
from carlreg.models.background import OnBackground, space_to_depth
from carlreg.models.compact_encoder import CompactEncoder, CompactEncoderSettings
from carlreg.models.compositions import COMPACT, COMPACT_ROTATION, GRADICON, Half, Refinement, assemble, in_dimension
from carlreg.models.local_attention import LocalAttentionSettings, window_offsets
from carlreg.models.unet import UNetSettings
from scipy.ndimage import gaussian_filter

SMALL = CompactEncoderSettings(pooling=1, stem_channels=8, channels=16, token_channels=8, dilations=(1,))


def image(shape, seed=0):
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return torch.tensor((noise - noise.min()) / np.ptp(noise), dtype=torch.float32)[None, None]


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_cells_become_channels_without_losing_a_voxel(dimension):
    shape = (4, 6, 2)[:dimension]
    whole = torch.arange(float(np.prod(shape))).reshape(1, 1, *shape)
    found = space_to_depth(whole)
    assert found.shape == (1, 2**dimension, *(n // 2 for n in shape))
    for corner in np.ndindex(*[2] * dimension):
        channel = int(np.ravel_multi_index(corner, [2] * dimension))
        assert torch.equal(found[0, channel], whole[(0, 0, *(slice(c, None, 2) for c in corner))])


@torch.no_grad()
@pytest.mark.parametrize("dimension", [1, 2])
def test_a_convolution_sees_endless_background(dimension):
    """Where only background is seen, features are the background's; elsewhere a wide zero margin changes nothing."""
    torch.manual_seed(0)
    layer = OnBackground(3, 4, dimension=dimension)
    background = torch.rand(1, 3, *[1] * dimension)
    shape = [9] * dimension
    features = background.expand(1, 3, *shape).clone()
    features[(..., *[4] * dimension)] += 1
    out, outside = layer(features, background)
    assert float((out - outside)[(..., *[0] * dimension)].abs().max()) < 1e-6
    wide = background.expand(1, 3, *[15] * dimension).clone()
    wide[(..., *[slice(3, 12)] * dimension)] = features
    again, _ = layer(wide, background)
    assert float((again[(..., *[slice(3, 12)] * dimension)] - out).abs().max()) < 1e-6
    assert float((out - outside).abs().max()) > 0.01


UNETS = Half(Refinement(UNetSettings(down_channels=(2, 4, 8), up_channels=(4, 4))))


@pytest.mark.parametrize("composition", [COMPACT, COMPACT_ROTATION, UNETS])
@pytest.mark.parametrize("dimension", [1, 2])
def test_whole_networks_run_and_learn_in_lower_dimensions(composition, dimension):
    torch.manual_seed(0)
    network = assemble(in_dimension(composition, dimension))
    moving, fixed = image((48, 32)[:dimension], 1), image((32, 48)[:dimension], 2)
    if composition is UNETS:
        fixed = image(moving.shape[2:], 2)
    forward, backward = network(moving, fixed)
    assert forward.map.on_grid(fixed.shape[2:]).shape == (1, dimension, *fixed.shape[2:])
    assert backward.map.on_grid(moving.shape[2:]).shape == (1, dimension, *moving.shape[2:])
    forward.map.on_grid(fixed.shape[2:]).square().sum().backward()
    last = [p.grad for name, p in network.named_parameters() if name.endswith(("last.weight", "project.layer.weight"))]
    assert last and all(g is not None and float(g.abs().max()) > 0 for g in last)


def test_half_turns_of_a_plane_turn_its_tokens():
    torch.manual_seed(0)
    encoder = CompactEncoder(replace(SMALL, dimension=2, rotations=True)).eval()
    plane = image((16, 24))
    with torch.no_grad():
        tokens, turned = encoder(plane), encoder(plane.flip((2, 3)))
    assert float((turned.flip((2, 3)) - tokens).abs().max()) < 1e-5
    plain = CompactEncoder(replace(SMALL, dimension=2)).eval()
    with torch.no_grad():
        assert float((plain(plane.flip((2, 3))).flip((2, 3)) - plain(plane)).abs().max()) > 0.01


def test_names_of_tensors_are_the_same_in_every_dimension():
    with torch.device("meta"):
        volumes, planes = (set(assemble(in_dimension(GRADICON, n)).state_dict()) for n in (3, 2))
    assert volumes == planes
    assert torch.equal(
        window_offsets(1, dimension=2), torch.tensor([[a, b] for a in (-1.0, 0, 1) for b in (-1.0, 0, 1)])
    )


@pytest.mark.parametrize("settings", [CompactEncoderSettings, LocalAttentionSettings, UNetSettings])
def test_other_dimensions_are_refused(settings):
    with pytest.raises(InputError, match="dimension of 1, 2 or 3; got 4"):
        settings(dimension=4)
    with pytest.raises(InputError, match=r"\(b, 1, h, w\)"):
        CompactEncoder(replace(SMALL, dimension=2))(torch.zeros(1, 1, 8, 8, 8))
