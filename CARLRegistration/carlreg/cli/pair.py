"""`carlreg check FIXED MOVING`: is this a pair that can be registered? Its best start, within seconds."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from ..atomic import check_file, cleaner, staged_file
from ..errors import InputError
from ..progress import Progress
from .console import Display
from .options import add_control_options, add_frame_group_options, add_registration_options, settings_from
from .register import load_libraries, read_given_maps, require_existing

if TYPE_CHECKING:
    from ..registration import StartPreview


def add_pair_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fixed", metavar="FIXED", nargs="?", help="two images: is this a pair that can be registered?")
    parser.add_argument("moving", metavar="MOVING", nargs="?", help="the one that would be brought onto the other")
    parser.add_argument("--start", metavar="FILE", help="write the best start, fixed to moving points (.h5, .tfm)")
    add_frame_group_options(parser, "fixed", "moving")
    parser.add_argument("--fixed-mask", metavar="FILE", help="only this part of the fixed image counts")
    parser.add_argument("--moving-mask", metavar="FILE", help="only this part of the moving image counts")
    parser.add_argument("--initial-transform", metavar="FILE", help="tried as start, as by `carlreg register`")
    add_registration_options(parser)
    add_control_options(parser)


def check_pair(args: argparse.Namespace):
    """Refuse what can be refused at once; returns the clean-up of a broken run. Raises InputError."""
    if args.moving is None:
        raise InputError(f"check: expected two images, or none; got {args.fixed} alone.")
    settings = settings_from(args)
    for option in ("fixed", "moving", "fixed_mask", "moving_mask", "initial_transform"):
        require_existing(getattr(args, option), option)
    require_existing(settings.weights, "weights")
    if args.start is None:
        return lambda: None
    if not args.start.endswith((".h5", ".tfm")):
        raise InputError(f"--start: expected a file name that ends in .h5 or .tfm; got {args.start}.")
    return cleaner(check_file(args.start))


def run_pair(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from .. import volumes

    inputs: dict = {}
    for side in ("fixed", "moving"):
        group = getattr(args, f"{side}_dicom_frame_group")
        inputs[side] = volumes.read_volume(getattr(args, side), f"{side} image", frame_group=group)
    for side in ("fixed", "moving"):
        mask = getattr(args, f"{side}_mask")
        inputs[f"{side}_mask"] = None if mask is None else volumes.read_mask(mask, inputs[side], f"{side} mask")
    inputs["initial_transform"], _ = read_given_maps(args, inputs, progress)
    load_libraries(progress)
    from ..io.itk_transform import affine_to_sitk
    from ..io.writing import write_transform
    from ..registration import preview_start

    found = preview_start(settings=settings_from(args), progress=progress, **inputs)
    if args.start is not None:
        with staged_file(args.start) as path:
            write_transform(affine_to_sitk(found.matrix), path)
    display.details(found.as_dict())
    display.result(json.dumps(found.as_dict()) if args.json else _as_text(found))


def _as_text(found: StartPreview) -> str:
    first, *more = found.verdict["reasons"]
    lines = [f"verdict on the pair: {found.verdict['word']}. {first}", *(f"{'':21}{reason}" for reason in more)]
    return "\n".join([*lines, f"best start: {found.start}", *(f"Warning: {warning}" for warning in found.warnings)])
