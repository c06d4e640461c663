"""The folder of a cohort: what is to be done, what is done, what failed. Files alone say so, whoever was killed when.

study.json        the pairs with their files and settings; replaced as a whole
pairs/NAME/       the result of one pair, moved there complete; pair.json in it says what of, by hashes
failed/NAME.json  why a pair failed
manifest.jsonl    what happened, line by line: a log for people and programs; nothing is decided by it
summary.csv, summary.html
inputs/           may hold files of the pairs, written there before the study is begun; 3D Slicer does
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..atomic import FolderClaim, check_folder, staged_file
from ..errors import InputError, ResourceError
from ..leftovers import remove, sweep
from ..paths import given_path
from ..settings import RegistrationSettings
from ..text_files import is_file, read_json_object
from .lock import locked
from .plan import FILE_COLUMNS, PlannedPair, checked

STUDY, MANIFEST, PAIR, INPUTS = "study.json", "manifest.jsonl", "pair.json", "inputs"
_FORMAT = 1
_BLOCK = 2**22
PLANNED, DONE, FAILED, CHANGED = "planned", "done", "failed", "changed"


@dataclass(frozen=True)
class PairState:
    """word: planned (never done), done, failed, or changed (done of other inputs or settings). record: what was kept
    of its last run."""

    word: str
    record: dict[str, Any]


@dataclass(frozen=True)
class Study:
    """A cohort's folder as it was read or planned.

    settings: of each pair, by its name. report: whether each pair gets a report.html.
    """

    folder: Path
    pairs: tuple[PlannedPair, ...]
    settings: dict[str, RegistrationSettings]
    report: bool = False

    @property
    def threads(self) -> int:
        """Of one registration; fixed when the study is planned, since rounding differs with it."""
        return max((each.threads or 1 for each in self.settings.values()), default=1)

    def pair(self, name: str) -> PlannedPair:
        """Raises InputError when there is none of this name."""
        for pair in self.pairs:
            if pair.name == name:
                return pair
        raise InputError(f"{name}: expected the name of a pair of {self.folder.name}; it has none called so.")

    def result(self, name: str) -> Path:
        return self.folder / "pairs" / name

    def save(self) -> None:
        """Write study.json. Raises ResourceError."""
        distinct: list[dict] = []
        rows = []
        for pair in self.pairs:
            values = asdict(self.settings[pair.name])
            if values not in distinct:
                distinct.append(values)
            row = {"name": pair.name, "files": pair.files, "settings": distinct.index(values)}
            rows.append(row | ({"entities": pair.entities} if pair.entities else {}))
        content = {"format": _FORMAT, "carlreg": __version__, "report": self.report, "settings": distinct}
        write_json(self.folder / STUDY, content | {"pairs": rows})

    @classmethod
    def read(cls, folder: str | os.PathLike) -> Study:
        """Raises InputError when the folder holds no study."""
        root = given_path(folder, "study").resolve()
        if not is_file(root / STUDY):
            raise InputError(
                f"{root}: expected the folder of a cohort, with {STUDY}; found none. Give a plan (CSV) and --out to "
                "begin one."
            )
        content = read_json_object(root / STUDY, STUDY, most_bytes=2**29)
        try:
            if content["format"] != _FORMAT:
                raise InputError(f"{STUDY}: expected format {_FORMAT}, got {content['format']!r}. Use a newer carlreg.")
            kinds = [RegistrationSettings.from_dict(values) for values in content["settings"]]
            pairs = [PlannedPair(row["name"], dict(row["files"]), row.get("entities", {})) for row in content["pairs"]]
            settings = {row["name"]: kinds[row["settings"]] for row in content["pairs"]}
            files_known = all(set(pair.files) <= set(FILE_COLUMNS) for pair in pairs)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise InputError(f"{STUDY}: expected what carlreg wrote; it is damaged ({error}).") from error
        if not files_known:
            raise InputError(f"{STUDY}: it names kinds of files that this version does not know.")
        return cls(root, tuple(pairs), settings, bool(content.get("report")))

    def require_files(self) -> None:
        """Raise InputError that names all the files that are gone."""
        checked(list(self.pairs), self.folder.name)

    # --- what is done -------------------------------------------------------------------------------------------

    def state(self, pair: PlannedPair) -> PairState:
        """What the files say of a pair. Inputs of another size or time are read again, others are not."""
        kept = _record(self.result(pair.name) / PAIR)
        if kept is not None:
            now = fingerprint(self.settings[pair.name], inputs_of(pair, kept.get("inputs")))
            if now == kept.get("fingerprint"):
                return PairState(DONE, kept)
        failure = _record(self.folder / "failed" / f"{pair.name}.json")
        if failure is not None:
            now = fingerprint(self.settings[pair.name], inputs_of(pair, failure.get("inputs")))
            if now == failure.get("fingerprint"):
                return PairState(FAILED, failure)
        return PairState(PLANNED, failure or {}) if kept is None else PairState(CHANGED, kept)

    def states(self) -> dict[str, PairState]:
        return {pair.name: self.state(pair) for pair in self.pairs}

    def failed(self, pair: PlannedPair, reason: str, more: dict[str, Any]) -> None:
        """Keep why a pair failed. Raises ResourceError."""
        known = inputs_of(pair, None)
        record = {"fingerprint": fingerprint(self.settings[pair.name], known), "inputs": known, "reason": reason}
        write_json(self.folder / "failed" / f"{pair.name}.json", record | more)

    def cleared(self, pair: PlannedPair) -> None:
        """Forget an earlier failure: the pair is done now."""
        with suppress(OSError):
            (self.folder / "failed" / f"{pair.name}.json").unlink()

    def log(self, event: str, **values: Any) -> None:
        """One more line of the manifest, on the disk when this returns. Raises ResourceError."""
        line = json.dumps({"event": event, "time": time.strftime("%Y-%m-%dT%H:%M:%S"), **values}) + "\n"
        try:
            with open(self.folder / MANIFEST, "ab+") as file:
                file.seek(0, os.SEEK_END)
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":  # a line that a kill has cut off
                        line = "\n" + line
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ResourceError(f"{self.folder / MANIFEST} could not be written ({error.strerror}).") from error

    def note_what_was_done(self) -> None:
        """Add to the manifest the pairs that are done and whose line a kill has prevented."""
        last: dict[str, str] = {}
        for event in self.events():
            last[str(event.get("name"))] = str(event.get("event"))
        for name, word in last.items():
            if word == "running" and (self.result(name) / PAIR).is_file():
                self.log(DONE, name=name, noted_later=True)

    def events(self) -> list[dict[str, Any]]:
        """The manifest's lines; what a kill has cut off is left out."""
        found = []
        with suppress(OSError):
            for line in (self.folder / MANIFEST).read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError):
                    value = json.loads(line)
                    if isinstance(value, dict):
                        found.append(value)
        return found

    @contextmanager
    def locked(self, unlock: bool = False) -> Iterator[None]:
        """Only one command works on a study, and tidies up first; see `lock.locked`. Raises InputError."""
        with locked(self.folder, unlock):
            sweep([self.folder, self.folder / "pairs", self.folder / "failed"])
            yield


def check_place(out: str | os.PathLike) -> Path:
    """The absolute path of a new study: a new or empty folder, or one with `inputs` alone. Raises InputError."""
    folder = given_path(out, "--out").resolve()
    with suppress(OSError):
        if [each.name for each in folder.iterdir()] == [INPUTS]:
            return folder
    return check_folder(out, False)


def new_study(
    out: str | os.PathLike,
    pairs: Sequence[PlannedPair],
    settings: dict[str, RegistrationSettings],
    threads: int,
    report: bool,
) -> Study:
    """A study in a folder as `check_place` allows. Raises InputError, ResourceError."""
    folder = check_place(out)
    with_threads = {name: replace(each, threads=each.threads or threads) for name, each in settings.items()}
    study = Study(folder, tuple(pairs), with_threads, report)
    (folder / "pairs").mkdir(parents=True, exist_ok=True)
    study.save()
    return study


def inputs_of(pair: PlannedPair, known: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Size, time and SHA-256 of a pair's files, by column. known: of an earlier run; not read again where unchanged."""
    found = {}
    for column, path in pair.files.items():
        try:
            size, changed = _stat(Path(path))
        except OSError as error:
            found[column] = {"size": -1, "changed": 0, "sha256": f"missing: {error.strerror}"}
            continue
        earlier = (known or {}).get(column, {})
        same = (earlier.get("size"), earlier.get("changed")) == (size, changed)
        digest = earlier.get("sha256") if same else None
        found[column] = {"size": size, "changed": changed, "sha256": digest or _digest(Path(path))}
    return found


def fingerprint(settings: RegistrationSettings, inputs: dict[str, dict[str, Any]]) -> str:
    """What a result is of: the contents of the inputs, wherever they lie, and the settings."""
    content = {"settings": asdict(settings), "inputs": {name: each["sha256"] for name, each in sorted(inputs.items())}}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def remove_second(claim: FolderClaim) -> None:
    """Remove a result that found its place taken: by the same pair, from a worker that outlived its killed command."""
    if claim.written is not None and claim.written != claim.path:
        remove(claim.written)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """A JSON file, complete or not at all. Raises ResourceError."""
    with staged_file(path, final=False) as written:
        written.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _record(path: Path) -> dict[str, Any] | None:
    if not is_file(path):
        return None
    try:
        return read_json_object(path, path.name)
    except InputError:  # not ours any more: the pair runs again
        return None


def _stat(path: Path) -> tuple[int, int]:
    """Bytes and time (ns) of a file; of a folder, all its files' bytes and the newest time."""
    if not path.is_dir():
        known = path.stat()
        return known.st_size, known.st_mtime_ns
    all_known = [file.stat() for file in path.rglob("*") if file.is_file()]
    return sum(one.st_size for one in all_known), max((one.st_mtime_ns for one in all_known), default=0)


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            total.update(f"{file.relative_to(path).as_posix()}\n".encode(errors="replace"))
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                total.update(block)
    return total.hexdigest()
