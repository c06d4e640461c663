"""`carlreg compose FIRST SECOND ... --out FILE`."""

from __future__ import annotations

import argparse

from ..errors import InputError
from ..progress import Progress
from .console import Display
from .transform_options import add_source_options, add_target_options, check_target, volume_of, write_target

NAME = "compose"
HELP = "Join transforms: points go through the first, then the second, and so on."
EPILOG = (
    "Volumes go the other way. With A from fixed to middle points and B from middle to moving points, compose A B "
    "resamples the moving volume onto the fixed one. --fixed is the first one's fixed volume, --moving the last one's "
    "moving volume; .h5 keeps the parts unless --flatten, other formats hold one field."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser, several=True)
    add_target_options(parser)


def check(args: argparse.Namespace):
    if args.direction != "forward":
        raise InputError("--direction: turn each transform by itself first (carlreg invert), then compose.")
    return check_target(args, "transforms")


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from .. import formats

    read = []
    for number, path in enumerate(args.transforms):
        progress.check()
        first, last = number == 0, number == len(args.transforms) - 1
        fixed, moving = volume_of(args, "fixed") if first else None, volume_of(args, "moving") if last else None
        read.append(formats.open_transform(path, convention=args.convention, fixed=fixed, moving=moving))
    start, end = read[0].sides, read[-1].sides
    sides = formats.Sides(("fixed", "moving"), (start.grids[0], end.grids[1]), (start.files[0], end.files[1]))
    notes = [note for opened in read for note in opened.notes]
    write_target(args, formats.compose([opened.transform for opened in read]), sides, notes, progress, display)
