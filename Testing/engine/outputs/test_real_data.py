"""Known figures of real scans, computed elsewhere, come out of the engine's own measures."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg import outputs
from carlreg.physical import PhysicalTransform
from carlreg.quality.labels import label_overlap
from carlreg.quality.measure import landmark_errors
from carlreg.spaces import VolumeGrid
from carlreg.volumes import read_landmarks, read_volume

pytestmark = pytest.mark.realdata


def still() -> PhysicalTransform:
    return PhysicalTransform.from_sitk(sitk.TranslationTransform(3, (0.0, 0.0, 0.0)))


def test_liver_breathing_before_registration(data_folder):
    fixed = read_volume(data_folder / "liver_mr_eth19_exh_fixed.nii.gz")
    moving = read_volume(data_folder / "liver_mr_eth19_cyc_1_6_moving.nii.gz")
    landmarks = read_landmarks(data_folder / "liver_mr_eth19_cyc_1_6_landmarks_lps.csv")
    quality = outputs.evaluate(still(), fixed, moving, landmarks=landmarks)
    assert quality["landmarks"]["before"]["mean_mm"] == pytest.approx(5.52, abs=0.01)
    assert quality["landmarks"]["after"] == quality["landmarks"]["before"]
    assert quality["similarity"]["after"]["ncc"] == pytest.approx(quality["similarity"]["before"]["ncc"], abs=1e-3)
    known = {"fold_percent": 0.0, "min": 1.0, "max": 1.0, "sd_log": 0.0, "fold_regions": 0}
    assert {key: quality["jacobian"][key] for key in known} == known


def test_lung_landmarks_with_headers_and_with_centers_aligned(data_folder):
    fixed, moving = (
        VolumeGrid.of(sitk.ReadImage(str(data_folder / f"lung_ct_{name}.nii.gz")))
        for name in ("baseline_fixed", "followup_moving")
    )
    landmarks = read_landmarks(data_folder / "lung_ct_landmarks_lps.csv")
    shift = np.eye(4)
    shift[:3, 3] = moving.center_lps - fixed.center_lps
    headers = landmark_errors(still().apply, np.eye(4), landmarks)
    centers = landmark_errors(still().apply, shift, landmarks)
    assert headers["before"]["mean_mm"] == pytest.approx(35.27, abs=0.01)
    assert centers["before"]["mean_mm"] == pytest.approx(7.60, abs=0.01)
    assert centers["before"]["max_mm"] == pytest.approx(13.6, abs=0.1)


def test_brain_dice_over_45_labels(data_folder):
    fixed = sitk.ReadImage(str(data_folder / "brain_vxm_fixed_seg.nii.gz"))
    moving = sitk.ReadImage(str(data_folder / "brain_l2rtut_moving_seg.nii.gz"))
    found = label_overlap(still(), np.eye(4), fixed, moving)
    assert len(found["before"]["per_label"]) == 45
    assert found["before"]["mean"] == pytest.approx(0.423, abs=5e-4)
    assert found["after"] == found["before"]
    oracle = sitk.LabelOverlapMeasuresImageFilter()
    oracle.Execute(fixed, moving)
    for label, dice in found["before"]["per_label"].items():
        assert dice == pytest.approx(oracle.GetDiceCoefficient(int(label)), abs=1e-9)
