"""Turn a checkpoint of stage A into a weights file of `carl-compact`.

    python -m carlreg.training.export runs/compact/checkpoint.pt --out carl-compact.safetensors

Only the attention is written, from the running average, in half precision; the refinement steps stay untrained and
are marked so.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from ..errors import CheckpointError
from ..models import registry
from ..models.checkpoints import ATTENTION, save_weights
from ..models.compact_encoder import CompactEncoder, CompactEncoderSettings

log = logging.getLogger(__name__)

MODEL = "carl-compact"


def export_attention(checkpoint: Path, out: Path) -> str:
    """Write the attention of a stage A checkpoint; returns the file's SHA-256.

    Raises: CheckpointError when the checkpoint's encoder is not the model's.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network = registry.build(MODEL)
    encoders = [module for module in network.modules() if isinstance(module, CompactEncoder)]
    saved = CompactEncoderSettings(**state["settings"]["encoder"])
    for encoder in encoders:
        if encoder.settings != saved:
            raise CheckpointError(
                f"Export: {MODEL} has the encoder {encoder.settings}, {checkpoint} has {saved}. Train the model's own."
            )
        encoder.load_state_dict(state["average"])
    training = {name: value for name, value in state["settings"].items() if name not in ("workers", "encoder")}
    metadata = {
        "carlreg_model": MODEL,
        "trained_parts": [ATTENTION],
        "stage": "A: attention alone, synthetic views with known correspondence",
        "steps": state["step"],
        "training_seconds": round(state["seconds"]),
        "training": training,
        "license": "Apache-2.0",
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    return save_weights(network, out, metadata)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write a weights file from a training checkpoint.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log.info("%s  %s", export_attention(options.checkpoint, options.out), options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
