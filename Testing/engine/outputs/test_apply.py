"""Transforms from files, applied and judged."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg import outputs
from carlreg.errors import GeometryError, InputError
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid


@pytest.fixture
def transform_file(case, tmp_path):
    path = tmp_path / "transform.h5"
    sitk.WriteTransform(case.result.transform.to_sitk(), str(path))
    return path


@pytest.mark.parametrize(
    ("interpolation", "interpolator"),
    [("linear", sitk.sitkLinear), ("nearest", sitk.sitkNearestNeighbor), ("bspline", sitk.sitkBSpline)],
)
def test_images_are_resampled_in_their_own_type(case, transform_file, tmp_path, interpolation, interpolator):
    moving, fixed = case.result.moving.image, case.result.fixed.image
    sitk.WriteImage(moving, str(tmp_path / "moving.nii.gz"))
    sitk.WriteImage(fixed, str(tmp_path / "fixed.nii.gz"))
    found = outputs.apply_to_image(
        transform_file, tmp_path / "moving.nii.gz", reference=tmp_path / "fixed.nii.gz", interpolation=interpolation
    )
    assert found.GetPixelID() == sitk.sitkInt16
    assert VolumeGrid.of(found).same_as(case.result.fixed.grid)
    outside = 0.0 if interpolation == "nearest" else -1000.0
    expected = sitk.Resample(moving, fixed, case.result.transform.to_sitk(), interpolator, outside, sitk.sitkFloat64)
    difference = np.abs(sitk.GetArrayFromImage(found) - sitk.GetArrayFromImage(expected))
    assert difference.max() <= 0.51


def test_label_maps_keep_their_labels(case, transform_file):
    found = outputs.apply_to_image(
        transform_file, case.labels[1], reference=case.result.fixed.image, interpolation="nearest"
    )
    array = sitk.GetArrayFromImage(found)
    assert found.GetPixelID() == sitk.sitkUInt16
    assert set(np.unique(array)) == {0, 2, 7, 300}
    assert (array == sitk.GetArrayFromImage(case.labels[0])).mean() > 0.97


def test_small_types_do_not_overflow(transform_file, case):
    binary = sitk.Cast((case.result.moving.image > 0) * 255, sitk.sitkUInt8)
    found = outputs.apply_to_image(transform_file, binary, reference=case.result.fixed.image, interpolation="bspline")
    assert found.GetPixelID() == sitk.sitkUInt8
    linear = outputs.apply_to_image(transform_file, binary, reference=case.result.fixed.image)
    difference = sitk.GetArrayFromImage(found).astype(int) - sitk.GetArrayFromImage(linear)
    assert np.abs(difference).max() < 200  # splines overshoot; wrapped values would differ by 255


def test_without_reference_the_folder_says_which_grid(case, tmp_path):
    out = tmp_path / "out"
    outputs.write_result(case.result, out, settings=RegistrationSettings())
    forward = outputs.apply_to_image(out / "transform.h5", case.result.moving.image)
    assert VolumeGrid.of(forward).same_as(case.result.fixed.grid)
    backward = outputs.apply_to_image(out / "inverse_transform.h5", case.result.fixed.image)
    assert VolumeGrid.of(backward).same_as(case.result.moving.grid)
    warped = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "warped.nii.gz"))).astype(int)
    assert (np.abs(sitk.GetArrayFromImage(forward) - warped) > 1).mean() < 1e-3
    (out / "settings.json").unlink()
    alone = outputs.apply_to_image(out / "transform.h5", case.result.moving.image)
    assert VolumeGrid.of(alone).same_as(case.result.moving.grid)


def test_points(case, transform_file, tmp_path):
    table = tmp_path / "points.csv"
    rows = [
        f"{name},{x!r},{y!r},{z!r}" for name, (x, y, z) in zip("abcdefghijkl", case.landmarks[0].tolist(), strict=True)
    ]
    table.write_text("name,x, y,z\n" + "\n".join(rows) + "\n", encoding="utf-8")
    lines = outputs.apply_to_points(transform_file, table).splitlines()
    assert lines[0] == "name,x,y,z"
    assert [line.split(",")[0] for line in lines[1:]] == list("abcdefghijkl")
    found = np.array([[float(v) for v in line.split(",")[1:]] for line in lines[1:]])
    np.testing.assert_allclose(found, case.result.transform.apply(case.landmarks[0]), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a,b\n1,2\n", "x, y, z"), ("x,y,z\n", "at least one point"), ("x,y,z\n1,2,far\n", "line 2")],
)
def test_bad_point_files(transform_file, tmp_path, text, message):
    table = tmp_path / "points.csv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        outputs.apply_to_points(transform_file, table)


def test_what_is_not_a_transform(case, tmp_path):
    for name in ("transform.h5", "transform.tfm"):
        (tmp_path / name).write_text("not a transform")
        with pytest.raises(InputError, match="transform"):
            outputs.apply_to_image(tmp_path / name, case.result.moving.image)
    with pytest.raises(InputError, match="interpolation"):
        outputs.apply_to_image(tmp_path / "transform.h5", case.result.moving.image, interpolation="cubic")


def test_singular_affines_are_refused_alone_and_in_composites(case, tmp_path):
    flat = sitk.AffineTransform(3)
    flat.SetMatrix((1, 0, 0, 0, 1, 0, 0, 1e-9, 1e-9))
    for name, transform in (("alone.tfm", flat), ("joined.h5", sitk.CompositeTransform([sitk.Transform(), flat]))):
        sitk.WriteTransform(transform, str(tmp_path / name))
        with pytest.raises(GeometryError):
            outputs.evaluate(tmp_path / name, case.result.fixed, case.result.moving)


def test_evaluate_agrees_with_the_written_figures(case, tmp_path):
    out = tmp_path / "out"
    written = outputs.write_result(
        case.result, out, settings=RegistrationSettings(), labels=case.labels, landmarks=case.landmarks
    )
    found = outputs.evaluate(
        out / "transform.h5", case.result.fixed, case.result.moving, labels=case.labels, landmarks=case.landmarks
    )
    assert set(found) == set(written)
    for key in ("similarity", "jacobian", "labels", "overlap_percent"):
        assert json.dumps(found[key]) == json.dumps(written[key]), key
    for key in ("mean_mm", "max_mm", "n", "errors_mm"):
        assert found["landmarks"]["after"][key] == pytest.approx(written["landmarks"]["after"][key], abs=1e-9)
    assert found["inverse_error_mm"]["mean"] == pytest.approx(written["inverse_error_mm"]["mean"], rel=1e-3)


def test_evaluate_takes_any_transform(case):
    """A B-spline, which is no affine and field, is sampled on the fixed grid."""
    fixed, moving = case.result.fixed, case.result.moving
    bspline = sitk.BSplineTransformInitializer(fixed.image, (4, 4, 4))
    rng = np.random.default_rng(0)
    bspline.SetParameters(rng.normal(scale=1.5, size=len(bspline.GetParameters())).tolist())
    euler = sitk.Euler3DTransform()
    euler.SetCenter(fixed.grid.center_lps.tolist())
    euler.SetRotation(0.1, 0.2, 2.5)
    transform = sitk.CompositeTransform([bspline, euler])
    found = outputs.evaluate(transform, fixed, moving, labels=case.labels, landmarks=case.landmarks)
    mapped = np.array([transform.TransformPoint(point) for point in case.landmarks[0].tolist()])
    expected = np.linalg.norm(mapped - case.landmarks[1], axis=1).mean()
    assert found["landmarks"]["after"]["mean_mm"] == pytest.approx(expected)
    warped = sitk.Resample(case.labels[1], fixed.image, transform, sitk.sitkNearestNeighbor, 0, sitk.sitkUInt16)
    oracle = sitk.LabelOverlapMeasuresImageFilter()
    oracle.Execute(case.labels[0], warped)
    for label in (2, 7, 300):
        dice = found["labels"]["after"]["per_label"][str(label)]
        assert dice == pytest.approx(oracle.GetDiceCoefficient(label), abs=5e-3)
    assert found["notes"]["sampled_at_mm"] == 2.0
    assert found["inverse_error_mm"]["mean"] < 0.3


def test_evaluate_of_a_rigid_transform(case):
    euler = sitk.Euler3DTransform()
    euler.SetRotation(0.0, 0.0, np.pi)
    euler.SetCenter(case.result.fixed.grid.center_lps.tolist())
    found = outputs.evaluate(euler, case.result.fixed, case.result.moving)
    assert found["jacobian"]["min"] == pytest.approx(1.0, abs=1e-5)
    assert found["jacobian"]["max"] == pytest.approx(1.0, abs=1e-5)
    assert found["inverse_error_mm"]["mean"] < 1e-6
