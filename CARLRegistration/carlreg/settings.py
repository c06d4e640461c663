"""What one registration was asked to do: frozen, checked, and saved as JSON beside each result."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from .errors import InputError
from .text_files import cut, read_json_object, shown

TRANSFORMS = ("deformable", "affine", "similarity", "rigid")
ROBUSTNESS = ("translation", "rotation")
EFFORTS = ("best", "fast")
MODALITIES = ("auto", "ct", "mr")
SIMILARITIES = ("lncc", "lncc2", "mind")
IO_METHODS = ("field", "network", "functional")
DEFAULT_IO_STEPS = {"field": 100, "network": 50, "functional": 100}


def _one_of(name: str, value, allowed) -> None:
    if value not in allowed:
        raise InputError(f"{name}: expected one of {', '.join(allowed)}; got {shown(value)}.")


def _of_type(name: str, value, kind) -> None:
    if not isinstance(value, kind):
        expected = "true or false" if kind is bool else "a text"
        raise InputError(f"{name}: expected {expected}; got {shown(value)}.")


def _stretches(name: str, value) -> tuple[float, float, float]:
    """Three numbers, as a tuple (JSON knows lists alone)."""
    if not isinstance(value, (tuple, list)) or len(value) != 3:
        raise InputError(f"{name}: expected three numbers, such as 0.4 2.5 1.6; got {shown(value)}.")
    for what, entry, low, high in zip(("least", "most", "uneven"), value, (0.05, 1, 1), (1, 20, 400), strict=True):
        _number(f"{name}, {what}", entry, low, high)
    least, most, uneven = (float(entry) for entry in value)
    return least, most, uneven


def _number(name: str, value, low: float, high: float, unit: str = "", whole: bool = False) -> None:
    kind = "a whole number" if whole else "a number"
    wrong_type = isinstance(value, bool) or not isinstance(value, int if whole else (int, float))
    if wrong_type or not low <= value <= high:  # not-a-number is not in between, either
        raise InputError(f"{name}: expected {kind} from {low:g} to {high:g}{unit}; got {shown(value)}.")


@dataclass(frozen=True, kw_only=True)
class RegistrationSettings:
    """Settings of one registration; the panel, the command line, batches and training share it.

    transform: what may change: 'rigid' (turn and shift), 'similarity' (and one size), 'affine' (and stretches and
        shears) or 'deformable' (and everything else). Linear ones take no steps, whatever is set.
    model: a name of `carlreg models`. weights: a file, or None for the model's own.
    robustness: 'translation' for scans in similar poses; 'rotation' when one may be turned by any angle.
    effort: how finely the field is optimized: 'best' down to the voxels of the images, where they show structures as
        fine as that (not in CT), 'fast' to coarser ones, in about half of the time.
    io_steps: instance optimization steps in all; None = the method's default, 0 = none.
    similarity: what instance optimization maximizes ('mind' for different contrasts).
    stretch_bounds: within which an affine may stretch lengths: least, most, and how many times as much along one
        direction as along another. Starts that are given (a transform, landmarks) may go beyond.
    symmetric: whether exchanging fixed and moving must give the inverse map.
    landmarks_accuracy_mm: how exactly the landmarks that guide it were placed (standard deviation; 0 = the map passes
        through them); None = a voxel of the coarser image.
    smoothness: factor on the default smoothness of the field (1 = default, larger = smoother).
    field_spacing_mm: spacing of the delivered displacement field; None = the working grid's.
    grid: largest edge of the network's grid in voxels. threads: CPU threads; None = PyTorch's choice.
    Raises InputError on construction when a value is not allowed.
    """

    transform: str = "deformable"
    model: str = "carl-compact"
    weights: str | None = None
    allow_untrained: bool = False
    robustness: str = "translation"
    fixed_modality: str = "auto"
    moving_modality: str = "auto"
    effort: str = "best"
    io_method: str = "field"
    io_steps: int | None = None
    similarity: str = "lncc2"
    stretch_bounds: tuple[float, float, float] = (0.4, 2.5, 1.6)
    symmetric: bool = False
    landmarks_accuracy_mm: float | None = None
    smoothness: float = 1.0
    field_spacing_mm: float | None = None
    grid: int = 128
    device: str = "auto"
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        _one_of("transform", self.transform, TRANSFORMS)
        _of_type("model", self.model, str)
        _of_type("allow untrained", self.allow_untrained, bool)
        _of_type("symmetric", self.symmetric, bool)
        if self.weights is not None:
            _of_type("weights", self.weights, (str, Path))
        _one_of("robustness", self.robustness, ROBUSTNESS)
        _one_of("fixed modality", self.fixed_modality, MODALITIES)
        _one_of("moving modality", self.moving_modality, MODALITIES)
        _one_of("effort", self.effort, EFFORTS)
        _one_of("io method", self.io_method, IO_METHODS)
        _one_of("similarity", self.similarity, SIMILARITIES)
        object.__setattr__(self, "stretch_bounds", _stretches("stretch bounds", self.stretch_bounds))
        if self.io_steps is not None:
            _number("io steps", self.io_steps, 0, 10_000, whole=True)
        if self.symmetric and self.io_method != "field" and self.steps:
            raise InputError(
                f"symmetric: expected io method field, which is optimized half-way between both images; got "
                f"{self.io_method}. Choose field, or 0 io steps."
            )
        if self.landmarks_accuracy_mm is not None:
            _number("landmarks accuracy", self.landmarks_accuracy_mm, 0, 1e9, " mm")
        _number("smoothness", self.smoothness, 0.01, 100.0)
        if self.field_spacing_mm is not None:
            _number("field spacing", self.field_spacing_mm, 1e-9, 1e9, " mm")  # what is apt, the fixed volume tells
        _number("grid", self.grid, 32, 512, " voxels", whole=True)
        _number("seed", self.seed, 0, 2**31 - 1, whole=True)
        if self.threads is not None:
            _number("threads", self.threads, 1, 1024, whole=True)
        if not isinstance(self.device, str) or not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", self.device):
            raise InputError(f"device: expected auto, cpu, cuda or cuda:N; got {shown(self.device)}.")
        if self.weights is not None:
            object.__setattr__(self, "weights", str(self.weights))

    @property
    def linear(self) -> bool:
        """Whether the map has no deformation."""
        return self.transform != "deformable"

    @property
    def dof(self) -> str:
        """What a linear map, or the linear start of a deformation, may change: 'rigid', 'similarity' or 'affine'."""
        return self.transform if self.linear else "affine"

    @property
    def steps(self) -> int:
        """Instance optimization steps that will be run."""
        if self.linear:
            return 0
        return DEFAULT_IO_STEPS[self.io_method] if self.io_steps is None else self.io_steps

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_dict(cls, values: dict) -> RegistrationSettings:
        """Settings from plain values; unknown keys are an InputError that lists the known ones."""
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            names = ", ".join(cut(str(name)) for name in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            raise InputError(f"Unknown settings {names}; known are {', '.join(known)}.")
        return cls(**values)

    @classmethod
    def from_json(cls, path: str | Path) -> RegistrationSettings:
        """Settings from a file that `to_json` made, or a result's `settings.json`. Raises InputError for any other."""
        values = read_json_object(path, str(path), "a JSON file with settings")
        if isinstance(values.get("settings"), dict):  # of a result: what it was asked to do, beside what it found
            values = values["settings"]
        try:
            return cls.from_dict(values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
