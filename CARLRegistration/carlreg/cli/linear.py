"""`carlreg linear TRANSFORM --kind rigid --out FILE`."""

from __future__ import annotations

import argparse

from ..errors import InputError
from ..formats import LINEAR_KINDS
from ..progress import Progress
from .console import Display
from .transform_options import add_source_options, add_target_options, check_target, open_source, write_target

NAME = "linear"
HELP = "Take the rigid, similarity or affine part of a transform, with what it leaves in mm."
EPILOG = "The part is the nearest one, by least squares over the fixed volume (or the transform's own field)."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser)
    parser.add_argument("--kind", choices=LINEAR_KINDS, default="affine", help="(%(default)s)")
    add_target_options(parser)


def check(args: argparse.Namespace):
    return check_target(args, "transform")


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from .. import formats
    from ..formats.fields import field_of
    from ..io.itk_transform import affine_to_sitk
    from ..spaces import VolumeGrid

    opened = open_source(args)
    over, field = opened.sides.grids[0], field_of(opened.transform)
    if over is None and field is None:
        raise InputError("The part depends on where it is taken: name the fixed volume (--fixed).")
    over = over or VolumeGrid.of(field)
    matrix, left = formats.linear_part(opened.transform, over, args.kind)
    display.result(
        f"{args.kind} part: leaves mean {left['mean']:.3g}, 99 % below {left['p99']:.3g}, largest {left['max']:.3g} mm"
    )
    display.details({"left_mm": left})
    notes = [*opened.notes, f"the {args.kind} part only; it leaves {left['mean']:.3g} mm on average"]
    write_target(args, affine_to_sitk(matrix), opened.sides, notes, progress, display)
