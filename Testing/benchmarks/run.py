"""`make benchmark`: our method beside its peers on the benchmark cases, in a table.

    python Testing/benchmarks/run.py [--case lung,brain] [--peer ants,elastix] [--ours-only] [--peers-only] [--no-io]

Each method runs on files, as a process of its own, timed from start to exit; masks and labels are not given to it.
What it finds is judged by `judging.evaluate`. Peers' results are kept in `benchmark_cache/` by package version, machine
and what they were given; ours are measured each time. A method that fails is a row too. Everything measured so far
on this machine goes to `results.json` and, as tables, to `results.md` beside this file.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

from benchmarks.cases import (  # noqa: E402
    CASES,
    CUT_CASES,
    EXTRA_CASES,
    SHIFT_VOXELS,
    Case,
    load_case,
)
from benchmarks.judging import center_alignment, evaluate  # noqa: E402
from benchmarks.peers import PEERS, Peer, read_transform  # noqa: E402
from data_folder import MISSING, find_data_folder  # noqa: E402

OURS = "carlreg"
# The start and the network's refinement alone, without instance optimization.
OURS_NO_IO = "carlreg_no_io"
OUR_OPTIONS = {OURS: [], OURS_NO_IO: ["--io-steps", "0"]}
CUT = "%60"
TIME_LIMIT_S = 3600
# What decides each case, its unit and how it is written; the first that a case has.
DECIDING = (("map_mean_mm", "mm", "{:.2f}"), ("dice_mean", "Dice", "{:.3f}"), ("landmarks_mean_mm", "mm", "{:.2f}"))


def machine(threads: int) -> dict:
    """The computer in words, and how many threads each method may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    return {"cpu": name, "cores": os.cpu_count(), "threads": threads, "system": platform.platform(aliased=True)}


def fingerprint(*parts) -> str:
    """A short hash of texts, bytes and arrays."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            part = np.ascontiguousarray(part).tobytes()
        digest.update(part if isinstance(part, bytes) else str(part).encode())
    return digest.hexdigest()[:16]


def case_fingerprint(case: Case) -> str:
    """Changes when the volumes of a case do, or their geometry or truth."""
    parts = []
    for image in (case.fixed, case.moving):
        geometry = (image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
        parts += [np.round(np.concatenate(geometry), 6), sitk.GetArrayViewFromImage(image)]
    if case.landmarks_fixed_lps is not None:
        parts += [case.landmarks_fixed_lps, case.landmarks_moving_lps]
    return fingerprint(*parts)


def measure(command: list[str], folder: Path, threads: int, log: Path) -> dict:
    """Run a command on `threads` threads: exit_code, seconds, cpu_seconds, peak_gb, load_before (load average)."""
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    environment = os.environ | dict.fromkeys(variables, str(threads))
    report = folder / "measured.json"
    others = os.getloadavg()[0]
    probe = [sys.executable, "-S", str(HERE / "measure.py"), str(report), str(log), str(TIME_LIMIT_S)]
    subprocess.run(probe + command, check=True, env=environment, cwd=folder)  # some leave files where they run
    return json.loads(report.read_text()) | {"load_before": round(others, 2)}


def run_method(case: Case, command: Callable[[Path, Path, Path], list[str]], read, threads: int, log: Path) -> dict:
    """One method on one case, in a folder that goes away afterwards.

    command: (fixed file, moving file, output folder) -> arguments. read: output folder -> transform.
    Returns: what was measured, with the case's figures, or `failed` with the reason.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark_") as scratch:
        folder = Path(scratch)
        fixed_file, moving_file, out = folder / "fixed.nii.gz", folder / "moving.nii.gz", folder / "out"
        sitk.WriteImage(case.fixed, str(fixed_file))
        sitk.WriteImage(case.moving, str(moving_file))
        out.mkdir()
        row = measure(command(fixed_file, moving_file, out), folder, threads, log)
        if row["exit_code"] != 0:
            lines = log.read_text(errors="replace").strip().splitlines()
            return row | {"failed": lines[-1][:200] if lines else f"exit code {row['exit_code']}"}
        try:
            return row | evaluate(case, read(out))
        except (OSError, RuntimeError, ValueError) as error:
            return row | {"failed": f"no usable result: {error}"[:200]}


def run_peer(peer: Peer, case: Case, cache: Path, threads: int, again: bool) -> dict:
    """A peer's row, from the cache when it was measured before under the same conditions."""
    try:
        python = peer.environment(cache)
        version = peer.version(python)
    except subprocess.CalledProcessError as error:
        return {"failed": f"not installed: {error}"[:200]}
    here = machine(threads)
    key = fingerprint(json.dumps(here, sort_keys=True), version, peer.script.read_bytes(), case_fingerprint(case))
    kept = cache / "results" / f"{peer.name}_{case.name}_{key}.json"
    if kept.is_file() and not again:
        return json.loads(kept.read_text()) | {"cached": True}
    kept.parent.mkdir(parents=True, exist_ok=True)
    row = run_method(
        case,
        lambda fixed, moving, out: [str(python), str(peer.script), str(fixed), str(moving), str(out), str(threads)],
        read_transform,
        threads,
        kept.with_suffix(".log"),
    )
    row |= {"version": version, "date": today()}
    kept.write_text(json.dumps(row, indent=1))
    return row


def run_ours(
    method: str,
    case: Case,
    cache: Path,
    threads: int,
    options: list[str],
    judge: Callable[[Case, Path], dict] = lambda case, result: {},
) -> dict:
    """Our row: `carlreg register` with its defaults (and what the case and the method tell it).

    judge: (case, result folder) -> further figures.
    """

    def command(fixed: Path, moving: Path, out: Path) -> list[str]:
        told = [] if case.robustness == "translation" else ["--robustness", case.robustness]
        program = [sys.executable, "-m", "carlreg", "register", str(fixed), str(moving), "--out", str(out / "result")]
        return [*program, "--progress", "none", *told, *case.options, *OUR_OPTIONS[method], *options]

    log = cache / "results" / f"{method}_{case.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    extra = {}

    def read(out: Path) -> sitk.Transform:
        quality = json.loads((out / "result" / "quality.json").read_text())
        extra.update({key: quality[key] for key in ("start", "warnings", "stages") if key in quality})
        extra.update({key: value for key, value in quality.get("info", {}).items() if key == "deformation_start"})
        extra.update(judge(case, out / "result"))
        return sitk.ReadTransform(str(out / "result" / "transform.h5"))

    row = run_method(case, command, read, threads, log)
    return row | extra | {"version": our_version(), "date": today(), "options": options}


def our_version() -> str:
    """The engine's version, with the commit of the checkout where there is one."""
    code = "import carlreg; print(carlreg.__version__)"
    version = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ
    ).stdout.strip()
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return f"{version or '?'} ({head.stdout.strip() or 'no commit'})"


def today() -> str:
    return datetime.date.today().isoformat()


def read_results(file: Path, here: dict) -> dict:
    """What was measured on this machine so far: machine, date, versions, rows[case][method].

    The same processor, cores and threads under another system are the same machine: an update of the kernel between two
    rows is no reason to lose the first.
    """
    results = json.loads(file.read_text()) if file.is_file() else {}
    there = results.get("machine", {})
    if all(there.get(key) == here[key] for key in ("cpu", "cores", "threads")):
        return results
    return {"machine": here, "date": today(), "versions": {}, "rows": {}}


# --- the tables -----------------------------------------------------------------------------------------------------


def deciding(row: dict) -> tuple[str, str, str] | None:
    """The figure (key, unit, format) that decides a row."""
    return next((entry for entry in DECIDING if entry[0] in row), None)


def cell(row: dict | None) -> str:
    """A row's deciding figure, with the share of folds where there are any."""
    if row is None:
        return ""
    if "failed" in row:
        return "failed"
    key, _, form = deciding(row)
    folds = row.get("fold_percent", 0.0)
    return form.format(row[key]) + (f" ({folds:.2g} % folds)" if folds > 0 else "")


def busy(row: dict) -> bool:
    """True when the machine did other work as a row's run began (the benchmark's own last run counts for a while)."""
    return row.get("load_before", 99.0) > (os.cpu_count() or 1) + 0.5


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def as_markdown(results: dict) -> str:
    """The tables of `results.md` from everything measured."""
    methods = [OURS, OURS_NO_IO, *PEERS]
    titles = [OURS, f"{OURS}, no IO"] + [peer.title for peer in PEERS.values()]
    rows = results["rows"]
    names = [name for name in (*CASES, *EXTRA_CASES) if name in rows]
    accuracy, times, work, memory = [], [], [], []
    for name in names:
        row = rows[name]
        unit = deciding(row["before"])[1] if deciding(row["before"]) else ""
        accuracy.append([name, unit, cell(row["before"])] + [cell(row.get(method)) for method in methods])
        for figures, key, form in (
            (times, "seconds", "{:.0f}"),
            (work, "cpu_seconds", "{:.0f}"),
            (memory, "peak_gb", "{:.1f}"),
        ):
            values = [form.format(row[m][key]) if key in row.get(m, {}) else "" for m in methods]
            if key == "seconds":
                values = [v + "*" if v and busy(row[m]) else v for v, m in zip(values, methods, strict=True)]
            figures.append([name, *values])
    text = [
        "# Benchmark\n",
        f"{results['machine']['cpu']}, {results['machine']['threads']} threads; measured up to {results['date']} with "
        "`make benchmark`. Versions: " + ", ".join(f"{n} {v}" for n, v in results["versions"].items()) + ".\n",
        "Accuracy: mean landmark error, mean error of the known map, or mean Dice of the labels. Before: the images' "
        "middles aligned. Folds: share of the body's voxels whose determinant is not positive; none unless given.\n",
        table(["case", "unit", "before", *titles], accuracy),
        "Seconds of the whole process, reading and writing included (*: other work was going on, an upper bound):\n",
        table(["case", *titles], times),
        "Seconds of computing, summed over the cores:\n",
        table(["case", *titles], work),
        "Peak resident memory, GB:\n",
        table(["case", *titles], memory),
    ]
    for method, title in ((OURS, OURS), (OURS_NO_IO, titles[1])):
        shifted = shift_rows(rows, method)
        if shifted:
            text += [
                "Moving's content moved within its box by so many voxels along each axis longer than 100 voxels "
                f"({title}):\n",
                table(["case", "unit", *map(str, SHIFT_VOXELS), "largest change"], shifted),
            ]
    cut = [cut_row(name, method, rows) for name in CUT_CASES for method in (OURS, OURS_NO_IO)]
    if any(cut):
        text += [
            "Moving cut to 60 % of its longest axis, judged where both see it:\n",
            table(["case", "unit", "method", "whole", "cut", "change"], [row for row in cut if row]),
        ]
    failures = [
        f"- {name}, {method}: {row[method]['failed']}"
        for name, row in rows.items()
        for method in methods
        if "failed" in row.get(method, {})
    ]
    return "\n".join(text + (["Failures:\n", *failures, ""] if failures else []))


def cut_row(name: str, method: str, rows: dict) -> list[str] | None:
    """A case whole and cut, judged alike; None unless both were run."""
    whole, cut = (rows.get(f"{name}{CUT}{suffix}", {}).get(method) for suffix in ("u", ""))
    if not whole or not cut or "failed" in whole or "failed" in cut:
        return None
    key, unit, form = deciding(whole)
    return [name, unit, method, cell(whole), cell(cut), form.format(cut[key] - whole[key])]


def shift_rows(rows: dict, method: str) -> list[list[str]]:
    """One line per case that was run with its content shifted."""
    lines = []
    for name in CASES:
        found = {v: rows.get(f"{name}+{v}" if v else name, {}).get(method) for v in SHIFT_VOXELS}
        if not any(found[v] for v in SHIFT_VOXELS if v):
            continue
        good = {v: row for v, row in found.items() if row and "failed" not in row}
        change, unit = "", ""
        if 0 in good:
            key, unit, form = deciding(good[0])
            change = form.format(max(abs(row[key] - good[0][key]) for row in good.values()))
        lines.append([name, unit, *(cell(found[v]) for v in SHIFT_VOXELS), change])
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="all", help="names with commas; NAME+15, NAME%%60; all, shifts or cuts")
    parser.add_argument("--peer", default="all", help=f"names with commas: {', '.join(PEERS)}; or all, or none")
    parser.add_argument("--ours-only", action="store_true", help="no peers")
    parser.add_argument("--peers-only", action="store_true", help="not ours")
    parser.add_argument("--no-io", action="store_true", help="of ours only the run without instance optimization")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads for each method")
    parser.add_argument("--again", action="store_true", help="measure peers again, whatever is kept")
    parser.add_argument("--cache", type=Path, default=ROOT / "benchmark_cache")
    parser.add_argument("--results", type=Path, default=HERE / "results.json")
    parser.add_argument("--options", default="", help="further options for `carlreg register` (not the defaults then)")
    parser.add_argument("--table-only", action="store_true", help="write the tables again from what was measured")
    given = parser.parse_args()
    given.cache = given.cache.resolve()

    if find_data_folder() is None and not given.table_only:
        print(f"Nothing to do: {MISSING}.")
        return 0
    shifts = [f"{name}+{voxels}" for name in CASES for voxels in SHIFT_VOXELS if voxels]
    cuts = [f"{name}{CUT}{suffix}" for name in CUT_CASES for suffix in ("u", "")]
    chosen = {"all": list(CASES), "shifts": shifts, "cuts": cuts}.get(given.case) or given.case.split(",")
    peers = {"all": list(PEERS), "none": []}.get(given.peer)
    peers = given.peer.split(",") if peers is None else peers
    unknown = [p for p in peers if p not in PEERS] + [
        c for c in chosen if c.partition("%")[0].partition("+")[0] not in CASES + EXTRA_CASES
    ]
    if unknown:
        print(f"Unknown: {', '.join(unknown)}. Cases: {', '.join(CASES + EXTRA_CASES)}; peers: {', '.join(PEERS)}.")
        return 2

    here = machine(given.threads)
    results = read_results(given.results, here)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(ROOT / "CARLRegistration"), os.environ.get("PYTHONPATH")])
    )

    def note(name: str, method: str, row: dict) -> None:
        """Keep a row at once: a benchmark that is stopped has not been for nothing, nor one that runs beside it."""
        nonlocal results
        results = read_results(given.results, here)
        results["rows"].setdefault(name, {})[method] = row
        if "version" in row:
            results["versions"][method] = row["version"]
        results["date"] = today()
        given.results.write_text(json.dumps(results, indent=1))
        given.results.with_suffix(".md").write_text(as_markdown(results))
        cost = f"{row['seconds']:.0f} s, {row['peak_gb']:.1f} GB" if "seconds" in row else ""
        print(f"{name:18} {method:13} {cell(row):24} {cost} {row.get('failed', '')}", flush=True)

    if given.table_only:
        given.results.with_suffix(".md").write_text(as_markdown(results))
        return 0
    for name in chosen:
        case = load_case(name)
        note(name, "before", evaluate(case, center_alignment(case)))
        if not given.ours_only and not {"+", "%"} & set(name) and name not in EXTRA_CASES:
            for peer in peers:
                note(name, peer, run_peer(PEERS[peer], case, given.cache, given.threads, given.again))
        if not given.peers_only:
            for method in [OURS_NO_IO] if given.no_io else OUR_OPTIONS:
                note(name, method, run_ours(method, case, given.cache, given.threads, given.options.split()))
    print("\n" + as_markdown(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
