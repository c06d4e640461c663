"""Writing all or nothing: results grow in a hidden folder beside their place and are moved there at the end.

Everything that is delivered is written through here: complete on the disk (fsync), then moved. What is hidden, and how
it is tidied up after a run that was killed: `leftovers`.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import InputError, ResourceError
from .leftovers import (
    DONE,
    OLD,
    PART,
    RUN_VARIABLE,
    entries,
    hidden_path,
    is_hidden,
    move,
    move_out,
    put_back,
    remove,
    settle_run,
    sweep,
)
from .paths import given_path

# A folder with one of these was made by this engine, so `overwrite` may replace it.
OWN_FILES = ("settings.json", "quality.json", "transform.h5")
DISK_ERRORS = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_PLACE_ERRORS = {errno.EROFS, errno.EIO, getattr(errno, "ESTALE", errno.EIO)}
_LONGEST_NAME = 255  # bytes, of the usual file systems
_HERE = "files"

log = logging.getLogger(__name__)
_numbers = itertools.count(1)
_active: set[Staging] = set()
_delivered: list[Path] = []
_places: set[Path] = set()  # where this process has written


@dataclass
class FolderClaim:
    """A result folder that was checked before a run.

    earlier: what lay there then, which `overwrite` may replace. written: where the results are, once they are; another
    folder than `path` when somebody wrote there in the meantime.
    """

    path: Path
    overwrite: bool = False
    earlier: frozenset = frozenset()
    written: Path | None = None


def claim_folder(out: str | os.PathLike, overwrite: bool = False) -> FolderClaim:
    """A result folder that may be written. Raises InputError; writes nothing."""
    folder = _resolved(out)
    there = []
    if folder.exists():
        if not folder.is_dir():
            raise InputError(f"{folder}: expected a folder for the results, got a file. Choose another name.")
        try:
            there = entries(folder)
        except OSError as error:
            raise InputError(f"{folder}: cannot be read ({error.strerror}). Choose a folder that is yours.") from error
    if there:
        if not overwrite:
            raise InputError(f"{folder}: the folder is not empty. Choose another, or allow overwriting (--overwrite).")
        if not any((folder / name).is_file() for name in OWN_FILES):
            raise InputError(
                f"{folder}: the folder holds more than results of carlreg, so it is not overwritten. Choose another."
            )
    _check_writable(folder)
    return FolderClaim(folder, overwrite, _identity(there))


def check_folder(out: str | os.PathLike, overwrite: bool) -> Path:
    """The absolute path of a result folder that may be written. Raises InputError; writes nothing."""
    return claim_folder(out, overwrite).path


def check_file(out: str | os.PathLike) -> Path:
    """The absolute path of a file that may be written. Raises InputError; writes nothing."""
    file = _resolved(out)
    if file.is_dir():
        raise InputError(f"{file}: expected a file name, got a folder. Add a name, e.g. result.nii.gz.")
    if file.exists() and not file.is_file():
        raise InputError(f"{file}: expected a file name, got a device or pipe. Choose a file that can be replaced.")
    _check_writable(file)
    return file


class Staging:
    """Files and folders that are delivered together, all or nothing; see `staging`."""

    def __init__(self, final: bool = True) -> None:
        self._number = next(_numbers)
        self._final = final
        self._parts: list[Path] = []
        self._names: list[tuple[Path, str]] = []  # what is written, and what it is to be called
        self._claims: list[tuple[FolderClaim, Path]] = []
        self._targets: list[Path] = []
        self._new_parents: list[Path] = []

    def file(self, out: str | os.PathLike) -> Path:
        """A path to write to that becomes `out`. Its ending has small letters, as libraries expect.

        Whatever else appears beside it (the second file of a format of two) goes along. Raises InputError.
        """
        target = check_file(out)
        self._targets.append(target)
        folder = self._part_in(target.parent) / f"{_HERE}{len(self._names)}"
        folder.mkdir()
        written = folder / with_small_ending(target.name)
        self._names.append((written, target.name))
        return written

    def folder(self, claim: FolderClaim) -> Path:
        """A folder to write into that becomes the claimed one, or its content where that is there."""
        inside = claim.path.is_dir()
        self._targets.append(claim.path)
        part = self._part_in(claim.path if inside else claim.path.parent)
        written = part / claim.path.name if inside else part / _HERE / claim.path.name
        written.mkdir(parents=True)
        self._claims.append((claim, written))
        return written

    def _part_in(self, here: Path) -> Path:
        part = hidden_path(here, self._number, PART)
        if part not in self._parts:
            self._parts.append(part)
            self._new_parents += [parent for parent in (here, *here.parents) if not parent.exists()]
            here.mkdir(parents=True, exist_ok=True)
            sweep([here])
            part.mkdir()
        return part

    def commit(self) -> None:
        """Make sure that all is on the disk, and move it to its place."""
        self._complete()
        aside = [self._make_room(claim, written) for claim, written in self._claims]
        done = [part.rename(part.with_suffix(f".{DONE}")) for part in self._parts]  # from here on it is delivered
        moved: dict[Path, Path] = {}
        for folder in done:
            moved |= move_out(folder)
            _synchronize_folder(folder.parent)
        for old in filter(None, aside):
            remove(old)
        self._new_parents = []
        nested = any(is_hidden(parent.name) for part in self._parts for parent in part.parents)
        for folder in done:
            _emptied(folder, keep=self._final and not nested and RUN_VARIABLE in os.environ)
        places = self._tell(moved)
        if not nested:
            _delivered.extend(places)

    def _complete(self) -> None:
        for written, _ in self._names:
            if not written.is_file() or not written.stat().st_size:
                raise OSError(errno.EIO, "it is empty or was not written", written.name)
        for part in self._parts:
            _synchronize(part)
        for written, name in self._names:
            if written.name != name:
                written.rename(written.with_name(name))

    def _make_room(self, claim: FolderClaim, written: Path) -> Path | None:
        """Move an earlier result aside, where it may be replaced; else choose another place. Returns the old one."""
        if not claim.path.is_dir() or written.parent.parent != claim.path:
            return None  # it was not there when this was begun: who finds it there now takes the next free name
        there = entries(claim.path)
        if not there:
            return None
        if claim.overwrite and _identity(there) == claim.earlier:
            old = hidden_path(claim.path, self._number, OLD)
            with suppress(OSError):  # a file of it is open in another program, or somebody else's
                old.mkdir()
                for path in there:
                    path.rename(old / path.name)
            if not entries(claim.path):
                return old
            put_back(old)
            remove(old)
        try:
            claim.written = move(written, claim.path)
        except OSError:  # nothing may be written beside it
            written.rename(written.parent / _HERE)
            (written.parent / "more").mkdir()
            (written.parent / _HERE).rename(written.parent / "more" / f"{claim.path.name}_2")
            claim.written = claim.path / f"{claim.path.name}_2"
        return None

    def _tell(self, moved: dict[Path, Path]) -> list[Path]:
        """Where each target is now; a warning for what had to get another name."""
        for claim, _ in self._claims:
            claim.written = claim.written or moved.get(claim.path, claim.path)
            if claim.written != claim.path:
                log.warning("Another run wrote its results meanwhile; these go to %s.", claim.written)
        folders = {claim.path: claim.written or claim.path for claim, _ in self._claims}
        for target in self._targets:
            if target not in folders and moved.get(target, target) != target:
                log.warning("%s could not be replaced; the result is %s.", target, moved[target])
        return [folders.get(target) or moved.get(target, target) for target in self._targets]

    def undo(self) -> None:
        """Leave nothing of it."""
        for part in self._parts:
            old = part.with_suffix(f".{OLD}")
            if old.is_dir():
                with suppress(OSError):
                    put_back(old)
                remove(old)
            remove(part)
        for parent in self._new_parents:
            with suppress(OSError):  # not empty: somebody else's
                parent.rmdir()


@contextmanager
def staging(final: bool = True) -> Iterator[Staging]:
    """Files and folders that are delivered together when the block ends well; nothing of them is left otherwise.

    final: with them the command has delivered all.
    Raises ResourceError for a full disk, or a place that cannot be written any more.
    """
    stage = Staging(final)
    _active.add(stage)
    try:
        try:
            yield stage
        except OSError as error:
            if error.errno in DISK_ERRORS | _PLACE_ERRORS or _is_within(error.filename, stage._parts):
                raise not_written(stage._targets, error) from error
            raise
        try:
            stage.commit()
        except OSError as error:
            raise not_written(stage._targets, error) from error
    finally:
        stage.undo()
        _places.update(part.parent for part in stage._parts)
        _active.discard(stage)


@contextmanager
def staged_file(out: str | os.PathLike, final: bool = True) -> Iterator[Path]:
    """A path with the ending of `out` to write to, which becomes `out` when the block ends well."""
    with staging(final) as stage:
        yield stage.file(out)


@contextmanager
def staged_folder(out: str | os.PathLike | FolderClaim, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write into that becomes `out` when the block ends well, and vanishes otherwise.

    An earlier result at `out` (only with `overwrite`) is replaced at that moment, not before. Where another run has
    finished since `out` was claimed both results are kept: this one goes to `out_2`, with a warning in the log.
    """
    claim = out if isinstance(out, FolderClaim) else claim_folder(out, overwrite)
    with staging() as stage:
        yield stage.folder(claim)


def delivered() -> list[Path]:
    """The results that this process has put in their places so far."""
    return list(dict.fromkeys(_delivered))


def abandon() -> None:
    """Leave nothing of what this process is writing: it is about to end."""
    for stage in list(_active):
        stage.undo()
    settle_run(_places)


def cleaner(*outs: str | os.PathLike) -> Callable[[], bool]:
    """What tidies up, later, after a run that writes `outs`, however it ended; it says whether all was delivered.

    Folders that are not there yet go, too, and an earlier result that had been moved aside comes back to its place.
    What runs before this one have left is tidied up at once.
    """
    targets = [_resolved(out) for out in outs]
    places = [place for target in targets for place in (target.parent, target)]
    new_parents = [parent for target in targets for parent in target.parents if not parent.exists()]
    sweep(places)

    def clean_up() -> bool:
        delivered = settle_run(places)
        for parent in new_parents:
            with suppress(OSError):  # not there, or not empty: the result is in it
                parent.rmdir()
        return delivered

    return clean_up


def not_written(targets: Iterable[Path], error: OSError) -> ResourceError:
    """The typed error for a place that does not take what is written there."""
    shown = ", ".join(dict.fromkeys(map(str, targets)))
    reason = error.strerror or str(error) or type(error).__name__
    if isinstance(error.filename, (str, os.PathLike)):
        reason = f"{Path(error.filename).name}: {reason}"
    full = "The disk is full: " if error.errno in DISK_ERRORS else ""
    return ResourceError(
        f"{full}{shown} could not be written ({reason}); nothing was left there. To go on, free some space or choose "
        "another place."
    )


def with_small_ending(name: str) -> str:
    """The name with its (perhaps double) ending in small letters: most libraries know endings only so."""
    kept = Path(name[: -len(".gz")]).stem if name.lower().endswith(".gz") else Path(name).stem
    return kept + name[len(kept) :].lower()


def _emptied(folder: Path, keep: bool) -> None:
    """Remove a finished hidden folder, or leave it empty for the supervisor."""
    if not keep or any(is_hidden(parent.name) for parent in folder.parents):
        remove(folder)
        return
    for path in folder.iterdir():
        remove(path)


def _synchronize(folder: Path) -> None:
    """Wait until a folder's files are on the disk. Raises OSError when they do not fit there."""
    for path in [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]:
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            _synchronize_folder(path)


def _synchronize_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    with suppress(OSError):  # some file systems cannot
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _identity(there: Iterable[Path]) -> frozenset:
    """What tells whether a folder's content is still the same."""
    found = set()
    for path in there:
        with suppress(OSError):
            known = path.lstat()
            found.add((path.name, known.st_size if stat.S_ISREG(known.st_mode) else 0, known.st_mtime_ns))
    return frozenset(found)


def _is_within(name, folders: list[Path]) -> bool:
    """Whether something is one of the folders, in one, or above one."""
    if not isinstance(name, (str, os.PathLike)):
        return False
    return any(folder in (path := Path(name), *path.parents) or path in folder.parents for folder in folders)


def _resolved(out: str | os.PathLike) -> Path:
    path = given_path(out, "--out").resolve()
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):  # told for a path whose folder is there only
        raise InputError(f"--out: {path.name[:50]}... is longer than a name may be. Choose a shorter one.")
    return path


def _check_writable(path: Path) -> None:
    parent = path if path.is_dir() else path.parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{path}: nothing can be written in {parent}. Choose a folder that is yours.")
