"""A map with a planted error of 15 mm, mended by one point or two: against the true map of the generated pair."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.cli import worker
from carlreg.cli.main import build_parser
from carlreg.cli.mend import _given
from carlreg.errors import InputError
from carlreg.io.guide_points import read_guide
from carlreg.physical import PhysicalTransform, StatedBound, jacobian_determinant
from carlreg.quality.verdict import verdict
from carlreg.registration import mend, mended_pair
from carlreg.registration.guided import guidance_of
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid
from carlreg.volumes import read_transform, volume_from_image

from .conftest import body_points

WIDTH_MM, PUSH = 25.0, np.array([9.0, -9.0, 8.0])


@pytest.fixture(scope="module")
def planted(wide_pair):
    """The pair's volumes, its true map with a push of 15 mm around a landmark, and that landmark."""
    volumes = volume_from_image(wide_pair.fixed, "fixed"), volume_from_image(wide_pair.moving, "moving")
    truth, center = wide_pair.moving_from_fixed, wide_pair.landmarks[0][6]
    grid = volumes[0].grid.padded(24.0).with_spacing(8.0)
    points = grid.centers().reshape(-1, 3)
    push = np.exp(-0.5 * ((points - center) ** 2).sum(1) / WIDTH_MM**2)[:, None] * PUSH
    field = (truth.displacement(points) + push).reshape(*grid.shape_dhw, 3)
    return *volumes, PhysicalTransform(truth.pose, field, grid), center


def errors(transform, pair, points):
    return np.linalg.norm(transform.apply(points) - pair.moving_from_fixed(points), axis=1)


@pytest.mark.parametrize("more", [[], [[12.0, 8.0, -6.0]]])
def test_points_mend_the_place(wide_pair, planted, more):
    fixed, moving, wrong, center = planted
    points = center + np.array([[0.0, 0.0, 0.0], *more])
    mended = mend(wrong, fixed, moving, (points, wide_pair.moving_from_fixed(points)))
    body = body_points(wide_pair)
    near = np.linalg.norm(body - center, axis=1) < 1.6 * WIDTH_MM
    before, after = (errors(transform, wide_pair, body) for transform in (wrong, mended.transform))
    assert before[near].mean() > 6.0 and after[near].mean() < 2.5  # voxels are 6 mm
    assert after[~near].mean() < 1.2 * before[~near].mean()
    assert mended.before_mm.max() > 12 and mended.missed_mm.max() < 3.0 and not mended.warnings
    assert jacobian_determinant(mended.transform, fixed.grid).min() > 0


def test_outside_of_the_box_nothing_changes_and_at_its_faces_nothing_jumps(wide_pair, planted):
    fixed, moving, wrong, center = planted
    found = mend(wrong, fixed, moving, (center[None], wide_pair.moving_from_fixed(center[None])))
    mended, box = found.transform, found.boxes[0]
    anywhere = fixed.grid.resized((30, 30, 30)).centers().reshape(-1, 3)
    outside = ~box.contains(anywhere)
    assert outside.sum() > 1000
    np.testing.assert_array_equal(mended.apply(anywhere[outside]), wrong.apply(anywhere[outside]))
    # Along a line through a face: steps of a tenth of a millimeter lead to steps of about that.
    t = np.linspace(-1.2, 1.2, 2000)[:, None] * box.extent_mm[0] / 2
    line = center + t * box.direction[:, 0]
    steps = np.linalg.norm(np.diff(mended.apply(line), axis=0), axis=1) / np.linalg.norm(np.diff(line, axis=0), axis=1)
    assert steps.min() > 0.3 and steps.max() < 2.0


def stated(fixed):
    """A bound of 12 mm, some of it as unknown."""
    bound = np.full(fixed.grid.shape_dhw, 12.0, dtype=np.float32)
    bound[0] = np.nan
    return StatedBound(fixed.grid, bound, "in 90 % of places")


def at_landmark(fixed, bound, center):
    i, j, k = np.rint(fixed.grid.index(center[None])[0]).astype(int)
    return bound[k, j, i]


def test_the_uncertainty_is_renewed_in_the_box_and_as_it_was_elsewhere(wide_pair, planted):
    fixed, moving, wrong, center = planted
    point = center[None], wide_pair.moving_from_fixed(center[None])
    result = mended_pair(fixed, moving, wrong, point, uncertainty=stated(fixed))
    before, after = stated(fixed).bound_mm, result.uncertainty.on_grid(fixed.grid)
    box = VolumeGrid(*result.info["mended"]["boxes"][0].values())
    inside = box.contains(fixed.grid.centers().reshape(-1, 3)).reshape(before.shape)
    np.testing.assert_array_equal(after[~inside], before[~inside])
    np.testing.assert_array_equal(np.isnan(after) >= np.isnan(before), True)
    # The error fell from 15 mm to less than 3, and the bound with it; around the point it is nowhere larger.
    near = np.linalg.norm(fixed.grid.centers() - center, axis=-1) < 1.6 * WIDTH_MM
    assert at_landmark(fixed, after, center) < 9.0 and np.nanmax(after[near]) <= 12.0 and np.nanmean(after[near]) < 10.0
    assert result.uncertainty.at(point[0])[0] == pytest.approx(at_landmark(fixed, after, center), rel=0.1)
    assert result.uncertainty.meaning == "in 90 % of places" and result.uncertainty_reason is None


def test_a_point_that_makes_it_worse_makes_it_more_uncertain(wide_pair, planted):
    fixed, moving, _, center = planted
    truth = wide_pair.moving_from_fixed
    grid = fixed.grid.padded(24.0).with_spacing(8.0)
    field = truth.displacement(grid.centers().reshape(-1, 3)).reshape(*grid.shape_dhw, 3)
    point = center[None], truth(center[None]) + PUSH
    settings = RegistrationSettings(landmarks_accuracy_mm=0.0)
    right = PhysicalTransform(truth.pose, field, grid)
    spoiled = mended_pair(fixed, moving, right, point, settings, uncertainty=stated(fixed))
    assert np.linalg.norm(spoiled.transform.apply(point[0]) - point[1]) < 0.5
    assert at_landmark(fixed, spoiled.uncertainty.on_grid(fixed.grid), center) > 14.0
    without = mended_pair(fixed, moving, right, point, settings)
    assert without.uncertainty is None and "came without one" in without.uncertainty_reason


def test_points_that_are_met_change_nothing(wide_pair, planted):
    fixed, moving, wrong, _ = planted
    far = wide_pair.landmarks[0][:1]
    same = mend(wrong, fixed, moving, (far, wrong.apply(far)))
    np.testing.assert_array_equal(same.transform.displacement_lps, wrong.displacement_lps)
    assert same.boxes == []


def test_an_affine_alone_can_be_mended(wide_pair, planted):
    fixed, moving, _, center = planted
    affine = PhysicalTransform.from_affine(wide_pair.moving_from_fixed.pose)
    there = wide_pair.moving_from_fixed(center[None])
    before = float(np.linalg.norm(affine.apply(center[None]) - there))
    mended = mend(affine, fixed, moving, (center[None], there))
    assert float(np.linalg.norm(mended.transform.apply(center[None]) - there)) < min(before, 6.5)


def test_points_that_contradict_each_other_are_named(wide_pair, planted):
    fixed, moving, wrong, center = planted
    points = center + np.array([[0.0, 0, 0], [8.0, 0, 0]])
    there = wide_pair.moving_from_fixed(points)[::-1]
    found = mended_pair(fixed, moving, wrong, (points, there, ["left", "right"]))
    assert found.info["mended"]["contradicting"] == [["left", "right"]]
    assert "contradict each other: left and right" in found.warnings[-1]
    judged = verdict({"guidance": guidance_of(found, np.eye(4))})
    assert judged["word"] == "check" and judged["reasons"] == [found.warnings[-1]]  # said once, see beyond_verdict
    assert jacobian_determinant(found.transform, fixed.grid).min() > 0


def test_what_cannot_be_mended(planted):
    fixed, moving, wrong, center = planted
    with pytest.raises(InputError, match="inside the moving volume; 1 lies outside"):
        mend(wrong, fixed, moving, (center[None], center[None] + 5000))
    with pytest.raises(InputError, match="at least one; got 0 and 0"):
        mend(wrong, fixed, moving, (np.zeros((0, 3)), np.zeros((0, 3))))


@pytest.mark.whole
def test_on_the_command_line(wide_pair, planted, tmp_path, capfd):
    """A result folder is mended twice; its points are kept, and one is switched off."""
    _, _, wrong, center = planted
    for name in ("fixed", "moving"):
        sitk.WriteImage(getattr(wide_pair, name), str(tmp_path / f"{name}.nii.gz"))
    sitk.WriteTransform(wrong.to_sitk(), str(tmp_path / "wrong.h5"))
    pair = [str(tmp_path / "fixed.nii.gz"), str(tmp_path / "moving.nii.gz")]
    first, second = tmp_path / "first", tmp_path / "second"
    start = ["register", *pair, "--continue", str(tmp_path / "wrong.h5"), "--io-steps", "0", "--out", str(first)]
    assert worker.main([*start, "--progress", "none"]) == 0
    there = wide_pair.moving_from_fixed(center[None])[0]
    point = [str(value) for value in (*center, *there)]
    assert worker.main(["mend", str(first), "--point", *point, "--out", str(second), "--progress", "none"]) == 0
    itk = read_transform(second / "transform.h5")
    assert np.linalg.norm(np.subtract(itk.TransformPoint(center.tolist()), there)) < 3.0
    stored = json.loads((second / "settings.json").read_text())
    assert stored["info"]["mended"]["points"][0]["before_mm"] > 12 and read_guide(second / "guide.csv").names == (
        "point 1",
    )
    capfd.readouterr()
    third = ["--out", str(tmp_path / "third"), "--progress", "none"]
    assert worker.main(["mend", str(first), *third]) == 2
    assert "expected at least one --point" in capfd.readouterr().err
    # The same of the file of a transform, with its images.
    alone = ["mend", str(tmp_path / "wrong.h5"), "--point", *point]
    assert worker.main([*alone, *third]) == 2
    assert "expected --fixed and --moving with a transform file" in capfd.readouterr().err
    assert not (tmp_path / "third").exists()
    args = build_parser().parse_args([*alone, "--fixed", pair[0], "--moving", pair[1], *third])
    images, given = _given(args)
    np.testing.assert_allclose(given.TransformPoint(center.tolist()), wrong.apply(center[None])[0], atol=0.01)
    assert [images[side].image.GetSize() for side in images] == [wide_pair.fixed.GetSize(), wide_pair.moving.GetSize()]
