"""The part of HDF5 that ITK's transform files use, read in plain Python, so that no file can crash or hang the process.

The HDF5 library itself ends the process on some damaged files and never returns from others. Here every position is
checked against the file's size, and every list and chain is bounded. What ITK does not write (other layouts, filters,
links) raises `UnknownLayout`, and the caller may ask the library, in a process of its own.

Source: HDF5 File Format Specification, version 3.0 (superblocks 0 to 3, object headers 1 and 2, groups by symbol table,
by links in the header and by links in a heap; contiguous, compact and chunked data, deflated or not).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NOWHERE = 2**64 - 1
_MOST_PIECES, _MOST_ENTRIES, _MOST_NODES = 64, 100_000, 100_000
_MOST_METADATA = 2**22  # bytes of one block of a header, a heap or a tree
_MOST_RANK = 4
_DEFLATE_RATIO = 1032  # the format's own limit
_DATASPACE, _LINK_INFO, _DATATYPE, _LINK, _LAYOUT, _FILTERS, _CONTINUED, _SYMBOLS = 1, 2, 3, 6, 8, 11, 16, 17
_FIXED_POINT, _FLOAT, _STRING, _VARIABLE = 0, 1, 3, 9


class Damaged(ValueError):
    """The file contradicts itself or ends too early."""


class UnknownLayout(ValueError):
    """A part of HDF5 that is not read here."""


@dataclass(frozen=True)
class Dataset:
    """One array in a file. kind, size: of its elements, HDF5's class and bytes; little: byte order."""

    file: Hdf5File
    shape: tuple[int, ...]
    kind: int
    size: int
    little: bool
    layout: bytes
    filters: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    def numbers(self) -> np.ndarray:
        """All numbers in one row, float64. Raises Damaged, UnknownLayout."""
        if self.kind not in (_FLOAT, _FIXED_POINT) or self.size not in (4, 8):
            raise UnknownLayout("expected numbers of four or eight bytes")
        letter = "f" if self.kind == _FLOAT else "i"
        dtype = np.dtype(f"{'<' if self.little else '>'}{letter}{self.size}")
        return np.frombuffer(self._content(), dtype).astype(np.float64, copy=False)

    def text(self) -> str:
        """The first text of an array of texts. Raises Damaged, UnknownLayout."""
        if self.count < 1 or self.kind not in (_STRING, _VARIABLE):
            raise Damaged("expected a text")
        raw = bytes(self._content()[: self.size])
        if self.kind == _VARIABLE:
            length, place, index = struct.unpack_from("<IQI", raw)
            raw = self.file.heap_object(place, index)[:length]
        return raw.split(b"\0")[0].decode("utf-8", "replace")

    def _content(self) -> bytes | bytearray:
        total = self.count * self.size
        if total == 0:
            return b""
        if self.layout[:1] != b"\3":
            raise UnknownLayout("a data layout of another version")
        if self.layout[1] == 0:
            (length,) = struct.unpack_from("<H", self.layout, 2)
            found = self.layout[4 : 4 + length]
        elif self.layout[1] == 1:
            place, length = struct.unpack_from("<QQ", self.layout, 2)
            if self.filters or total > length:
                raise Damaged("an array is shorter than it should be")
            found = self.file.read(place, total)
        elif self.layout[1] == 2:
            found = self._chunks(total)
        else:
            raise UnknownLayout("another kind of data layout")
        if len(found) < total:
            raise Damaged("an array is shorter than it should be")
        return found[:total]

    def _chunks(self, total: int) -> bytearray:
        rank, place = struct.unpack_from("<BQ", self.layout, 2)
        if rank != len(self.shape) + 1 or rank > _MOST_RANK + 1:
            raise Damaged("its chunks have other axes than its array")
        *sizes, element = struct.unpack_from(f"<{rank}I", self.layout, 11)
        if element != self.size or 0 in sizes or total > self.file.size * _DEFLATE_RATIO:
            raise Damaged("its chunks have an impossible size")
        if rank != 2:
            raise UnknownLayout("chunks of several axes")
        found, filled, step = bytearray(total), 0, sizes[0] * element
        for at, length, skipped, address in self.file.chunks(place, rank):
            piece = self.file.read(address, length)
            for number, code in reversed(list(enumerate(self.filters))):
                if not skipped >> number & 1:
                    piece = _unfiltered(piece, code, step, element)
            start = at * element
            wanted = min(step, total - start)
            if at % sizes[0] or wanted <= 0 or len(piece) < wanted:
                raise Damaged("a chunk lies beyond its array")
            found[start : start + wanted] = piece[:wanted]
            filled += wanted
        if filled != total:
            raise Damaged("chunks are missing")
        return found


def _unfiltered(piece: bytes, code: int, most: int, element: int) -> bytes:
    if code == 1:
        try:
            return zlib.decompressobj().decompress(piece, most)
        except zlib.error as error:
            raise Damaged("a chunk cannot be unpacked") from error
    if code == 2 and len(piece) % element == 0:  # bytes of equal significance side by side
        return np.frombuffer(piece, np.uint8).reshape(element, -1).T.tobytes()
    raise UnknownLayout(f"the filter {code}")


class Hdf5File:
    """An open file; `members` and `dataset` take the place of an object, `root` is the first."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self.size = stream, size
        head = self.read(0, 16)
        if head[:8] != SIGNATURE:
            raise Damaged("it does not begin as an HDF5 file")
        if head[8] in (0, 1):
            offset, lengths = head[13], head[14]
            at = 24 + (4 if head[8] == 1 else 0)
            base, self.root = struct.unpack("<Q", self.read(at, 8))[0], self._number(at + 40)
        elif head[8] in (2, 3):
            offset, lengths = head[9], head[10]
            base, self.root = self._number(12), self._number(36)
        else:
            raise UnknownLayout("a newer version of HDF5")
        if (offset, lengths, base) != (8, 8, 0):
            raise UnknownLayout("addresses of another size")

    def read(self, place: int, length: int) -> bytes:
        """Bytes of the file. Raises Damaged where they are not all there."""
        if place < 0 or length < 0 or place + length > self.size:
            raise Damaged("it ends too early, or points beyond its end")
        self._stream.seek(place)
        found = self._stream.read(length)
        if len(found) < length:
            raise Damaged("it ends too early")
        return found

    def _number(self, place: int) -> int:
        return struct.unpack("<Q", self.read(place, 8))[0]

    def _block(self, place: int, length: int) -> bytes:
        if length > _MOST_METADATA:
            raise Damaged("a part of its header is too large")
        return self.read(place, length)

    def dataset(self, place: int) -> Dataset:
        """The array whose header is there. Raises Damaged, UnknownLayout."""
        found = dict(self._messages(place))
        if not {_DATASPACE, _DATATYPE, _LAYOUT} <= set(found):
            raise Damaged("expected an array")
        kind = found[_DATATYPE]
        (size,) = struct.unpack_from("<I", kind, 4)
        if kind[1] & 1 and kind[0] & 15 == _FLOAT and kind[1] & 64:
            raise UnknownLayout("numbers in VAX order")
        filters = _filter_codes(found[_FILTERS]) if _FILTERS in found else ()
        shape = _shape(found[_DATASPACE])
        return Dataset(self, shape, kind[0] & 15, size, not kind[1] & 1, found[_LAYOUT], filters)

    def members(self, place: int) -> dict[str, int]:
        """The places of the objects in a group, by name. Raises Damaged, UnknownLayout."""
        found: dict[str, int] = {}
        for kind, content in self._messages(place):
            if kind == _SYMBOLS:
                found.update(self._symbols(*struct.unpack_from("<QQ", content)))
            elif kind == _LINK:
                name, target, _ = _link(content, 0)
                found[name] = target
            elif kind == _LINK_INFO:
                (heap,) = struct.unpack_from("<Q", content, 10 if content[1] & 1 else 2)
                if heap != _NOWHERE:
                    found.update(self._heap_links(heap))
            if len(found) > _MOST_ENTRIES:
                raise Damaged("a group has too many members")
        return found

    def _messages(self, place: int) -> Iterator[tuple[int, bytes]]:
        """(kind, content) of the messages in an object's header, its continuations included."""
        head = self.read(place, 16)
        if head[:4] == b"OHDR":
            flags = head[5]
            at = 6 + (16 if flags & 32 else 0) + (4 if flags & 16 else 0)
            width = 1 << (flags & 3)
            length = int.from_bytes(self.read(place + at, width), "little")
            pieces, entry = [(place + at + width, length)], 6 if flags & 4 else 4
        elif head[0] == 1:
            (length,) = struct.unpack_from("<I", head, 8)
            pieces, entry = [(place + 16, length)], 8
        else:
            raise Damaged("expected an object's header")
        for number in range(_MOST_PIECES):
            if number == len(pieces):
                return
            content, at = self._block(*pieces[number]), 0
            while at + entry <= len(content):
                kind, length = struct.unpack_from("<HH" if entry == 8 else "<BH", content, at)
                shared = content[at + (4 if entry == 8 else 3)] & 2
                body = content[at + entry : at + entry + length]
                if len(body) < length:
                    raise Damaged("a header is cut off")
                if shared and kind in (_DATASPACE, _DATATYPE, _LAYOUT, _FILTERS):
                    raise UnknownLayout("messages that objects share")
                at += entry + length
                if kind == _CONTINUED:
                    start, size = struct.unpack_from("<QQ", body)
                    pieces.append((start, size) if entry == 8 else (start + 4, size - 8))
                else:
                    yield kind, body + bytes(16)  # what is read beyond a message is zero
        raise Damaged("a header has too many pieces")

    def _symbols(self, tree: int, heap: int) -> Iterator[tuple[str, int]]:
        head = self.read(heap, 32)
        if head[:4] != b"HEAP":
            raise Damaged("a group has no names")
        size, _, start = struct.unpack_from("<QQQ", head, 8)
        names = self._block(start, size)
        for leaf in self._leaves(tree, 0, 8, lambda key, child: child):
            node = self.read(leaf, 8)
            if node[:4] != b"SNOD":
                raise Damaged("a group's list of members is damaged")
            (count,) = struct.unpack_from("<H", node, 6)
            entries = self.read(leaf + 8, 40 * count)
            for number in range(count):
                name, place = struct.unpack_from("<QQ", entries, 40 * number)
                yield names[name:].split(b"\0")[0].decode("utf-8", "replace"), place

    def chunks(self, tree: int, rank: int) -> Iterator[tuple[int, int, int, int]]:
        """(first element, bytes, filters left out, place) of an array's chunks."""
        if tree == _NOWHERE:
            return

        def entry(key: bytes, child: int) -> tuple[int, int, int, int]:
            length, skipped, at = struct.unpack_from("<IIQ", key)
            return at, length, skipped, child

        yield from self._leaves(tree, 1, 8 + 8 * rank, entry)

    def _leaves(self, root: int, kind: int, key_bytes: int, entry) -> Iterator:
        """What `entry(key, place)` makes of the entries of all leaves of a tree, from the left to the right."""
        left: list[tuple[int, int]] = [(root, -1)]
        seen = 0
        while left:
            place, level = left.pop()
            head = self.read(place, 24)
            count = int.from_bytes(head[6:8], "little")
            seen += 1
            if head[:4] != b"TREE" or head[4] != kind or (level >= 0 and head[5] != level) or seen > _MOST_NODES:
                raise Damaged("a tree of its parts is damaged")
            step = key_bytes + 8
            content = self._block(place + 24, step * count)
            found = []
            for at in range(0, step * count, step):
                (child,) = struct.unpack_from("<Q", content, at + key_bytes)
                found.append((content[at : at + key_bytes], child))
            if head[5] == 0:
                yield from (entry(*one) for one in found)
            else:
                left.extend((child, head[5] - 1) for _, child in reversed(found))

    def heap_object(self, place: int, index: int) -> bytes:
        """An object of a heap that keeps texts of any length."""
        head = self.read(place, 16)
        if head[:4] != b"GCOL":
            raise Damaged("a text is missing")
        content, at = self._block(place, struct.unpack_from("<Q", head, 8)[0]), 16
        while at + 16 <= len(content):
            number, _, _, size = struct.unpack_from("<HHIQ", content, at)
            if number == index and number:
                return content[at + 16 : at + 16 + size]
            if number == 0:
                break
            at += 16 + (size + 7) // 8 * 8
        raise Damaged("a text is missing")

    def _heap_links(self, heap: int) -> dict[str, int]:
        """Links that a group with many members keeps in a heap: all of them lie in its blocks, one after another."""
        head = self.read(heap, 144)
        if head[:4] != b"FRHP":
            raise Damaged("a group's links are missing")
        (filtered,) = struct.unpack_from("<H", head, 7)
        (objects,) = struct.unpack_from("<Q", head, 70)
        width, start, largest, bits = struct.unpack_from("<HQQH", head, 110)
        root, rows = struct.unpack_from("<QH", head, 132)
        if filtered or not 0 < start <= largest <= _MOST_METADATA or width > 64:
            raise UnknownLayout("a heap of another kind")
        before = 13 + (bits + 7) // 8
        if rows:
            if rows > 40 or start << max(rows - 2, 0) > largest:
                raise UnknownLayout("a heap of several levels")
            raw = self.read(root + before, 8 * width * rows)
            blocks = [
                (place, start << max(number // width - 1, 0))
                for number, place in enumerate(struct.unpack(f"<{width * rows}Q", raw))
                if place != _NOWHERE
            ]
        else:
            blocks = [(root, start)]
        found: dict[str, int] = {}
        for place, size in blocks:
            content, at = self._block(place, size) + bytes(32), before + (4 if head[9] & 2 else 0)
            while at + 32 < len(content) and content[at] == 1:
                name, target, at = _link(content, at)
                found[name] = target
        if len(found) != objects:
            raise UnknownLayout("a heap with gaps")
        return found


def _link(content: bytes, at: int) -> tuple[str, int, int]:
    """(name, place, what follows) of a link to an object of the same file."""
    version, flags = content[at], content[at + 1]
    at += 2
    if version != 1 or (flags & 8 and content[at] != 0):
        raise UnknownLayout("links to elsewhere")
    at += (1 if flags & 8 else 0) + (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
    width = 1 << (flags & 3)
    length = int.from_bytes(content[at : at + width], "little")
    at += width
    name = content[at : at + length]
    if length > 1024 or at + length + 8 > len(content):
        raise Damaged("a link is cut off")
    (target,) = struct.unpack_from("<Q", content, at + length)
    return name.decode("utf-8", "replace"), target, at + length + 8


def _shape(message: bytes) -> tuple[int, ...]:
    version, rank = message[0], message[1]
    if version not in (1, 2) or rank > _MOST_RANK:
        raise UnknownLayout("an array of many axes")
    if version == 2 and message[3] == 2:
        return (0,)
    return struct.unpack_from(f"<{rank}Q", message, 8 if version == 1 else 4)


def _filter_codes(message: bytes) -> tuple[int, ...]:
    version, count = message[0], message[1]
    at, codes = (8 if version == 1 else 2), []
    for _ in range(count):
        (code,) = struct.unpack_from("<H", message, at)
        if version == 1 or code >= 256:
            length, _, values = struct.unpack_from("<HHH", message, at + 2)
            at += 8
        else:
            length, (_, values) = 0, struct.unpack_from("<HH", message, at + 2)
            at += 6
        at += ((length + 7) // 8 * 8 if version == 1 else length) + 4 * values
        at += 4 if version == 1 and values % 2 else 0
        codes.append(code)
    return tuple(codes)


def open_file(path: Path, stream: BinaryIO) -> Hdf5File:
    """The file behind an open stream. Raises Damaged, UnknownLayout."""
    return Hdf5File(stream, path.stat().st_size)
