"""The header of one DICOM file, read by pydicom with bounded time and memory; pixel data is only located.

Values are taken as stored and read here: a damaged one is an error with its name, never a warning, a guess or a crash.
"""

from __future__ import annotations

import io
import logging
import math
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...errors import InputError

try:
    import pydicom
    from pydicom.charset import convert_encodings, decode_bytes
    from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag
except ImportError as error:
    raise InputError("Reading DICOM needs the Python package pydicom. Install it: pip install pydicom") from error

# More of these than any scanner writes: a header of nothing but empty items would become gigabytes of objects.
_READS, _BYTES_PER_READ, _MOST_READS = 400_000, 40, 6_000_000
_HEADER_BYTES, _ITEMS = 512 * 2**20, 600_000
_INFLATED_BYTES, _SMALL_BYTES, _LARGEST_RATIO = 2**30, 64 * 2**20, 100
_FRAGMENTS = 1_000_000
_LONGEST_TEXT = 200
_ITEM, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_LONG_LENGTH = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN")
_SHORT_LENGTH = (b"US", b"SS")
_PIXELS = {0x7FE00008: "f4", 0x7FE00009: "f8", 0x7FE00010: ""}
_UNKNOWN_LENGTH = 0xFFFFFFFF
# What of a file is read; the sequences with all that is in them.
_NEEDED = re.findall(
    r"\w+",
    """
    SpecificCharacterSet ImageType SOPClassUID SOPInstanceUID Modality SeriesDescription AcquisitionTime ContentTime
    AcquisitionDateTime EchoTime InversionTime EchoNumbers FlipAngle KVP TriggerTime ConvolutionKernel
    SpacingBetweenSlices SliceThickness ImagerPixelSpacing NominalScannedPixelSpacing PatientPosition FrameTime
    FrameTimeVector DiffusionBValue DiffusionGradientOrientation NominalPercentageOfCardiacPhase StudyInstanceUID
    SeriesInstanceUID AcquisitionNumber InstanceNumber ImagePositionPatient ImageOrientationPatient FrameOfReferenceUID
    TemporalPositionIdentifier ConcatenationUID InConcatenationNumber InConcatenationTotalNumber
    DimensionIndexSequence SamplesPerPixel PhotometricInterpretation
    NumberOfFrames FrameIncrementPointer Rows Columns PixelSpacing BitsAllocated BitsStored HighBit
    PixelRepresentation PixelPaddingValue RescaleIntercept RescaleSlope ModalityLUTSequence FrameReferenceTime
    EnergyWindowVector DetectorVector PhaseVector RotationVector RRIntervalVector TimeSlotVector SliceVector
    AngularViewVector TimeSliceVector DetectorInformationSequence SegmentationType
    SegmentationFractionalType MaximumFractionalValue SegmentSequence GridFrameOffsetVector DoseGridScaling
    RealWorldValueMappingSequence SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
    """,
)
_DEFLATED = "1.2.840.10008.1.2.1.99"
_BIG_ENDIAN = ("1.2.840.10008.1.2.2", "1.2.840.113619.5.2")  # the second: GE's own, with pixel data alone big-endian


class UnreadableError(Exception):
    """A file that is no DICOM image, or a damaged one; its text is the reason."""


@dataclass(frozen=True)
class PixelData:
    """Where the pixel data of a file lies.

    fragments: (offset, length) of each piece; one piece where the data is not compressed. The first of compressed data
    is not the table of offsets. table: that table's numbers. order: '<' or '>'. kind: '' for integers, else f4 or f8.
    body: the inflated file that offsets are in, else None. words: stored as 16-bit words, whatever a pixel takes.
    """

    fragments: tuple[tuple[int, int], ...]
    compressed: bool
    table: tuple[int, ...] = ()
    order: str = "<"
    kind: str = ""
    body: bytes | None = None
    words: bool = False


@dataclass(frozen=True)
class Header:
    """dataset: the needed elements (pydicom). syntax: transfer syntax, "" where the file does not tell."""

    path: Path
    dataset: Any
    syntax: str
    pixels: PixelData | None


def read_header(path: Path) -> Header:
    """Read one file's header. Raises UnreadableError, OSError."""
    size = os.stat(path).st_size
    with path.open("rb") as stream:
        bounded = _Bounded(stream, size)
        try:
            dataset = _parsed(bounded)
            meta = getattr(dataset, "file_meta", None)
            syntax = text(meta, "TransferSyntaxUID") if meta is not None else ""
            return Header(path, dataset, syntax, _pixel_data(stream, bounded.position, size, syntax, None))
        except _Whole:
            body = _inflated(stream, bounded.position)
    inner = _Bounded(io.BytesIO(body), len(body))
    with _quiet():
        try:
            dataset = read_dataset(inner, False, True, stop_when=_at_pixels, specific_tags=_needed_tags())  # type: ignore[arg-type]
        except Exception as error:
            raise UnreadableError(f"its header is damaged ({type(error).__name__})") from error
    return Header(path, dataset, _DEFLATED, _pixel_data(io.BytesIO(body), inner.position, len(body), "", body))


def _parsed(bounded: _Bounded):
    with _quiet():
        try:
            return pydicom.dcmread(bounded, stop_before_pixels=True, force=True, specific_tags=_needed_tags())  # type: ignore[arg-type]
        except (_Whole, UnreadableError):
            raise
        except Exception as error:  # pydicom raises a dozen kinds for damaged files
            raise UnreadableError(f"its header is damaged ({type(error).__name__})") from error


def _at_pixels(tag, vr, length) -> bool:
    return tag in _PIXELS


class _Whole(Exception):
    """The reader wants everything to the end: a deflated file, which is inflated here, with a limit."""


class _Bounded:
    """A file that gives no more than it has and ends a reading that takes too many steps."""

    def __init__(self, stream, size: int) -> None:
        self._stream, self._size = stream, size
        self._reads, self._bytes = min(_READS + size // _BYTES_PER_READ, _MOST_READS), _HEADER_BYTES
        self.position = 0

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            raise _Whole
        data = self._stream.read(min(size, max(self._size - self.position, 0)))
        self.position += len(data)
        self._reads -= 1
        self._bytes -= len(data)
        if self._reads < 0 or self._bytes < 0:
            raise UnreadableError("its header is larger than any scanner writes; it is damaged")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = self._stream.seek(offset, whence)
        return self.position

    def tell(self) -> int:
        return self.position


@contextmanager
def _quiet() -> Iterator[None]:
    """pydicom warns about what is checked here anyway."""
    logger = logging.getLogger("pydicom")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _inflated(stream, start: int) -> bytes:
    stream.seek(start)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        packed = stream.read()
        body = inflater.decompress(packed, min(_INFLATED_BYTES, _SMALL_BYTES + _LARGEST_RATIO * len(packed)))
    except zlib.error as error:
        raise UnreadableError("its deflated content is damaged") from error
    if inflater.unconsumed_tail or not inflater.eof:
        raise UnreadableError("its deflated content is cut off, or larger than its file can hold")
    return body


def _pixel_data(stream, position: int, size: int, syntax: str, body: bytes | None) -> PixelData | None:
    """Where the pixel data is, None without any. Raises UnreadableError when the file ends before it does."""
    stream.seek(position)
    head = stream.read(12)
    if len(head) < 8:
        return None
    order, tag = "<", 0
    for order in "<>":
        group, element = struct.unpack(order + "HH", head[:4])
        tag = group << 16 | element
        if tag in _PIXELS:
            break
    else:
        return None
    if head[4:6] in _LONG_LENGTH and len(head) == 12:
        start, length = position + 12, struct.unpack(order + "I", head[8:12])[0]
    elif head[4:6] in _SHORT_LENGTH:
        start, length = position + 8, struct.unpack(order + "H", head[6:8])[0]
    else:
        start, length = position + 8, struct.unpack(order + "I", head[4:8])[0]
    if length == _UNKNOWN_LENGTH:
        table, fragments = _fragments(stream, start, size)
        return PixelData(fragments, True, table, body=body)
    if start + length > size:
        raise UnreadableError("it is cut off: its pixel data ends early")
    order = ">" if syntax in _BIG_ENDIAN else order
    return PixelData(((start, length),), False, (), order, _PIXELS[tag], body, head[4:6] == b"OW")


def _fragments(stream, start: int, size: int) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    found: list[tuple[int, int]] = []
    while True:
        stream.seek(start)
        head = stream.read(8)
        if not head and found:  # some writers leave the end mark out
            break
        if len(head) < 8:
            raise UnreadableError("it is cut off: its compressed pixel data ends early")
        group, element, length = struct.unpack("<HHI", head)
        if (group, element) == _SEQUENCE_END:
            break
        if (group, element) != _ITEM or start + 8 + length > size or len(found) > _FRAGMENTS:
            raise UnreadableError("its compressed pixel data is damaged or cut off")
        found.append((start + 8, length))
        start += 8 + length
    if not found:
        raise UnreadableError("its compressed pixel data is damaged")
    offset, length = found[0]
    stream.seek(offset)
    return struct.unpack(f"<{length // 4}I", stream.read(length // 4 * 4)), tuple(found[1:])


@cache
def _needed_tags() -> list:
    return [Tag(_tag(keyword)) for keyword in _NEEDED]


@cache
def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag


def _raw(dataset, keyword: str) -> Any:
    """A value as stored (bytes) or, where pydicom made something of it already, that; None without one."""
    tag = _tag(keyword)
    if dataset is None or tag not in dataset:
        return None
    try:
        return dataset.get_item(tag)
    except Exception as error:  # pydicom interprets some at once
        raise UnreadableError(f"its {keyword} is damaged") from error


def text(dataset, keyword: str) -> str:
    """A value as text without padding, "" where there is none."""
    element = _raw(dataset, keyword)
    value = None if element is None else element.value
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("latin-1").strip(" \0\r\n\t")
    if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        return "\\".join(str(part) for part in value)
    return str(value).strip(" \0")


def written_text(dataset, keyword: str) -> str:
    """A text for people, in the character set that the file names; what cannot be shown becomes a mark."""
    return printable(_written_text(dataset, keyword))


def printable(text: str) -> str:
    """A text without what would break a line or steer a terminal, of bounded length."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_LONGEST_TEXT])


def _written_text(dataset, keyword: str) -> str:
    element = _raw(dataset, keyword)
    if element is None or not isinstance(element.value, bytes):
        return text(dataset, keyword)
    if element.value.isascii() and b"\x1b" not in element.value:  # the same in every character set
        return text(dataset, keyword)
    with _quiet():
        try:
            encodings = convert_encodings(text(dataset, "SpecificCharacterSet").split("\\"))
            return decode_bytes(element.value, encodings, set()).strip(" \0")
        except Exception:  # an unknown character set
            return element.value.decode("utf-8", "replace").strip(" \0")


def numbers(dataset, keyword: str, count: int | None = None) -> tuple[float, ...] | None:
    """Decimal numbers, finite, None where there is no value. Raises UnreadableError for anything else."""
    written = text(dataset, keyword)
    if not written:
        return None
    try:
        values = tuple(float(part) for part in written.split("\\"))
    except ValueError:
        values = ()
    if not values or not all(map(math.isfinite, values)) or (count is not None and len(values) != count):
        expected = {None: "numbers", 1: "a number"}.get(count, f"{count} numbers")
        raise UnreadableError(f"its {keyword} is {written[:60]!r}, expected {expected}")
    return values


def number(dataset, keyword: str) -> float | None:
    """The first of a value's decimal numbers, None without one. Raises UnreadableError."""
    values = numbers(dataset, keyword)
    return None if values is None else values[0]


def binary(dataset, keyword: str, kind: str) -> tuple[float, ...] | None:
    """Numbers that are stored as such. kind: H, h, I or d (struct). Raises UnreadableError for a wrong length."""
    element = _raw(dataset, keyword)
    if element is None or element.value in (None, b""):
        return None
    if not isinstance(element.value, bytes):
        return tuple(element.value) if isinstance(element.value, (list, tuple)) else (element.value,)
    order, size = "<" if getattr(element, "is_little_endian", True) else ">", struct.calcsize(kind)
    if len(element.value) % size:
        raise UnreadableError(f"its {keyword} has a wrong length; it is damaged")
    return struct.unpack(f"{order}{len(element.value) // size}{kind}", element.value)


_KINDS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}


def value(dataset, keyword: str, exact: bool = False) -> str:
    """Any value as text, "" without one; numbers shortly unless `exact`; pointers as the keyword they point to."""
    kind = _representation(keyword)
    if kind == "AT":
        pairs = binary(dataset, keyword, "H") or ()
        tags = [int(group) << 16 | int(element) for group, element in zip(pairs[::2], pairs[1::2], strict=False)]
        return "\\".join(keyword_for_tag(tag) or f"{tag:08x}" for tag in tags)
    if kind in _KINDS:
        found = binary(dataset, keyword, _KINDS[kind]) or ()
        return "\\".join(repr(float(part)) if exact else f"{part:g}" for part in found)
    return text(dataset, keyword)


@cache
def _representation(keyword: str) -> str:
    return dictionary_VR(_tag(keyword))


def whole(dataset, keyword: str, default: int | None = None) -> int:
    """An unsigned 16-bit number. Raises UnreadableError when it is missing and has no default."""
    values = binary(dataset, keyword, "H")
    if not values:
        if default is None:
            raise UnreadableError(f"it has no {keyword}")
        return default
    return int(values[0])


def items(dataset, keyword: str) -> list:
    """The items of a sequence, [] without one. Raises UnreadableError when it is damaged."""
    element = _raw(dataset, keyword)
    if element is None:
        return []
    if isinstance(element.value, bytes) and element.value.count(b"\xfe\xff\x00\xe0") > _ITEMS:
        raise UnreadableError("its header is larger than any scanner writes; it is damaged")
    with _quiet():
        try:
            found = list(dataset[_tag(keyword)].value or ())
        except Exception as error:
            raise UnreadableError(f"its {keyword} is damaged") from error
    if not all(hasattr(item, "get_item") for item in found):
        raise UnreadableError(f"its {keyword} is damaged")
    return found
