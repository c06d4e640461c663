"""The configuration of a training run: one TOML file, its sections, and what each key may be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from ..errors import InputError
from .schema import Range, Section, read_section, read_toml, with_overrides
from .stage import StageSettings
from .stages import stage_class
from .synthetic import SyntheticSettings


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Section):
    """name: of the registry, or `unet`. weights: 'none', 'shipped', or a file to start from."""

    name: str = "carl-compact"
    weights: str = "none"


@dataclass(frozen=True, kw_only=True)
class ImageSettings(Section):
    """Own images.

    source: a folder with volumes, or a CSV file with the columns image and, if wanted, mask and group (paths relative
        to the file). recursive: folders inside the folder too. on_unreadable: what a volume that cannot be read does.
    modality: of all of them. edge: the largest content's longest edge on the training grid, voxels. spacing_mm: of that
        grid, instead of `edge`. pairs: drawn from 'any' two volumes, 'within' a group, or 'across' groups.
    """

    source: str = ""
    recursive: bool = False
    on_unreadable: Literal["stop", "skip"] = "stop"
    modality: Literal["auto", "ct", "mr"] = "auto"
    edge: Annotated[int, Range(16, 512)] = 128
    spacing_mm: Annotated[float, Range(0.05, 100)] | None = None
    pairs: Literal["any", "within", "across"] = "any"


@dataclass(frozen=True, kw_only=True)
class DataSettings(Section):
    """workers: processes that draw data on a CPU; 0 = the training process itself, as always on a GPU."""

    workers: Annotated[int, Range(0, 256)] = 1
    synthetic: SyntheticSettings = field(default_factory=SyntheticSettings)
    images: ImageSettings = field(default_factory=ImageSettings)


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings(Section):
    """AdamW with a cosine from `rate` to `final_rate` after a linear warm-up.

    weight_decay: of matrices and kernels, not of biases and scales. clip: largest norm of the gradient.
    ema: decay of the running average of the weights, which is what is validated and exported.
    batch: samples per device at once. accumulation: batches per step and device, one after the other.
    """

    rate: Annotated[float, Range(1e-9, 1)] = 1e-4
    final_rate: Annotated[float, Range(0, 1)] = 2e-5
    warmup_steps: Annotated[int, Range(0, 1e6)] = 100
    weight_decay: Annotated[float, Range(0, 1)] = 0.01
    clip: Annotated[float, Range(1e-6, 1e6)] = 1.0
    ema: Annotated[float, Range(0, 0.999999)] = 0.999
    batch: Annotated[int, Range(1, 1024)] = 1
    accumulation: Annotated[int, Range(1, 1024)] = 1


@dataclass(frozen=True, kw_only=True)
class ValidationSettings(Section):
    """every_steps, or every_seconds instead: how often; 0 steps = never. pairs: generated pairs it uses.

    images: CSV file with the columns fixed, moving and landmarks or fixed_labels, moving_labels (paths relative to the
        file), of real pairs that are never trained on. edge: their network grid's longest edge, voxels.
    """

    every_steps: Annotated[int, Range(0, 1e9)] = 500
    every_seconds: Annotated[float, Range(1, 1e7)] | None = None
    pairs: Annotated[int, Range(0, 10_000)] = 8
    images: str | None = None
    edge: Annotated[int, Range(16, 512)] = 128


@dataclass(frozen=True, kw_only=True)
class RunSettings(Section):
    """steps or minutes: length of the whole run; give exactly one. It may be continued in several sittings.

    precision: 'bfloat16' runs convolutions in it; coordinates, warps and losses are float32 always.
    threads: CPU threads; None = PyTorch's choice. log_every: steps averaged in one line of the log.
    """

    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    steps: Annotated[int, Range(1, 1e9)] | None = None
    minutes: Annotated[float, Range(0.01, 1e6)] | None = None
    device: str = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    threads: Annotated[int, Range(1, 1024)] | None = None
    checkpoint_seconds: Annotated[float, Range(1, 1e6)] = 300.0
    log_every: Annotated[int, Range(1, 1e6)] = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.steps is None) == (self.minutes is None):
            raise InputError("expected either steps or minutes, the length of the run; give exactly one of them.")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise InputError(f"device: expected auto, cpu, cuda or cuda:N; got {self.device!r}.")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Section):
    """Everything that a run depends on."""

    run: RunSettings
    stage: StageSettings
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)


def config_from_table(table: dict[str, Any]) -> TrainingConfig:
    """Raises InputError that names the key, what was expected, what arrived."""
    sections = dict(table)
    for name in ("stage", "run"):
        if not isinstance(sections.get(name), dict):
            raise InputError(f"the configuration: expected a section [{name}]; got {sections.get(name)!r}.")
    kind = stage_class(sections["stage"].get("kind"))
    sections["stage"] = read_section(kind.Settings, sections["stage"], "stage")
    return read_section(TrainingConfig, sections)


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainingConfig:
    """A configuration file with `section.key=value` overrides.

    Paths in the file are relative to it, those in overrides to the working directory.
    Raises InputError when it cannot be read or something in it is wrong.
    """
    try:
        config = config_from_table(with_overrides(read_toml(path), overrides))
    except InputError as error:
        raise error if str(path) in str(error) else type(error)(f"{path}: {error}") from error
    given = {assignment.partition("=")[0].strip() for assignment in overrides}
    folder = Path(path).resolve().parent

    def absolute(key: str, text: str | None) -> str | None:
        base = Path.cwd() if key in given else folder
        return str(base / Path(text).expanduser()) if text else text

    weights, source, pairs = config.model.weights, config.data.images.source, config.validation.images
    if weights not in ("none", "shipped"):
        weights = absolute("model.weights", weights)
    images = replace(config.data.images, source=absolute("data.images.source", source))
    return replace(
        config,
        model=replace(config.model, weights=weights),
        data=replace(config.data, images=images),
        validation=replace(config.validation, images=absolute("validation.images", pairs)),
    )
