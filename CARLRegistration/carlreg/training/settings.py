"""The configuration of a training run: one TOML file, its sections, and what each key may be.

Every settings class of training is here or, what is said about data, in `data_settings.py`; neither imports any of the
modules that use them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from ..errors import InputError
from ..models.catalog import MODELS
from ..paths import given_path
from .data_settings import DataSettings
from .schema import Range, Section, read_section, read_toml, with_overrides

Regularity = Literal["icon", "gradicon", "diffusion", "bending"]

# Names of kinds and models in configurations and checkpoints of earlier versions, and what they are called now.
_EARLIER_KINDS = {"everything": "joint"}
_EARLIER_MODELS = {"unet": "gradicon-compact"}


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Section):
    """name: of the registry, or a network for the plane. weights: 'none', 'shipped', another shipped model's name, or a
    file to start from."""

    name: str = "carl-compact"
    weights: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "name", current_model(self.name))


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
class StageSettings(Section):
    """Numbers of a stage; each stage has its own and gives `kind` its name.

    parts: which parts of the network are trained; the others keep their weights.
    """

    kind: str
    parts: Literal["all", "attention", "refinement"] = "all"


@dataclass(frozen=True, kw_only=True)
class AttentionSettings(StageSettings):
    """queries: rows of attention per ordered pair. padding_cells: background cells around the keys.

    end_point_weight: weight of the error in cells. minimum_structure: local deviation that makes a voxel count.
    """

    kind: Literal["attention"] = "attention"
    parts: Literal["attention"] = "attention"
    queries: Annotated[int, Range(1, 1_000_000)] = 384
    padding_cells: Annotated[int, Range(1, 32)] = 1
    end_point_weight: Annotated[float, Range(0, 100)] = 0.1
    minimum_structure: Annotated[float, Range(0, 1)] = 0.03


@dataclass(frozen=True, kw_only=True)
class RefinementSettings(StageSettings):
    """largest_voxels: usual largest length of the disturbance. Weights of the terms beside the cross-entropy.

    minimum_structure: local deviation that makes a place count in the cross-entropy.
    """

    kind: Literal["refinement"] = "refinement"
    parts: Literal["refinement"] = "refinement"
    largest_voxels: Annotated[float, Range(0, 100)] = 10.0
    end_point_weight: Annotated[float, Range(0, 1000)] = 1.0
    gradient_weight: Annotated[float, Range(0, 1000)] = 0.3
    minimum_structure: Annotated[float, Range(0, 1)] = 0.03


@dataclass(frozen=True, kw_only=True)
class JointSettings(StageSettings):
    """Weights. labels: how many of both images' labels count; points: at which terms look, 0 = all; for each pair."""

    kind: Literal["joint"] = "joint"
    dice_weight: Annotated[float, Range(0, 1000)] = 1.0
    end_point_weight: Annotated[float, Range(0, 1000)] = 1.0
    gradicon_weight: Annotated[float, Range(0, 1000)] = 1.5
    labels: Annotated[int, Range(1, 1000)] = 12
    points: Annotated[int, Range(0, 1e9)] = 0


@dataclass(frozen=True, kw_only=True)
class SimilaritySettings(StageSettings):
    """similarity: what is maximized, see `losses.paper.dissimilarity`. regularity: what asks for plausible maps, see
    `losses.paper.irregularity`; GradICON on every second point per axis. weight: of it.
    """

    kind: Literal["similarity"] = "similarity"
    similarity: Literal["lncc", "lncc2", "mind"] = "lncc2"
    regularity: Regularity = "gradicon"
    weight: Annotated[float, Range(0, 1e6)] = 1.5


@dataclass(frozen=True, kw_only=True)
class ImagesSettings(StageSettings):
    """similarity: what is maximized. regularity: see `SimilaritySettings`. weight: of the regularizer.

    sparse: GradICON on every second point per axis.
    diffusion_steps: steps with diffusion as regularizer before `regularity` takes over.
    rotation: turn both images at random. rotation_degrees: the largest turn; 180 = all rotations, evenly.
    """

    kind: Literal["images"] = "images"
    similarity: Literal["lncc", "lncc2", "mind"] = "lncc"
    regularity: Regularity = "gradicon"
    weight: Annotated[float, Range(0, 1e6)] = 1.5
    sparse: bool = True
    diffusion_steps: Annotated[int, Range(0, 1e9)] = 1500
    rotation: bool = False
    rotation_degrees: Annotated[float, Range(0, 180)] = 180.0


@dataclass(frozen=True, kw_only=True)
class PlanarSettings(StageSettings):
    """similarity, regularity: see `SimilaritySettings`; 'ssd' is the mean squared difference.

    weight: of the regularizer; ICON's is in squared image edges, so it needs a large one. points: of each image at
        which both look, drawn anew each time; 0 = all pixels.
    """

    kind: Literal["planar"] = "planar"
    similarity: Literal["ssd", "lncc", "lncc2"] = "ssd"
    regularity: Regularity = "icon"
    weight: Annotated[float, Range(0, 1e6)] = 1000.0
    points: Annotated[int, Range(0, 1e9)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_points = self.similarity == "ssd" and self.regularity in ("icon", "gradicon")
        if self.points and not at_points:
            wanted = "0, or similarity 'ssd' with regularity 'icon' or 'gradicon', which look at single points"
            raise InputError(f"points: expected {wanted}; got {self.similarity!r} and {self.regularity!r}.")


STAGE_SETTINGS: dict[str, type[StageSettings]] = {
    "attention": AttentionSettings,
    "refinement": RefinementSettings,
    "joint": JointSettings,
    "similarity": SimilaritySettings,
    "images": ImagesSettings,
    "planar": PlanarSettings,
}


def current_kind(kind: str) -> str:
    """The name that a kind of training has now; files of earlier versions may use another one."""
    return _EARLIER_KINDS.get(kind, kind)


def current_model(name: str) -> str:
    """The name that a model has now; files of earlier versions may use another one."""
    return _EARLIER_MODELS.get(name, name)


def stage_settings(kind: object) -> type[StageSettings]:
    """The settings class of a kind of training. Raises InputError."""
    if not isinstance(kind, str) or kind not in STAGE_SETTINGS:
        raise InputError(f"stage.kind: expected one of {', '.join(STAGE_SETTINGS)}; got {kind!r}.")
    return STAGE_SETTINGS[kind]


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
    stage = dict(sections["stage"])
    if isinstance(stage.get("kind"), str):
        stage["kind"] = current_kind(stage["kind"])
    sections["stage"] = read_section(stage_settings(stage.get("kind")), stage, "stage")
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
        return str(base / given_path(text, key)) if text else text

    weights, source, pairs = config.model.weights, config.data.images.source, config.validation.images
    maps = config.data.synthetic.label_maps
    if weights not in ("none", "shipped", *MODELS):
        weights = absolute("model.weights", weights)
    images = replace(config.data.images, source=absolute("data.images.source", source))
    synthetic = replace(config.data.synthetic, label_maps=absolute("data.synthetic.label_maps", maps))
    return replace(
        config,
        model=replace(config.model, weights=weights),
        data=replace(config.data, images=images, synthetic=synthetic),
        validation=replace(config.validation, images=absolute("validation.images", pairs)),
    )
