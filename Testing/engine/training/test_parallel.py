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
from carlreg.training.parallel import Ranks, ranks
from carlreg.training.run import Run

from .conftest import narrow_networks, small_config

KINDS = {"attention": "carl-compact", "joint": "gradicon-compact"}
_CHILD = """
import contextlib, os, sys, torch
import torch._dynamo  # as the optimizer would
torch.set_num_threads(1)
sys.path.insert(0, {folder!r})
from conftest import narrow_networks, small_config
from pathlib import Path
from carlreg.training.loop import train
from carlreg.training.run import Run
from carlreg.training.parallel import ranks

other = os.fork()  # before anything of autograd has run: both processes for the price of one import
os.environ["RANK"] = os.environ["LOCAL_RANK"] = "0" if other else "1"
for (kind, model), port in zip({kinds!r}.items(), {ports!r}):
    os.environ["MASTER_PORT"] = str(port)
    out = Path({out!r}) / kind
    config = small_config(kind, steps=2, model=model, optimizer={{"batch": 1, "accumulation": 2}})
    with ranks("cpu") as mine, narrow_networks() if {width!r} == "narrow" else contextlib.nullcontext():
        run = Run(config, mine)
        batches = run.batches()
        run.train_step([next(batches) for _ in range(2)])
        gradients = {{name: p.grad for name, p in run.network.named_parameters() if p.grad is not None}}
        torch.save([gradients, dict(run.network.named_parameters())], out / f"rank{{mine.rank}}.pt")
        stopped = iter([False, mine.rank == 1])  # one process is asked to stop: both do, at the same step
        outcome = train(config, out / "run", mine, stop=lambda: next(stopped))
        (out / f"rank{{mine.rank}}.txt").write_text(f"{{outcome.reason}} {{outcome.step}}")
os._exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) if other else 0)  # Python's own end takes a second
"""


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


@pytest.fixture(scope="module", params=["narrow", pytest.param("full", marks=pytest.mark.slow)])
def two_processes(request, tmp_path_factory):
    """The folder with what two processes left, by kind; and the width of their networks."""
    if not hasattr(os, "fork"):
        pytest.skip("needs processes that fork")
    out = tmp_path_factory.mktemp(request.param)
    for kind in KINDS:
        (out / kind).mkdir()
    code = _CHILD.format(
        folder=str(Path(__file__).parent), out=str(out), kinds=KINDS, ports=free_ports(len(KINDS)), width=request.param
    )
    shared = {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen([sys.executable, "-c", code], env=os.environ | shared, start_new_session=True)
    try:
        assert child.wait(timeout=240) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    return out, request.param


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_equal_one_with_the_double_batch(two_processes, kind):
    tmp_path, width = two_processes[0] / kind, two_processes[1]
    (gradients, weights), (other_gradients, other_weights) = (
        torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)
    )
    config = small_config(kind, steps=2, model=KINDS[kind], optimizer={"batch": 2, "accumulation": 2})
    with narrow_networks() if width == "narrow" else contextlib.nullcontext():
        single = Run(config, Ranks(0, 1, torch.device("cpu")))
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
