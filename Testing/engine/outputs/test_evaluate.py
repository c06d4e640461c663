"""Judging any transform on any pair, also those that do not belong together."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg import outputs
from carlreg.errors import GeometryError, InputError
from carlreg.physical import PhysicalTransform, invert
from carlreg.registration import finish
from carlreg.spaces import VolumeGrid
from carlreg.volumes import volume_from_image
from support.geometry import to_image

from .conftest import FIXED, write


def evaluate(case, transform=None, **more) -> dict:
    return outputs.evaluate(transform or case.result.transform, case.result.fixed, case.result.moving, **more)


def test_fixed_labels_alone_give_volume_changes(case):
    found = evaluate(case, labels=(case.labels[0], None), label_names={7: "liver"})
    assert found["labels"] is None
    assert [(s["label"], s["name"]) for s in found["segments"]] == [(2, None), (7, "liver"), (300, None)]
    labels = sitk.GetArrayFromImage(case.labels[0])
    voxel = np.prod(FIXED.spacing)
    for segment in found["segments"]:
        assert segment["volume_mm3"] == pytest.approx((labels == segment["label"]).sum() * voxel)


def test_labels_on_another_grid_are_taken_to_the_fixed_one(case):
    finer = FIXED.resized(np.array(FIXED.size_ijk) * 2)
    image = sitk.Resample(
        case.labels[0],
        to_image(np.zeros(finer.shape_dhw, np.uint8), finer),
        sitk.Transform(),
        sitk.sitkNearestNeighbor,
        0.0,
        sitk.sitkUInt16,
    )
    first, second = (evaluate(case, labels=(labels, None))["segments"] for labels in (case.labels[0], image))
    for a, b in zip(first, second, strict=True):
        assert a["volume_mm3"] == pytest.approx(b["volume_mm3"], rel=0.02)
        assert a["volume_change_percent"] == pytest.approx(b["volume_change_percent"], abs=0.2)


def test_surfaces_come_closer(case):
    found = evaluate(case, labels=case.labels)["labels"]
    for label in ("2", "7", "300"):
        before, after = (found[when]["surface_mm"][label] for when in ("before", "after"))
        assert after["mean"] < 0.5 < before["mean"]
        assert after["mean"] <= after["hausdorff95"] <= 2.5


def test_labels_without_a_common_number_are_said(case):
    other = sitk.Cast(case.labels[1] > 0, sitk.sitkUInt8) * 99
    found = evaluate(case, labels=(case.labels[0], other))
    assert found["labels"] is None
    (warning,) = [w for w in found["warnings"] if "no label in common" in w]
    assert "2, 7, 300" in warning and "99" in warning
    some = sitk.ChangeLabel(case.labels[1], {7: 0})
    found = evaluate(case, labels=(case.labels[0], some))
    assert any("left out (fixed only: 7; moving only: none)" in w for w in found["warnings"])


def test_labels_that_never_meet_are_said(case):
    away = PhysicalTransform(
        np.eye(4), np.zeros((2, 2, 2, 3), np.float32), VolumeGrid((2, 2, 2), np.ones(3), np.zeros(3), np.eye(3))
    )
    shift = np.eye(4)
    shift[:3, 3] = 400.0
    found = evaluate(case, PhysicalTransform(shift, away.displacement_lps, away.grid), labels=case.labels)
    assert found["labels"]["after"]["surface_mm"] == {"2": None, "7": None, "300": None}
    assert any("do not overlap at all" in w and "300" in w for w in found["warnings"])


def test_a_transform_of_other_volumes_is_said(case):
    shift = sitk.TranslationTransform(3, (500.0, 0.0, 0.0))
    found = evaluate(case, shift)
    assert found["verdict"]["word"] == "poor"
    assert any("does not belong to these volumes" in w for w in found["warnings"])


def test_exchanged_volumes_are_said(case):
    """Far apart in space, so that the wrong direction leads nowhere."""
    shift = np.eye(4)
    shift[:3, 3] = [400.0, 0, 0]
    grid = case.result.moving.grid
    moved = sitk.Image(case.result.moving.image)
    moved.SetOrigin((grid.origin_lps + shift[:3, 3]).tolist())
    known = case.result.transform
    transform = PhysicalTransform(shift @ known.affine_lps, known.displacement_lps, known.grid)
    inverse, _ = invert(transform, VolumeGrid.of(moved))
    found = outputs.evaluate(inverse, case.result.fixed, volume_from_image(moved))
    assert any("fixed and moving are exchanged" in w for w in found["warnings"])


def test_a_field_beside_the_body_is_said(case):
    known = case.result.transform
    beside = VolumeGrid(
        known.grid.size_ijk, known.grid.spacing, known.grid.origin_lps + np.array([70.0, 0, 0]), known.grid.direction
    )
    found = evaluate(case, PhysicalTransform(known.affine_lps, known.displacement_lps, beside))
    assert found["notes"]["field_covers_percent"] < 50
    assert any("displacement field covers only" in w for w in found["warnings"])
    assert evaluate(case)["notes"]["field_covers_percent"] == 100.0


def test_uncertainty_is_judged_where_it_is_known(case, tmp_path):
    values = np.full(FIXED.shape_dhw, 20.0, np.float32)
    values[:12] = np.nan
    sitk.WriteImage(to_image(values, FIXED), str(tmp_path / "uncertainty.nii.gz"))
    found = evaluate(case, uncertainty=tmp_path / "uncertainty.nii.gz")
    assert found["uncertainty"]["p90_mm"] == pytest.approx(20.0)
    assert 20 < found["uncertainty"]["unknown_percent"] < 80
    assert found["verdict"]["word"] == "poor" and "20.0 mm" in found["verdict"]["reasons"][0]
    other = VolumeGrid(FIXED.size_ijk, FIXED.spacing, FIXED.origin_lps + 5.0, FIXED.direction)
    sitk.WriteImage(to_image(values, other), str(tmp_path / "other.nii.gz"))
    with pytest.raises(GeometryError, match="fixed volume's grid"):
        evaluate(case, uncertainty=tmp_path / "other.nii.gz")
    (tmp_path / "text.nii.gz").write_text("no image")
    with pytest.raises(InputError, match="not an image file that can be read"):
        evaluate(case, uncertainty=tmp_path / "text.nii.gz")


def test_warped_and_jacobian_are_written(case, tmp_path):
    found = evaluate(case, warped_path=tmp_path / "w.nii.gz", jacobian_path=tmp_path / "j.nii.gz")
    write(case.result, tmp_path / "out")
    for name, other in (("w", "warped"), ("j", "jacobian")):
        ours, theirs = (
            sitk.ReadImage(str(p)) for p in (tmp_path / f"{name}.nii.gz", tmp_path / "out" / f"{other}.nii.gz")
        )
        np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
        assert VolumeGrid.of(ours).same_as(FIXED)
    assert found["jacobian"]["fold_regions"] == 0


def test_what_is_not_a_transform(case, tmp_path):
    for name in ("transform.h5", "transform.tfm"):
        (tmp_path / name).write_text("not a transform")
        with pytest.raises(InputError, match="transform"):
            evaluate(case, tmp_path / name)


def test_singular_affines_are_refused_alone_and_in_composites(case, tmp_path):
    flat = sitk.AffineTransform(3)
    flat.SetMatrix((1, 0, 0, 0, 1, 0, 0, 1e-9, 1e-9))
    for name, transform in (("alone.tfm", flat), ("joined.h5", sitk.CompositeTransform([sitk.Transform(), flat]))):
        sitk.WriteTransform(transform, str(tmp_path / name))
        with pytest.raises(GeometryError):
            evaluate(case, tmp_path / name)


def test_evaluate_agrees_with_the_written_figures(case, tmp_path):
    out = tmp_path / "out"
    written = write(case.result, out, labels=case.labels, landmarks=case.landmarks)
    found = evaluate(case, out / "transform.h5", labels=case.labels, landmarks=case.landmarks)
    while_registering = {"orientation", "pose", "likeness", "optimization", "guidance"}
    assert set(found) == set(written) - while_registering
    for key in ("similarity", "jacobian", "labels", "overlap_percent"):
        assert json.dumps(found[key]) == json.dumps(written[key]), key
    for key in ("mean_mm", "max_mm", "n", "errors_mm"):
        assert found["landmarks"]["after"][key] == pytest.approx(written["landmarks"]["after"][key], abs=1e-9)
    assert found["inverse_error_mm"]["mean"] == pytest.approx(written["inverse_error_mm"]["mean"], rel=1e-3)


def test_filling_is_no_body_for_evaluate_either(case):
    """3071 around a field of view, as some scanners fill; the body is that of the volume without it."""
    fixed = volume_from_image(sitk.ConstantPad(case.result.fixed.image, [4] * 3, [4] * 3, 3071.0), "fixed image")
    found = outputs.evaluate(case.result.transform, fixed, case.result.moving)
    written = finish(replace(case.result, fixed=fixed)).finished.quality
    for key in ("similarity", "jacobian", "overlap_percent"):
        assert json.dumps(found[key]) == json.dumps(written[key]), key
    right = evaluate(case)["notes"]["fixed_body_mm"]
    assert found["notes"]["fixed_body_mm"] == written["notes"]["fixed_body_mm"] == pytest.approx(right, abs=2.0)
    assert right < 0.8 * np.linalg.norm(fixed.grid.extent_mm)  # which filling reaches


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
