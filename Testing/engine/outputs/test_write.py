"""The output folder: complete, true to SimpleITK, and all or nothing."""

from __future__ import annotations

import errno
import json
import tempfile
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.atomic import claim_folder
from carlreg.errors import Cancelled, InputError, ResourceError
from carlreg.outputs import write_result, write_transform_alone
from carlreg.physical import PhysicalTransform
from carlreg.progress import Progress
from carlreg.registration import finish
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid
from support.geometry import positions

from .conftest import write

FILES = ["inverse_transform.h5", "jacobian.nii.gz", "quality.json", "settings.json", "transform.h5", "warped.nii.gz"]


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def written(case, tmp_path):
    out = tmp_path / "with space and ümlaut"
    quality = write(case.result, out, labels=case.labels, landmarks=case.landmarks)
    return out, quality


def test_folder_and_its_parent_hold_the_contract_and_nothing_else(written):
    out, _ = written
    assert names(out) == FILES
    assert names(out.parent) == [out.name]


def test_quality_has_the_named_keys_and_true_figures(written, case):
    out, quality = written
    assert json.loads((out / "quality.json").read_text(encoding="utf-8")) == quality
    assert {
        "similarity",
        "jacobian",
        "inverse_error_mm",
        "overlap_percent",
        "labels",
        "landmarks",
        "start",
        "stages",
        "warnings",
    } <= set(quality)
    for when in ("before", "after"):
        assert set(quality["similarity"][when]) == {"ncc", "lncc", "mi"}
        assert set(quality["labels"][when]) == {"mean", "per_label", "surface_mm"}
        assert set(quality["labels"][when]["surface_mm"]) == {"2", "7", "300"}
        assert set(quality["labels"][when]["per_label"]) == {"2", "7", "300"}
        assert set(quality["landmarks"][when]) == {"mean_mm", "max_mm", "n", "errors_mm"}
    assert set(quality["jacobian"]) >= {"fold_percent", "min", "max", "sd_log", "mean", "sd", "histogram", "folds"}
    assert [segment["label"] for segment in quality["segments"]] == [2, 7, 300]
    assert quality["verdict"]["word"] == "good" and quality["verdict"]["thresholds"]
    assert {"mean", "p95"} <= set(quality["inverse_error_mm"])
    assert all(set(stage) == {"name", "seconds", "peak_mb"} for stage in quality["stages"])
    assert quality["stages"][0]["name"] == "predict"
    assert quality["start"] == "attention"
    assert quality["warnings"] == ["from the registration"]

    # The map is the true one, so everything must be better after it, and nearly perfect.
    similarity = quality["similarity"]
    assert similarity["after"]["ncc"] > 0.95 > 0.8 > similarity["before"]["ncc"]
    assert similarity["after"]["lncc"] > 0.9
    assert similarity["after"]["mi"] > similarity["before"]["mi"] + 0.3
    assert quality["labels"]["after"]["mean"] > 0.9 > 0.75 > quality["labels"]["before"]["mean"]
    assert quality["landmarks"]["after"]["mean_mm"] == pytest.approx(0.5, abs=1e-3)
    assert quality["landmarks"]["before"]["mean_mm"] == pytest.approx(
        np.linalg.norm(case.landmarks[0] - case.landmarks[1], axis=1).mean(), abs=1e-9
    )
    assert quality["landmarks"]["after"]["n"] == 12
    assert quality["inverse_error_mm"]["mean"] < 0.05
    assert quality["jacobian"]["fold_percent"] == 0.0
    assert 0 < quality["jacobian"]["min"] < 1 < quality["jacobian"]["max"]
    assert quality["overlap_percent"] == pytest.approx(100.0, abs=1.0)
    assert quality["notes"]["before"] == "headers as they are"


def test_warped_is_what_sitk_resamples(written, case):
    out, _ = written
    fixed, moving = case.result.fixed.image, case.result.moving.image
    warped = sitk.ReadImage(str(out / "warped.nii.gz"))
    assert warped.GetPixelID() == moving.GetPixelID() == sitk.sitkInt16
    assert VolumeGrid.of(warped).same_as(VolumeGrid.of(fixed))
    transform = sitk.ReadTransform(str(out / "transform.h5"))
    expected = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, -1000.0, sitk.sitkFloat64)
    difference = np.abs(sitk.GetArrayFromImage(warped) - sitk.GetArrayFromImage(expected))
    # Rounding to whole numbers, and 1e-4 voxels of a 1000 HU edge; the volume's rim may fall on either side.
    assert np.percentile(difference, 99.9) < 0.75
    assert (difference > 0.75).mean() < 1e-3


def test_jacobian_file_holds_the_whole_map(written, case):
    out, _ = written
    found = sitk.ReadImage(str(out / "jacobian.nii.gz"))
    assert found.GetPixelID() == sitk.sitkFloat32
    assert VolumeGrid.of(found).same_as(case.result.fixed.grid)
    transform = sitk.ReadTransform(str(out / "transform.h5"))
    grid = case.result.fixed.grid
    for ijk in ((15, 18, 12), (3, 30, 20), (28, 5, 7)):
        columns = []
        for axis in range(3):
            ends = []
            for sign in (1, -1):
                index = np.array(ijk, dtype=float)
                index[axis] += sign
                ends.append(transform.TransformPoint((grid.lps_from_ijk @ [*index, 1.0])[:3].tolist()))
            columns.append(np.subtract(*ends) / (2 * grid.spacing[axis]))
        expected = np.linalg.det(np.stack(columns, axis=-1)) / np.linalg.det(grid.direction)
        assert found[ijk] == pytest.approx(expected, rel=1e-3)


def test_inverse_file_undoes_the_forward_file(written, case):
    out, _ = written
    forward = sitk.ReadTransform(str(out / "transform.h5"))
    backward = sitk.ReadTransform(str(out / "inverse_transform.h5"))
    for point in case.landmarks[0].tolist():
        again = backward.TransformPoint(forward.TransformPoint(point))
        assert np.linalg.norm(np.subtract(again, point)) < 0.1


def test_settings_repeat_the_run_without_naming_folders(written, case):
    out, _ = written
    text = (out / "settings.json").read_text(encoding="utf-8")
    content = json.loads(text)
    assert RegistrationSettings.from_dict(content["settings"]) == case.result.settings
    assert content["seed"] == 5
    assert content["device"] == "cpu"
    assert content["weights_sha256"] == "ab" * 32
    assert content["inputs"]["fixed"]["size"] == list(case.result.fixed.grid.size_ijk)
    assert content["inputs"]["moving"]["name"] == "moving image"
    assert str(out.parent) not in text


def test_other_tools_read_the_volumes(written):
    nibabel = pytest.importorskip("nibabel")
    out, _ = written
    for name in ("warped.nii.gz", "jacobian.nii.gz"):
        image = nibabel.load(out / name)
        values = np.asarray(image.dataobj).T
        np.testing.assert_array_equal(values, sitk.GetArrayFromImage(sitk.ReadImage(str(out / name))))
        assert image.header.get_sform(coded=True)[1] > 0


def test_non_empty_folder_is_refused_and_replaced_only_on_demand(written, case):
    out, _ = written
    before = (out / "quality.json").stat().st_mtime_ns
    with pytest.raises(InputError, match="not empty"):
        write(case.result, out)
    assert (out / "quality.json").stat().st_mtime_ns == before
    quality = write(case.result, out, overwrite=True)
    assert quality["labels"] is None
    assert quality["landmarks"] is None
    assert names(out) == FILES
    assert json.loads((out / "quality.json").read_text(encoding="utf-8"))["labels"] is None


@pytest.mark.parametrize("where", ["_write_transform", "write_nifti_gz", "_write_json"])
def test_full_disk_leaves_nothing_and_keeps_an_earlier_result(written, case, monkeypatch, where):
    out, _ = written
    earlier = (out / "settings.json").read_bytes()

    def full(content, path, *_):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    def full_nifti(path, *_):
        full(None, path)

    monkeypatch.setattr(f"carlreg.outputs.write.{where}", full_nifti if where == "write_nifti_gz" else full)
    with pytest.raises(ResourceError, match="No space left on device"):
        write(case.result, out, overwrite=True)
    assert names(out) == FILES
    assert (out / "settings.json").read_bytes() == earlier
    fresh = out.parent / "fresh"
    with pytest.raises(ResourceError):
        write(case.result, fresh)
    assert names(out.parent) == [out.name]


def test_sitk_failing_to_write_is_a_full_disk(case, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("HDF5 error")

    monkeypatch.setattr(sitk, "WriteTransform", fail)
    with pytest.raises(ResourceError, match=r"transform\.h5"):
        write(case.result, tmp_path / "out")
    assert names(tmp_path) == []


def test_cancel_leaves_nothing(case, tmp_path):
    progress = Progress()

    def on_record(record):
        if record.stage == "write":
            progress.cancel()

    progress.on_record = on_record
    with pytest.raises(Cancelled):
        write(case.result, tmp_path / "out", progress=progress)
    assert names(tmp_path) == []


def test_only_a_finished_result_is_written(case, tmp_path):
    with pytest.raises(InputError, match="call carlreg"):
        write_result(case.result, tmp_path / "out")
    assert names(tmp_path) == []


def test_what_a_result_has_is_not_computed_again(case, tmp_path, monkeypatch):
    finished = finish(case.result, landmarks=case.landmarks)
    monkeypatch.setattr("carlreg.registration.finishing.invert", lambda *_: pytest.fail("there is an inverse"))
    again = finish(finished, labels=case.labels).finished
    assert again.inverse is finished.finished.inverse
    assert again.quality["labels"] is not None and again.quality["landmarks"] is None
    assert case.result.finished is None


def test_sheet_is_drawn_on_demand(case, tmp_path):
    write(case.result, tmp_path / "out", sheet=True)
    assert names(tmp_path / "out") == sorted([*FILES, "sheet.png"])


def test_volumes_far_apart_are_compared_by_their_centers(case, tmp_path):
    """Headers that share no space say nothing about 'before'."""
    grid = case.result.moving.grid
    shift = np.eye(4)
    shift[:3, 3] = [500.0, 0, 0]
    moved = sitk.Image(case.result.moving.image)
    moved.SetOrigin((grid.origin_lps + shift[:3, 3]).tolist())
    transform = case.result.transform
    case.result = replace(
        case.result,
        moving=type(case.result.moving)(moved, name="moving image"),
        transform=PhysicalTransform(shift @ transform.affine_lps, transform.displacement_lps, transform.grid),
    )
    landmarks = (case.landmarks[0], case.landmarks[1] + shift[:3, 3])
    quality = write(case.result, tmp_path / "out", landmarks=landmarks)
    assert quality["notes"]["before"] == "centers aligned"
    offset = case.result.moving.grid.center_lps - case.result.fixed.grid.center_lps
    expected = np.linalg.norm(landmarks[0] + offset - landmarks[1], axis=1).mean()
    assert quality["landmarks"]["before"]["mean_mm"] == pytest.approx(expected)
    assert quality["similarity"]["after"]["ncc"] > 0.95


def test_a_bad_map_is_warned_about(case, tmp_path):
    transform = case.result.transform
    center = case.result.fixed.grid.center_lps
    points = positions(transform.grid)
    collapse = np.zeros_like(transform.displacement_lps)
    near = np.linalg.norm(points - center, axis=-1) < 9
    collapse[near] = -1.8 * (points - center)[near]
    case.result = replace(case.result, transform=PhysicalTransform(np.eye(4), collapse, transform.grid))
    quality = write(case.result, tmp_path / "out")
    assert quality["jacobian"]["fold_percent"] > 1.0
    assert any("folds" in warning for warning in quality["warnings"])
    assert any("no point that maps" in warning for warning in quality["warnings"])
    assert quality["notes"]["inverse_nodes_without_inverse"] > 0


def test_no_overlap_is_warned_about_and_still_valid_json(case, tmp_path):
    away = np.eye(4)
    away[:3, 3] = 400.0
    transform = case.result.transform
    case.result = replace(case.result, transform=PhysicalTransform(away, transform.displacement_lps, transform.grid))
    quality = write(case.result, tmp_path / "out", labels=case.labels)
    assert quality["overlap_percent"] == 0.0
    assert quality["similarity"]["after"] == {"ncc": None, "lncc": None, "mi": None}
    assert quality["inverse_error_mm"] is None
    assert quality["labels"]["after"]["mean"] == 0.0
    assert any("0.0 % of the fixed body" in warning for warning in quality["warnings"])
    json.loads((tmp_path / "out" / "quality.json").read_text(encoding="utf-8"))
    warped = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "warped.nii.gz")))
    assert (warped == sitk.GetArrayViewFromImage(case.result.moving.image).min()).all()


def test_mask_is_the_body(case, tmp_path):
    mask = sitk.Cast(case.labels[0] == 7, sitk.sitkUInt8)
    case.result = replace(case.result, fixed_mask=mask)
    quality = write(case.result, tmp_path / "out")
    assert quality["notes"]["body"] == "fixed mask"
    determinant = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "jacobian.nii.gz")))
    inside = determinant[sitk.GetArrayFromImage(mask) > 0]
    assert quality["jacobian"]["min"] == pytest.approx(inside.min(), rel=3e-4)
    assert quality["jacobian"]["max"] == pytest.approx(inside.max(), rel=3e-4)


def test_what_is_only_looked_at_does_not_spoil_the_result(case, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("no picture today")

    monkeypatch.setattr("carlreg.outputs.write.write_sheet", broken)
    monkeypatch.setattr("carlreg.outputs.write.write_report", broken)
    quality = write(case.result, tmp_path / "out", sheet=True, report=True)
    assert names(tmp_path / "out") == FILES
    for name in ("sheet.png", "report.html"):
        assert f"{name} was left out: no picture today" in quality["warnings"]
    assert json.loads((tmp_path / "out" / "quality.json").read_text(encoding="utf-8")) == quality


def test_a_transform_that_fits_is_kept_when_the_rest_does_not(case, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("carlreg.outputs.write.write_nifti_gz", full)
    with pytest.raises(ResourceError, match=r"No space left on device.*holds only quality\.json, settings\.json, tr"):
        write(case.result, tmp_path / "out", keep_transform=True)
    assert names(tmp_path / "out") == ["quality.json", "settings.json", "transform.h5"]
    found = sitk.ReadTransform(str(tmp_path / "out" / "transform.h5"))
    points = case.landmarks[0]
    np.testing.assert_allclose(
        [found.TransformPoint(point) for point in points.tolist()], case.result.transform.apply(points), atol=1e-3
    )
    assert list(json.loads((tmp_path / "out" / "settings.json").read_text())["files"]) == [
        "transform.h5",
        "settings.json",
    ]
    assert "left out" in json.loads((tmp_path / "out" / "quality.json").read_text())["warnings"][-1]


def test_a_place_that_cannot_be_written_any_more_does_not_cost_the_result(case, tmp_path, monkeypatch):
    claim = claim_folder(tmp_path / "there" / "out")
    (tmp_path / "there").write_text("a file now")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with pytest.raises(ResourceError, match=r"could not be written any more.*the results are in ") as caught:
        write_result(finish(case.result), claim, keep_transform=True)
    assert names(claim.written) == FILES and str(claim.written) in str(caught.value)
    assert (tmp_path / "tmp") in claim.written.parents


def test_a_result_that_could_not_be_finished_leaves_its_transform(case, tmp_path, caplog):
    claim = claim_folder(tmp_path / "out")
    write_transform_alone(case.result, claim, ZeroDivisionError())
    assert names(tmp_path / "out") == ["settings.json", "transform.h5"]
    assert str(tmp_path / "out") in caplog.text


def test_numbers_that_are_not_finite_do_not_cost_the_result(case, tmp_path):
    case.result.info["candidates"] = {"attention": float("nan"), "headers": float("-inf")}
    write(case.result, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "settings.json").read_text(encoding="utf-8"))
    assert written["info"]["candidates"] == {"attention": None, "headers": None}


def test_landmarks_beyond_measure_are_left_out_and_named(case, tmp_path):
    fixed, moving = (points.copy() for points in case.landmarks)
    fixed[2] = 1e308
    moving[4] = -1e300
    fixed[7, 1] = 1e12
    quality = write(case.result, tmp_path / "out", landmarks=(fixed, moving))
    after = quality["landmarks"]["after"]
    assert [number for number, error in enumerate(after["errors_mm"]) if error is None] == [2, 4, 7]
    assert after["n"] == 9 and after["mean_mm"] == pytest.approx(0.5, abs=1e-3)
    assert any("number 3, 5, 8" in warning for warning in quality["warnings"])
    quality = write(case.result, tmp_path / "none", landmarks=(fixed[2:3], moving[2:3]))
    assert quality["landmarks"]["after"] == {"mean_mm": None, "max_mm": None, "n": 0, "errors_mm": [None]}


def test_what_cannot_be_measured_is_left_out_and_named(case, tmp_path, monkeypatch):
    def broken(*_):
        raise MemoryError

    monkeypatch.setattr("carlreg.quality.measure.label_overlap", broken)
    quality = write(case.result, tmp_path / "out", labels=case.labels, landmarks=case.landmarks)
    assert quality["labels"] is None and quality["segments"] and quality["landmarks"]
    assert quality["notes"]["not_measured"] == {"labels": "MemoryError"}
    assert "Not measured: labels (MemoryError)." in quality["warnings"]


def test_the_report_finds_the_inputs_from_where_the_result_is(case, tmp_path):
    path = tmp_path / "images" / "fixed.nii.gz"
    path.parent.mkdir()
    sitk.WriteImage(case.result.fixed.image, str(path))
    case.result = replace(case.result, fixed=replace(case.result.fixed, path=str(path)))
    for out in (tmp_path / "new" / "out", tmp_path / "there"):
        if out.name == "there":
            out.mkdir()
        write(case.result, out)
        inputs = json.loads((out / "settings.json").read_text(encoding="utf-8"))["inputs"]
        assert (out / inputs["fixed"]["relative_path"]).resolve() == path
