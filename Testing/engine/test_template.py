"""Templates: no image is preferred, their order changes nothing, what is done stays; how sure a change of volume is."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg import CarlError, RegistrationSettings
from carlreg.phantom import make_breathing
from carlreg.progress import Progress
from carlreg.spaces import VolumeGrid
from carlreg.template import TemplateSettings, build, change_rows, members_of, write_changes
from carlreg.template.build import _names
from carlreg.template.rounds import make_named_map
from carlreg.volumes import read_volume, volume_from_image

RIGID = RegistrationSettings(transform="rigid", threads=1)
HOW = TemplateSettings(rounds=1, spacing_mm=8.0)
SHIFTS = np.array([[9.0, 0.0, 0.0], [-3.0, 6.0, -12.0]])


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """One torso at two places in its field of view, in files."""
    folder = tmp_path_factory.mktemp("scans")
    whole = make_breathing(spacing_mm=8.0, phases=2).frames[0]
    found = []
    for n, shift in enumerate(SHIFTS):
        moved = sitk.Resample(whole, whole, sitk.TranslationTransform(3, shift.tolist()), sitk.sitkLinear, -1000.0)
        sitk.WriteImage(moved, str(folder / f"scan_{n}.nii.gz"))
        found.append(read_volume(folder / f"scan_{n}.nii.gz"))
    return found


@pytest.mark.whole  # five rigid registrations
def test_order_changes_nothing_and_what_is_done_stays(scans, tmp_path):
    names = ["a", "b"]
    one = build(members_of(scans, names), tmp_path / "one", RIGID, HOW)
    back = build(members_of(scans[::-1], names[::-1]), tmp_path / "back", RIGID, HOW)
    assert np.array_equal(one.image.array, back.image.array)  # to the bit
    assert sorted(member.name for member in one.members) == names
    # The scans' places are found, and the template is in their middle.
    place = np.array([each.apply(np.zeros((1, 3)))[0] for each in one.maps])
    given = np.array([-SHIFTS["ab".index(member.name)] for member in one.members])
    assert np.abs(place.mean(axis=0)).max() < 0.01
    assert np.abs(place - (given - given.mean(axis=0))).max() < 1.0

    labels = one.image.grid.image((one.image.array > 40).astype(np.uint8))
    rows = write_changes(one, tmp_path / "one", labels)
    assert [(row["image"], row["label"]) for row in rows] == [(member.name, 1) for member in one.members]
    assert np.allclose([row["change_percent"] for row in rows], 0, atol=1e-3)  # rigid maps
    assert "change_percent,sd_percent,sure" in (tmp_path / "one" / "changes.csv").read_text()
    for member in one.members:
        jacobian = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "one" / "changes" / f"{member.name}.nii.gz")))
        assert np.allclose(jacobian, 1, atol=1e-3)

    kept = sorted((tmp_path / "one" / "rounds" / "01").glob("*.h5"))
    times = {path: path.stat().st_mtime_ns for path in kept}
    kept[1].unlink()
    (tmp_path / "one" / "rounds" / "01.nii.gz").unlink()
    made = []

    def elsewhere(rounds, number, missing):  # as another process does, from the files alone
        for member in missing:
            made.append(f"{number}/{member.digest}")
            make_named_map(rounds.place, made[-1], Progress())

    again = build(members_of(scans, names), tmp_path / "one", RIGID, HOW, make_maps=elsewhere)
    assert len(made) == 1
    with pytest.raises(CarlError, match="it is damaged"):
        make_named_map(tmp_path / "one", "1/abc", Progress())
    assert np.array_equal(one.image.array, again.image.array)
    assert [path.stat().st_mtime_ns == times[path] for path in kept] == [True, False]

    other = volume_from_image(scans[1].image + 1, "other")
    for wrong, words in (
        (lambda: build(members_of([scans[0], other], names), tmp_path / "one", RIGID, HOW), "other images"),
        (lambda: members_of(scans[:1], names[:1]), "at least two"),
        (lambda: members_of([scans[0], scans[0]], ["a", "b"]), "a and b are the same|b and a are the same"),
    ):
        with pytest.raises(CarlError, match=words) as caught:
            wrong()
        assert caught.value.exit_code == 2


def test_images_are_named_by_what_tells_them_apart():
    assert _names(["s/one.nii.gz", "s/two.nii.gz"]) == ["one", "two"]
    assert _names(["s/1/T1w.nii.gz", "s/2/T1w.nii.gz"]) == ["1_T1w", "2_T1w"]


def test_how_sure_a_change_is():
    """A ball of 20 mm: surface 4 pi r^2, a bound of 2.5 mm is 1 mm of standard deviation along the normal."""
    grid = VolumeGrid((60, 60, 60), np.ones(3), np.zeros(3), np.eye(3))
    inside = np.linalg.norm(grid.centers() - 29.5, axis=-1) < 20
    labels = grid.image(inside.astype(np.uint8))
    jacobian = np.full(grid.shape_dhw, 1.1, np.float32)
    (row,) = change_rows("x", labels, jacobian, np.full(grid.shape_dhw, 2.5003, np.float32), grid)
    area, volume = 4 * np.pi * 20**2, 4 / 3 * np.pi * 20**3
    assert row["change_percent"] == pytest.approx(10, abs=1e-4)
    assert row["sd_percent"] == pytest.approx(100 * 20 * np.sqrt(area) / volume, rel=0.05)
    assert row["sure"] == 1
    (row,) = change_rows("x", labels, jacobian, None, grid)
    assert row["sd_percent"] is None and row["sure"] is None
