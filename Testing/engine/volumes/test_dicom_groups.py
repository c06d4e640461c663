"""Several volumes in one DICOM file or series: refused with a list, and each of them can be chosen."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import GeometryError, InputError
from carlreg.volumes import pair_warnings, read_volume

from ..cli.command import carlreg
from .dicom_files import ENHANCED_MR, ORIGIN, enhanced, moved, positions, save, save_series, sequence, slice_of, values

# What tells two volumes of 6 slices apart in a file of many frames: groups of a frame of volume 0 or 1, and its label.
IN_FRAMES = {
    "time": (lambda v: {"FrameContentSequence": sequence(TemporalPositionIndex=v + 1)}, "TemporalPositionIndex {}", 1),
    "echo": (lambda v: {"MREchoSequence": sequence(EffectiveEchoTime=2.46 + v)}, "EffectiveEchoTime {}", 2.46),
    "b-value": (lambda v: {"MRDiffusionSequence": sequence(DiffusionBValue=800.0 * v)}, "DiffusionBValue {}", None),
    "phase": (
        lambda v: {"CardiacSynchronizationSequence": sequence(NominalPercentageOfCardiacPhase=10.0 + v)},
        "NominalPercentageOfCardiacPhase {}",
        10,
    ),
    "magnitude": (
        lambda v: {"MRImageFrameTypeSequence": sequence(ComplexImageComponent=("MAGNITUDE", "PHASE")[v])},
        "ComplexImageComponent",
        None,
    ),
}


@pytest.mark.parametrize("case", IN_FRAMES)
@pytest.mark.parametrize("mixed", [False, True], ids=["one after the other", "mixed"])
def test_volumes_in_one_file_are_listed_and_chosen(tmp_path, case, mixed):
    groups, label, first = IN_FRAMES[case]
    stored = values(12)
    order = np.random.default_rng(1).permutation(12) if mixed else np.arange(12)
    file = save(
        enhanced(
            stored[order],
            [positions(6)[n % 6] for n in order],
            kind=ENHANCED_MR,
            groups=lambda frame: groups(int(order[frame] >= 6)),
        ),
        tmp_path / "e.dcm",
    )
    with pytest.raises(InputError, match="12 slices at 6 positions") as caught:
        read_volume(file, "fixed image")
    text = str(caught.value)
    assert "--fixed-dicom-frame-group N" in text and text.count("6 slices") == 2
    if first is not None:
        assert f"1: {label.format(first)}, 6 slices\n  2: {label.format(first + 1)}, 6 slices" in text
    else:
        assert label.format("0") in text
    for group in (1, 2):
        volume = read_volume(file, frame_group=group)
        np.testing.assert_array_equal(volume.array, stored[6 * (group - 1) : 6 * group])
        np.testing.assert_allclose(volume.grid.origin_lps, ORIGIN)
    with pytest.raises(InputError, match="--dicom-frame-group 3: expected a number from 1 to 2"):
        read_volume(file, frame_group=3)


IN_SLICES = {
    "TemporalPositionIdentifier": (1, 2, 3),
    "EchoTime": (2.3, 4.6, 6.9),
    "FrameReferenceTime": (5000.0, 15000.0, 100000.0),
    "AcquisitionNumber": (1, 2, 10),
    "TriggerTime": (0, 45, 90),
    "ImageType": (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"], ["ORIGINAL", "PRIMARY", "R"]),
    None: (0, 0, 0),
}


@pytest.mark.parametrize("keyword", IN_SLICES, ids=str)
def test_volumes_in_one_series_are_listed_and_chosen(tmp_path, keyword):
    stored = values(18)
    for n in range(18):
        own = {} if keyword is None else {keyword: IN_SLICES[keyword][n // 6]}
        # Each slice has a time of its own, as scanners write it; that does not tell volumes apart.
        made = slice_of(stored[n], positions(6)[n % 6], n + 1, ContentTime=f"1200{n:02d}", **own)
        save(made, tmp_path / f"{(7 * n) % 18:02d}.dcm")
    with pytest.raises(InputError, match=r"18 slices at 6 positions(?s:.*)--dicom-frame-group N") as caught:
        read_volume(tmp_path)
    text = str(caught.value)
    assert text.count(", 6 slices") == 3 and (keyword or "image 2 at each position") in text
    for group in (1, 2, 3):
        volume = read_volume(tmp_path / "00.dcm", frame_group=group)
        np.testing.assert_array_equal(volume.array, stored[6 * (group - 1) : 6 * group])
        assert len(volume.dicom["SOPInstanceUIDs"].split("\\")) == 6
        assert volume.dicom["SOPInstanceUIDs"].split("\\")[0] == f"1.2.9.{6 * (group - 1) + 1}"


def test_two_volumes_of_one_file_are_not_the_same_volume(tmp_path):
    file = save(enhanced(values(12), [positions(6)[n % 6] for n in range(12)]), tmp_path / "e.dcm")
    first, second = (read_volume(file, frame_group=group) for group in (1, 2))
    assert pair_warnings(first, second) == []
    assert "the same volume" in pair_warnings(second, second)[0]


def test_two_attributes_together_tell_volumes_apart(tmp_path):
    stored = values(24)

    def groups(frame):
        return {
            "FrameContentSequence": sequence(TemporalPositionIndex=frame // 12 + 1),
            "MREchoSequence": sequence(EffectiveEchoTime=[2.0, 4.0][frame // 6 % 2]),
        }

    file = save(enhanced(stored, [positions(6)[n % 6] for n in range(24)], groups=groups), tmp_path / "e.dcm")
    with pytest.raises(InputError, match="3: TemporalPositionIndex 2, EffectiveEchoTime 2, 6 slices"):
        read_volume(file)
    np.testing.assert_array_equal(read_volume(file, frame_group=3).array, stored[12:18])


def test_interleaved_echoes_at_other_positions_are_no_volume(tmp_path):
    """Positions of one echo lie between those of the other: a regular grid of two contrasts."""
    places = [moved(0, 0, 1.5 * n) for n in range(12)]
    stored = values(12)
    file = save(
        enhanced(stored, places, groups=lambda n: {"MREchoSequence": sequence(EffectiveEchoTime=2.0 + 2 * (n % 2))}),
        tmp_path / "e.dcm",
    )
    with pytest.raises(InputError, match=r"1: EffectiveEchoTime 2, 6 slices(?s:.*)2: EffectiveEchoTime 4"):
        read_volume(file)
    np.testing.assert_array_equal(read_volume(file, frame_group=2).array, stored[1::2])


def test_stacks_of_other_orientations_are_listed_and_chosen(tmp_path):
    coronal = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
    stored = values(11)
    save_series(tmp_path, stored[:6])
    for k in range(5):
        made = slice_of(stored[6 + k], moved(0, 4.0 * k, 0), 10 + k, axes=coronal)
        save(made, tmp_path / f"x{k}.dcm")
    with pytest.raises(GeometryError, match=r"size or orientation(?s:.*)1: .*normal 0.00 0.00 1.00, 6 slices"):
        read_volume(tmp_path)
    np.testing.assert_array_equal(read_volume(tmp_path, frame_group=1).array, stored[:6])
    second = read_volume(tmp_path, frame_group=2)
    np.testing.assert_array_equal(second.array, stored[6:])
    np.testing.assert_allclose(second.grid.spacing, (2, 2.5, 4))


def test_stacks_beside_each_other_are_listed_and_chosen(tmp_path):
    stored = values(12)
    places = [moved(120 * (n // 6), 0, 0, start=positions(6)[n % 6]) for n in range(12)]
    save_series(tmp_path, stored, places)
    with pytest.raises(InputError, match="12 slices at 6 positions"):
        read_volume(tmp_path)
    for group, x in ((1, 0), (2, 120)):
        volume = read_volume(tmp_path, frame_group=group)
        np.testing.assert_array_equal(volume.array, stored[6 * group - 6 : 6 * group])
        np.testing.assert_allclose(volume.grid.origin_lps, moved(x, 0, 0))


def test_stacks_behind_each_other_with_a_gap_are_listed_and_chosen(tmp_path):
    stored = values(12)
    places = [moved(z=3.0 * n + 40 * (n // 6)) for n in range(12)]
    groups = lambda n: {"FrameContentSequence": sequence(StackID=str(n // 6 + 1))}  # noqa: E731
    file = save(enhanced(stored, places, groups=groups), tmp_path / "e.dcm")
    with pytest.raises(InputError, match=r"1: StackID 1, 6 slices\n  2: StackID 2, 6 slices"):
        read_volume(file)
    second = read_volume(file, frame_group=2)
    np.testing.assert_array_equal(second.array, stored[6:])
    np.testing.assert_allclose(second.grid.origin_lps, moved(z=58))
    whole = [moved(z=3.0 * n) for n in range(12)]
    np.testing.assert_array_equal(read_volume(save(enhanced(stored, whole, groups=groups), file)).array, stored)


def test_what_varies_from_slice_to_slice_of_one_volume_is_no_choice(tmp_path):
    """Times, echo numbers of a slab, acquisitions of a table that moves on: still one volume."""
    save_series(
        tmp_path,
        values(),
        change=lambda k: {
            "AcquisitionNumber": k // 3 + 1,
            "TriggerTime": 40 * (k % 2),
            "AcquisitionTime": f"12{k:02d}00",
        },
    )
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, values())
    assert volume.warnings == ()


def test_copies_of_a_slice_are_read_once(tmp_path):
    save_series(tmp_path, values())
    (tmp_path / "copy of 002.dcm").write_bytes((tmp_path / "002.dcm").read_bytes())
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, values())
    assert len(volume.warnings) == 1 and "1 slices lie in the folder more than once" in volume.warnings[0]


def test_a_slice_that_comes_twice_with_other_pixels_is_no_copy(tmp_path):
    save_series(tmp_path, values())
    save(slice_of(values(seed=9)[2], positions(6)[2], 3), tmp_path / "x.dcm")
    with pytest.raises(InputError, match="7 slices at 6 positions"):
        read_volume(tmp_path)


def test_several_files_of_many_frames_are_told_apart_by_their_names(tmp_path):
    stored = values(12)
    for number, part in enumerate((stored[:6], stored[6:]), start=1):
        save(enhanced(part, positions(6), number=number), tmp_path / f"{number}.dcm")
    with pytest.raises(InputError, match=r"12 slices at 6 positions(?s:.*)1: file 1.dcm, 6 slices\n  2: file 2.dcm"):
        read_volume(tmp_path)
    np.testing.assert_array_equal(read_volume(tmp_path, frame_group=2).array, stored[6:])
    np.testing.assert_array_equal(read_volume(tmp_path / "2.dcm").array, stored[6:])


def test_the_parts_of_a_concatenation_are_one_volume(tmp_path):
    stored = values(12)
    for number, part in enumerate((range(6, 12), range(6)), start=1):
        made = enhanced(stored[part], [positions(12)[k] for k in part], number=number, ConcatenationUID="1.2.7")
        save(made, tmp_path / f"{number}.dcm")
    for path in (tmp_path, tmp_path / "2.dcm"):
        np.testing.assert_array_equal(read_volume(path).array, stored)


def test_a_concatenation_with_a_part_missing_is_refused(tmp_path):
    """The last part: what is there looks like a whole volume."""
    for number in (1, 2):
        made = enhanced(values(), positions(18)[6 * number - 6 : 6 * number], number=number, ConcatenationUID="1.2.7")
        made.InConcatenationNumber, made.InConcatenationTotalNumber = number, 3
        save(made, tmp_path / f"{number}.dcm")
    for path in (tmp_path, tmp_path / "1.dcm"):
        with pytest.raises(InputError, match=r"volume in 3 files .* of which 2 are there"):
            read_volume(path)


def test_a_copy_of_a_file_of_many_frames_is_read_once(tmp_path):
    save(enhanced(values(), positions(6)), tmp_path / "e.dcm")
    (tmp_path / "copy.dcm").write_bytes((tmp_path / "e.dcm").read_bytes())
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, values())
    assert "more than once" in volume.warnings[0]


def test_labels_of_groups_cannot_steer_a_terminal(tmp_path):
    def groups(n):
        return {"FrameContentSequence": sequence(StackID=f"\x1b[2J{n // 6}\n")}

    file = save(enhanced(values(12), [positions(6)[n % 6] for n in range(12)], groups=groups), tmp_path / "e.dcm")
    with pytest.raises(InputError, match=r"StackID \?\[2J0") as caught:
        read_volume(file)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("group", ["1", 1.0, True, [1]])
def test_a_group_that_is_no_number(tmp_path, group):
    save_series(tmp_path, values())
    with pytest.raises(InputError, match="expected a whole number from 1, got"):
        read_volume(tmp_path, frame_group=group)


@pytest.mark.parametrize("group", [0, -1, 2])
def test_a_group_that_is_not_there(tmp_path, group):
    save_series(tmp_path, values())
    with pytest.raises(InputError, match=f"--dicom-frame-group {group}: expected a number from 1 to 1"):
        read_volume(tmp_path, frame_group=group)
    assert read_volume(tmp_path, frame_group=1).array.shape == (6, 7, 5)


def test_a_group_of_a_file_that_is_not_dicom(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(values()), str(tmp_path / "a.nrrd"))
    with pytest.raises(InputError, match="chooses among volumes of a DICOM file"):
        read_volume(tmp_path / "a.nrrd", frame_group=1)


def test_the_commands_choose_for_inputs_and_for_each_side(tmp_path):
    stored = values(12)
    file = save(enhanced(stored, [positions(6)[n % 6] for n in range(12)]), tmp_path / "e.dcm")
    transform, out = tmp_path / "t.tfm", tmp_path / "o.nii.gz"
    sitk.WriteTransform(sitk.TranslationTransform(3), str(transform))
    refused = carlreg("apply", transform, file, "--out", out)
    assert refused.code == 2 and "--dicom-frame-group N" in refused.err and not out.exists()
    done = carlreg("apply", transform, file, "--out", out, "--dicom-frame-group", 2)
    assert done.code == 0, done.err
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(out))), stored[6:])
    mine = tmp_path / "e.json"
    sides = ("--fixed-dicom-frame-group", 1, "--moving-dicom-frame-group", 2)
    done = carlreg("evaluate", transform, file, file, "--out", mine, *sides)
    assert done.code == 0 and json.loads(mine.read_text()), done.err
    refused = carlreg("evaluate", transform, file, file, "--out", mine, *sides[:2])
    assert refused.code == 2 and "--moving-dicom-frame-group N" in refused.err
