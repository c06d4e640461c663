"""Kill a cohort's processes at random moments and go on until it is done: every pair ends once, to the bit as if alone.

    python Testing/benchmarks/cohort_kills.py [--kills 20] [--workers 2 4] [--seed 0] [--template]

Pairs are the generated torso at 12 mm, shifted in ways of their own, registered rigidly. A kill (SIGKILL) hits one
worker, the process that feeds them, or all of them. Prints one line per kill and one per number of workers; exits with
1 when a pair is missing, differs, was done twice, or something is left over. --template: the same with a template of
the moving volumes, in two rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "CARLRegistration"))

from carlreg.phantom import make_pair  # noqa: E402

PAIRS, SPACING_MM = 6, 12.0
VOLUMES = ("warped.nii.gz", "jacobian.nii.gz")


def carlreg(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "carlreg", *map(str, arguments)]


def make_plan(folder: Path) -> Path:
    pair = make_pair(spacing_mm=SPACING_MM)
    sitk.WriteImage(pair.fixed, str(folder / "fixed.nii.gz"))
    lines = ["name,fixed,moving"]
    for number in range(PAIRS):
        moving = sitk.Image(pair.moving)
        origin = np.array(moving.GetOrigin()) + np.random.default_rng(number).uniform(-30, 30, 3)
        moving.SetOrigin(origin.tolist())
        sitk.WriteImage(moving, str(folder / f"moving_{number}.nii.gz"))
        lines.append(f"pair_{number},fixed.nii.gz,moving_{number}.nii.gz")
    (folder / "plan.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "plan.csv"


def children(pid: int) -> list[int]:
    """All processes below one, the nearest first."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            near = [int(word) for word in task.read_text().split()]
        except OSError:
            continue
        for child in near:
            found += [child, *children(child)]
    return found


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def kill(process: subprocess.Popen, what: str) -> tuple[int, str]:
    """Kill what is named; returns how many processes were hit, and which."""
    below = children(process.pid)
    feeder = [pid for pid in below if "carlreg.cli.worker" in command_of(pid)][:1]
    workers = [pid for pid in below if "spawn_main" in command_of(pid)]
    hit = {"worker": random.sample(workers, 1) if workers else feeder, "feeder": feeder, "all": [process.pid, *below]}[
        what
    ]
    for pid in hit:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(hit), f"{what} ({len(hit)} of {1 + len(below)} processes)"


def run_once(command: list[str], longest: float | None) -> tuple[int, bool]:
    """Run a command, killing some of it within `longest` seconds (None: not); its exit status, and whether that hit."""
    process, hit = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), False
    if longest is not None:
        wait = random.uniform(0.3, longest)
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            number, said = kill(process, random.choice(("worker", "feeder", "all")))
            hit = number > 0
            print(f"  killed after {wait:.1f} s: {said}", flush=True)
    return process.wait(), hit


def run_killed(study: Path, first: list[str], workers: int, kills: int, longest: float) -> None:
    """Start, kill at a random moment, go on, until so many kills have hit; done before that, all begins anew."""
    command, hits = first, 0
    again = [*carlreg("cohort", study, "--resume", "--retry-failed"), "--workers", str(workers)]
    while True:
        code, hit = run_once(command, longest if hits < kills else None)
        hits += hit
        if code == 0 and hits < kills:
            for victim in (study / "pairs").glob("pair_*"):
                subprocess.run(["rm", "-rf", str(victim)], check=True)
                with (study / "removed.txt").open("a") as file:
                    file.write(victim.name + "\n")
        elif code == 0:
            return
        command = again if (study / "study.json").exists() else first


def template_problems(folder: Path, alone: Path) -> list[str]:
    found = []
    files = {path.relative_to(alone) for path in alone.rglob("*") if path.is_file()}
    there = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    found += [f"missing: {name}" for name in sorted(files - there)] + [f"left over: {n}" for n in sorted(there - files)]
    for name in sorted(files & there):
        if name.suffix == ".h5":
            ours, theirs = (sitk.ReadTransform(str(place / name)).GetParameters() for place in (folder, alone))
        else:
            ours, theirs = ((place / name).read_bytes() for place in (folder, alone))
        found += [f"another {name}"] if ours != theirs else []
    return found + [f"left over: {path}" for path in folder.rglob(".*")]


def run_template_killed(folder: Path, command: list[str], kills: int, longest: float) -> None:
    """The same command until it is done, killed so many times at random moments; done before that, all begins anew."""
    hits = 0
    while True:
        code, hit = run_once(command, longest if hits < kills else None)
        hits += hit
        if code == 0:
            if hits >= kills:
                return
            shutil.rmtree(folder)


def kill_templates(folder: Path, options: tuple, workers: list[int], kills: int) -> bool:
    """Whether one of the templates differs from that of one process."""
    images = sorted(folder.glob("moving_*.nii.gz"))[:4]
    command = ("template", *images, "--rounds", 2, *options)
    begin = time.monotonic()
    alone = carlreg(*command, "--out", folder / "alone", "--workers", 1)
    subprocess.run(alone, check=True, stdout=subprocess.DEVNULL)
    longest, failed = time.monotonic() - begin, False
    for count in workers:
        out = folder / f"with_{count}"
        run_template_killed(out, carlreg(*command, "--out", out, "--workers", count), kills, longest)
        found = template_problems(out, folder / "alone")
        failed |= bool(found)
        said = "; ".join(found) or "the template of one process, to the bit"
        print(f"{count} workers, {kills} kills: {said}", flush=True)
    return failed


def problems(study: Path, alone: Path) -> list[str]:
    found = []
    for number in range(PAIRS):
        name = f"pair_{number}"
        there, expected = study / "pairs" / name, alone / "pairs" / name
        if not (there / "pair.json").is_file():
            found.append(f"{name} is missing")
            continue
        ours, theirs = (sitk.ReadTransform(str(each / "transform.h5")) for each in (there, expected))
        if ours.GetParameters() != theirs.GetParameters():
            found.append(f"{name}: another transform")
        found += [
            f"{name}: another {file}"
            for file in VOLUMES
            if (there / file).read_bytes() != (expected / file).read_bytes()
        ]
    removed = Counter((study / "removed.txt").read_text().split()) if (study / "removed.txt").exists() else Counter()
    events = [json.loads(line) for line in (study / "manifest.jsonl").read_text().splitlines() if line.endswith("}")]
    done = Counter(event["name"] for event in events if event["event"] == "done")
    found += [
        f"{name} was done {count} times, not {1 + removed[name]}"
        for name, count in done.items()
        if count != 1 + removed[name]
    ]
    known = {f"pair_{number}" for number in range(PAIRS)}
    found += [f"left over: {path.name}" for path in (study / "pairs").iterdir() if path.name not in known]
    found += [f"left over: {path.name}" for path in study.iterdir() if path.name.startswith(".")]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--template", action="store_true", help="of a template, not of a cohort")
    given = parser.parse_args()
    random.seed(given.seed)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(ROOT / "CARLRegistration"), os.environ.get("PYTHONPATH")])
    )
    failed = False
    with tempfile.TemporaryDirectory(prefix="cohort_") as name:
        folder = Path(name)
        plan = make_plan(folder)
        options = ("--transform", "rigid", "--threads", 1, "--progress", "none")
        if given.template:
            return int(kill_templates(folder, options, given.workers, given.kills))
        begin = time.monotonic()
        subprocess.run(
            carlreg("cohort", plan, "--out", folder / "alone", "--workers", 1, *options),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        longest = time.monotonic() - begin
        for workers in given.workers:
            study = folder / f"with_{workers}"
            first = carlreg("cohort", plan, "--out", study, "--workers", workers, *options)
            run_killed(study, first, workers, given.kills, longest)
            found = problems(study, folder / "alone")
            failed |= bool(found)
            print(
                f"{workers} workers, {given.kills} kills: {'; '.join(found) or f'all {PAIRS} pairs once, to the bit'}",
                flush=True,
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
