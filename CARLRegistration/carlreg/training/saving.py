"""Checkpoints: written beside and moved into place, so that the last good one stays whatever happens."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..atomic import staged_file
from ..errors import CheckpointError, ResourceError
from ..io.being_read import ANEW, being_read
from ..models.weights_file import TRAINING_FORMAT, check_tensors, file_bytes, load_torch
from ..text_files import is_file
from .settings import current_kind, current_model

FORMAT = f"{TRAINING_FORMAT} 1"
_KINDS = {
    "model": str,
    "stage": str,
    "network": dict,
    "average": dict,
    "optimizer": dict,
    "step": int,
    "seconds": (int, float),
    "figures": dict,
    "trained_parts": list,
    "history": list,
    "config": dict,
}


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Replace a file by new content or, when that fails (a full disk), leave it as it is and raise ResourceError."""
    try:
        with staged_file(path, final=False) as part:
            part.write_bytes(content)
    except (OSError, ResourceError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        kept = "the one before it is kept as it was" if os.path.isfile(path) else "nothing is left of it"
        raise ResourceError(
            f"{path}: could not be written ({getattr(cause, 'strerror', None) or cause}); {kept}. Free some space, "
            "then go on."
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
    if path.suffix == ".safetensors" or not is_file(path) or not zipfile.is_zipfile(path):
        return False
    try:
        content = torch.load(path, map_location="meta", weights_only=True)
    except Exception:  # whatever the unpickler stumbles over: another file
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state of a run, with the present names of its stage, its model and its tensors.

    Raises CheckpointError when the file is missing, damaged or something else.
    """
    if not is_file(path):
        raise CheckpointError(f"{path}: expected the checkpoint of a training run, found no file.")
    try:
        content = file_bytes(path)
        with being_read(str(path), ANEW):
            state = load_torch(content, path)
        check_tensors(_tensors_in(state), len(content), path)
    except CheckpointError as error:
        cause = str(error.__cause__ or error).strip().splitlines() or ["damaged"]
        raise CheckpointError(
            f"{path}: the checkpoint cannot be read ({cause[0][:120]}). Use best.pt, or start anew."
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: expected a checkpoint of `carlreg train`, got another PyTorch file.")
    wrong = [name for name, kind in _KINDS.items() if name in state and not isinstance(state[name], kind)]
    if wrong:
        raise CheckpointError(f"{path}: the checkpoint is damaged: {wrong[0]} is a {type(state[wrong[0]]).__name__}.")
    if "stage" in state:
        state["stage"] = current_kind(state["stage"])
    _rename_model(state)
    return state


def _rename_model(state: dict[str, Any]) -> None:
    """A model that was only there to compare with is one of the registry now, behind a start that moves nothing."""
    model = state.get("model")
    if model is None or current_model(model) == model:
        return
    state["model"] = current_model(model)
    for part in ("network", "average"):
        state[part] = {f"second.{name}": value for name, value in state.get(part, {}).items()}
    if isinstance(settings := state.get("config", {}).get("model"), dict):
        settings["name"] = state["model"]


def require(state: dict[str, Any], path: Path, *names: str) -> None:
    """Raise CheckpointError unless a state has all of these."""
    missing = [name for name in names if name not in state]
    if missing:
        raise CheckpointError(f"{path}: the checkpoint is damaged: it has no {', '.join(missing)}.")


def stage_of(state: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint's own stage adds to the history of its weights; `label_maps` only where it painted any."""
    stage = {"stage": state["stage"], "steps": state["step"], "seconds": round(state["seconds"])}
    config = state.get("config")
    data = config.get("data") if isinstance(config, dict) else None
    synthetic = data.get("synthetic") if isinstance(data, dict) else None
    if isinstance(synthetic, dict) and synthetic.get("labels"):
        stage["label_maps"] = Path(str(synthetic.get("label_maps"))).name
    return stage


def _tensors_in(state: Any) -> list[tuple[str, torch.Tensor]]:
    """All tensors of a state, with the names nearest to them."""
    found, left, seen = [], [("state", state)], set()
    while left:
        name, value = left.pop()
        if isinstance(value, torch.Tensor):
            found.append((name, value))
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:  # one that holds itself ends, too
            seen.add(id(value))
            left.extend(
                (str(key)[:60], inner)
                for key, inner in (value.items() if isinstance(value, dict) else ((name, part) for part in value))
            )
    return found
