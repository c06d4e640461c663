"""The verdict: each limit on both sides, what decides, and what is said."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
from carlreg.quality.limits import LIMITS, WORDS
from carlreg.quality.verdict import verdict

PAGE = Path(__file__).resolve().parents[3] / "docs" / "outputs.md"

GOOD = {
    "similarity": {"before": {"ncc": 0.5, "lncc": 0.3, "mi": 0.4}, "after": {"ncc": 0.8, "lncc": 0.6, "mi": 0.8}},
    "jacobian": {"fold_percent": 0.0},
    "orientation": {"as_given": 0.6, "mirrored": 0.4, "ratio": 0.67},
    "pose": {"likeness": 0.5, "turned_degrees": 170.0},
    "inverse_error_mm": {"mean": 0.1},
    "overlap_percent": 90.0,
    "labels": {"before": {"mean": 0.5}, "after": {"mean": 0.8}},
    "landmarks": {"before": {"mean_mm": 9.0}, "after": {"mean_mm": 1.5}},
    "uncertainty": {"median_mm": 1.0, "p90_mm": 2.0, "unknown_percent": 5.0},
    "notes": {"moving_voxel_mm": 2.0},
}


def changed(**places) -> dict:
    """GOOD with values put at places such as jacobian__fold_percent."""
    quality = copy.deepcopy(GOOD)
    for place, value in places.items():
        *path, last = place.split("__")
        block = quality
        for key in path:
            block = block[key]
        block[last] = value
    return quality


def test_good_with_reasons():
    found = verdict(GOOD)
    assert found["word"] == "good" and len(found["reasons"]) >= 5
    assert any("1.50 mm" in reason and "9.00 mm" in reason for reason in found["reasons"])
    assert all(reason.endswith(".") for reason in found["reasons"])
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("place", "good", "check", "poor", "words"),
    [
        ("jacobian__fold_percent", 0.0, 0.01, 0.6, "folds"),
        ("jacobian__fold_percent_outside", 0.0, 0.01, 6.0, "outside the body"),
        ("notes__folded_nodes_percent", 0.0, 0.01, 6.0, "nodes of its displacement field"),
        ("notes__deformation_kept_percent", 100.0, 99.0, 49.0, "scaled down"),
        ("orientation__ratio", 1.1, 1.11, 2.1, "mirrored"),
        ("overlap_percent", 31.0, 29.0, 4.0, "lies in the moving volume"),
        ("inverse_error_mm__mean", 0.9, 1.1, 6.1, "There and back"),
        ("labels__after__mean", 0.61, 0.59, 0.29, "labels overlap"),
        ("landmarks__after__mean_mm", 2.9, 3.1, 10.1, "landmarks are"),
        ("uncertainty__median_mm", 4.9, 5.1, 15.1, "Half of the body is uncertain by more than"),
        ("uncertainty__p90_mm", 11.9, 12.1, 40.1, "A tenth of the body is uncertain by more than"),
        ("uncertainty__unknown_percent", 69.0, 71.0, 98.0, "unknown"),
    ],
)
def test_each_limit(place, good, check, poor, words):
    for value, word in ((good, "good"), (check, "check"), (poor, "poor")):
        found = verdict(changed(**{place: value}))
        assert found["word"] == word, (value, found["reasons"])
        if word != "good":
            assert words in found["reasons"][0]


def test_landmarks_that_contradict_each_other():
    pairs = [["left", "right"]]
    found = verdict(changed(guidance={"landmarks": {"accuracy_mm": 0.0, "points": [], "contradicting": pairs}}))
    assert found["word"] == "check" and "contradict each other: left and right." in found["reasons"][0]
    assert verdict(changed(guidance={"landmarks": {"contradicting": []}}))["word"] == "good"


def test_another_pose_that_is_nearly_as_alike():
    found = verdict(changed(pose__likeness=0.9))
    assert found["word"] == "check" and "turned by 170 degrees" in found["reasons"][0]
    assert verdict(changed(pose__likeness=None, pose__turned_degrees=None))["word"] == "good"


def test_a_doubt_of_the_start_stays_with_the_result():
    """As before the registration, but its own figures decide what is poor."""
    alone = verdict({"likeness": {"score": 0.2, "same_kind": True}})
    found = verdict(changed(likeness={"score": 0.2, "same_kind": True}))
    assert (alone["word"], found["word"]) == ("poor", "check") and alone["reasons"][0] == found["reasons"][0]
    assert verdict(changed(likeness={"score": 0.4, "same_kind": True})) == verdict(GOOD)


def test_less_alike_than_before():
    found = verdict(changed(similarity__after={"ncc": 0.4, "lncc": 0.27, "mi": 0.35}))
    assert found["word"] == "poor" and "no more alike" in found["reasons"][0]
    assert verdict(changed(similarity__after={"ncc": 0.5, "lncc": 0.3, "mi": 0.4}))["word"] == "check"
    # One of both that rises is enough: other contrasts, other figures.
    assert verdict(changed(similarity__after={"ncc": 0.4, "lncc": 0.2, "mi": 0.6}))["word"] == "good"
    # A pair that was aligned from the beginning has nothing to gain.
    aligned = {"ncc": 0.98, "lncc": 0.9, "mi": 1.5}
    found = verdict(changed(similarity={"before": aligned, "after": aligned}))
    assert found["word"] == "good" and found["reasons"][0].startswith("The volumes are alike: local correlation 0.90")


def test_little_in_common():
    weak = {"before": {"ncc": 0.0, "lncc": 0.0, "mi": 0.005}, "after": {"ncc": 0.1, "lncc": 0.02, "mi": 0.015}}
    assert verdict(changed(similarity=weak))["word"] == "poor"
    other_contrast = {"before": {"ncc": 0.0, "lncc": 0.0, "mi": 0.1}, "after": {"ncc": -0.1, "lncc": 0.1, "mi": 0.3}}
    assert verdict(changed(similarity=other_contrast))["word"] == "good"


def test_worse_than_before():
    found = verdict(changed(labels={"before": {"mean": 0.9}, "after": {"mean": 0.8}}))
    assert found["word"] == "poor" and "less than before" in found["reasons"][0]
    found = verdict(changed(landmarks={"before": {"mean_mm": 1.0}, "after": {"mean_mm": 1.5}}))
    assert found["word"] == "check" and "farther apart" in found["reasons"][0]


def test_no_common_space():
    nothing = {"ncc": None, "lncc": None, "mi": None}
    found = verdict(changed(similarity__after=nothing, overlap_percent=0.0, inverse_error_mm=None))
    assert found["word"] == "poor" and "share no space" in found["reasons"][0]


def test_the_worst_figure_decides_and_comes_first():
    found = verdict(changed(landmarks__after__mean_mm=4.0, jacobian__fold_percent=2.0))
    assert found["word"] == "poor" and "folds" in found["reasons"][0] and "landmarks" in found["reasons"][1]
    assert len(found["reasons"]) == 2


def test_folds_are_counted_and_what_helps_is_said():
    found = verdict(changed(jacobian={"fold_percent": 0.02, "fold_voxels": 12}))
    assert "0.02 % of the body (12 voxels)" in found["reasons"][0] and "--smoothness 2" in found["reasons"][0]
    found = verdict(changed(jacobian={"fold_percent": 0.0, "fold_voxels_outside": 7, "fold_percent_outside": 0.001}))
    assert found["word"] == "check" and "folds at 7 voxels outside the body" in found["reasons"][0]
    notes = {"folded_nodes": 3, "folded_nodes_percent": 0.01, "moving_voxel_mm": 1.0}
    found = verdict(changed(notes=notes))
    assert found["word"] == "check" and "next to 3 nodes" in found["reasons"][0]
    folds = verdict(changed(jacobian={"fold_percent": 0.02, "fold_voxels": 12}, notes=notes))  # seen already
    assert not any("nodes" in reason for reason in folds["reasons"])


@pytest.mark.parametrize("absent", ["labels", "landmarks", "uncertainty", "inverse_error_mm"])
def test_what_was_not_measured_does_not_count(absent):
    quality = changed(**{absent: None})
    assert verdict(quality)["word"] == "good"
    del quality[absent]
    assert verdict(quality)["word"] == "good"
    assert verdict({})["word"] == "check" and verdict({})["reasons"] == ["Nothing was measured."]


def test_limits_are_documented_and_in_order():
    for name, limits in LIMITS.items():
        assert limits["meaning"], name
        first, second = limits["check"], limits["poor"]
        if second is None:
            continue
        assert first > second if limits.get("below") else first < second
    assert WORDS == ("good", "check", "poor")
    assert set(LIMITS) >= {check["name"] for check in verdict(GOOD)["checks"]}


def test_the_documents_name_the_limits():
    table = PAGE.read_text(encoding="utf-8").split("## The verdict")[1].split("\n#")[0]
    rows = [row.split("|")[2:4] for row in table.splitlines() if row.startswith("| ")][1:]
    told = [
        sorted(float(n) for cell in row for n in re.findall(r"-?\d+\.?\d*", cell.replace("90 %", ""))) for row in rows
    ]
    numbers = sorted(number for row in told for number in row)
    assert numbers == sorted(
        limit for limits in LIMITS.values() for limit in (limits["check"], limits["poor"]) if limit is not None
    )


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_limits_in_mm_go_with_the_body(factor):
    lengths = {"notes__fixed_body_mm": 400.0 * factor, "notes__fixed_voxel_mm": 1.0 * factor}
    places = {"landmarks__before__mean_mm": 9.0 * factor, "landmarks__after__mean_mm": 1.5 * factor}
    places |= {"uncertainty__median_mm": 4.9 * factor, "uncertainty__p90_mm": 11.0 * factor}
    found = verdict(changed(**places, **lengths))
    assert found["word"] == "good", found["reasons"]
    assert found["thresholds"]["uncertainty_p90_mm"]["poor"] == pytest.approx(40.0 * factor)
    assert found["thresholds"]["overlap_percent"] == LIMITS["overlap_percent"]
    assert verdict(changed(**places | {"uncertainty__median_mm": 5.1 * factor}, **lengths))["word"] == "check"
    assert verdict(changed(**places | {"landmarks__after__mean_mm": 10.1 * factor}, **lengths))["word"] == "poor"
    # Coarse voxels allow as much as a large body does.
    lengths["notes__fixed_voxel_mm"] = 4.0 * factor
    assert verdict(changed(**places | {"uncertainty__median_mm": 9.9 * factor}, **lengths))["word"] == "good"


def test_small_figures_are_told_with_the_digits_that_count():
    places = {"landmarks__before__mean_mm": 9e-4, "landmarks__after__mean_mm": 1.234e-4, "uncertainty__median_mm": 2e-4}
    reasons = " ".join(verdict(changed(**places))["reasons"])
    assert "0.00012 mm" in reasons and "0.0009 mm" in reasons and "less than 0.0002 mm" in reasons


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ({"mean": 1.8, "stretched": 1.1}, "1.8 times as large"),
        ({"mean": 0.55, "stretched": 0.9}, "0.6 times as large"),
        ({"mean": 1000.0, "stretched": 1.0}, "1000.0 times as large"),
        ({"mean": 1.26, "stretched": 2.0}, "2.0 times as long as along the others"),
        ({"mean": 0.8, "stretched": 0.5}, "0.5 times as long as along the others"),
    ],
)
def test_another_size_is_told(size, words):
    quality = changed(inverse_error_mm=None) | {"size": size}
    found = verdict(quality)
    assert found["word"] == "check" and len(found["reasons"]) == 1
    assert words in found["reasons"][0] and "check its voxel size" in found["reasons"][0]
    assert verdict(changed() | {"size": {"mean": 1.2, "stretched": 1.3}})["word"] == "good"
