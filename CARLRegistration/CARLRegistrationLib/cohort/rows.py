"""What a study's files say of each pair, for the table: its plan, what is there, and the manifest's new lines."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from carlreg.cohort import Study
from carlreg.cohort.figures import figures_of
from carlreg.cohort.study import DONE, FAILED, MANIFEST, PAIR, PLANNED
from carlreg.errors import CarlError

from ..common.errors import RegistrationError
from .job import isStudy

RUNNING = "running"


@dataclass(frozen=True)
class PairRow:
    """state: planned, running, done or failed. likeness: local correlation after. reason: why it failed."""

    name: str
    state: str = PLANNED
    verdict: str = ""
    seconds: float | None = None
    likeness: float | None = None
    reason: str = ""


class StudyRows:
    """The pairs of a study, in the order of its plan; none as long as the folder holds no study.

    Args: folder: of the study.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.study: Study | None = None
        self.rows: dict[str, PairRow] = {}
        self._position = 0

    def update(self) -> list[str]:
        """Read what is new; names of the pairs that changed. Raises RegistrationError for a damaged study."""
        first = self.study is None
        if first:
            if not isStudy(self.folder):
                return []
            try:
                self.study = Study.read(self.folder)
            except CarlError as error:
                raise RegistrationError(str(error)) from error
            self.rows = {pair.name: PairRow(pair.name) for pair in self.study.pairs}
        changed: dict[str, None] = dict.fromkeys(self.rows) if first else {}
        for event in self._newEvents():
            name = str(event.get("name"))
            if name in self.rows:
                self.rows[name] = self._after(name, event)
                changed[name] = None
        if first:  # what the manifest does not tell
            self.rows |= {name: self._asFound(name) for name, row in self.rows.items() if row.state == PLANNED}
        return list(changed)

    def settle(self) -> list[str]:
        """Nothing runs any more: what was begun and has not ended is to be done again; names of these pairs."""
        begun = [name for name, row in self.rows.items() if row.state == RUNNING]
        for name in begun:
            self.rows[name] = self._asFound(name)
        return begun

    def _newEvents(self) -> list[dict]:
        """The manifest's lines since the last call; what a kill has cut off is left out."""
        try:
            with open(self.folder / MANIFEST, "rb") as file:
                file.seek(self._position)
                block = file.read()
        except OSError:  # nothing was begun yet
            return []
        whole = block.rfind(b"\n") + 1
        self._position += whole
        events = []
        for line in block[:whole].splitlines():
            with suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    events.append(event)
        return events

    def _after(self, name: str, event: dict) -> PairRow:
        """A pair's row after something has happened to it; one that was killed waits for another try."""
        word, figures = event.get("event"), event.get("figures")
        if word == DONE and figures and self._isDone(name):
            return _withFigures(PairRow(name, DONE, seconds=event.get("seconds")), figures)
        if word == DONE:  # noted after a kill, or its folder was removed since
            return self._asFound(name)
        if word == FAILED:
            return PairRow(name, FAILED, seconds=event.get("seconds"), reason=str(event.get("reason") or ""))
        return PairRow(name, RUNNING if word == RUNNING else PLANNED)

    def _asFound(self, name: str) -> PairRow:
        """What the pair's own files say."""
        if self._isDone(name):
            return _withFigures(PairRow(name, DONE), figures_of(_json(self._result(name) / "quality.json")))
        reason = _json(self.folder / "failed" / f"{name}.json").get("reason")
        return PairRow(name, FAILED, reason=str(reason)) if reason else PairRow(name)

    def _isDone(self, name: str) -> bool:
        return (self._result(name) / PAIR).is_file()

    def _result(self, name: str) -> Path:
        return self.folder / "pairs" / name


def _withFigures(row: PairRow, figures: dict) -> PairRow:
    return replace(row, verdict=str(figures.get("verdict") or ""), likeness=figures.get("lncc_after"))


def _json(path: Path) -> dict:
    """A file's object; empty when there is none."""
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


__all__ = ["RUNNING", "PairRow", "StudyRows"]
