"""The bytes of voxels out of files, plain and packed: as many as announced, or an error."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import InputError

# No more can come out of a byte of deflate (gzip, zlib): 258 bytes of a code of two bits.
_MOST_PER_BYTE = 1032
_BLOCK = 2**22
_GZIP = b"\x1f\x8b"


def is_gzip(file: Path) -> bool:
    """Whether a file is packed by gzip, by its first bytes."""
    return begins_as_gzip(file, 0)


def begins_as_gzip(file: Path, start: int) -> bool:
    """Whether what begins at a byte of a file is packed by gzip."""
    with file.open("rb") as stream:
        stream.seek(start)
        return stream.read(2) == _GZIP


def cut_off(expected: int, name: str, got: int | None = None) -> InputError:
    """The error for a file that ends too early, or whose packed content is damaged."""
    found = "" if got is None else f", after {got}"
    return InputError(
        f"{name}: the file is cut off or damaged: it ends before the {expected} bytes that its header announces"
        f"{found}. Copy or download it again."
    )


def check_claim(held: int, claimed: int, packed: bool, name: str) -> None:
    """Raise InputError when so few bytes of a file cannot hold what its header claims. Costs no reading."""
    if claimed > (held * _MOST_PER_BYTE + 2**16 if packed else held):
        raise cut_off(claimed, name, None if packed else held)


def read_bytes(file: Path, offset: int, count: int, name: str) -> bytearray:
    """`count` bytes from `offset` on of a file, which may be packed by gzip as a whole (then of its content).

    Raises InputError when there are fewer, or when what is packed does not match its checksum.
    """
    packed = is_gzip(file)
    check_claim(file.stat().st_size, offset + count, packed, name)
    try:
        with gzip.open(file, "rb") if packed else file.open("rb") as stream:
            _skip(stream, offset, packed)
            found = _fill(stream, count)  # type: ignore[arg-type]
            got = len(found)
    except (OSError, EOFError, zlib.error) as error:
        raise cut_off(offset + count, name) from error
    if got < count:
        raise cut_off(offset + count, name, offset + got)
    return found


def inflate(file: Path, offset: int, packed_bytes: int | None, count: int, name: str) -> bytearray:
    """`count` bytes out of a zlib or gzip stream that begins at `offset` of a file and has `packed_bytes`, if known.

    Raises InputError when fewer come out, or when they do not match their checksum.
    """
    held = file.stat().st_size - offset
    left = held if packed_bytes is None else packed_bytes
    if left > held:
        raise cut_off(offset + left, name, offset + held)
    check_claim(left, count, True, name)
    found, unpack = bytearray(), zlib.decompressobj(47)  # either kind of wrapping
    try:
        with file.open("rb") as stream:
            stream.seek(offset)
            while len(found) < count and left > 0 and not unpack.eof and (block := stream.read(min(left, _BLOCK))):
                left -= len(block)
                while block and len(found) < count:
                    found += unpack.decompress(block, count - len(found))
                    block = unpack.unconsumed_tail
    except (OSError, zlib.error) as error:
        raise cut_off(count, name, len(found)) from error
    if len(found) < count:
        raise cut_off(count, name, len(found))
    return found


def as_array(data: bytearray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Bytes as an array in this machine's byte order."""
    array = np.frombuffer(data, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _skip(stream, offset: int, packed: bool) -> None:
    if not packed:
        stream.seek(offset)
        return
    while offset > 0 and (block := stream.read(min(offset, _BLOCK))):
        offset -= len(block)
    if offset > 0:
        raise EOFError


def _fill(stream: BinaryIO, count: int) -> bytearray:
    """Up to `count` bytes; where the stream ends with them, its checksum is verified, too."""
    found = bytearray(count)
    view, got = memoryview(found), 0
    while got < count and (n := stream.readinto(view[got : got + _BLOCK])):  # type: ignore[attr-defined]
        got += n
    view.release()
    if got == count:
        try:
            stream.read(1)
        except OSError as error:
            if "CRC" in str(error) or "length" in str(error):
                raise
        except (EOFError, zlib.error):
            pass  # what follows is not part of the volume
    del found[got:]
    return found
