"""DICOM files of many frames: each frame at its place, with its own scaling; written by pydicom with known values."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from carlreg.errors import GeometryError, InputError
from carlreg.volumes import read_labels, read_mask, read_volume
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from .dicom_files import (
    AXES,
    DOSE,
    ENHANCED_CT,
    ENHANCED_MR,
    ENHANCED_PET,
    NM,
    ORIGIN,
    SEGMENTATION,
    SPACING,
    enhanced,
    image,
    item,
    moved,
    positions,
    save,
    sequence,
    values,
)


def assert_volume(volume, expected, origin=ORIGIN):
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6)
    np.testing.assert_allclose(volume.grid.origin_lps, origin, atol=1e-9)
    np.testing.assert_allclose(volume.grid.spacing, SPACING, atol=1e-9)


@pytest.mark.parametrize(
    "order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [0, 2, 4, 1, 3, 5], [3, 0, 5, 1, 4, 2]], ids=str
)
@pytest.mark.parametrize("kind", [ENHANCED_CT, ENHANCED_MR, ENHANCED_PET])
def test_frames_are_sorted_by_their_positions(tmp_path, order, kind):
    stored, places = values(), positions(6)
    file = save(enhanced(stored[order], [places[k] for k in order], kind=kind), tmp_path / "e.dcm")
    for path in (file, tmp_path):
        assert_volume(read_volume(path), stored)


def test_oblique_frames_lie_where_each_says(tmp_path):
    axes = np.array([0.0, 0.8, 0.6, 0.0, -0.6, 0.8])
    normal = np.cross(axes[:3], axes[3:])
    stored, order = values(), [4, 1, 0, 5, 2, 3]
    places = [ORIGIN + 3 * k * normal for k in range(6)]
    file = save(enhanced(stored[order], [places[k] for k in order], axes=axes), tmp_path / "e.dcm")
    found = read_volume(file).image
    for k in range(6):
        assert found[found.TransformPhysicalPointToIndex(places[k].tolist())] == stored[k, 0, 0]
        corner = places[k] + 4 * SPACING[0] * axes[:3] + 6 * SPACING[1] * axes[3:]
        assert found[found.TransformPhysicalPointToIndex(corner.tolist())] == stored[k, 6, 4]


def test_each_frame_has_its_own_scaling(tmp_path):
    stored = values(low=0, high=30000)
    rescales = [(1, 0), (0.5, 0), (0.0001, -3), (2.25, 10), (1, 0.125), (3, -1024)]
    volume = read_volume(save(enhanced(stored, positions(6), rescales=rescales), tmp_path / "e.dcm"))
    slopes, intercepts = np.array(rescales).T[:, :, None, None]
    assert_volume(volume, stored * slopes + intercepts)
    whole = read_volume(
        save(enhanced(stored, positions(6), rescales=[(k + 1, -k) for k in range(6)]), tmp_path / "w" / "e.dcm")
    )
    assert whole.image.GetPixelID() == sitk.sitkInt32
    assert_volume(whole, stored * np.arange(1, 7)[:, None, None] - np.arange(6)[:, None, None])


def test_one_scaling_for_all_frames(tmp_path):
    made = enhanced(values(), positions(6))
    made.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = sequence(
        RescaleIntercept=-1024, RescaleSlope=2, RescaleType="HU"
    )
    assert_volume(read_volume(save(made, tmp_path / "e.dcm")), values() * 2.0 - 1024)


@pytest.mark.parametrize(
    ("left_out", "message"), [((2,), "missing or unevenly spaced: .* from 3 to 6 mm"), ((1, 2), "from 3 to 9 mm")]
)
def test_gaps_are_refused(tmp_path, left_out, message):
    kept = [k for k in range(8) if k not in left_out]
    file = save(enhanced(values(8)[kept], [positions(8)[k] for k in kept]), tmp_path / "e.dcm")
    with pytest.raises(GeometryError, match=message):
        read_volume(file)


def test_a_tilt_is_refused(tmp_path):
    places = [moved(0, 0.5 * k, 0, start=place) for k, place in enumerate(positions(6))]
    with pytest.raises(GeometryError, match=r"gantry tilt of 9\.5 degrees"):
        read_volume(save(enhanced(values(), places), tmp_path / "e.dcm"))


def test_a_file_that_describes_fewer_frames_than_it_has_is_refused(tmp_path):
    made = enhanced(values(), positions(6))
    made.PerFrameFunctionalGroupsSequence = Sequence(made.PerFrameFunctionalGroupsSequence[:4])
    with pytest.raises(InputError, match="has 6 frames but describes 4"):
        read_volume(save(made, tmp_path / "e.dcm"))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_transfer_syntaxes(tmp_path, syntax):
    order = [3, 0, 5, 1, 4, 2]
    made = enhanced(values()[order], [positions(6)[k] for k in order], rescales=[(0.5, 1)] * 6, syntax=syntax)
    assert_volume(read_volume(save(made, tmp_path / "e.dcm")), values() * 0.5 + 1)


@pytest.mark.parametrize(("bits", "used", "signed"), [(8, 8, False), (16, 12, False), (16, 12, True), (16, 16, True)])
def test_compressed_frames_are_sorted_and_scaled_one_by_one(tmp_path, bits, used, signed):
    order = [3, 0, 5, 1, 4, 2]
    low, high = (-(2 ** (used - 1)), 2 ** (used - 1) - 1) if signed else (0, 2**used - 1)
    stored = values(low=low, high=high)
    rescales = [(1 + k, k) for k in range(6)]
    made = enhanced(
        stored[order], [positions(6)[k] for k in order], rescales=rescales, bits=bits, used=used, signed=signed
    )
    made.compress(RLELossless)
    expected = np.empty(stored.shape)
    for frame, k in enumerate(order):
        expected[k] = stored[k] * (1 + frame) + frame
    assert_volume(read_volume(save(made, tmp_path / "e.dcm")), expected)


@pytest.mark.parametrize("pieces", [1, 2, 3])
@pytest.mark.parametrize(("compressor", "syntax"), [("JPEG2000", JPEG2000Lossless), ("JPEG", JPEGLosslessSV1)])
def test_compressed_frames_in_pieces(tmp_path, compressor, syntax, pieces):
    """Frames that SimpleITK compressed, in another order and in pieces, with the table that assigns these."""
    stored = np.random.default_rng(0).integers(0, 1000, (6, 32, 40)).astype(np.int16)
    writer, frames, order = sitk.ImageFileWriter(), [], [3, 0, 5, 1, 4, 2]
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    for k in order:
        writer.SetFileName(str(tmp_path / "one.dcm"))
        writer.Execute(sitk.GetImageFromArray(stored[k][None]))
        one = dcmread(tmp_path / "one.dcm")
        assert one.file_meta.TransferSyntaxUID == syntax
        frames.append(next(generate_frames(one.PixelData, number_of_frames=1)))
    made = enhanced(stored, [positions(6)[k] for k in order], rescales=[(k + 1, 0) for k in order])
    made.PixelData = encapsulate(frames, fragments_per_frame=pieces, has_bot=True)
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = syntax
    file = save(made, tmp_path / "many" / "e.dcm")
    assert_volume(read_volume(file), stored * np.arange(1, 7)[:, None, None])


def test_bits_beside_the_used_ones_do_not_count(tmp_path):
    stored = values(low=0, high=4096)
    made = enhanced(stored | 0x6000, positions(6), bits=16, used=12, signed=False)
    assert_volume(read_volume(save(made, tmp_path / "e.dcm")), stored)


@pytest.mark.parametrize("offsets", ["relative", "absolute", "downwards"])
def test_dose_is_scaled_and_lies_where_its_offsets_say(tmp_path, offsets):
    stored = values(low=0, high=60000)
    distances = [3.0 * k for k in range(6)]
    if offsets == "absolute":
        distances = [ORIGIN[2] + distance for distance in distances]
    if offsets == "downwards":
        distances = [-distance for distance in distances]
    made = image(
        stored[::-1] if offsets == "downwards" else stored,
        DOSE,
        signed=False,
        ImagePositionPatient=[*ORIGIN[:2], ORIGIN[2] + (15 if offsets == "downwards" else 0)],
        ImageOrientationPatient=list(AXES),
        PixelSpacing=[SPACING[1], SPACING[0]],
        FrameIncrementPointer=0x3004000C,
        GridFrameOffsetVector=distances,
        DoseGridScaling="0.0012",
        DoseUnits="GY",
    )
    volume = read_volume(save(made, tmp_path / "dose.dcm"))
    assert_volume(volume, stored * 0.0012)
    assert "dose" in volume.warnings[0]


def test_dose_without_scaling_is_refused(tmp_path):
    made = image(values(), DOSE, ImagePositionPatient=list(ORIGIN), ImageOrientationPatient=list(AXES))
    with pytest.raises(InputError, match="no scaling"):
        read_volume(save(made, tmp_path / "dose.dcm"))


def nuclear(stored, pointer=(0x00540080,), **vectors):
    made = image(
        stored,
        NM,
        signed=False,
        PixelSpacing=[SPACING[1], SPACING[0]],
        SpacingBetweenSlices=vectors.pop("step", 3.0),
        FrameIncrementPointer=list(pointer),
        DetectorInformationSequence=sequence(
            ImagePositionPatient=list(vectors.pop("first", ORIGIN)), ImageOrientationPatient=list(AXES)
        ),
    )
    for keyword, value in vectors.items():
        setattr(made, keyword, value)
    return made


def test_nuclear_medicine_slices_follow_their_vector_and_the_sign_of_their_distance(tmp_path):
    stored = values(low=0)
    order = [2, 0, 1, 5, 4, 3]
    made = nuclear(stored[order], SliceVector=[k + 1 for k in order])
    assert_volume(read_volume(save(made, tmp_path / "a.dcm")), stored)
    made = nuclear(stored[::-1], SliceVector=[1, 2, 3, 4, 5, 6], step=-3.0, first=moved(0, 0, 15))
    assert_volume(read_volume(save(made, tmp_path / "b.dcm")), stored)


def test_nuclear_medicine_with_gates_asks_which(tmp_path):
    stored = values(12, low=0)
    made = nuclear(stored, (0x00540070, 0x00540080), TimeSlotVector=[1] * 6 + [2] * 6, SliceVector=[*range(1, 7)] * 2)
    file = save(made, tmp_path / "a.dcm")
    with pytest.raises(InputError, match=r"12 slices at 6 positions(?s:.*)1: TimeSlot 1, 6 slices\n  2: TimeSlot 2"):
        read_volume(file)
    assert_volume(read_volume(file, frame_group=2), stored[6:])


@pytest.mark.parametrize(("pointer", "message"), [(0x00540050, "projections"), (0x00181063, "a film")])
def test_projections_and_films_are_refused(tmp_path, pointer, message):
    made = nuclear(values(low=0), (pointer,), RotationVector=[1] * 6, FrameTime=40)
    with pytest.raises(InputError, match=message):
        read_volume(save(made, tmp_path / "a.dcm"))


def segmentation(masks: dict[int, np.ndarray], kept=None, **elements):
    """Binary frames by segment; only those with something in them, as most programs write them."""
    stored, places, numbers = [], [], []
    for number, mask in masks.items():
        for k in range(len(mask)):
            if mask[k].any():
                stored.append(mask[k])
                places.append(positions(len(mask))[k])
                numbers.append(number)
    made = enhanced(
        np.array(stored),
        places,
        kind=SEGMENTATION,
        bits=1,
        signed=False,
        groups=lambda frame: {"SegmentIdentificationSequence": sequence(ReferencedSegmentNumber=numbers[frame])},
        SegmentationType="BINARY",
        SegmentSequence=Sequence([item(SegmentNumber=n, SegmentLabel=f"organ {n}") for n in masks]),
        **elements,
    )
    made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = SPACING[2]
    return made


@pytest.fixture
def masks():
    liver, spleen = np.zeros((2, 8, 7, 5), bool)
    liver[1:5, 1:4, 1:3] = True
    spleen[4:7, 4:6, 2:4] = True  # none of it in slice 0 or 7; liver and spleen share slice 4
    return {1: liver, 3: spleen}


def test_segments_become_one_label_map(tmp_path, masks):
    volume = read_volume(save(segmentation(masks), tmp_path / "s.dcm"))
    expected = masks[1][1:7] * 1 + masks[3][1:7] * 3
    assert_volume(volume, expected, moved(0, 0, 3))
    assert "2 segments, read as one label map: 1 organ 1, 3 organ 3" in volume.warnings[0]
    one = read_volume(tmp_path / "s.dcm", frame_group=2)
    assert_volume(one, masks[3][1:7], moved(0, 0, 3))


def test_slices_that_a_segmentation_leaves_out_are_empty(tmp_path, masks):
    masks[1][2:4] = False  # frames at 1 and 4 only, and the spleen's at 4 to 6
    volume = read_volume(save(segmentation(masks), tmp_path / "s.dcm"))
    assert_volume(volume, masks[1][1:7] * 1 + masks[3][1:7] * 3, moved(0, 0, 3))


@pytest.mark.parametrize("kept", [[3], [3, 4], [2, 3, 4]], ids=str)
def test_a_segmentation_of_few_slices_gets_empty_ones_around(tmp_path, masks, kept):
    mask = np.zeros_like(masks[1])
    mask[kept] = masks[1][3]
    file = save(segmentation({1: mask}), tmp_path / "s.dcm")
    volume = read_volume(file)
    assert volume.grid.size_ijk[2] == 4 and volume.array.sum() == mask.sum()
    scan = read_volume(save(enhanced(values(8), positions(8)), tmp_path / "scan" / "e.dcm"))
    np.testing.assert_array_equal(read_mask(file, scan).array, mask)


def test_segments_that_overlap_ask_which(tmp_path, masks):
    masks[3][3:6, 2:5, 1:3] = True
    file = save(segmentation(masks), tmp_path / "s.dcm")
    with pytest.raises(InputError, match=r"overlap(?s:.*)1: segment 1 organ 1(?s:.*)2: segment 3 organ 3"):
        read_volume(file)
    assert read_volume(file, frame_group=1).array.sum() == masks[1].sum()
    with pytest.raises(InputError, match=r"frame_group of carlreg\.volumes\.read_volume N"):
        read_volume(file, "fixed mask")


def test_fractions_are_fractions(tmp_path, masks):
    stored = values(8, low=0, high=255)
    made = enhanced(
        stored,
        positions(8),
        kind=SEGMENTATION,
        bits=8,
        signed=False,
        groups=lambda _: {"SegmentIdentificationSequence": sequence(ReferencedSegmentNumber=1)},
        SegmentationType="FRACTIONAL",
        MaximumFractionalValue=250,
    )
    assert_volume(read_volume(save(made, tmp_path / "s.dcm")), stored / 250)


def test_a_segmentation_serves_as_mask_and_as_labels(tmp_path, masks):
    scan = read_volume(save(enhanced(values(8), positions(8)), tmp_path / "scan" / "e.dcm"))
    file = save(segmentation(masks), tmp_path / "s.dcm")
    np.testing.assert_array_equal(read_mask(file, scan).array, masks[1] | masks[3])
    labels = sitk.GetArrayFromImage(read_labels(file, scan))
    np.testing.assert_array_equal(labels, masks[1] * 1 + masks[3] * 3)


def test_float_pixels_of_a_parametric_map(tmp_path):
    stored = values().astype(np.float32) / 7
    made = enhanced(values(), positions(6), kind="1.2.840.10008.5.1.4.1.1.30", BitsAllocated=32)
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(made, keyword)
    made.FloatPixelData = stored.tobytes()
    volume = read_volume(save(made, tmp_path / "p.dcm"))
    assert volume.image.GetPixelID() == sitk.sitkFloat32
    assert_volume(volume, stored)


def test_ultrasound_volumes_lie_in_their_own_space(tmp_path):
    made = enhanced(values(low=0, high=255), positions(6), kind="1.2.840.10008.5.1.4.1.1.6.2", bits=8, signed=False)
    for number, groups in enumerate(made.PerFrameFunctionalGroupsSequence):
        del groups.PlanePositionSequence
        groups.PlanePositionVolumeSequence = sequence(ImagePositionVolume=positions(6)[5 - number].tolist())
    shared = made.SharedFunctionalGroupsSequence[0]
    del shared.PlaneOrientationSequence
    shared.PlaneOrientationVolumeSequence = sequence(ImageOrientationVolume=list(AXES))
    volume = read_volume(save(made, tmp_path / "u.dcm"))
    assert_volume(volume, values(low=0, high=255)[::-1])
    assert len(volume.warnings) == 1 and "not in that of the patient" in volume.warnings[0]


def test_frames_without_places_are_taken_in_order_and_that_is_said(tmp_path):
    made = image(values(), "1.2.840.10008.5.1.4.1.1.7.3", PixelSpacing=[2.5, 2.0], SpacingBetweenSlices=3.0)
    volume = read_volume(save(made, tmp_path / "s.dcm"))
    assert_volume(volume, values(), (0, 0, 0))
    assert "do not say where they lie" in volume.warnings[0] and "3 mm" in volume.warnings[0]
