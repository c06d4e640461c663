"""The frames of one DICOM file: where each lies, how its values are scaled, and what distinguishes it from others."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import functional
from .header import Header, PixelData, UnreadableError, items, number, numbers, text, value, whole, written_text

# What `Volume.dicom` holds. Names and birth dates of patients are never read.
ATTRIBUTES = (
    "Modality",
    "SeriesDescription",
    "SeriesInstanceUID",
    "PatientPosition",
    "FrameOfReferenceUID",
    "StudyInstanceUID",
    "SOPClassUID",
)
# What may tell slices at one position from each other in files of one slice, the most telling first.
_TRAITS = (
    "TemporalPositionIdentifier",
    "EchoNumbers",
    "EchoTime",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "NominalPercentageOfCardiacPhase",
    "TriggerTime",
    "InversionTime",
    "ImageType",
    "FlipAngle",
    "KVP",
    "ConvolutionKernel",
    "FrameReferenceTime",
    "AcquisitionNumber",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
)
DOSE, SEGMENTATION, PARAMETRIC_MAP = (
    "1.2.840.10008.5.1.4.1.1.481.2",
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.30",
)
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
DIRECTORY = "1.2.840.10008.1.3.10"
_ULTRASOUND_VOLUME = "1.2.840.10008.5.1.4.1.1.6.2"
_MOST_FRAMES = 100_000
# Compressed volumes of medical images are a few, with much black around some dozens of times smaller.
_LARGEST_RATIO, _SMALL_BYTES = 2000, 64 * 2**20
_FARTHEST_MM, _LARGEST_SPACING_MM = 1e6, 1e4


@dataclass(frozen=True)
class Instance:
    """One file. count: its frames. attributes: ATTRIBUTES by keyword. number: InstanceNumber.

    gap: distance of slices (mm) that the header tells, which counts only where positions are missing. part: which
    of how many files of a concatenation (0: not told). segments: names by number, of a segmentation. notes: what a user
    should know.
    """

    path: Path
    pixels: PixelData
    syntax: str
    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    count: int
    uid: str
    attributes: dict[str, str]
    number: int | None
    gap: float | None
    concatenation: str = ""
    part: tuple[int, int] = (1, 0)
    segments: dict[int, str] = field(default_factory=dict)
    fraction: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_color(self) -> bool:
        return self.samples > 1 or not self.photometric.startswith("MONOCHROME")


@dataclass(frozen=True)
class Frame(functional.Described):
    """One slice: what is said of it, and the file that it lies in."""

    instance: Instance


def read_instance(header: Header) -> Instance:
    """What all frames of a file have in common. Raises UnreadableError when it is no image, or damaged."""
    dataset, pixels = header.dataset, header.pixels
    kind = text(dataset, "SOPClassUID")
    if pixels is None:
        raise UnreadableError("it holds no image (no pixel data)")
    allocated = whole(dataset, "BitsAllocated") if not pixels.kind else 8 * int(pixels.kind[1])
    stored = whole(dataset, "BitsStored", allocated) if not pixels.kind else allocated
    high_bit = whole(dataset, "HighBit", stored - 1) if not pixels.kind else allocated - 1
    if allocated not in (1, 8, 16, 32, 64) or not 1 <= stored <= high_bit + 1 <= allocated:
        raise UnreadableError(f"its pixels take {allocated} bits of which {stored} are used, which cannot be read")
    count = _count(dataset)
    rows, columns = whole(dataset, "Rows"), whole(dataset, "Columns")
    samples = whole(dataset, "SamplesPerPixel", 1)
    if min(rows, columns, samples) < 1:
        raise UnreadableError(f"its frames have {rows} rows and {columns} columns")
    _check_length(pixels, rows * columns * samples * allocated, count)
    found = {name: written_text(dataset, name) for name in ATTRIBUTES}
    instance_number = number(dataset, "InstanceNumber")
    notes = []
    if items(dataset, "ModalityLUTSequence"):
        notes.append("its look-up table of values (Modality LUT) is not applied: values are as stored")
    if (
        count > 1
        and kind != DOSE
        and not functional.has_groups(dataset)
        and not number(dataset, "SpacingBetweenSlices")
    ):
        notes.append("its header does not tell the distance of slices; their thickness, else 1 mm, is taken for it")
    if kind == _ULTRASOUND_VOLUME:
        notes.append("it lies in the space of its own ultrasound volume, not in that of the patient")
    photometric = text(dataset, "PhotometricInterpretation") or "MONOCHROME2"
    fraction = None
    if text(dataset, "SegmentationType") == "FRACTIONAL":
        fraction = float(whole(dataset, "MaximumFractionalValue", 255)) or 1.0
    return Instance(
        header.path,
        pixels,
        header.syntax,
        rows,
        columns,
        samples,
        photometric,
        allocated,
        stored,
        high_bit,
        whole(dataset, "PixelRepresentation", 0) == 1 and kind != SEGMENTATION,
        count,
        text(dataset, "SOPInstanceUID"),
        {name: found[name] for name in found if found[name]},
        None if instance_number is None else int(instance_number),
        _gap(dataset),
        text(dataset, "ConcatenationUID"),
        (whole(dataset, "InConcatenationNumber", 1), whole(dataset, "InConcatenationTotalNumber", 0)),
        _segments(dataset) if kind == SEGMENTATION else {},
        fraction,
        tuple(notes),
    )


def read_frames(header: Header, instance: Instance) -> list[Frame]:
    """The frames of a file, in its order. Raises UnreadableError for damaged values."""
    dataset = header.dataset
    has_groups = functional.has_groups(dataset)
    if has_groups:
        frames = [
            Frame(**vars(found), instance=instance)
            for found in functional.frames_of(dataset, instance.count, instance.attributes.get("SOPClassUID", ""))
        ]
    else:
        frames = _plain_frames(dataset, instance)
    for frame in frames[:1] if not has_groups else frames:
        _check_geometry(frame)
    return frames


def _plain_frames(dataset, instance: Instance) -> list[Frame]:
    spacing = (
        numbers(dataset, "PixelSpacing", 2)
        or numbers(dataset, "ImagerPixelSpacing", 2)
        or numbers(dataset, "NominalScannedPixelSpacing", 2)
    )
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    rescale = (1.0 if slope is None else slope, intercept or 0.0)
    position, orientation = numbers(dataset, "ImagePositionPatient", 3), numbers(dataset, "ImageOrientationPatient", 6)
    if instance.attributes.get("SOPClassUID") == DOSE:
        rescale = _dose_scaling(dataset), 0.0
    if instance.count == 1:
        found = {name: value(dataset, name) for name in _TRAITS}
        told = {name: shown for name, shown in found.items() if shown}
        return [Frame(0, position, orientation, spacing, rescale, told, instance)]
    if instance.attributes.get("SOPClassUID") == DOSE:
        places = _dose_positions(dataset, instance.count, position, orientation)
        traits: list[dict[str, str]] = [{} for _ in range(instance.count)]
    else:
        traits, slices = _vectors(dataset, instance.count)
        detectors = items(dataset, "DetectorInformationSequence")
        if detectors and position is None:
            position = numbers(detectors[0], "ImagePositionPatient", 3)
            orientation = numbers(detectors[0], "ImageOrientationPatient", 6)
        step = number(dataset, "SpacingBetweenSlices") or instance.gap
        places = _stacked(slices, position, orientation, step)
    return [
        Frame(index, places[index], orientation, spacing, rescale, traits[index], instance)
        for index in range(instance.count)
    ]


def _vectors(dataset, count: int) -> tuple[list[dict[str, str]], list[int]]:
    """Traits of each frame of a file that lists them in vectors (nuclear medicine, cine), and which slice it is."""
    element = value(dataset, "FrameIncrementPointer")
    traits: list[dict[str, str]] = [{} for _ in range(count)]
    slices = list(range(count))
    for name in element.split("\\") if element else []:
        if name in ("FrameTime", "FrameTimeVector"):
            raise UnreadableError(f"it is a film: its {count} frames are one slice (or projection) at {count} times")
        if name in ("RotationVector", "AngularViewVector"):
            raise UnreadableError(f"its {count} frames are projections, not slices")
        listed = value(dataset, name).split("\\") if name.endswith("Vector") else []
        if len(listed) != count:
            continue
        if name == "SliceVector":
            slices = [int(float(number)) for number in listed]
            continue
        for frame, shown in zip(traits, listed, strict=True):
            frame[name.removesuffix("Vector")] = shown
    if slices == list(range(count)) and any(traits):
        seen: dict[tuple, int] = {}
        for index, frame in enumerate(traits):
            key = tuple(sorted(frame.items()))
            slices[index] = seen.get(key, 0)
            seen[key] = slices[index] + 1
    return traits, slices


def _stacked(slices: list[int], position, orientation, step: float | None) -> list[tuple[float, ...] | None]:
    """Positions of slices behind the first one, along the normal (before it where the step is negative)."""
    if position is None or orientation is None or not step:
        return [None] * len(slices)
    normal = np.cross(orientation[:3], orientation[3:])
    first = min(slices)
    return [tuple(np.asarray(position) + (number - first) * step * normal) for number in slices]


def _dose_positions(dataset, count: int, position, orientation) -> list[tuple[float, ...] | None]:
    offsets = numbers(dataset, "GridFrameOffsetVector", count)
    if offsets is None or position is None or orientation is None:
        raise UnreadableError("its dose planes do not say where they lie")
    distances = np.asarray(offsets)
    normal = np.cross(orientation[:3], orientation[3:])
    if distances[0] != 0:  # coordinates instead of offsets; only for planes across the body's axis
        if abs(distances[0] - position[2]) > 1e-2 or abs(abs(normal[2]) - 1) > 1e-3:
            raise UnreadableError("the offsets of its dose planes (GridFrameOffsetVector) do not begin with 0")
        distances = (distances - distances[0]) * np.sign(normal[2])
    return [tuple(np.asarray(position) + distance * normal) for distance in distances]


def _dose_scaling(dataset) -> float:
    scaling = number(dataset, "DoseGridScaling")
    if not scaling:
        raise UnreadableError("its dose has no scaling (DoseGridScaling), so its values mean nothing")
    return scaling


def _count(dataset) -> int:
    written = number(dataset, "NumberOfFrames")
    count = 1 if written is None else int(written)
    if not 1 <= count <= _MOST_FRAMES:
        raise UnreadableError(f"it claims {count} frames")
    return count


def _check_length(pixels: PixelData, bits: int, count: int) -> None:
    """Whether the file holds as much as its header claims."""
    needed, there = (bits * count + 7) // 8, sum(length for _, length in pixels.fragments)
    if not pixels.compressed and there < needed:
        raise UnreadableError(f"it is cut off: its pixels take {needed} bytes, its file has {there}")
    if pixels.compressed and (len(pixels.fragments) < count or needed > _SMALL_BYTES + _LARGEST_RATIO * there):
        raise UnreadableError(f"it claims {needed / 2**20:.0f} MB of pixels but holds {there} bytes; it is damaged")


def _check_geometry(frame: Frame) -> None:
    spacing, position, orientation = frame.spacing, frame.position, frame.orientation
    if spacing is not None and not all(1e-6 < value < _LARGEST_SPACING_MM for value in spacing):
        raise UnreadableError(f"its pixel spacing is {spacing[0]:g} x {spacing[1]:g} mm")
    if position is not None and max(map(abs, position)) > _FARTHEST_MM:
        raise UnreadableError(f"its position is {max(position, key=abs):g} mm away")
    if orientation is not None:
        rows, columns = np.asarray(orientation[:3]), np.asarray(orientation[3:])
        lengths = np.array([np.linalg.norm(rows), np.linalg.norm(columns)])
        if np.any(np.abs(lengths - 1) > 0.02) or abs(float(rows @ columns)) > 0.02:
            raise UnreadableError("its axes (ImageOrientationPatient) are no two directions at right angles")


def _gap(dataset) -> float | None:
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        try:
            found = abs(number(dataset, name) or 0.0)
        except UnreadableError:
            continue
        if 1e-6 < found < _LARGEST_SPACING_MM:
            return found
    return None


def _segments(dataset) -> dict[int, str]:
    try:
        return {
            whole(item, "SegmentNumber", 0): written_text(item, "SegmentLabel")
            for item in items(dataset, "SegmentSequence")
        }
    except struct.error as error:
        raise UnreadableError("its list of segments is damaged") from error
