"""`carlreg evaluate TRANSFORM FIXED MOVING`."""

from __future__ import annotations

import argparse
import json

from ..atomic import check_file, cleaner, staging
from ..errors import InputError
from ..progress import Progress
from .console import Display, quality_table
from .options import add_control_options, add_frame_group_options, add_ground_truth_options
from .register import check_ground_truth, require_existing

NAME = "evaluate"
HELP = "Judge any transform on any pair: a verdict with reasons, similarity, volume change, labels, landmarks."
EPILOG = "Prints a table; --out writes the figures as JSON, as quality.json of a registration holds them."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("transform", metavar="TRANSFORM", help="transform.h5, or any ITK transform file")
    parser.add_argument("fixed", metavar="FIXED")
    parser.add_argument("moving", metavar="MOVING")
    add_frame_group_options(parser, "fixed", "moving")
    parser.add_argument("--fixed-mask", metavar="FILE", help="where to judge (default: the body)")
    parser.add_argument(
        "--uncertainty", metavar="FILE", help="uncertainty.nii.gz of the registration, to be judged too"
    )
    parser.add_argument("--out", metavar="FILE", help="JSON file to write")
    parser.add_argument("--warped", metavar="FILE", help="write the moving image on the fixed grid (.nii.gz)")
    parser.add_argument("--jacobian", metavar="FILE", help="write the determinant on the fixed grid (.nii.gz)")
    add_ground_truth_options(parser)
    add_control_options(parser)


def check(args: argparse.Namespace):
    for option in ("transform", "fixed", "moving", "fixed_mask", "uncertainty"):
        require_existing(getattr(args, option), option)
    check_ground_truth(args)
    for option in ("warped", "jacobian"):
        name = getattr(args, option)
        if name is not None and not name.lower().endswith(".nii.gz"):
            raise InputError(f"--{option}: expected a name that ends in .nii.gz, got {name}.")
    named = [name for name in (args.out, args.warped, args.jacobian) if name is not None]
    files = [check_file(name) for name in named]
    if len(set(files)) < len(files):
        raise InputError(f"--out, --warped, --jacobian: expected different files, got {', '.join(named)}.")
    return cleaner(*files)


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from .. import outputs
    from .register import read_inputs

    inputs = read_inputs(args, progress)
    with staging() as stage:
        parts = {
            name: None if path is None else stage.file(path)
            for name, path in (("out", args.out), ("warped", args.warped), ("jacobian", args.jacobian))
        }
        quality = outputs.evaluate(
            args.transform,
            inputs["fixed"],
            inputs["moving"],
            fixed_mask=inputs["fixed_mask"],
            labels=inputs["labels"],
            label_names=inputs["label_names"],
            landmarks=inputs["landmarks"],
            uncertainty=args.uncertainty,
            warped_path=parts["warped"],
            jacobian_path=parts["jacobian"],
            progress=progress,
        )
        if parts["out"] is not None:
            parts["out"].write_text(json.dumps(quality, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    display.result(quality_table(quality))
