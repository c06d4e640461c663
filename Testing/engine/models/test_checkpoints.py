import json
import pickle

import pytest
import torch
from carlreg.errors import CheckpointError
from carlreg.models.checkpoints import read_weights, save_weights, sha256_of
from carlreg.models.operators import without_refinement
from carlreg.models.registry import build, load
from safetensors import safe_open
from safetensors.torch import save_file

NAME = "carl-compact"
ALL = {"carlreg_model": NAME}
ATTENTION_ONLY = {"carlreg_model": NAME, "trained_parts": ["attention"]}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    net = build(NAME)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_var.uniform_(1e5, 2e5)  # more than half precision holds
    return net


def rewrite(source, target, change):
    """The same safetensors file with changed tensors or metadata."""
    with safe_open(source, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    change(tensors, metadata)
    save_file(tensors, target, metadata=metadata)
    return target


@pytest.fixture
def complete(network, tmp_path):
    path = tmp_path / "Gewichte ü.safetensors"
    save_weights(network, path, ALL | {"steps": 12, "note": {"size": 64}})
    return path


@pytest.fixture
def attention(network, tmp_path):
    path = tmp_path / "attention.safetensors"
    save_weights(network, path, ATTENTION_ONLY)
    return path


def test_round_trip_is_half_precision_in_the_file_and_float32_in_the_network(network, complete):
    loaded = load(NAME, complete)
    assert loaded.trained == {"attention": True, "refinement": True}
    assert loaded.weights_sha256 == sha256_of(complete)
    found = loaded.network.state_dict()
    for name, value in network.state_dict().items():
        assert found[name].dtype == value.dtype
        expected = value if "running_" in name or not value.is_floating_point() else value.half().float()
        assert torch.equal(found[name], expected), name
    assert complete.stat().st_size < 2.2 * sum(p.numel() for p in network.parameters())
    assert read_weights(complete).metadata["note"] == {"size": 64}
    assert not list(complete.parent.glob("*.partial"))


def test_only_trained_parts_are_written_and_needed(network, attention):
    loaded = load(NAME, attention)
    assert loaded.trained == {"attention": True, "refinement": False}
    expected = without_refinement(network).encoder.log_temperature.half().float()
    assert torch.equal(loaded.network.encoder.log_temperature, expected)
    assert attention.stat().st_size < 1.7e6


def refused(path, pattern, name=NAME):
    with pytest.raises(CheckpointError, match=pattern) as caught:
        load(name, path)
    assert len(str(caught.value)) < 900


def test_missing_extra_and_misshapen_tensors_are_named(complete, attention, tmp_path):
    target = tmp_path / "changed.safetensors"
    refused(rewrite(complete, target, lambda t, _: t.pop("second.log_hold")), "1 missing .second.log_hold")
    refused(rewrite(complete, target, lambda t, _: t.update(another=torch.ones(1))), "1 unknown .another")
    refused(
        rewrite(complete, target, lambda t, _: t.update({"second.log_hold": torch.ones(3)})),
        r"log_hold \(3,\) instead of \(4,\)",
    )
    refused(
        rewrite(complete, target, lambda t, _: t.update({"second.log_hold": torch.full((4,), torch.nan)})),
        "infinite or undefined",
    )
    # declared complete, but without the refinement
    refused(rewrite(attention, target, lambda _, m: m.pop("trained_parts")), "missing")
    refused(rewrite(attention, target, lambda _, m: m.update(trained_parts='["soul"]')), "trained_parts")
    refused(rewrite(attention, target, lambda t, _: t.pop("first.first.encoder.log_temperature")), "log_temperature")


def test_weights_of_another_model_are_refused(complete, tmp_path):
    refused(complete, "expected weights of unigradicon, got those of carl-compact", name="unigradicon")
    other = {name: value.half() for name, value in build("unigradicon").state_dict().items()}  # a quarter of a gigabyte
    torch.save(other, tmp_path / "gradicon.trch")
    for name in ("carl-paper-abdomen", "eoir-paper"):
        refused(tmp_path / "gradicon.trch", "looks like weights of unigradicon or multigradicon", name=name)
    refused(tmp_path / "gradicon.trch", "made by carlreg for carl-compact.*like weights of unigradicon")
    part = {name: value for name, value in other.items() if "last" not in name}
    torch.save(part, tmp_path / "part.trch")
    refused(tmp_path / "part.trch", "missing", name="unigradicon")


def test_wrong_hash_is_refused(complete):
    assert read_weights(complete, sha256_of(complete)).tensors
    with pytest.raises(CheckpointError, match="expected SHA-256 0123"):
        read_weights(complete, "0123")


class Harmful:
    ran = False

    def __reduce__(self):
        return (setattr, (Harmful, "ran", True))


@pytest.mark.parametrize("kind", ["text", "empty", "cut torch", "cut safetensors", "pickle", "object", "list", "odd"])
def test_files_that_are_not_weights_are_refused(kind, complete, tmp_path):
    path = tmp_path / "not weights.trch"
    if kind == "text":
        path.write_text("hello, this is not a weights file")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "odd":  # the unpickler meets an IndexError
        path.write_bytes(b"this is not a checkpoint")
    elif kind == "cut torch":
        torch.save({"a": torch.ones(1000)}, path)
        path.write_bytes(path.read_bytes()[:800])
    elif kind == "cut safetensors":
        path.write_bytes(complete.read_bytes()[:5000])
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Harmful()))
    elif kind == "object":
        torch.save({"weights": Harmful()}, path)
    elif kind == "list":
        torch.save([torch.ones(2)], path)
    refused(path, "Weights: ")
    refused(path, "Weights: ", name="unigradicon")
    assert not Harmful.ran


def test_missing_file_and_folder_are_refused(tmp_path):
    refused(tmp_path / "nothing.safetensors", "found none")
    refused(tmp_path, "found none")


def test_saving_refuses_what_the_file_could_not_say(network, tmp_path):
    with pytest.raises(CheckpointError, match="carlreg_model"):
        save_weights(network, tmp_path / "x.safetensors", {})
    with pytest.raises(CheckpointError, match="trained_parts"):
        save_weights(network, tmp_path / "x.safetensors", ALL | {"trained_parts": ["head"]})
    big = build(NAME)
    with torch.no_grad():
        without_refinement(big).encoder.log_temperature.fill_(1e6)
    with pytest.raises(CheckpointError, match="half precision"):
        save_weights(big, tmp_path / "x.safetensors", ALL)
    assert not (tmp_path / "x.safetensors").exists()


def test_metadata_is_json_text(complete):
    with safe_open(complete, framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["carlreg_model"]) == NAME
    assert json.loads(metadata["trained_parts"]) == ["attention", "refinement"]
    assert json.loads(metadata["steps"]) == 12
