"""Rigid, similarity and affine registrations: known maps recovered, and everything delivered that they have."""

from __future__ import annotations

import dataclasses
import json

import carlreg
import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import Cancelled
from carlreg.phantom.canvas import Canvas, grid_around, rotation
from carlreg.phantom.torso import paint_torso
from carlreg.physical import PhysicalTransform
from carlreg.progress import Progress
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid, apply_affine
from carlreg.volumes import volume_from_image

SPACING_MM = 6.0
RIGID = RegistrationSettings(transform="rigid")


@dataclasses.dataclass(frozen=True)
class KnownPair:
    """Two scans of one anatomy under a linear map of it, 4x4, LPS mm; points: of the body, in both."""

    fixed: sitk.Image
    moving: sitk.Image
    truth: np.ndarray
    points: np.ndarray

    def error_voxels(self, transform) -> np.ndarray:
        apart = transform.apply(self.points) - apply_affine(self.truth, self.points)
        return np.linalg.norm(apart, axis=1) / SPACING_MM

    def error_degrees(self, transform) -> float:
        turn = transform.affine_lps[:3, :3].T @ self.truth[:3, :3]
        return float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))


@pytest.fixture(scope="module")
def canvas():
    random = np.random.default_rng(0)
    painted = Canvas(0.7 * SPACING_MM, random)
    paint_torso(painted, random)
    return painted


def empty(grid: VolumeGrid) -> np.ndarray:
    return np.zeros(grid.shape_dhw, dtype=np.uint8)


def scans(canvas, truth: np.ndarray, extent=(378.0, 282.0, 318.0)) -> KnownPair:
    """Each scan has its own noise and no table, which would lie otherwise; the moving one shows what is 60 mm lower."""
    random = np.random.default_rng(1)
    fixed_grid = grid_around((0.0, 4.0, 40.0), (366.0, 258.0, 318.0), (SPACING_MM,) * 3, np.eye(3))
    center = apply_affine(truth, np.array([0.0, 4.0, -20.0]))
    moving_grid = grid_around(center, extent, SPACING_MM * np.array([0.95, 0.95, 1.1]), np.diag([-1.0, -1.0, 1.0]))
    back = sitk.AffineTransform(3)
    inverse = np.linalg.inv(truth)
    back.SetMatrix(inverse[:3, :3].ravel().tolist())
    back.SetTranslation(inverse[:3, 3].tolist())

    def scan(grid: VolumeGrid, to_anatomy: sitk.Transform) -> sitk.Image:
        seen = sitk.Resample(
            canvas.grid.image(canvas.hu), grid.image(empty(grid)), to_anatomy, sitk.sitkLinear, -1000.0
        )
        noisy = sitk.GetArrayFromImage(seen) + 15.0 * random.standard_normal(grid.shape_dhw)
        return grid.image(np.clip(np.rint(noisy), -1024, 3071).astype(np.int16))

    fixed, moving = scan(fixed_grid, sitk.Transform()), scan(moving_grid, back)
    labels = sitk.Resample(canvas.grid.image(canvas.labels), fixed, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    points = fixed_grid.points(np.argwhere(sitk.GetArrayViewFromImage(labels) > 0)[::53, ::-1])
    return KnownPair(fixed, moving, truth, points[moving_grid.contains(apply_affine(truth, points))])


def turned(axis, degrees: float, shift=(-135.0, 210.0, -760.0)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(axis, degrees)
    matrix[:3, 3] = shift
    return matrix


@pytest.fixture(scope="module")
def known(canvas):
    return scans(canvas, turned((2.0, 3.0, 6.0), 14.0))


@pytest.fixture(scope="module")
def rigid(known):
    return carlreg.finish(carlreg.register(known.fixed, known.moving, RIGID))


@pytest.mark.whole
def test_a_rigid_map_is_recovered(known, rigid):
    assert known.error_voxels(rigid.transform).max() < 0.1
    assert known.error_degrees(rigid.transform) < 0.1
    assert rigid.info["linear"]["turn_degrees"] == pytest.approx(14.0, abs=0.1)
    np.testing.assert_allclose(
        np.abs(rigid.info["linear"]["turn_axis_lps"]), np.array([2.0, 3.0, 6.0]) / 7, atol=0.01
    )  # the turn's sense and the axis' belong together; the matrix says both
    assert rigid.finished.quality["verdict"]["word"] in ("good", "check")


def test_everything_is_delivered(known, rigid, tmp_path):
    """The files, by SimpleITK: a turn and a shift, its exact inverse, volumes on the fixed grid."""
    quality = carlreg.write_result(rigid, tmp_path / "out")
    folder = tmp_path / "out"
    forward = sitk.ReadTransform(str(folder / "transform.h5"))
    backward = sitk.ReadTransform(str(folder / "inverse_transform.h5"))
    assert forward.GetName() == backward.GetName() == "Euler3DTransform"
    for point in known.points[::40].tolist():
        there = forward.TransformPoint(point)
        np.testing.assert_allclose(there, rigid.transform.apply(point)[0], atol=1e-6)
        np.testing.assert_allclose(backward.TransformPoint(there), point, atol=1e-6)
    warped = sitk.ReadImage(str(folder / "warped.nii.gz"))
    expected = sitk.Resample(known.moving, known.fixed, forward, sitk.sitkLinear, -1024.0, sitk.sitkInt16)
    difference = sitk.GetArrayFromImage(warped).astype(float) - sitk.GetArrayFromImage(expected)
    assert np.percentile(np.abs(difference), 99.9) <= 1
    jacobian = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "jacobian.nii.gz")))
    np.testing.assert_allclose(jacobian, 1.0, atol=2e-3)
    assert not (folder / "uncertainty.nii.gz").exists() and quality["uncertainty"] is None
    assert "stated for deformable registrations" in quality["notes"]["uncertainty"]
    assert quality["jacobian"]["fold_percent"] == 0
    assert quality["inverse_error_mm"]["max"] < 1e-6
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["settings"]["transform"] == "rigid" and settings["field"] is None
    assert set(settings["files"]) == {path.name for path in folder.iterdir()}
    assert [stage["name"] for stage in quality["stages"]] == [
        "prepare", "starts", "optimize", "inverse", "measure", "write",
    ]  # fmt: skip
    again = RegistrationSettings.from_json(folder / "settings.json")
    assert again == rigid.settings


@pytest.mark.parametrize(
    ("transform", "linear", "kind"),
    [
        ("similarity", 1.07 * np.eye(3), "Similarity3DTransform"),
        ("affine", np.array([[1.06, 0.03, 0.0], [0.0, 0.95, 0.02], [0.0, 0.0, 1.02]]), "AffineTransform"),
    ],
)
def test_other_linear_maps_are_recovered(canvas, transform, linear, kind):
    truth = turned((2.0, 3.0, 6.0), 9.0)
    truth[:3, :3] = truth[:3, :3] @ linear
    pair = scans(canvas, truth)
    result = carlreg.register(pair.fixed, pair.moving, RegistrationSettings(transform=transform))
    assert pair.error_voxels(result.transform).max() < 0.15
    assert result.transform.to_sitk().GetName() == kind


def test_exchanged_scans_give_nearly_the_inverse(known, rigid):
    back = carlreg.register(known.moving, known.fixed, RIGID)
    there = rigid.transform.apply(known.points)
    assert np.linalg.norm(back.transform.apply(there) - known.points, axis=1).max() < 0.1 * SPACING_MM


@pytest.mark.whole
def test_symmetric_gives_the_inverse_itself(known):
    settings = dataclasses.replace(RIGID, symmetric=True)
    forward, back = (
        carlreg.register(*scans, settings).transform
        for scans in ((known.fixed, known.moving), (known.moving, known.fixed))
    )
    np.testing.assert_allclose(back.affine_lps @ forward.affine_lps, np.eye(4), atol=1e-8)
    assert known.error_voxels(forward).max() < 0.1


@pytest.mark.slow
def test_any_pose_in_rotation_mode(canvas):
    pair = scans(canvas, turned((6.0, -2.0, 3.0), 140.0), extent=(378.0, 378.0, 378.0))
    result = carlreg.register(pair.fixed, pair.moving, dataclasses.replace(RIGID, robustness="rotation"))
    assert pair.error_voxels(result.transform).max() < 0.15


@pytest.mark.whole
def test_a_mask_is_what_counts(known):
    """Above a plane the scans agree; below it the moving one was moved once more, as a jaw is: only the mask tells."""
    grid = VolumeGrid.of(known.moving)
    once_more = turned((1.0, 0.0, 0.0), 6.0, (4.0, 22.0, -6.0))
    middle = apply_affine(known.truth, np.array([0.0, 4.0, 0.0]))
    about, back = np.eye(4), np.eye(4)
    about[:3, 3], back[:3, 3] = middle, -middle
    inverse = np.linalg.inv(about @ once_more @ back)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(inverse[:3, :3].ravel().tolist())
    transform.SetTranslation(inverse[:3, 3].tolist())
    other = sitk.GetArrayFromImage(
        sitk.Resample(known.moving, known.moving, transform, sitk.sitkLinear, -1024.0, known.moving.GetPixelID())
    )
    array = sitk.GetArrayFromImage(known.moving)
    low = apply_affine(np.linalg.inv(known.truth), grid.centers())[..., 2] < 0
    array[low] = other[low]
    moving = grid.image(array)
    fixed_grid = VolumeGrid.of(known.fixed)
    mask = (fixed_grid.centers()[..., 2] > 10.0).astype(np.uint8)
    masked = carlreg.register(
        known.fixed, moving, RIGID, fixed_mask=volume_from_image(fixed_grid.image(mask), "fixed mask")
    )
    above = known.points[:, 2] > 10.0
    assert known.error_voxels(masked.transform)[above].max() < 0.1
    assert known.error_voxels(carlreg.register(known.fixed, moving, RIGID).transform)[above].max() > 0.2


def with_device(image, center, radius=45.0):
    """The scan with a ball of metal that has a structure of its own, and the ball as what is to be ignored."""
    array, grid = sitk.GetArrayFromImage(image), VolumeGrid.of(image)
    apart = grid.centers() - center
    ball = np.linalg.norm(apart, axis=-1) < radius
    array[ball] = (1500 + 1500 * np.cos(2 * np.pi * apart / 30.0).mean(-1))[ball]
    volume = volume_from_image(grid.image(array), "scan")
    return volume, volume_from_image(grid.image(ball.astype(np.uint8)), "what to ignore")


@pytest.mark.whole
def test_what_is_ignored_does_not_matter(known):
    """A device in both scans, in the moving one 10 mm from where the anatomy puts it."""
    place = np.array([30.0, -10.0, 20.0])
    elsewhere = apply_affine(known.truth, place) + np.array([0.0, 10.0, 0.0])
    (fixed, fixed_metal), (moving, moving_metal) = with_device(known.fixed, place), with_device(known.moving, elsewhere)
    ignored = {"fixed_ignore": fixed_metal, "moving_ignore": moving_metal}
    found = carlreg.register_pair(fixed, moving, RIGID, **ignored).transform
    assert known.error_voxels(found).max() < 0.1 and known.error_degrees(found) < 0.1
    plain = carlreg.register_pair(fixed, moving, RIGID).transform
    assert known.error_voxels(plain).max() > 2 * known.error_voxels(found).max()


def test_of_a_deformed_start_the_linear_part_serves(known):
    grid = VolumeGrid.of(known.fixed)
    field = np.zeros((4, 4, 4, 3))
    field[1:3, 1:3, 1:3] = 30.0
    bent = sitk.DisplacementFieldTransform(grid.resized((4, 4, 4)).image(field))
    initial = sitk.CompositeTransform([PhysicalTransform.from_affine(known.truth).to_sitk(), bent])
    result = carlreg.register(known.fixed, known.moving, RIGID, initial_transform=initial)
    assert any("took its linear part as a start" in warning for warning in result.warnings)
    assert known.error_voxels(result.transform).max() < 0.1


def test_is_cancelled_between_steps(known):
    progress = Progress(on_record=lambda record: progress.cancel() if record.stage == "optimize" else None)
    with pytest.raises(Cancelled):
        carlreg.register(known.fixed, known.moving, RIGID, progress=progress)
