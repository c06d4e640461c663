"""`make benchmark FAMILY=1`: the networks of the catalog beside each other, from the same starts, in tables.

    python Testing/benchmarks/family.py [--model carl-compact,eoir] [--case lung,brain+15] [--io no]

Each model registers each case as `carlreg register --model NAME` does, without and with instance optimization: the
pairs, the pairs with the moving content shifted, and the lungs turned (in rotation mode). A row is kept as soon as it
is measured, in `family.json`, and not measured again, so the table can be made in pieces; `family.md` shows what there
is. Models without weights are left out, unless `--weights NAME=FILE` gives some.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent), str(ROOT / "CARLRegistration")]

from benchmarks import run  # noqa: E402
from benchmarks.cases import CASES, SHIFT_VOXELS, Case, load_case  # noqa: E402
from benchmarks.judging import center_alignment, evaluate, inverse_error_mm  # noqa: E402
from carlreg.models.catalog import MODELS  # noqa: E402
from data_folder import MISSING, find_data_folder  # noqa: E402

FAMILY = ("carl-compact", "carl-compact-rotation", "gradicon-compact", "eoir", "constricon", "nephi")
PAIRS = ("lung", "brain", "eth19_1_6", "abdomen_40")
TURNED = ("lung_rot30", "lung_rot90", "lung_rot180")
SHIFTED = tuple(f"{name}+{voxels}" for name in PAIRS for voxels in SHIFT_VOXELS if voxels)
METHODS = {"no": run.OURS_NO_IO, "yes": run.OURS}
TITLES = {run.OURS_NO_IO: "without instance optimization", run.OURS: "with instance optimization"}


@dataclass(frozen=True)
class Task:
    """One row to be measured. method: of `run.OUR_OPTIONS`."""

    case: str
    method: str
    model: str


def tasks(models: list[str], cases: list[str], methods: list[str]) -> Iterator[Task]:
    """Case by case, so that each is loaded once; what is quick comes first."""
    for method in methods:
        for case in cases:
            for model in models:
                yield Task(case, method, model)


def row_of(results: dict, task: Task) -> dict | None:
    """What was measured of a task; None when nothing was."""
    return results["rows"].get(task.case, {}).get(task.method, {}).get(task.model)


def measured(task: Task, case: Case, weights: dict[str, str], cache: Path, threads: int) -> dict:
    """The row of a task: what `run.run_ours` measures, and `inverse_error_mm`."""
    options = ["--model", task.model]
    if task.model in weights:
        options += ["--weights", weights[task.model]]
    row = run.run_ours(task.method, case, cache, threads, options, _round_trip)
    return row | {"options": ["--model", task.model]}  # no folders of this machine


def _round_trip(case: Case, result: Path) -> dict:
    forward, inverse = (sitk.ReadTransform(str(result / f"{name}.h5")) for name in ("transform", "inverse_transform"))
    return {"inverse_error_mm": inverse_error_mm(case, forward, inverse)}


# --- the tables -----------------------------------------------------------------------------------------------------


def as_markdown(results: dict) -> str:
    """`family.md` from everything measured; models and cases without a row are left out."""
    rows = results["rows"]
    there = {model for of_case in rows.values() for method in TITLES for model in of_case.get(method, {})}
    models = [name for name in FAMILY if name in there] + sorted(there - set(FAMILY))
    text = [
        "# The networks beside each other\n",
        f"{results['machine']['cpu']}, {results['machine']['threads']} threads; measured up to {results['date']} with "
        "`make benchmark FAMILY=1`. All models have the same affine starts; the turned lungs are registered in "
        "rotation mode.\n",
        "Accuracy: mean landmark error, mean error of the known map, or mean Dice of the labels. Before: the images' "
        "middles aligned. Folds: share of the body's voxels whose determinant is not positive; none unless given.\n",
    ]
    for method, title in TITLES.items():
        figures = {
            f"Accuracy, {title}:\n": run.cell,
            f"Error of the inverse, mm, {title}:\n": lambda row: _number(row, "inverse_error_mm", "{:.4f}"),
            f"CPU seconds of the whole process, {title} (*: beside other work, up to double):\n": _seconds,
            f"Peak resident memory, GB, {title}:\n": lambda row: _number(row, "peak_gb", "{:.1f}"),
        }
        for heading, cell in figures.items():
            table = _by_case(rows, method, models, cell, before=cell is run.cell)
            text += [heading, table] if table else []
        table = _by_shift(rows, method, models)
        if table:
            text += [f"Moving's content moved by so many voxels along each axis longer than 100, {title}:\n", table]
    failures = [
        f"- {case}, {model}, {TITLES[method]}: {row['failed']}"
        for case, of_case in rows.items()
        for method in TITLES
        for model, row in of_case.get(method, {}).items()
        if "failed" in row
    ]
    return "\n".join(text + (["Failures:\n", *failures, ""] if failures else []))


def _by_case(rows: dict, method: str, models: list[str], cell, before: bool) -> str:
    lines = []
    for name in (*PAIRS, *TURNED, *(case for case in CASES if case not in PAIRS + TURNED)):
        of_case = rows.get(name, {})
        found = of_case.get(method, {})
        if not found:
            continue
        start = of_case.get("before", {})
        unit = (run.deciding(start) or ("", "", ""))[1]
        first = [name, unit, run.cell(start) if start else ""] if before else [name]
        lines.append([*first, *(cell(found[model]) if model in found else "" for model in models)])
    return run.table([*(["case", "unit", "before"] if before else ["case"]), *models], lines) if lines else ""


def _by_shift(rows: dict, method: str, models: list[str]) -> str:
    """One line for each pair and model that was run with its content shifted."""
    lines = []
    for name in PAIRS:
        for model in models:
            by_model = {case: {method: row} for case in rows if (row := rows[case].get(method, {}).get(model))}
            lines += [[line[0], model, *line[1:]] for line in run.shift_rows(by_model, method) if line[0] == name]
    header = ["case", "model", "unit", *map(str, SHIFT_VOXELS), "largest change"]
    return run.table(header, lines) if lines else ""


def _number(row: dict, key: str, form: str) -> str:
    return form.format(row[key]) if key in row else ""


def _seconds(row: dict) -> str:
    return _number(row, "cpu_seconds", "{:.0f}") + ("*" if "cpu_seconds" in row and run.busy(row) else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="all", help=f"names with commas (all: {', '.join(FAMILY)})")
    parser.add_argument("--case", default="all", help="with commas: names, NAME+15, all, pairs, shifts, turns")
    parser.add_argument("--io", choices=("no", "yes", "both"), default="both", help="instance optimization")
    parser.add_argument(
        "--weights", action="append", default=[], metavar="NAME=FILE", help="a model's, instead of its own"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads for each run")
    parser.add_argument("--again", action="store_true", help="measure what was measured before, too")
    parser.add_argument("--left", action="store_true", help="only list what is not measured yet")
    parser.add_argument("--cache", type=Path, default=ROOT / "benchmark_cache", help="for the logs")
    parser.add_argument("--results", type=Path, default=HERE / "family.json")
    parser.add_argument("--table-only", action="store_true", help="write the tables again from what was measured")
    given = parser.parse_args()

    here = run.machine(given.threads)
    results = run.read_results(given.results, here)
    if given.table_only:
        stored = json.loads(given.results.read_text())
        given.results.with_suffix(".md").write_text(as_markdown(stored))
        return 0
    if find_data_folder() is None:
        print(f"Nothing to do: {MISSING}.")
        return 0
    weights = {name: os.path.abspath(file) for name, _, file in (one.partition("=") for one in given.weights)}
    models = list(FAMILY) if given.model == "all" else given.model.split(",")
    groups = {"all": (*PAIRS, *TURNED, *SHIFTED), "pairs": PAIRS, "shifts": SHIFTED, "turns": TURNED}
    cases = [case for name in given.case.split(",") for case in groups.get(name, (name,))]
    unknown = [name for name in [*models, *weights] if name not in MODELS and given.model != "all"]
    unknown += [case for case in cases if case.partition("+")[0] not in CASES]
    if unknown:
        print(f"Unknown: {', '.join(unknown)}. Models: {', '.join(MODELS)}; cases: {', '.join(CASES)}.")
        return 2
    lacking = [name for name in models if name not in weights and not (name in MODELS and MODELS[name].shipped)]
    if lacking:
        print(f"Left out, for want of weights: {', '.join(lacking)}.")
    methods = [METHODS[io] for io in (("no", "yes") if given.io == "both" else (given.io,))]
    todo = [
        task
        for task in tasks([name for name in models if name not in lacking], cases, methods)
        if given.again or row_of(results, task) is None
    ]
    if given.left:
        print("\n".join(f"{task.case:16} {task.method:14} {task.model}" for task in todo) or "Nothing is left.")
        return 0
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(ROOT / "CARLRegistration"), os.environ.get("PYTHONPATH")])
    )
    case = None
    for task in todo:
        if case is None or case.name != task.case:
            case = load_case(task.case)
        row = measured(task, case, weights, given.cache.resolve(), given.threads)
        keep(given.results, here, task, case, row)
        cost = f"{row['seconds']:.0f} s, {row['peak_gb']:.1f} GB" if "seconds" in row else ""
        print(
            f"{task.case:16} {task.method:14} {task.model:22} {run.cell(row):24} {cost} {row.get('failed', '')}",
            flush=True,
        )
    print(f"{len(todo)} rows measured; the tables are in {given.results.with_suffix('.md')}.")
    return 0


def keep(file: Path, here: dict, task: Task, case: Case, row: dict) -> None:
    """Note a row at once, beside what another process has noted meanwhile."""
    results = run.read_results(file, here)
    of_case = results["rows"].setdefault(task.case, {})
    if "before" not in of_case:
        of_case["before"] = evaluate(case, center_alignment(case))
    of_case.setdefault(task.method, {})[task.model] = row
    results["date"] = run.today()
    file.write_text(json.dumps(results, indent=1))
    file.with_suffix(".md").write_text(as_markdown(results))


if __name__ == "__main__":
    raise SystemExit(main())
