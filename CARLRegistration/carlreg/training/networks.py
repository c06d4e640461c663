"""The networks that can be trained, and the weights they start from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, InputError
from ..models import registry
from ..models.background import OnBackground
from ..models.checkpoints import ATTENTION, REFINEMENT, part_of_names, put_own, read_weights
from ..models.compact_encoder import CompactEncoder, CompactEncoderSettings
from ..models.compositions import PLANE_NEPHI, Attention, Composition, Half, Local, Refinement, Two, assemble
from ..models.dimensions import channels_last
from ..models.local_attention import LocalAttention, LocalAttentionSettings
from ..models.operators import RegistrationNetwork, without_refinement
from ..models.unet import UNetSettings
from .saving import is_checkpoint, read_checkpoint, require, stage_of

log = logging.getLogger(__name__)

PUBLISHED = "published weights"  # how the history of a network that started from them begins

_PLANE_UNET = UNetSettings(down_channels=(2, 16, 32, 64, 64), up_channels=(16, 32, 32, 32), dimension=2)
_PLANE_ENCODER = CompactEncoderSettings(
    pooling=1, stem_channels=16, channels=32, groups=1, dilations=(1, 2, 1), token_channels=32, dimension=2
)
_PLANE_LOCAL = LocalAttentionSettings(channels=16, token_channels=16, dilations=(1,), dimension=2)
# For images of the plane: ICON's two U-Nets, in the published coordinates, and attention with a local step after it.
PLANAR: dict[str, Composition] = {
    "planar-unet": Two(Half(Refinement(_PLANE_UNET)), Refinement(_PLANE_UNET)),
    "planar-nephi": PLANE_NEPHI,
    "planar-carl": Two(Attention(_PLANE_ENCODER), Local(_PLANE_LOCAL), relax_voxels=2.0),
}
_ALIGNED = {"planar-unet"}


def names() -> list[str]:
    return [*registry.MODELS, *PLANAR]


def dimension_of(name: str) -> int:
    """How many axes the images of a network have."""
    return 2 if name in PLANAR else 3


def build(name: str, seed: int = 0) -> RegistrationNetwork:
    """The network with fresh weights, the same for the same seed. Raises InputError for an unknown name."""
    if name not in names():
        raise InputError(f"model.name: expected one of {', '.join(names())}; got {name!r}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        planar = PLANAR.get(name)
        network = registry.build(name) if planar is None else assemble(planar, align_corners=name in _ALIGNED)
    for module in network.modules():
        if isinstance(module, OnBackground):  # the memory layout that its inputs have
            module.to(memory_format=channels_last(module.dimension))  # pyright: ignore[reportCallIssue]
    return network


def info_of(name: str) -> registry.ModelInfo | None:
    """The registry's entry; None for a network that is only there to compare with."""
    return registry.MODELS.get(name)


@dataclass(frozen=True)
class InitialWeights:
    """parts: of the network that have trained weights. history: the stages those went through, oldest first."""

    parts: list[str]
    history: list[dict[str, Any]]


def put_start(network: RegistrationNetwork, name: str, weights: str) -> InitialWeights:
    """Give a network its weights to start from.

    Args: weights: 'none', 'shipped', the name of another shipped model, a weights file of ours, a checkpoint of a run,
        or, for the published architectures, a state dict of the authors' code. Of a file for another model, its encoder
        of attention is taken, or its local attention, wherever this network has the same.
    Raises: InputError, CheckpointError.
    """
    if weights == "none":
        return InitialWeights([], [])
    path = Path(weights)
    if weights == "shipped" or weights in registry.MODELS:
        shipped = name if weights == "shipped" else weights
        info = info_of(shipped)
        path = None if info is None else info.shipped_file
        if path is None:
            raise InputError(f"model.weights: nothing is shipped for {shipped}; expected 'none' or a file.")
    checkpoint = _checkpoint(path)
    if checkpoint is not None:
        require(checkpoint, path, "average", "model", "stage", "step", "seconds", "history", "trained_parts")
        tensors, source = checkpoint["average"], checkpoint["model"]
        history = [*checkpoint["history"], stage_of(checkpoint)]
        if source != name:
            parts = _put_same_parts(network, tensors, path, source)
            return InitialWeights(parts, _those_of(parts, history))
        check_fits(network, tensors, path)
        network.load_state_dict(tensors)
        return InitialWeights(list(checkpoint["trained_parts"]), history)
    file = read_weights(path)
    if file.metadata is None:
        info = info_of(name)
        if info is None or not info.published_weights:
            raise CheckpointError(
                f"model.weights: expected a weights file made by carlreg, or a checkpoint; got {path}."
            )
        tensors = registry.load(name, path).network.state_dict()
        check_fits(network, tensors, path)  # of another width, as EOIR's may be
        network.load_state_dict(tensors)
        published = {"stage": f"{PUBLISHED} {path.name}", "steps": 0, "seconds": None}
        return InitialWeights(sorted(set(part_of_names(network).values())), [published])
    source = str(file.metadata.get("carlreg_model"))
    parts = put_own(network, file, name) if source == name else _put_same_parts(network, file.tensors, path, source)
    try:
        history = _history_of(file.metadata)
        return InitialWeights(parts, history if source == name else _those_of(parts, history))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"model.weights: {path}: its metadata tell no history of training ({error}).") from error


def _those_of(parts: list[str], history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the stages that trained only what was not taken."""
    return [one for one in history if one["stage"] not in {ATTENTION, REFINEMENT} - set(parts)]


def _history_of(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """The stages that a weights file names; one without a list of them says its one stage. Times may be unknown."""
    one: dict[str, Any] = {
        "stage": metadata.get("stage", "not known"),
        "steps": metadata.get("steps", 0),
        "seconds": metadata.get("training_seconds"),
    }
    stages: list[dict[str, Any]] = metadata.get("stages") or [one]
    return [{"stage": str(s["stage"]), "steps": int(s["steps"]), "seconds": s.get("seconds")} for s in stages]


def _checkpoint(path: Path) -> dict[str, Any] | None:
    """The content of a run's checkpoint; None when the file is something else."""
    return read_checkpoint(path) if is_checkpoint(path) else None


def _put_same_parts(network: RegistrationNetwork, tensors: dict[str, Tensor], path: Path, source: str) -> list[str]:
    """Of another model's tensors: the encoder of attention, or, for a network without, its steps of local attention."""
    modules = dict(network.named_modules())
    encoders = [module for module in modules.values() if isinstance(module, CompactEncoder)]
    steps = [module for module in modules.values() if isinstance(module, LocalAttention)]
    for kind, part, some in (("encoder of attention", ATTENTION, encoders[:1]), ("local attention", REFINEMENT, steps)):
        theirs = [_same_shapes(module, tensors) for module in some]
        if theirs and all(theirs):
            for module, values in zip(some, theirs, strict=True):
                module.load_state_dict(values)
            log.info("Took the %s from %s (%s); all else starts anew.", kind, path, source)
            return [part]
    raise CheckpointError(f"model.weights: {path} holds weights of {source}, which have nothing for this network.")


def _same_shapes(module: torch.nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the first prefix that has just the module's names and shapes; empty without any."""
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    first = next(iter(shapes))
    for prefix in sorted(name.removesuffix(first) for name in tensors if name.endswith(first)):
        found = {name: tensors[prefix + name] for name in shapes if prefix + name in tensors}
        if {name: value.shape for name, value in found.items()} == shapes:
            return found
    return {}


def check_fits(module: torch.nn.Module, tensors: dict[str, Tensor], path: Path | str) -> None:
    """Raise CheckpointError that says what differs unless the tensors are the module's, by name and shape."""
    own = module.state_dict()
    missing, unknown = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    shapes = [
        f"{name} is {tuple(tensors[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    found = [("without", missing), ("with", unknown), ("where", shapes)]
    problems = [f"{word} {', '.join(n[:3])}{f' and {len(n) - 3} more' if len(n) > 3 else ''}" for word, n in found if n]
    if problems:
        raise CheckpointError(
            f"{path}: the checkpoint is of another architecture: {'; '.join(problems)}. Choose another --out folder, "
            "or the version and model that it was made with."
        )


def trained_only(network: RegistrationNetwork, trained_parts: list[str]) -> RegistrationNetwork:
    """The network without parts that have no trained weights, as it would be used; shares its weights."""
    return without_refinement(network) if trained_parts == [ATTENTION] else network
