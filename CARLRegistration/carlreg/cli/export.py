"""`carlreg export TRANSFORM --to FORMAT --out FILE`."""

from __future__ import annotations

import argparse

from ..errors import InputError
from ..progress import Progress
from .console import Display
from .register import require_existing
from .transform_options import add_source_options, add_target_options, check_target, open_source, write_target

NAME = "export"
HELP = "Write a transform for another program, forward or inverse."
EPILOG = (
    "The files' sizes and the error (mm, against the transform itself over the fixed volume) are told before anything "
    "is in its place. FreeSurfer's non-linear warps: write nifti, and mri_warp_convert --initk FILE --outm3z WARP."
)
WHICH = ("forward", "inverse", "with-initial")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser)
    parser.add_argument(
        "--which",
        choices=WHICH,
        default="forward",
        help="forward: fixed to moving points; inverse: moving to fixed points; with-initial: forward, then --initial",
    )
    parser.add_argument(
        "--initial",
        metavar="FILE",
        help="transform that the moving volume had been resampled with before it was registered; acts last",
    )
    add_target_options(parser)


def check(args: argparse.Namespace):
    require_existing(args.initial, "initial")
    if (args.which == "with-initial") != (args.initial is not None):
        raise InputError("--which with-initial and --initial FILE belong together: give both, or none.")
    return check_target(args, "transform")


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from .. import formats

    opened = open_source(args)
    initial = formats.read(args.initial).transform if args.initial else None
    progress.check()
    found = formats.chosen(opened, args.which, initial=initial, check=progress.check)
    write_target(args, found.transform, found.sides, found.notes, progress, display)
