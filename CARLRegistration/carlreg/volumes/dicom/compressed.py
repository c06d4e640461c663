"""Decoding of compressed frames by the toolkit (GDCM), which sees nothing of their files but the pixels."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ...errors import InputError

_STORAGE = "1.2.840.10008.5.1.4.1.1.7.3"  # secondary capture of many frames: nothing else in it has a meaning


@dataclass(frozen=True)
class Picture:
    """How compressed frames are stored: transfer syntax, size, bits of a pixel."""

    syntax: str
    rows: int
    columns: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool


def decode(picture: Picture, places: Sequence[tuple[str, Sequence[tuple[int, int]]]], name: str) -> np.ndarray:
    """Stored numbers (frames, rows, columns). places: file, and (offset, length) of its pieces, for each frame.

    To be called in a child process. Raises RuntimeError for what cannot be decoded, InputError for another size
    than the header says.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "frames.dcm")
        _write(target, picture, places)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(target))
        image = reader.Execute()
    array = sitk.GetArrayFromImage(image)
    if array.shape != (len(places), picture.rows, picture.columns):
        raise InputError(f"{name}: its compressed pixel data is of another size than its header says. Copy it again.")
    return array


def _write(target: Path, picture: Picture, places: Sequence[tuple[str, Sequence[tuple[int, int]]]]) -> None:
    uid = "1.2.3.4"
    meta = b"".join(
        [
            _element(2, 1, b"OB", b"\0\1"),
            _element(2, 2, b"UI", _uid(_STORAGE)),
            _element(2, 3, b"UI", _uid(uid)),
            _element(2, 0x10, b"UI", _uid(picture.syntax)),
            _element(2, 0x12, b"UI", _uid(uid)),
        ]
    )
    frames = str(len(places)).encode()
    values = [
        (0x0008, 0x0016, b"UI", _uid(_STORAGE)),
        (0x0008, 0x0018, b"UI", _uid(uid)),
        (0x0008, 0x0060, b"CS", b"OT"),
        (0x0020, 0x000D, b"UI", _uid(uid)),
        (0x0020, 0x000E, b"UI", _uid(uid)),
        (0x0028, 0x0002, b"US", struct.pack("<H", 1)),
        (0x0028, 0x0004, b"CS", b"MONOCHROME2 "),
        (0x0028, 0x0008, b"IS", frames + b" " * (len(frames) % 2)),
        (0x0028, 0x0010, b"US", struct.pack("<H", picture.rows)),
        (0x0028, 0x0011, b"US", struct.pack("<H", picture.columns)),
        (0x0028, 0x0100, b"US", struct.pack("<H", picture.allocated)),
        (0x0028, 0x0101, b"US", struct.pack("<H", picture.stored)),
        (0x0028, 0x0102, b"US", struct.pack("<H", picture.high_bit)),
        (0x0028, 0x0103, b"US", struct.pack("<H", picture.signed)),
    ]
    with target.open("wb") as file:
        file.write(b"\0" * 128 + b"DICM" + _element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta)
        for group, element, kind, value in values:
            file.write(_element(group, element, kind, value))
        file.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF))
        file.write(struct.pack("<HHI", 0xFFFE, 0xE000, 0))
        for path, pieces in places:
            with open(path, "rb") as source:
                data = b"".join(_piece(source, offset, length) for offset, length in pieces)
            data += b"\0" * (len(data) % 2)
            file.write(struct.pack("<HHI", 0xFFFE, 0xE000, len(data)) + data)
        file.write(struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))


def _piece(source, offset: int, length: int) -> bytes:
    source.seek(offset)
    return source.read(length)


def _uid(text: str) -> bytes:
    value = text.encode("ascii", "replace")[:64]
    return value + b"\0" * (len(value) % 2)


def _element(group: int, element: int, kind: bytes, value: bytes) -> bytes:
    if kind in (b"OB", b"OW"):
        return struct.pack("<HH2sHI", group, element, kind, 0, len(value)) + value
    return struct.pack("<HH2sH", group, element, kind, len(value)) + value
