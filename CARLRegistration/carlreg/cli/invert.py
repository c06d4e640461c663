"""`carlreg invert TRANSFORM --out FILE`."""

from __future__ import annotations

import argparse
import math

from ..atomic import check_file, cleaner
from ..errors import InputError
from ..io.endings import check_image_name
from ..progress import Progress
from .console import Display
from .transform_options import add_source_options, add_target_options, check_target, open_source, write_target

NAME = "invert"
HELP = "Invert a transform, with the error in mm and where it has no inverse."
EPILOG = (
    "The error is that of going there and back again, over the moving volume's points that come from the fixed one. "
    "--spacing is that of the inverse field: a smaller one is more exact, and larger."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser)
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="MM",
        help="a larger error counts as not inverted (default: about 0.5 for a head, less for a mouse)",
    )
    parser.add_argument("--failed", metavar="FILE", help="label map on the moving volume: 1 where there is no inverse")
    add_target_options(parser)


def check(args: argparse.Namespace):
    if args.tolerance is not None and not (math.isfinite(args.tolerance) and args.tolerance > 0):
        raise InputError(f"--tolerance: expected a positive number of millimeters, got {args.tolerance}.")
    leftovers = check_target(args, "transform")
    if args.failed is None:
        return leftovers
    check_image_name(args.failed)
    return cleaner(args.out, check_file(args.failed))


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from .. import volumes
    from ..formats.inverting import inverse_of

    opened = open_source(args)
    inverse = inverse_of(
        opened.transform,
        *opened.sides.grids,
        spacing_mm=args.spacing,
        tolerance_mm=args.tolerance,
        check=progress.check,
    )
    report, error = inverse.report, inverse.report["error_mm"]
    if error["mean"] is not None:
        display.result(
            f"inverse: there and back again mean {error['mean']:.2g}, 99 % below {error['p99']:.2g}, largest "
            f"{error['max']:.2g} mm where it was inverted"
        )
    figures = {"error_of_the_inverse_mm": error}
    if report["not_inverted_percent"]:
        box = report["not_inverted_box_lps"]
        place = f"{report['not_inverted_percent']:.3g} % (error above {report['tolerance_mm']:.3g} mm)"
        place += f", within {box[0]} to {box[1]} LPS mm"
        display.result(f"not inverted: {place}")
        figures["not_inverted"] = place
    display.details({"inverse": report})
    args.spacing = None  # spent on the inverse itself
    failed = inverse.failed if args.failed is not None else None

    def beside(stage) -> None:
        if failed is not None:
            volumes.write_image(failed, stage.file(args.failed))

    write_target(args, inverse.transform, opened.sides.swapped(), opened.notes, progress, display, figures, beside)
    if failed is not None and not args.dry_run:
        display.result(f"wrote {args.failed}")
