"""`carlreg demo`: registers a generated pair whose true map is known, or one's own."""

from __future__ import annotations

import argparse

from ..errors import InputError
from ..progress import Progress
from .options import add_control_options, add_machine_options, settings_from
from .register import check_out, require_existing
from .report import Display

NAME = "demo"
HELP = "Register a generated pair (or your own), print the quality table, draw a picture sheet."
EPILOG = "An earlier result of the demo in the output folder is replaced."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fixed", metavar="IMAGE", help="your own fixed image (default: a generated torso)")
    parser.add_argument("--moving", metavar="IMAGE", help="your own moving image")
    parser.add_argument("--out", metavar="DIR", default="demo_output", help="(%(default)s)")
    add_machine_options(parser)
    add_control_options(parser)


def check(args: argparse.Namespace):
    if (args.fixed is None) != (args.moving is None):
        raise InputError("Demo: expected both --fixed and --moving, or neither; got one of them.")
    for option in ("fixed", "moving"):
        require_existing(getattr(args, option), option)
    settings_from(args)
    return check_out(args.out, overwrite=True)


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    raise NotImplementedError
