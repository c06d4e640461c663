"""Several processes, one per GPU, as torchrun starts them; and one process as the simplest case of that."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from ..errors import DeviceError, InputError
from ..models.background import OnBackground
from ..models.dimensions import CONVOLUTIONS, TRANSPOSED


@dataclass(frozen=True)
class Ranks:
    """This process among the processes of a run. device: where it computes."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """This process writes files and logs."""
        return self.rank == 0

    def wrapped(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over all processes."""
        if self.count == 1:
            return module
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=ids)

    def agreed(self, *values: float) -> list[float]:
        """The largest of each value over all processes, so that all of them decide alike."""
        if self.count == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(together, dist.ReduceOp.MAX)
        return together.tolist()


@contextlib.contextmanager
def ranks(device: str = "auto") -> Iterator[Ranks]:
    """Join the other processes that torchrun started, if it did. Raises DeviceError, InputError."""
    try:
        rank, count, local = (int(os.environ.get(n, d)) for n, d in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
    except ValueError as error:
        raise InputError("RANK, WORLD_SIZE, LOCAL_RANK: expected whole numbers, as torchrun sets them.") from error
    chosen = _device(device, local if count > 1 else None)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if count == 1:
        yield Ranks(0, 1, chosen)
        return
    # The others wait while the first one validates.
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=timedelta(hours=4))
    try:
        yield Ranks(rank, count, chosen)
    finally:
        dist.destroy_process_group()


def _device(name: str, local_rank: int | None) -> torch.device:
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceError(f"run.device: {name} cannot be used, because PyTorch finds no CUDA device. Choose cpu.")
    index = torch.device(name).index if name != "auto" else None
    index = local_rank if local_rank is not None else index or 0
    if index >= torch.cuda.device_count():
        raise DeviceError(f"run.device: cuda:{index} does not exist; there are {torch.cuda.device_count()}.")
    return torch.device("cuda", index)


@contextlib.contextmanager
def convolutions_in(network: nn.Module, precision: str) -> Iterator[None]:
    """Within the block, the network's convolutions compute in bfloat16 and return float32; all else stays float32.

    Not autocast around everything: that would also take coordinates and their products to bfloat16, where a voxel's
    position is off by a third of a voxel.
    """
    if precision == "float32":
        yield
        return
    layers = [
        m for m in network.modules() if isinstance(m, (OnBackground, *CONVOLUTIONS.values(), *TRANSPOSED.values()))
    ]
    for layer in layers:
        layer.forward = _in_bfloat16(layer.forward)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _in_bfloat16(forward: Callable) -> Callable:
    def convolve(*inputs: torch.Tensor):
        if min(inputs[0].shape[2:]) < 2:  # on CPUs the gradient of such a kernel comes out undefined
            return forward(*inputs)
        with torch.autocast(inputs[0].device.type, torch.bfloat16):
            found = forward(*inputs)
        return tuple(f.float() for f in found) if isinstance(found, tuple) else found.float()

    return convolve
