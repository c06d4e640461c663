"""Weights files: reading, checking and writing them, and the names other people's files use.

Ours are safetensors, half precision, with metadata: `carlreg_model` (a name of the registry), `trained_parts` (JSON
list of 'attention' and 'refinement'; what is not listed has not been trained and is not in the file) and whatever
else describes the training, all as JSON strings. Foreign ones are PyTorch state dicts; nothing in them is executed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import CheckpointError
from . import catalog
from .attention import CoordinateAttention
from .local_attention import LocalAttention
from .operators import AtHalfResolution, RegistrationNetwork, TwoStep
from .paper_encoder import PaperEncoder
from .unet import UNetRegistration

ATTENTION, REFINEMENT = "attention", "refinement"


@dataclass(frozen=True)
class WeightsFile:
    """Contents of a weights file. metadata is None unless the file is one of ours."""

    path: Path
    sha256: str
    tensors: dict[str, Tensor]
    metadata: dict[str, Any] | None


def sha256_of(path: str | Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def read_weights(path: str | Path, expected_sha256: str | None = None) -> WeightsFile:
    """Read a safetensors file or a PyTorch state dict; floating values become float32.

    Raises: CheckpointError when the file is missing, is neither, or has another hash than expected.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"Weights: expected a file, found none at {path}. Check the path.")
    try:
        found = sha256_of(path)
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError as error:
        raise CheckpointError(f"Weights: {path} cannot be read ({error.strerror}).") from error
    if expected_sha256 is not None and found != expected_sha256:
        raise CheckpointError(
            f"Weights: expected SHA-256 {expected_sha256} for {path}, got {found}. The file is damaged or another "
            "version: download or install it again."
        )
    tensors, metadata = _read_safetensors(path) if head[8:] == b"{" else (_read_torch(path), None)
    return WeightsFile(path, found, {name: _full_precision(value) for name, value in tensors.items()}, metadata)


def _full_precision(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"Weights: {path} is not a readable safetensors file ({error}).") from error
    if "carlreg_model" not in metadata:
        return tensors, None
    return tensors, {name: _from_json(value) for name, value in metadata.items()}


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever the unpickler stumbles over in a file that is none
        raise CheckpointError(
            f"Weights: expected a safetensors file or a PyTorch state dict holding tensors only; {path} is neither "
            "(other files are not opened, because reading them could run code)."
        ) from error
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(
            f"Weights: expected a state dict (names to tensors) in {path}, got {type(content).__name__}. "
            "Save the network's `regis_net.state_dict()`."
        )
    return dict(content)


def part_of_names(network: RegistrationNetwork) -> dict[str, str]:
    """Each name of the network's state dict -> 'attention' or 'refinement'."""
    parts = {}
    for prefix, module in network.named_modules():
        if isinstance(module, CoordinateAttention | LocalAttention | UNetRegistration):
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
    broken = [n for n in names if n in tensors and not bool(torch.isfinite(tensors[n]).all())]
    problems = [
        f"{len(found)} {what} ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})"
        for what, found in (
            ("missing", missing),
            ("unknown", unknown),
            ("of another shape", shapes),
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
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata=texts)
    partial.chmod(0o644)  # safetensors writes for the owner alone; a packaged file is for every user
    os.replace(partial, path)
    digest = sha256_of(path)
    if path.resolve().parent == catalog.WEIGHTS_FOLDER:
        text = json.dumps(catalog.checksums() | {path.name: digest}, indent=2) + "\n"
        (catalog.WEIGHTS_FOLDER / catalog.CHECKSUMS).write_text(text, encoding="utf-8")
    return digest


def _check_parts(trained: Any, known: set[str], path: str | Path) -> None:
    if not isinstance(trained, list) or not trained or not set(trained) <= known:
        raise CheckpointError(
            f"Weights: expected `trained_parts` of {path} to be a list out of {sorted(known)}, got {trained!r}."
        )


def put_own(network: RegistrationNetwork, file: WeightsFile, name: str) -> list[str]:
    """Fill a network from one of our files; returns the trained parts. Raises CheckpointError."""
    metadata = file.metadata or {}
    if metadata.get("carlreg_model") != name:
        raise CheckpointError(
            f"Weights: expected weights of {name}, got those of {metadata.get('carlreg_model')} in {file.path}. "
            "Choose that model, or another file."
        )
    parts = part_of_names(network)
    known = sorted(set(parts.values()))
    trained = metadata.get("trained_parts", known)
    _check_parts(trained, set(known), file.path)
    put_weights(network, file.tensors, [n for n, part in parts.items() if part in trained], file.path)
    return trained


class AuthorsNames:
    """The names that the authors' code (icon_registration, unigradicon) gives to the tensors of a network.

    The names follow from the composition: TwoStep is `netPhi`, `netPsi`; Down and the displacement wrapper are `net`.
    Source: layout of the published state dicts.
    """

    # A network trained inside the authors' augmentation, and a state dict of the whole loss module.
    EXTRA_PREFIXES = ("regis_net.", "netPsi.netPsi.")

    def __init__(self, network: RegistrationNetwork) -> None:
        self.ours_by_theirs = {theirs: ours for ours, theirs in self._walk(network, "", "")}

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
        if isinstance(net, TwoStep):
            yield from self._walk(net.first, ours + "first.", theirs + "netPhi.")
            yield from self._walk(net.second, ours + "second.", theirs + "netPsi.")
        elif isinstance(net, AtHalfResolution):
            yield from self._walk(net.net, ours + "net.", theirs + "net.")
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
    def _encoder_name(encoder: PaperEncoder, name: str) -> str:
        """Theirs counts convolutions by dilation first: 0, then one of each block with dilation 1, and so on."""
        first, *rest = name.split(".")
        if first == "first":
            return ".".join(["convs.0", *rest])
        if first == "norms":
            return ".".join(["batchnorms", *rest])
        block, dilation, *rest = rest
        return ".".join(["convs", str(1 + int(dilation) * encoder.settings.blocks + int(block)), *rest])
