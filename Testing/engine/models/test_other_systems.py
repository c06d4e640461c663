"""A weights file of another system than the one that was asked for is named as what it is.

The files' tensors are names and shapes alone, so that networks of any width cost nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from carlreg.errors import CheckpointError
from carlreg.models import checkpoints
from carlreg.models.catalog import MODELS
from carlreg.models.checkpoints import AuthorsNames, WeightsFile
from carlreg.models.compositions import assemble
from carlreg.models.registry import COMPOSITIONS, load
from carlreg.training.saving import FORMAT, save_checkpoint

from .eoir_case import public_weights

# What the authors' code saves for each; uniGradICON and multiGradICON are one network.
PUBLISHED = [name for name, info in MODELS.items() if info.published_weights and name != "eoir-paper"]
ONE_NETWORK = {"unigradicon", "multigradicon"}


def titles(name: str) -> str:
    return "unigradicon or multigradicon" if name in ONE_NETWORK else name


def authors_file(name: str, variant: int, prefix: str = "") -> WeightsFile:
    with torch.device("meta"):
        network = assemble(COMPOSITIONS[name][variant], align_corners=True)
    ours = network.state_dict()
    tensors = {prefix + theirs: ours[mine] for theirs, mine in AuthorsNames(network).ours_by_theirs.items()}
    assert len(tensors) == len(ours)
    return WeightsFile(Path("somebody's.trch"), "0" * 64, tensors, None)


def refusal(monkeypatch, name: str, file: WeightsFile) -> str:
    monkeypatch.setattr(checkpoints, "read_weights", lambda *_: file)
    with pytest.raises(CheckpointError) as caught:
        load(name, Path("somebody's.trch"))
    return str(caught.value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_given_for_another_model(name, monkeypatch):
    """For one of ours, for EOIR, and for the published one after it in the list."""
    after = [*PUBLISHED, *PUBLISHED][PUBLISHED.index(name) + (2 if name == "unigradicon" else 1)]
    for variant, prefix, others in ((0, "", ("gradicon-compact", "eoir")), (-1, "regis_net.", (after,))):
        file = authors_file(name, variant, prefix)
        for other in others:
            told = refusal(monkeypatch, other, file)
            assert f"ooks like weights of {titles(name)}" in told and other in told and "somebody's.trch" in told


def test_eoirs_weights_given_for_another_model(monkeypatch):
    file = WeightsFile(Path("somebody's.trch"), "0" * 64, public_weights(8), None)
    for other in ("gradicon-compact", "carl-paper-brain", "constricon"):
        assert "ooks like weights of EOIR with 8 channels" in refusal(monkeypatch, other, file)


def test_own_weights_given_for_another_model(monkeypatch):
    for name in MODELS:
        file = WeightsFile(Path("somebody's.trch"), "0" * 64, {}, {"carlreg_model": name})
        for other in MODELS:
            if other != name:
                told = refusal(monkeypatch, other, file)
                assert f"expected weights of {other}, got those of {name}" in told


def test_a_training_runs_checkpoint_says_how_to_make_weights_of_it(tmp_path):
    state = {"model": "eoir", "step": 12, "average": {}}
    assert FORMAT.startswith("carlreg training")
    save_checkpoint(tmp_path / "best.pt", state)
    pattern = r"training run, of 'eoir' after 12 steps.*carlreg train export best\.pt"
    for name in ("eoir", "carl-compact", "unigradicon"):
        with pytest.raises(CheckpointError, match=pattern):
            load(name, tmp_path / "best.pt")
