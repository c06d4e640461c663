"""Linear maps found on patches: known ones are recovered to a small part of a voxel, whatever may change."""

import numpy as np
import pytest
import torch
from carlreg.errors import Cancelled
from carlreg.losses.registry import similarity_named
from carlreg.optimize.increments import increment
from carlreg.optimize.levels import LevelImages
from carlreg.optimize.linear import LinearProblem, optimize_linear
from carlreg.optimize.linear_guides import BoundaryGuide, PlacedPoints
from carlreg.optimize.patch_places import patch_places, views
from carlreg.optimize.segments import SegmentPair, Side
from carlreg.progress import Progress
from carlreg.spaces import apply_affine

from .scene import DIRECTION, corner_error, grids, picture, pose

VOXEL_MM = 3.0
CENTER = np.array([2.0, -3.0, 1.0])


def images_of(truth: np.ndarray, recolored=None, spacing: float = VOXEL_MM) -> LevelImages:
    """Pictures of one scene in two grids, the moving one under a known map of it."""
    fixed_grid, moving_grid = grids(spacing)
    moving = picture(moving_grid, np.linalg.inv(truth))
    return LevelImages(
        picture(fixed_grid, np.eye(4)), fixed_grid, moving if recolored is None else recolored(moving), moving_grid
    )


def scaled(matrix: np.ndarray, linear: np.ndarray) -> np.ndarray:
    out = matrix.copy()
    out[:3, :3] = matrix[:3, :3] @ linear
    return out


TURNED = pose([7, -5, 9], [5, -6, 4])
TRUTHS = {
    "rigid": TURNED,
    "similarity": scaled(TURNED, 1.06 * np.eye(3)),
    "affine": scaled(TURNED, np.array([[1.05, 0.04, 0.0], [0.0, 0.96, -0.03], [0.02, 0.0, 1.02]])),
}


@pytest.mark.parametrize(
    ("dof", "similarity"), [("rigid", "lncc2"), ("rigid", "lncc"), ("similarity", "lncc2"), ("affine", "lncc2")]
)
def test_known_maps_are_recovered(dof, similarity):
    levels = [images_of(TRUTHS[dof], spacing=2 * VOXEL_MM), images_of(TRUTHS[dof])]
    found = optimize_linear(levels, 2, np.eye(4), CENTER, dof=dof, similarity=similarity)
    assert corner_error(np.eye(4), TRUTHS[dof]) > 3 * VOXEL_MM
    assert corner_error(found.matrix, TRUTHS[dof]) < 0.05 * VOXEL_MM


@pytest.mark.parametrize(("similarity", "voxels"), [("lncc2", 0.1), ("mind", 0.3)])
def test_other_contrasts(similarity, voxels):
    levels = [images_of(TURNED, lambda image: 0.9 - 0.8 * image**0.7, n * VOXEL_MM) for n in (2, 1)]
    found = optimize_linear(levels, 2, pose([3, -2, 5], [3, -4, 2]), CENTER, dof="rigid", similarity=similarity)
    assert corner_error(found.matrix, TURNED) < voxels * VOXEL_MM


def test_what_may_not_change_does_not():
    """A scene that is larger than a rigid map can make it: the result is rigid, and a similarity has one stretch."""
    images = images_of(TRUTHS["affine"])
    rigid, similar = (
        optimize_linear([images], 1, TURNED, CENTER, dof=dof).matrix[:3, :3] for dof in ("rigid", "similarity")
    )
    np.testing.assert_allclose(rigid @ rigid.T, np.eye(3), atol=1e-9)
    square = similar @ similar.T
    np.testing.assert_allclose(square, square[0, 0] * np.eye(3), atol=1e-9)
    assert 1.001 < square[0, 0] < 1.05


@pytest.mark.parametrize("dof", ["rigid", "affine"])
def test_exchanged_images_give_nearly_the_inverse(dof):
    images = images_of(TRUTHS[dof])
    other = LevelImages(images.moving_11dhw, images.moving_grid, images.fixed_11dhw, images.fixed_grid)
    forward = optimize_linear([images], 1, TURNED, CENTER, dof=dof).matrix
    back = optimize_linear([other], 1, np.linalg.inv(TURNED), apply_affine(TURNED, CENTER), dof=dof).matrix
    assert corner_error(np.linalg.inv(back), forward) < 0.02 * VOXEL_MM


@pytest.mark.parametrize("dof", ["rigid", "similarity", "affine"])
@pytest.mark.parametrize("similarity", ["lncc", "lncc2"])
def test_the_gradient_is_that_of_the_loss(dof, similarity):
    """Against differences of the loss itself, with maps made as steps make them."""
    near = pose([5, -4, 7], [4, -5, 3])
    images = images_of(TURNED, spacing=5.0)
    problem = LinearProblem(images, near, CENTER, similarity=similarity, dof=dof, seed=0, finest=False)
    about, back = np.eye(4), np.eye(4)
    about[:3, 3], back[:3, 3] = problem.center["moving"], -problem.center["moving"]
    gradient = problem.normal(near).gradient
    size = 2e-3
    for n in (0, 3, len(gradient) - 1):
        losses = []
        for sign in (1, -1):
            step = np.zeros(len(gradient))
            step[n] = sign * size
            losses.append(problem.normal(about @ increment(step, dof, problem.radius_mm) @ back @ near).loss)
        assert (losses[0] - losses[1]) / (2 * size) == pytest.approx(gradient[n], abs=0.04 * np.abs(gradient).max())


def test_stretches_stay_within_bounds():
    """Half of a scene, three times as large: no affine that an anatomy could have, and none is found."""
    images = images_of(scaled(np.eye(4), np.diag([3.2, 1.0, 1.0])), spacing=5.0)
    found = optimize_linear([images], 1, np.diag([1.9, 1.0, 1.0, 1.0]), CENTER, dof="affine").matrix
    stretches = np.linalg.svd(found[:3, :3], compute_uv=False)
    assert stretches[0] < 2.501 and stretches[2] > 0.399 and stretches[0] < 1.901 * stretches[2]


def test_places_lie_where_both_count():
    """All within the fixed mask, and within what the map leads from the moving one."""
    images = images_of(np.eye(4))
    mask = torch.zeros_like(images.fixed_11dhw)
    mask[..., 8:20, 10:25, 12:30] = 1
    grid = images.fixed_grid
    own, other = (
        views(image, weight, one, CENTER)[0]
        for image, weight, one in (
            (images.fixed_11dhw, mask, grid),
            (images.moving_11dhw, None, images.moving_grid),
        )
    )
    for seen, by, of in ((own, other, grid), (other, own, images.moving_grid)):
        places = patch_places(seen, by, of, np.eye(4), similarity_named("lncc2"), seed=0)
        assert len(places) > 500
        index = grid.index(places.mean(1).numpy().astype(np.float64) + CENTER)
        assert (index > np.array([11.0, 9.0, 7.0])).all() and (index < np.array([30.0, 25.0, 20.0])).all()
    assert np.abs(DIRECTION - np.eye(3)).max() > 0.1  # of a grid that is oblique


def test_stops_when_asked():
    progress = Progress()
    progress.cancel()
    with pytest.raises(Cancelled):
        optimize_linear([images_of(TURNED)], 1, np.eye(4), CENTER, dof="rigid", progress=progress)
    progress = Progress()
    progress.stop_here()
    kept = optimize_linear([images_of(TURNED)], 1, TURNED, CENTER, dof="rigid", progress=progress)
    assert kept.iterations == [0]
    np.testing.assert_allclose(kept.matrix, TURNED, atol=1e-12)


def test_points_of_known_place_pull():
    """Where the images say nothing of a direction, as of a slab that goes on, points of known place do."""
    images = images_of(TURNED, spacing=5.0)
    fixed = np.array([[20.0, 5.0, -10.0], [-15.0, 20.0, 8.0], [0.0, -20.0, 15.0], [5.0, 0.0, 25.0]])
    off = apply_affine(pose([0, 0, 0], [6.0, 0.0, 0.0]), apply_affine(TURNED, fixed))
    errors = []
    for accuracy in (50.0, 0.1):  # hardly believed, and believed
        found = optimize_linear(
            [images], 1, TURNED, CENTER, dof="rigid", guides=[PlacedPoints(fixed, off, accuracy)]
        ).matrix
        errors.append(np.linalg.norm(apply_affine(found, fixed) - off, axis=1).mean())
    assert errors[0] > 5.5 and errors[1] < 1.0


def ellipsoids(grid, lps_from_scene):
    back = np.linalg.inv(lps_from_scene)
    x = apply_affine(back, grid.centers())
    return [
        np.linalg.norm((x - c) / r, axis=-1) < 1 for c, r in (([12, 0, -5], [20, 12, 9]), ([-18, 9, 14], [7, 9, 15]))
    ]


@pytest.mark.parametrize("dof", ["rigid", "similarity", "affine"])
def test_boundaries_of_segments_are_brought_together(dof):
    """Images that show nothing: the segments alone give the map, to a fraction of a voxel."""
    spacing = 5.0
    fixed_grid, moving_grid = grids(spacing)
    truth = TRUTHS[dof]
    blank = [
        torch.rand(1, 1, *grid.shape_dhw, generator=torch.Generator().manual_seed(n))
        for n, grid in enumerate((fixed_grid, moving_grid))
    ]
    images = LevelImages(blank[0], fixed_grid, blank[1], moving_grid)
    sides = [
        [Side.of(mask, grid, 40.0) for mask in ellipsoids(grid, matrix)]
        for grid, matrix in ((fixed_grid, np.eye(4)), (moving_grid, truth))
    ]
    pairs = [SegmentPair(str(n), 100.0, one, other) for n, (one, other) in enumerate(zip(*sides, strict=True))]
    found = optimize_linear([images], 1, np.eye(4), CENTER, dof=dof, guides=[BoundaryGuide.of(pairs)]).matrix
    surface = np.concatenate([grid_points(fixed_grid, mask) for mask in ellipsoids(fixed_grid, np.eye(4))])
    apart = np.linalg.norm(apply_affine(found, surface) - apply_affine(truth, surface), axis=1)
    assert apart.mean() < 0.2 * spacing


def grid_points(grid, mask):
    return grid.points(np.argwhere(mask)[:, ::-1])


def test_the_gradient_of_boundaries_is_that_of_their_cost():
    fixed_grid, moving_grid = grids(4.0)
    near = pose([5, -4, 7], [4, -5, 3])
    sides = [
        [Side.of(mask, grid, 40.0) for mask in ellipsoids(grid, matrix)]
        for grid, matrix in ((fixed_grid, np.eye(4)), (moving_grid, TURNED))
    ]
    guide = BoundaryGuide.of([SegmentPair(str(n), 1.0 + n, *both) for n, both in enumerate(zip(*sides, strict=True))])
    center, radius = apply_affine(near, CENTER), 50.0
    about, back = np.eye(4), np.eye(4)
    about[:3, 3], back[:3, 3] = center, -center

    def cost(matrix):
        parts = [missed.cost(center, "affine", radius) for missed in guide.missed(matrix, 4.0)]
        return sum(part[0] for part in parts), sum(part[2] for part in parts)

    gradient, size = cost(near)[1], 1e-4
    for n in (0, 2, 4, 11):
        losses = []
        for sign in (1, -1):
            step = np.zeros(12)
            step[n] = sign * size
            losses.append(cost(about @ increment(step, "affine", radius) @ back @ near)[0])
        assert (losses[0] - losses[1]) / (2 * size) == pytest.approx(gradient[n], abs=0.02 * np.abs(gradient).max())
