"""Weights in networks and in files: what belongs where, writing it, and the names other people's files use.

Ours are safetensors, half precision, with metadata: `carlreg_model` (a name of the registry), `trained_parts` (JSON
list of 'attention' and 'refinement'; what is not listed has not been trained and is not in the file), `dimension` (of
the network's images; 3 where it is missing) and whatever else describes the training, all as JSON strings. Foreign ones
are PyTorch state dicts; nothing in them is executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ..atomic import staging
from ..errors import CheckpointError
from ..text_files import cut, shown
from . import catalog
from .attention import CoordinateAttention
from .consistent import ConsistentNetwork, ConsistentStep, TwoStepConsistent
from .eoir import Eoir
from .local_attention import LocalAttention
from .matrix_net import MatrixNet
from .nephi import Nephi
from .operators import AtHalfResolution, RegistrationNetwork, TwoStep
from .paper_encoder import PaperEncoder
from .unet import UNetRegistration
from .weights_file import WeightsFile, read_weights, sha256_of

__all__ = ["WeightsFile", "read_weights", "sha256_of"]

ATTENTION, REFINEMENT = "attention", "refinement"


def part_of_names(network: RegistrationNetwork) -> dict[str, str]:
    """Each name of the network's state dict -> 'attention' or 'refinement'."""
    parts = {}
    for prefix, module in network.named_modules():
        if isinstance(module, CoordinateAttention | LocalAttention | UNetRegistration | Eoir | Nephi | MatrixNet):
            part = ATTENTION if isinstance(module, CoordinateAttention) else REFINEMENT
            parts |= dict.fromkeys((f"{prefix}.{name}" if prefix else name for name in module.state_dict()), part)
    return parts


def put_weights(network: nn.Module, tensors: dict[str, Tensor], names: Iterable[str], path: Path) -> None:
    """Copy exactly `names` of the network's state dict from `tensors`.

    Raises: CheckpointError listing missing, unknown or differently shaped tensors; the network is unchanged then.
    """
    names = list(names)
    state = network.state_dict()
    missing = [name for name in names if name not in tensors]
    unknown = sorted(set(tensors) - set(state))
    shapes = [
        f"{n} {tuple(tensors[n].shape)} instead of {tuple(state[n].shape)}"
        for n in names
        if n in tensors and tensors[n].shape != state[n].shape
    ]
    kinds = [n for n in names if n in tensors and tensors[n].is_floating_point() != state[n].is_floating_point()]
    broken = [n for n in names if n in tensors and not _usable(n, tensors[n])]
    problems = [
        f"{len(found)} {what} ({', '.join(name[:100] for name in found[:3])}{', ...' if len(found) > 3 else ''})"
        for what, found in (
            ("missing", missing),
            ("unknown", unknown),
            ("of another shape", shapes),
            ("of another kind of numbers", kinds),
            ("with infinite or undefined values", broken),
        )
        if found
    ]
    if problems:
        raise CheckpointError(
            f"Weights: {path} does not fit the network, which has {len(names)} tensors: {'; '.join(problems)}. "
            "Choose the model that these weights were trained for."
        )
    network.load_state_dict({name: tensors[name] for name in names}, strict=False)


def _usable(name: str, value: Tensor) -> bool:
    """Whether a network can compute with a tensor: finite, and no variance below zero."""
    if not bool(torch.isfinite(value).all()):
        return False
    return not name.endswith("running_var") or value.numel() == 0 or not bool((value < 0).any())


def save_weights(network: RegistrationNetwork, path: str | Path, metadata: dict[str, Any]) -> str:
    """Write a network's trained parts as a safetensors file, float16 (BatchNorm statistics float32).

    Args:
        network: as `registry.build` made it, trained.
        metadata: must name `carlreg_model`; `trained_parts` defaults to all parts of the network; further values must
            be JSON-serializable.
    Returns: the file's SHA-256; in the package's own weights folder it is also noted in the folder's checksums.
    Raises: CheckpointError for values that half precision cannot hold or parts that the network lacks.
    """
    parts = part_of_names(network)
    if "carlreg_model" not in metadata:
        raise CheckpointError("Weights: expected `carlreg_model` in the metadata, a name of the registry.")
    trained = list(metadata.get("trained_parts", sorted(set(parts.values()))))
    _check_parts(trained, set(parts.values()), path)
    tensors = {}
    for name, value in network.state_dict().items():
        if parts[name] not in trained:
            continue
        half = value.is_floating_point() and "running_" not in name
        stored = value.detach().to("cpu", torch.float16 if half else value.dtype).contiguous()
        if not bool(torch.isfinite(stored).all()):
            raise CheckpointError(f"Weights: {name} has values that half precision cannot hold.")
        tensors[name] = stored
    texts = {name: json.dumps(value) for name, value in (metadata | {"trained_parts": trained}).items()}
    path = Path(path)
    content = save(tensors, metadata=texts)
    digest = hashlib.sha256(content).hexdigest()
    with staging() as stage:
        stage.file(path).write_bytes(content)
        if path.resolve().parent == catalog.WEIGHTS_FOLDER:
            text = json.dumps(catalog.checksums() | {path.name: digest}, indent=2) + "\n"
            stage.file(catalog.WEIGHTS_FOLDER / catalog.CHECKSUMS).write_text(text, encoding="utf-8")
    return digest


def _check_parts(trained: Any, known: set[str], path: str | Path) -> None:
    listed = isinstance(trained, list) and bool(trained) and all(isinstance(part, str) for part in trained)
    if not listed or not set(trained) <= known:
        raise CheckpointError(
            f"Weights: expected `trained_parts` of {path} to be a list out of {sorted(known)}, got {shown(trained)}."
        )


def put_own(network: RegistrationNetwork, file: WeightsFile, name: str) -> list[str]:
    """Fill a network from one of our files; returns the trained parts. Raises CheckpointError."""
    check_made_for(file, name)
    metadata = file.metadata or {}
    parts = part_of_names(network)
    known = sorted(set(parts.values()))
    trained = metadata.get("trained_parts", known)
    _check_parts(trained, set(known), file.path)
    put_weights(network, file.tensors, [n for n, part in parts.items() if part in trained], file.path)
    return trained


def check_made_for(file: WeightsFile, name: str) -> None:
    """Raise CheckpointError unless one of our files says that it is of the model of that name."""
    metadata = file.metadata or {}
    made_for = metadata.get("carlreg_model")
    if made_for != name:
        made_for = cut(made_for) if isinstance(made_for, str) else shown(made_for, 60)
        if metadata.get("dimension", 3) != 3:
            raise CheckpointError(
                f"Weights: expected weights of {name}, got those of {made_for} in {file.path}, a network for images of "
                "the plane, which registers no volumes. Choose weights of a network for volumes."
            )
        raise CheckpointError(
            f"Weights: expected weights of {name}, got those of {made_for} in {file.path}. "
            "Choose that model, or another file."
        )


class AuthorsNames:
    """The names that the authors' code (icon_registration, unigradicon) gives to the tensors of a network.

    The names follow from the composition: TwoStep is `netPhi`, `netPsi`; Down and the displacement wrapper are `net`,
    and so are an inverse consistent step's network and what takes the first of a whole such network's two maps.
    Source: layout of the published state dicts.
    """

    # A network trained inside the authors' augmentation, and a state dict of the whole loss module.
    EXTRA_PREFIXES = ("regis_net.", "netPsi.netPsi.")

    def __init__(self, network: RegistrationNetwork) -> None:
        whole = "net." if isinstance(network, ConsistentNetwork) else ""
        self.ours_by_theirs = {theirs: ours for ours, theirs in self._walk(network, "", whole)}

    @classmethod
    def renamed(cls, network: RegistrationNetwork, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors under our names; unknown names stay as they are."""
        ours = cls(network).ours_by_theirs
        for prefix in cls.EXTRA_PREFIXES:
            # A name that the network itself has may begin like that: only a prefix of all names is an extra one.
            if all(name.startswith(prefix) for name in tensors):
                tensors = {name[len(prefix) :]: value for name, value in tensors.items()}
        return {ours.get(name, name): value for name, value in tensors.items()}

    def _walk(self, net: RegistrationNetwork, ours: str, theirs: str):
        if isinstance(net, TwoStep | TwoStepConsistent):
            yield from self._walk(net.first, ours + "first.", theirs + "netPhi.")
            yield from self._walk(net.second, ours + "second.", theirs + "netPsi.")
        elif isinstance(net, AtHalfResolution):
            yield from self._walk(net.net, ours + "net.", theirs + "net.")
        elif isinstance(net, ConsistentStep) and isinstance(net.net, MatrixNet):
            yield from self._leaf(net.net, ours + "net.", theirs + "net.", self._matrix_name)
        elif isinstance(net, ConsistentStep) and isinstance(net.net, UNetRegistration):
            yield from self._leaf(net.net.unet, ours + "net.unet.", theirs + "net.", self._unet_name)
        elif isinstance(net, UNetRegistration):
            yield from self._leaf(net.unet, ours + "unet.", theirs + "net.", self._unet_name)
        elif isinstance(net, CoordinateAttention) and isinstance(net.encoder, PaperEncoder):
            # the attention, its encoder, and around a rotation encoder the averaging over flips
            nested = "net.net.net." if net.encoder.settings.rotations else "net.net."
            yield from self._leaf(net.encoder, ours + "encoder.", theirs + nested, self._encoder_name)

    @staticmethod
    def _leaf(module: nn.Module, ours: str, theirs: str, rename):
        for name in module.state_dict():
            yield ours + name, theirs + rename(module, name)

    @staticmethod
    def _unet_name(_module: nn.Module, name: str) -> str:
        first, rest = name.split(".", 1)
        return {"down": "downConvs", "up": "upConvs", "norms": "batchNorms", "last": "lastConv"}[first] + "." + rest

    @staticmethod
    def _matrix_name(_module: nn.Module, name: str) -> str:
        first, rest = name.split(".", 1)
        return {"convolutions": "convs", "hidden": "dense2", "last": "dense3"}[first] + "." + rest

    @staticmethod
    def _encoder_name(encoder: PaperEncoder, name: str) -> str:
        """Theirs counts convolutions by dilation first: 0, then one of each block with dilation 1, and so on."""
        first, *rest = name.split(".")
        if first == "first":
            return ".".join(["convs.0", *rest])
        if first == "norms":
            return ".".join(["batchnorms", *rest])
        block, dilation, *rest = rest
        return ".".join(["convs", str(1 + int(dilation) * encoder.settings.blocks + int(block)), *rest])
