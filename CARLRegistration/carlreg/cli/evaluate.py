"""`carlreg evaluate TRANSFORM FIXED MOVING`."""

from __future__ import annotations

import argparse
import json

from ..progress import Progress
from ..staging import check_file, cleaner, staged_file
from .options import add_control_options, add_evidence_options
from .register import check_evidence, require_existing
from .report import Display, quality_table

NAME = "evaluate"
HELP = "Judge a transform: similarity, labels, landmarks, folds, before and after."
EPILOG = "Prints a table; --out writes the figures as JSON."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("transform", metavar="TRANSFORM", help="transform.h5, or any ITK transform file")
    parser.add_argument("fixed", metavar="FIXED")
    parser.add_argument("moving", metavar="MOVING")
    parser.add_argument("--fixed-mask", metavar="FILE", help="where to judge (default: the body)")
    parser.add_argument("--out", metavar="FILE", help="JSON file to write")
    add_evidence_options(parser)
    add_control_options(parser)


def check(args: argparse.Namespace):
    for option in ("transform", "fixed", "moving", "fixed_mask"):
        require_existing(getattr(args, option), option)
    check_evidence(args)
    if args.out is None:
        return lambda: None
    out = check_file(args.out)
    return cleaner(out)


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from .. import outputs
    from .register import read_inputs

    inputs = read_inputs(args, progress)
    quality = outputs.evaluate(
        args.transform,
        inputs["fixed"],
        inputs["moving"],
        fixed_mask=inputs["fixed_mask"],
        labels=inputs["labels"],
        landmarks=inputs["landmarks"],
        progress=progress,
    )
    if args.out is not None:
        with staged_file(args.out) as part:
            part.write_text(json.dumps(quality, indent=2), encoding="utf-8")
    display.result(quality_table(quality))
