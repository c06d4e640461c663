"""`carlreg apply TRANSFORM INPUT --out FILE`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError
from ..progress import Progress
from ..staging import check_file, cleaner, staged_file
from .options import add_control_options
from .register import require_existing
from .report import Display

NAME = "apply"
HELP = "Apply a transform to a volume, a label map, or points."
EPILOG = (
    "A volume or label map of the moving side is resampled onto the fixed grid (or --reference). INPUT ending in .csv: "
    "fixed points, columns x,y,z in LPS mm, are mapped to the moving side."
)
INTERPOLATIONS = ("linear", "nearest", "bspline")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("transform", metavar="TRANSFORM", help="transform.h5, or any ITK transform file")
    parser.add_argument("input", metavar="INPUT", help="volume, label map, or .csv with columns x,y,z")
    parser.add_argument("--out", metavar="FILE", required=True, help="file to write (.nii.gz, .nrrd, .mha or .csv)")
    parser.add_argument("--reference", metavar="IMAGE", help="image whose grid the output gets")
    parser.add_argument(
        "--interpolation", choices=INTERPOLATIONS, default="linear", help="nearest for label maps (%(default)s)"
    )
    add_control_options(parser)


def check(args: argparse.Namespace):
    for option in ("transform", "input", "reference"):
        require_existing(getattr(args, option), option)
    if _is_csv(args.input) != _is_csv(args.out):
        raise InputError(f"--out: expected {'a .csv' if _is_csv(args.input) else 'an image'} file, got {args.out}.")
    out = check_file(args.out)
    return cleaner(out)


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from .. import outputs, volumes

    if _is_csv(args.input):
        table = outputs.apply_to_points(args.transform, args.input)
        progress.check()
        with staged_file(args.out) as part:
            part.write_text(table, encoding="utf-8")
    else:
        image = outputs.apply_to_image(
            args.transform, args.input, reference=args.reference, interpolation=args.interpolation
        )
        progress.check()
        with staged_file(args.out) as part:
            volumes.write_image(image, part)
    display.result(f"wrote {args.out}")


def _is_csv(path: str) -> bool:
    return Path(path).suffix.lower() == ".csv"
