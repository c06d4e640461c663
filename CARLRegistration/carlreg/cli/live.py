"""`--preview FILE`: the map while it is optimized, for a program that shows it."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..paths import given_path

if TYPE_CHECKING:
    from ..physical import PhysicalTransform

log = logging.getLogger(__name__)
ENDINGS = (".h5", ".tfm")


def check_preview(path: str | None) -> None:
    """Refuse a file that may not be written. Raises InputError."""
    if path is None:
        return
    file = given_path(path, "--preview")
    if not file.name.endswith(ENDINGS):
        raise InputError(f"--preview: expected a file name that ends in {' or '.join(ENDINGS)}; got {path}.")
    if file.exists():
        raise InputError(f"--preview: {path} is there already. Remove it, or choose another name.")
    if not file.resolve().parent.is_dir():
        raise InputError(f"--preview: the folder of {path} does not exist. Make it first.")


class MapFile:
    """A transform file that is replaced as a whole by every new map, and gone when all is done; a context manager."""

    def __init__(self, path: str) -> None:
        self.path = given_path(path, "--preview").resolve()
        self._part = self.path.with_name(f".{self.path.stem}-{os.getpid()}{self.path.suffix}")

    def __enter__(self) -> MapFile:
        return self

    def __exit__(self, *_) -> None:
        for file in (self._part, self.path):
            _remove(file)

    def write(self, found: PhysicalTransform) -> None:
        """Replace the file. What cannot be written now is left out: nobody waits for it."""
        import SimpleITK as sitk

        try:
            sitk.WriteTransform(found.to_sitk(), str(self._part))
            os.replace(self._part, self.path)
        except (RuntimeError, OSError) as error:  # a full disk, or on Windows somebody reads it just now
            log.info("the preview was not written: %s", error)


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink(missing_ok=True)
