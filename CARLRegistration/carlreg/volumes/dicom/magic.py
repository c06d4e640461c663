"""Whether a file is DICOM; needs no library."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path


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
            letters = start[4:6]
            return (letters.isalpha() and letters.isupper()) or struct.unpack(order + "I", start[4:8])[0] <= 64
    return False
