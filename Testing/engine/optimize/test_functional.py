"""Maps as functions find a known deformation of a plane, and its inverse, from random points alone."""

import dataclasses

import numpy as np
import pytest
import torch
from carlreg.errors import Cancelled, OptimizationDiverged
from carlreg.models.functional import FunctionalSettings
from carlreg.optimize.functional import (
    FunctionalLevel,
    FunctionalPair,
    Side,
    fit_functional,
    optimize_functional,
    settle_inverse,
)
from carlreg.optimize.patches import PatchImage
from carlreg.progress import Progress
from scipy.ndimage import gaussian_filter, map_coordinates

SIZE = 64
VOXEL = 2 / SIZE  # in the frame, whose square goes from -1 to 1
SETTINGS = FunctionalSettings(dimension=2, width=32, frequencies=16, global_channels=8, local_channels=8)


def displacement(points: torch.Tensor) -> torch.Tensor:
    """n x 2: up to 2.5 voxels along each axis; its derivatives stay below 0.35."""
    first, second = points[:, 0], points[:, 1]
    return 2.5 * VOXEL * torch.stack([torch.sin(3 * second + first), torch.cos(4 * first - 1)], dim=1)


def drawn(count: int) -> torch.Tensor:
    return 2 * torch.rand(count, 2) - 1


def side(image: np.ndarray) -> Side:
    axis = (torch.arange(SIZE) + 0.5) * VOXEL - 1
    centers = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)
    values = torch.from_numpy(image.astype(np.float32))[None, None]
    shares = torch.ones(len(centers), dtype=torch.float64).cumsum(0)
    return Side(PatchImage(values, None, torch.eye(2) / 2, torch.full((2,), 0.5)), centers, shares, torch.ones(2))


@pytest.fixture(scope="module")
def sides() -> tuple[Side, Side]:
    """(fixed, moving) with fixed(x) = moving(x + d(x)), read off by SciPy."""
    moving = gaussian_filter(np.random.default_rng(3).normal(size=(SIZE, SIZE)), 2.0)
    moving = (moving - moving.min()) / (moving.max() - moving.min())
    axis = (torch.arange(SIZE) + 0.5) * VOXEL - 1
    points = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)
    index = ((points + displacement(points) + 1) / VOXEL - 0.5).T.numpy()
    return side(map_coordinates(moving, index, order=1, mode="nearest").reshape(SIZE, SIZE)), side(moving)


def fresh() -> FunctionalPair:
    torch.manual_seed(0)
    return FunctionalPair(SETTINGS, (1, 1), lattice=6)


LEVELS = [
    FunctionalLevel(steps=40, window=12 * VOXEL, points=256, rate=5e-3),
    FunctionalLevel(steps=40, window=7 * VOXEL, points=256, rate=5e-3),
]


def errors(pair: FunctionalPair) -> tuple[float, float]:
    """Mean error of the map and of there-and-back, voxels, where the moving image is sure to show what is looked for"""
    points = 0.85 * drawn(2000)
    found = pair.evaluated(points)
    back = pair.evaluated(points + found, inverse=True)
    return tuple(float(each.norm(dim=1).mean() / VOXEL) for each in (found - displacement(points), found + back))


def test_a_known_deformation_and_its_inverse_are_found(sides):
    pair = fresh()
    before, _ = errors(pair)
    optimize_functional(pair, [sides] * 2, LEVELS, similarity="lncc")
    error, round_trip = errors(pair)
    assert before > 2 and error < 0.25 and round_trip < 0.15
    torch.nn.init.normal_(pair.backward_network.last.weight, std=0.02)
    spoiled, points = errors(pair)[1], drawn(9)
    still = pair.evaluated(points)
    torch.manual_seed(1)
    settle_inverse(pair, drawn, steps=60)
    assert spoiled > 1 and errors(pair)[1] < 0.1 * spoiled
    assert torch.equal(pair.evaluated(points), still)


def test_what_is_known_is_fitted_and_the_codes_alone_can_go_on_from_it(sides):
    torch.manual_seed(1)
    pair = fresh()
    fit_functional(pair, lambda points: 0.7 * displacement(points), drawn, steps=80)
    fitted, round_trip = errors(pair)
    assert 0.5 < fitted < 1.0 and round_trip < 0.15
    weights = [value.clone() for value in pair.forward_network.parameters()]
    codes = pair.local_codes.detach().clone()
    quick = [dataclasses.replace(LEVELS[1], rate=2e-2)]
    optimize_functional(pair, [sides], quick, similarity="lncc2", weights=False)
    assert errors(pair)[0] < 0.9 * fitted
    assert all(torch.equal(a, b) for a, b in zip(weights, pair.forward_network.parameters(), strict=True))
    assert not torch.equal(codes, pair.local_codes)


def test_divergence_and_cancel_are_told_and_the_same_seed_is_the_same_run(sides):
    fixed, moving = sides
    broken = dataclasses.replace(fixed, image=dataclasses.replace(fixed.image, image_11s=fixed.image.image_11s / 0))
    with pytest.raises(OptimizationDiverged, match="expected a finite loss"):
        optimize_functional(fresh(), [(broken, moving)], LEVELS[:1])
    progress = Progress(on_record=lambda record: progress.cancel())
    with pytest.raises(Cancelled):
        optimize_functional(fresh(), [sides], LEVELS[:1], progress=progress)
    short = [dataclasses.replace(LEVELS[0], steps=3)]
    one, other = (optimize_functional(fresh(), [sides], short, seed=5) for _ in range(2))
    assert one == other and len(one) == 3
