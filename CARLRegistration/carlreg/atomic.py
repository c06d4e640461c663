"""Writing all or nothing: results grow beside their place under a hidden name and are moved there at the end."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError
from .paths import given_path

# A folder with one of these was made by this engine, so `overwrite` may replace it.
OWN_FILES = ("settings.json", "quality.json", "transform.h5")
# Names the run whose parts are to be cleaned up, across the processes of one run; without it each process is a run.
RUN_VARIABLE = "CARLREG_RUN"
_STALE_SECONDS = 24 * 3600.0

log = logging.getLogger(__name__)


def check_folder(out: str | os.PathLike, overwrite: bool) -> Path:
    """The absolute path of a result folder that may be written. Raises InputError; writes nothing."""
    folder = given_path(out, "--out").resolve()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder for the results, got a file. Choose another name.")
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise InputError(f"{folder}: the folder is not empty. Choose another, or allow overwriting (--overwrite).")
        if not any((folder / name).is_file() for name in OWN_FILES):
            raise InputError(
                f"{folder}: the folder holds more than results of carlreg, so it is not overwritten. Choose another."
            )
    _check_writable(folder)
    return folder


def check_file(out: str | os.PathLike) -> Path:
    """The absolute path of a file that may be written. Raises InputError; writes nothing."""
    file = given_path(out, "--out").resolve()
    if file.is_dir():
        raise InputError(f"{file}: expected a file name, got a folder. Add a name, e.g. result.nii.gz.")
    _check_writable(file)
    return file


@contextmanager
def staged_folder(out: str | os.PathLike, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write into that becomes `out` when the block ends well, and vanishes otherwise.

    An earlier result at `out` (only with `overwrite`) is replaced at that moment, not before. Where another run has
    finished meanwhile, without `overwrite` both results are kept: this one goes to `out_2`, with a warning in the log.
    """
    folder = check_folder(out, overwrite)
    clean_up = cleaner(folder)
    clean_up()
    part, old = _sibling(folder, "part"), _sibling(folder, "old")
    try:
        part.mkdir(parents=True)
        yield part
        if folder.is_dir() and any(folder.iterdir()):
            if overwrite:
                folder.rename(old)
            else:
                folder = _next_free(folder)
                log.warning("Another run wrote its results meanwhile; these go to %s.", folder)
        elif folder.is_dir():
            folder.rmdir()
        part.rename(folder)
    finally:
        clean_up()


@contextmanager
def staged_file(out: str | os.PathLike) -> Iterator[Path]:
    """A path with the suffix of `out` to write to, which becomes `out` when the block ends well."""
    file = check_file(out)
    clean_up = cleaner(file)
    part = _part_of(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, file)
    finally:
        clean_up()


def cleaner(out: str | os.PathLike) -> Callable[[], None]:
    """What removes, later, all that a broken write to `out` leaves: parts, and folders that are not there yet.

    An earlier result that had been moved aside comes back to its place.
    """
    target = given_path(out, "--out").resolve()
    new_parents = [parent for parent in target.parents if not parent.exists()]

    def clean_up() -> None:
        _remove_parts(target)
        for parent in new_parents:
            with suppress(OSError):  # not there, or not empty: the result is in it
                parent.rmdir()

    return clean_up


def _remove_parts(target: Path) -> None:
    part, old = _sibling(target, "part"), _sibling(target, "old")
    if old.exists() and not target.exists():
        old.rename(target)
    for folder in (part, old, _sibling(part, "part")):  # the last: a result staged inside a staged folder
        shutil.rmtree(folder, ignore_errors=True)
    _part_of(target).unlink(missing_ok=True)
    _remove_stale(target)


def _remove_stale(target: Path) -> None:
    """What runs that were ended hard (a power cut) left here a day or more ago; other runs of now keep theirs."""
    for left in (*target.parent.glob(f".{target.name}.*.part"), *target.parent.glob(f".part.*.{target.name}")):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _run() -> str:
    return os.environ.get(RUN_VARIABLE) or str(os.getpid())


def _sibling(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{_run()}.{kind}")


def _part_of(file: Path) -> Path:
    return file.with_name(f".part.{_run()}.{file.name}")


def _next_free(folder: Path) -> Path:
    number = 2
    while (candidate := folder.with_name(f"{folder.name}_{number}")).exists():
        number += 1
    return candidate


def _check_writable(path: Path) -> None:
    parent = path if path.is_dir() else path.parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"{path}: nothing can be written in {parent}. Choose a folder that is yours.")
