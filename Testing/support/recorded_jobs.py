"""Registrations of the panel's tests, each computed once: a job that was run before is replayed from its recording.

A recording is the result folder and the progress lines of a job that ended well. It is found by everything that the job
was given: its command line and the contents of its folder. So a test sees what the engine made of exactly this job, and
only the first test that asks for it waits. The replay is a process as the engine's is: it can be cancelled and killed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from .warm_engine import Popen
from .warm_jobs import is_engine

_TESTING = str(Path(__file__).resolve().parents[1])
# Written while the job runs.
_OUTPUTS = ("progress.jsonl", "log.txt")


class Recordings:
    """Where recordings are kept, and how jobs are run.

    held_at: a stage at which every job stops until it is ended. any_will_do: no job is computed, another is replayed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held_at = ""
        self.any_will_do = False
        self.computed: list[list[str]] = []  # the command lines that were really run

    def popen(self) -> type[Popen]:
        """A Popen that replays what is recorded, and records what is not."""
        recordings = self

        class RecordedPopen(Popen):
            _recording: Path | None = None

            def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest):
                if is_engine(args) and args[3:4] == ["register"] and args[args.index("--out") + 1] == "result":
                    recording = recordings.folder / _key(args, Path(cwd))
                    if recordings.held_at or recordings.any_will_do or recording.is_dir():
                        recording = recording if recording.is_dir() else recordings.any()
                        args = [sys.executable, "-m", "support.replay", str(recording), recordings.held_at]
                        paths = filter(None, [(env or os.environ).get("PYTHONPATH"), _TESTING])
                        env = {**(os.environ if env is None else env), "PYTHONPATH": os.pathsep.join(paths)}
                    else:
                        recordings.computed.append([str(word) for word in args[3:]])
                        self._job_folder, self._recording = Path(cwd), recording
                return super()._execute_child(args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest)

            def _handle_exitstatus(self, status, *more):
                super()._handle_exitstatus(status, *more)
                if self._recording is not None and self.returncode == 0:
                    _record(self._job_folder, self._recording)
                    self._recording = None

        return RecordedPopen

    def any(self) -> Path:
        """Some recording with optimization steps, made now if there is none: a held job shows its progress."""
        for _ in range(2):
            for recording in sorted(self.folder.iterdir()):
                if '"step ' in (recording / "progress.jsonl").read_text(encoding="utf-8"):
                    return recording
            self._make_one()
        raise RuntimeError("the engine says no steps")

    def _make_one(self) -> None:
        import SimpleITK as sitk
        from carlreg.phantom import make_pair

        pair = make_pair(spacing_mm=8.0)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for side in ("fixed", "moving"):
                sitk.WriteImage(getattr(pair, side), str(folder / f"{side}.mha"))
            command = [sys.executable, "-m", "carlreg", "register", "fixed.mha", "moving.mha", "--out", "result"]
            with open(folder / "progress.jsonl", "wb") as out:
                held, self.held_at = self.held_at, ""
                other, self.any_will_do = self.any_will_do, False
                job = self.popen()([*command, "--progress", "json", "--io-steps", "20"], stdout=out, cwd=folder)
                self.held_at, self.any_will_do = held, other
                if job.wait() != 0:
                    raise RuntimeError(f"the engine ended with {job.returncode}")


def _key(arguments: list[str], folder: Path) -> str:
    digest = hashlib.sha256("\0".join(str(word) for word in arguments[2:]).encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in _OUTPUTS:
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _record(job_folder: Path, recording: Path) -> None:
    shutil.copytree(job_folder / "result", recording / "result")
    shutil.copy(job_folder / "progress.jsonl", recording)
    (recording / "folder.txt").write_text(str(job_folder), encoding="utf-8")
