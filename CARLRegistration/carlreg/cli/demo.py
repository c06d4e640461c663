"""`carlreg demo`: registers a generated pair whose true map is known, or one's own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..progress import Progress, ProgressRecord
from .console import Display, quality_table
from .options import add_control_options, add_frame_group_options, add_machine_options, settings_from
from .register import check_out, claimed, load_libraries, place_of, register_and_write, require_existing

if TYPE_CHECKING:
    from ..phantom import PhantomPair

_TRUE_POINTS = 20_000
NAME = "demo"
HELP = "Register a generated pair (or your own), print the quality table, draw a picture sheet."
EPILOG = "An earlier result of the demo in the output folder is replaced."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fixed", metavar="IMAGE", help="your own fixed image (default: a generated torso)")
    parser.add_argument("--moving", metavar="IMAGE", help="your own moving image")
    add_frame_group_options(parser, "fixed", "moving")
    parser.add_argument("--out", metavar="DIR", default="demo_output", help="(%(default)s)")
    voxel = "voxel size of the generated pair, 2 to 8 mm (%(default)s)"
    parser.add_argument("--spacing", type=float, default=3.0, metavar="MM", help=voxel)
    add_machine_options(parser)
    add_control_options(parser)


def check(args: argparse.Namespace):
    if (args.fixed is None) != (args.moving is None):
        raise InputError("Demo: expected both --fixed and --moving, or neither; got one of them.")
    for option in ("fixed", "moving"):
        require_existing(getattr(args, option), option)
    if not 2.0 <= args.spacing <= 8.0:
        raise InputError(f"--spacing: expected 2 to 8 mm, got {args.spacing:g}.")
    settings_from(args)
    return check_out(args.out, overwrite=True)


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    settings = settings_from(args)
    claim = claimed(args.out, overwrite=True)
    from ..volumes import write_image

    own = args.fixed is not None
    inputs, pair = _own_pair(args) if own else _generated_pair(args.spacing, progress)
    load_libraries(progress)

    def extra(folder: Path, quality: dict) -> None:
        if pair is None:
            return
        quality["true_map"] = {"after": _true_errors(pair, folder / "transform.h5")}
        (folder / "input").mkdir()
        for name in ("fixed", "moving", "fixed_labels", "moving_labels"):
            write_image(getattr(pair, name), folder / "input" / f"{name}.nii.gz")

    quality = register_and_write(inputs, settings, claim, progress, sheet=True, extra=extra)
    out = Path(place_of(claim, args.out))
    progress.report(ProgressRecord("done", 1.0, 0.0, f"results in {out}"))
    lines = [
        quality_table(quality),
        "",
        f"Results in {out}{'' if own else ' (the generated pair too)'}; look at {out / 'sheet.png'} first.",
    ]
    if not own:
        lines += [
            "Your own pair:  make demo FIXED=a.nii.gz MOVING=b.nii.gz",
            "or:             carlreg register a.nii.gz b.nii.gz --out results",
        ]
    display.result("\n".join(lines))


def _own_pair(args: argparse.Namespace) -> tuple[dict[str, Any], None]:
    from ..volumes import read_volume

    def read(side: str):
        return read_volume(getattr(args, side), f"{side} image", frame_group=getattr(args, f"{side}_dicom_frame_group"))

    return {side: read(side) for side in ("fixed", "moving")}, None


def _generated_pair(spacing_mm: float, progress: Progress) -> tuple[dict[str, Any], PhantomPair]:
    """The inputs, and the pair they come from."""
    from ..phantom import make_pair
    from ..volumes import volume_from_image

    progress.report(ProgressRecord("generate", 0.0, None, "painting a torso in two fields of view"))
    pair = make_pair(spacing_mm=spacing_mm)
    progress.check()
    inputs = {
        "fixed": volume_from_image(pair.fixed, "generated fixed image"),
        "moving": volume_from_image(pair.moving, "generated moving image"),
        "labels": (pair.fixed_labels, pair.moving_labels),
        "landmarks": pair.landmarks,
    }
    return inputs, pair


def _true_errors(pair: PhantomPair, transform: Path) -> dict:
    """How far the written transform is from the true map (mm), in the body where the moving image shows it too."""
    import numpy as np
    import SimpleITK as sitk

    from ..io.itk_transform import map_points
    from ..spaces import VolumeGrid

    fixed_grid, moving_grid = VolumeGrid.of(pair.fixed), VolumeGrid.of(pair.moving)
    voxels = np.argwhere(sitk.GetArrayFromImage(pair.fixed_body))[:, ::-1]
    voxels = voxels[:: max(1, len(voxels) // _TRUE_POINTS)]
    points = fixed_grid.points(voxels)
    true = pair.moving_from_fixed(points)
    index = moving_grid.index(true)
    seen = np.all((index >= 0) & (index <= np.array(moving_grid.size_ijk) - 1), axis=1)
    found = sitk.ReadTransform(str(transform))
    mapped = map_points(found, points[seen])
    errors = np.linalg.norm(mapped - true[seen], axis=1)
    return {"mean_mm": float(errors.mean()), "p95_mm": float(np.percentile(errors, 95)), "n": int(seen.sum())}
