"""Weights files that claim what they do not hold: refused in a sentence, before anything is made of them."""

from __future__ import annotations

import json
import struct
import zipfile

import pytest
import torch
from carlreg.errors import CheckpointError
from carlreg.models import weights_file
from carlreg.models.catalog import WEIGHTS_FOLDER
from carlreg.models.registry import load
from carlreg.models.weights_file import read_weights
from safetensors import safe_open
from safetensors.torch import save_file

SHIPPED = WEIGHTS_FOLDER / "carl-compact.safetensors"


def refused(path, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        read_weights(path)
    assert len(str(caught.value)) < 600


def header_file(path, header, data: bytes = b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b'{"a":' + b"[" * 200_000, "nested too deeply"),
        (b'{"a": 1, "a": 2}', "there twice"),
        (b"{\xff}", "no UTF-8"),
        ({"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, "'F4', which no network uses"),
        ({"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}, "which no network uses"),
        ({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}, "larger than the file"),
        ({"a": {"dtype": "F32", "shape": [2**60, 0], "data_offsets": [0, 0]}}, "larger than the file"),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, "has the shape"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}}, "not a readable safetensors"),
        ({"a": 3}, "which no network uses"),
        ({"__metadata__": {"a": 1}}, "metadata are not texts"),
    ],
)
def test_headers_that_are_refused(tmp_path, header, message):
    refused(header_file(tmp_path / "w.safetensors", header, bytes(4)), message)


def test_a_header_longer_than_the_file_is_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{" + bytes(20))
    refused(tmp_path / "w.safetensors", "longer than the file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trained_parts": "[[1]]"}, "trained_parts"),
        ({"trained_parts": "{}"}, "trained_parts"),
        ({"trained_parts": '"attention"'}, "trained_parts"),
        ({"carlreg_model": "[" * 100_000}, r"got those of \[+ \.\.\."),
    ],
)
def test_metadata_of_any_shape(tmp_path, change, message):
    with safe_open(SHIPPED, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    save_file(tensors, tmp_path / "w.safetensors", metadata={**metadata, **change})
    with pytest.raises(CheckpointError, match=message) as caught:
        load("carl-compact", tmp_path / "w.safetensors")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({1: torch.zeros(2)}, "names are no text"),
        ({"a": torch.zeros(1, dtype=torch.float16).expand(2**38)}, "claims more numbers than it holds"),
        ({"a": torch.zeros(3, device="meta")}, "a tensor without numbers"),
        ({"a": torch.eye(3).to_sparse()}, "a sparse or quantized tensor"),
        ({"a": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}, "a sparse or quantized|is neither"),
        ({"a": {"b": torch.zeros(2)}}, "expected a state dict"),
        ({}, "expected a state dict"),
    ],
)
def test_state_dicts_that_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", message)


def test_many_views_of_one_storage_are_refused(tmp_path):
    storage = torch.zeros(100_000)
    torch.save({str(n): storage[n:] for n in range(100)}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "claims more numbers than it holds")


def test_an_archive_that_unpacks_to_more_is_refused(tmp_path):
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "w.pt")
    packed = tmp_path / "p.pt"
    with zipfile.ZipFile(tmp_path / "w.pt") as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        for entry in source.infolist():
            out.writestr(entry.filename, source.read(entry))
    refused(packed, "a compressed archive")


def test_numbers_that_float32_cannot_hold_are_refused(tmp_path):
    with safe_open(SHIPPED, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    name = next(name for name, value in tensors.items() if value.is_floating_point())
    wrong = {
        "infinite or undefined": torch.full_like(tensors[name], 1.0, dtype=torch.float64) * 1e300,
        "another kind of numbers": torch.ones_like(tensors[name], dtype=torch.int64),
    }
    for message, value in wrong.items():
        save_file({**tensors, name: value}, tmp_path / "w.safetensors", metadata=metadata)
        with pytest.raises(CheckpointError, match=message):
            load("carl-compact", tmp_path / "w.safetensors")


def test_what_is_hashed_is_what_is_used(tmp_path, monkeypatch):
    """The file is read once: replaced while it is read, either all of it is the old one, or none."""
    save_file({"a": torch.zeros(3)}, tmp_path / "w.safetensors")
    real, reads = weights_file.read_bytes, []

    def once(path, *rest):
        reads.append(path)
        content = real(path, *rest)
        save_file({"a": torch.ones(3)}, tmp_path / "w.safetensors")
        return content

    digest = weights_file.sha256_of(tmp_path / "w.safetensors")
    monkeypatch.setattr(weights_file, "read_bytes", once)
    found = read_weights(tmp_path / "w.safetensors", digest)
    assert found.sha256 == digest and torch.equal(found.tensors["a"], torch.zeros(3)) and len(reads) == 1
