"""`subprocess.Popen` for the engine, warm: `python -m carlreg ...` in a process that has its libraries already.

The first use starts a server that imports torch, SimpleITK and carlreg once; from then on a start takes some
milliseconds instead of seconds. The server forks a middle process that forks the job and ends, so that the job's
parent becomes this process (a "child subreaper"): it is waited for, signalled and killed as any child. Elsewhere than
on Linux, with CARLREG_COLD_START set, or when the environment asks for another engine, the start is cold. A warm
engine takes no look at the mirrored volume (support/mirrored.py).
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from .warm_jobs import Job, JobProcess, run

_ENGINE = Path(__file__).resolve().parents[2] / "CARLRegistration"
_TESTING = Path(__file__).resolve().parents[1]
COLD_START = "CARLREG_COLD_START"
# What a process reads when it starts and not again: jobs with other values of these start cold.
_READ_ONCE = (
    "LC_ALL",
    "LC_CTYPE",
    "LANG",
    "PYTHONUTF8",
    "PYTHONHOME",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "OMP_PROC_BIND",
)
_LONGEST = 1 << 20
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


class _Server:
    """The process that forks jobs, as seen from the tests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST)
        paths = [str(_TESTING), str(_ENGINE), os.environ.get("PYTHONPATH")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "support.warm_engine", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, env=environment, pass_fds=[theirs.fileno()], cwd="/"
        )
        theirs.close()
        atexit.register(self.stop)

    def start(self, job: Job, files: list[int]) -> int:
        """The pid of the started job."""
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(asdict(job)).encode()], files)
            answer = self._socket.recv(64)
        if not answer:
            raise OSError("the server of warm engines has ended")
        return int(answer)

    def stop(self) -> None:
        if os.getpid() == self._pid:
            self._socket.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)


_server: _Server | None = None


class _WarmPopen(JobProcess):
    """Starts the engine warm where that makes no difference, and everything else as always."""

    def _may_be_warm(self, environment: dict[str, str]) -> bool:
        if COLD_START in environment or COLD_START in os.environ:
            return False
        if any(environment.get(name) != os.environ.get(name) for name in _READ_ONCE):
            return False
        paths = [Path(path) for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
        engines = [path for path in paths if (path / "carlreg").is_dir()]
        return bool(engines) and engines[0].resolve() == _ENGINE

    def _start_job(self, job: Job, files: list[int]) -> int:
        global _server
        if _server is None:
            _server = _Server()
        return _server.start(job, files)


Popen: type[subprocess.Popen] = _WarmPopen if sys.platform.startswith("linux") else subprocess.Popen


def serve(channel: socket.socket) -> None:
    """The server: fork what is asked for until the tests are over."""
    while True:
        request, files, _, _ = socket.recv_fds(channel, _LONGEST, 32)
        if not request:
            return
        reading, writing = os.pipe()
        middle = os.fork()
        if middle == 0:
            pid = os.fork()
            if pid == 0:
                run(Job(**json.loads(request)), files)
            os.write(writing, str(pid).encode())
            os._exit(0)
        os.waitpid(middle, 0)  # from now on the job is the tests' child
        channel.send(os.read(reading, 64))
        for file in (reading, writing, *files):
            os.close(file)


def _import_everything() -> None:
    import importlib
    import pkgutil
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests; the server ends with them
    import SimpleITK  # noqa: F401
    import torch
    import torch._dynamo  # what the first optimizer of a process would import, in more than a second

    torch.set_num_threads(1)
    import carlreg

    for module in pkgutil.walk_packages(carlreg.__path__, "carlreg."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


if __name__ == "__main__":
    _import_everything()
    from support.mirrored import right_way_round

    with right_way_round():
        serve(socket.socket(fileno=int(sys.argv[1])))
