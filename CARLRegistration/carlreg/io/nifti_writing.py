"""Writing NIfTI (.nii.gz) fast and in slabs: SimpleITK makes the header, zlib at its fastest level the rest."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..spaces import VolumeGrid
from .nifti_header import new_header, put

_CHUNK_BYTES = 2**22
_LEVEL = 1


def write_nifti_gz(path: str | os.PathLike, array: np.ndarray, grid: VolumeGrid, description: str = "") -> None:
    """Write a (D, H, W) array as .nii.gz. Raises OSError when the disk does not take it.

    description: of the header (ASCII, up to 79 characters are kept).
    """
    if array.shape != grid.shape_dhw:
        raise ValueError(f"Expected an array of shape {grid.shape_dhw}, got {array.shape}.")
    header = new_header(array.dtype, grid)
    put(header, "descrip", description.encode("ascii")[:79])
    write_gz(path, header, [array])


def write_gz(path: str | os.PathLike, header: bytes | bytearray, parts: Iterable[np.ndarray]) -> None:
    """Write a header and, after it, arrays as they lie in memory, as one gzip stream. Raises OSError."""
    flats = (np.ascontiguousarray(part).reshape(-1).view(np.uint8) for part in parts)
    chunks = (flat[n : n + _CHUNK_BYTES] for flat in flats for n in range(0, flat.size, _CHUNK_BYTES))
    workers = min(4, os.cpu_count() or 1)
    with open(path, "wb") as stream, ThreadPoolExecutor(workers) as pool:
        stream.write(b"\x1f\x8b\x08\x00" + b"\x00" * 4 + b"\x04\xff")
        checksum, length = zlib.crc32(header), len(header)
        stream.write(_deflated(header))
        # Chunks are deflated side by side and joined into one stream: a full flush ends each on a byte.
        waiting: list = []
        for chunk in chunks:
            checksum, length = zlib.crc32(chunk.data, checksum), length + chunk.size
            waiting.append(pool.submit(_deflated, chunk))
            if len(waiting) > 2 * workers:
                stream.write(waiting.pop(0).result())
        for job in waiting:
            stream.write(job.result())
        stream.write(zlib.compressobj(_LEVEL, zlib.DEFLATED, -15).flush(zlib.Z_FINISH))
        stream.write(struct.pack("<II", checksum, length & 0xFFFFFFFF))


def _deflated(data) -> bytes:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)


def rounded_mantissa(array: np.ndarray, bits: int = 12) -> np.ndarray:
    """Float32 values rounded to `bits` significant bits (2e-4 relative at 12), which deflate far better; a copy."""
    drop = 24 - bits
    whole = array.view(np.uint32) + np.uint32(1 << (drop - 1))
    whole &= np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)
    return whole.view(np.float32)
