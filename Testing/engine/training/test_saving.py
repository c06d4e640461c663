"""Checkpoints survive a full disk, and nothing in them is executed."""

import errno
import os
import pickle
import subprocess
import sys

import pytest
import torch
from carlreg.errors import CheckpointError, ResourceError
from carlreg.maps import identity_map
from carlreg.models.compositions import assemble, gradicon
from carlreg.training import networks, saving
from carlreg.training.loop import train
from carlreg.training.parallel import Ranks
from carlreg.training.saving import is_checkpoint, read_checkpoint, save_checkpoint

from .conftest import NARROW_REFINEMENT, small_config

pytestmark = pytest.mark.usefixtures("narrow")


def test_what_is_saved_is_read(tmp_path):
    state = {"step": 3, "tensors": {"a": torch.arange(4.0)}, "names": ["x"], "none": None}
    save_checkpoint(tmp_path / "c.pt", state)
    found = read_checkpoint(tmp_path / "c.pt")
    assert found["step"] == 3 and torch.equal(found["tensors"]["a"], torch.arange(4.0)) and found["none"] is None
    assert is_checkpoint(tmp_path / "c.pt") and list(tmp_path.iterdir()) == [tmp_path / "c.pt"]


def test_a_checkpoint_with_the_earlier_name_of_the_joint_stage_is_read(tmp_path):
    for name, expected in (("everything", "joint"), ("joint", "joint"), ("images", "images")):
        save_checkpoint(tmp_path / "c.pt", {"stage": name})
        assert read_checkpoint(tmp_path / "c.pt")["stage"] == expected


def test_a_checkpoint_of_the_u_nets_that_were_no_model_is_one_of_gradicon_compact(tmp_path):
    """What a run of `unet` learned answers as it did: behind a start that moves nothing."""
    alone = assemble(gradicon(NARROW_REFINEMENT)).eval()
    with torch.no_grad():
        for tensor in alone.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel())) / 20)
    weights = alone.state_dict()
    state = {"model": "unet", "network": weights, "average": weights, "config": {"model": {"name": "unet"}}}
    save_checkpoint(tmp_path / "c.pt", state)
    found = read_checkpoint(tmp_path / "c.pt")
    assert found["model"] == found["config"]["model"]["name"] == "gradicon-compact"
    assert set(found["network"]) == set(found["average"])
    network = networks.build("gradicon-compact").eval()
    network.load_state_dict(found["average"])
    moving, fixed = torch.rand(2, 1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, answer = (n.predict(moving, fixed).map.on_grid((32, 32, 32)) for n in (alone, network))
    assert (expected - identity_map((32, 32, 32))).abs().max() > 0.01
    torch.testing.assert_close(answer, expected, atol=1e-5, rtol=0)


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "c.pt"
    monkeypatch.setattr(saving.os, "fsync", full)
    with pytest.raises(ResourceError, match=r"No space left on device\); nothing is left"):
        save_checkpoint(path, {"step": 1})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    save_checkpoint(path, {"step": 1})
    monkeypatch.setattr(saving.os, "fsync", full)
    with pytest.raises(
        ResourceError, match=r"c\.pt.*No space left on device.*the one before it is kept.*Free some space"
    ):
        save_checkpoint(path, {"step": 2})
    assert read_checkpoint(path)["step"] == 1 and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="needs limits on file sizes")
def test_a_disk_that_is_really_full_leaves_the_last_good_checkpoint(tmp_path):
    code = """
import resource, sys, torch
from pathlib import Path
from carlreg.errors import ResourceError
from carlreg.training.saving import save_checkpoint
path = Path(sys.argv[1])
save_checkpoint(path, {"step": 1, "tensor": torch.ones(10)})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint(path, {"step": 2, "tensor": torch.ones(1_000_000)})
except ResourceError as error:
    sys.exit(f"said: {error}")
"""
    child = [sys.executable, "-c", code, str(tmp_path / "c.pt")]
    done = subprocess.run(child, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "said:" in done.stderr and "kept as it was" in done.stderr, done.stderr
    assert read_checkpoint(tmp_path / "c.pt")["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_a_disk_full_in_the_middle_does_not_end_the_run_but_at_its_end_is_said(tmp_path, monkeypatch, caplog):
    config = small_config(steps=3, run={"steps": 3, "checkpoint_seconds": 1.0, "log_every": 1, "device": "cpu"})
    cpu = Ranks(0, 1, torch.device("cpu"))
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr("carlreg.training.loop.time.monotonic", lambda: float(next(clock)))
    real = os.fsync

    def full_at_step_two(run, numbers):
        monkeypatch.setattr(saving.os, "fsync", full if run.step == 2 else real)

    train(config, tmp_path, cpu, on_step=full_at_step_two)
    assert "goes on and tries again" in caplog.text
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 3

    def full_from_now_on(run, numbers):
        monkeypatch.setattr(saving.os, "fsync", full)

    longer = small_config(steps=5, run={"steps": 5, "log_every": 1, "device": "cpu"})
    with pytest.raises(ResourceError, match="kept as it was"):
        train(longer, tmp_path, cpu, on_step=full_from_now_on)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 3


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_nothing_in_a_file_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": saving.FORMAT, "step": Hostile()}, "c.pt")
    (tmp_path / "d.pt").write_bytes(pickle.dumps(Hostile()))
    for name in ("c.pt", "d.pt"):
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_checkpoint(tmp_path / name)
        assert not is_checkpoint(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_other_files_are_no_checkpoints(tmp_path):
    torch.save({"weight": torch.ones(1)}, tmp_path / "state_dict.pt")
    assert not is_checkpoint(tmp_path / "state_dict.pt")
    with pytest.raises(CheckpointError, match="another PyTorch file"):
        read_checkpoint(tmp_path / "state_dict.pt")
    with pytest.raises(CheckpointError, match="found no file"):
        read_checkpoint(tmp_path / "missing.pt")
