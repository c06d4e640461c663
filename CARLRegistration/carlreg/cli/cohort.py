"""`carlreg cohort PLAN.csv --out STUDY`, and going on with it."""

from __future__ import annotations

import argparse
import copy
import os
from dataclasses import replace
from pathlib import Path

from ..atomic import cleaner
from ..cohort import PlannedPair, Study, read_plan, to_one_fixed
from ..cohort.bids import TARGETS, from_bids
from ..cohort.export import KINDS, write_export
from ..cohort.study import CHANGED, DONE, FAILED, STUDY, check_place, new_study
from ..errors import CarlError, InputError
from ..paths import given_path
from ..progress import Progress, ProgressRecord
from ..settings import RegistrationSettings
from ..text_files import is_file
from .console import Display
from .options import (
    SETTING_OPTIONS,
    add_control_options,
    add_registration_options,
    add_unlock_option,
    check_workers,
    settings_from,
)
from .supervisor import StopPolicy

NAME = "cohort"
HELP = "Register many pairs, several at once; go on after a stop, and see all in one table."
EPILOG = (
    "PLAN: a table (CSV) with the columns fixed and moving, and any of name, fixed_mask, moving_mask, fixed_labels, "
    "moving_labels, landmarks, initial_transform, settings and others; paths relative to its folder. STUDY gets a "
    "folder with the result of each pair in pairs/, summary.csv and summary.html. Killed at any moment, "
    "`carlreg cohort STUDY --resume` goes on."
)
STOP_POLICY = StopPolicy(
    grace_seconds=10.0,
    kept="pairs that are done are kept, --resume goes on",
    memory_remedy="Choose fewer --workers, or a smaller --grid.",
)
_AFTER = ("summary", "mean", "derivatives", "export", "pair")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plan", metavar="PLAN", nargs="?", help="a table of pairs, or STUDY to go on with")
    parser.add_argument("--out", metavar="STUDY", help="folder of a new cohort; with --resume also of an earlier one")
    group = parser.add_argument_group("instead of a table")
    group.add_argument("--fixed", metavar="IMAGE", help="the image that all others are brought onto")
    group.add_argument("--moving", metavar="IMAGE", nargs="+", help="images, or patterns such as 'sub-*/anat/*.nii.gz'")
    group.add_argument("--bids", metavar="DIR", help="a BIDS folder")
    group.add_argument("--suffix", default="T1w", help="of its images (%(default)s)")
    group.add_argument(
        "--to",
        choices=TARGETS,
        default="template",
        help="template: all images onto --fixed; session: each subject's later sessions onto its first (%(default)s)",
    )
    group = parser.add_argument_group("going on")
    group.add_argument(
        "--resume", action="store_true", help="do what is not done; what has other inputs or settings now is done again"
    )
    group.add_argument("--retry-failed", action="store_true", help="with --resume: also what has failed")
    add_unlock_option(group)
    group = parser.add_argument_group("at once")
    group.add_argument("--workers", type=int, metavar="N", help="pairs at once (default: as cores and memory allow)")
    group.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that is there, tcp://...:8786")
    group.add_argument("--export", choices=KINDS, help="run nothing; write a file with which that program does")
    group = parser.add_argument_group("what comes of it")
    group.add_argument("--report", action="store_true", help="a report.html for each pair")
    group.add_argument("--mean", action="store_true", help="also mean.nii.gz and mean_jacobian.nii.gz of all")
    group.add_argument("--derivatives", action="store_true", help="also a folder of BIDS derivatives")
    group.add_argument("--summary", action="store_true", help="of STUDY: run nothing; write the summary anew")
    group.add_argument("--pair", metavar="NAME", help="of STUDY: run this pair alone (or #N, the plan's, from #0)")
    add_registration_options(parser)
    add_control_options(parser)


def check(args: argparse.Namespace):
    check_workers(args.workers)
    if args.retry_failed and not args.resume:
        raise InputError("retry failed: expected --resume with it, which goes on with a cohort; got it alone.")
    folder = _study_folder(args)
    if folder is not None:
        Study.read(folder)
        _refuse_with_a_study(args)
        return cleaner(folder / "pairs", folder / "failed")
    planned(args)
    settings_from(args)
    if args.out is None:
        raise InputError("out: expected --out STUDY, the folder of the cohort; got none.")
    if args.pair or args.summary:
        raise InputError("pair, summary: expected the folder of a cohort in the place of PLAN; got another.")
    out = given_path(args.out, "--out").resolve()
    if is_file(out / STUDY):
        if not args.resume:
            raise InputError(
                f"{out}: it holds a cohort already. Add --resume to go on with it (what has other inputs or settings "
                "now is done again), or choose another --out."
            )
    elif args.resume:
        raise InputError(f"resume: expected the folder of a cohort; {out} is none. Leave --resume out to begin one.")
    else:
        check_place(out)
    return cleaner(out / "pairs", out / "failed")


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    folder = _study_folder(args)
    if args.pair is not None and folder is not None:
        _one_pair(Study.read(folder), args.pair, progress, display)
        return
    study = _planned_study(args) if folder is None else Study.read(folder)
    with study.locked(args.unlock):
        if folder is None:  # not before the lock: the workers of another command read this file
            study.save()
        if args.export is not None:
            written = write_export(study, args.export, _largest_need(study))
            display.result(f"wrote {written}")
            return
        nothing_to_run = folder is not None and not args.resume
        failed = [] if nothing_to_run else _run_pairs(study, args, progress, display)
        _after(study, args, progress, display)
    if failed:
        raise CarlError(
            f"{len(failed)} of {len(study.pairs)} pairs failed: {_some(failed)}. "
            f"summary.html in {study.folder} says why; --resume --retry-failed tries them again."
        )


def planned(args: argparse.Namespace) -> list[PlannedPair]:
    """The pairs that the options name. Raises InputError."""
    ways = [args.plan is not None, args.moving is not None, args.bids is not None]
    if sum(ways) != 1:
        raise InputError(
            "cohort: expected one of PLAN.csv, --fixed with --moving, or --bids; got "
            f"{'none' if not any(ways) else 'several'}."
        )
    if args.plan is not None:
        if args.fixed is not None:
            raise InputError("fixed: expected --moving or --bids with it; PLAN names the fixed images itself.")
        return read_plan(args.plan)
    if args.bids is not None:
        return from_bids(args.bids, args.suffix, args.to, args.fixed)
    if args.fixed is None:
        raise InputError("moving: expected --fixed too, the image that they are brought onto; got none.")
    return to_one_fixed(args.fixed, args.moving)


def _study_folder(args: argparse.Namespace) -> Path | None:
    """The folder given in the place of a plan, or None."""
    if args.plan is None:
        return None
    path = given_path(args.plan, "plan").resolve()
    return path if path.is_dir() else None


def _refuse_with_a_study(args: argparse.Namespace) -> None:
    """A study has its pairs and settings; options that would change them are not left aside in silence."""
    given = [SETTING_OPTIONS[name].flag for name in SETTING_OPTIONS if hasattr(args, name)]
    given += [f"--{name}" for name in ("out", "fixed", "moving", "bids", "settings") if getattr(args, name) is not None]
    given += ["--report"] if args.report else []
    if given:
        raise InputError(
            f"{', '.join(given)}: expected with a plan; the cohort has its own. Give the plan again, with --out "
            "STUDY --resume, to change it."
        )
    if not (args.resume or any(getattr(args, name) for name in _AFTER)):
        raise InputError(f"{args.plan}: it is a cohort's folder. Add --resume to go on with it, or --summary.")


def _planned_study(args: argparse.Namespace) -> Study:
    """A new study, or an earlier one with what its plan says now."""
    from ..cohort.pool import cores, cuda_devices, workers_that_fit
    from ..volumes import available_memory_mb

    pairs = planned(args)
    settings = {pair.name: _settings_of(pair, args) for pair in pairs}
    out = given_path(args.out, "--out").resolve()
    earlier = Study.read(out) if is_file(out / STUDY) else None
    if earlier is not None:
        filled = {name: replace(each, threads=each.threads or earlier.threads) for name, each in settings.items()}
        return Study(out, tuple(pairs), filled, args.report or earlier.report)
    draft = Study(out, tuple(pairs), settings)
    most = args.workers or workers_that_fit(1, _largest_need(draft), available_memory_mb(), len(cuda_devices()))
    threads = max(1, cores() // min(most, len(pairs)))
    return new_study(args.out, pairs, settings, threads, args.report)


def _settings_of(pair: PlannedPair, args: argparse.Namespace) -> RegistrationSettings:
    """The options, over the pair's own file of settings, over that of --settings."""
    given = copy.copy(args)
    given.settings = pair.files.get("settings", args.settings)
    settings = settings_from(given)
    weights = None if settings.weights is None else os.path.abspath(settings.weights)
    return replace(settings, weights=weights)


def _largest_need(study: Study) -> float:
    from ..cohort.running import needs_mb

    return max(needs_mb(study, pair) for pair in study.pairs)


def _run_pairs(study: Study, args: argparse.Namespace, progress: Progress, display: Display) -> list[str]:
    """Run what is to be run; returns the names of all that are failed afterwards."""
    from ..cohort.pool import open_pool
    from ..cohort.running import Pairs, run_jobs
    from .cohort_pair import run_on_worker

    study.require_files()
    study.note_what_was_done()
    states = {name: state.word for name, state in study.states().items()}
    skipped = {DONE} if args.retry_failed else {DONE, FAILED}
    names = [name for name, word in states.items() if word not in skipped]
    words = list(states.values())
    told = [f"{len(names)} of {len(words)} pairs to run"]
    told += [
        f"{words.count(word)} {text}"
        for word, text in ((DONE, "done before"), (CHANGED, "of them changed"), (FAILED, "failed before"))
        if word in words
    ]
    progress.report(ProgressRecord("plan", 0.0, None, ", ".join(told)))
    if names:
        with (
            progress.stage("register"),
            open_pool(study.threads, args.scheduler, args.workers, _largest_need(study), len(names)) as workers,
        ):
            progress.report(
                ProgressRecord("register", 0.0, None, f"{workers.most} at once, {study.threads} threads each")
            )
            run_jobs(Pairs(study), names, run_on_worker, workers, progress, progress.warn)
    return [name for name, state in study.states().items() if state.word == FAILED]


def _after(study: Study, args: argparse.Namespace, progress: Progress, display: Display) -> None:
    """Summary, mean and derivatives of what is done."""
    from ..cohort.derivatives import write_derivatives
    from ..cohort.mean import write_mean
    from ..cohort.summary import write_summary

    rows = write_summary(study)
    counts = {word: sum(row.state == word for row in rows) for word in (DONE, FAILED)}
    lines = [f"{counts[DONE]} of {len(rows)} pairs done, {counts[FAILED]} failed"]
    if args.mean:
        with progress.stage("mean"):
            lines.append(f"mean image and volume change of {write_mean(study, progress)} pairs")
    if args.derivatives:
        lines.append(f"BIDS derivatives of {write_derivatives(study)} pairs")
    outliers = [row.name for row in rows if row.outlier_of]
    if outliers:
        lines.append(f"far from the others: {_some(outliers)}")
    progress.report(ProgressRecord("done", 1.0, 0.0, lines[0]))
    display.result("\n".join([*lines, f"see {study.folder / 'summary.html'}"]))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")


def _one_pair(study: Study, which: str, progress: Progress, display: Display) -> None:
    """Run one pair in this process, as a job of another scheduler does; nothing when it is done already."""
    from ..cohort.running import MEMORY, STOP
    from .cohort_pair import run_pair

    # Patients are often called by numbers: only # makes a place in the plan of one, which no name has.
    place = which[1:] if which.startswith("#") else ""
    known = place.isdecimal() and int(place) < len(study.pairs)
    pair = study.pairs[int(place)] if known else study.pair(which)
    name = pair.name
    if study.state(pair).word == DONE:
        display.result(f"{name} is done already")
        return
    study.log("running", name=name)
    outcome = run_pair(study, name, progress)
    if outcome.word == DONE:
        study.cleared(pair)
        study.log(DONE, name=name, **outcome.values)
        display.result(f"{name}: done, in {study.result(name)}")
        return
    if outcome.word not in (STOP, MEMORY):  # of this machine, at this moment
        study.failed(pair, outcome.reason, outcome.values)
    study.log(FAILED, name=name, reason=outcome.reason, **outcome.values)
    raise CarlError(f"{name}: {outcome.reason}")
