"""Records what other programs made, for tests that run without them: `python Testing/engine/formats/record_tools.py`.

It needs the tools' environment (`make test-all` makes it). Every registration of `REGISTERED_BY`, on coarse volumes so
that the files stay small, goes to a folder of `recorded/`: the program's files as it wrote them, where it maps the
case's points (points.npy, LPS mm), and the moving image as it warps it (warped.nii.gz).
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

RECORDED = Path(__file__).resolve().parent / "recorded"
COARSER = 2.0


def folder_of(tool: str, kind: str, direction: str) -> Path:
    return RECORDED / "_".join(filter(None, (tool, kind, direction)))


def record() -> None:
    from engine.formats.tool_jobs import REGISTERED_BY, jobs_of, prepared
    from engine.formats.tools import run_jobs

    shutil.rmtree(RECORDED, ignore_errors=True)
    RECORDED.mkdir()
    shutil.copy(RECORDED.parent / "tools.txt", RECORDED / "versions.txt")
    with tempfile.TemporaryDirectory() as temporary:
        cases = prepared(_made(Path(temporary) / "files"), COARSER)
        for tool in REGISTERED_BY:
            work = _made(Path(temporary) / tool)
            jobs = jobs_of(tool, cases, work, apply=False)
            run_jobs([job for _, job in jobs.values()], work)
            for ((_, kind), direction), (_, job) in jobs.items():
                _keep(job, _made(folder_of(tool, kind, direction)))


def _keep(job: dict, target: Path) -> None:
    files = [Path(file) for file in json.loads((Path(job["folder"]) / "files.json").read_text())]
    for file in files:
        shutil.copy(file, target)
    if job["tool"] == "elastix":  # a chain: the last file names the one before it
        for file in files[0].parent.glob("TransformParameters.*.txt"):
            (target / file.name).write_text(file.read_text().replace(f"{file.parent}/", ""))
    (target / "files.json").write_text(json.dumps([file.name for file in files]) + "\n")
    np.save(target / "points.npy", np.load(job["out_points"]))
    shutil.copy(job["out_image"], target / "warped.nii.gz")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    record()
