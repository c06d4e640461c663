"""NePhi: codes from an encoder, maps both ways, learned from images alone."""

import pytest
import torch
import torch.nn.functional as F
from carlreg.errors import CheckpointError, InputError
from carlreg.losses.paper import gradicon
from carlreg.maps import Affine, identity_map, sample
from carlreg.models import registry
from carlreg.models.checkpoints import part_of_names, put_own, read_weights, save_weights
from carlreg.models.compositions import PLANE_NEPHI, assemble
from carlreg.models.functional import FunctionalSettings
from carlreg.models.local_attention import LocalAttentionSettings
from carlreg.models.nephi import Nephi, NephiSettings
from carlreg.training import networks

SMALL = NephiSettings(
    size=16, channels=(8, 16), local_level=1, functional=FunctionalSettings(dimension=2, width=32, frequencies=16)
)


def disk(row: float, column: float, shape=(24, 24)) -> torch.Tensor:
    """1 1 h w: a soft disk about a point in normalized coordinates."""
    points = identity_map(shape)
    away = (points - torch.tensor([row, column]).view(1, 2, 1, 1)).norm(dim=1, keepdim=True)
    return torch.sigmoid(40 * (0.25 - away))


def drawn(network: Nephi) -> Nephi:
    for part in (network.there, network.back):
        torch.nn.init.normal_(part.last.weight, std=0.05)
    return network


def test_a_fresh_network_moves_nothing_and_a_start_stays():
    network = registry.build("nephi")
    moving, fixed = torch.rand(1, 1, 20, 24, 28), torch.rand(1, 1, 22, 24, 26)
    points = identity_map((5, 4, 3))
    with torch.no_grad():
        forward, backward = network.predict_both(moving, fixed)
        assert torch.equal(forward.map(points), points) and torch.equal(backward.map(points), points)
        matrix = torch.eye(4) + 0.05 * torch.rand(4, 4)
        start = Affine(matrix)
        assert torch.equal(network.refine(start, moving, fixed)(points), start(points))


def test_both_directions_hang_on_the_codes_and_a_start_comes_after_the_networks_map():
    torch.manual_seed(0)
    network = drawn(Nephi(SMALL)).eval()
    points = identity_map((6, 5))
    with torch.no_grad():
        one, two = (network.predict_both(disk(0.5, 0.5), disk(0.5, at)) for at in (0.4, 0.6))
        for side in range(2):
            assert (one[side].map(points) - two[side].map(points)).abs().max() > 1e-3
        start = Affine(torch.tensor([[1.0, 0.0, 0.1], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
        moved = disk(0.5, 0.4)  # seen through the start: 0.1 up
        found = network.refine(start, disk(0.6, 0.4), disk(0.5, 0.5))(points)
        inner = network.predict(moved, disk(0.5, 0.5)).map(points)
        assert (found - start(inner)).abs().max() < 0.01


def test_it_learns_to_put_a_disk_on_another():
    """Judged on pairs that it was not shown; by similarity and inverse consistency alone."""
    torch.manual_seed(0)
    network = Nephi(SMALL)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)

    def unlike(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        at = 0.4 + 0.2 * torch.rand(8, 4, generator=torch.Generator().manual_seed(seed))
        moving, fixed = (torch.cat([disk(*row.tolist()) for row in at[:, side]]) for side in (slice(2), slice(2, 4)))
        forward, backward = (found.map for found in network.predict_both(moving, fixed))
        there, back = (found.on_grid((24, 24)) for found in (forward, backward))
        difference = (sample(moving, there) - fixed).square().mean() + (sample(fixed, back) - moving).square().mean()
        return difference, gradicon(forward, backward, (12, 12), generator=torch.Generator().manual_seed(seed))

    with torch.no_grad():
        before = float(unlike(1000)[0])
    for step in range(50):
        optimizer.zero_grad(set_to_none=True)
        difference, irregular = unlike(step)
        (difference + 0.03 * irregular).backward()
        optimizer.step()
    with torch.no_grad():
        difference, irregular = unlike(1000)
    assert float(difference) < 0.4 * before
    assert float(irregular) < 0.2  # of a map with its inverse: far from a fold


def test_weights_are_saved_and_those_of_others_are_refused(tmp_path):
    network = registry.build("nephi")
    assert set(part_of_names(network).values()) == {"refinement"}
    file = tmp_path / "nephi.safetensors"
    save_weights(network, file, {"carlreg_model": "nephi"})
    loaded = registry.load("nephi", file)
    assert loaded.trained == {"refinement": True}
    wanted = network.encoder.down[0][0].weight
    assert (loaded.network.encoder.down[0][0].weight - wanted).abs().max() < 1e-3
    with pytest.raises(CheckpointError, match="expected weights of eoir, got those of nephi"):
        registry.load("eoir", file)
    with pytest.raises(CheckpointError, match="does not fit the network"):
        put_own(assemble(PLANE_NEPHI), read_weights(file), "nephi")
    theirs = tmp_path / "theirs.pt"
    torch.save({"encoder.local_encoder.conv.weight": torch.rand(3)}, theirs)
    with pytest.raises(CheckpointError, match="expected a safetensors file made by carlreg for nephi"):
        registry.load("nephi", theirs)
    with pytest.raises(InputError, match="local codes after one of them"):
        NephiSettings(size=16, channels=(8, 8), local_level=2)


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_fresh_encoders_first_codes_tell_the_sign_of_a_small_motion(dimension):
    """Optical flow's brightness constancy as the oracle: images moved by a known amount along one axis, both ways."""
    torch.manual_seed(1)
    settings = NephiSettings(size=32, functional=FunctionalSettings(dimension=dimension))
    encoder = Nephi(settings).eval().encoder
    image = torch.rand(1, 1, *[12] * dimension)  # structures of some voxels
    points = identity_map([32] * dimension) * 0.8 + 0.1
    fixed = sample(image, points)
    for axis in range(dimension):
        shift = torch.zeros(1, dimension, *[1] * dimension)
        shift[0, axis] = 0.8 / 32
        with torch.no_grad():
            codes = [encoder(sample(image, points - sign * shift), fixed).local_bcs for sign in (1, -1)]
        told = (codes[1] - codes[0]).flatten(2).mean(2)[0, :dimension]
        assert told[axis] > 0.3 and (told - told[axis] * torch.eye(dimension)[axis]).abs().max() < 0.4 * told[axis]


def test_matching_tells_the_encoder_a_known_motion_and_is_left_as_it_is():
    """With the shipped local attention, and sines that are still silent, the codes alone bring most of the motion."""
    torch.manual_seed(0)
    network = networks.build("nephi")
    assert networks.put_start(network, "nephi", "carl-compact").parts == ["refinement"]
    texture = F.interpolate(torch.rand(1, 1, 16, 16, 16), scale_factor=4, mode="trilinear")
    points = identity_map((48, 48, 48))
    shift = torch.tensor([2.0, -1.5, 1.0]).view(1, 3, 1, 1, 1) / 48
    moving, fixed = sample(texture, points * 0.7 + 0.15), sample(texture, (points + shift) * 0.7 + 0.15)
    codes = network.codes(moving, fixed)
    middle = codes.local_bcs[..., 2:-2, 2:-2, 2:-2].flatten(2).mean(2)[0] / 24  # shares of the field of view
    for told, wanted in ((middle[0:3], shift), (middle[4:7], -shift)):
        assert ((told - wanted.flatten()).abs() * 48).max() < 0.3  # voxels; unmoved: 2
    with torch.no_grad():
        network.there.direct.weight[:, 16:19] = torch.eye(3) / 24
    found = network.predict(moving, fixed).map(points[..., 12:36, 12:36, 12:36])
    error = (found - points[..., 12:36, 12:36, 12:36] - shift) * 48
    assert error.norm(dim=1).mean() < 0.5
    error.square().mean().backward()
    assert all(p.grad is None for p in network.encoder.matching.parameters())
    assert network.there.direct.weight.grad.abs().max() > 0
    with pytest.raises(InputError, match="local codes of at least 8 channels"):
        NephiSettings(matching=LocalAttentionSettings(), functional=FunctionalSettings(local_channels=4))
