"""The workers that run a cohort's pairs: processes of our own on this machine, or a Dask cluster that is there."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..volumes import available_memory_mb

_WORKER_MB = 500.0  # of libraries, in each worker whether it computes or not
_FREE_SHARE = 0.9
_SILENT = 50  # the level of logging above which Dask says something


@dataclass(frozen=True)
class Pool:
    """How many pairs at once. own: whether it is ours, on this machine. memory_mb: for all of them together."""

    client: Any
    most: int
    own: bool
    memory_mb: float | None


def require_dask() -> None:
    """Raise InputError that says how to install Dask where it is missing."""
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise InputError(
            "cohort: expected the package dask[distributed] to run many pairs; it is missing. "
            'Install it with: pip install "carlreg[cohort]"'
        ) from error


@contextmanager
def open_pool(threads: int, scheduler: str | None, workers: int | None, needs_mb: float, pairs: int) -> Iterator[Pool]:
    """A cluster of our own on this machine, or the client of one that is there.

    threads: of each registration. workers: at once; None: as many as cores, memory and pairs make sense. needs_mb: of
    the largest pair.
    Raises InputError when no scheduler answers.
    """
    require_dask()
    from dask.config import set as set_dask
    from distributed import Client, Nanny, Scheduler, SpecCluster

    for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]:
        logging.getLogger(name).setLevel(_SILENT)  # each has a level of its own

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout="5s", set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(
                f"scheduler: expected a Dask scheduler at {scheduler}; none answers. Start one with `dask scheduler`, "
                "and workers on machines that see the same folders."
            ) from error
        with client:
            there = len(client.scheduler_info(n_workers=-1)["workers"])
            if not there:
                raise InputError(f"scheduler: {scheduler} answers, but has no workers yet. Start some: `dask worker`.")
            yield Pool(client, min(workers or there, there), False, None)
        return
    free = available_memory_mb()
    gpus = cuda_devices()
    most = workers or workers_that_fit(threads, needs_mb, free, len(gpus))
    most = max(1, min(most, pairs))
    set_dask({"distributed.scheduler.allowed-failures": 0, "distributed.admin.system-monitor.gil.enabled": False})
    specification = {
        number: {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "memory_limit": 0,
                "env": _environment(threads, gpus[number % len(gpus)] if gpus else None),
                "dashboard": False,
                "silence_logs": _SILENT,
            },
        }
        for number in range(most)
    }
    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "port": 0}
    with (
        SpecCluster(
            workers=specification,
            scheduler={"cls": Scheduler, "options": options},
            silence_logs=_SILENT,  # pyright: ignore[reportArgumentType] - a level, whatever it says
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield Pool(client, most, True, None if free is None else free * _FREE_SHARE - most * _WORKER_MB)


def workers_that_fit(threads: int, needs_mb: float, free_mb: float | None, gpus: int = 0) -> int:
    """How many pairs at once: one for each GPU, or as many as cores and memory hold; at least one."""
    if gpus:
        return gpus
    by_cores = max(1, cores() // threads)
    by_memory = by_cores if free_mb is None else int(free_mb * _FREE_SHARE / (needs_mb + _WORKER_MB))
    return max(1, min(by_cores, by_memory))


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cuda_devices() -> list[str]:
    """The NVIDIA devices that may be used, as CUDA_VISIBLE_DEVICES names them; asked without loading PyTorch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    with suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, check=True, timeout=10).stdout
        return [str(number) for number, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]
    return []


def _environment(threads: int, gpu: str | None) -> dict[str, str]:
    """Of a worker: threads that sleep while they wait, as many as it was given, and this very package."""
    root = str(Path(__file__).resolve().parents[2])
    count = str(threads)
    found = {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": count,
        "OMP_WAIT_POLICY": "passive",
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }
    return found | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})
