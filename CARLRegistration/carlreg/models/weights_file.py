"""Weights files, read: safetensors and PyTorch's state dicts, checked before anything is made of what they claim.

The file is read once, so that what is hashed is what is used. Nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..errors import CheckpointError, InputError, NotEnoughMemory
from ..io.being_read import ANEW, being_read
from ..text_files import decoded, is_file, parse_json, read_bytes, shown

TRAINING_FORMAT = "carlreg training"  # how the format of a training run's checkpoint begins
MOST_HEADER_BYTES = 16 * 2**20
_MOST_BYTES = 8 * 2**30
_MOST_TENSORS, _LONGEST_NAME = 100_000, 1000
_SIZE_BYTES = 8  # of the header's length at the beginning of a safetensors file
_KINDS = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")
# Tensors may share their numbers; beyond this many times the file's size they would not fit into memory.
_MOST_SHARED = 8


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
    content = file_bytes(path)
    found = hashlib.sha256(content).hexdigest()
    if expected_sha256 is not None and found != expected_sha256:
        raise CheckpointError(
            f"Weights: expected SHA-256 {expected_sha256} for {path}, got {found}. The file is damaged or another "
            "version: download or install it again."
        )
    with being_read(f"Weights: {path}", ANEW):
        if content[_SIZE_BYTES : _SIZE_BYTES + 1] == b"{":
            tensors, metadata = _from_safetensors(content, path)
        else:
            tensors, metadata = _state_dict(content, path), None
    return WeightsFile(path, found, {name: _full_precision(value) for name, value in tensors.items()}, metadata)


def file_bytes(path: Path) -> bytes:
    """What a weights file holds. Raises CheckpointError: none there, or not a file that can be read."""
    if not is_file(path):
        raise CheckpointError(f"Weights: expected a file, found none at {path}. Check the path.")
    try:
        return read_bytes(path, "Weights", _MOST_BYTES)
    except NotEnoughMemory:
        raise
    except InputError as error:
        raise CheckpointError(str(error)) from error


def _full_precision(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _from_safetensors(content: bytes, path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    try:
        metadata = _checked_header(content)
        tensors = safetensors.torch.load(content)
    except MemoryError:
        raise
    except Exception as error:  # of Rust's, or whatever PyTorch makes of what the header says
        raise CheckpointError(f"Weights: {path} is not a readable safetensors file ({_first_line(error)}).") from error
    if "carlreg_model" not in metadata:
        return tensors, None
    return tensors, {name: _from_json(value) for name, value in metadata.items()}


def _checked_header(content: bytes) -> dict[str, str]:
    """The metadata of a safetensors file whose tensors are of kinds and sizes that the file can hold, or ValueError."""
    (length,) = struct.unpack_from("<Q", content)
    if length > min(MOST_HEADER_BYTES, len(content) - _SIZE_BYTES):
        raise ValueError("its header is longer than the file, or than any network's")
    text = decoded(content[_SIZE_BYTES : _SIZE_BYTES + length], "its header")
    header = parse_json(text, "its header")
    if not isinstance(header, dict) or len(header) > _MOST_TENSORS:
        raise ValueError("its header names no tensors, or more than any network has")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are not texts by name")
    for name, entry in header.items():
        if len(name) > _LONGEST_NAME or not isinstance(entry, dict) or entry.get("dtype") not in _KINDS:
            kind = entry.get("dtype") if isinstance(entry, dict) else entry
            raise ValueError(f"{shown(name, 60)} is of the kind {shown(kind, 40)}, which no network uses")
        shape = entry.get("shape")
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 8:
            raise ValueError(f"{shown(name, 60)} has the shape {shown(shape, 60)}")
        if math.prod(max(n, 1) for n in shape) > len(content):
            raise ValueError(f"{shown(name, 60)} is larger than the file")
    return metadata


def _from_json(text: str) -> Any:
    try:
        return parse_json(text, "metadata")
    except InputError:
        return text


def _state_dict(content: bytes, path: Path) -> dict[str, Tensor]:
    found = load_torch(content, path)
    if isinstance(found, dict) and str(found.get("format")).startswith(TRAINING_FORMAT):
        raise CheckpointError(
            f"Weights: {path} is a checkpoint of a training run, of {shown(found.get('model'), 60)} after "
            f"{shown(found.get('step'), 20)} steps. Make weights of it: carlreg train export {path.name} --out "
            "NAME.safetensors."
        )
    # A checkpoint of others' training: the network's part of it.
    if isinstance(found, dict) and isinstance(found.get("model_state_dict"), dict):
        found = found["model_state_dict"]
    if not isinstance(found, dict) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise CheckpointError(
            f"Weights: expected a state dict (names to tensors) in {path}, got {type(found).__name__}. "
            "Save the network's `regis_net.state_dict()`."
        )
    if not all(isinstance(name, str) and len(name) <= _LONGEST_NAME for name in found):
        raise CheckpointError(f"Weights: expected a state dict in {path}, got tensors whose names are no text.")
    check_tensors(found.items(), len(content), path)
    return dict(found)


def load_torch(content: bytes, path: Path) -> Any:
    """What PyTorch saved, as its restricted unpickler gives it. Raises CheckpointError for anything else."""
    try:
        _check_archive(content)
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # whatever the unpickler stumbles over in a file that is none
        raise CheckpointError(
            f"Weights: expected a safetensors file or a PyTorch state dict holding tensors only; {path} is neither, or "
            f"is damaged ({_first_line(error)}). Other files are not opened, because reading them could run code."
        ) from error


def _check_archive(content: bytes) -> None:
    """ValueError when a PyTorch file's parts, which are stored as they are, would unpack to more than the file."""
    if not content.startswith(b"PK"):
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it is a compressed archive, which PyTorch does not write")
        if sum(entry.file_size for entry in entries) > len(content):
            raise ValueError("it claims more than it holds")
        if sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl")) > MOST_HEADER_BYTES:
            raise ValueError("it names more than any network has")


def check_tensors(named: Iterable[tuple[Any, Tensor]], file_bytes: int, path: Path) -> None:
    """Raise CheckpointError unless all tensors are plain ones, whose numbers the file holds."""
    total = 0
    for name, value in named:
        plain = value.layout is torch.strided and not value.is_quantized and not value.is_nested
        if not plain or value.device.type != "cpu":
            kind = "a tensor without numbers" if value.device.type == "meta" else "a sparse or quantized tensor"
            raise CheckpointError(
                f"Weights: expected plain tensors in {path}; {shown(name, 60)} is {kind}. Save the network's state "
                "dict as it is on the CPU."
            )
        size = value.numel() * value.element_size()
        total += value.numel() * max(value.element_size(), 4)  # as float32
        if size > value.untyped_storage().nbytes() or total > _MOST_SHARED * file_bytes + 2**20:
            raise CheckpointError(
                f"Weights: {path} claims more numbers than it holds ({shown(name, 60)}: {tuple(value.shape)}). It is "
                "damaged, or no state dict."
            )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160]
