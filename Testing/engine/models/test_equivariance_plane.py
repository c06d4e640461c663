"""Attention in the plane moves with either image, as in space: vessel trees at different places of other canvases.

The tree's images are computed, so a shift is exact. Random weights barely distinguish places, so logits are made
sharper; the published encoder's more, because there background draws attention to its own place.
"""

import math
from random import Random

import pytest
import torch
from carlreg.maps import identity_map
from carlreg.models.compact_encoder import CompactEncoderSettings
from carlreg.models.compositions import Attention, Local, Refinement, Two, assemble, in_dimension
from carlreg.models.local_attention import LocalAttentionSettings
from carlreg.models.operators import without_refinement
from carlreg.models.paper_encoder import PaperEncoderSettings
from carlreg.models.unet import HALF_WIDTH
from carlreg.training.planar.retina import SmoothMap, grow, paint

TREE = 64  # pixels of the square that shows one tree
SHARPER = 16.0
COMPACT = CompactEncoderSettings(
    pooling=1, stem_channels=8, channels=16, groups=1, dilations=(1, 2, 1), token_channels=16, dimension=2
)
PAPER = PaperEncoderSettings(channels=16, blocks=2, dilations=(1, 2), padding_cells=7, norm=16 * SHARPER, dimension=2)
LOCAL = Local(LocalAttentionSettings(channels=8, token_channels=8, dilations=(1,), dimension=2))


def trees():
    """One tree seen through two smooth maps, each TREE x TREE."""
    tree, points = grow(Random(3)), identity_map((TREE, TREE))
    maps = [SmoothMap(torch.Generator().manual_seed(seed), 0.05, torch.zeros(2)) for seed in (1, 2)]
    return [paint(tree, found(points)) for found in maps]


def on_canvas(image, shape, at):
    canvas = torch.zeros(1, 1, *shape)
    canvas[:, :, at[0] : at[0] + TREE, at[1] : at[1] + TREE] = image
    return canvas


def answers(network, moving_shape, moving_at, fixed_shape, fixed_at):
    """Where the tree's pixels go, in pixels of the moving tree's square."""
    moving, fixed = trees()
    points = identity_map((TREE, TREE)) * TREE
    shapes = [torch.tensor(s, dtype=torch.float32).view(1, 2, 1, 1) for s in (moving_shape, fixed_shape)]
    places = [torch.tensor(s, dtype=torch.float32).view(1, 2, 1, 1) for s in (moving_at, fixed_at)]
    with torch.no_grad():
        found = network.predict(on_canvas(moving, moving_shape, moving_at), on_canvas(fixed, fixed_shape, fixed_at)).map
        answer = found((points + places[1]) / shapes[1]) * shapes[0] - places[0]
    return answer[0], (fixed[0, 0] > 0.1), points[0]


HERE = ((96, 80), (8, 8), (88, 96), (8, 16))


@pytest.mark.parametrize(
    ("composition", "stride"),
    [
        (Attention(COMPACT, fill_sigma_cells=0.0), 4),
        (Two(Attention(COMPACT), LOCAL, relax_voxels=2.0), 4),
        (Attention(PAPER), 1),
    ],
    ids=["attention", "with a local step", "published encoder"],
)
def test_attention_moves_with_either_image(composition, stride):
    torch.manual_seed(0)
    network = assemble(composition).eval()
    encoder = without_refinement(network).encoder
    assert network.stride == stride
    if hasattr(encoder, "log_temperature"):
        with torch.no_grad():
            encoder.log_temperature += math.log(SHARPER)
    base, inside, points = answers(network, *HERE)
    assert float((base - points)[:, inside].norm(dim=0).mean()) > 1
    s = stride
    for there in (
        ((96, 80), (8 + 3 * s, 8 + s), *HERE[2:]),
        (*HERE[:2], (88, 96), (8 + 2 * s, 16 - 2 * s)),
        ((112, 96), (24, 16), (96, 80), (16, 8)),
    ):
        other, _, _ = answers(network, *there)
        assert float((other - base)[:, inside].norm(dim=0).max()) < 0.02, there


def test_a_u_net_does_not():
    """The same shift of one image changes what a U-Net answers: what attention is for."""
    torch.manual_seed(0)
    network = assemble(in_dimension(Refinement(HALF_WIDTH), 2)).eval()
    with torch.no_grad():
        network.unet.last.weight.normal_(0, 0.05)
    shapes = ((96, 96), (8, 8), (96, 96), (8, 8))
    base, inside, _ = answers(network, *shapes)
    other, _, _ = answers(network, (96, 96), (20, 12), (96, 96), (8, 8))
    assert float((other - base)[:, inside].norm(dim=0).mean()) > 5
