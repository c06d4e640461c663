"""One fuzz target in one process: `python -m fuzz.target READER COUNTS FOLDER [libFuzzer options]`.

Atheris chooses the damage, led by which lines of the engine it reaches. A raw exception or an absurd result is counted
and written down, and the run goes on; a crash, a hang or too much memory ends the process, and the input that did it is
what lies in FOLDER.
"""

from __future__ import annotations

import importlib
import json
import random
import shutil
import sys
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["carlreg"]):
    for _name in ("formats.applying", "formats.reading", "formats.surfaces", "training.settings", "volumes"):
        importlib.import_module(f"carlreg.{_name}")

from .counts import Counts
from .forked import use_forks
from .mutate import mutated
from .readers import READERS, Absurd, Reader


def where(error: BaseException) -> str:
    """The last line of the engine that an exception passed, and its kind: what tells one fault from another."""
    lines = [
        f"{Path(step.filename).name}:{step.lineno}"
        for step in traceback.extract_tb(error.__traceback__)
        if "carlreg" in step.filename or "fuzz" in step.filename
    ]
    return f"{type(error).__name__} at {lines[-1] if lines else '?'}"


def main() -> None:
    name, counts_file, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    reader, counts, found = READERS[name], Counts(counts_file), counts_file.with_suffix(".jsonl")
    known: set[str] = set()
    use_forks()

    def one_input(data: bytes) -> None:
        variant, content = (data[0], data[1:]) if data else (0, b"")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        counts.add("inputs")
        try:
            counts.add(reader.attempt(content, variant, folder))
        except Exception as error:
            counts.add("absurd" if isinstance(error, Absurd) else "raw")
            if where(error) not in known:
                known.add(where(error))
                kept = counts_file.with_name(f"{name}.{len(known)}")
                shutil.copytree(folder, kept, dirs_exist_ok=True)
                with found.open("a") as file:
                    file.write(json.dumps({"where": where(error), "what": str(error)[:300], "kept": kept.name}) + "\n")

    atheris.Setup([sys.argv[0], *sys.argv[4:]], one_input, custom_mutator=_mutator(reader))
    atheris.Fuzz()


def _mutator(reader: Reader):
    """Our own damage to a right file two times in three; else more of it to what the fuzzing engine found telling."""

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        choice = random.Random(seed)
        variant = choice.randrange(len(reader.variants))
        if choice.randrange(3) or len(data) < 2:
            data = bytes([variant]) + reader.variants[variant][reader.damaged]
        if not choice.randrange(8):
            return bytes(atheris.Mutate(data, max_size))
        return (data[:1] + mutated(data[1:], choice.randrange))[:max_size]

    return mutator


if __name__ == "__main__":
    main()
