import pytest
import torch
from carlreg.errors import CheckpointError, DeviceError, InputError
from carlreg.models import catalog, checkpoints
from carlreg.models.attention import CoordinateAttention
from carlreg.models.operators import RegistrationNetwork, without_refinement
from carlreg.models.registry import COMPOSITIONS, MODELS, build, load

# method and publications; the compact model's own
PARAMETERS = {
    "carl-paper-abdomen": 56_997_503,
    "carl-paper-brain": 56_997_503,
    "carl-paper-rotation": 58_324_991,
    "unigradicon": 4 * 17_670_229,
    "multigradicon": 4 * 17_670_229,
    "eoir-paper": 909_232,
    "constricon-paper": 45_087_194,
}


def count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_parameter_counts(name):
    info = MODELS[name]
    with torch.device("meta"):
        network = build(name)
    assert count(network) == info.parameters == PARAMETERS.get(name, info.parameters)
    attention = without_refinement(network)
    has_attention = any(isinstance(module, CoordinateAttention) for module in network.modules())
    assert info.attention_parameters == (count(attention) if has_attention else 0)


def test_every_name_builds_a_network_of_its_own():
    with torch.device("meta"):
        described = {name: str(build(name)) + repr(COMPOSITIONS[name]) for name in MODELS}
    assert described["unigradicon"] == described["multigradicon"]  # the same network, other weights
    described.pop("multigradicon")
    assert len(set(described.values())) == len(described)


def test_the_catalog_and_the_compositions_name_the_same_networks():
    assert list(COMPOSITIONS) == list(MODELS)


def test_entries_say_where_weights_come_from():
    for name, info in MODELS.items():
        texts = info.title, info.summary, info.good_for, info.weights, info.license, info.citation
        assert info.name == name and all(texts)
        assert info.published_weights == (info.trained_shape_dhw is not None)
        assert (info.sha256 is not None) == info.shipped or not info.shipped
        assert not info.shipped or info.sha256 == checkpoints.sha256_of(info.shipped_file)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"expected one of carl-compact, carl-compact-rotation, .*, unigradicon"):
        load("carl")


@pytest.mark.parametrize("name", ["carl-paper-abdomen", "unigradicon"])
def test_untrained_weights_are_refused_unless_allowed(name):
    with pytest.raises(CheckpointError, match="needs a weights file"):
        load(name)
    loaded = load(name, allow_untrained=True)
    assert loaded.weights_sha256 is None
    assert not any(loaded.trained.values())
    assert set(loaded.trained) == ({"refinement"} if name == "unigradicon" else {"attention", "refinement"})
    assert isinstance(loaded.network, RegistrationNetwork) and not loaded.network.training


def test_shipped_weights_are_the_default_and_checked(monkeypatch, tmp_path):
    monkeypatch.setattr(catalog, "WEIGHTS_FOLDER", tmp_path)
    with pytest.raises(CheckpointError, match="carl-compact needs a weights file"):
        load("carl-compact")
    network = build("carl-compact")
    metadata = {"carlreg_model": "carl-compact", "trained_parts": ["attention"]}
    digest = checkpoints.save_weights(network, tmp_path / "carl-compact.safetensors", metadata)
    assert MODELS["carl-compact"].sha256 == digest and MODELS["carl-compact"].shipped
    loaded = load("carl-compact")
    assert loaded.weights_sha256 == digest
    assert loaded.trained == {"attention": True, "refinement": False}

    content = bytearray((tmp_path / "carl-compact.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "carl-compact.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="expected SHA-256"):
        load("carl-compact")


def test_untrained_refinement_is_left_out(tmp_path):
    torch.manual_seed(0)
    network = build("carl-compact").eval()
    file = tmp_path / "compact.safetensors"
    checkpoints.save_weights(network, file, {"carlreg_model": "carl-compact", "trained_parts": ["attention"]})
    loaded = load("carl-compact", file)
    assert isinstance(loaded.network, CoordinateAttention)
    assert count(loaded.network) == MODELS["carl-compact"].attention_parameters
    assert loaded.network.stride == network.stride == 8
    assert set(loaded.network.state_dict()) == set(without_refinement(network).state_dict())


def test_missing_device_is_a_device_error():
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(DeviceError, match="cuda"):
        load("carl-compact", allow_untrained=True, device="cuda:0")
