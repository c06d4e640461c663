"""Instance optimization of the field recovers a known smooth deformation, and its map is what it says it is."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from carlreg.errors import Cancelled, OptimizationDiverged
from carlreg.optimize import field
from carlreg.optimize.field import LevelLoss, coefficients_from, optimize_field, start_coefficients
from carlreg.optimize.levels import FieldLevel, LevelImages, schedule, split_steps
from carlreg.progress import Progress
from carlreg.spaces import VolumeGrid
from scipy.ndimage import gaussian_filter, map_coordinates
from support.geometry import points_at, to_image

GRID = VolumeGrid((40, 36, 32), [2, 2, 2.5], [10, -20, 30], np.diag([-1.0, -1.0, 1.0]))


def scene(seed=0) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=GRID.shape_dhw), 2.0)
    return ((noise - noise.min()) / (noise.max() - noise.min())).astype(np.float32)


def known_displacement() -> np.ndarray:
    """D H W 3, mm along d, h, w; smooth, up to about 6 mm."""
    rng = np.random.default_rng(7)
    field = np.stack([gaussian_filter(rng.normal(size=GRID.shape_dhw), 7.0) for _ in range(3)], axis=-1)
    return 6.0 * field / np.abs(field).max()


def pair():
    """moving(x + d(x)) = fixed(x): the fixed image is looked up in the moving one by SciPy."""
    moving, displacement = scene(), known_displacement()
    index = np.indices(GRID.shape_dhw) + np.moveaxis(displacement / GRID.spacing[::-1], -1, 0)
    fixed = map_coordinates(moving, index, order=1, mode="nearest").astype(np.float32)
    tensors = [torch.from_numpy(a)[None, None] for a in (fixed, moving)]
    return LevelImages(tensors[0], GRID, tensors[1], GRID), displacement


def stored(image, grid: VolumeGrid, axes: str):
    """The same image with other voxel axes, by SimpleITK: (1 x 1 x D x H x W, grid)."""
    given = sitk.DICOMOrient(to_image(image[0, 0].numpy(), grid), axes)
    return torch.from_numpy(sitk.GetArrayFromImage(given))[None, None], VolumeGrid.of(given)


def levels(steps=40):
    return [
        FieldLevel(spacing_mm=16.0, steps=steps, window_mm=20.0, rate_mm=1.0, bending=0, diffusion=0.02),
        FieldLevel(spacing_mm=8.0, steps=steps, window_mm=14.0, rate_mm=0.5, bending=0, diffusion=0.02),
    ]


@pytest.mark.parametrize(
    ("similarity", "axes"), [("lncc2", None), ("lncc2", "LPS"), ("lncc", "SAR"), ("mind", None), ("mind", "SAR")]
)
def test_known_deformation_is_recovered(similarity, axes):
    """However the moving image is stored, which is no matter of the similarity; MIND's descriptors know directions."""
    images, truth = pair()
    if axes:
        images = LevelImages(images.fixed_11dhw, GRID, *stored(images.moving_11dhw, GRID, axes))
    result = optimize_field([images] * 2, levels(), np.eye(4), GRID, similarity=similarity)
    found = result.displacement_lps(GRID)
    along_axes = found @ GRID.direction[:, ::-1]
    inner = (slice(4, -4),) * 3
    error = np.linalg.norm((along_axes - truth)[inner], axis=-1).mean()
    before = np.linalg.norm(truth[inner], axis=-1).mean()
    assert before > 1.5
    assert error < 0.3 * before if similarity != "mind" else error < 0.5 * before


def test_map_is_affine_after_displacement():
    images, _ = pair()
    affine = np.eye(4)
    affine[:3, :3] += 0.1 * np.arange(9).reshape(3, 3) / 9
    affine[:3, 3] = [3, -4, 5]
    loss = LevelLoss(images, affine, GRID, levels()[0], "lncc2")
    constant = coefficients_from(lambda p: np.broadcast_to([1.0, -2.0, 3.0], p.shape), GRID, 16.0)
    unit = loss.maps_in(constant, (slice(None),) * 3)[1][0, :, 5, 7, 9].double().numpy()
    point = GRID.lps_from_ijk @ [9, 7, 5, 1]
    moved = affine @ (point + np.append(GRID.direction @ [3.0, -2.0, 1.0], 0))
    assert np.abs((GRID.lps_from_normalized @ [*unit, 1])[:3] - moved[:3]).max() < 1e-3


def test_thinned_out_descriptors_are_all_of_them_in_turn(monkeypatch):
    """Steps at every second voxel along the axes of short ones: the mean of their losses and gradients is that of
    all voxels, each of which counts."""
    images, _ = pair()
    monkeypatch.setattr(field, "SMALL", 0)
    losses, gradients = [], []
    for every in (1, 2):
        level = replace(levels()[0], every=every)
        loss_of = LevelLoss(images, np.diag([0.6, 0.6, 0.6, 1]), GRID, level, "mind")
        coefficients = start_coefficients(GRID, level.spacing_mm).requires_grad_()
        values = torch.stack([loss_of(coefficients) for _ in range(every**3)])
        assert (values.max() - values.min() > 1e-5) == (every > 1)
        losses.append(values.mean())
        gradients.append(torch.autograd.grad(values.mean(), coefficients)[0])
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-8)


def test_coefficients_reproduce_a_smooth_field():
    def wave(points):
        return np.stack([3 * np.sin(points[:, 0] / 15), points[:, 1] / 20, 2 * np.cos(points[:, 2] / 18)], axis=1)

    from carlreg.optimize.field import FieldResult

    result = FieldResult(coefficients_from(wave, GRID, 8.0), GRID, 8.0, [])
    ijk = np.indices(GRID.size_ijk).reshape(3, -1).T
    lps = points_at(GRID, ijk)
    wanted = (wave(lps) @ GRID.direction[:, ::-1].T).reshape(*GRID.size_ijk, 3).transpose(2, 1, 0, 3)
    assert np.abs(result.displacement_lps(GRID) - wanted)[3:-3, 4:-4, 4:-4].max() < 0.08


def test_same_input_same_result():
    images, _ = pair()
    first, second = (optimize_field([images], levels(8)[:1], np.eye(4), GRID) for _ in range(2))
    assert torch.equal(first.coefficients_13dhw, second.coefficients_13dhw)


def test_divergence_and_cancel_are_told():
    images, _ = pair()
    broken = LevelImages(images.fixed_11dhw * float("nan"), GRID, images.moving_11dhw, GRID)
    with pytest.raises(OptimizationDiverged, match="expected a finite loss"):
        optimize_field([broken], levels()[:1], np.eye(4), GRID)
    progress = Progress(on_record=lambda record: progress.cancel())
    with pytest.raises(Cancelled):
        optimize_field([images], levels()[:1], np.eye(4), GRID, progress=progress)


def test_stopped_it_keeps_the_map_that_was_shown_last():
    """At a coarse level, and before the first step: the start."""
    images, _ = pair()
    progress, shown = Progress(), []

    def watch(found):
        shown.append(found.displacement_lps(GRID))
        if len(shown) == 5:
            progress.stop_here()

    result = optimize_field([images] * 2, levels(8), np.eye(4), GRID, progress=progress, watch=watch)
    assert len(result.losses) == len(shown) == 5 and result.spacing_mm == 16.0
    assert np.array_equal(result.displacement_lps(GRID), shown[-1]) and np.abs(shown[-1] - shown[0]).max() > 0.5
    assert [(step.done, step.total, step.level) for step in progress.steps] == [(n, 16, 0) for n in range(1, 6)]
    assert progress.steps[-1].similarity > progress.steps[0].similarity
    start = coefficients_from(lambda p: np.broadcast_to([1.0, -2.0, 3.0], p.shape), GRID, 16.0)
    again = optimize_field([images] * 2, levels(8), np.eye(4), GRID, start_13dhw=start, progress=progress)
    assert torch.equal(again.coefficients_13dhw, start) and again.losses == []


def test_masked_voxels_do_not_pull():
    """Half of the moving image is replaced by another scene; a mask over it leaves the other half's result alone."""
    images, truth = pair()
    weight = torch.ones_like(images.fixed_11dhw)
    weight[..., 20:] = 0
    spoiled = images.moving_11dhw.clone()
    spoiled[..., 24:] = torch.from_numpy(scene(3))[None, None, :, :, 24:]
    masked = LevelImages(images.fixed_11dhw, GRID, spoiled, GRID, fixed_weight_11dhw=weight)
    found = optimize_field([masked] * 2, levels(), np.eye(4), GRID).displacement_lps(GRID) @ GRID.direction[:, ::-1]
    inner = (slice(4, -4), slice(4, -4), slice(4, 16))
    error = np.linalg.norm((found - truth)[inner], axis=-1).mean()
    assert error < 0.35 * np.linalg.norm(truth[inner], axis=-1).mean()


def test_schedule_spends_exactly_the_steps():
    for total in (1, 2, 3, 7, 50, 100, 333):
        assert sum(split_steps(total)) == total
    spacings = [level.spacing_mm for level in schedule(100, 1.4, 2.0)]
    assert np.divide(spacings[:-1], spacings[1:]) == pytest.approx([2.0] * (len(spacings) - 1))
    assert schedule(10, 1.0, 2.0)[0].diffusion == pytest.approx(2 * schedule(10, 1.0, 1.0)[0].diffusion)
