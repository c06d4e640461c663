"""`carlreg apply TRANSFORM INPUT ... --out FILE_OR_FOLDER`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from ..atomic import check_file, cleaner, staging
from ..errors import InputError
from ..io.endings import check_image_name
from ..paths import given_path
from ..progress import Progress
from .console import Display
from .options import add_control_options, add_frame_group_options
from .register import require_existing
from .transform_options import add_source_options, volume_of

NAME = "apply"
HELP = "Apply a transform to volumes, label maps, sequences, points, markups and models."
EPILOG = (
    "Volumes of the moving side are resampled onto the fixed grid (--inverse: the other way round). Points (.csv with "
    "columns x,y,z in LPS mm; .mrk.json, .fcsv) and models (.vtk, .vtp, .stl, .ply; need the package vtk) go from the "
    "fixed to the moving side, where the transform sends them; with --points follow they belong to the moving side and "
    "come along with its volumes. Several inputs: --out is a folder, the files keep their names."
)
INTERPOLATIONS = ("linear", "nearest", "bspline", "sinc")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser)
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="volume, label map, 4-D sequence, points or model")
    parser.add_argument("--out", metavar="PATH", required=True, help="file to write; a folder for several inputs")
    parser.add_argument(
        "--inverse", action="store_true", help="the other way: fixed side's volumes onto the moving grid"
    )
    parser.add_argument("--points", choices=("map", "follow"), default="map", help="see below (%(default)s)")
    volumes = parser.add_argument_group("volumes")
    volumes.add_argument("--reference", metavar="IMAGE", help="image whose grid the output gets")
    add_frame_group_options(volumes)
    volumes.add_argument(
        "--grid",
        choices=("fixed", "own"),
        default="fixed",
        help="fixed: that volume's grid; own: its box at the input's own spacing (%(default)s)",
    )
    volumes.add_argument(
        "--interpolation",
        choices=INTERPOLATIONS,
        default="linear",
        help="nearest for label maps; sinc: Lanczos window (%(default)s)",
    )
    volumes.add_argument(
        "--mass-preserving",
        action="store_true",
        help="intensities times the Jacobian, so that a region keeps its total (activity, tissue); float32",
    )
    parser.add_argument("--model-space", choices=("lps", "ras"), help="of models whose file does not tell")
    add_control_options(parser)


def check(args: argparse.Namespace):
    for option in ("transform", "reference", "fixed", "moving"):
        require_existing(getattr(args, option), option)
    for path in args.inputs:
        require_existing(path, "input")
    if len(args.inputs) == 1 and not given_path(args.out, "--out").is_dir():
        if _ending(args.inputs[0]) != _ending(args.out):
            expected = _ending(args.inputs[0]) or "image"
            raise InputError(f"--out: expected {_article(expected)} {expected} file, got {args.out}.")
        if not _ending(args.inputs[0]):
            check_image_name(args.out)
        return cleaner(check_file(args.out))
    folder = given_path(args.out, "--out").resolve()
    if folder.is_file():
        raise InputError(f"--out: expected a folder for several inputs, got the file {folder.name}.")
    return cleaner(*(check_file(folder / name) for name in _names(args.inputs)))


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from .. import formats, volumes
    from ..formats.catalog import kind_of, output_name

    opened = formats.open_transform(
        args.transform,
        convention=args.convention,
        direction=args.direction,
        fixed=volume_of(args, "fixed"),
        moving=volume_of(args, "moving"),
    )
    images = [path for path in args.inputs if kind_of(path) == "image"]
    warnings: list[str] = []
    reference = None
    if args.reference:
        volume = volumes.read_volume(args.reference, "reference", uniform=True, frame_group=args.dicom_frame_group)
        reference, warnings = volume.grid, list(volume.warnings)
    opened = _with_grids(opened, images, reference, args.inverse, args.dicom_frame_group)
    if args.inverse:
        opened = formats.chosen(opened, "inverse", check=progress.check)
    if args.points == "follow" and len(images) < len(args.inputs):
        opened = replace(opened, near_inverse=formats.chosen(opened, "inverse", check=progress.check).transform)
    plan = formats.Applying(
        opened,
        reference=reference,
        grid="first" if args.grid == "fixed" else args.grid,
        interpolation=args.interpolation,
        mass_preserving=args.mass_preserving,
        points_follow=args.points == "follow",
        model_space=args.model_space,
        frame_group=args.dicom_frame_group,
        check=progress.check,
        warn=warnings.append,
    )
    out = given_path(args.out, "--out")
    several = len(args.inputs) > 1 or out.is_dir()
    targets = [out / output_name(path) for path in args.inputs] if several else [out]
    for target, path in zip(targets, args.inputs, strict=True):
        if given_path(path, "input").resolve() == target.resolve():
            raise InputError(f"--out: {target} is the input itself. Choose another name or folder.")
    done = []
    with staging() as stage:  # all, or nothing
        for path, target in zip(args.inputs, targets, strict=True):
            progress.check()
            done.append(formats.apply_to_file(plan, path, stage.file(target)))
        progress.check()
    for target, what in zip(targets, done, strict=True):
        display.result(f"wrote {target} ({what})")
    for warning in dict.fromkeys([*opened.notes, *warnings]):
        display.result(f"Warning: {warning}")


def _with_grids(opened, images, reference, inverse: bool, frame_group: int | None):
    """Grids that neither a folder nor an option names: the reference's, and the input's own."""
    from ..formats.applying import grid_of

    first, second = opened.sides.grids
    if inverse:
        second = second or reference
        first = first or (grid_of(images[0], frame_group) if images else None)
    elif images:
        first = first or reference or grid_of(images[0], frame_group)
    return replace(opened, sides=replace(opened.sides, grids=(first, second)))


def _names(inputs: list[str]) -> list[str]:
    from ..formats.catalog import output_name

    names = [output_name(path) for path in inputs]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(f"Several inputs are called {', '.join(doubled)}: they would overwrite each other in --out.")
    return names


def _ending(path: str) -> str:
    """The kind of file a name means, where the output must be of the same: '' for images."""
    from ..formats.catalog import OTHER_ENDINGS

    name = Path(path).name.lower()
    return next((ending for ending in OTHER_ENDINGS if name.endswith(ending)), "")


def _article(word: str) -> str:
    return "an" if word == "image" else "a"
