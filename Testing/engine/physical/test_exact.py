"""Maps brought through points exactly: met, without folds, everything else bit for bit."""

import numpy as np
from carlreg.physical import PhysicalTransform, jacobian_determinant
from carlreg.physical.exact import through_points
from carlreg.spaces import VolumeGrid
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

GRID = VolumeGrid(
    (30, 32, 28), [2.0, 2.5, 3.0], [-30.0, -40.0, -42.0], Rotation.from_euler("z", 20, degrees=True).as_matrix()
)


def some_map():
    noise = np.random.default_rng(1).standard_normal((*GRID.shape_dhw, 3))
    field = np.stack([gaussian_filter(noise[..., axis], 4.0) for axis in range(3)], axis=-1)
    affine = np.eye(4)
    affine[:3, :3] = 1.2 * Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    affine[:3, 3] = [100, -50, 20]
    return PhysicalTransform(affine, (0.5 * field / field.std()).astype(np.float32), GRID)


def points(count, seed=0):
    return GRID.points(np.random.default_rng(seed).uniform(8, 20, size=(count, 3)))


def test_passes_through_all_points_without_folds():
    """Oracle: SimpleITK's transform."""
    start, fixed = some_map(), points(6)
    moving = start.apply(fixed) + np.random.default_rng(2).normal(0, 0.4, fixed.shape)
    found, met = through_points(start, fixed, moving, tolerance_mm=0.02)
    itk = found.to_sitk()
    there = np.array([itk.TransformPoint(point) for point in fixed.tolist()])
    assert met.all() and np.linalg.norm(there - moving, axis=1).max() <= 0.02
    before, after = (jacobian_determinant(each, GRID) for each in (start, found))
    assert before.min() > 0 and after.min() > 0


def test_far_from_the_points_nothing_changes():
    start, fixed = some_map(), points(1)
    found, _ = through_points(start, fixed, start.apply(fixed) + 0.5, tolerance_mm=0.01)
    far = np.linalg.norm(GRID.centers() - fixed[0], axis=-1) > 6 * 3.0 + 3.0  # of six of the widest nodes
    assert far.any() and not far.all()
    np.testing.assert_array_equal(found.displacement_lps[far], start.displacement_lps[far])
    assert through_points(start, fixed, start.apply(fixed), tolerance_mm=0.01)[0] is start


def test_two_points_that_would_fold_it_are_not_both_met():
    start, fixed = some_map(), points(1)
    fixed = fixed + np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 25.0, 0.0]])
    moving = start.apply(fixed)
    moving[[0, 1]] = moving[[1, 0]] + (moving[[1, 0]] - moving[[0, 1]])  # exchanged, and farther
    found, met = through_points(start, fixed, moving, tolerance_mm=0.02)
    assert not met[:2].all() and met[2]
    assert jacobian_determinant(found, GRID).min() > 0
