"""`carlreg mend RESULT --point ... --out DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError
from ..paths import given_path
from ..progress import Progress, ProgressRecord
from .console import Display, quality_table
from .options import add_control_options, add_registration_options, settings_from
from .register import check_out, claimed, load_libraries, place_of, require_existing

NAME = "mend"
HELP = "Mend a result where it is wrong: points and their right places, a box around them, seconds."
EPILOG = (
    "RESULT: a result folder of `carlreg register`, whose images are found as by `carlreg report`; or the file of any "
    "transform from fixed to moving points, with --fixed and --moving. DIR gets the same files as a registration, and "
    "guide.csv with all points; beyond the boxes the map is exactly what it was."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("result", metavar="RESULT", help="result folder, or transform, to mend; it stays as it is")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the mended result")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier result in DIR, after success")
    parser.add_argument("--report", action="store_true", help="also write report.html")
    parser.add_argument(
        "--point",
        nargs=6,
        type=float,
        action="append",
        default=[],
        metavar=("FX", "FY", "FZ", "MX", "MY", "MZ"),
        help="a fixed point and its place in the moving image, LPS mm; as often as needed",
    )
    parser.add_argument("--points", metavar="CSV", help="a table of such points, as of `register --landmarks-guide`")
    parser.add_argument("--everywhere", action="store_true", help="then optimize the whole map with them, --io-steps")
    parser.add_argument("--fixed", metavar="IMAGE", help="the fixed image, if it was moved since, or of a transform")
    parser.add_argument("--moving", metavar="IMAGE", help="the moving image, if it was moved since, or of a transform")
    parser.add_argument("--fixed-mask", metavar="FILE", help="only this part of the fixed image counts")
    parser.add_argument("--moving-mask", metavar="FILE", help="only this part of the moving image counts")
    parser.add_argument(
        "--uncertainty",
        metavar="FILE",
        help="how far the map given may be off, where no result folder says it: renewed in the boxes",
    )
    add_registration_options(parser)
    add_control_options(parser)


def check(args: argparse.Namespace):
    _check_result(args)
    for option in ("fixed", "moving", "fixed_mask", "moving_mask", "points", "uncertainty"):
        require_existing(getattr(args, option), option)
    _settings(args)
    return check_out(args.out, args.overwrite)


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    settings = _settings(args)
    points = _points(args)
    claim = claimed(args.out, args.overwrite)
    load_libraries(progress)
    from .. import outputs, registration, volumes

    images, transform = _given(args)
    masks = {
        f"{side}_mask": None if path is None else volumes.read_mask(path, images[side], f"{side} mask")
        for side, path in (("fixed", args.fixed_mask), ("moving", args.moving_mask))
    }
    result = registration.mended_pair(
        images["fixed"],
        images["moving"],
        transform,
        points,
        settings,
        everywhere=args.everywhere,
        uncertainty=_uncertainty(args, images["fixed"]),
        former=None if args.everywhere else outputs.recorded_inverse(args.result, transform),
        progress=progress,
        **masks,
    )
    for point in result.info["mended"]["points"]:
        message = f"point {point['name']}: {point['before_mm']:.3g} mm off before, {point['after_mm']:.3g} mm after"
        progress.report(ProgressRecord("mend", 0.5, None, message))
    quality = outputs.write_result(
        registration.finish(result, progress=progress),
        claim,
        overwrite=args.overwrite,
        report=args.report,
        keep_transform=True,
        progress=progress,
    )
    out = place_of(claim, args.out)
    progress.report(ProgressRecord("done", 1.0, 0.0, f"results in {out}"))
    display.result(f"{quality_table(quality)}\nresults in {out}")


def _check_result(args: argparse.Namespace) -> None:
    given = given_path(args.result, "result")
    if not given.exists():
        raise InputError(f"{args.result}: expected a result folder of `carlreg register`, found none. Check the path.")
    if not given.is_dir() and (args.fixed is None or args.moving is None):
        raise InputError(
            f"{args.result}: expected --fixed and --moving with a transform file. A result folder has them."
        )


def _given(args: argparse.Namespace):
    """The images, by side, and the map between them."""
    _check_result(args)
    from .. import formats, outputs, volumes

    if Path(args.result).is_dir():
        images = outputs.recorded_images(args.result, args.fixed, args.moving)
        return images, volumes.read_transform(Path(args.result) / "transform.h5")
    images = {side: volumes.read_volume(getattr(args, side), f"{side} image") for side in ("fixed", "moving")}
    grids = {side: image.grid for side, image in images.items()}
    return images, formats.read(args.result, **grids, name="result").transform


def _uncertainty(args: argparse.Namespace, fixed):
    """What the result states of its map; None where it states nothing, and where all is asked anew."""
    from .. import outputs

    if args.everywhere:
        return None
    return outputs.recorded_uncertainty(args.result, fixed.grid, args.uncertainty)


def _settings(args: argparse.Namespace):
    """The settings of the result, and what the options change."""
    if args.settings is None:
        stored = given_path(args.result, "result folder") / "settings.json"
        if stored.is_file():
            args.settings = str(stored)
    return settings_from(args)


def _points(args: argparse.Namespace):
    """The points of the result, of the table and of the options; a later one of the same name counts."""
    import numpy as np

    from ..io.guide_points import GuidePoints, joined, read_guide

    former = given_path(args.result, "result folder") / "guide.csv"
    parts = [
        read_guide(path, name="points") for path in (former, args.points) if path is not None and Path(path).is_file()
    ]
    taken = {name for part in parts for name in part.names}
    free = (name for name in (f"point {number}" for number in range(1, 10**6)) if name not in taken)
    if args.point:
        pairs = np.array(args.point, dtype=np.float64)
        names = tuple(next(free) for _ in pairs)
        parts.append(GuidePoints(pairs[:, :3], pairs[:, 3:], names, np.ones(len(pairs), dtype=bool)))
    if not args.point and args.points is None and not parts:
        raise InputError("mend: expected at least one --point, or --points with a table; got none.")
    return joined(parts)
