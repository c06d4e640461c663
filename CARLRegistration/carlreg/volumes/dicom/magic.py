"""Whether a file is DICOM; needs no library."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

# What elements of these groups are written as.
_REPRESENTATIONS = (b"AE", b"CS", b"DA", b"LO", b"OB", b"PN", b"SH", b"TM", b"UI", b"UL", b"US")


def is_dicom(file: Path) -> bool:
    """Whether a file is DICOM by its content: the magic word, or the first element of a file without one."""
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            return False
        with file.open("rb") as stream:
            start = stream.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM" or _starts_with_element(start)


def _starts_with_element(start: bytes) -> bool:
    """Files of before 1993, and some of later, begin with their first element, of group 2 or 8."""
    if len(start) < 132:
        return False
    for order in "<>":
        group, element = struct.unpack(order + "HH", start[:4])
        if group in (2, 8) and element <= 0x0100:
            length = struct.unpack(order + "I", start[4:8])[0]
            if element == 0:  # the length of the group, itself of four bytes
                return start[4:6] == b"UL" or length == 4
            return start[4:6] in _REPRESENTATIONS or length <= 64
    return False
