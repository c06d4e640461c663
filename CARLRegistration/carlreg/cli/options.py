"""Options that several commands share, and the settings made from them."""

from __future__ import annotations

import argparse

from ..settings import IO_METHODS, MODALITIES, ROBUSTNESS, SIMILARITIES, RegistrationSettings

_DEFAULT = RegistrationSettings()


def add_registration_options(parser: argparse.ArgumentParser) -> None:
    """Everything that goes into RegistrationSettings."""
    scan = parser.add_argument_group("what the scans are")
    scan.add_argument("--fixed-modality", choices=MODALITIES, default=_DEFAULT.fixed_modality)
    scan.add_argument("--moving-modality", choices=MODALITIES, default=_DEFAULT.moving_modality)
    scan.add_argument(
        "--robustness",
        choices=ROBUSTNESS,
        default=_DEFAULT.robustness,
        help="translation: similar poses, any shift; rotation: one scan may be turned by any angle (slower)",
    )
    model = parser.add_argument_group("network")
    model.add_argument("--model", default=_DEFAULT.model, help="a name that `carlreg models` lists (%(default)s)")
    model.add_argument("--weights", metavar="FILE", help="weights to use instead of the shipped ones")
    model.add_argument("--allow-untrained", action="store_true", help="run a model without trained weights (for tests)")
    model.add_argument(
        "--grid", type=int, default=_DEFAULT.grid, metavar="N", help="its largest edge, voxels (%(default)s)"
    )
    io = parser.add_argument_group("instance optimization")
    io.add_argument("--io-steps", type=int, metavar="N", help="steps in all; 0 skips it (default: the method's)")
    io.add_argument("--io-method", choices=IO_METHODS, default=_DEFAULT.io_method, help="(%(default)s)")
    io.add_argument(
        "--similarity",
        choices=SIMILARITIES,
        default=_DEFAULT.similarity,
        help="mind: different contrasts (%(default)s)",
    )
    io.add_argument(
        "--smoothness", type=float, default=_DEFAULT.smoothness, metavar="X", help="factor; larger is smoother (1)"
    )
    io.add_argument("--field-spacing", type=float, metavar="MM", help="spacing of the displacement field")
    add_machine_options(parser)


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", default=_DEFAULT.device, help="auto, cpu, cuda or cuda:N (%(default)s)")
    machine.add_argument("--seed", type=int, default=_DEFAULT.seed, help="(%(default)s)")
    machine.add_argument("--threads", type=int, metavar="N", help="CPU threads")


def add_control_options(parser: argparse.ArgumentParser) -> None:
    control = parser.add_argument_group("progress and cancel")
    control.add_argument("--progress", choices=("bar", "json", "none"), default="bar", help="(%(default)s)")
    control.add_argument(
        "--control", choices=("stdin",), help="a line `cancel` on standard input, or its end, stops the run"
    )


def add_ground_truth_options(parser: argparse.ArgumentParser) -> None:
    """What lets the result be judged: labels and landmarks."""
    evidence = parser.add_argument_group("to judge the result by (not used to register)")
    evidence.add_argument(
        "--fixed-labels", metavar="FILE", help="label map of the fixed image: volume changes per label"
    )
    evidence.add_argument("--moving-labels", metavar="FILE", help="label map of the moving image: overlap of labels")
    evidence.add_argument(
        "--label-names", metavar="JSON", help='names by label, {"3": "liver"} (.seg.nrrd has its own)'
    )
    evidence.add_argument("--landmarks", metavar="CSV", help="columns fixed_x,fixed_y,fixed_z,moving_x,... in LPS mm")


def settings_from(args: argparse.Namespace) -> RegistrationSettings:
    """Checked settings; raises InputError for a value that is not allowed."""
    names = ("model", "weights", "allow_untrained", "robustness", "fixed_modality", "moving_modality", "io_method")
    names += ("io_steps", "similarity", "smoothness", "grid", "device", "seed", "threads")
    given = {name: getattr(args, name) for name in names if hasattr(args, name)}
    return RegistrationSettings(**given, field_spacing_mm=getattr(args, "field_spacing", None))
