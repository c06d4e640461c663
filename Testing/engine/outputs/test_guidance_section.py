"""What guided a registration: measured against SimpleITK, written, and shown in the report."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg import outputs
from carlreg.io.guide_points import GuidePoints
from carlreg.optimize.segments import Side
from carlreg.physical import PhysicalTransform
from carlreg.registration import SegmentMatch, SegmentsGuide
from carlreg.registration.segments import matched_segments
from carlreg.settings import RegistrationSettings
from carlreg.spaces import VolumeGrid
from carlreg.volumes import volume_from_image

from .conftest import FIXED, write
from .test_report import HOSTILE, Page

NAMES = {7: "core", 300: HOSTILE, 2: "shell"}


@pytest.fixture(scope="module")
def guided(known_pair, tmp_path_factory):
    """A result that twelve points, three segments and a mask guided, and its folder."""
    from .conftest import result_of

    transform, fixed, moving, *labels = known_pair
    volumes = volume_from_image(fixed, "fixed image"), volume_from_image(moving, "moving image")
    points = FIXED.center_lps + np.random.default_rng(0).uniform(-10, 10, (13, 3))
    there = transform.apply(points) + np.outer(np.arange(13) / 10, [0.6, 0.0, 0.8])
    guide = GuidePoints(points, there, tuple(f"p{n}" for n in range(13)), np.arange(13) != 12)
    result = result_of(transform, *volumes)
    settings = replace(result.settings, landmarks_accuracy_mm=0.5)
    matches = [SegmentMatch("core", "core", 2.0), SegmentMatch(HOSTILE, HOSTILE), SegmentMatch("shell", "shell")]
    segments = matched_segments(SegmentsGuide(*labels, matches, NAMES, NAMES), *volumes, settings)
    metal = np.zeros(FIXED.shape_dhw, np.uint8)
    metal[3:5, 4:7, 5:9] = 1
    ignored = volume_from_image(FIXED.image(metal), "metal"), None
    result = replace(result, settings=settings, guide=guide, segments=segments, ignored=ignored)
    out = tmp_path_factory.mktemp("guided") / "result"
    write(result, out)
    return out


def overlaps(known_pair, transform) -> list[float]:
    """Oracle: SimpleITK's resampling and its overlap filter."""
    _, fixed, _, fixed_labels, moving_labels = known_pair
    warped = sitk.Resample(moving_labels, fixed, transform, sitk.sitkNearestNeighbor, 0)
    measured = sitk.LabelOverlapMeasuresImageFilter()
    measured.Execute(fixed_labels, warped)
    return [measured.GetDiceCoefficient(label) for label in NAMES]


def test_figures_are_those_of_simpleitk(guided, known_pair):
    found = json.loads((guided / "quality.json").read_text())["guidance"]
    points = found["landmarks"]["points"]
    assert found["landmarks"]["accuracy_mm"] == 0.5
    assert [point["name"] for point in points] == [f"p{n}" for n in range(12)]  # the one that is off did not guide
    np.testing.assert_allclose([point["after_mm"] for point in points], np.arange(12) / 10, atol=1e-6)
    table = (guided / "guide.csv").read_text().splitlines()[1:13]
    fixed, moving = (np.array([row.split(",")[k : k + 3] for row in table], float) for k in (1, 4))
    before = np.linalg.norm(fixed - moving, axis=1)
    np.testing.assert_allclose([point["before_mm"] for point in points], before, atol=1e-4)
    segments = found["segments"]
    assert [(each["name"], each["weight"]) for each in segments] == [("core", 2.0), (HOSTILE, 1.0), ("shell", 1.0)]
    after = overlaps(known_pair, sitk.ReadTransform(str(guided / "transform.h5")))
    np.testing.assert_allclose([each["dice_after"] for each in segments], after, atol=0.005)
    np.testing.assert_allclose(
        [each["dice_before"] for each in segments], overlaps(known_pair, sitk.Transform()), atol=0.005
    )
    assert min(after) > 0.85
    assert found["ignored_ml"] == {"fixed": pytest.approx(24 * 1.5 * 1.25 * 2.0 / 1000)}


def test_the_report_shows_what_guided(guided, known_pair, tmp_path):
    images = {side: volume_from_image(known_pair[n + 1], side) for n, side in enumerate(("fixed", "moving"))}
    page = Page(outputs.write_report(guided, tmp_path / "r.html", **images).read_text(encoding="utf-8"))
    assert page.wrong == [] and page.open == []
    assert "guidance" in [a.get("id") for tag, a in page.elements if tag == "section"]
    for words in (
        "12 landmarks that guided it To be met within an accuracy of 0.50 mm",
        "Farthest off: p11, 1.10 mm.",
        "3 segments that guided it",
        HOSTILE,
        "0.09 mL of the fixed image: not compared",
    ):
        assert words in page.text, words
    assert page.text.index("p11 ") < page.text.index("p10 ") < page.text.index("p1 ")


def test_older_results_show_what_they_tell(guided, known_pair, tmp_path):
    """Folders from before the figures existed: names, weights (numbers for names) and the mean."""
    images = {side: volume_from_image(known_pair[n + 1], side) for n, side in enumerate(("fixed", "moving"))}
    old = tmp_path / "old"
    old.mkdir()
    for path in guided.iterdir():
        (old / path.name).write_bytes(path.read_bytes())
    quality, settings = (json.loads((old / name).read_text()) for name in ("quality.json", "settings.json"))
    del quality["guidance"]
    settings["info"] |= {
        "landmarks_guide": {"count": 5, "accuracy_mm": 0, "rms_mm": 0.123, "max_mm": 0.234, "missed": []},
        "segments_guide": [{"name": "1", "weight": 1.0}],
    }
    (old / "quality.json").write_text(json.dumps(quality))
    (old / "settings.json").write_text(json.dumps(settings))
    text = Page(outputs.write_report(old, **images).read_text(encoding="utf-8")).text
    assert "5 landmarks that guided it To be met exactly. Missed by 0.12 mm (root mean square), 0.23 mm" in text
    assert "1 segment that guided it Segment Weight Dice before Dice after 1 1 - -" in text


def test_a_linear_map_is_told_in_numbers(known_pair, tmp_path):
    from carlreg.registration.linear import parts_of

    from .conftest import result_of

    _, fixed, moving, *_ = known_pair
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    turn[:3, 3] = FIXED.center_lps - turn[:3, :3] @ FIXED.center_lps + [1.0, 2.0, 3.0]
    transform = PhysicalTransform.from_affine(turn, "rigid", FIXED.center_lps)
    volumes = {"fixed": volume_from_image(fixed, "fixed"), "moving": volume_from_image(moving, "moving")}
    result = result_of(transform, *volumes.values())
    result = replace(
        result, settings=RegistrationSettings(transform="rigid"), info={"linear": parts_of(transform), "device": "cpu"}
    )
    write(result, tmp_path / "rigid")
    text = Page(outputs.write_report(tmp_path / "rigid", **volumes).read_text(encoding="utf-8")).text
    for words in ("Rigid map: no deformation", "Turn 5.73°", "(L, P, S) 1.00, 2.00, 3.00 mm"):
        assert words in text, words
    assert text.count("Turn 5.73°") == 1


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (0.6, 0.6, 5.0), (3.0, 0.5, 1.0)])
def test_a_segment_keeps_its_voxels_whatever_their_shape(spacing):
    """Also where voxels are longer than the mean of their edges."""
    grid = VolumeGrid((20, 18, 16), spacing, (0.0, 0.0, 0.0), np.eye(3))
    mask = np.random.default_rng(1).random(grid.shape_dhw) > 0.7
    side = Side.of(mask, grid, 5.0)
    assert side.inside.sum() == mask.sum()
