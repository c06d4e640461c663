"""`carlreg convert TRANSFORM --out FILE`."""

from __future__ import annotations

import argparse

from ..progress import Progress
from .console import Display
from .transform_options import add_source_options, add_target_options, check_target, open_source, write_target

NAME = "convert"
HELP = "Read a transform of any program and write it in another format, or on another grid."
EPILOG = (
    "What a file means is taken from the file; where it does not tell (a matrix of plain numbers, a field without an "
    "intent), --convention must."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser)
    add_target_options(parser)


def check(args: argparse.Namespace):
    return check_target(args, "transform")


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    opened = open_source(args)
    progress.check()
    write_target(args, opened.transform, opened.sides, opened.notes, progress, display)
