"""Segmentations that guide a registration: what belongs together, and that their overlap grows."""

import dataclasses

import carlreg
import numpy as np
import pytest
import SimpleITK as sitk
from carlreg import SegmentMatch, SegmentsGuide
from carlreg.errors import InputError
from carlreg.phantom import LABELS
from carlreg.registration import read_matches
from carlreg.registration.segments import matched_segments
from carlreg.settings import RegistrationSettings
from carlreg.volumes import volume_from_image

from .conftest import QUICK


@pytest.fixture(scope="module")
def volumes(pair):
    return volume_from_image(pair.fixed, "fixed"), volume_from_image(pair.moving, "moving")


def matched(volumes, pair, settings=QUICK, **guide):
    return matched_segments(SegmentsGuide(pair.fixed_labels, pair.moving_labels, **guide), *volumes, settings)


def names(found):
    return [segment.name for segment in found]


def test_what_belongs_together(pair, volumes):
    shared = sorted(
        set(np.unique(sitk.GetArrayFromImage(pair.fixed_labels)))
        & set(np.unique(sitk.GetArrayFromImage(pair.moving_labels))) - {0}
    )
    assert names(matched(volumes, pair)) == [str(value) for value in shared]
    one, other = int(shared[0]), int(shared[1])
    by_name = {"fixed_names": {one: "liver", other: "lung"}, "moving_names": {one: "lung", other: "liver"}}
    crossed = matched(volumes, pair, **by_name)
    assert {"liver", "lung"} <= set(names(crossed))
    liver = next(segment for segment in crossed if segment.name == "liver")
    fixed, moving = (sitk.GetArrayFromImage(image) for image in (pair.fixed_labels, pair.moving_labels))
    voxels = [np.prod(grid.spacing) for grid in (liver.fixed.grid, liver.moving.grid)]
    for side, array, label, voxel in ((liver.fixed, fixed, one, voxels[0]), (liver.moving, moving, other, voxels[1])):
        inside = float((side.distance_11dhw > 0).sum()) * voxel
        assert inside == pytest.approx((array == label).sum() * voxel)
    told = matched(volumes, pair, matches=[SegmentMatch(str(one), str(other), 3.0)])
    assert names(told) == [str(one)] and told[0].weight == 3.0
    told = matched(volumes, pair, matches=[SegmentMatch(str(one), str(one))], **by_name)
    assert names(told) == ["liver"]  # told by its number, recorded by its name


def test_names_that_are_nowhere_are_told(pair, volumes):
    with pytest.raises(InputError, match=r"segment of the moving image, got 'spleen'; there are "):
        matched(volumes, pair, matches=[SegmentMatch("1", "spleen")])
    other = sitk.Cast(pair.moving_labels > 0, sitk.sitkInt16) * 200
    with pytest.raises(InputError, match=r"same name or value in both images; got .* and 200 in the moving one"):
        matched_segments(SegmentsGuide(pair.fixed_labels, other), *volumes, QUICK)
    with pytest.raises(InputError, match="expected io method field"):
        matched(volumes, pair, RegistrationSettings(io_method="functional"))


def test_a_table_says_what_belongs_together(tmp_path):
    (tmp_path / "m.csv").write_text("fixed,moving,weight\nliver,Leber,2\nlung,Lunge,\n")
    assert read_matches(tmp_path / "m.csv") == [SegmentMatch("liver", "Leber", 2.0), SegmentMatch("lung", "Lunge")]
    for text, message in (
        ("a,b\n1,2\n", "columns fixed and moving"),
        ("fixed,moving\n", "at least one pair"),
        ("fixed,moving,weight\n1,2,-3\n", "line 2: expected two names and a weight"),
        ("fixed,moving\n1,\n", "line 2: expected two names"),
    ):
        (tmp_path / "m.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            read_matches(tmp_path / "m.csv")


def dice(result, pair, label):
    """Oracle: SimpleITK's resampling."""
    moved = sitk.Resample(pair.moving_labels, pair.fixed, result.transform.to_sitk(), sitk.sitkNearestNeighbor, 0)
    one, other = (sitk.GetArrayFromImage(image) == label for image in (pair.fixed_labels, moved))
    seen = sitk.Resample(
        pair.moving_labels * 0 + 1, pair.fixed, result.transform.to_sitk(), sitk.sitkNearestNeighbor, 0
    )
    seen = sitk.GetArrayFromImage(seen) > 0
    one, other = one & seen, other & seen
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.whole
@pytest.mark.parametrize("symmetric", [pytest.param(False, marks=pytest.mark.slow), True])
def test_overlap_of_guided_segments_grows(pair, symmetric):
    """Images too noisy to be aligned finely: the boundaries say what they do not."""
    noise = np.random.default_rng(4)

    def noisy(image):
        array = sitk.GetArrayFromImage(image)
        out = sitk.GetImageFromArray((array + noise.normal(0, 400, array.shape)).astype(np.float32))
        out.CopyInformation(image)
        return out

    fixed, moving = noisy(pair.fixed), noisy(pair.moving)
    settings = dataclasses.replace(QUICK, symmetric=symmetric, fixed_modality="ct", moving_modality="ct")
    label = LABELS["liver"]
    guide = SegmentsGuide(pair.fixed_labels, pair.moving_labels, [SegmentMatch(str(label), str(label))])
    plain = carlreg.register(fixed, moving, settings)
    guided = carlreg.register(fixed, moving, settings, segments_guide=guide)
    assert dice(guided, pair, label) > dice(plain, pair, label) + 0.01
    assert guided.info["segments_guide"] == [{"name": str(label), "weight": 1.0}]
    assert guided.info["folded_nodes"] == 0
