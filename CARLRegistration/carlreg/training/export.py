"""From a checkpoint to a weights file that prediction loads, with a model card that says what it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import staging
from ..models.checkpoints import part_of_names, save_weights
from . import networks, shards
from .saving import read_checkpoint, require, stage_of

UNSTATED = "to be stated by those who trained it"
_PART_NAMES = {"attention": "Attention", "refinement": "Refinement steps"}
_GENERATED = "generated pairs with known maps (`training/synthetic.py`); no image was used."
_OWN_IMAGES = "images of those who trained it; generated pairs in the other stages, if any."
_LABEL_MAPS = "generated pairs with known maps, some of them painted from label maps of those who trained it."
_LIMITS = """- The figures above are what is known: check first on other anatomy, contrasts or poses than in training.
- Registration by this network is a start: instance optimization follows it unless it is switched off.
- Research software, not a medical device."""


@dataclass(frozen=True)
class Exported:
    """sha256: of the whole weights file. files: everything written."""

    sha256: str
    files: list[Path]


def export(checkpoint: Path, out: Path, *, license: str | None = None, shard_mb: float | None = None) -> Exported:
    """Write the averaged weights in half precision, and `OUT.md` beside them.

    Args:
        license: of the weights; None = Apache-2.0 when they have seen nothing but what is generated here, else to be
            stated.
        shard_mb: cut the file into pieces of about so many MB.
    Raises: CheckpointError when the checkpoint is none, or its network is no longer built that way.
    """
    state = read_checkpoint(checkpoint)
    known = (
        "model",
        "stage",
        "average",
        "step",
        "seconds",
        "history",
        "trained_parts",
        "hardware",
        "config",
        "figures",
    )
    require(state, checkpoint, *known)
    network = networks.build(state["model"])
    networks.check_fits(network, state["average"], checkpoint)
    network.load_state_dict(state["average"])
    stages = [*state["history"], stage_of(state)]
    license = license or ("Apache-2.0" if all(map(_only_generated, stages)) else UNSTATED)
    metadata = {
        "carlreg_model": state["model"],
        "dimension": networks.dimension_of(state["model"]),
        "trained_parts": state["trained_parts"],
        "stages": stages,
        "steps": state["step"],
        "training_seconds": round(state["seconds"]),
        "hardware": state["hardware"],
        "config": _without_folders(state["config"]),
        "validation": {name: float(f"{value:.4g}") for name, value in state["figures"].items()},
        "license": license,
    }
    part_of = part_of_names(network)
    parameters = dict.fromkeys(sorted(set(part_of.values())), 0)
    for name, parameter in network.named_parameters():
        parameters[part_of[name]] += parameter.numel()
    card = out.with_suffix(".md")
    with staging() as stage:
        # Pieces and their index lie beside each other and go along.
        written = stage.file(out if shard_mb is None else shards.index_of(out)).with_name(out.name)
        digest = save_weights(network, written, metadata)
        text = model_card(out.name, digest, written.stat().st_size, metadata, parameters)
        stage.file(card).write_text(text, encoding="utf-8")
        files = [written] if shard_mb is None else shards.split(written, shard_mb)
    return Exported(digest, [*(out.with_name(file.name) for file in files), card])


def _only_generated(stage: dict[str, Any]) -> bool:
    """The stage saw no image and no label map; what published weights have seen is not known here."""
    return not (_saw_images(stage) or stage.get("label_maps"))


def _saw_images(stage: dict[str, Any]) -> bool:
    return stage["stage"] == "images" or stage["stage"].startswith(networks.PUBLISHED)


def _without_folders(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with files named, but not where they lie on somebody's machine."""
    result = json.loads(json.dumps(config))
    data = result["data"]
    for section, key in (
        (result["model"], "weights"),
        (data["images"], "source"),
        (data["synthetic"], "label_maps"),
        (result["validation"], "images"),
    ):
        if section.get(key):
            section[key] = Path(section[key]).name
    return result


def model_card(name: str, sha256: str, size: int, metadata: dict[str, Any], parameters: dict[str, int]) -> str:
    """What a weights file is, from its metadata, as Markdown.

    Args: size: bytes. parameters: number by part of the network.
    """
    trained = metadata["trained_parts"]
    parts = [
        f"{part}: {count:,} parameters, trained"
        if part in trained
        else f"**{_PART_NAMES[part]}: untrained** ({count:,} parameters), not in the file, left out at run time"
        for part, count in parameters.items()
    ]
    config = metadata["config"]
    if any(map(_saw_images, metadata["stages"])):
        data = _OWN_IMAGES
    else:
        data = _GENERATED if all(map(_only_generated, metadata["stages"])) else _LABEL_MAPS
    table = [
        ("File", f"`{name}`, {size / 1e6:.1f} MB, float16"),
        ("SHA-256", f"`{sha256}`"),
        ("Model", f"`{metadata['carlreg_model']}`"),
        ("Parts", "; ".join(parts)),
        ("License", metadata["license"]),
    ]
    stages = [
        f"| {stage['stage']} | {stage['steps']:,} steps | {_duration(stage['seconds'])} |"
        for stage in metadata["stages"]
    ]
    metrics = [f"| {what} | {value:g} |" for what, value in metadata["validation"].items() if what != "seconds"]
    sections = [
        f"# Model card: {name.removesuffix('.safetensors')}",
        "| | |\n|---|---|\n" + "\n".join(f"| {what} | {text} |" for what, text in table),
        "## Training",
        "| stage | length | time |\n|---|---|---|\n" + "\n".join(stages),
        f"Data: {data} Hardware of the last stage: {metadata['hardware']}. The file "
        "holds the running average of the weights. Configuration of the last stage:",
        "```json\n" + json.dumps(config, indent=1) + "\n```",
        "## Figures of the last validation",
        "On pairs not trained on: `end_point_voxels` is the mean distance to the true map of generated pairs, "
        "`landmarks_mm` and `dice` are those of the network's map alone on real pairs; the others are the stage's loss "
        "terms on generated pairs."
        if metrics
        else "None: the run ended before its first validation.",
        "| figure | value |\n|---|---|\n" + "\n".join(metrics) if metrics else "",
        "## Limits",
        _LIMITS,
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not known"
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"
