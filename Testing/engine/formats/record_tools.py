"""Records what other programs made, for tests that run without them: `python Testing/engine/formats/record_tools.py`.

It needs the tools' environment (`make test-all` makes it). Every registration of `REGISTERED_BY`, on coarse volumes so
that the files stay small, goes to a folder of `recorded/`: the program's files as it wrote them, where it maps the
case's points (points.npy, LPS mm), and the moving image as it warps it (warped.nii.gz). applied.npz holds where each
program maps the points by each of our files, and samples of what was in them, read by SimpleITK.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

# Every so many numbers of a file are kept.
_EVERY = 211
RECORDED = Path(__file__).resolve().parent / "recorded"
APPLIED = RECORDED / "applied.npz"
COARSER = 2.0


def folder_of(tool: str, kind: str, direction: str) -> Path:
    return RECORDED / "_".join(filter(None, (tool, kind, direction)))


def key_of(tool: str, title: str, direction: str) -> str:
    return f"{tool}, {title}, {direction}"


def content_of(files: list[Path]) -> np.ndarray:
    """Numbers that tell whether files are the recorded ones: geometry, intent, and samples of the values."""
    found: list[np.ndarray] = []
    for file in files:
        if file.suffix in (".h5", ".mat"):
            for part in _parts_of(sitk.ReadTransform(str(file))):
                found += [np.array(part.GetFixedParameters()), np.array(part.GetParameters())[:: _every(part)]]
        elif file.suffix == ".txt":
            text = file.read_text()
            named = re.findall(r'"([^"]+\.(?:txt|nii|nii\.gz|mhd|mha|nrrd))"', text)
            values = " ".join(line for line in text.splitlines() if '"' not in line and not line.startswith("//"))
            found.append(np.array([float(word) for word in re.findall(r"(?<![\w.])-?\d[\d.]*(?:e[-+]?\d+)?", values)]))
            found.append(content_of([file.parent / name for name in named]))
        else:
            image = sitk.ReadImage(str(file))
            intent = image.GetMetaData("intent_code") if image.HasMetaDataKey("intent_code") else "0"
            found += [np.array(x) for x in (image.GetSize(), image.GetSpacing(), image.GetOrigin())]
            found += [np.array(image.GetDirection()), np.array([float(intent)])]
            found.append(sitk.GetArrayFromImage(image).ravel()[::_EVERY])
    return np.concatenate([part.astype(float) for part in found]) if found else np.zeros(0)


def _parts_of(transform: sitk.Transform) -> list[sitk.Transform]:
    if transform.GetName() != "CompositeTransform":
        return [transform]
    whole = sitk.CompositeTransform(transform)
    return [part for n in range(whole.GetNumberOfTransforms()) for part in _parts_of(whole.GetNthTransform(n))]


def _every(transform: sitk.Transform) -> int:
    return _EVERY if len(transform.GetParameters()) > 100 else 1


def record_applied() -> None:
    from engine.formats.tool_jobs import FILES, READ_BY, jobs_of, prepared
    from engine.formats.tools import run_jobs

    made = {}
    with tempfile.TemporaryDirectory() as temporary:
        cases = prepared(_made(Path(temporary) / "files"), COARSER)
        for tool in READ_BY:
            work = _made(Path(temporary) / tool)
            jobs = {what: each for what, each in jobs_of(tool, cases, work).items() if each[1]["do"] == "apply"}
            run_jobs([job for _, job in jobs.values()], work)
            for (title, direction), (_, job) in jobs.items():
                key = key_of(tool, title, direction)
                made[f"{key}: points"] = np.load(job["out_points"]).astype(np.float32)
                files = [Path(file) for file in FILES[title].files(cases[direction][1])]
                made[f"{key}: content"] = content_of(files).astype(np.float32)
    np.savez_compressed(APPLIED, **made)


def record_registered() -> None:
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
    record_registered()
    record_applied()
