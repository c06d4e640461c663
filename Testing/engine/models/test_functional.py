"""Maps as functions: what codes say between their nodes, and maps that are the same however they are asked."""

import numpy as np
import pytest
import torch
from carlreg.errors import InputError
from carlreg.maps import identity_map
from carlreg.models.functional import CHUNK_POINTS, FunctionalMap, FunctionalNetwork, FunctionalSettings, LatentCodes
from scipy.interpolate import RegularGridInterpolator


def drawn(dims: int, batch: int = 1) -> tuple[FunctionalNetwork, LatentCodes]:
    torch.manual_seed(dims)
    settings = FunctionalSettings(dimension=dims, width=16, frequencies=8, global_channels=3, local_channels=5)
    network = FunctionalNetwork(settings)
    torch.nn.init.normal_(network.last.weight, std=0.1)
    nodes = (4, 5, 6)[:dims]
    return network, LatentCodes(torch.randn(batch, 3), torch.randn(batch, 5, *nodes))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_fresh_network_is_the_identity_and_a_changed_one_is_not(dims):
    network, codes = drawn(dims)
    points = identity_map((7, 6, 5)[:dims])
    assert (FunctionalMap(network, codes)(points) - points).abs().max() > 0.01
    fresh = FunctionalNetwork(network.settings)
    assert torch.equal(FunctionalMap(fresh, codes)(points), points)


@pytest.mark.parametrize("dims", [2, 3])
def test_codes_are_interpolated_between_their_nodes(dims):
    """(SciPy is the oracle.)"""
    _, codes = drawn(dims)
    nodes = codes.local_bcs.shape[2:]
    axes = [(np.arange(n) + 0.5) / n for n in nodes]
    points = np.random.default_rng(0).uniform(0.13, 0.87, (40, dims))
    wanted = RegularGridInterpolator(axes, codes.local_bcs[0].permute(*range(1, dims + 1), 0).numpy())(points)
    found = codes.at(torch.tensor(points, dtype=torch.float32)[None])[0]
    assert torch.equal(found[:, :3], codes.global_bc.expand(40, -1))
    assert np.abs(found[:, 3:].numpy() - wanted).max() < 1e-5


def test_a_map_is_the_same_on_a_lattice_at_single_points_and_in_parts():
    network, codes = drawn(2, batch=2)
    found = FunctionalMap(network, codes)
    lattice = identity_map((190, 180))
    assert lattice[0, 0].numel() > CHUNK_POINTS
    whole = found(lattice)  # with gradient: all at once
    with torch.no_grad():
        assert (found.on_grid((190, 180)) - whole).abs().max() < 1e-5
        alone = found(lattice[:, :, 17:18, 33:34])
    assert whole.shape == (2, 2, 190, 180)
    assert (alone[..., 0, 0] - whole[..., 17, 33]).abs().max() < 1e-5
    assert (whole[0] - whole[1]).abs().max() > 0.01  # each with its own codes


def test_codes_of_another_size_are_refused():
    network, codes = drawn(3)
    with pytest.raises(InputError, match="expected 3 global and 5 local channels in 3 dimensions, got 3 and 5 in 2"):
        FunctionalMap(network, drawn(2)[1])
    with pytest.raises(InputError, match="got 4 and 5 in 3"):
        network(torch.rand(1, 2, 3), LatentCodes(torch.randn(1, 4), codes.local_bcs))
