"""Pairs per hour: `carlreg cohort` against a shell loop over `carlreg register`, on the same pairs in the same run.

    python Testing/benchmarks/cohort.py [--hippocampus 40] [--phantoms 20] [-- OPTIONS OF REGISTER]

Hippocampus: small MR crops of different persons with two labels, each onto the next one in the list. Phantoms: the
generated torso at 6 mm, its moving volume shifted in 20 ways. The loop has all threads for each pair, as the command
has by default. The figures go into `cohort.json` beside this file.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent), str(ROOT / "CARLRegistration")]

from benchmarks import run  # noqa: E402
from carlreg.phantom import make_pair  # noqa: E402
from data_folder import MISSING, find_data_folder  # noqa: E402


def hippocampus(count: int) -> list[dict[str, str]]:
    folder = find_data_folder()
    if folder is None:
        print(f"Hippocampus is left out: {MISSING}.")
        return []
    images = sorted(path for path in (folder / "hippocampus").glob("*.nii.gz") if "_seg" not in path.name)
    rows = []
    for number in range(count):
        step = 1 + number // len(images)
        fixed, moving = images[number % len(images)], images[(number + step) % len(images)]
        row = {"name": f"pair_{number:02d}", "fixed": str(fixed), "moving": str(moving)}
        for side, image in (("fixed", fixed), ("moving", moving)):
            row[f"{side}_labels"] = str(image).replace(".nii.gz", "_seg.nii.gz")
        rows.append(row)
    return rows


def phantoms(count: int, folder: Path) -> list[dict[str, str]]:
    pair = make_pair(spacing_mm=6.0)
    sitk.WriteImage(pair.fixed, str(folder / "fixed.nii.gz"))
    rows = []
    for number in range(count):
        moving = sitk.Image(pair.moving)
        moving.SetOrigin((np.array(moving.GetOrigin()) + np.random.default_rng(number).uniform(-40, 40, 3)).tolist())
        file = folder / f"moving_{number:02d}.nii.gz"
        sitk.WriteImage(moving, str(file))
        rows.append({"name": f"pair_{number:02d}", "fixed": str(folder / "fixed.nii.gz"), "moving": str(file)})
    return rows


def carlreg(*arguments: object) -> None:
    subprocess.run(
        [sys.executable, "-m", "carlreg", *map(str, arguments), "--progress", "none"],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def cpu_seconds() -> float:
    """Of all processes that were started from here and have ended, which says more than time on a busy machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(rows: list[dict[str, str]], options: list[str], folder: Path) -> dict[str, float]:
    with open(folder / "plan.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    begin, cpu = time.perf_counter(), cpu_seconds()
    carlreg("cohort", folder / "plan.csv", "--out", folder / "study", *options)
    cohort, cohort_cpu = time.perf_counter() - begin, cpu_seconds() - cpu
    begin, cpu = time.perf_counter(), cpu_seconds()
    for row in rows:
        files = [
            word
            for column, path in row.items()
            if column not in ("name", "fixed", "moving")
            for word in (f"--{column.replace('_', '-')}", path)
        ]
        carlreg("register", row["fixed"], row["moving"], "--out", folder / "loop" / row["name"], *files, *options)
    loop = time.perf_counter() - begin
    found = {"pairs": len(rows), "loop_seconds": loop, "cohort_seconds": cohort, "ratio": loop / cohort}
    found |= {"loop_cpu_seconds": cpu_seconds() - cpu, "cohort_cpu_seconds": cohort_cpu}
    found |= {"loop_per_hour": 3600 * len(rows) / loop, "cohort_per_hour": 3600 * len(rows) / cohort}
    with open(folder / "study" / "summary.csv", encoding="utf-8") as file:
        dice = [float(row["dice_after"]) for row in csv.DictReader(file) if row["dice_after"]]
    return found | ({"dice_mean": float(np.mean(dice)), "dice_least": min(dice)} if dice else {})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hippocampus", type=int, default=40)
    parser.add_argument("--phantoms", type=int, default=20)
    parser.add_argument("options", nargs="*", help="of register, after --")
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(ROOT / "CARLRegistration"), os.environ.get("PYTHONPATH")])
    )
    results = {"machine": run.machine(os.cpu_count()), "options": given.options, "load_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory(prefix="cohort_") as name:
        for kind, rows in (("hippocampus", hippocampus(given.hippocampus)), ("phantoms", [None] * given.phantoms)):
            folder = Path(name) / kind
            folder.mkdir()
            rows = phantoms(given.phantoms, folder) if kind == "phantoms" and rows else rows
            if rows:
                results[kind] = measured(rows, given.options, folder)
                print(kind, json.dumps(results[kind]), flush=True)
    (HERE / "cohort.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
