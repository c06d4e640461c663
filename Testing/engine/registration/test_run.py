"""The whole registration on the generated pair, whose map is known, and its promises."""

import dataclasses
import json

import carlreg
import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import Cancelled, CheckpointError, DeviceError, InputError
from carlreg.phantom import make_pair
from carlreg.physical import jacobian_determinant
from carlreg.progress import Progress
from carlreg.registration.run import STAGE_WEIGHTS
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid
from carlreg.volumes import Volume, volume_from_image
from scipy.spatial.transform import Rotation

QUICK = RegistrationSettings(io_steps=40)


@pytest.fixture(scope="module")
def pair():
    return make_pair(seed=0, spacing_mm=6.0)


@pytest.fixture(scope="module")
def result(pair):
    return carlreg.register(pair.fixed, pair.moving, QUICK)


def body_points(pair) -> np.ndarray:
    """Fixed points (LPS mm) inside the body whose true counterpart lies inside the moving volume."""
    labels = sitk.GetArrayViewFromImage(pair.fixed_labels)
    kji = np.argwhere(labels > 0)[::37]
    grid = VolumeGrid.of(pair.fixed)
    points = kji[:, ::-1] @ grid.lps_from_ijk[:3, :3].T + grid.origin_lps
    moving = VolumeGrid.of(pair.moving)
    index = pair.moving_from_fixed(points) @ moving.ijk_from_lps[:3, :3].T + moving.ijk_from_lps[:3, 3]
    return points[((index > 1) & (index < np.asarray(moving.size_ijk) - 2)).all(1)]


def error_mm(transform, pair, points) -> np.ndarray:
    return np.linalg.norm(transform.apply(points) - pair.moving_from_fixed(points), axis=1)


def test_known_map_is_recovered_without_folds(pair, result):
    points = body_points(pair)
    before = np.linalg.norm(points - pair.moving_from_fixed(points), axis=1)
    error = error_mm(result.transform, pair, points)
    assert before.mean() > 60
    assert error.mean() < 4.0  # two thirds of a voxel
    assert np.median(error) < 3.0
    determinant = jacobian_determinant(result.transform, VolumeGrid.of(pair.fixed))
    assert determinant.min() > 0
    assert "untrained" not in " ".join(result.warnings)


def test_result_says_how_it_was_made(result):
    assert result.start in {"network", "header", "content centers", "translation search"}
    assert result.info["fixed_modality"] == result.info["moving_modality"] == "ct"
    assert len(result.info["weights_sha256"]) == 64
    assert {t.name for t in result.timings} >= {"prepare", "predict", "starts", "affine", "optimize"}
    json.dumps(result.info)


def test_same_seed_same_result(pair, result):
    again = carlreg.register(pair.fixed, pair.moving, QUICK)
    assert np.array_equal(again.transform.affine_lps, result.transform.affine_lps)
    assert np.array_equal(again.transform.displacement_lps, result.transform.displacement_lps)
    assert np.array_equal(again.uncertainty.bound_mm, result.uncertainty.bound_mm)
    assert np.array_equal(again.uncertainty.known, result.uncertainty.known)


def test_inputs_are_not_modified(pair):
    fresh = make_pair(seed=0, spacing_mm=6.0)
    assert np.array_equal(sitk.GetArrayViewFromImage(fresh.fixed), sitk.GetArrayViewFromImage(pair.fixed))
    assert np.array_equal(sitk.GetArrayViewFromImage(fresh.moving), sitk.GetArrayViewFromImage(pair.moving))


def test_place_and_orientation_of_the_moving_volume_do_not_matter(pair, result):
    """The same voxels, stored along other axes and with a header far away: the same error."""
    turn = Rotation.from_euler("xyz", [25, -15, 40], degrees=True).as_matrix()
    shift = np.array([700.0, -900.0, 400.0])
    moved = sitk.Image(pair.moving)
    grid = VolumeGrid.of(pair.moving)
    moved.SetOrigin((turn @ grid.origin_lps + shift).tolist())
    moved.SetDirection((turn @ grid.direction).ravel().tolist())
    moved = sitk.PermuteAxes(moved, [2, 0, 1])
    found = carlreg.register(pair.fixed, moved, dataclasses.replace(QUICK, robustness="rotation"))
    points = body_points(pair)
    truth = pair.moving_from_fixed(points) @ turn.T + shift
    error = np.linalg.norm(found.transform.apply(points) - truth, axis=1)
    assert error.mean() < 4.0
    assert error.mean() < error_mm(result.transform, pair, points).mean() + 1.0


def test_turned_body_is_found_in_rotation_mode(pair):
    """The moving volume resampled after a turn by 120 degrees about an oblique axis."""
    turn = Rotation.from_rotvec(np.radians(120) * np.array([2, -1, 2]) / 3).as_matrix()
    grid = VolumeGrid.of(pair.moving)
    center = grid.center_lps
    edge = float(np.linalg.norm(grid.extent_mm))
    target = sitk.Image([round(edge / 6)] * 3, sitk.sitkInt16)
    target.SetSpacing((6.0, 6.0, 6.0))
    target.SetOrigin((center - 0.5 * edge + 3).tolist())
    backward = sitk.AffineTransform(3)
    backward.SetMatrix(turn.T.ravel().tolist())
    backward.SetCenter(center.tolist())
    turned = sitk.Resample(pair.moving, target, backward, sitk.sitkLinear, -1000)
    found = carlreg.register(pair.fixed, turned, dataclasses.replace(QUICK, robustness="rotation"))
    points = body_points(pair)
    truth = (pair.moving_from_fixed(points) - center) @ turn.T + center
    assert found.start == "rotation search"
    assert np.linalg.norm(found.transform.apply(points) - truth, axis=1).mean() < 5.0


def test_without_steps_the_better_of_network_and_affine_is_delivered(pair):
    """No worse than the affine alone, also near the edge of the common field of view, where a network guesses."""
    found = carlreg.register(pair.fixed, pair.moving, dataclasses.replace(QUICK, io_steps=0))
    points = body_points(pair)
    error = error_mm(found.transform, pair, points)
    affine = dataclasses.replace(found.transform, displacement_lps=np.zeros_like(found.transform.displacement_lps))
    assert error.mean() <= error_mm(affine, pair, points).mean()
    assert error.mean() < 3.5  # little more than half a voxel
    assert error.max() < 15


def test_without_steps_the_networks_map_is_delivered_where_it_is_better():
    """(At 3 mm the demo's pair shows enough of itself.)"""
    fine = make_pair(seed=0, spacing_mm=3.0)
    found = carlreg.register(fine.fixed, fine.moving, dataclasses.replace(QUICK, io_steps=0))
    points = body_points(fine)[::7]
    affine = dataclasses.replace(found.transform, displacement_lps=np.zeros_like(found.transform.displacement_lps))
    error, without = (error_mm(transform, fine, points).mean() for transform in (found.transform, affine))
    assert found.info["deformation_start"].startswith("network")
    assert error < 2.0 and error < 0.75 * without


def test_network_method_delivers_the_networks_map(pair):
    """(That the weights stay as they were is tested beside `optimize_network`.)"""
    settings = dataclasses.replace(QUICK, io_method="network", io_steps=2, grid=32)
    found = carlreg.register(pair.fixed, pair.moving, settings)
    assert np.abs(found.transform.displacement_lps).max() > 1.0
    assert error_mm(found.transform, pair, body_points(pair)).mean() < 25


def repainted(image: sitk.Image) -> sitk.Image:
    """CT numbers as an invented MR sequence shows them: neither in the same order nor inverted."""
    values = sitk.GetArrayFromImage(image).astype(float)
    painted = np.interp(values, (-1000, -800, -100, 0, 60, 160, 350, 1500), (0, 25, 230, 50, 120, 190, 35, 10))
    painted += np.random.default_rng(5).normal(0, 4, painted.shape) * (values > -990)
    found = sitk.GetImageFromArray(np.abs(painted).astype(np.float32))
    found.CopyInformation(image)
    return found


def test_different_contrasts_are_registered_with_mind(pair):
    """However the moving volume is stored: networks and MIND's descriptors know directions."""
    settings = dataclasses.replace(QUICK, similarity="mind")
    points = body_points(pair)
    moving = repainted(pair.moving)
    mean = []
    for axes in ("LPS", "SAR"):
        found = carlreg.register(pair.fixed, sitk.DICOMOrient(moving, axes), settings)
        mean.append(error_mm(found.transform, pair, points).mean())
        assert found.warnings == []
    assert max(mean) < 9 and abs(mean[0] - mean[1]) < 1.0  # voxels are 6 mm wide; over 60 mm before


def test_other_similarities_between_modalities_are_warned_of(pair):
    found = carlreg.register(pair.fixed, repainted(pair.moving), dataclasses.replace(QUICK, io_steps=0))
    assert any("looks like CT, the moving one like MR" in warning for warning in found.warnings)


def test_initial_transform_serves_where_the_search_cannot(pair):
    """A rigid start fitted to the true map wins over the search's, and is delivered when no steps follow."""
    points = body_points(pair)
    truth = pair.moving_from_fixed(points)
    center_f, center_m = points.mean(0), truth.mean(0)
    u, _, vt = np.linalg.svd((points - center_f).T @ (truth - center_m))
    initial = sitk.AffineTransform(3)
    rotation = vt.T @ u.T
    initial.SetMatrix(rotation.ravel().tolist())
    initial.SetTranslation((center_m - rotation @ center_f).tolist())
    found = carlreg.register(pair.fixed, pair.moving, dataclasses.replace(QUICK, io_steps=0), initial_transform=initial)
    assert found.start == "initial transform"
    assert error_mm(found.transform, pair, points).mean() < 12


def test_mask_limits_what_counts(pair):
    """Inside the mask the map stays good when the rest of the fixed image is another scene."""
    grid = VolumeGrid.of(pair.fixed)
    array = sitk.GetArrayFromImage(pair.fixed)
    half = array.shape[2] // 2
    spoiled = array.copy()
    spoiled[:, :, :half] = np.roll(array[:, ::-1, :half], 7, axis=0)
    fixed = sitk.GetImageFromArray(spoiled)
    fixed.CopyInformation(pair.fixed)
    mask_array = np.zeros_like(array, dtype=np.uint8)
    mask_array[:, :, half:] = 1
    mask = sitk.GetImageFromArray(mask_array)
    mask.CopyInformation(pair.fixed)
    points = body_points(pair)
    inside = (points @ grid.ijk_from_lps[:3, :3].T + grid.ijk_from_lps[:3, 3])[:, 0] > half + 3
    found = carlreg.register(fixed, pair.moving, QUICK, fixed_mask=volume_from_image(mask))
    without = carlreg.register(fixed, pair.moving, QUICK)
    error = error_mm(found.transform, pair, points[inside]).mean()
    assert error < 5.0
    assert error < error_mm(without.transform, pair, points[inside]).mean() + 0.2


def test_coarser_field_is_delivered_on_request(pair):
    found = carlreg.register(pair.fixed, pair.moving, dataclasses.replace(QUICK, field_spacing_mm=15.0))
    assert found.transform.grid.spacing == pytest.approx([15.0] * 3)
    assert error_mm(found.transform, pair, body_points(pair)).mean() < 5.0


def test_untrained_weights_are_refused_unless_allowed(pair):
    settings = dataclasses.replace(QUICK, model="carl-paper-brain", io_steps=0)
    with pytest.raises(CheckpointError, match="needs a weights file"):
        carlreg.register(pair.fixed, pair.moving, settings)
    moving = Volume(pair.moving, dicom={"FrameOfReferenceUID": "1.2.3"}, warnings=["A slice is missing."])
    allowed = carlreg.register(pair.fixed, moving, dataclasses.replace(settings, allow_untrained=True))
    assert "untrained" in " ".join(allowed.warnings)
    # What the volumes bring along stays with the result.
    assert "A slice is missing." in allowed.warnings
    assert allowed.info["dicom"] == {"fixed": {}, "moving": {"FrameOfReferenceUID": "1.2.3"}}
    assert allowed.finished is None


def test_missing_device_and_wrong_inputs_are_told(pair):
    with pytest.raises(DeviceError, match="Choose cpu or auto"):
        carlreg.register(pair.fixed, pair.moving, RegistrationSettings(device="cuda:63"))
    with pytest.raises(InputError, match="expected a SimpleITK image or a path"):
        carlreg.register(pair.fixed, sitk.GetArrayFromImage(pair.moving))


def test_cancel_stops_the_run(pair):
    progress = Progress(on_record=lambda record: record.stage == "optimize" and progress.cancel())
    with pytest.raises(Cancelled):
        carlreg.register(pair.fixed, pair.moving, QUICK, progress=progress)


def test_progress_never_goes_back(pair):
    records = []
    carlreg.register(pair.fixed, pair.moving, dataclasses.replace(QUICK, io_steps=3), progress=Progress(records.append))
    fractions = [r.fraction for r in records]
    assert fractions == sorted(fractions)
    assert fractions[0] >= 0 and fractions[-1] <= 1
    assert all(stage in STAGE_WEIGHTS for stage in {r.stage for r in records})


def test_a_tilted_field_of_view_is_not_stretched(pair):
    """The moving volume on a grid that its field of view does not fill: its edge stays where it is.

    Where filling looks like data the edge is pulled over the fixed volume: 8 mm in the mean, up to 50 mm.
    """
    turn = sitk.Euler3DTransform([0, 0, 0], 0.12, -0.1, 0.05)
    grid = VolumeGrid.of(pair.moving)
    corners = np.array(np.meshgrid(*[[-5, n + 5] for n in grid.size_ijk], indexing="ij")).reshape(3, -1).T
    corners = corners @ grid.lps_from_ijk[:3, :3].T + grid.origin_lps
    turned = np.array([turn.GetInverse().TransformPoint(c) for c in corners.tolist()])
    size = np.ceil((turned.max(0) - turned.min(0)) / 6.0).astype(int)
    canvas = sitk.Image(size.tolist(), sitk.sitkFloat32)
    canvas.SetSpacing([6.0] * 3)
    canvas.SetOrigin(turned.min(0).tolist())
    tilted = sitk.Resample(sitk.Cast(pair.moving, sitk.sitkFloat32), canvas, turn, sitk.sitkLinear, -1024.0)
    result = carlreg.register(pair.fixed, tilted, RegistrationSettings())
    fixed, moving = pair.landmarks
    found = result.transform.to_sitk()
    seen = np.array([turn.TransformPoint(found.TransformPoint(p)) for p in fixed.tolist()])
    errors = np.linalg.norm(seen - moving, axis=1)
    assert errors.mean() < 4.0 and errors.max() < 25.0
