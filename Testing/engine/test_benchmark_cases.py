"""The benchmark's cases and judge: figures known beforehand, and small cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from benchmarks.cases import Case, load_case, shift_variant
from benchmarks.geometry import voxel_centers_lps
from benchmarks.judging import center_alignment, evaluate, jacobian_determinant, map_on_grid

IDENTITY = sitk.Transform(3, sitk.sitkIdentity)


def small_case(direction=(-1, 0, 0, 0, 0, 1, 0, 1, 0), **truth) -> Case:
    """Two equal images with a bright box inside, on a flipped and permuted grid."""
    array = np.zeros((20, 24, 28), dtype=np.int16)
    array[5:15, 6:18, 7:21] = 100
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetOrigin((30.0, -20.0, 10.0))
    image.SetDirection(direction)
    labels = sitk.Cast(image > 0, sitk.sitkUInt8)
    return Case("small", image, image, 0.0, fixed_labels=labels, moving_labels=labels, **truth)


# --- the judge ------------------------------------------------------------------------------------------------------


def test_identity_on_equal_images_is_perfect():
    figures = evaluate(small_case(truth=lambda points: points), IDENTITY)
    assert figures == {"map_mean_mm": 0.0, "map_p95_mm": 0.0, "dice_mean": 1.0, "dice_n": 1.0, "fold_percent": 0.0}


def test_dice_of_a_shift_by_two_voxels():
    # Index i runs along -x: the shift by 2 voxels of 1.5 mm takes 2 of the box's 14 columns.
    figures = evaluate(small_case(), sitk.TranslationTransform(3, (-3.0, 0.0, 0.0)))
    assert figures["dice_mean"] == pytest.approx(12 / 14)


def test_callables_and_transforms_are_judged_alike():
    case = small_case(landmarks_fixed_lps=np.zeros((2, 3)), landmarks_moving_lps=np.array([[3.0, 4, 0], [0, 0, 1]]))
    matrix = np.array([[1.05, 0.02, 0.0], [0.0, 0.97, -0.03], [0.01, 0.0, 1.02]])
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix.ravel().tolist())
    transform.SetTranslation((0.3, -0.2, 0.1))
    by_transform = evaluate(case, transform)
    by_callable = evaluate(case, lambda points: points @ matrix.T + (0.3, -0.2, 0.1))
    assert by_transform == pytest.approx(by_callable)
    off = np.linalg.norm(np.array([0.3, -0.2, 0.1]) - case.landmarks_moving_lps, axis=1)
    assert by_transform["landmarks_mean_mm"] == pytest.approx(off.mean())
    assert by_transform["landmarks_max_mm"] == pytest.approx(off.max())


@pytest.mark.parametrize(
    "direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, 0, 1, 0, 1, 0), (0, -1, 0, 1, 0, 0, 0, 0, 1)]
)
def test_determinant_of_an_affine_map(direction):
    grid = small_case(direction).fixed
    matrix = np.array([[1.2, 0.3, 0.0], [-0.1, 0.8, 0.2], [0.0, 0.1, 1.1]])
    dense = map_on_grid(lambda points: points @ matrix.T, grid)
    assert np.allclose(jacobian_determinant(dense, grid), np.linalg.det(matrix))


def test_determinant_agrees_with_simpleitk_on_a_smooth_map():
    grid = sitk.Image((20, 22, 24), sitk.sitkUInt8)
    grid.SetSpacing((1.5, 2.0, 3.0))
    points = voxel_centers_lps(grid)
    field = np.sin(points / 11.0)[:, [1, 2, 0]].reshape(24, 22, 20, 3) * 3.0
    image = sitk.GetImageFromArray(field, isVector=True)
    image.CopyInformation(grid)
    oracle = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))
    ours = jacobian_determinant(points.reshape(field.shape) + field, grid)
    assert np.abs(ours - oracle)[1:-1, 1:-1, 1:-1].max() < 1e-5


def test_folds_are_counted_in_the_body_only():
    case = small_case((1, 0, 0, 0, 1, 0, 0, 0, 1))
    mirrored_from = case.fixed.TransformIndexToPhysicalPoint((18, 0, 0))[0]

    def folded(points):
        """Mirrors what lies beyond column 18: columns 7 to 20 are body, so about 2 of 14 fold."""
        x = points[:, 0]
        return np.column_stack([np.where(x > mirrored_from, 2 * mirrored_from - x, x), points[:, 1:]])

    # Central differences: the determinant is 0 at column 18, -1 from 19 on.
    assert evaluate(case, folded)["fold_percent"] == pytest.approx(100 * 3 / 14)


def test_known_map_counts_the_common_part_only():
    # The true map takes half of the box out of moving: errors there do not count.
    shift = np.array([0.0, 0.0, 1.5 * 14])
    case = small_case((0, 0, 1, 0, 1, 0, -1, 0, 0), truth=lambda points: points + shift)
    z_of_edge = case.moving.GetOrigin()[2]

    def wrong_outside(points):
        gone = (points + shift)[:, 2] > z_of_edge
        return points + shift + np.where(gone, 50.0, 1.0)[:, None] * np.array([1.0, 0.0, 0.0])

    assert evaluate(case, wrong_outside)["map_mean_mm"] == pytest.approx(1.0)


def test_shift_variant_moves_the_content_and_keeps_the_origin():
    array = np.zeros((12, 110, 120), dtype=np.int16)
    array[3:9, 30:90, 40:100] = 500
    image = sitk.GetImageFromArray(array)
    image.SetOrigin((5.0, 6.0, 7.0))
    points = np.array([[50.0, 60.0, 12.0]])
    case = Case("box", image, image, 0.0, None, None, points, points, image, image, truth=lambda p: p)
    moved = shift_variant(case, 30)
    # 17 (18) columns (rows) of background behind the box can go, two are kept; the third axis is too short to move.
    assert moved.moving.GetSize() == (120 + 30 - 18, 110 + 30 - 18, 12)
    assert moved.moving.GetOrigin() == (5.0, 6.0, 7.0)
    box = np.argwhere(sitk.GetArrayFromImage(moved.moving) > 0)
    assert box.min(axis=0).tolist() == [3, 60, 70] and len(box) == 6 * 60 * 60
    assert moved.landmarks_moving_lps.tolist() == [[80.0, 90.0, 12.0]]
    figures = evaluate(moved, moved.truth)
    assert figures["dice_mean"] == 1.0 and figures["landmarks_mean_mm"] == 0.0 and figures["map_mean_mm"] == 0.0


def test_unknown_case_says_which_exist():
    with pytest.raises(KeyError, match="lung_rot90"):
        load_case("knee")


# --- the cases, on the evaluation volumes ---------------------------------------------------------------------------

# Landmark error without registration and with the images' middles aligned, mm, as the volumes' description has it.
BEFORE = {
    "lung": (35.27, 7.60),
    "eth18_1_10": (14.89, 14.89),
    "eth18_3_10": (16.35, 16.35),
    "eth19_1_6": (5.52, 5.52),
    "eth19_1_9": (5.01, 5.01),
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", BEFORE)
def test_landmark_error_before_registration(data_folder, name):
    case = load_case(name)
    by_header = evaluate(case, IDENTITY, dense=False)["landmarks_mean_mm"]
    by_middle = evaluate(case, center_alignment(case), dense=False)["landmarks_mean_mm"]
    assert (round(by_header, 2), round(by_middle, 2)) == BEFORE[name]


@pytest.mark.realdata
def test_dice_before_registration(data_folder):
    figures = evaluate(load_case("brain"), IDENTITY)
    assert figures["dice_n"] == 45
    assert round(figures["dice_mean"], 3) == 0.423
    assert figures["fold_percent"] == 0.0


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["lung_rot30", "lung_rot90", "lung_rot180"])
def test_turned_lungs_can_be_turned_back(data_folder, name):
    """The best rigid map (Kabsch) of the landmarks leaves what it leaves on the pair as it was, and images agree."""

    def best_rigid(case):
        a, b = case.landmarks_fixed_lps, case.landmarks_moving_lps
        u, _, vt = np.linalg.svd((a - a.mean(0)).T @ (b - b.mean(0)))
        rotation = vt.T @ np.diag([1, 1, np.linalg.det(vt.T @ u.T)]) @ u.T
        return rotation, b.mean(0) - rotation @ a.mean(0)

    def left(case):
        rotation, shift = best_rigid(case)
        return np.linalg.norm(case.landmarks_fixed_lps @ rotation.T + shift - case.landmarks_moving_lps, axis=1)

    plain, turned = load_case("lung"), load_case(name)
    assert np.allclose(left(plain), left(turned), atol=1e-6)
    assert turned.robustness == "rotation" and plain.robustness == "translation"
    between = best_rigid(turned)[0] @ best_rigid(plain)[0].T
    angle = np.degrees(np.arccos(np.clip((np.trace(between) - 1) / 2, -1, 1)))
    assert angle == pytest.approx(float(name.removeprefix("lung_rot")), abs=0.01)
    warped = []
    for case in (plain, turned):
        rotation, shift = best_rigid(case)
        transform = sitk.AffineTransform(rotation.ravel().tolist(), shift.tolist())
        image = sitk.Resample(case.moving, case.fixed, transform, sitk.sitkLinear, -1024)
        warped.append(sitk.GetArrayFromImage(image).astype(float))
    both = (warped[0] > -1000) & (warped[1] > -1000)
    assert np.corrcoef(warped[0][both], warped[1][both])[0, 1] > 0.97


@pytest.mark.realdata
def test_cut_lungs_have_forty_percent_in_common(data_folder):
    whole, cut, shifted = load_case("lung"), load_case("lung_40"), load_case("lung_shifted")
    assert cut.fixed.GetSize()[2] == 90 and cut.moving.GetSize()[2] == 92
    assert 25 <= len(cut.landmarks_fixed_lps) < len(whole.landmarks_fixed_lps)
    # The voxels that are left lie where they lay.
    point = whole.moving.TransformIndexToPhysicalPoint((60, 80, 60))
    for case in (cut, shifted):
        assert case.moving[case.moving.TransformPhysicalPointToIndex(point)] == whole.moving[60, 80, 60]


@pytest.mark.realdata
@pytest.mark.slow
def test_abdomen_truth_explains_its_labels(data_folder):
    case = load_case("abdomen_40")
    figures = evaluate(case, case.truth)
    assert figures["map_mean_mm"] == 0.0 and figures["fold_percent"] == 0.0
    assert figures["dice_mean"] > 0.94 and figures["dice_n"] >= 30
    assert evaluate(case, IDENTITY)["map_mean_mm"] > 30.0
