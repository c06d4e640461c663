"""Fuzzes every reader of the engine: `make fuzz SECONDS=600`, or `python Testing/fuzz/campaign.py --help`.

The time is shared out among the readers. Prints what each did with its damaged inputs; exit code 1 after any raw
exception, crash, hang, absurd result, or peak of memory above the limit. The inputs that did it are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
ENGINE = TESTING.parent / "CARLRegistration"
sys.path[:0] = [str(TESTING), str(ENGINE)]

from fuzz.counts import read_counts  # noqa: E402
from fuzz.readers import ACCEPTED, READERS, REFUSED  # noqa: E402

HANG_SECONDS, MOST_MEGABYTES = 30, 2048
# libFuzzer's exit codes.
_TIMEOUT, _MEMORY = 70, 71


@dataclass
class Outcome:
    """What a reader did with its damaged inputs."""

    counts: dict[str, int] = field(default_factory=dict)
    crashes: int = 0
    hangs: int = 0
    memory: int = 0
    peak_mb: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def bad(self) -> int:
        counted = self.counts.get("raw", 0) + self.counts.get("absurd", 0)
        return counted + self.crashes + self.hangs + self.memory


def fuzz(name: str, seconds: float, runs: int, seed: int, keep: Path) -> Outcome:
    """Fuzz one reader for some seconds (0: no limit) and inputs (0: no limit), going on after each crash."""
    outcome, end, tries = Outcome(), time.monotonic() + (seconds or 1e9), 0
    while time.monotonic() < end and tries < 20 and (not runs or outcome.counts.get("inputs", 0) < runs):
        tries += 1
        counts, folder = keep / f"{name}.counts", Path(tempfile.mkdtemp(prefix="fuzz.")) / "input"
        limits = [f"-timeout={HANG_SECONDS}", f"-rss_limit_mb={MOST_MEGABYTES}", f"-artifact_prefix={folder.parent}/"]
        limits += [f"-seed={seed + tries}", "-max_len=1048576", "-len_control=0"]
        if seconds:
            limits.append(f"-max_total_time={max(1, round(end - time.monotonic()))}")
        if runs:
            limits.append(f"-runs={runs - outcome.counts.get('inputs', 0)}")
        command = [sys.executable, "-m", "fuzz.target", name, str(counts), str(folder), *limits]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTING), str(ENGINE)])}
        with (keep / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
            _, status, used = os.wait4(process.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        outcome.peak_mb = max(outcome.peak_mb, used.ru_maxrss / 1024)
        for key, value in read_counts(counts).items():
            outcome.counts[key] = outcome.counts.get(key, 0) + value
        if code:
            kind = {_TIMEOUT: "hangs", _MEMORY: "memory"}.get(code, "crashes")
            setattr(outcome, kind, getattr(outcome, kind) + 1)
            kept = keep / f"{name}.{kind}{tries}"
            if folder.exists():
                shutil.copytree(folder, kept, dirs_exist_ok=True)
            outcome.faults.append(f"{kind} (exit code {code}), input in {kept}")
            if not outcome.counts.get("inputs"):
                outcome.faults.append((keep / f"{name}.log").read_text(errors="replace")[-2000:])
                break
        shutil.rmtree(folder.parent, ignore_errors=True)
    found = keep / f"{name}.jsonl"
    if found.exists():
        entries = [json.loads(line) for line in found.read_text().splitlines()]
        outcome.faults += [f"{entry['where']}: {entry['what']} ({keep / entry['kept']})" for entry in entries]
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=float, default=600, help="for all readers together (%(default)g; 0: no limit)"
    )
    parser.add_argument("--runs", type=int, default=0, help="inputs for each reader; 0: no limit")
    parser.add_argument("--reader", action="append", choices=sorted(READERS), help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for inputs that fail; default: a temporary one")
    args = parser.parse_args()
    keep = args.keep or Path(tempfile.mkdtemp(prefix="carlreg-fuzz."))
    keep.mkdir(parents=True, exist_ok=True)
    names = args.reader or list(READERS)
    columns = ("inputs", REFUSED, ACCEPTED, "raw", "absurd")
    print(f"{'reader':18}", *(f"{column:>9}" for column in (*columns, "crashes", "hangs", "memory", "peak MB")))
    total, faults = Outcome(), []
    for name in names:
        outcome = fuzz(name, args.seconds / len(names), args.runs, args.seed, keep)
        _row(name, outcome, columns)
        faults += [f"{name}: {fault}" for fault in outcome.faults]
        for key, value in outcome.counts.items():
            total.counts[key] = total.counts.get(key, 0) + value
        total.crashes, total.hangs = total.crashes + outcome.crashes, total.hangs + outcome.hangs
        total.memory, total.peak_mb = total.memory + outcome.memory, max(total.peak_mb, outcome.peak_mb)
    _row("all", total, columns)
    print("\n".join(faults))
    return 1 if total.bad or faults else 0


def _row(name: str, outcome: Outcome, columns: tuple[str, ...]) -> None:
    numbers = [outcome.counts.get(column, 0) for column in columns]
    numbers += [outcome.crashes, outcome.hangs, outcome.memory, round(outcome.peak_mb)]
    print(f"{name:18}", *(f"{number:9d}" for number in numbers), flush=True)


if __name__ == "__main__":
    sys.exit(main())
