"""Networks by name: what each is made of, and loading it with its weights."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from ..errors import CheckpointError, DeviceError
from ..kept import file_identity, kept
from ..paths import given_path
from . import checkpoints
from .catalog import MODELS, ModelInfo, model_info
from .compositions import (
    COMPACT,
    COMPACT_ROTATION,
    CONSTRICON,
    CONSTRICON_COMPACT,
    EOIR,
    EOIR_PAPER,
    FINAL,
    FINAL_FINAL,
    FINAL_ROTATION,
    GRADICON,
    GRADICON_COMPACT,
    NEPHI,
    Composition,
    assemble,
    with_last_step,
)
from .eoir_files import check_form, eoir_file
from .operators import RegistrationNetwork, without_refinement

log = logging.getLogger(__name__)

__all__ = ["COMPOSITIONS", "MODELS", "LoadedModel", "ModelInfo", "build", "load", "model_info"]

#: What each network of the catalog is made of; further entries are variants that a weights file may turn out to be.
COMPOSITIONS: dict[str, tuple[Composition, ...]] = {
    "carl-compact": (COMPACT,),
    "carl-compact-rotation": (COMPACT_ROTATION,),
    "eoir": (EOIR,),
    "nephi": (NEPHI,),
    "gradicon-compact": (GRADICON_COMPACT,),
    "carl-paper-abdomen": (with_last_step(FINAL_FINAL), FINAL_FINAL),
    "carl-paper-brain": (with_last_step(FINAL), FINAL),
    "carl-paper-rotation": (with_last_step(FINAL_ROTATION), FINAL_ROTATION),
    "unigradicon": (with_last_step(GRADICON), GRADICON),
    "multigradicon": (with_last_step(GRADICON), GRADICON),
    "eoir-paper": tuple(EOIR_PAPER.values()),
    "constricon": (CONSTRICON_COMPACT,),
    "constricon-paper": (CONSTRICON,),
}


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to predict (on its device, in evaluation mode).

    weights_sha256: of the weights file; None without one. trained: part -> whether it has trained weights; parts that
    have not are left out of the network when others are trained.
    """

    network: RegistrationNetwork
    name: str
    weights_sha256: str | None
    trained: dict[str, bool]
    info: ModelInfo


def build(name: str, *, align_corners: bool | None = None) -> RegistrationNetwork:
    """The network with fresh random weights, whose refinements do nothing yet.

    align_corners: the coordinate convention; None = the one its weights were trained in.
    """
    info = model_info(name)
    return assemble(
        COMPOSITIONS[name][0], align_corners=info.published_weights if align_corners is None else align_corners
    )


def load(
    name: str,
    weights: str | Path | None = None,
    allow_untrained: bool = False,
    device: str | torch.device = "cpu",
) -> LoadedModel:
    """A network with its weights: the given file's, or the shipped ones.

    Args:
        weights: a safetensors file of ours or a PyTorch state dict of the authors' code; None = the shipped file.
        allow_untrained: without any weights go on with random ones.
    Raises: InputError for an unknown name; CheckpointError when there are no weights, or the file does not fit;
        DeviceError when the device does not exist.

    A process that keeps networks (`kept`) gets the last one again, in the same memory, while its file is the same.
    """
    path = given_path(weights, "weights") if weights is not None else model_info(name).shipped_file
    keeper, known = kept(), None if path is None else file_identity(path)
    if keeper is None or known is None:
        return _load(name, path, weights is not None, allow_untrained, device)

    def make() -> tuple[LoadedModel, torch.Tensor]:
        return _load(name, path, weights is not None, allow_untrained, device), torch.get_rng_state()

    # Building a network draws random numbers: what is drawn after it must be the same in both ways.
    drawn = torch.get_rng_state().numpy().tobytes()
    key = name, str(path), weights is not None, known, str(device), drawn
    loaded, after = keeper.get("network", key, make)
    torch.set_rng_state(after)
    return loaded


def _load(name: str, path: Path | None, given: bool, allow_untrained: bool, device: str | torch.device) -> LoadedModel:
    """given: whether the file is the user's, not the shipped one."""
    info = model_info(name)
    if path is None:
        if not allow_untrained:
            raise CheckpointError(
                f"Weights: {name} needs a weights file, and none was given or is shipped. {info.weights} "
                "(Random weights register nothing; allow untrained weights only to test.)"
            )
        network = build(name)
        trained = dict.fromkeys(sorted(set(checkpoints.part_of_names(network).values())), False)
        log.warning("%s runs with random weights: its result means nothing.", name)
        return LoadedModel(_ready(network, device), name, None, trained, info)

    file = checkpoints.read_weights(path, None if given else info.sha256)
    if file.metadata is not None:
        checkpoints.check_made_for(file, name)  # first: a large network takes seconds to build
        network = build(name)
        parts = checkpoints.put_own(network, file, name)
    else:
        info, network = _from_authors(info, file)
        parts = sorted(set(checkpoints.part_of_names(network).values()))
    trained = {part: part in parts for part in sorted(set(checkpoints.part_of_names(network).values()))}
    if trained.get(checkpoints.REFINEMENT) is False:
        network = without_refinement(network)  # it would cost time and change nothing
    return LoadedModel(_ready(network, device), info.name, file.sha256, trained, info)


def _from_authors(info: ModelInfo, file: checkpoints.WeightsFile) -> tuple[ModelInfo, RegistrationNetwork]:
    """The variant of a model that the names in a foreign file belong to, filled with its tensors, and what it is."""
    if info.name in ("eoir", "eoir-paper") and (found := eoir_file(file.tensors)) is not None:
        network = assemble(found.composition, align_corners=True)
        check_form(found, set(network.state_dict()), file.path)
        checkpoints.put_weights(network, found.tensors, network.state_dict(), file.path)
        published = MODELS["eoir-paper"]
        return replace(published, trained_shape_dhw=found.shape_dhw or published.trained_shape_dhw), network
    looks_like = _systems(file)
    if not info.published_weights:
        raise CheckpointError(
            f"Weights: expected a safetensors file made by carlreg for {info.name}, got another file: {file.path}. "
            + (f"It looks like weights of {looks_like}." if looks_like else "Choose the model that it was made for.")
        )
    candidates = [_skeleton(composition) for composition in COMPOSITIONS[info.name]]
    renamed = [checkpoints.AuthorsNames.renamed(network, file.tensors) for network in candidates]
    fits = [set(tensors) == set(network.state_dict()) for network, tensors in zip(candidates, renamed, strict=True)]
    if looks_like and True not in fits:
        raise CheckpointError(
            f"Weights: expected weights of {info.name}; {file.path} looks like weights of {looks_like}. Choose that "
            "model, or another file."
        )
    chosen = fits.index(True) if True in fits else 0
    network = assemble(COMPOSITIONS[info.name][chosen], align_corners=True)
    checkpoints.put_weights(network, renamed[chosen], network.state_dict(), file.path)
    return info, network


def _systems(file: checkpoints.WeightsFile) -> str:
    """Which published networks a foreign file's names belong to, in words; empty when to none."""
    eoir = eoir_file(file.tensors)
    if eoir is not None:
        return f"{eoir.title} (model eoir)"
    found = []
    for name, compositions in COMPOSITIONS.items():
        for composition in compositions if MODELS[name].published_weights else ():
            network = _skeleton(composition)
            if set(checkpoints.AuthorsNames.renamed(network, file.tensors)) == set(network.state_dict()):
                found.append(name)
                break
    return " or ".join(found)


@cache
def _skeleton(composition: Composition) -> RegistrationNetwork:
    """A published network's names: no memory, no random numbers."""
    with torch.device("meta"):
        return assemble(composition, align_corners=True)


def _ready(network: RegistrationNetwork, device: str | torch.device) -> RegistrationNetwork:
    try:
        return network.eval().to(device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"Device: {device} cannot be used ({str(error).splitlines()[0]}). Choose cpu.") from error
