"""The networks by name: what each is made of, where its weights come from, and loading it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..errors import CheckpointError, DeviceError, InputError
from . import checkpoints
from .compositions import (
    COMPACT,
    COMPACT_ROTATION,
    FINAL,
    FINAL_FINAL,
    FINAL_ROTATION,
    GRADICON,
    Composition,
    assemble,
    with_last_step,
)
from .operators import RegistrationNetwork, without_refinement

log = logging.getLogger(__name__)

_CARL = (
    "H. Greer, L. Tian, F.-X. Vialard, R. Kwitt, R. San Jose Estepar, M. Niethammer: CARL: A Framework for "
    "Equivariant Image Registration. CVPR 2025."
)
_NO_PAPER_WEIGHTS = (
    "No official CARL weights are published. Give a state dict of the authors' network (`regis_net.state_dict()` of "
    "icon_registration) that you trained or were given."
)


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """One entry of the registry.

    compositions: what the network is made of; further ones are variants that a weights file may turn out to be.
    legacy: predicts in the published weights' coordinates. legacy_shape_dhw: the grid that both images are stretched
        to, for legacy networks. normalization: what the training did to intensities (`ct-mr`: CT clamped to
        [-1000, 1000], MR minimum to 99th percentile; `maximum`: divided by the maximum; `compact`: the engine's own).
    parameters: of the first composition. attention_parameters: of its attention alone, 0 without.
    weights: where they come from. license: of the weights.
    """

    name: str
    summary: str
    compositions: tuple[Composition, ...] = field(repr=False)
    legacy: bool
    legacy_shape_dhw: tuple[int, int, int] | None = None
    normalization: str = "compact"
    parameters: int
    attention_parameters: int
    weights: str
    license: str
    citation: str

    @property
    def shipped_file(self) -> Path | None:
        """The weights file inside the package, when there is one."""
        path = checkpoints.WEIGHTS_FOLDER / f"{self.name}.safetensors"
        return path if path.is_file() else None

    @property
    def shipped(self) -> bool:
        return self.shipped_file is not None

    @property
    def sha256(self) -> str | None:
        """Of the shipped file; None for a user's own."""
        return checkpoints.shipped_sha256(f"{self.name}.safetensors")


def _paper(name: str, summary: str, composition: Composition, shape, normalization: str, **counts) -> ModelInfo:
    return ModelInfo(
        name=name,
        summary=summary,
        compositions=(with_last_step(composition), composition),
        legacy=True,
        legacy_shape_dhw=shape,
        normalization=normalization,
        weights=_NO_PAPER_WEIGHTS,
        license="the weights' own",
        citation=_CARL,
        **counts,
    )


def _gradicon(name: str, summary: str, release: str, citation: str) -> ModelInfo:
    return ModelInfo(
        name=name,
        summary=summary,
        compositions=(with_last_step(GRADICON), GRADICON),
        legacy=True,
        legacy_shape_dhw=(175, 175, 175),
        normalization="ct-mr",
        parameters=70_680_916,
        attention_parameters=0,
        weights=f"Download https://github.com/uncbiag/uniGradICON/releases/download/{release}/Step_2_final.trch",
        license="MIT (uniGradICON project)",
        citation=citation,
    )


MODELS: dict[str, ModelInfo] = {
    info.name: info
    for info in (
        ModelInfo(
            name="carl-compact",
            summary="Coordinate attention at 1/8 resolution, local attention at 1/4 and 1/2; the default",
            compositions=(COMPACT,),
            legacy=False,
            parameters=1_065_099,
            attention_parameters=771_937,
            weights="Shipped with carlreg.",
            license="Apache-2.0",
            citation=_CARL,
        ),
        ModelInfo(
            name="carl-compact-rotation",
            summary="As carl-compact, with an encoder equivariant to turns by 180 degrees, trained with turned pairs",
            compositions=(COMPACT_ROTATION,),
            legacy=False,
            parameters=1_065_099,
            attention_parameters=771_937,
            weights="Shipped with carlreg.",
            license="Apache-2.0",
            citation=_CARL,
        ),
        _paper(
            "carl-paper-abdomen",
            "CARL as published for abdomen CT (Learn2Reg, Abdomen1K): attention at 1/4 resolution, three U-Nets",
            FINAL_FINAL,
            (175, 175, 175),
            "maximum",
            parameters=56_997_503,
            attention_parameters=3_986_816,
        ),
        _paper(
            "carl-paper-brain",
            "CARL as published for brain MR and lung CT: as for the abdomen, joined in another order",
            FINAL,
            (130, 155, 130),
            "maximum",
            parameters=56_997_503,
            attention_parameters=3_986_816,
        ),
        _paper(
            "carl-paper-rotation",
            "CARL{ROT} as published: an encoder equivariant to turns by 180 degrees",
            FINAL_ROTATION,
            (130, 155, 130),
            "maximum",
            parameters=58_324_991,
            attention_parameters=5_314_304,
        ),
        _gradicon(
            "unigradicon",
            "GradICON trained on many regions, CT and MR (four U-Nets, no attention)",
            "unigradicon_weights",
            "L. Tian, H. Greer, R. Kwitt, F.-X. Vialard, R. San Jose Estepar, S. Bouix, R. Rushmore, M. Niethammer: "
            "uniGradICON: A Foundation Model for Medical Image Registration. MICCAI 2024.",
        ),
        _gradicon(
            "multigradicon",
            "As unigradicon, trained across modalities",
            "multigradicon_weights",
            "B. Demir, L. Tian, H. Greer, R. Kwitt, F.-X. Vialard, R. San Jose Estepar, S. Bouix, R. Rushmore, "
            "E. Ebrahim, M. Niethammer: multiGradICON: A Foundation Model for Multimodal Medical Image Registration. "
            "WBIR 2024.",
        ),
    )
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
    legacy: bool
    info: ModelInfo


def model_info(name: str) -> ModelInfo:
    """The registry's entry. Raises InputError for an unknown name."""
    if name not in MODELS:
        raise InputError(f"Model: expected one of {', '.join(MODELS)}; got {name!r}.")
    return MODELS[name]


def build(name: str, *, legacy: bool | None = None) -> RegistrationNetwork:
    """The network with fresh random weights, whose refinements do nothing yet.

    legacy: the coordinate convention; None = the one its weights were trained in.
    """
    info = model_info(name)
    return assemble(info.compositions[0], legacy=info.legacy if legacy is None else legacy)


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
    """
    info = model_info(name)
    path = Path(weights) if weights is not None else info.shipped_file
    if path is None:
        if not allow_untrained:
            raise CheckpointError(
                f"Weights: {name} needs a weights file, and none was given or is shipped. {info.weights} "
                "(Random weights register nothing; allow untrained weights only to test.)"
            )
        network = build(name)
        trained = dict.fromkeys(sorted(set(checkpoints.part_of_names(network).values())), False)
        log.warning("%s runs with random weights: its result means nothing.", name)
        return LoadedModel(_ready(network, device), name, None, trained, info.legacy, info)

    file = checkpoints.read_weights(path, info.sha256 if weights is None else None)
    if file.metadata is not None:
        network = build(name)
        parts = checkpoints.put_own(network, file, name)
    else:
        network = _from_authors(info, file)
        parts = sorted(set(checkpoints.part_of_names(network).values()))
    trained = {part: part in parts for part in sorted(set(checkpoints.part_of_names(network).values()))}
    if trained.get(checkpoints.REFINEMENT) is False:
        network = without_refinement(network)  # it would cost time and change nothing
    return LoadedModel(_ready(network, device), name, file.sha256, trained, info.legacy, info)


def _from_authors(info: ModelInfo, file: checkpoints.WeightsFile) -> RegistrationNetwork:
    """The variant of a model that the names in a foreign file belong to, filled with its tensors."""
    if not info.legacy:
        raise CheckpointError(
            f"Weights: expected a safetensors file made by carlreg for {info.name}, got another file: {file.path}."
        )
    with torch.device("meta"):  # names only: no memory, no random numbers
        candidates = [assemble(composition, legacy=True) for composition in info.compositions]
    renamed = [checkpoints.AuthorsNames.renamed(network, file.tensors) for network in candidates]
    fits = [set(tensors) == set(network.state_dict()) for network, tensors in zip(candidates, renamed, strict=True)]
    chosen = fits.index(True) if True in fits else 0
    network = assemble(info.compositions[chosen], legacy=True)
    checkpoints.put_weights(network, renamed[chosen], network.state_dict(), file.path)
    return network


def _ready(network: RegistrationNetwork, device: str | torch.device) -> RegistrationNetwork:
    try:
        return network.eval().to(device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"Device: {device} cannot be used ({str(error).splitlines()[0]}). Choose cpu.") from error
