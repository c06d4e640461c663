"""Inverse consistency by construction: what holds whatever the weights, and what the maps are."""

import pytest
import torch
from carlreg.errors import InputError
from carlreg.maps import identity_map
from carlreg.models.compositions import (
    CONSTRICON_COMPACT,
    Consistent,
    Linear,
    Local,
    Refinement,
    Velocity,
    assemble,
    in_dimension,
)
from carlreg.models.generators import LinearMap, VelocityGenerator, halves
from carlreg.models.local_attention import LocalAttentionSettings
from carlreg.models.matrix_net import MatrixNet, MatrixNetSettings, fitted_matrix
from carlreg.models.registry import build, load
from carlreg.models.unet import UNet, UNetSettings
from carlreg.training.data_settings import SyntheticSettings
from carlreg.training.known_pair import draw_pair

SMALL_NET = MatrixNetSettings(channels=(2, 4, 8), hidden=8)
SMALL_UNET = Refinement(UNetSettings(down_channels=(2, 4, 8), up_channels=(4, 4)))
SMALL_LOCAL = Local(LocalAttentionSettings(stride=2, channels=8, token_channels=8, radius=2))
AFFINE, RIGID, FITTED = Linear(SMALL_NET), Linear(SMALL_NET, rigid=True), Linear(SMALL_LOCAL, gain=0.5, halvings=1)
FLOW, LOCAL_FLOW = Velocity(SMALL_UNET, smooth_voxels=3.0), Velocity(SMALL_LOCAL, gain=0.5, smooth_voxels=3.0)
NESTED = Consistent(RIGID, Consistent(AFFINE, FLOW), repeats=2)
AFFINE_LIMIT, DEFORMABLE_LIMIT = 1e-5, 1e-3  # of the image


def blobs(shape, seed):
    """b1dhw (b1hw): a smooth image in the middle of background."""
    generator = torch.Generator().manual_seed(seed)
    points = identity_map(shape)
    image = torch.zeros(1, 1, *shape)
    for _ in range(12):
        center, size = (torch.rand(len(shape), generator=generator) for _ in range(2))
        center = (0.3 + 0.4 * center).reshape(1, -1, *[1] * len(shape))
        size = (0.05 + 0.07 * size).reshape(1, -1, *[1] * len(shape))
        image = image + torch.exp(-0.5 * ((points - center) / size).square().sum(1, keepdim=True))
    return (image / image.max()) * (image > 0.02 * image.max())


def live(network, moving, fixed):
    """Last layers, zero when fresh, that make every step answer something: some degrees and voxels between the two."""
    generator = torch.Generator().manual_seed(5)
    for module in network.eval().modules():
        if isinstance(module, MatrixNet | UNet):
            target = 0.2 if isinstance(module, MatrixNet) else 0.4
            with torch.no_grad():
                module.last.weight.copy_(torch.randn(module.last.weight.shape, generator=generator))
                said = module(moving, fixed) - module(fixed, moving)
                module.last.weight.mul_(target / said.abs().max())
    return network


def both(network, moving, fixed):
    with torch.no_grad():
        return [found.map for found in network.predict_both(moving, fixed)]


def assert_guaranteed(network, moving, fixed, limit, least=0.01):
    """Inverse to each other within the limit, swapped exactly, and not the identity."""
    forward, backward = both(network, moving, fixed)
    swapped_backward, swapped_forward = both(network, fixed, moving)
    for one, other, grid in ((forward, backward, moving.shape[2:]), (backward, forward, fixed.shape[2:])):
        lattice = identity_map(grid)
        assert float((one(other(lattice)) - lattice).abs().max()) < limit
        assert float((other(lattice) - lattice).abs().max()) > least
    for one, other in ((forward, swapped_forward), (backward, swapped_backward)):
        assert torch.equal(one.on_grid((8,) * (moving.ndim - 2)), other.on_grid((8,) * (moving.ndim - 2)))


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize(
    ("composition", "limit"),
    [
        (AFFINE, AFFINE_LIMIT),
        (RIGID, AFFINE_LIMIT),
        (FLOW, DEFORMABLE_LIMIT),
        (Consistent(RIGID, AFFINE, repeats=2), AFFINE_LIMIT),
        (NESTED, DEFORMABLE_LIMIT),
    ],
    ids=["affine", "rigid", "flow", "two linear steps", "all"],
)
def test_swapping_the_images_inverts_the_map_whatever_the_weights(composition, limit, published):
    torch.manual_seed(0)
    shape = (40, 48, 44)
    moving, fixed = blobs(shape, 1), blobs(shape, 2)
    network = live(assemble(composition, align_corners=published), moving, fixed)
    if published:
        forward, backward = both(network, moving, fixed)
        lattice = identity_map(shape, align_corners=True)
        assert float((forward(backward(lattice)) - lattice).abs().max()) < limit
        assert float((backward(lattice) - lattice).abs().max()) > 0.01
        assert torch.equal(both(network, fixed, moving)[1].on_grid(shape), forward.on_grid(shape))
    else:
        assert_guaranteed(network, moving, fixed, limit)


@pytest.mark.parametrize("composition", [FITTED, Consistent(FITTED, LOCAL_FLOW)], ids=["fitted", "local"])
def test_images_of_different_shapes_meet_in_one_frame(composition):
    torch.manual_seed(0)
    network = assemble(composition).eval()
    moving, fixed = blobs((40, 48, 44), 1), blobs((48, 40, 44), 2)
    limit = AFFINE_LIMIT if composition is FITTED else DEFORMABLE_LIMIT
    lattice = identity_map((48, 40, 44))
    forward, backward = both(network, moving, fixed)
    assert float((backward(forward(lattice)) - lattice).abs().max()) < limit
    assert torch.equal(both(network, fixed, moving)[1].on_grid((48, 40, 44)), forward.on_grid((48, 40, 44)))
    # One voxel size: the middles lie on each other, and one voxel is one voxel.
    middle = forward(torch.full((1, 3, 1, 1, 1), 0.5))
    assert float((middle - 0.5).abs().max()) < 0.1
    with pytest.raises(InputError, match="multiples of"):
        network.predict(moving[:, :, :-1], fixed)


def test_a_shift_of_both_images_moves_the_map_along():
    torch.manual_seed(0)
    padded = [torch.nn.functional.pad(blobs((32, 32, 32), seed), (16,) * 6) for seed in (1, 2)]
    moved = [image.roll((8, -4, 4), (2, 3, 4)) for image in padded]
    network = live(assemble(Consistent(AFFINE, Consistent(FITTED, LOCAL_FLOW))), *padded)
    shift = torch.tensor([8.0, -4.0, 4.0]).reshape(1, 3, 1, 1, 1) / 64
    points = 0.3 + 0.4 * torch.rand(1, 3, 5, 5, 5)
    here, there = (both(network, *images)[0] for images in (padded, moved))
    assert float((here(points) - points).abs().max()) * 64 > 0.5
    assert float((there(points + shift) - shift - here(points)).abs().max()) * 64 < 0.02


@pytest.mark.parametrize(
    ("composition", "limit"), [(RIGID, AFFINE_LIMIT), (FITTED, AFFINE_LIMIT), (NESTED, DEFORMABLE_LIMIT)]
)
def test_planes(composition, limit):
    torch.manual_seed(0)
    images = blobs((80, 96), 1), blobs((80, 96), 2)
    assert_guaranteed(live(assemble(in_dimension(composition, 2)), *images), *images, limit)


def test_a_rigid_step_keeps_lengths_in_voxels():
    torch.manual_seed(0)
    images = blobs((32, 48, 64), 1), blobs((32, 48, 64), 2)
    forward, _ = both(live(assemble(RIGID), *images), *images)
    voxels = torch.tensor([32.0, 48.0, 64.0])
    linear = (torch.diag(voxels) @ forward.matrix[0, :3, :3] @ torch.diag(1 / voxels)).double()
    assert torch.allclose(linear @ linear.T, torch.eye(3, dtype=torch.float64), atol=1e-5)
    assert float((linear - torch.eye(3)).abs().max()) > 0.02


def test_a_linear_velocity_flows_as_the_matrix_exponential():
    velocity = torch.tensor([[0.2, -0.3, 0.1], [0.3, -0.1, 0.0], [-0.1, 0.2, 0.1]])
    center = 0.5 * torch.ones(1, 3, 1, 1, 1)
    lattice = identity_map((24, 24, 24))
    field = torch.einsum("ij,bj...->bi...", velocity, lattice - center)
    points = center + 0.25 * (torch.rand(1, 3, 6, 6, 6) - 0.5)
    for time in (1.0, -1.0, 0.5):
        expected = center + torch.einsum("ij,bj...->bi...", torch.linalg.matrix_exp(time * velocity), points - center)
        found = VelocityGenerator(field).flows(time)[0](points)
        # Scaling and squaring begins with one step of 1/128: of the order of |velocity|^2 / 256.
        assert float((found - expected).abs().max()) < 3e-4


def test_fitted_matrix_is_the_weighted_least_squares_solution():
    generator = torch.Generator().manual_seed(0)
    positions = identity_map((6, 7, 8)) - 0.4
    truth = torch.tensor([[0.1, -0.2, 0.0, 0.3], [0.2, 0.1, 0.1, -0.1], [0.0, -0.1, 0.2, 0.05]])
    field = torch.einsum("ij,bj...->bi...", truth[:, :3], positions) + truth[:, 3].reshape(1, 3, 1, 1, 1)
    weight = torch.rand((1, 1, 6, 7, 8), generator=generator)
    spoilt, nowhere = field.clone(), weight.clone()
    spoilt[:, :, :2] += 1
    nowhere[:, :, :2] = 0
    # The ridge (0.01 beside a variance of position of about 0.08) draws the linear part to 0.
    found = fitted_matrix(spoilt, nowhere, positions)[0]
    assert torch.allclose(found, fitted_matrix(field, nowhere, positions)[0], atol=1e-5)
    rows = torch.cat([positions, torch.ones_like(positions[:, :1])], 1)[0].flatten(1).double()
    w = (nowhere / nowhere.sum()).flatten().double()
    square = (rows * w) @ rows.T + torch.diag(torch.tensor([1e-2, 1e-2, 1e-2, 1e-6], dtype=torch.float64))
    expected = torch.linalg.solve(square, (rows * w) @ field[0].flatten(1).T.double()).T
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert float((found - truth).abs().max()) < 0.08


def test_halves_are_equal_roots_and_those_of_the_inverse_their_inverses():
    angle = torch.tensor(0.7)
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:2, :2] = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]]) * 1.3
    matrix[:3, 3] = torch.tensor([0.2, -0.1, 0.4])
    before, after = halves(matrix)
    assert torch.equal(before, after) and torch.allclose(after @ before, matrix, atol=1e-12)
    assert torch.allclose(halves(torch.linalg.inv(matrix))[0], torch.linalg.inv(before), atol=1e-12)
    turned = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))  # has no root but by choice
    before, after = halves(turned)
    assert torch.allclose(after @ before, turned)


def test_a_start_is_a_first_step():
    torch.manual_seed(0)
    moving, fixed = blobs((40, 48, 44), 1), blobs((48, 40, 44), 2)
    start = torch.eye(4, dtype=torch.float64)
    start[:3, 3] = torch.tensor([0.1, -0.05, 0.02])
    points = 0.2 + 0.6 * torch.rand(1, 3, 6, 6, 6)
    idle = assemble(Consistent(AFFINE, FLOW)).eval()  # answers nothing yet
    with torch.no_grad():
        found = idle.predict_from(start, moving, fixed)[0].map(points)
    assert torch.allclose(found, LinearMap(start[None].float())(points), atol=1e-5)

    network = live(idle, moving, blobs((40, 48, 44), 2))
    with torch.no_grad():
        forward, backward = (one.map for one in network.predict_from(start, moving, fixed))
        swapped = network.predict_from(torch.linalg.inv(start), fixed, moving)[1].map
    lattice = identity_map((40, 40, 40))
    assert float((forward(points) - found).abs().max()) > 0.01
    assert float((forward(backward(lattice)) - lattice).abs().max()) < DEFORMABLE_LIMIT
    assert float((swapped(lattice) - forward(lattice)).abs().max()) < 1e-5


def test_the_compact_composition_is_what_the_registry_builds():
    with torch.device("meta"):
        assert str(assemble(CONSTRICON_COMPACT)) == str(build("constricon"))


def test_the_shipped_network_is_inverse_consistent_and_finds_a_known_map():
    pair = draw_pair(2**62 + 1, SyntheticSettings(size=48, rotation_degrees=10.0, same_contrast=1.0, shift=0.1), "cpu")
    network = load("constricon").network
    assert_guaranteed(network, pair.moving, pair.fixed, DEFORMABLE_LIMIT)
    start, found = (
        float(pair.forward.end_point(one, pair.shape))
        for one in (LinearMap(torch.eye(4)[None]), both(network, pair.moving, pair.fixed)[0])
    )
    assert start > 3 and found < 0.3 * start
