"""`carlreg series FRAMES --out DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError
from ..paths import given_path
from ..progress import Progress, ProgressRecord
from .console import Display
from .options import add_control_options, add_registration_options, settings_from
from .register import check_out, claimed, load_libraries, place_of, require_existing

NAME = "series"
HELP = "Register all frames of a series over time to one of them, to each other, or to their mean."
EPILOG = (
    "FRAMES: one file with a time axis (4-D NIfTI or NRRD, 3D Slicer's .seq.nrrd), one DICOM series of several "
    "volumes, or one file or folder for each frame, in order. DIR gets transforms/ and inverse/ of each frame, "
    "warped.seq.nrrd, ventilation.seq.nrrd (Jacobian - 1), mean_displacement.nii.gz, max_displacement.nii.gz, "
    "frames.csv, series.png, and of labels and landmarks segments.csv, labels/ and trajectories.csv."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("frames", metavar="FRAMES", nargs="+", help="the series: one file, or one for each frame")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the results")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier result in DIR, after success")
    group = parser.add_argument_group("series")
    group.add_argument(
        "--reference",
        default="0",
        metavar="FRAME",
        help="the frame that all others are registered to, from 0; or mean: of all frames, made anew (%(default)s)",
    )
    group.add_argument(
        "--chain",
        choices=("reference", "frames"),
        default="reference",
        help="reference: each frame to the reference; frames: to the one before, and composed (%(default)s)",
    )
    group.add_argument("--cyclic", action="store_true", help="the first frame follows the last one, as in a breath")
    group.add_argument(
        "--temporal-smoothness",
        type=float,
        default=0.0,
        metavar="X",
        help="weight of second differences in time; 0: none (%(default)s)",
    )
    group.add_argument(
        "--warm-steps",
        type=int,
        metavar="N",
        help="of a frame that begins with its neighbor's map (those of --io-steps)",
    )
    group.add_argument(
        "--iterations", type=int, default=2, metavar="N", help="of --reference mean: means made anew (%(default)s)"
    )
    group = parser.add_argument_group("of the reference, carried to all frames")
    group.add_argument("--mask", metavar="FILE", help="only this part of the reference counts")
    group.add_argument("--labels", metavar="FILE", help="segmentation: volumes over time, and one for each frame")
    group.add_argument("--landmarks", metavar="FILE", help="points (CSV with x,y,z in LPS mm; .mrk.json; .fcsv)")
    add_registration_options(parser)
    add_control_options(parser)


def check(args: argparse.Namespace):
    settings = settings_from(args)
    _reference(args.reference)
    for path in args.frames:
        require_existing(path, "frames")
    for option in ("mask", "labels", "landmarks"):
        require_existing(getattr(args, option), option)
    require_existing(settings.weights, "weights")
    if args.reference == "mean" and (args.mask or args.labels or args.landmarks):
        raise InputError(
            "reference: expected the number of a frame with --mask, --labels or --landmarks, which belong to a frame; "
            "got mean."
        )
    return check_out(args.out, args.overwrite)


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from ..volumes import read_labels, read_mask

    settings = settings_from(args)
    claim = claimed(args.out, args.overwrite)
    load_libraries(progress)
    from ..io.points import read_point_list
    from ..series import Carried, SeriesSettings, read_series, register_series, write_series

    how = SeriesSettings(
        reference=_reference(args.reference),
        chain=args.chain,
        temporal_smoothness=args.temporal_smoothness,
        cyclic=args.cyclic,
        iterations=args.iterations,
        warm_steps=args.warm_steps,
    )
    progress.report(ProgressRecord("read", 0.0, None, "frames"))
    series = read_series(args.frames)
    progress.report(ProgressRecord("read", 0.0, None, f"{len(series)} frames"))
    how.check_reference(len(series))
    reference = series.frames[0 if isinstance(how.reference, str) else how.reference]
    mask = None if args.mask is None else read_mask(args.mask, reference)
    labels = None if args.labels is None else read_labels(args.labels, reference)
    points, names = None, []
    if args.landmarks is not None:
        points, names = read_point_list(given_path(args.landmarks, "landmarks"), "landmarks")
    result = register_series(series, settings, how, mask=mask, progress=progress)
    carry = _carrier(args.labels, series, reference) if args.labels is not None else None
    rows = write_series(
        result, claim, carried=Carried(labels, points, names), carry=carry, overwrite=args.overwrite, progress=progress
    )
    out = place_of(claim, args.out)
    for note in result.warnings:
        progress.warn(note)
    progress.report(ProgressRecord("done", 1.0, 0.0, f"results in {out}"))
    display.details({"frames": rows, "jumps": result.jumps})
    display.result(f"{_table(rows)}\nresults in {out}")


def _reference(word: str) -> int | str:
    """The number of a frame, or 'mean'. Raises InputError."""
    if word == "mean":
        return word
    if not word.isdecimal() or len(word) > 6:
        raise InputError(f"reference: expected the number of a frame, from 0, or mean; got {word!r}.")
    return int(word)


def _carrier(path: str, series, reference):
    """How a segmentation of 3D Slicer is carried to a frame, with its segments; None for other label maps."""
    if not path.lower().endswith(".seg.nrrd"):
        return None
    from .. import formats

    def carry(inverse: Path, frame: int, out: Path) -> None:
        opened = formats.open_transform(inverse, fixed=series.frames[frame], moving=reference)
        plan = formats.Applying(opened, interpolation="nearest")
        formats.apply_to_file(plan, path, out.with_name(f"{out.name}.seg.nrrd"))

    return carry


def _table(rows: list[dict]) -> str:
    lines = [f"{'frame':>6}{'time':>10}{'mean mm':>10}{'max mm':>10}{'LNCC':>16}{'folds %':>10}  "]
    for row in rows:
        before, after = row["lncc_before"], row["lncc_after"]
        likeness = "reference" if before is None or after is None else f"{before:.3f} -> {after:.3f}"
        folds = "" if row["fold_percent"] is None else f"{row['fold_percent']:.3g}"
        lines.append(
            f"{row['frame']:>6}{row['time']:>10.4g}{row['mean_mm']:>10.2f}{row['max_mm']:>10.2f}{likeness:>16}"
            f"{folds:>10}  {'jump' if row['jump'] else row['verdict'] or ''}"
        )
    return "\n".join(lines)
