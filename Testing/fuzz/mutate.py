"""Damage to files, as it happens and as an attacker would do it: flipped bits, cut ends, odd numbers, endless text.

`mutated(data, below)` asks `below(n)` for a number from 0 to n - 1 for each of its choices, so that one code serves
random numbers, a fuzzing engine and a property test that shrinks what it finds.
"""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections.abc import Callable

Below = Callable[[int], int]

#: Text that stands in for a number or a word of a text file.
ODD_WORDS = (
    b"nan", b"inf", b"-inf", b"1e308", b"-1e308", b"1e-320", b"0", b"-0", b"-1", b"0.5", b"1e6", b"4294967296",
    b"99999999999999999999", b"9" * 400, b"", b"null", b"true", b"[]", b"{}", b"{", b"[", b'""', b"x", b"0x10", b"1,5",
    b"\xff", b"\xe9", b"\x00", b"~nosuchuser/x", b"/dev/zero", b"../x", b"x" * 300,
)  # fmt: skip
#: Numbers that stand in for a binary field, by their width in bytes.
ODD_NUMBERS = {
    1: (0, 1, 2, 3, 4, 7, 8, 16, 64, 127, 128, 255),
    2: (0, 1, 2, 3, 4, 5, 7, 8, 16, 64, 512, 1006, 1007, 2006, 32767, 32768, 65535),
    4: (0, 1, 2, 255, 65536, 2**31 - 1, 2**31, 2**32 - 1),
    8: (0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1),
}
ODD_FLOATS = (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e-40, 1e-30, 1e20, 1e30, 3.4e38)
_NUMBER = re.compile(rb"[-+]?[0-9][0-9.eE+-]{0,24}")
_HEAD = 512
#: Longest result: damage must not make a file that is slow to read for its size alone.
LONGEST = 2**20


def mutated(data: bytes, below: Below) -> bytes:
    """The data after one to four kinds of damage; compressed data are damaged inside as often as outside."""
    if data[:2] == b"\x1f\x8b" and below(4):
        try:
            inside = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            pass
        else:
            return gzip.compress(mutated(inside, below), compresslevel=1)
    changed = bytearray(data)
    for _ in range(1 + below(4)):
        kinds = _TEXT_KINDS if _is_text(changed) and below(4) else _BINARY_KINDS
        kinds[below(len(kinds))](changed, below)
        if not changed:
            break
    return bytes(changed[:LONGEST])


def _is_text(data: bytearray) -> bool:
    return b"\0" not in data[:_HEAD] or data[:1] in (b"#", b"{")


def _place(data: bytearray, below: Below, width: int = 1) -> int:
    """Somewhere in the data; in the header more often than elsewhere."""
    end = max(1, len(data) - width)
    return below(min(end, _HEAD)) if below(3) else below(end)


def _bit(data: bytearray, below: Below) -> None:
    at = _place(data, below)
    data[at] ^= 1 << below(8)


def _odd_number(data: bytearray, below: Below) -> None:
    width = (1, 2, 4, 8)[below(4)]
    numbers = ODD_NUMBERS[width]
    at = _place(data, below, width)
    order = ("little", "big")[below(8) == 0]
    data[at : at + width] = numbers[below(len(numbers))].to_bytes(width, order)


def _odd_float(data: bytearray, below: Below) -> None:
    letter, width = (("f", 4), ("d", 8))[below(2)]
    at = _place(data, below, width) // 4 * 4
    data[at : at + width] = struct.pack("<" + letter, ODD_FLOATS[below(len(ODD_FLOATS))])


def _cut(data: bytearray, below: Below) -> None:
    del data[_place(data, below) :]


def _drop(data: bytearray, below: Below) -> None:
    at = _place(data, below)
    del data[at : at + 1 + below(64)]


def _repeat(data: bytearray, below: Below) -> None:
    at = _place(data, below)
    piece = bytes(data[at : at + 1 + below(64)])
    data[at:at] = piece * (1 + below(8))


def _noise(data: bytearray, below: Below) -> None:
    at = _place(data, below)
    data[at : at + 4] = bytes(below(256) for _ in range(4))


def _zeros(data: bytearray, below: Below) -> None:
    at = _place(data, below)
    data[at : at + 16] = bytes(16)


def _extend(data: bytearray, below: Below) -> None:
    data += bytes(1 + below(1000))


def _number(data: bytearray, below: Below) -> None:
    found = [match.span() for match in _NUMBER.finditer(data[:20000])]
    if found:
        start, end = found[below(len(found))]
        data[start:end] = ODD_WORDS[below(len(ODD_WORDS))]


def _lines(data: bytearray, below: Below) -> None:
    """A line lost, doubled, moved, or left without its value."""
    lines = bytes(data).split(b"\n")
    at = below(len(lines))
    kind = below(4)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(below(len(lines)), lines[at])
    elif kind == 2:
        lines[at] = re.split(rb"[:=, ]", lines[at], maxsplit=1)[0]
    else:
        lines[at] += b" " + ODD_WORDS[below(len(ODD_WORDS))]
    data[:] = b"\n".join(lines)


def _words(data: bytearray, below: Below) -> None:
    found = [match.span() for match in re.finditer(rb"[^\s,:=]+", data[:20000])]
    if found:
        start, end = found[below(len(found))]
        data[start:end] = ODD_WORDS[below(len(ODD_WORDS))]


def _endless(data: bytearray, below: Below) -> None:
    """A great many of one letter: blanks, brackets, quotes, digits."""
    at = _place(data, below)
    letter = (b" ", b"[", b"{", b"(", b'"', b"9", b"\n", b"x", b"[[", b'{"a":', b"\t")[below(11)]
    data[at:at] = letter * (100, 5000, 100_000)[below(3)]


_BINARY_KINDS = (_bit, _odd_number, _odd_float, _cut, _drop, _repeat, _noise, _zeros, _extend)
_TEXT_KINDS = (_number, _number, _lines, _words, _endless, _bit, _cut, _drop, _repeat)
