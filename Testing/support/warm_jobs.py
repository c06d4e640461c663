"""Jobs in forked children of a process that has imported the libraries already: what `python -m carlreg` does, warm.

A job is a process like one that was started cold: its own pid, working folder, environment, arguments, standard files,
process group and signals, and it ends with an exit code. It lacks only the seconds that importing torch takes.
Linux only. The forking process must not have computed anything in parallel: OpenMP's threads do not survive a fork.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

# What a child of Python starts with: the other signals are handled by nobody.
_OWN = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
# Above every file descriptor that a job is given.
_SPARE = 200


@dataclass(frozen=True)
class Job:
    """What `subprocess.Popen` was asked for.

    files: standard input, output and error, then those of `kept`. kept: numbers under which the job sees the others.
    ignored: signals that the caller ignores. new_session: the job leads a session and process group of its own.
    """

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    kept: list[int]
    ignored: list[int]
    new_session: bool


def is_engine(command: Sequence[str], others: Sequence[str] = ()) -> bool:
    """Whether it is `python -m carlreg...`, or one of the other modules, with this very interpreter."""
    words = [os.fspath(word) for word in command]
    if len(words) < 3 or words[:2] != [sys.executable, "-m"]:
        return False
    return words[2].split(".")[0] == "carlreg" or words[2] in others


def ignored_signals() -> list[int]:
    return [int(number) for number in _OWN if signal.getsignal(number) == signal.SIG_IGN]


def fork(job: Job, files: Sequence[int]) -> int:
    """Start the job in a forked child; returns its pid."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        run(job, files)
    return pid


def run(job: Job, files: Sequence[int]) -> NoReturn:
    """Become the job; does not return."""
    code = 1
    try:
        _take_over(job, files)
        _import_afresh(job.environment)
        code = _run_module(job.arguments[2], job.arguments[3:])
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def _take_over(job: Job, files: Sequence[int]) -> None:
    """The job's session, signals, files, folder and environment."""
    import fcntl  # not on Windows

    if job.new_session:
        os.setsid()
    for number in _OWN:
        signal.signal(number, signal.SIG_IGN if number in job.ignored else signal.SIG_DFL)
    if signal.SIGINT not in job.ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    spare = [fcntl.fcntl(file, fcntl.F_DUPFD, _SPARE) for file in files]
    numbers = [0, 1, 2, *job.kept]
    for file, number in zip(spare, numbers, strict=True):
        os.dup2(file, number, inheritable=True)
    for number in [int(name) for name in os.listdir("/proc/self/fd")]:
        if number not in numbers:
            with contextlib.suppress(OSError):
                os.close(number)
    os.chdir(job.folder)
    os.environ.clear()
    os.environ.update(job.environment)
    tempfile.tempdir = None
    encoding, _, errors = job.environment.get("PYTHONIOENCODING", "utf-8").partition(":")
    sys.stdin = open(0, encoding=encoding, errors=errors or "strict", closefd=False)  # noqa: SIM115
    sys.stdout = io.TextIOWrapper(
        open(1, "wb", closefd=False),  # noqa: SIM115
        encoding=encoding,
        errors=errors or "strict",
        line_buffering=os.isatty(1),
        write_through="PYTHONUNBUFFERED" in job.environment,
    )
    sys.stderr = open(2, "w", 1, encoding, "backslashreplace", closefd=False)  # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr


def _import_afresh(environment: dict[str, str]) -> None:
    """The environment's import path; a sitecustomize.py on it comes before the engine, as in a cold start."""
    added = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    sys.path[:0] = added
    if any(os.path.exists(os.path.join(path, "sitecustomize.py")) for path in added):
        for name in [name for name in sys.modules if name.split(".")[0] in ("carlreg", "sitecustomize")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        importlib.import_module("sitecustomize")
    threads = environment.get("OMP_NUM_THREADS")
    if threads and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(threads))


def _run_module(name: str, arguments: list[str]) -> int:
    """`python -m NAME ARGUMENTS`; workers that it starts are forked from it. Returns the exit code."""
    supervisor = importlib.import_module("carlreg.cli.supervisor")
    supervisor.subprocess = Subprocess(ForkedProcess)
    sys.modules.pop(name, None)  # it is run, not imported
    sys.argv = [name, *arguments]
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        sys.stderr.write(f"{stop.code}\n")
        return 1
    return 0


class Subprocess:
    """The module `subprocess` with another Popen."""

    def __init__(self, popen: type) -> None:
        self.Popen = popen

    def __getattr__(self, name: str):
        return getattr(subprocess, name)


class JobProcess(subprocess.Popen):
    """`subprocess.Popen` that starts the engine by `_start_job` and everything else as always."""

    def _start_job(self, job: Job, files: list[int]) -> int:
        raise NotImplementedError

    def _may_be_warm(self, environment: dict[str, str]) -> bool:
        return True

    def _execute_child(
        self,
        args,
        executable,
        preexec_fn,
        close_fds,
        pass_fds,
        cwd,
        env,
        startupinfo,
        creationflags,
        shell,
        p2cread,
        p2cwrite,
        c2pread,
        c2pwrite,
        errread,
        errwrite,
        restore_signals,
        *rest,  # gid, gids, uid, umask, start_new_session; from Python 3.11 on also process_group
    ):
        environment = dict(os.environ if env is None else env)
        plain = preexec_fn is None and executable is None and not shell and not isinstance(args, (str, bytes))
        if not (plain and is_engine(args, ["support.replay"]) and self._may_be_warm(environment)):
            given = (p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, restore_signals, *rest)
            return super()._execute_child(
                args,
                executable,
                preexec_fn,
                close_fds,
                pass_fds,
                cwd,
                env,
                startupinfo,
                creationflags,
                shell,
                *given,
            )
        folder = os.path.abspath(cwd or os.getcwd())
        os.stat(folder)  # refuses what is not there, as the original does
        kept = [int(number) for number in pass_fds]
        job = Job(list(map(os.fspath, args)), folder, environment, kept, ignored_signals(), bool(rest[4]))
        given = [p2cread, c2pwrite, errwrite]
        files = [number if file == -1 else file for number, file in enumerate(given)]
        self.pid = self._start_job(job, [*files, *kept])
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)
        return None


class ForkedProcess(JobProcess):
    """A job as a forked child of this process: the worker of a supervisor that is warm itself."""

    def _start_job(self, job: Job, files: list[int]) -> int:
        return fork(job, files)
