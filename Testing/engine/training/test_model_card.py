"""The shipped weights, their checksum list and their model card speak of the same file."""

import hashlib
import json

import pytest
from carlreg.models import registry
from carlreg.models.catalog import WEIGHTS_FOLDER
from carlreg.models.checkpoints import read_weights

FILES = sorted(WEIGHTS_FOLDER.glob("*.safetensors"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_card_and_checksum_belong_to_the_file(file):
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert json.loads((WEIGHTS_FOLDER / "checksums.json").read_text())[file.name] == digest
    card = file.with_suffix(".md").read_text(encoding="utf-8")
    assert digest in card
    metadata = read_weights(file).metadata
    assert f"{metadata['steps']:,} steps" in card
    info = registry.MODELS[file.stem]
    parameters = info.attention_parameters or info.parameters
    assert f"{parameters:,} parameters" in card
    assert ("Refinement steps: untrained" in card) == ("refinement" not in metadata["trained_parts"])
    assert file.stat().st_size < 30e6


def test_every_listed_file_is_there():
    listed = json.loads((WEIGHTS_FOLDER / "checksums.json").read_text())
    assert set(listed) == {file.name for file in FILES}
