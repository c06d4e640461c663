"""Functional groups: what a multi-frame file says for each of its frames, or for all of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .header import UnreadableError, items, number, numbers, value

# What may tell frames at one position from each other, the most telling first.
_TRAITS = (
    ("FrameContentSequence", "StackID"),
    ("FrameContentSequence", "TemporalPositionIndex"),
    ("TemporalPositionSequence", "TemporalPositionTimeOffset"),
    ("MREchoSequence", "EffectiveEchoTime"),
    ("MRDiffusionSequence", "DiffusionBValue"),
    ("MRDiffusionSequence", "DiffusionDirectionality"),
    ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("RespiratorySynchronizationSequence", "NominalPercentageOfRespiratoryPhase"),
    ("MRModifierSequence", "InversionTimes"),
    ("MRImageFrameTypeSequence", "ComplexImageComponent"),
    ("MRImageFrameTypeSequence", "FrameType"),
    ("CTImageFrameTypeSequence", "FrameType"),
    ("PETFrameTypeSequence", "FrameType"),
    ("XRay3DFrameTypeSequence", "FrameType"),
    ("ImageDataTypeSequence", "DataType"),
    ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    ("CTXRayDetailsSequence", "KVP"),
    ("CTReconstructionSequence", "ConvolutionKernel"),
    ("SegmentIdentificationSequence", "ReferencedSegmentNumber"),
    ("FrameContentSequence", "FrameAcquisitionNumber"),
    ("FrameContentSequence", "FrameAcquisitionDateTime"),
)
# Dimensions that say where a frame lies; what else a file counts its frames by may tell them apart.
_PLACES = {
    "ImagePositionPatient",
    "ImagePositionVolume",
    "ImageOrientationPatient",
    "ImageOrientationVolume",
    "InStackPositionNumber",
    "FrameOfReferenceUID",
    "PlanePositionSequence",
    "FrameAcquisitionNumber",
    "FrameAcquisitionDateTime",
    "SliceLocation",
}
_PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"


@dataclass(frozen=True)
class Described:
    """What a file says of one frame.

    index: in its file. position, orientation: as DICOM has them, LPS mm; None: not told. spacing: between rows, between
    columns (mm). rescale: slope, intercept. traits: values that may tell it from others at its position.
    """

    index: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    rescale: tuple[float, float]
    traits: dict[str, str]


class _Groups:
    """The groups of one frame, before those that all frames share."""

    def __init__(self, own, shared: _Groups | None) -> None:
        self._own, self._shared = own, shared
        self._found: dict[str, Any] = {}

    def get(self, sequence: str):
        """The first item of a group, or None."""
        if sequence not in self._found:
            found = items(self._own, sequence)
            self._found[sequence] = found[0] if found else self._shared.get(sequence) if self._shared else None
        return self._found[sequence]


def has_groups(dataset) -> bool:
    return any(keyword in dataset for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"))


def frames_of(dataset, count: int, kind: str) -> list[Described]:
    """What is said of each frame, in their order in the file. kind: SOP class. Raises UnreadableError."""
    common = items(dataset, "SharedFunctionalGroupsSequence")
    shared = _Groups(common[0] if common else None, None)
    each = items(dataset, "PerFrameFunctionalGroupsSequence")
    if each and len(each) != count:
        raise UnreadableError(f"it has {count} frames but describes {len(each)}; it is damaged")
    dimensions = _dimensions(dataset)
    return [
        _described(dataset, index, _Groups(each[index] if each else None, shared), dimensions, kind)
        for index in range(count)
    ]


def _described(dataset, index: int, groups: _Groups, dimensions: list[str], kind: str) -> Described:
    position = orientation = None
    for space in ("Patient", "Volume"):  # the latter: ultrasound, in the space of its own volume
        where = groups.get("PlanePositionSequence" if space == "Patient" else "PlanePositionVolumeSequence")
        axes = groups.get("PlaneOrientationSequence" if space == "Patient" else "PlaneOrientationVolumeSequence")
        read = numbers if space == "Patient" else _doubles
        position = position or read(where, f"ImagePosition{space}", 3)
        orientation = orientation or read(axes, f"ImageOrientation{space}", 6)
    position = position or numbers(dataset, "ImagePositionPatient", 3)
    orientation = orientation or numbers(dataset, "ImageOrientationPatient", 6)
    measures = groups.get("PixelMeasuresSequence")
    spacing = numbers(measures, "PixelSpacing", 2) or numbers(dataset, "PixelSpacing", 2)
    rescale, traits = _rescale(dataset, groups, kind), _traits(groups, dimensions)
    return Described(index, position, orientation, spacing, rescale, traits)


def _rescale(dataset, groups: _Groups, kind: str) -> tuple[float, float]:
    for place in (groups.get("PixelValueTransformationSequence"), dataset):
        slope, intercept = number(place, "RescaleSlope"), number(place, "RescaleIntercept")
        if slope is not None or intercept is not None:
            return (1.0 if slope is None else slope), intercept or 0.0
    mapping = groups.get("RealWorldValueMappingSequence")
    if kind == _PARAMETRIC_MAP and mapping is not None:  # their values mean nothing without it
        slope, intercept = (_doubles(mapping, f"RealWorldValue{name}", 1) for name in ("Slope", "Intercept"))
        if slope is not None:
            return slope[0], intercept[0] if intercept else 0.0
    return 1.0, 0.0


def _traits(groups: _Groups, dimensions: list[str]) -> dict[str, str]:
    traits = {}
    for sequence, keyword in _TRAITS:
        shown = value(groups.get(sequence), keyword)
        if shown:
            traits.setdefault(keyword, shown)
    diffusion = groups.get("MRDiffusionSequence")
    for item in items(diffusion, "DiffusionGradientDirectionSequence")[:1]:
        traits["DiffusionGradientOrientation"] = value(item, "DiffusionGradientOrientation")
    indices = value(groups.get("FrameContentSequence"), "DimensionIndexValues").split("\\")
    if len(indices) == len(dimensions):
        for keyword, shown in zip(dimensions, indices, strict=True):
            if keyword not in _PLACES:
                traits.setdefault(keyword, shown)
    return traits


def _dimensions(dataset) -> list[str]:
    """What a file counts its frames by, as keywords."""
    pointers = [value(item, "DimensionIndexPointer") for item in items(dataset, "DimensionIndexSequence")]
    return [pointer or f"dimension {number}" for number, pointer in enumerate(pointers, start=1)]


def _doubles(dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    shown = value(dataset, keyword, exact=True)
    if not shown:
        return None
    found = tuple(float(part) for part in shown.split("\\"))
    if len(found) != count or not all(abs(part) < 1e300 for part in found):
        raise UnreadableError(f"its {keyword} has {len(found)} values, expected {count} numbers")
    return found
