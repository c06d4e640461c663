"""`carlreg template IMAGES --out DIR`."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace

from ..atomic import cleaner
from ..errors import InputError
from ..paths import given_path
from ..progress import Progress, ProgressRecord
from .console import Display
from .options import add_control_options, add_registration_options, add_unlock_option, check_workers, settings_from
from .register import load_libraries, require_existing
from .supervisor import StopPolicy

NAME = "template"
HELP = "Make the mean image of a group, or of one person's time points, in the mean of their shapes."
EPILOG = (
    "DIR gets template.nii.gz, maps/ (the template's points to each image's), inverse/, changes/ (volume by the "
    "template's) and, with --labels, changes.csv. Stopped or killed, the same command goes on; what is done in rounds/ "
    "is not done again. The order of IMAGES changes nothing."
)

STOP_POLICY = StopPolicy(
    grace_seconds=10.0,
    kept="what is done in rounds/ is kept, the same command goes on",
    memory_remedy="Choose fewer --workers, a larger --spacing, or a smaller --grid.",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", metavar="IMAGES", nargs="+", help="two or more; of one kind and part of the body")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of the template, new or begun")
    group = parser.add_argument_group("template")
    group.add_argument("--rounds", type=int, default=4, metavar="N", help="means made anew (%(default)s)")
    group.add_argument("--spacing", type=float, metavar="MM", help="of its voxels (the coarsest image's finest)")
    group.add_argument("--sharpening", type=float, default=0.5, metavar="X", help="of each mean; 0: none (%(default)s)")
    group.add_argument("--labels", metavar="FILE", help="segmentation of the template: change of each segment's volume")
    group = parser.add_argument_group("at once")
    group.add_argument("--workers", type=int, metavar="N", help="maps at once (default: as cores and memory allow)")
    group.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that is there, tcp://...:8786")
    add_unlock_option(parser)
    add_registration_options(parser)
    add_control_options(parser)


def check(args: argparse.Namespace):
    settings = settings_from(args)
    check_workers(args.workers)
    if len(args.images) < 2:
        raise InputError(f"template: expected at least two images, got {len(args.images)}.")
    missing = [path for path in args.images if not given_path(path, "image").exists()]
    if missing:
        raise InputError(f"template: {len(missing)} of {len(args.images)} images are not there: {', '.join(missing)}.")
    require_existing(args.labels, "labels")
    require_existing(settings.weights, "weights")
    out = given_path(args.out, "--out").resolve()
    if out.is_file():
        raise InputError(f"{out}: expected a folder for the template, got a file. Choose another name.")
    return cleaner(*(out / name for name in ("rounds", "maps", "inverse", "changes")))


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from ..volumes import read_labels

    settings = settings_from(args)
    load_libraries(progress)
    from ..cohort.lock import locked
    from ..template import TemplateSettings, build, read_members, write_changes
    from ..template.build import begun_threads
    from . import template_maps

    how = TemplateSettings(rounds=args.rounds, spacing_mm=args.spacing, sharpening=args.sharpening)
    place = given_path(args.out, "--out").resolve()
    place.mkdir(parents=True, exist_ok=True)
    with locked(place, args.unlock):
        progress.report(ProgressRecord("read", 0.0, None, f"{len(args.images)} images"))
        members = read_members(args.images)
        needs = template_maps.needs_mb(members, settings, how)
        at_once = template_maps.how_many(needs, args.workers, args.scheduler)
        threads = settings.threads or begun_threads(place) or template_maps.threads_for(at_once)
        weights = None if settings.weights is None else os.path.abspath(settings.weights)
        settings = replace(settings, threads=threads, weights=weights)
        if at_once == 1 and args.scheduler is None:
            template = build(members, place, settings, how, progress=progress)
        else:
            workers = at_once if args.scheduler is None else args.workers
            with template_maps.on_workers(threads, args.scheduler, workers, needs, how.rounds, progress) as make_maps:
                template = build(members, place, settings, how, make_maps=make_maps, progress=progress)
        labels = None if args.labels is None else read_labels(args.labels, template.image)
        rows = write_changes(template, place, labels, progress)
    progress.report(ProgressRecord("done", 1.0, 0.0, f"template in {args.out}"))
    display.details({"changes": rows})
    display.result(f"template of {len(template.members)} images in {args.out}")
