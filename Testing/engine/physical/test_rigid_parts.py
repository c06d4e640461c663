"""Parts of a map made exactly rigid: against the motions that they are given, and SimpleITK's map."""

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.optimize.segments import Side
from carlreg.physical import PhysicalTransform
from carlreg.physical.rigid_parts import RigidPart, changed_beside, share_beside, with_rigid_parts
from carlreg.spaces import VolumeGrid, apply_affine
from support.bodies import Block, sampled_displacement

OBLIQUE = np.reshape(
    sitk.VersorTransform((0.2, -0.5, 0.8), 0.4).GetMatrix(),
    (3, 3),
)


def grid_of(direction):
    return VolumeGrid((40, 36, 32), (2.0, 2.0, 2.0), (-30.0, -40.0, -25.0), direction)


def part(block, grid, inside):
    return RigidPart("part", *_side(inside, grid), block.matrix, 2.0)


def _side(inside, grid):
    side = Side.of(inside, grid, 8.0)
    return side.distance_11dhw, side.grid


def smooth_map(grid, affine):
    field_grid = grid.padded(24.0).with_spacing(3.0)
    x = field_grid.centers() - grid.center_lps
    field = np.stack([1.5 * np.sin(x[..., 1] / 20), np.cos(x[..., 2] / 25), 0.02 * x[..., 0]], axis=-1)
    fade = np.exp(-((np.linalg.norm(x, axis=-1) / 45) ** 4))[..., None]
    return PhysicalTransform(affine, (field * fade).astype(np.float32), field_grid)


@pytest.mark.parametrize("direction", [np.eye(3), np.diag([-1.0, -1.0, 1.0]), OBLIQUE])
def test_motions_are_exact_inside_and_nothing_changes_far_away(direction):
    grid = grid_of(direction)
    affine = np.eye(4)
    affine[:3, :3] = np.diag([1.1, 0.95, 1.0])
    middle = grid.center_lps
    affine[:3, 3] = middle - affine[:3, :3] @ middle
    known = smooth_map(grid, affine)
    blocks = [
        Block(tuple(middle + direction @ [-18, 0, 0]), (9.0, 9.0, 9.0), (0.1, 0.9, 0.2), 8.0, (1.0, -2.0, 0.5)),
        Block(tuple(middle + direction @ [16, 0, 0]), (8.0, 10.0, 9.0), (1.0, 0.0, 0.0), -6.0, (0.0, 1.0, 1.0)),
    ]
    inside = [np.linalg.norm(grid.centers() - block.center, axis=-1) < 9.0 for block in blocks]
    parts = [part(block, grid, own) for block, own in zip(blocks, inside, strict=True)]
    found, report = with_rigid_parts(known, parts)
    assert report["freed"] == 0 and report["meeting"] == []
    image = grid.image(np.zeros(grid.shape_dhw, dtype=np.float32))
    moved = grid.centers() + sampled_displacement(found.to_sitk(), image)
    for block, own in zip(blocks, inside, strict=True):
        assert np.abs(moved[own] - apply_affine(block.matrix, grid.centers()[own])).max() < 1e-4
    away = np.min([np.linalg.norm(known.grid.centers() - block.center, axis=-1) for block in blocks], axis=0) > 62
    assert away.sum() > 1000
    assert np.array_equal(found.displacement_lps[away], known.displacement_lps[away])


def test_a_change_beside_parts_leaves_them_and_folds_nowhere():
    grid = grid_of(np.eye(3))
    own = np.linalg.norm(grid.centers() - grid.center_lps, axis=-1) < 9.0
    parts = [part(Block(tuple(grid.center_lps), (9.0,) * 3, (1.0, 0.0, 0.0), -6.0, (0.0, 1.0, 1.0)), grid, own)]
    known, report = with_rigid_parts(smooth_map(grid, np.eye(4)), parts)
    share = share_beside(known.grid, parts, 6.0)
    assert (share[report["held"]] == 0).all() and share[:, :, 0].min() == 1
    wild = np.sin(known.grid.centers() / 3.0)[..., ::-1] * 6.0  # folds where it is made wholly
    far = np.linalg.norm(known.grid.centers() - grid.center_lps, axis=-1) > 24
    wild[far] = [0.5, 0.0, 0.0]
    found, less = changed_beside(known, (share[..., None] * wild).astype(np.float32), report["held"])
    assert less["repaired"] > 100
    assert np.array_equal(found.displacement_lps[report["held"]], known.displacement_lps[report["held"]])
    field = sitk.GetImageFromArray(found.displacement_lps.astype(np.float64), isVector=True)
    field.SetSpacing(found.grid.spacing.tolist())
    assert sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field))[1:-1, 1:-1, 1:-1].min() > 0
    ends = np.abs(known.grid.centers() - grid.center_lps)[..., 0] > 55
    moved = found.displacement_lps[ends] - known.displacement_lps[ends]
    assert ends.sum() > 1000 and np.abs(moved - [0.5, 0, 0]).max() < 1e-3


def test_parts_that_run_into_each_other_are_named_and_nothing_folds():
    grid = grid_of(np.eye(3))
    known = smooth_map(grid, np.eye(4))
    middle = grid.center_lps
    along = (grid.centers() - middle)[..., 0]
    across = np.abs(grid.centers() - middle)[..., 1:].max(-1) < 9
    halves = [across & (along > -16) & (along < -0.9), across & (along > 0.9) & (along < 16)]
    push = [
        Block(tuple(middle), (1, 1, 1), (0, 0, 1), 0.0, (shift, 0.0, 0.0))
        for shift in (3.0, -3.0)  # by 6 mm into each other
    ]
    parts = [
        RigidPart(name, *_side(own, grid), block.matrix, 2.0)
        for name, own, block in zip(("one", "other"), halves, push, strict=True)
    ]
    found, report = with_rigid_parts(known, parts)
    assert report["meeting"] == ["one", "other"] and report["freed"] > 0
    image = grid.image(np.zeros(grid.shape_dhw, dtype=np.float32))
    field = sitk.GetImageFromArray(sampled_displacement(found.to_sitk(), image), isVector=True)
    field.SetSpacing(image.GetSpacing())
    assert sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field)).min() > 0
    deep = across & (along < -12) & (along > -16)  # far from where they meet each keeps its motion
    moved = found.apply(grid.centers()[deep]) - grid.centers()[deep]
    assert np.abs(moved - [3.0, 0, 0]).max() < 1e-4
