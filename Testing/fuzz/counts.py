"""Counters of a fuzz target that survive whatever ends its process."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from .readers import ACCEPTED, REFUSED

#: What is counted, in the order of the file of counts: 8 bytes each.
COUNTED = ("inputs", REFUSED, ACCEPTED, "raw", "absurd")


class Counts:
    """Counters in a file that survive whatever ends the process."""

    def __init__(self, path: Path) -> None:
        with path.open("w+b") as file:
            file.write(bytes(8 * len(COUNTED)))
            file.flush()
            self._memory = mmap.mmap(file.fileno(), 8 * len(COUNTED))

    def add(self, name: str) -> None:
        at = 8 * COUNTED.index(name)
        (value,) = struct.unpack_from("<q", self._memory, at)
        struct.pack_into("<q", self._memory, at, value + 1)


def read_counts(path: Path) -> dict[str, int]:
    content = path.read_bytes().ljust(8 * len(COUNTED), b"\0")
    return dict(zip(COUNTED, struct.unpack(f"<{len(COUNTED)}q", content), strict=True))
