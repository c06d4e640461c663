"""Warnings: the verdict's words where it finds fault, more where no metric tells, and nothing said twice."""

from __future__ import annotations

import pytest
from carlreg.cli.console import quality_table
from carlreg.quality.verdict import verdict
from carlreg.quality.warnings import beyond_verdict, orientation_note, warnings_of

from .test_verdict import changed

NOTHING = {"ncc": None, "lncc": None, "mi": None}
WORSE = {"ncc": 0.4, "lncc": 0.27, "mi": 0.35}
LOW = {"before": {"ncc": 0.1, "lncc": 0.01, "mi": 0.2}, "after": {"ncc": 0.3, "lncc": 0.09, "mi": 0.4}}
WEAK = {"before": {"ncc": 0.0, "lncc": 0.0, "mi": 0.005}, "after": {"ncc": 0.1, "lncc": 0.02, "mi": 0.06}}


def test_a_good_result_has_none():
    assert warnings_of(changed(), {"nodes": 10, "without_inverse": 0}) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"jacobian__fold_percent": 0.02}, "folds in 0.02 %"),
        ({"jacobian__fold_percent_outside": 0.1}, "voxels outside the body"),
        ({"notes__folded_nodes_percent": 0.1}, "nodes of its displacement field"),
        ({"notes__deformation_kept_percent": 61.0}, "scaled down to 61 %"),
        ({"orientation__ratio": 1.3}, "left and right are exchanged"),
        ({"overlap_percent": 29.9}, "Only 29.9 % of the fixed body"),
        ({"similarity__after": WORSE}, "no more alike"),
        ({"similarity": WEAK}, "little in common"),
        ({"similarity__after": NOTHING}, "share no space"),
        ({"inverse_error_mm__mean": 1.1}, "There and back misses by 1.10 mm"),
    ],
)
def test_faults_are_said_in_the_verdicts_words(change, words):
    quality = changed(**change)
    (warning,) = warnings_of(quality)
    assert words in warning and warning in verdict(quality)["reasons"]


@pytest.mark.parametrize(
    ("change", "report", "words"),
    [
        ({"notes__field_covers_percent": 49.0}, None, "covers only 49 %"),
        ({}, {"nodes": 10, "without_inverse": 3}, "3 of 10 nodes of the inverse"),
        ({"similarity": LOW}, None, "agree little after registration (local correlation 0.09)"),
        (
            {"labels": None, "notes__labels_without_counterpart": {"fixed": [7], "moving": []}},
            None,
            "no label in common",
        ),
    ],
)
def test_what_no_metric_tells_is_said_as_well(change, report, words):
    quality = changed(**change)
    (warning,) = warnings_of(quality, report)
    assert words in warning and warning not in verdict(quality)["reasons"]


def test_little_overlap_is_explained():
    for backward, words in ((90.0, "fixed and moving are exchanged"), (0.0, "does not belong to these volumes")):
        first, second = warnings_of(changed(overlap_percent=1.0, notes__overlap_percent_of_inverse=backward))
        assert "Only 1.0 %" in first and words in second


def test_nothing_is_said_twice():
    quality = changed(jacobian__fold_percent=0.02, notes__field_covers_percent=10.0)
    quality |= {"verdict": verdict(quality), "warnings": warnings_of(quality), "stages": []}
    assert len(quality["warnings"]) == 2
    (left,) = beyond_verdict(quality)
    assert "covers only 10 %" in left
    table = quality_table(quality)
    assert table.count("folds") == 1 and table.count("covers only") == 1


def test_images_that_do_not_tell_left_from_right_are_named():
    """Whichever way they are more alike; and the verdict is never good, nor for that alone poor."""
    alike = {"as_given": 0.466, "mirrored": 0.453, "ratio": 0.97, "undecided": True}
    (said,) = orientation_note(alike)
    assert said.startswith("The images do not tell left from right: mirrored they would be as alike") and "0.45" in said
    leaning = alike | {"as_given": 0.453, "mirrored": 0.466, "ratio": 1.0}
    (said,) = orientation_note(leaning)
    assert "slightly more alike" in said and "one of them may be mirrored left to right" in said
    assert said in warnings_of(changed() | {"orientation": leaning})
    for one in (alike, leaning):
        found = verdict(changed() | {"orientation": one})
        assert found["word"] == "check" and found["reasons"] == orientation_note(one)
    assert verdict(changed() | {"orientation": alike | {"undecided": False}})["word"] == "good"
    assert orientation_note(alike | {"undecided": False}) == orientation_note(None) == []
