"""The values of a volume's slices: stored numbers, scaled slice by slice."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ...errors import InputError
from ...io.being_read import AS_DICOM
from ...io.checks import check_kind
from ...io.guarded import guarded
from ..memory import require_memory
from .compressed import Picture
from .geometry import Placed
from .instance import Frame, Instance

_DECODE = "carlreg.volumes.dicom.compressed:decode"
_DECODE_SECONDS_PER_MB = 2.0
_CHUNK_BYTES = 2**20


def read_image(placed: Placed, name: str, notes: list[str], scaled: bool = True) -> sitk.Image:
    """The image of sorted frames. scaled: values by slope and intercept, else as stored.

    Raises InputError for what cannot be decoded, NotEnoughMemory.
    """
    first = placed.frames[0].instance
    size = (first.columns, first.rows, placed.count)
    check_kind(size, 1, name)
    rescales = [_rescale(frame, name, notes) if scaled else (1.0, 0.0) for frame in placed.frames]
    kind = _type(placed.frames, rescales)
    megabytes = 2.0 * np.prod(np.array(size, dtype=float)) * kind.itemsize / 2**20
    require_memory(megabytes, f"reading {name}", "Shrink or crop the volume first.")
    array = np.zeros(size[::-1], dtype=kind)
    inverted = 0
    for number, (frame, stored) in enumerate(_stored(placed.frames, name)):
        if frame.instance.photometric == "MONOCHROME1" and scaled and stored.dtype.kind != "f":
            stored, inverted = _inverted(stored, frame.instance), inverted + 1
        slope, intercept = rescales[number]
        if (slope, intercept) != (1.0, 0.0):
            stored = stored * slope + intercept  # in double precision
        array[placed.numbers[number]] = stored
    if inverted:
        notes.append(f"{name}: its values mean bright by low numbers (MONOCHROME1) and were inverted, as ITK does it.")
    image = sitk.GetImageFromArray(array)
    image.SetOrigin(placed.origin)
    image.SetSpacing(placed.spacing)
    image.SetDirection(placed.direction)
    return image


def digest(file: Instance) -> bytes:
    """A hash of a file's pixel data; to tell copies from repeats."""
    found = hashlib.sha256()
    with _opened(file) as stream:
        for offset, length in file.pixels.fragments:
            stream.seek(offset)
            for start in range(0, length, _CHUNK_BYTES):
                found.update(stream.read(min(_CHUNK_BYTES, length - start)))
    return found.digest()


def _rescale(frame: Frame, name: str, notes: list[str]) -> tuple[float, float]:
    slope, intercept = frame.rescale
    if slope == 0:
        note = f"{name}: a rescale slope of 0 in the DICOM header was taken as 1."
        if note not in notes:
            notes.append(note)
        slope = 1.0
    if max(abs(slope), abs(intercept)) > 1e30:
        raise InputError(f"{name}: {frame.instance.path.name}: its rescale slope is {slope:g}; it is damaged.")
    return slope, intercept


def _type(frames: Sequence[Frame], rescales: Sequence[tuple[float, float]]) -> np.dtype:
    """The smallest type for whole values, as GDCM chooses it; double precision for all others."""
    low, high, as_stored = np.inf, -np.inf, True
    seen = set()
    for frame, (slope, intercept) in zip(frames, rescales, strict=True):
        file = frame.instance
        key = (file.stored, file.signed, file.pixels.kind, file.allocated, slope, intercept)
        if key in seen:
            continue
        seen.add(key)
        if file.pixels.kind == "f8" or not (slope.is_integer() and intercept.is_integer()):
            return np.dtype(np.float64)
        if file.pixels.kind == "f4":
            return np.dtype(np.float32 if (slope, intercept) == (1.0, 0.0) else np.float64)
        as_stored = as_stored and (slope, intercept) == (1.0, 0.0)
        ends = (-(2 ** (file.stored - 1)), 2 ** (file.stored - 1) - 1) if file.signed else (0, 2**file.stored - 1)
        scaled = [slope * end + intercept for end in ends]
        low, high = min(low, *scaled), max(high, *scaled)
    kinds = {(frame.instance.allocated, frame.instance.signed) for frame in frames}
    if as_stored and len(kinds) == 1:
        allocated, signed = kinds.pop()
        return np.dtype(f"{'i' if signed else 'u'}{max(allocated, 8) // 8}")
    for kind in (np.uint8, np.uint16, np.uint32) if low >= 0 else (np.int8, np.int16, np.int32):
        if low >= np.iinfo(kind).min and high <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype(np.float64)


def _inverted(stored: np.ndarray, file: Instance) -> np.ndarray:
    return ~stored if file.signed else stored.dtype.type(2**file.stored - 1) - stored


def _stored(frames: Sequence[Frame], name: str) -> Iterator[tuple[Frame, np.ndarray]]:
    """Each frame's stored numbers (rows, columns), in order."""
    packed = [frame for frame in frames if frame.instance.pixels.compressed]
    decoded = _decoded(packed, name) if packed else {}
    current, stream = None, None
    try:
        for frame in frames:
            if frame.instance.pixels.compressed:
                yield frame, decoded[id(frame)]
                continue
            if frame.instance is not current:
                if stream is not None:
                    stream.close()
                current, stream = frame.instance, _opened(frame.instance)
            yield frame, _native(stream, frame, name)
    finally:
        if stream is not None:
            stream.close()


def _opened(file: Instance):
    return io.BytesIO(file.pixels.body) if file.pixels.body is not None else file.path.open("rb")


def _native(stream, frame: Frame, name: str) -> np.ndarray:
    file, pixels = frame.instance, frame.instance.pixels
    count, shape = file.rows * file.columns, (file.rows, file.columns)
    start = count * file.allocated * frame.index
    stream.seek(pixels.fragments[0][0] + start // 8)
    data = stream.read((start % 8 + count * file.allocated + 7) // 8)
    if 8 * len(data) < start % 8 + count * file.allocated:
        raise InputError(f"{name}: {file.path.name} is cut off. Copy it again.")
    if file.allocated == 1:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        return bits[start % 8 : start % 8 + count].reshape(shape)
    if pixels.kind:
        return np.frombuffer(data, f"{pixels.order}{pixels.kind}").reshape(shape)
    if file.allocated == 8 and pixels.order == ">" and pixels.words:
        data = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes() + data[len(data) // 2 * 2 :]
    kind = f"{'i' if file.signed else 'u'}{file.allocated // 8}"
    values = np.frombuffer(data, pixels.order + kind).astype(kind).reshape(shape)
    if file.stored < file.allocated:  # what lies beside the used bits (an overlay, rubbish) does not count
        values = (values << (file.allocated - 1 - file.high_bit)) >> (file.allocated - file.stored)
    return values


def _decoded(frames: Sequence[Frame], name: str) -> dict[int, np.ndarray]:
    """Compressed frames, by id; decoded in a child process, since decoders of damaged data crash."""
    batches: dict[Picture, list[Frame]] = {}
    for frame in frames:
        file = frame.instance
        picture = Picture(file.syntax, file.rows, file.columns, file.allocated, file.stored, file.high_bit, file.signed)
        batches.setdefault(picture, []).append(frame)
    found: dict[int, np.ndarray] = {}
    for picture, members in batches.items():
        places = [(str(frame.instance.path.absolute()), pieces_of(frame, name)) for frame in members]
        megabytes = len(members) * picture.rows * picture.columns * max(picture.allocated, 8) / 8 / 2**20
        require_memory(4 * megabytes, f"decompressing {name}", "Shrink or crop the volume first.")
        try:
            array = guarded(
                _DECODE,
                picture,
                places,
                name,
                name=name,
                save_as=AS_DICOM,
                seconds=60 + _DECODE_SECONDS_PER_MB * megabytes,
                memory_mb=512 + 8 * megabytes,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(
                f"{name}: its compressed pixel data cannot be decoded; it is damaged or of an unknown kind "
                f"({picture.syntax}). Copy it again, or save it uncompressed."
            ) from error
        found.update({id(frame): array[number] for number, frame in enumerate(members)})
    return found


def pieces_of(frame: Frame, name: str) -> tuple[tuple[int, int], ...]:
    """Offset and length of the pieces that make up one compressed frame. Raises InputError."""
    file, pixels = frame.instance, frame.instance.pixels
    if file.count == 1:
        return pixels.fragments
    if len(pixels.fragments) == file.count:
        return (pixels.fragments[frame.index],)
    if len(pixels.table) == file.count and pixels.fragments:
        first = pixels.fragments[0][0] - 8
        starts = {offset - 8 - first: number for number, (offset, _) in enumerate(pixels.fragments)}
        try:
            begins = [starts[offset] for offset in pixels.table] + [len(pixels.fragments)]
        except KeyError:
            begins = []
        if begins and all(a < b for a, b in pairwise(begins)):
            return pixels.fragments[begins[frame.index] : begins[frame.index + 1]]
    raise InputError(
        f"{name}: {Path(file.path).name}: {file.count} compressed frames in {len(pixels.fragments)} pieces without a "
        "table that assigns them. Save it uncompressed."
    )
