"""MetaImage files (.mha, .mhd): the header's lines, judged; voxels of one file, of a list, or of a numbered series.

SimpleITK's reader delivers whatever is in memory when packed voxels or files of a list are missing, and may hang on
damaged numbers. Source: https://itk.org/Wiki/MetaIO/Documentation
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import GeometryError, InputError
from ..io.checks import existing_path
from ..io.raw import as_array, check_claim, cut_off, inflate
from ..spaces.grid import AXES_TOLERANCE
from .accepted import Accepted
from .geometry import scaled_lengths

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",  # of MetaIO, whatever the machine calls long
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_MM = {"mm": 1.0, "um": 1e-3, "cm": 10.0}
# Several names of one thing; the first that is there counts, as in MetaIO.
_ORIGIN = ("Origin", "Offset", "Position")
_MATRIX = ("Orientation", "Rotation", "TransformMatrix")
_SPACING = ("ElementSpacing", "ElementSize")
_MSB = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_HEADER_BYTES = 2**20
_MOST_AXES = 10
_WORDS_TRUE, _WORDS_FALSE = ("true", "t", "1", "yes"), ("false", "f", "0", "no")


@dataclass(frozen=True)
class _Header:
    """fields: by name. end: where the header ends in its file. rest: the lines after `ElementDataFile = LIST`."""

    fields: dict[str, str]
    end: int
    rest: list[str]
    name: str

    def first(self, *names: str) -> str | None:
        return next((self.fields[name] for name in names if name in self.fields), None)

    def wrong(self, what: str, got: str | None) -> InputError:
        shown = "nothing" if got is None else repr(got[:60])
        return InputError(f"{self.name}: expected {what} in its MetaImage header, got {shown}. The file is damaged.")

    def numbers(self, names: tuple[str, ...], count: int, default: list[float]) -> list[float]:
        text = self.first(*names)
        if text is None:
            return default
        try:
            found = [float(word) for word in text.split()]
        except ValueError:
            found = []
        if len(found) != count or not all(math.isfinite(number) for number in found):
            raise self.wrong(f"{count} numbers ({names[0]})", text)
        return found

    def whole(self, field: str, default: int | None = None) -> int | None:
        text = self.fields.get(field)
        if text is None:
            return default
        if not re.fullmatch(r"[+-]?\d{1,18}", text):
            raise self.wrong(f"a whole number ({field})", text)
        return int(text)

    def flag(self, names: tuple[str, ...], default: bool) -> bool:
        words = {self.fields[name].lower() for name in names if name in self.fields}
        found = {word in _WORDS_TRUE for word in words}
        if not words <= {*_WORDS_TRUE, *_WORDS_FALSE} or len(found) > 1:
            raise self.wrong(f"True or False, and one of them ({', '.join(names)})", " ".join(sorted(words)))
        return found.pop() if found else default


def is_metaimage(file: Path) -> bool:
    """Whether a file is called as MetaImage files are."""
    return file.name.lower().endswith((".mha", ".mhd"))


def read(file: Path, name: str, accepted: Accepted) -> tuple[sitk.Image, list[str]]:
    """Image and notes. Raises InputError, GeometryError, NotEnoughMemory."""
    header = _header(file, name)
    sizes = _sizes(header)
    kind, channels = _kind(header)
    axes = len(sizes)
    files = _data_files(file, header, sizes)
    packed = header.flag(("CompressedData",), False)
    count = math.prod(sizes) * channels * kind.itemsize
    check_claim(sum(path.stat().st_size for path in files), count, packed, name)
    accepted.check(sizes, channels, kind.itemsize, name)
    spacing = header.numbers(_SPACING, axes, [1.0] * axes)
    origin = header.numbers(_ORIGIN, axes, [0.0] * axes)
    rows = header.numbers(_MATRIX, axes * axes, np.eye(axes).ravel().tolist())
    if min(spacing) <= 0:
        raise GeometryError(
            f"{name}: expected positive voxel sizes, its header has {spacing} ({_SPACING[0]}). Correct the header, or "
            "export the volume again."
        )
    direction = np.reshape(rows, (axes, axes)).T
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(direction.T @ direction - np.eye(axes)).max()
    if not error <= AXES_TOLERANCE:  # ITK takes them, and may work on them without end
        raise GeometryError(
            f"{name}: expected orthonormal image axes, its header has sheared, scaled or singular ones ({_MATRIX[2]}: "
            f"{rows}). Resample it to a regular grid first."
        )
    values = _values(files, files == [file], header, (*sizes[::-1], *((channels,) if channels > 1 else ())), kind)
    image = sitk.GetImageFromArray(values, isVector=channels > 1)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction.ravel().tolist())
    return image, _notes(header, image)


def read_size(file: Path, name: str) -> tuple[tuple[int, ...], int]:
    """Sizes and values per voxel, from the header alone. Raises InputError."""
    header = _header(file, name)
    return _sizes(header), _kind(header)[1]


def _header(file: Path, name: str) -> _Header:
    with file.open("rb") as stream:
        head = stream.read(_HEADER_BYTES)
    fields: dict[str, str] = {}
    at = 0
    while at < len(head) and "ElementDataFile" not in fields:
        line, _, _ = head[at:].partition(b"\n") if len(head) - at < 4096 else head[at : at + 4096].partition(b"\n")
        at += len(line) + 1
        text = line.decode("utf-8", "replace").strip()
        if not text:
            continue
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not re.fullmatch(r"[A-Za-z_][\w. -]{0,80}", key):
            raise InputError(
                f"{name}: not an image file that can be read: expected lines of a MetaImage header, got {text[:40]!r}."
            )
        if key in fields and fields[key] != value:
            raise InputError(f"{name}: its MetaImage header gives {key} twice, {fields[key]!r} and {value!r}.")
        fields[key] = value
    if "ElementDataFile" not in fields:
        raise InputError(f"{name}: its MetaImage header is cut off: expected a line ElementDataFile, got none.")
    lines = [line.strip() for line in head[at:].decode("utf-8", "replace").splitlines()]
    rest = [line for line in lines if line] if fields["ElementDataFile"].upper().startswith("LIST") else []
    return _Header(fields, at, rest, name)


def _sizes(header: _Header) -> tuple[int, ...]:
    axes = header.whole("NDims")
    if axes is None or not 1 <= axes <= _MOST_AXES:
        raise header.wrong("a number of axes (NDims)", header.fields.get("NDims"))
    words = header.fields.get("DimSize", "").split()
    if len(words) != axes or not all(re.fullmatch(r"\d{1,9}", word) and int(word) > 0 for word in words):
        raise header.wrong(f"{axes} positive sizes (DimSize)", header.fields.get("DimSize"))
    return tuple(int(word) for word in words)


def _kind(header: _Header) -> tuple[np.dtype, int]:
    """NumPy's type in the file's byte order, and the values per voxel."""
    word = header.fields.get("ElementType")
    if word is None or word.removesuffix("_ARRAY") not in _TYPES:
        raise header.wrong(f"a type of voxels ({', '.join(_TYPES)})", word)
    channels = header.whole("ElementNumberOfChannels", 1)
    if channels is None or not 1 <= channels <= 10_000:
        raise header.wrong("a number of values per voxel (ElementNumberOfChannels)", str(channels))
    return np.dtype((">" if header.flag(_MSB, False) else "<") + _TYPES[word.removesuffix("_ARRAY")]), channels


def _values(files: list[Path], is_local: bool, header: _Header, shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    """Voxels (..., k, j, i), of several channels (..., k, j, i, c). is_local: they follow the header in its file."""
    if not header.flag(("BinaryData",), True):
        raise InputError(f"{header.name}: expected binary voxels, got a MetaImage file of text. Save it as binary.")
    count = math.prod(shape) * kind.itemsize
    skipped = header.whole("HeaderSize", 0) or 0
    if skipped < -1:
        raise header.wrong("a number of bytes, or -1 (HeaderSize)", str(skipped))
    if is_local and skipped > 0:
        raise header.wrong("no HeaderSize beside ElementDataFile = LOCAL", str(skipped))
    start = header.end if is_local else max(skipped, 0)
    if header.flag(("CompressedData",), False):
        if len(files) > 1 or skipped < 0:
            raise header.wrong("one file of packed voxels", header.fields["ElementDataFile"])
        given = header.whole("CompressedDataSize")
        if given is not None and given < 0:
            raise header.wrong("a number of bytes (CompressedDataSize)", str(given))
        return as_array(inflate(files[0], start, given or None, count, header.name), kind, shape)
    piece = count // len(files)
    for path in files:  # all are asked before one is read
        check_claim(path.stat().st_size - start, piece, False, header.name)
    data = bytearray()
    for path in files:
        with path.open("rb") as stream:
            stream.seek(path.stat().st_size - piece if skipped < 0 else start)
            data += stream.read(piece)
    if len(data) < count:
        raise cut_off(count, header.name, len(data))
    return as_array(data, kind, shape)


def _data_files(file: Path, header: _Header, sizes: tuple[int, ...]) -> list[Path]:
    """Where the voxels are, in their order. Raises InputError for files that are missing or too many."""
    words = header.fields["ElementDataFile"].split()
    if not words:
        raise header.wrong("a file (ElementDataFile)", "")
    if words[0].upper() == "LOCAL":
        return [file]
    if words[0].upper() == "LIST":
        given = words[1].removesuffix("D") if len(words) > 1 else ""
        axes = int(given) if re.fullmatch(r"\d", given) else len(sizes) - 1
        names, expected = header.rest, math.prod(sizes[axes:])
    elif "%" in words[0] and len(words) in (3, 4) and all(re.fullmatch(r"\d{1,9}", word) for word in words[1:]):
        # A pattern as of printf, and the first, last and step of its numbers.
        if not re.fullmatch(r"[^%]*%0?\d?[di][^%]*", words[0]):
            raise header.wrong("a pattern with one number such as %03d (ElementDataFile)", words[0])
        first, last, step = int(words[1]), int(words[2]), int(words[3]) if len(words) > 3 else 1
        numbers = range(first, last + 1, max(step, 1))
        expected = math.prod(sizes[-1:])
        names = [words[0] % number for number in numbers] if len(numbers) == expected else [""] * len(numbers)
    else:
        names, expected = [header.fields["ElementDataFile"]], 1
    if len(names) != expected:
        raise InputError(f"{header.name}: expected {expected} files of voxels, its header names {len(names)}.")
    return [existing_file(file.parent / name, header.name) for name in names]


def existing_file(path: Path, name: str) -> Path:
    """A file with voxels beside a header. Raises InputError when it is missing or none."""
    found = existing_path(path, f"{name}: its file of voxels")
    if found.is_dir():
        raise InputError(f"{name}: its file of voxels, {found.name}, is a folder.")
    return found


def _notes(header: _Header, image: sitk.Image) -> list[str]:
    notes = []
    unit = header.fields.get("DistanceUnits", "?")
    if unit not in ("?", "mm"):
        if unit in _MM:
            scaled_lengths(image, _MM[unit])
            notes.append(f"{header.name}: its header gives lengths in {unit}; they were turned into mm.")
        else:
            notes.append(f"{header.name}: its header gives lengths in {unit!r}, not a known unit; taken as mm.")
    for names in (_ORIGIN, _MATRIX, _SPACING[:1] if "ElementSize" in header.fields else ()):
        if len({" ".join(header.fields[name].split()) for name in names if name in header.fields}) > 1:
            used = next(name for name in names if name in header.fields)
            notes.append(f"{header.name}: its header gives {' and '.join(names)} that differ; {used} is used.")
    slope, shift = (
        header.numbers((f"ElementToIntensityFunction{word}",), 1, [value])[0]
        for word, value in (("Slope", 1.0), ("Offset", 0.0))
    )
    if (slope, shift) != (1.0, 0.0):
        notes.append(
            f"{header.name}: its header asks to scale values by {slope:g} and add {shift:g}; as 3D Slicer does, they "
            "are taken as they are."
        )
    return notes
