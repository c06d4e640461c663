"""Exported weights load where weights are loaded, their card says what they are, pieces join to the very same file."""

import hashlib
import json

import pytest
import torch
from carlreg.errors import CheckpointError
from carlreg.models import registry
from carlreg.models.checkpoints import read_weights, save_weights, sha256_of
from carlreg.training import networks
from carlreg.training.export import UNSTATED, export
from carlreg.training.loop import train
from carlreg.training.parallel import Ranks
from carlreg.training.saving import read_checkpoint, save_checkpoint
from carlreg.training.shards import join
from safetensors import safe_open

from .conftest import small_config

CPU = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(small_config(steps=2, validation={"every_steps": 2, "pairs": 1}), folder, CPU)
    return folder


def test_the_exported_file_is_the_average_and_loads(run, tmp_path):
    written = export(run / "checkpoint.pt", tmp_path / "deep" / "w.safetensors")
    file = tmp_path / "deep" / "w.safetensors"
    assert written.files == [file, file.with_suffix(".md")] and sorted(p.name for p in file.parent.iterdir()) == [
        "w.md",
        "w.safetensors",
    ]
    assert written.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    loaded = registry.load("carl-compact", file)
    assert loaded.trained == {"attention": True, "refinement": False} and loaded.weights_sha256 == written.sha256
    average = read_checkpoint(run / "checkpoint.pt")["average"]
    tensors = read_weights(file).tensors
    part = networks.part_of_names(networks.build("carl-compact"))
    assert set(tensors) == {name for name in average if part[name] == "attention"}
    for name, value in tensors.items():
        assert torch.equal(value, average[name].half().float()), name


def test_metadata_and_card_say_how_they_were_trained(run, tmp_path):
    file = tmp_path / "w.safetensors"
    digest = export(run / "best.pt", file).sha256
    metadata = read_weights(file).metadata
    state = read_checkpoint(run / "best.pt")
    assert metadata["steps"] == 2 and metadata["trained_parts"] == ["attention"]
    assert metadata["stages"] == [{"stage": "attention", "steps": 2, "seconds": round(state["seconds"])}]
    assert metadata["config"]["stage"]["queries"] == 64 and metadata["license"] == "Apache-2.0"
    assert metadata["validation"]["score"] == pytest.approx(state["figures"]["score"], rel=1e-3)
    card = file.with_suffix(".md").read_text()
    parameters = sum(p.numel() for n, p in networks.build("carl-compact").named_parameters() if "first.first" in n)
    for text in (digest, "2 steps", f"{parameters:,} parameters", "Refinement steps: untrained", metadata["hardware"]):
        assert text in card, text
    assert parameters == registry.MODELS["carl-compact"].attention_parameters
    assert f"| score | {metadata['validation']['score']:g} |" in card


def test_weights_that_saw_images_state_no_license_of_ours_and_no_folders(run, tmp_path):
    state = read_checkpoint(run / "checkpoint.pt")
    state["history"] = [{"stage": "images", "steps": 7, "seconds": 60}]
    state["config"]["data"]["images"]["source"] = "/home/somebody/patients"
    state["config"]["model"]["weights"] = "/home/somebody/w.pt"
    state.pop("format")
    save_checkpoint(tmp_path / "c.pt", state)
    export(tmp_path / "c.pt", tmp_path / "w.safetensors")
    metadata = read_weights(tmp_path / "w.safetensors").metadata
    card = (tmp_path / "w.md").read_text()
    assert metadata["license"] == UNSTATED and "somebody" not in json.dumps(metadata) + card
    assert metadata["config"]["data"]["images"]["source"] == "patients" and "| images | 7 steps | 1 minutes |" in card
    export(tmp_path / "c.pt", tmp_path / "w.safetensors", license="CC BY 4.0")
    assert read_weights(tmp_path / "w.safetensors").metadata["license"] == "CC BY 4.0"


def test_weights_that_saw_label_maps_state_no_license_of_ours(run, tmp_path):
    state = read_checkpoint(run / "checkpoint.pt")
    state["config"]["data"]["synthetic"] |= {"labels": 0.5, "label_maps": "/home/somebody/heads"}
    state.pop("format")
    save_checkpoint(tmp_path / "c.pt", state)
    export(tmp_path / "c.pt", tmp_path / "w.safetensors")
    metadata = read_weights(tmp_path / "w.safetensors").metadata
    card = (tmp_path / "w.md").read_text()
    assert metadata["license"] == UNSTATED and metadata["stages"][-1]["label_maps"] == "heads"
    assert "somebody" not in json.dumps(metadata) + card and "painted from label maps" in card


@pytest.mark.parametrize("seconds", [{}, {"seconds": 7200}])
def test_the_card_names_the_stages_of_the_weights_that_a_run_started_from(run, tmp_path, seconds):
    network = networks.build("carl-compact")
    stages = [{"stage": "attention", "steps": 1234, "data": "of another kind"} | seconds]
    file = tmp_path / "first.safetensors"
    save_weights(network, file, {"carlreg_model": "carl-compact", "trained_parts": ["attention"], "stages": stages})
    state = read_checkpoint(run / "checkpoint.pt")
    state["history"] = networks.put_start(network, "carl-compact", str(file)).history
    state.pop("format")
    save_checkpoint(tmp_path / "c.pt", state)
    export(tmp_path / "c.pt", tmp_path / "w.safetensors")
    time = "2.0 hours" if seconds else "not known"
    assert f"| attention | 1,234 steps | {time} |" in (tmp_path / "w.md").read_text()


def test_pieces_are_readable_small_and_join_to_the_same_file(run, tmp_path):
    whole = export(run / "checkpoint.pt", tmp_path / "whole.safetensors").sha256
    written = export(run / "checkpoint.pt", tmp_path / "w.safetensors", shard_mb=0.5)
    *pieces, index, card = written.files
    assert (
        index.name == "w.safetensors.index.json" and card.name == "w.md" and not (tmp_path / "w.safetensors").exists()
    )
    count = len(pieces)
    assert count >= 3 and [p.name for p in pieces] == [
        f"w-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)
    ]
    tensors = read_weights(tmp_path / "whole.safetensors").tensors
    largest = max(value.numel() * 2 for value in tensors.values())
    content = json.loads(index.read_text())
    found = {}
    for piece in pieces:
        assert piece.stat().st_size < max(0.5e6, largest) + 20_000
        with safe_open(piece, framework="pt") as file:
            found |= {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            assert all(content["weight_map"][name] == piece.name for name in file.keys())  # noqa: SIM118
    assert set(found) == set(tensors) and all(torch.equal(found[name], tensors[name]) for name in found)
    assert join(index, tmp_path / "joined.safetensors") == written.sha256 == sha256_of(tmp_path / "joined.safetensors")
    assert registry.load("carl-compact", tmp_path / "joined.safetensors").trained["attention"]
    assert len(whole) == len(written.sha256)


def test_damaged_and_missing_pieces_are_named_and_nothing_is_written(run, tmp_path):
    *pieces, index, _ = export(run / "checkpoint.pt", tmp_path / "w.safetensors", shard_mb=0.5).files
    out = tmp_path / "joined.safetensors"
    damaged = bytearray(pieces[1].read_bytes())
    damaged[-1] ^= 1
    good = pieces[1].read_bytes()
    pieces[1].write_bytes(damaged)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(CheckpointError, match=rf"{pieces[1].name}: expected SHA-256"):
        join(index, out)
    pieces[1].unlink()
    with pytest.raises(CheckpointError, match=f"{pieces[1].name} is missing"):
        join(index, out)
    pieces[1].write_bytes(good)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    index.write_text("{}")
    with pytest.raises(CheckpointError, match="expected an index"):
        join(index, out)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="another PyTorch file"):
        export(tmp_path / "x.pt", tmp_path / "w.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]
