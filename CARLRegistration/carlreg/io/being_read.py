"""Which file is being read, noted where it outlives a crash of this process, so that its parent can name the file.

A library that reads a damaged file can end the whole process; without the note that looks like a defect of the engine.
Needs neither NumPy nor SimpleITK.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: Environment variable of a process that is to take notes: the number of an open file, its own to write.
NOTE_VARIABLE = "CARLREG_BEING_READ"
#: What a file that cannot be read may be saved as, by its kind: the end of "save it ...".
AS_VOLUME, AS_DICOM, AS_TRANSFORM = "as .nrrd or .nii.gz", "as uncompressed DICOM", "as .tfm or .h5"
AS_MODEL, ANEW = "as .vtp or .vtk", "anew"
_MOST_BYTES = 4096

_file: int | None = None
_notes: list[bytes] = []


def crash_sentence(name: str, code: int, save_as: str) -> str:
    """What to say of a file whose reading ended a process with this exit code (negative: a signal)."""
    how = f"signal {-code}" if code < 0 else f"code {code}"
    return (
        f"{name}: cannot be read: the library that reads it crashes on it ({how}); it is damaged, or not what its name "
        f"says. Copy it again, or save it {save_as} with the program that made it."
    )


def take_notes() -> None:
    """Note from now on what is read, if the process that started this one wants it."""
    global _file
    number = os.environ.pop(NOTE_VARIABLE, None)  # not for processes that are started here
    _file = None if number is None else int(number)


@contextmanager
def being_read(name: str, save_as: str) -> Iterator[None]:
    """While a file is read. name: what messages call it. save_as: one of the constants above."""
    if _file is None:
        yield
        return
    _notes.append(f"{name}\0{save_as}".encode(errors="replace")[-_MOST_BYTES:])
    _write(_file)
    try:
        yield
    finally:
        _notes.pop()
        _write(_file)


def noted(file: int) -> tuple[str, str] | None:
    """(name, save_as) of what was being read when the process ended that noted in an open file; None: nothing."""
    os.lseek(file, 0, os.SEEK_SET)
    name, _, save_as = os.read(file, _MOST_BYTES).decode(errors="replace").partition("\0")
    return (name, save_as) if save_as else None


def _write(file: int) -> None:
    with suppress(OSError):  # a full disk: a crash is then said without the file
        os.ftruncate(file, 0)
        os.lseek(file, 0, os.SEEK_SET)
        if _notes:
            os.write(file, _notes[-1])
