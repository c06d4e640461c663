"""Two processes: equal weights on both, and the gradients of one process with the double batch."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from carlreg.errors import DeviceError, InputError
from carlreg.training.loop import Run
from carlreg.training.parallel import Ranks, ranks

from .conftest import small_config

_CHILD = """
import contextlib, os, sys, torch
torch.set_num_threads(1)
sys.path.insert(0, {folder!r})
from conftest import narrow_networks, small_config
from pathlib import Path
from carlreg.training.loop import Run, train
from carlreg.training.parallel import ranks

out = Path({out!r})
config = small_config({kind!r}, steps=2, model={model!r}, optimizer={{"batch": 1, "accumulation": 2}})
other = os.fork()  # before anything of autograd has run: both processes for the price of one import
os.environ["RANK"] = os.environ["LOCAL_RANK"] = "0" if other else "1"
with ranks("cpu") as mine, narrow_networks() if {width!r} == "narrow" else contextlib.nullcontext():
    run = Run(config, mine)
    batches = run.batches()
    run.train_step([next(batches) for _ in range(2)])
    gradients = {{name: p.grad for name, p in run.network.named_parameters() if p.grad is not None}}
    torch.save([gradients, dict(run.network.named_parameters())], out / f"rank{{mine.rank}}.pt")
    stopped = iter([False, mine.rank == 1])  # one process is asked to stop: both do, at the same step
    outcome = train(config, out / "run", mine, stop=lambda: next(stopped))
    (out / f"rank{{mine.rank}}.txt").write_text(f"{{outcome.reason}} {{outcome.step}}")
if other:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
@pytest.mark.parametrize(("kind", "model"), [("attention", "carl-compact"), ("joint", "unet")])
def test_two_processes_equal_one_with_the_double_batch(tmp_path, kind, model, width):
    code = _CHILD.format(folder=str(Path(__file__).parent), out=str(tmp_path), kind=kind, model=model, width=width)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen([sys.executable, "-c", code], env=os.environ | shared, start_new_session=True)
    try:
        assert child.wait(timeout=120) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    (gradients, weights), (other_gradients, other_weights) = (
        torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)
    )
    single = Run(
        small_config(kind, steps=2, model=model, optimizer={"batch": 2, "accumulation": 2}),
        Ranks(0, 1, torch.device("cpu")),
    )
    batches = single.batches()
    single.train_step([next(batches) for _ in range(2)])
    assert gradients and set(gradients) == {n for n, p in single.network.named_parameters() if p.grad is not None}
    for name, parameter in single.network.named_parameters():
        assert torch.equal(weights[name], other_weights[name]), name
        if parameter.grad is not None:
            assert torch.equal(gradients[name], other_gradients[name]), name
            scale = parameter.grad.abs().max().item()
            torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-4 * scale + 1e-9, rtol=1e-3)
    assert [(tmp_path / f"rank{rank}.txt").read_text() for rank in range(2)] == ["stopped 1"] * 2
    assert (tmp_path / "run" / "log.csv").read_text().count("\n") == 2  # the header and one line: one process writes


def test_devices_that_are_not_there_are_named(monkeypatch):
    with ranks("cpu") as mine:
        assert (mine.rank, mine.count, mine.device.type, mine.first) == (0, 1, "cpu", True)
        assert mine.agreed(1.0, 2.0) == [1.0, 2.0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="cuda:0 cannot be used"), ranks("cuda:0"):
        pass
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(InputError, match="RANK"), ranks("cpu"):
        pass
