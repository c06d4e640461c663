"""Checkpoints: written beside and moved into place, so that the last good one stays whatever happens."""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, ResourceError
from .settings import current_kind

FORMAT = "carlreg training 1"


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Replace a file by new content or, when that fails (a full disk), leave it as it is and raise ResourceError."""
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        kept = "the one before it is kept as it was" if path.is_file() else "nothing is left of it"
        raise ResourceError(
            f"{path}: could not be written ({error.strerror or error}); {kept}. Free some space, then go on."
        ) from error


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint. Raises ResourceError; the file at `path` is then the one before.

    state: tensors, numbers, text, and lists and dicts of them, so that it can be read without running code.
    """
    buffer = io.BytesIO()  # torch's own writer does not report a full disk as one
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomically(path, buffer.getbuffer())


def is_checkpoint(path: Path) -> bool:
    """Whether a file looks like one that PyTorch saved with several things in it, as a run does."""
    if path.suffix == ".safetensors" or not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        content = torch.load(path, map_location="meta", weights_only=True)
    except Exception:  # whatever the unpickler stumbles over: another file
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state of a run, with the present name of its stage.

    Raises CheckpointError when the file is missing, damaged or something else.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: expected the checkpoint of a training run, found no file.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # whatever the unpickler stumbles over in a damaged file
        raise CheckpointError(
            f"{path}: the checkpoint cannot be read ({str(error).splitlines()[0][:120]}). Use best.pt, or start anew."
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: expected a checkpoint of `carlreg train`, got another PyTorch file.")
    if "stage" in state:
        state["stage"] = current_kind(state["stage"])
    return state
