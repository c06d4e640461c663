"""`carlreg report DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..atomic import check_file, cleaner
from ..errors import InputError
from ..paths import given_path
from ..progress import Progress
from .console import Display
from .options import add_control_options
from .register import require_existing

NAME = "report"
HELP = "Write a report on a result folder: one HTML file with verdict, figures, pictures and a viewer."
EPILOG = (
    "DIR: a result folder of `carlreg register`. The report opens in any browser, offline, and prints to PDF. It names "
    "modality and spacing, but no patient, no DICOM tags and no folders."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="result folder of `carlreg register`")
    parser.add_argument("--out", metavar="FILE", help="file to write (default: report.html in DIR)")
    parser.add_argument("--fixed", metavar="IMAGE", help="the fixed image, if it was moved since")
    parser.add_argument("--moving", metavar="IMAGE", help="the moving image, if it was moved since")
    parser.add_argument("--without-names", action="store_true", help="leave the names of the image files out")
    add_control_options(parser)


def check(args: argparse.Namespace):
    if not given_path(args.folder, "result folder").is_dir():
        raise InputError(f"{args.folder}: expected a result folder of `carlreg register`, found none. Check the path.")
    for option in ("fixed", "moving"):
        require_existing(getattr(args, option), option)
    out = check_file(args.out if args.out is not None else Path(args.folder) / "report.html")
    return cleaner(out)


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from .. import outputs

    written = outputs.write_report(
        args.folder,
        args.out,
        fixed=args.fixed,
        moving=args.moving,
        names=not args.without_names,
        progress=progress,
    )
    display.result(f"wrote {written}")
