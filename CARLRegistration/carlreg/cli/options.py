"""Options that several commands share, and the settings made from them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace

from ..errors import InputError
from ..settings import EFFORTS, IO_METHODS, MODALITIES, ROBUSTNESS, SIMILARITIES, TRANSFORMS, RegistrationSettings


@dataclass(frozen=True)
class SettingOption:
    """The option of one field (`name`) of `RegistrationSettings`. more: further arguments of `add_argument`.

    help: `{}` becomes the field's default. An option that is not given is absent from the parsed arguments, so that it
    overrides nothing.
    """

    name: str
    help: str | None = None
    more: dict = field(default_factory=dict)

    @property
    def flag(self) -> str:
        return "--" + self.name.removesuffix("_mm").replace("_", "-")

    def add_to(self, parser: argparse._ActionsContainer) -> None:
        default = getattr(RegistrationSettings(), self.name)
        if isinstance(default, tuple):
            default = " ".join(f"{entry:g}" for entry in default)
        text = None if self.help is None else self.help.format(default)
        parser.add_argument(self.flag, dest=self.name, default=argparse.SUPPRESS, help=text, **self.more)


_KIND = (
    SettingOption(
        "transform",
        "what may change: rigid, similarity and affine maps alone take a fraction of the time ({})",
        {"choices": TRANSFORMS},
    ),
)
_BOUNDS = (
    SettingOption(
        "stretch_bounds",
        "of an affine: the least and the most that it stretches lengths by, and how many times as much along one "
        "direction as along another ({})",
        {"type": float, "nargs": 3, "metavar": ("LEAST", "MOST", "UNEVEN")},
    ),
)
_SCANS = (
    SettingOption("fixed_modality", more={"choices": MODALITIES}),
    SettingOption("moving_modality", more={"choices": MODALITIES}),
    SettingOption(
        "robustness",
        "translation: similar poses, any shift; rotation: one scan may be turned by any angle (slower)",
        {"choices": ROBUSTNESS},
    ),
)
_NETWORK = (
    SettingOption("model", "a name that `carlreg models` lists ({})"),
    SettingOption("weights", "weights to use instead of the shipped ones", {"metavar": "FILE"}),
    SettingOption("allow_untrained", "run a model without trained weights (for tests)", {"action": "store_true"}),
    SettingOption("grid", "its largest edge, voxels ({})", {"type": int, "metavar": "N"}),
)
_OPTIMIZATION = (
    SettingOption("io_steps", "steps in all; 0 skips it (default: the method's)", {"type": int, "metavar": "N"}),
    SettingOption(
        "effort",
        "best: to the images' voxels, where that is worth it; fast: coarser, in half of the time ({})",
        {"choices": EFFORTS},
    ),
    SettingOption("io_method", "({})", {"choices": IO_METHODS}),
    SettingOption("similarity", "mind: different contrasts ({})", {"choices": SIMILARITIES}),
    SettingOption(
        "symmetric",
        "exchanging FIXED and MOVING gives the inverse map; for studies over time",
        {"action": "store_true"},
    ),
    SettingOption(
        "landmarks_accuracy_mm",
        "how exactly landmarks that guide it were placed; 0: the map passes through them (a voxel)",
        {"type": float, "metavar": "MM"},
    ),
    SettingOption("smoothness", "factor; larger is smoother ({:g})", {"type": float, "metavar": "X"}),
    SettingOption("field_spacing_mm", "spacing of the displacement field", {"type": float, "metavar": "MM"}),
)
_MACHINE = (
    SettingOption("device", "auto, cpu, cuda or cuda:N ({})"),
    SettingOption("seed", "({})", {"type": int}),
    SettingOption("threads", "CPU threads", {"type": int, "metavar": "N"}),
)
# What a linear transform has no use for.
_OF_DEFORMATION = ("io_steps", "effort", "io_method", "smoothness", "field_spacing_mm")
#: Every option that sets a field of RegistrationSettings, by the field.
SETTING_OPTIONS = {option.name: option for option in (*_KIND, *_BOUNDS, *_SCANS, *_NETWORK, *_OPTIMIZATION, *_MACHINE)}


def add_registration_options(parser: argparse.ArgumentParser) -> None:
    """Everything that goes into RegistrationSettings, one by one or from a file."""
    parser.add_argument(
        "--settings",
        metavar="FILE",
        help="settings as JSON, or settings.json of an earlier result; the options below override it",
    )
    _add_group(parser, "what is looked for", (*_KIND, *_BOUNDS))
    _add_group(parser, "what the scans are", _SCANS)
    _add_group(parser, "network", _NETWORK)
    _add_group(parser, "instance optimization", _OPTIMIZATION)
    add_machine_options(parser)


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    _add_group(parser, "machine", _MACHINE)


def _add_group(parser: argparse.ArgumentParser, title: str, options: tuple[SettingOption, ...]) -> None:
    group = parser.add_argument_group(title)
    for option in options:
        option.add_to(group)


def add_frame_group_options(parser: argparse._ActionsContainer, *sides: str) -> None:
    """Which volume of a DICOM series or file that holds several. sides: "fixed", "moving"; none: of the inputs."""
    for side in sides or ("",):
        what = f"the {side} image" if side else "an input or reference"
        parser.add_argument(
            f"--{side}-dicom-frame-group" if side else "--dicom-frame-group",
            type=int,
            metavar="N",
            help=f"which volume, where {what} is DICOM and holds several (time points, echoes, stacks); from 1",
        )


def add_control_options(parser: argparse.ArgumentParser) -> None:
    control = parser.add_argument_group("progress and cancel")
    control.add_argument("--progress", choices=("bar", "json", "none"), default="bar", help="(%(default)s)")
    control.add_argument(
        "--control",
        choices=("stdin",),
        help="a line `cancel` on standard input, or its end, stops the run; `stop` the optimization, with its result",
    )


def add_guide_options(parser: argparse.ArgumentParser) -> None:
    """What users know of the map, to register by."""
    group = parser.add_argument_group("to guide it by")
    group.add_argument(
        "--landmarks-guide",
        metavar="CSV",
        help="corresponding points: columns fixed_x,fixed_y,fixed_z,moving_x,... in LPS mm; name, on may be there",
    )
    for side in ("fixed", "moving"):
        group.add_argument(
            f"--{side}-landmarks-guide", metavar="FILE", help=f"instead: the {side} ones alone, .mrk.json, .fcsv or CSV"
        )
    for side in ("fixed", "moving"):
        group.add_argument(
            f"--{side}-segments-guide", metavar="FILE", help=f"segmentation of the {side} image: boundaries are matched"
        )
    group.add_argument(
        "--rigid-segments",
        metavar="FILE",
        help="segmentation of the fixed image: each segment moves rigidly, by itself; motions.csv says how",
    )
    group.add_argument(
        "--rigid-reference", metavar="NAME", help="the rigid segment (name or value) that motions are told relative to"
    )
    group.add_argument(
        "--stiff-segments", metavar="FILE", help="likewise; each keeps its shape as far as the images let it"
    )
    group.add_argument(
        "--segments-match",
        metavar="CSV",
        help="columns fixed, moving (names or values) and weight (default: the same names, else the same values)",
    )


def add_ignore_options(parser: argparse._ActionsContainer) -> None:
    for side in ("fixed", "moving"):
        parser.add_argument(
            f"--{side}-ignore", metavar="FILE", help=f"not this part of the {side} image (metal, a cavity)"
        )


def add_ground_truth_options(parser: argparse.ArgumentParser) -> None:
    """What lets the result be judged: labels and landmarks."""
    group = parser.add_argument_group("to judge the result by (not used to register)")
    group.add_argument("--fixed-labels", metavar="FILE", help="label map of the fixed image: volume changes per label")
    group.add_argument("--moving-labels", metavar="FILE", help="label map of the moving image: overlap of labels")
    group.add_argument("--label-names", metavar="JSON", help='names by label, {"3": "liver"} (.seg.nrrd has its own)')
    group.add_argument("--landmarks", metavar="CSV", help="columns fixed_x,fixed_y,fixed_z,moving_x,... in LPS mm")


def add_unlock_option(group) -> None:
    group.add_argument(
        "--unlock", action="store_true", help="a command that was killed on another computer is certainly over"
    )


def check_workers(count: int | None) -> None:
    """Raise InputError for a number of workers that is none."""
    if count is not None and not 1 <= count <= 4096:
        raise InputError(f"workers: expected a number from 1 to 4096; got {count}.")


def settings_from(args: argparse.Namespace) -> RegistrationSettings:
    """Checked settings: the options that were given, over those of `--settings`, over the defaults.

    Raises InputError for a value that is not allowed, an option that does not go with others, or a file that holds no
    settings.
    """
    file = getattr(args, "settings", None)
    start = RegistrationSettings() if file is None else RegistrationSettings.from_json(file)
    settings = replace(start, **{name: getattr(args, name) for name in SETTING_OPTIONS if hasattr(args, name)})
    without_use = [SETTING_OPTIONS[name].flag for name in _OF_DEFORMATION if hasattr(args, name)]
    if settings.linear and without_use:
        raise InputError(
            f"{', '.join(without_use)}: expected --transform deformable with it; got {settings.transform}, which "
            "has no deformation. Leave it out, or choose --transform deformable."
        )
    return settings
