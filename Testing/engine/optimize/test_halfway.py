"""Half-way space lies between both images, whichever is called fixed, and the map through it is what it says it is."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from carlreg.losses.similarity import LocalCorrelation, PairCorrelation
from carlreg.optimize.field import FieldResult, descend
from carlreg.optimize.halfway import HalfwayLoss, HalfwaySpace, displacement_on, halfway_box, halfway_displacement
from carlreg.optimize.levels import FieldLevel, LevelImages, thinned_out
from carlreg.physical import PhysicalTransform
from carlreg.preprocess import prepare
from carlreg.spaces import VolumeGrid, apply_affine
from carlreg.volumes import volume_from_image
from scipy.linalg import expm
from scipy.ndimage import gaussian_filter, map_coordinates

BOX = VolumeGrid((30, 28, 26), [2, 2, 2], [-20, 10, 5], np.eye(3))


def affine(degrees: float, seed: int = 0) -> np.ndarray:
    """A turn about an oblique axis with stretches and a shift, by SciPy."""
    rng = np.random.default_rng(seed)
    axis = np.array([2.0, 3.0, 6.0]) / 7 * np.radians(degrees)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    matrix = np.eye(4)
    symmetric = rng.normal(size=(3, 3)) * 0.05
    matrix[:3, :3] = expm(cross) @ expm(symmetric + symmetric.T)
    matrix[:3, 3] = rng.normal(size=3) * 30
    return matrix


def smooth(seed: int, shape=BOX.shape_dhw) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.0)
    return ((noise - noise.min()) / (noise.max() - noise.min())).astype(np.float32)


@pytest.mark.parametrize("degrees", [0, 1e-4, 35, 120, 179.9])
def test_half_way_is_half_the_way(degrees):
    matrix, center = affine(degrees), np.array([5.0, -40.0, 12.0])
    space = HalfwaySpace.between(matrix, center)
    np.testing.assert_allclose(space.moving_from_half @ np.linalg.inv(space.fixed_from_half), matrix, atol=1e-9)
    other = HalfwaySpace.between(np.linalg.inv(matrix), apply_affine(matrix, center))
    np.testing.assert_allclose(other.fixed_from_half, space.moving_from_half, atol=1e-6)
    np.testing.assert_allclose(other.moving_from_half, space.fixed_from_half, atol=1e-6)
    # Without stretches it is the square root, as SciPy has it: half the angle.
    rigid = affine(degrees)
    u, _, vt = np.linalg.svd(rigid[:3, :3])
    rigid[:3, :3] = u @ vt
    half = np.linalg.inv(HalfwaySpace.between(rigid, center).fixed_from_half)[:3, :3]
    angle = np.degrees(np.arccos(np.clip((np.trace(half) - 1) / 2, -1, 1)))
    assert angle == pytest.approx(degrees / 2, abs=1e-3)
    np.testing.assert_allclose(half @ half, rigid[:3, :3], atol=1e-9)


def test_half_turn_has_a_half():
    half_turn = np.diag([-1.0, 1.0, -1.0, 1.0])
    space = HalfwaySpace.between(half_turn, np.zeros(3))
    np.testing.assert_allclose(space.moving_from_half @ np.linalg.inv(space.fixed_from_half), half_turn, atol=1e-12)
    assert abs(np.linalg.inv(space.fixed_from_half)[1, 1] - 1) < 1e-9


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("partly", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_pair_correlation_is_that_of_either_image(squared, partly, stride):
    """Value and gradients are those of the correlation with one image held, taken from both sides."""
    one, other = (torch.from_numpy(smooth(seed))[None, None] for seed in (1, 2))
    weight = torch.ones_like(one)
    if partly:
        weight[..., :10] = 0
        weight[..., 10:14] = 0.5
    pair = PairCorrelation(one.shape[2:], [7, 5, 7], squared=squared, stride=stride)
    a, b = one.clone().requires_grad_(), other.clone().requires_grad_()
    value = pair(a, b, weight)
    value.backward()
    for moving, held, gradient in ((one, other, a.grad), (other, one, b.grad)):
        moving = moving.clone().requires_grad_()
        expected = LocalCorrelation(held, [7, 5, 7], squared=squared, stride=stride)(moving, weight, weight)
        expected.backward()
        assert float(value.detach()) == pytest.approx(float(expected.detach()), abs=2e-6)
        scale = float(moving.grad.abs().max())
        np.testing.assert_allclose(gradient.numpy(), moving.grad.numpy(), atol=2e-3 * scale)


def spline(amplitude_mm: float) -> FieldResult:
    spacing = 8.0
    shape = [int(np.ceil(e / spacing - 1e-9)) + 3 for e in BOX.extent_mm[::-1]]
    noise = np.random.default_rng(3).normal(size=(1, 3, *shape)).astype(np.float32)
    return FieldResult(torch.from_numpy(noise * amplitude_mm), BOX, spacing, [])


def test_map_through_half_way_and_its_inverse():
    """Both directions are read from one spline: one after the other they are the identity."""
    matrix = affine(50)
    space = HalfwaySpace.between(matrix, BOX.center_lps)
    found = spline(2.5)
    grids = []
    for lps_from_half in (space.fixed_from_half, space.moving_from_half):
        corners = apply_affine(lps_from_half, BOX.corners_lps())
        low, high = corners.min(0) - 10, corners.max(0) + 10
        grids.append(VolumeGrid(tuple(np.ceil(high - low).astype(int)), [1, 1, 1], low, np.eye(3)))
    forward = PhysicalTransform(matrix, displacement_on(grids[0], space, found), grids[0])
    backward = PhysicalTransform(np.linalg.inv(matrix), displacement_on(grids[1], space, found, inverse=True), grids[1])
    inside = BOX.cropped([4, 4, 4], np.asarray(BOX.size_ijk) - 4).centers().reshape(-1, 3)
    fixed = apply_affine(space.fixed_from_half, inside)
    moved = np.linalg.norm(forward.apply(fixed) - apply_affine(matrix, fixed), axis=1)
    assert moved.mean() > 1.0
    back = np.linalg.norm(backward.apply(forward.apply(fixed)) - fixed, axis=1)
    assert back.mean() < 0.02 and back.max() < 0.1  # mm, what linear interpolation leaves between nodes of 1 mm

    def displacement(points):
        return forward.apply(points) @ np.linalg.inv(matrix)[:3, :3].T + np.linalg.inv(matrix)[:3, 3] - points

    # ... and the spline is found again from the map.
    again = halfway_displacement(displacement, space)(inside)
    index = BOX.index(inside)[:, ::-1].T
    on_box = np.moveaxis(found.displacement_lps(BOX), -1, 0)
    expected = np.stack([map_coordinates(c, index, order=1) for c in on_box], axis=-1)
    # Linear interpolation between nodes at a third of the control spacing, of coefficients that are mere noise.
    assert np.linalg.norm(again - expected, axis=1).mean() < 0.03 * np.linalg.norm(expected, axis=1).mean() + 0.05


@pytest.mark.parametrize(("similarity", "every"), [("lncc2", 1), ("lncc2", 2), ("mind", 1)])
def test_known_deformation_is_recovered_from_either_side(similarity, every):
    """moving(x + d(x)) = fixed(x), made by SciPy; the images exchanged, the spline turns its sign.

    As exactly by a part of the voxels at each step.
    """
    moving = smooth(5)
    rng = np.random.default_rng(7)
    truth = np.stack([gaussian_filter(rng.normal(size=BOX.shape_dhw), 6.0) for _ in range(3)])
    truth *= 4.0 / np.abs(truth).max()  # mm along d, h, w
    index = np.indices(BOX.shape_dhw) + truth / 2.0
    fixed = map_coordinates(moving, index, order=1, mode="nearest").astype(np.float32)
    space = HalfwaySpace.between(np.eye(4), BOX.center_lps)
    levels = [
        FieldLevel(spacing_mm=16.0, steps=30, window_mm=20.0, rate_mm=1.0, bending=0, diffusion=0.02),
        FieldLevel(spacing_mm=8.0, steps=30, window_mm=14.0, rate_mm=0.5, bending=0, diffusion=0.02, every=every),
    ]
    coefficients = []
    for one, other in ((fixed, moving), (moving, fixed)):
        tensors = [torch.from_numpy(a)[None, None] for a in (one, other)]
        images = LevelImages(tensors[0], BOX, tensors[1], BOX)
        found = descend(
            [images] * 2,
            levels,
            BOX,
            lambda i, level: HalfwayLoss(i, thinned_out(BOX, level.every), space, BOX, level, similarity),
        )
        coefficients.append(found.coefficients_13dhw)
        if one is fixed:
            error = np.moveaxis(displacement_on(BOX, space, found), -1, 0)[::-1] - truth
    inner = (slice(None), *(slice(4, -4),) * 3)
    before = np.linalg.norm(truth[inner], axis=0).mean()
    assert np.linalg.norm(error[inner], axis=0).mean() < 0.25 * before
    difference = (coefficients[0] + coefficients[1]).abs().max()
    assert float(difference) < 0.02 * float(coefficients[0].abs().max())


def test_thinned_out_lattices_are_the_lattice_together():
    """Each voxel once, but for an odd one at the far end; along longer voxels all of them each time."""
    turned = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    whole = VolumeGrid((7, 8, 3), [1.5, 1.5, 4.0], [3, -2, 1], turned)
    found = thinned_out(whole, 2)
    assert [grid.size_ijk for grid in found] == [(3, 4, 3)] * 4
    index = np.concatenate([whole.index(grid.centers().reshape(-1, 3)) for grid in found])
    assert len(np.unique(np.rint(index), axis=0)) == len(index) == 6 * 8 * 3
    np.testing.assert_allclose(index, np.rint(index), atol=1e-9)
    assert index.min() == pytest.approx(0, abs=1e-9) and np.rint(index).max(0).tolist() == [5, 7, 2]
    assert len(thinned_out(BOX, 2)) == 8 and thinned_out(BOX, 1)[0].size_ijk == BOX.size_ijk


def test_box_is_what_both_show():
    """Two volumes of one body, cut at opposite ends, one of them turned: what is common, and a fifth more."""
    body = np.zeros((60, 40, 40), np.float32)
    body[5:55, 8:32, 8:32] = 1 + smooth(1, (50, 24, 24))
    turned = sitk.Euler3DTransform([20.0, 20.0, 30.0], 0.0, 0.0, np.radians(30))
    whole = sitk.GetImageFromArray(body)
    moving = sitk.Resample(whole, whole, turned, sitk.sitkLinear, 0.0)[:, :, 15:]
    fixed = whole[:, :, :45]
    fixed, moving = (prepare(volume_from_image(image, "image"), "mr") for image in (fixed, moving))
    inverse = turned.GetInverse()
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(inverse.GetMatrix(), (3, 3))
    matrix[:3, 3] = inverse.TransformPoint((0, 0, 0))
    space = HalfwaySpace.between(matrix, fixed.content.center_lps)
    box = halfway_box(space, fixed, moving)
    np.testing.assert_allclose(box.spacing, 1.0, atol=1e-6)
    faces = apply_affine(space.fixed_from_half, box.corners_lps())[:, 2]
    # Along z the bodies show 5 to 45 and 15 to 55.
    assert abs(faces.min() - 9) < 1 and abs(faces.max() - 51) < 1.5
    np.testing.assert_allclose(box.direction[:2, :2] @ box.direction[:2, :2], matrix[:2, :2], atol=1e-6)
