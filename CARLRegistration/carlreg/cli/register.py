"""`carlreg register FIXED MOVING --out DIR`."""

from __future__ import annotations

import argparse
import re
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import FolderClaim, check_folder, claim_folder, cleaner
from ..errors import Cancelled, InputError
from ..formats.catalog import CONVENTIONS, DIRECTIONS
from ..paths import given_path
from ..progress import Progress, ProgressRecord
from ..text_files import read_json_object, shown
from .console import Display, quality_table
from .live import MapFile, check_preview
from .options import (
    add_control_options,
    add_frame_group_options,
    add_ground_truth_options,
    add_guide_options,
    add_ignore_options,
    add_registration_options,
    settings_from,
)

if TYPE_CHECKING:
    from ..settings import RegistrationSettings

# Parts of an image that limit what counts.
_PARTS = tuple((side, what) for what in ("mask", "ignore") for side in ("fixed", "moving"))
NAME = "register"
HELP = "Register a moving image to a fixed image."
EPILOG = (
    "Images: NIfTI, NRRD, MetaImage, or a folder with one DICOM series. DIR gets transform.h5 (fixed to moving points, "
    "LPS mm), inverse_transform.h5, warped.nii.gz, jacobian.nii.gz, uncertainty.nii.gz, quality.json, settings.json, "
    "and of rigid or stiff segments motions.csv."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fixed", metavar="FIXED", help="the image that stays")
    parser.add_argument("moving", metavar="MOVING", help="the image that is brought onto it")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the results")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier result in DIR, after success")
    parser.add_argument("--report", action="store_true", help="also write report.html: pictures, figures, a viewer")
    add_frame_group_options(parser, "fixed", "moving")
    parser.add_argument("--fixed-mask", metavar="FILE", help="only this part of the fixed image counts")
    parser.add_argument("--moving-mask", metavar="FILE", help="only this part of the moving image counts")
    add_ignore_options(parser)
    parser.add_argument(
        "--initial-transform",
        metavar="FILE",
        help="tried as start, linear or not: any file that `carlreg convert` reads, fixed to moving points",
    )
    parser.add_argument(
        "--continue",
        dest="continue_from",
        metavar="RESULT",
        help="go on from a former result's folder, or any such file, by --io-steps steps: nothing is searched for",
    )
    parser.add_argument(
        "--initial-convention", choices=tuple(CONVENTIONS), help="of either, where its file does not tell it"
    )
    parser.add_argument(
        "--initial-direction", choices=DIRECTIONS, default="forward", help="inverse: it maps moving to fixed points"
    )
    add_guide_options(parser)
    add_ground_truth_options(parser)
    add_registration_options(parser)
    add_control_options(parser)
    parser.add_argument(
        "--preview", metavar="FILE", help="FILE (.h5) holds the map while it is optimized, renewed about every second"
    )


def check(args: argparse.Namespace):
    """Refuse what can be refused at once, before any library is loaded; returns the clean-up of a broken run."""
    settings = settings_from(args)
    check_ground_truth(args)
    guide_files(args)
    segment_files(args)
    body_files(args)
    given_maps(args)
    for option in ("fixed", "moving", "initial_transform", *(f"{side}_{what}" for side, what in _PARTS)):
        require_existing(getattr(args, option), option)
    require_existing(settings.weights, "weights")
    check_preview(args.preview)
    return check_out(args.out, args.overwrite)


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    settings = settings_from(args)
    claim = claimed(args.out, args.overwrite)
    inputs = read_inputs(args, progress)
    load_libraries(progress)
    with MapFile(args.preview) if args.preview else nullcontext() as file:
        progress.on_map = None if file is None else file.write
        quality = register_and_write(inputs, settings, claim, progress, report=args.report)
    out = place_of(claim, args.out)
    progress.report(ProgressRecord("done", 1.0, 0.0, f"results in {out}"))
    display.result(f"{quality_table(quality)}\nresults in {out}")


def claimed(out: str, overwrite: bool) -> FolderClaim:
    """The folder of the results, which was free when the command was started; another run may have been faster."""
    try:
        return claim_folder(out, overwrite)
    except InputError:
        return FolderClaim(given_path(out, "--out").resolve())


def place_of(claim: FolderClaim, out: str) -> str:
    """Where the results are, as the user calls the folder."""
    if claim.written is None or claim.written == claim.path:
        return out
    beside = claim.written.parent == claim.path.parent
    return str(Path(out).parent / claim.written.name if beside else claim.written)


def load_libraries(progress: Progress) -> None:
    """Import what takes seconds, saying so."""
    progress.report(ProgressRecord("load", 0.0, None, "loading libraries"))
    from .. import registration  # noqa: F401

    progress.check()


def require_existing(path: str | None, option: str) -> None:
    """Raise InputError when a path was given and nothing is there."""
    name = option.replace("_", " ")
    if path is not None and not given_path(path, name).exists():
        raise InputError(f"{name}: {path} does not exist. Check the path for typing errors.")


def check_ground_truth(args: argparse.Namespace) -> None:
    if args.fixed_labels is None and (args.moving_labels or args.label_names) is not None:
        raise InputError("Labels: expected --fixed-labels too; --moving-labels and --label-names go with it.")
    for option in ("fixed_labels", "moving_labels", "label_names", "landmarks"):
        require_existing(getattr(args, option), option)


def guide_files(args: argparse.Namespace) -> list[str | None]:
    """The table of landmarks that guide a run, or the lists of the fixed and the moving ones; None for none."""
    names = ("landmarks_guide", "fixed_landmarks_guide", "moving_landmarks_guide")
    table, fixed, moving = (getattr(args, name, None) for name in names)
    if (fixed is None) != (moving is None) or (table is not None and fixed is not None):
        raise InputError(
            "landmarks guide: expected --landmarks-guide with a table of pairs, or both --fixed-landmarks-guide and "
            "--moving-landmarks-guide; got others."
        )
    for path in (table, fixed, moving):
        require_existing(path, "landmarks_guide")
    return [table, fixed, moving]


def read_landmarks_guide(args: argparse.Namespace):
    """The points that guide a run; None for none."""
    from ..io.guide_points import read_guide

    table, fixed, moving = guide_files(args)
    if fixed is not None:
        return read_guide(fixed, moving)
    return None if table is None else read_guide(table)


def segment_files(args: argparse.Namespace) -> list[str | None]:
    """The segmentations that guide a run, fixed and moving, and the table of what belongs together; None for none."""
    names = ("fixed_segments_guide", "moving_segments_guide", "segments_match")
    fixed, moving, table = (getattr(args, name, None) for name in names)
    if (fixed is None) != (moving is None) or (table is not None and fixed is None):
        raise InputError(
            "segments guide: expected both --fixed-segments-guide and --moving-segments-guide; --segments-match goes "
            "with them."
        )
    for path, name in zip((fixed, moving, table), names, strict=True):
        require_existing(path, name)
    return [fixed, moving, table]


def read_segments_guide(args: argparse.Namespace, inputs: dict[str, Any]):
    """The segmentations that guide a run; None for none."""
    fixed, moving, table = segment_files(args)
    if fixed is None or moving is None:
        return None
    from .. import volumes
    from ..registration import SegmentsGuide, read_matches

    images = [
        volumes.read_labels(path, inputs[side], f"{side} segments guide")
        for side, path in (("fixed", fixed), ("moving", moving))
    ]
    return SegmentsGuide(images[0], images[1], None if table is None else read_matches(table))


def body_files(args: argparse.Namespace) -> list[str | None]:
    """The segmentations of rigid and of stiff segments; None for none."""
    rigid, stiff = (getattr(args, name, None) for name in ("rigid_segments", "stiff_segments"))
    if getattr(args, "rigid_reference", None) is not None and rigid is None:
        raise InputError("rigid reference: expected --rigid-segments too, of which it is one; got it alone.")
    for path, name in ((rigid, "rigid_segments"), (stiff, "stiff_segments")):
        require_existing(path, name)
    return [rigid, stiff]


def read_bodies(args: argparse.Namespace, inputs: dict[str, Any]) -> dict[str, Any]:
    """Rigid and stiff segments as `register_pair` takes them; None for none."""
    from .. import volumes

    rigid, stiff = body_files(args)
    found: dict[str, Any] = {"rigid_segments": None, "stiff_segments": None}
    if rigid is not None:
        from ..registration import RigidSegments

        image = volumes.read_labels(rigid, inputs["fixed"], "rigid segments")
        found["rigid_segments"] = RigidSegments(image, reference=args.rigid_reference)
    if stiff is not None:
        found["stiff_segments"] = volumes.read_labels(stiff, inputs["fixed"], "stiff segments")
    return found


def check_out(out: str, overwrite: bool):
    """Refuse an output folder that may not be written; returns the clean-up of what a broken run leaves there."""
    folder = check_folder(out, overwrite)
    return cleaner(folder)


def read_inputs(args: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Everything the run reads, checked: fixed, moving, masks, initial transform, labels, landmarks."""
    from .. import volumes

    def read(what: str, reader, path: str | None, *more, **options):
        if path is None:
            return None
        progress.check()
        progress.report(ProgressRecord("read", 0.0, None, what))
        return reader(path, *more, what, **options)

    inputs: dict[str, Any] = {}
    for side in ("fixed", "moving"):
        group = getattr(args, f"{side}_dicom_frame_group", None)
        inputs[side] = read(f"{side} image", volumes.read_volume, getattr(args, side), frame_group=group)
    for side, what in _PARTS:
        part = getattr(args, f"{side}_{what}", None)
        inputs[f"{side}_{what}"] = read(f"{side} {what}", volumes.read_mask, part, inputs[side])
    inputs["initial_transform"], inputs["continue_from"] = read_given_maps(args, inputs, progress)
    inputs["landmarks_guide"] = read_landmarks_guide(args)
    inputs["segments_guide"] = read_segments_guide(args, inputs)
    inputs |= read_bodies(args, inputs)
    labels = [
        read(f"{side} labels", volumes.read_labels, getattr(args, f"{side}_labels"), inputs[side])
        for side in ("fixed", "moving")
    ]
    inputs["labels"] = None if labels[0] is None else tuple(labels)
    inputs["label_names"] = read_label_names(args.label_names)
    inputs["landmarks"] = read("landmarks", volumes.read_landmarks, args.landmarks)
    return inputs


def given_maps(args: argparse.Namespace) -> dict[str, str | None]:
    """The files of the initial transform and of the map to go on from, which may be a result folder."""
    initial, continued = (getattr(args, name, None) for name in ("initial_transform", "continue_from"))
    if initial is not None and continued is not None:
        raise InputError(
            "continue: expected it alone, or --initial-transform alone; got both. A start that is only tried is "
            "--initial-transform."
        )
    if continued is not None and given_path(continued, "continue").is_dir():
        continued = str(given_path(continued, "continue") / "transform.h5")
    require_existing(continued, "continue")
    return {"initial transform": initial, "continue": continued}


def read_given_maps(args: argparse.Namespace, inputs: dict[str, Any], progress: Progress) -> list:
    """The initial transform and the one to go on from, as SimpleITK transforms; None for none."""
    given = given_maps(args)
    if any(path is not None for path in given.values()):
        load_libraries(progress)

    def transform(name: str, path: str):
        from .. import formats

        return formats.read(
            path,
            convention=getattr(args, "initial_convention", None),
            direction=getattr(args, "initial_direction", "forward"),
            fixed=inputs["fixed"].grid,
            moving=inputs["moving"].grid,
            name=name,
        ).transform

    return [None if path is None else transform(name, path) for name, path in given.items()]


def read_label_names(path: str | None) -> dict[int, str]:
    """Names by label value from a JSON file; empty without one. Raises InputError when it holds something else."""
    if path is None:
        return {}
    name = f"label names ({Path(path).name})"
    expected = 'a JSON file such as {"3": "liver"}'
    names = {}
    for label, text in read_json_object(path, name, expected).items():
        if not re.fullmatch(r"-?[0-9]{1,9}", label.strip()) or not isinstance(text, str):
            raise InputError(f"{name}: expected {expected}; got {shown(label)}: {shown(text)}.")
        names[int(label)] = text
    return names


def register_and_write(
    inputs: dict[str, Any],
    settings: RegistrationSettings,
    claim: FolderClaim,
    progress: Progress,
    *,
    sheet: bool = False,
    report: bool = False,
    keep_transform: bool = True,
    extra=None,
) -> dict:
    """Register what `read_inputs` read and write the folder (with a picture sheet); returns the quality figures.

    What fails after the registration itself does not take the transform with it (`keep_transform`). extra: as of
    `write_result`.
    """
    from .. import outputs, registration

    result = registration.register_pair(
        inputs["fixed"],
        inputs["moving"],
        settings,
        fixed_mask=inputs.get("fixed_mask"),
        moving_mask=inputs.get("moving_mask"),
        fixed_ignore=inputs.get("fixed_ignore"),
        moving_ignore=inputs.get("moving_ignore"),
        initial_transform=inputs.get("initial_transform"),
        continue_from=inputs.get("continue_from"),
        landmarks_guide=inputs.get("landmarks_guide"),
        segments_guide=inputs.get("segments_guide"),
        rigid_segments=inputs.get("rigid_segments"),
        stiff_segments=inputs.get("stiff_segments"),
        progress=progress,
    )
    try:
        result = registration.finish(
            result,
            labels=inputs.get("labels"),
            label_names=inputs.get("label_names"),
            landmarks=inputs.get("landmarks"),
            progress=progress,
        )
    except Cancelled:
        raise
    except Exception as error:
        if keep_transform:
            outputs.write_transform_alone(result, claim, error)
        raise
    return outputs.write_result(
        result,
        claim,
        overwrite=claim.overwrite,
        sheet=sheet,
        report=report,
        extra=extra,
        keep_transform=keep_transform,
        progress=progress,
    )
