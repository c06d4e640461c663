"""Segments that move rigidly, or nearly, in a deformable registration: against motions that are known."""

import csv
import dataclasses
import json

import carlreg
import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import InputError
from carlreg.registration.bodies import checked_bodies
from carlreg.settings import RegistrationSettings
from carlreg.spaces import apply_affine
from carlreg.volumes import volume_from_image
from support.bodies import TWO, body_pair, sampled_displacement

SETTINGS = RegistrationSettings(io_steps=40, fixed_modality="mr", moving_modality="mr")
NAMES = {1: "left", 2: "right"}


@pytest.fixture(scope="module")
def bodies():
    return body_pair()


def determinants(transform, pair):
    """Oracle: SimpleITK's (right for axes without a direction)."""
    field = sitk.GetImageFromArray(sampled_displacement(transform, pair.fixed), isVector=True)
    field.SetSpacing(pair.fixed.GetSpacing())
    return sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field))


def turned_between(one, other):
    cosine = (np.trace(one[:3, :3] @ other[:3, :3].T) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


@pytest.mark.whole
def test_known_motions_are_found_and_delivered_exactly(bodies, tmp_path):
    given = carlreg.RigidSegments(bodies.labels, NAMES, reference="left")
    result = carlreg.finish(carlreg.register(bodies.fixed, bodies.moving, SETTINGS, rigid_segments=given))
    carlreg.write_result(result, tmp_path / "out")
    transform = sitk.ReadTransform(str(tmp_path / "out" / "transform.h5"))
    found = determinants(transform, bodies)
    inner = found[1:-1, 1:-1, 1:-1]  # SimpleITK's has one-sided differences at the faces
    assert inner.min() > 0 and result.info["folded_nodes"] == 0
    labels = sitk.GetArrayFromImage(bodies.labels)
    centers = bodies.grid.centers()
    moved = centers + sampled_displacement(transform, bodies.fixed)
    for number, block in enumerate(bodies.blocks, 1):
        own = labels == number
        assert np.abs(found[own] - 1).max() < 0.01
        # Root of the mean squared error over the block: what 0.2 degrees and 0.3 mm amount to, and less.
        off = np.linalg.norm(moved[own] - apply_affine(block.matrix, centers[own]), axis=1)
        assert off.max() < 0.3
    # What is between and around them stands still in truth; taken along with them it was off by more than 5 mm.
    around = (labels == 0) & (np.linalg.norm(centers / (0.45 * bodies.grid.extent_mm), axis=-1) < 1)
    beyond = [np.abs(centers - block.center) - np.asarray(block.half) for block in bodies.blocks]
    around &= np.min([np.linalg.norm(np.maximum(each, 0), axis=-1) for each in beyond], axis=0) > 12
    assert np.linalg.norm(moved - centers, axis=-1)[around].mean() < 4.5
    assert [step.done for step in result.steps] == list(range(1, 41)) and result.steps[-1].level == 5
    motions = {one["name"]: one for one in result.finished.quality["motions"]}
    left, right = (block.matrix for block in bodies.blocks)
    assert motions["left"]["rotation_degrees"] < 1e-6  # the reference stays
    relative = np.linalg.inv(left) @ right
    told = np.asarray(motions["right"]["matrix_lps"])
    assert turned_between(told, relative) < 0.3  # both may be off by 0.2 in any direction
    center = np.asarray(motions["right"]["center_lps"])
    assert np.linalg.norm(apply_affine(told, center) - apply_affine(relative, center)) < 0.4
    for one in motions.values():
        assert one["deviation_max_mm"] < 1e-3 and one["relative_to"] == "left" and one["kind"] == "rigid"
    rows = list(csv.DictReader((tmp_path / "out" / "motions.csv").open()))
    assert [row["segment"] for row in rows] == ["left", "right"]
    assert float(rows[1]["rotation_degrees"]) == pytest.approx(motions["right"]["rotation_degrees"], rel=1e-4)
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["info"]["rigid_segments"] == ["left", "right"] and "motions.csv" in settings["files"]


@pytest.mark.slow
def test_single_motions_within_a_fifth_of_a_degree_and_stiff_segments_keep_their_shape(bodies):
    """Three whole registrations: rigid, stiff and plain."""
    rigid, stiff, plain = (
        carlreg.finish(carlreg.register(bodies.fixed, bodies.moving, SETTINGS, **more))
        for more in ({"rigid_segments": bodies.labels}, {"stiff_segments": bodies.labels}, {})
    )
    for one, block in zip(rigid.finished.quality["motions"], bodies.blocks, strict=True):
        assert turned_between(np.asarray(one["matrix_lps"]), block.matrix) < 0.2
        center = np.asarray(one["center_lps"])
        truth = apply_affine(block.matrix, center) - center
        assert np.linalg.norm(np.asarray(one["translation_lps"]) - truth) < 0.3
    own = sitk.GetArrayFromImage(bodies.labels) > 0
    spreads = [determinants(each.transform.to_sitk(), bodies)[own].std() for each in (stiff, plain)]
    assert spreads[0] < 0.6 * spreads[1]
    assert stiff.finished.quality["motions"][0]["kind"] == "stiff"
    assert stiff.finished.quality["motions"][0]["deviation_rms_mm"] > 1e-3  # soft, not exact


def test_a_given_map_is_made_rigid_without_steps(bodies):
    """The map has the motions already but for a stretch: what is delivered is the nearest rigid ones."""
    stretched = sitk.AffineTransform(3)
    stretched.Scale((1.06, 1.0, 0.97))
    settings = dataclasses.replace(SETTINGS, io_steps=0)
    result = carlreg.register(
        bodies.fixed, bodies.moving, settings, continue_from=stretched, rigid_segments=bodies.labels
    )
    found = determinants(result.transform.to_sitk(), bodies)
    labels = sitk.GetArrayFromImage(bodies.labels)
    assert np.abs(found[labels > 0] - 1).max() < 0.01 and found[1:-1, 1:-1, 1:-1].min() > 0
    far = bodies.grid.points([[2, 2, 2], [61, 47, 43]])
    assert np.abs(result.transform.apply(far) - [stretched.TransformPoint(tuple(x)) for x in far]).max() < 1e-3
    for number, block in enumerate(bodies.blocks, 1):
        x = bodies.grid.centers()[labels == number]
        off = result.transform.apply(x) - [stretched.TransformPoint(tuple(each)) for each in x]
        assert np.abs(off.mean(0)).max() < 1e-3  # its center goes where the map had it
        assert block.holds(x).all()


def segmentation(bodies, array):
    image = sitk.GetImageFromArray(array.astype(np.uint8))
    image.CopyInformation(bodies.fixed)
    return image


def checked(bodies, rigid=None, stiff=None, exact=False, **settings):
    fixed = volume_from_image(bodies.fixed, "fixed")
    return checked_bodies(rigid, stiff, fixed, dataclasses.replace(SETTINGS, **settings), exact)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"transform": "rigid", "io_steps": None}, r"expected transform deformable.*got rigid"),
        ({"io_method": "functional"}, r"expected io method field.*got functional"),
        ({"io_method": "network"}, r"expected io method field.*got network"),
        ({"symmetric": True}, r"expected symmetric off"),
    ],
)
def test_methods_that_know_no_segments_are_refused(bodies, settings, message):
    for side in ("rigid", "stiff"):
        with pytest.raises(InputError, match=f"{side} segments: {message}"):
            checked(bodies, **{side: bodies.labels}, **settings)


def test_wrong_segmentations_are_refused(bodies):
    labels = sitk.GetArrayFromImage(bodies.labels)
    given = carlreg.RigidSegments(bodies.labels, NAMES, reference="middle")
    with pytest.raises(InputError, match=r"name of a rigid segment, got 'middle'; there are left, right\."):
        checked(bodies, given)
    small = labels.copy()
    small[2:4, 2:4, 2:4] = 7
    small[6, 6, 6:50] = 8  # many voxels, but on one line
    with pytest.raises(InputError, match=r"at least 30 voxels .* too small: 7 \(8 voxels\), 8 \(44 voxels\)\."):
        checked(bodies, segmentation(bodies, small))
    with pytest.raises(InputError, match="without any label"):
        checked(bodies, segmentation(bodies, labels * 0))
    elsewhere = segmentation(bodies, labels)
    elsewhere.SetOrigin((900.0, 900.0, 900.0))
    with pytest.raises(InputError, match="none of its labels lies on"):
        checked(bodies, elsewhere)
    with pytest.raises(InputError, match=r"landmarks with an accuracy above 0"):
        checked(bodies, bodies.labels, exact=True)
    with pytest.raises(InputError, match=r"stiffness above 0.*got -1"):
        checked(bodies, stiff=carlreg.StiffSegments(bodies.labels, stiffness=-1))


def test_what_is_rigid_is_not_stiff_too(bodies):
    left = segmentation(bodies, sitk.GetArrayFromImage(bodies.labels) == 1)
    both = checked(bodies, left, carlreg.StiffSegments(bodies.labels, NAMES))
    assert both.names == ("1", "right") and both.rigid == (True, False)
    counts = np.bincount(both.numbers.ravel())[1:]
    assert counts.tolist() == [int(block.holds(bodies.grid.centers()).sum()) for block in TWO]
    assert both.points(1).shape == (counts[1], 3) and TWO[1].holds(both.points(1)).all()
