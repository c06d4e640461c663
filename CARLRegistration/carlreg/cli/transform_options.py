"""Options that the commands for transform files share, and what they mean."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..atomic import check_file, cleaner
from ..errors import InputError
from ..formats import CONVENTIONS, DIRECTIONS, FORMATS, PRECISIONS, format_for
from ..paths import given_path
from ..progress import Progress
from .console import Display
from .options import add_control_options, add_frame_group_options
from .register import require_existing

_LISTED = "; ".join(f"{name}: {meaning}" for name, meaning in CONVENTIONS.items())


def add_source_options(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """The transform and what its file may not tell."""
    what = "transform file: ITK, ANTs, elastix, FSL, FreeSurfer (.lta), 5-D NIfTI, .nrrd or .mha field, matrix"
    if several:
        parser.add_argument(
            "transforms", metavar="TRANSFORM", nargs="+", help=f"{what}; points go through the first first"
        )
    else:
        parser.add_argument("transform", metavar="TRANSFORM", help=what)
    source = parser.add_argument_group("what the file does not tell")
    source.add_argument("--convention", choices=tuple(CONVENTIONS), help=_LISTED)
    source.add_argument(
        "--direction",
        choices=DIRECTIONS,
        default="forward",
        help="inverse: the file maps moving to fixed points, so it is inverted first (forward: fixed to moving points)",
    )
    add_volume_options(source)


def add_volume_options(group) -> None:
    group.add_argument("--fixed", metavar="VOLUME", help="the fixed volume (known in a result folder of carlreg)")
    group.add_argument("--moving", metavar="VOLUME", help="the moving volume")
    add_frame_group_options(group, "fixed", "moving")


def volume_of(args: argparse.Namespace, side: str) -> Any:
    """The path of `add_volume_options`, or the volume where one of several in its DICOM file was chosen."""
    path, group = getattr(args, side), getattr(args, f"{side}_dicom_frame_group")
    if path is None or group is None:
        return path
    from ..volumes import read_volume

    return read_volume(path, side, frame_group=group)


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """What is written."""
    target = parser.add_argument_group("what is written")
    target.add_argument(
        "--out", metavar="FILE", required=True, help="file to write; FILE.json beside it says what maps to what"
    )
    target.add_argument(
        "--to", choices=tuple(FORMATS), metavar="FORMAT", help=f"{', '.join(FORMATS)} (by FILE's ending)"
    )
    target.add_argument("--spacing", type=float, metavar="MM", help="of the field's grid (its own)")
    target.add_argument("--grid", metavar="IMAGE", help="put the field on this image's grid")
    add_frame_group_options(target)
    target.add_argument("--precision", choices=PRECISIONS, help="of fields (float32; ITK's files: float64)")
    target.add_argument("--flatten", action="store_true", help="one field instead of an affine after a field")
    target.add_argument("--dry-run", action="store_true", help="only tell the files' sizes and the error")
    add_control_options(parser)


def check_target(args: argparse.Namespace, *inputs: str):
    """Refuse at once what can be refused; returns the clean-up of a broken run."""
    for option in (*inputs, "fixed", "moving", "grid"):
        given = getattr(args, option, None)
        for path in given if isinstance(given, list) else [given]:
            require_existing(path, option)
    format_for(args.out, args.to)
    out = check_file(args.out)
    for option in inputs:
        given = getattr(args, option)
        for path in given if isinstance(given, list) else [given]:
            if path is not None and given_path(path, option).resolve() == out:
                raise InputError(f"--out: {out.name} is the input itself. Choose another name.")
    return cleaner(out)


def open_source(args: argparse.Namespace, path: str | None = None) -> Any:
    """The opened transform of `add_source_options`."""
    from .. import formats

    return formats.open_transform(
        path or args.transform,
        convention=args.convention,
        direction=args.direction,
        fixed=volume_of(args, "fixed"),
        moving=volume_of(args, "moving"),
    )


def write_target(
    args: argparse.Namespace,
    transform,
    sides,
    notes,
    progress: Progress,
    display: Display,
    details: dict | None = None,
    beside=None,
) -> None:
    """Write by `add_target_options`, telling sizes and error before the files are in place.

    details: more for the sidecar's notes, e.g. an inverse's error. beside: as of `formats.write`.
    """
    from .. import formats, volumes

    like = None
    if args.grid:
        like = volumes.read_volume(args.grid, "grid", uniform=True, frame_group=args.dicom_frame_group).grid

    lines = [*notes, *(f"{name}: {value}" for name, value in (details or {}).items())]

    names: list[str] = []

    def tell(written) -> None:
        names.extend(path.name for path, _ in written.files if not path.name.endswith(".json"))
        display.result(summary(written))
        files = [[path.name, size] for path, size in written.files]
        display.details({"files": files, "sidecar": written.sidecar, "notes": list(notes)})

    formats.write(
        transform,
        args.out,
        to=args.to,
        sides=sides,
        spacing_mm=args.spacing,
        like=like,
        precision=args.precision,
        flatten_it=args.flatten,
        notes=lines,
        before_saving=tell,
        beside=beside,
        dry_run=args.dry_run,
        check=progress.check,
    )
    for note in lines:
        display.result(f"note: {note}")
    wrote = ", ".join(str(Path(args.out).parent / name) for name in names)  # some formats are several files
    display.result("dry run: nothing was written" if args.dry_run else f"wrote {wrote}")


def summary(written) -> str:
    """Sizes, error, and how the file is used, as text."""
    error, side = written.error_mm, written.sidecar
    lines = [f"{path.name:40}{size_text(size):>12}" for path, size in written.files if not path.name.endswith(".json")]
    lines.append(f"error: mean {error['mean']:.2g}, 99 % below {error['p99']:.2g}, largest {error['max']:.2g} mm")
    lines.append(f"maps {side['maps']} ({side['numbers']})")
    lines.append(f"use: {side['command']}")
    return "\n".join(lines)


def size_text(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
